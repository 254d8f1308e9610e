package object

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// maxPut is what one PUT may carry in S3: 5 GiB. Packs stay far below it, so that there are no multipart uploads.
const maxPut = 5 << 30

// S3 is a store in a bucket, or below a prefix in it. It is a Keeper, safe for concurrent use.
//
// The bucket must answer conditional writes (If-None-Match); otherwise single_writer emulates them by looking first, which is safe only as
// long as no other process writes. Each object is one PUT that carries the SHA-256 of the body, and its lock. Requests are tried up to
// four times with a growing pause; a connection on which nothing moves for a minute is given up.
type S3 struct {
	client   *s3.Client
	where    location
	lockMode LockMode
	single   *keyLocks // nil: conditional writes
}

// Close does nothing: idle connections end by themselves.
func (s *S3) Close() error { return nil }

// name is the key in the bucket.
func (s *S3) name(key string) *string {
	if s.where.prefix != "" {
		key = s.where.prefix + "/" + key
	}
	return &key
}

// key is the key of a name in the bucket; ok is false for what is no object of ours.
func (s *S3) key(name *string) (key string, ok bool) {
	key = aws.ToString(name)
	if s.where.prefix != "" {
		if key, ok = strings.CutPrefix(key, s.where.prefix+"/"); !ok {
			return "", false
		}
	}
	return key, CheckKey(key) == nil
}

// Create implements Store. The PUT says If-None-Match: *, so that the store decides who is first. When it refuses, or its answer is lost,
// what is there is read back and compared.
func (s *S3) Create(ctx context.Context, key string, body io.ReadSeeker, lock Lock) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	up, err := newUpload(ctx, key, body, lock)
	if err != nil {
		return Info{}, err
	}
	if s.single != nil {
		unlock, err := s.single.lock(ctx, key)
		if err != nil {
			return Info{}, err
		}
		defer unlock()
		if info, err := s.compare(ctx, key, up); !errors.Is(err, ErrNotFound) {
			return info, err
		}
	}
	for attempt := 1; ; attempt++ {
		info, err := s.put(ctx, key, up, s.single == nil)
		if err == nil {
			return info, nil
		}
		if lock != (Lock{}) {
			err = lockError(err)
		}
		if ctx.Err() != nil || !inDoubt(err) {
			return Info{}, s.fail(key, err)
		}
		info, cerr := s.compare(ctx, key, up)
		switch {
		case cerr == nil, errors.Is(cerr, ErrConflict):
			return info, cerr
		case !errors.Is(cerr, ErrNotFound):
			return Info{}, errors.Join(s.fail(key, err), cerr)
		case !inProgress(err) || attempt == 6:
			return Info{}, s.fail(key, err)
		}
		// Another request for this key is under way, and may yet fail.
		if err := pause(ctx, attempt); err != nil {
			return Info{}, fmt.Errorf("%s: %w", key, err)
		}
	}
}

// Replace implements Publisher.
func (s *S3) Replace(ctx context.Context, key string, body []byte) error {
	if err := CheckReplace(key); err != nil {
		return err
	}
	up, err := newUpload(ctx, key, strings.NewReader(string(body)), Lock{})
	if err != nil {
		return err
	}
	if _, err := s.put(ctx, key, up, false); err != nil {
		return s.fail(key, err)
	}
	return nil
}

// upload is a body and what its PUT says of it.
type upload struct {
	body   io.ReadSeeker
	size   int64
	sha256 record.Digest
	md5    []byte // of a locked object, for which S3 demands it
	lock   Lock
}

func newUpload(ctx context.Context, key string, body io.ReadSeeker, lock Lock) (*upload, error) {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	sum, weak := sha256.New(), hash.Hash(nil)
	var to io.Writer = sum
	if lock != (Lock{}) {
		weak = md5.New()
		to = io.MultiWriter(sum, weak)
	}
	size, err := copyBuffer(to, contextReader{ctx, body})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if size > maxPut {
		return nil, fmt.Errorf("%s: %d bytes are more than one PUT may carry (5 GiB): %w", key, size, ErrUnsupported)
	}
	up := &upload{body: body, size: size, sha256: record.Digest(sum.Sum(nil)), lock: lock}
	if weak != nil {
		up.md5 = weak.Sum(nil)
	}
	return up, nil
}

