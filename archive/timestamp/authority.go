package timestamp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/digitorus/timestamp"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// DefaultTimeout is how long an authority may take for an answer.
const DefaultTimeout = 20 * time.Second

// Authority is a time-stamp authority that is asked over HTTP (RFC 3161 section 3.4). Safe for concurrent use.
type Authority struct {
	URL     string         // http: is as good as https: for this, as tokens are signed
	Roots   *x509.CertPool // nil: those of the system
	Timeout time.Duration  // 0: DefaultTimeout
	Client  *http.Client   // nil: http.DefaultClient
}

// CheckURL says what is wrong with the URL of an authority.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("the URL of a time-stamp authority must be http://… or https://…")
	case u.User != nil:
		return errors.New("the URL of a time-stamp authority can't have user information")
	}
	return nil
}

// Stamp has a digest stamped. Errors: ErrUnavailable, ErrRefused, ErrToken, ErrImprint, ErrNonce, ErrCertificate; each names the authority.
func (a *Authority) Stamp(ctx context.Context, digest record.Digest) (*Token, error) {
	t, err := a.stamp(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.URL, err)
	}
	return t, nil
}

func (a *Authority) stamp(ctx context.Context, digest record.Digest) (*Token, error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	request := timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:], Certificates: true, Nonce: nonce}
	query, err := request.Marshal()
	if err != nil {
		return nil, err
	}
	answer, err := a.ask(ctx, query)
	if err != nil {
		return nil, err
	}
	der, err := granted(answer)
	if err != nil {
		return nil, err
	}
	t, err := Read(der, digest)
	if err != nil {
		return nil, err
	}
	if t.nonce == nil || t.nonce.Cmp(nonce) != 0 {
		return nil, fmt.Errorf("%w: its nonce is not ours", ErrNonce)
	}
	return t, t.Trust(a.Roots)
}

const (
	typeQuery = "application/timestamp-query"
	typeReply = "application/timestamp-reply"
)

// ask sends a query and gives the answer's bytes.
func (a *Authority) ask(ctx context.Context, query []byte) ([]byte, error) {
	timeout, client := a.Timeout, a.Client
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if client == nil {
		client = http.DefaultClient
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", typeQuery)
	req.Header.Set("Accept", typeReply)
	res, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL is named already
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: HTTP %s", ErrUnavailable, res.Status)
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != typeReply {
		return nil, fmt.Errorf("%w: the answer is %.100q, not %s", ErrToken, kind, typeReply)
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, MaxToken+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(answer) > MaxToken {
		return nil, fmt.Errorf("%w: the answer has more than %d bytes", ErrToken, MaxToken)
	}
	return answer, nil
}

// granted takes the token out of an answer (RFC 3161 section 2.4.2).
func granted(answer []byte) ([]byte, error) {
	var r struct {
		Status struct {
			Status int
			Text   []string       `asn1:"optional,utf8"`
			Fail   asn1.BitString `asn1:"optional"`
		}
		Token asn1.RawValue `asn1:"optional"`
	}
	if rest, err := asn1.Unmarshal(answer, &r); err != nil {
		return nil, fmt.Errorf("%w: the answer is no time-stamp reply: %w", ErrToken, err)
	} else if len(rest) > 0 {
		return nil, fmt.Errorf("%w: the answer has %d bytes too many", ErrToken, len(rest))
	}
	if s := r.Status.Status; s != int(timestamp.Granted) && s != int(timestamp.GrantedWithMods) {
		why := timestamp.Status(s).String()
		for _, f := range []timestamp.FailureInfo{timestamp.BadAlgorithm, timestamp.BadRequest, timestamp.BadDataFormat, timestamp.TimeNotAvailable,
			timestamp.UnacceptedPolicy, timestamp.UnacceptedExtension, timestamp.AddInfoNotAvailable, timestamp.SystemFailure} {
			if r.Status.Fail.At(int(f)) != 0 {
				why += ": " + f.String()
			}
		}
		if said := strings.Join(r.Status.Text, ", "); said != "" {
			why += fmt.Sprintf(" (%.200q)", said)
		}
		return nil, fmt.Errorf("%w: %s", ErrRefused, why)
	}
	if len(r.Token.FullBytes) == 0 {
		return nil, fmt.Errorf("%w: the answer has none", ErrToken)
	}
	return r.Token.FullBytes, nil
}
