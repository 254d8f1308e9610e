package smtpd

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// handshakeTimeout bounds a TLS handshake.
const handshakeTimeout = time.Minute

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// transport is a listener's TLS: our certificate, and what we make of the client's.
type transport struct {
	config *tls.Config
	ca     *reloaded[*x509.CertPool] // nil: no client_ca
}

// newTransport reads the files that the configuration names; nil, nil where there is no TLS.
func newTransport(cfg Config) (*transport, error) {
	c := cfg.TLS
	version, ok := tlsVersions[c.MinVersion]
	if !ok {
		return nil, fmt.Errorf("min_version: %q is neither 1.2 nor 1.3", c.MinVersion)
	}
	if c.Cert == "" && c.Key == "" {
		return nil, nil
	}
	if c.Cert == "" || c.Key == "" {
		return nil, fmt.Errorf("cert %q, key %q: one is no use without the other", c.Cert, c.Key)
	}
	pair := &reloaded[*tls.Certificate]{files: []string{c.Cert, c.Key}, read: func() (*tls.Certificate, error) {
		p, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		return &p, err
	}}
	if _, err := pair.get(); err != nil {
		return nil, err
	}
	t := &transport{config: &tls.Config{
		MinVersion:     version,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get() },
	}}
	if cfg.ClientCA != "" || len(cfg.TrustedCertificates) > 0 {
		// Who has none, or one that we do not know, is a client as any other. No list of authorities is sent: it would keep clients from
		// showing a certificate that is trusted by its fingerprint.
		t.config.ClientAuth = tls.RequestClientCert
	}
	if cfg.ClientCA == "" {
		return t, nil
	}
	t.ca = &reloaded[*x509.CertPool]{files: []string{cfg.ClientCA}, read: func() (*x509.CertPool, error) { return readPool(cfg.ClientCA) }}
	_, err := t.ca.get()
	return t, err
}

func readPool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

// verify says whether the client's certificate is one of client_ca's.
func (t *transport) verify(chain []*x509.Certificate) bool {
	if t.ca == nil || len(chain) == 0 {
		return false
	}
	roots, err := t.ca.get()
	if err != nil {
		return false
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// describe is what a record says of the client's TLS, and whether its certificate authorises it.
func (s *Server) describe(state tls.ConnectionState) (t *record.TLS, trusted bool) {
	t = &record.TLS{Cipher: tls.CipherSuiteName(state.CipherSuite), ServerName: state.ServerName}
	for name, v := range tlsVersions {
		if v == state.Version {
			t.Version = name
		}
	}
	if len(state.PeerCertificates) == 0 {
		return t, false
	}
	leaf := state.PeerCertificates[0]
	sum := sha256.Sum256(leaf.Raw)
	pinned := s.policy.pinned[hex.EncodeToString(sum[:])]
	t.Peer = leaf.Subject.String()
	t.Verified = pinned || s.tls.verify(state.PeerCertificates)
	return t, pinned || t.Verified && s.policy.subjects[t.Peer]
}

// fingerprint reads a SHA-256 fingerprint, with or without colons, as lower case hexadecimal digits.
func fingerprint(s string) (string, bool) {
	s = strings.ToLower(strings.ReplaceAll(s, ":", ""))
	b, err := hex.DecodeString(s)
	return s, err == nil && len(b) == sha256.Size
}

// secure puts TLS over the connection. What was read already is the beginning of the handshake. An error ends the session.
func (c *conn) secure() error {
	under := c.net
	if c.r != c.w {
		under = &resumed{c.net, bytes.Clone(c.in[c.r:c.w])}
		c.r = c.w
	}
	over := tls.Server(under, c.srv.tls.config)
	handshake := func() error { // on a goroutine of its own: the session would keep the stack that it needs
		done := make(chan error, 1)
		go func() {
			defer func() {
				if p := recover(); p != nil {
					done <- fmt.Errorf("panic: %v", p)
				}
			}()
			done <- over.HandshakeContext(c.ctx)
		}()
		return <-done
	}
	if err := c.opening(handshakeTimeout, handshake); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.peer = over
	trusted := false
	c.session.TLS, trusted = c.srv.describe(over.ConnectionState())
	c.certified = trusted && (c.session.Proxy == nil || c.session.Proxy.By != "xclient") // else it is not the client's
	return nil
}