// put is one PUT, with the SDK's retries.
func (s *S3) put(ctx context.Context, key string, up *upload, conditional bool) (Info, error) {
	if _, err := up.body.Seek(0, io.SeekStart); err != nil {
		return Info{}, err
	}
	out, err := s.client.PutObject(ctx, s.putInput(key, up, conditional), withPayloadHash(up.sha256))
	if err != nil {
		return Info{}, err
	}
	at, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		at = time.Now()
	}
	return Info{Key: key, Size: up.size, SHA256: up.sha256, Version: versionID(out.VersionId), Time: at.UTC(), Lock: up.lock}, nil
}

func (s *S3) putInput(key string, up *upload, conditional bool) *s3.PutObjectInput {
	in := &s3.PutObjectInput{
		Bucket:         &s.where.bucket,
		Key:            s.name(key),
		Body:           struct{ io.ReadSeeker }{up.body}, // nothing else of it: the SDK closes what it can
		ContentLength:  &up.size,
		ContentType:    aws.String("application/octet-stream"),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(up.sha256[:])),
	}
	if conditional {
		in.IfNoneMatch = aws.String("*")
	}
	if up.md5 != nil {
		in.ContentMD5 = aws.String(base64.StdEncoding.EncodeToString(up.md5))
	}
	if !up.lock.Until.IsZero() {
		in.ObjectLockMode = types.ObjectLockMode(strings.ToUpper(string(up.lock.Mode)))
		in.ObjectLockRetainUntilDate = aws.Time(up.lock.Until.UTC())
	}
	if up.lock.Hold {
		in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn
	}
	return in
}

// withPayloadHash gives the signer the SHA-256 that is known already, so that the body is not hashed a second time.
func withPayloadHash(sum record.Digest) func(*s3.Options) {
	known := middleware.FinalizeMiddlewareFunc("KnownPayloadHash",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			return next.HandleFinalize(v4.SetPayloadHash(ctx, hex.EncodeToString(sum[:])), in)
		})
	return s3.WithAPIOptions(func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(known, "ComputePayloadHash", middleware.Before)
	})
}

// compare is ErrConflict unless the object has the bytes of the upload, and ErrNotFound where there is none. It goes by the checksum that
// the store keeps, and where it keeps none by the bytes.
func (s *S3) compare(ctx context.Context, key string, up *upload) (Info, error) {
	info, err := s.Stat(ctx, key)
	if err != nil {
		return Info{}, err
	}
	if info.Size != up.size {
		return Info{}, fmt.Errorf("%s: %d bytes there, %d here: %w", key, info.Size, up.size, ErrConflict)
	}
	if info.SHA256.IsZero() {
		r, err := s.Open(ctx, key, 0, up.size)
		if err != nil {
			return Info{}, err
		}
		defer r.Close()
		sum := sha256.New()
		if _, err := copyBuffer(sum, r); err != nil {
			return Info{}, err
		}
		info.SHA256 = record.Digest(sum.Sum(nil))
	}
	if info.SHA256 != up.sha256 {
		return Info{}, fmt.Errorf("%s: SHA-256 %s there, %s here: %w", key, info.SHA256, up.sha256, ErrConflict)
	}
	return info, nil
}

// pause waits a while that doubles with each attempt, or until the context ends.
func pause(ctx context.Context, attempt int) error {
	t := time.NewTimer(time.Duration(rand.Int64N(int64(100*time.Millisecond) << attempt)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unversioned is the id that S3 gives to what it keeps without versions.
const unversioned = "null"

// versionID is a version id as this package shows it: empty where there are no versions.
func versionID(id *string) string {
	if v := aws.ToString(id); v != unversioned {
		return v
	}
	return ""
}
