package nexthop

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// tlsError is a handshake that failed after the server had agreed to it. The connection is lost.
type tlsError struct{ err error }

func (e tlsError) Error() string   { return "tls handshake: " + e.err.Error() }
func (e tlsError) Unwrap() []error { return []error{ErrTLS, e.err} }

// startTLS changes to TLS and reads the capabilities again; what was said in clear text is forgotten (RFC 3207 section 4.2). A server
// that does not offer it, or refuses, is gone on with in clear text where the policy allows that.
func (c *conn) startTLS(ctx context.Context, policy Policy) error {
	if !c.caps.startTLS {
		if policy.forced() {
			return fmt.Errorf("%w: STARTTLS is not offered", ErrTLS)
		}
		return nil
	}
	reply, err := c.ask(ctx, c.timeouts.Hello, "STARTTLS")
	if err != nil {
		return fmt.Errorf("STARTTLS: %w", err)
	}
	if reply.Code != 220 {
		if policy.forced() {
			return fmt.Errorf("%w: STARTTLS: %s", ErrTLS, reply.Error())
		}
		c.tlsFault = fmt.Errorf("STARTTLS: %s", reply.Error())
		return nil
	}
	if c.r.Buffered() > 0 { // said before the handshake and to be read after it: an injection
		return tlsError{errors.New("clear text after the reply to STARTTLS")}
	}
	if err := c.handshake(ctx, policy); err != nil {
		return err
	}
	return c.hello(ctx)
}

// handshake makes a TLS connection of the one that there is. The error is a tlsError.
func (c *conn) handshake(ctx context.Context, policy Policy) error {
	config, err := c.host.tlsConfig(policy)
	if err != nil {
		return tlsError{err}
	}
	tc := tls.Client(c.Conn, config)
	hsCtx, cancel := context.WithTimeout(ctx, c.timeouts.Connect)
	defer cancel()
	c.SetDeadline(time.Time{}) // hsCtx is the bound
	if err := tc.HandshakeContext(hsCtx); err != nil {
		return tlsError{err}
	}
	c.Conn, c.r = tc, bufio.NewReaderSize(tc, maxReplyLine)
	c.tls = describeTLS(tc.ConnectionState())
	c.tls.Verified = policy == Verified
	return nil
}

func (h *host) tlsConfig(policy Policy) (*tls.Config, error) {
	config := &tls.Config{ServerName: h.target.Name(), MinVersion: tls.VersionTLS12}
	if policy != Verified {
		config.InsecureSkipVerify = true // better unverified than in clear text
		config.ClientSessionCache = h.sessions
		return config, nil
	}
	// No resumption: each connection looks at the certificate with the roots of its day.
	if config.ServerName == "" {
		return nil, errors.New("no name to verify")
	}
	var err error
	config.RootCAs, err = roots(h.target.CAFile)
	return config, err
}

// roots reads a file of certificates in PEM; "": nil, which stands for the system's.
func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return pool, nil
}

func describeTLS(s tls.ConnectionState) *record.TLS {
	d := &record.TLS{
		Version:    strings.TrimPrefix(tls.VersionName(s.Version), "TLS "),
		Cipher:     tls.CipherSuiteName(s.CipherSuite),
		ServerName: s.ServerName,
	}
	if len(s.PeerCertificates) > 0 {
		d.Peer = s.PeerCertificates[0].Subject.String()
	}
	return d
}
