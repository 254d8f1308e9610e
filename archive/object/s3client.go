package object

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

// patience is how long each part of a request may take without anything moving.
const patience = time.Minute

func openS3(ctx context.Context, where location, opt Options) (*S3, error) {
	patience := patience
	if opt.patience > 0 {
		patience = opt.patience
	}
	s, err := newS3(ctx, where, patience)
	if err != nil {
		return nil, err
	}
	s.lockMode = opt.Lock
	if opt.SingleWriter {
		s.single = &keyLocks{}
	}
	if _, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &where.bucket}); err != nil {
		if status(err) == http.StatusNotFound {
			return nil, fmt.Errorf("no bucket %s: %w", where.bucket, ErrNoStore)
		}
		return nil, fmt.Errorf("bucket %s can't be reached: %w", where.bucket, err)
	}
	return s, nil
}

func newS3(ctx context.Context, where location, patience time.Duration) (*S3, error) {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		dialer := net.Dialer{Timeout: min(10*time.Second, patience), KeepAlive: 30 * time.Second}
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &impatientConn{c, patience}, nil
		}
		t.TLSHandshakeTimeout = min(10*time.Second, patience)
		t.ResponseHeaderTimeout = patience
		t.IdleConnTimeout = patience / 2 // below the deadline that the connection itself has
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 64, 64
		t.ForceAttemptHTTP2 = false
	})
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}), // errors are returned
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 4, min(10*time.Second, patience) })
		}),
		// The default adds CRC32 trailers that many compatible servers do not understand. Every PUT here has a SHA-256 instead.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	)
	if err != nil {
		return nil, fmt.Errorf("configuration of the AWS SDK: %w", err)
	}
	switch {
	case where.region != "":
		cfg.Region = where.region
	case cfg.Region == "" && (where.endpoint != "" || aws.ToString(cfg.BaseEndpoint) != ""):
		cfg.Region = "us-east-1" // compatible servers mostly do not care
	case cfg.Region == "":
		return nil, errors.New("no region: give ?region=… or AWS_REGION")
	}
	s := &S3{where: where}
	s.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if where.endpoint != "" {
			o.BaseEndpoint = &where.endpoint
		}
		o.UsePathStyle = where.pathStyle
	})
	return s, nil
}

// impatientConn gives up when nothing moves for a while, in either direction. A write sets the deadline of the read that waits for its
// answer anew.
type impatientConn struct {
	net.Conn
	patience time.Duration
}

func (c *impatientConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *impatientConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// status is the HTTP status of an answer, 0 where none came.
func status(err error) int {
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil {
		return answer.HTTPStatusCode()
	}
	return 0
}

// code is the S3 error code of an answer, or empty.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// inDoubt says whether after this error of a PUT the object may be there: the answer was lost or did not say, or it says that one is there.
func inDoubt(err error) bool {
	switch s := status(err); s {
	case http.StatusPreconditionFailed, http.StatusConflict, http.StatusRequestTimeout:
		return true
	case http.StatusNotImplemented:
		return false
	default:
		return s < 300 || s >= 500
	}
}

// fail names the key and gives an error its place among those that callers tell apart.
func (s *S3) fail(key string, err error) error {
	kind := error(nil)
	switch code(err) {
	case "NoSuchKey", "NoSuchVersion", "NotFound":
		kind = ErrNotFound
	case "NoSuchBucket":
		kind = ErrNoStore
	case "InvalidRange":
		kind = ErrRange
	case "NotImplemented":
		kind = ErrUnsupported
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		kind = ErrMismatch
	case "ObjectParentIsFile", "ExistingObjectIsDirectory": // versitygw, whose buckets are folders
		kind = ErrKey
	}
	if kind == nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return fmt.Errorf("%s: %w: %w", key, kind, err)
}

// inProgress says that the store refused a PUT because of another one for the key, which may not be over. Some answer so with 412, and
// show no object yet.
func inProgress(err error) bool {
	switch code(err) {
	case "ConditionalRequestConflict", "OperationAborted", "PreconditionFailed":
		return true
	}
	return false
}

// keyLocks lets one goroutine at a time have a key. The zero value is ready.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the key is free
}

// lock waits for a key, and gives back how to leave it.
func (k *keyLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		other, taken := k.held[key]
		if !taken {
			break
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", key, ctx.Err())
		}
	}
	defer k.mu.Unlock()
	mine := make(chan struct{})
	if k.held == nil {
		k.held = map[string]chan struct{}{}
	}
	k.held[key] = mine
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.held, key)
		close(mine)
	}, nil
}
