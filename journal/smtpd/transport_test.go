package smtpd

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dialTLS is a client of a listener with implicit TLS.
func dialTLS(t testing.TB, address string, certs ...tls.Certificate) *client {
	t.Helper()
	c := dial(t, address)
	return c.overTLS(certs...)
}

// overTLS does the handshake, and shows the certificates given.
func (c *client) overTLS(certs ...tls.Certificate) *client {
	c.t.Helper()
	over := tls.Client(c.conn, &tls.Config{ServerName: "mx.example.test", InsecureSkipVerify: true, Certificates: certs})
	if err := over.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.r = over, bufio.NewReader(over)
	return c
}

// authority issues certificates of clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem")}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a certificate. A nil authority makes one that signs itself.
func (a *authority) issue(t *testing.T, subject pkix.Name, usage x509.ExtKeyUsage, notAfter time.Time) tls.Certificate {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func sum(c tls.Certificate) string {
	s := sha256.Sum256(c.Certificate[0])
	return hex.EncodeToString(s[:])
}

func TestImplicitTLS(t *testing.T) {
	dir := t.TempDir()
	cfg := relayConfig()
	cfg.TLS = writeCert(t, dir, "old.example.test")
	cfg.TLS.Mode = "implicit"
	b := &backend{t: t}
	address := listen(t, newServer(t, cfg, b))
	name := func() string {
		c := dialTLS(t, address)
		c.want(220)
		if text := c.cmd("EHLO x", 250); strings.Contains(text, "STARTTLS") {
			t.Errorf("EHLO within TLS: %q", text)
		}
		c.cmd("STARTTLS", 503)
		c.data(stuff("Subject: x\r\n\r\nx\r\n"), 250)
		return c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "old.example.test" {
		t.Error(got)
	}
	writeCert(t, dir, "new.example.test")
	if got := name(); got != "new.example.test" { // another length, or another time
		t.Error(got)
	}
	for _, m := range b.ended() {
		if m.session.TLS == nil || m.session.TLS.Version != "1.3" {
			t.Errorf("TLS %+v", m.session.TLS)
		}
	}

	plain := dial(t, address) // who speaks SMTP in clear text hears none
	plain.send("EHLO x\r\nMAIL FROM:<a@x.test>\r\n")
	rest, _ := io.ReadAll(plain.r)
	if strings.Contains(string(rest), "220") || strings.Contains(string(rest), "250") {
		t.Errorf("%q", rest)
	}
}

func TestTLSRequired(t *testing.T) {
	for _, cfg := range []Config{relayConfig(), journalConfig()} {
		cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
		cfg.TLS.Required = true
		b, c := start(t, cfg)
		if text := c.cmd("MAIL FROM:<a@x.test>", 530); text != "530 5.7.0 Must issue a STARTTLS command first" {
			t.Error(text)
		}
		c.cmd("RCPT TO:<b@x.test>", 503)
		c.startTLS()
		c.cmd("EHLO x", 250)
		c.data("x\r\n.\r\n", 250)
		if m := b.only(); m.session.TLS == nil {
			t.Error("no TLS")
		}
	}
}

func TestTLSMinVersion(t *testing.T) {
	cfg := relayConfig()
	cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
	cfg.TLS.MinVersion = "1.3"
	_, c := start(t, cfg)
	c.cmd("STARTTLS", 220)
	over := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err := over.Handshake(); err == nil {
		t.Error("TLS 1.2 was taken")
	}
}

// TestClientCertificates: what a certificate brings, and what it does not. The client's network is not trusted.
func TestClientCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	mta := pkix.Name{CommonName: "mta.example.test", Organization: []string{"Example"}}
	good := ca.issue(t, mta, x509.ExtKeyUsageClientAuth, later)
	pinned := (*authority)(nil).issue(t, pkix.Name{CommonName: "self"}, x509.ExtKeyUsageClientAuth, later)
	for name, tc := range map[string]struct {
		cert     []tls.Certificate
		peer     string
		verified bool
		trusted  bool
	}{
		"none":             {},
		"trusted subject":  {[]tls.Certificate{good}, "CN=mta.example.test,O=Example", true, true},
		"other subject":    {[]tls.Certificate{ca.issue(t, pkix.Name{CommonName: "mta"}, x509.ExtKeyUsageClientAuth, later)}, "CN=mta", true, false},
		"other authority":  {[]tls.Certificate{other.issue(t, mta, x509.ExtKeyUsageClientAuth, later)}, "CN=mta.example.test,O=Example", false, false},
		"signs itself":     {[]tls.Certificate{(*authority)(nil).issue(t, mta, x509.ExtKeyUsageClientAuth, later)}, "CN=mta.example.test,O=Example", false, false},
		"expired":          {[]tls.Certificate{ca.issue(t, mta, x509.ExtKeyUsageClientAuth, time.Now().Add(-time.Hour))}, "CN=mta.example.test,O=Example", false, false},
		"one of a server":  {[]tls.Certificate{ca.issue(t, mta, x509.ExtKeyUsageServerAuth, later)}, "CN=mta.example.test,O=Example", false, false},
		"by a fingerprint": {[]tls.Certificate{pinned}, "CN=self", true, true},
	} {
		for _, mode := range []string{"starttls", "implicit"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				cfg := relayConfig()
				cfg.TrustedNetworks = nil
				cfg.RecipientDomains = []string{"ours.test"}
				cfg.ClientCA = ca.file
				cfg.TrustedCertificates = []string{"CN=mta.example.test,O=Example", strings.ToUpper(sum(pinned))}
				cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
				cfg.TLS.Mode = mode
				b := &backend{t: t}
				address := listen(t, newServer(t, cfg, b))
				c := dial(t, address)
				if mode == "starttls" {
					c.want(220)
					c.cmd("EHLO x", 250)
					c.cmd("STARTTLS", 220)
					c.overTLS(tc.cert...)
				} else {
					c.overTLS(tc.cert...)
					c.want(220)
				}
				c.cmd("EHLO x", 250)
				c.cmd("MAIL FROM:<a@x.test>", 250)
				c.cmd("RCPT TO:<b@ours.test>", 250)
				code := 554
				if tc.trusted {
					code = 250
				}
				c.cmd("RCPT TO:<b@elsewhere.test>", code)
				c.conn.Close()
				if got := b.only().session.TLS; got == nil || got.Peer != tc.peer || got.Verified != tc.verified {
					t.Errorf("TLS %+v", got)
				}
			})
		}
	}
}

// TestClientCAIsReadAgain: an authority that is new in the file counts from the next connection on.
func TestClientCAIsReadAgain(t *testing.T) {
	ca, next := newAuthority(t), newAuthority(t)
	cfg := relayConfig()
	cfg.TrustedNetworks, cfg.ClientCA, cfg.TrustedCertificates = nil, ca.file, []string{"CN=mta"}
	cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
	address := listen(t, newServer(t, cfg, &backend{t: t}))
	cert := next.issue(t, pkix.Name{CommonName: "mta"}, x509.ExtKeyUsageClientAuth, time.Now().Add(time.Hour))
	mail := func(code int) {
		t.Helper()
		c := dial(t, address)
		c.want(220)
		c.cmd("EHLO x", 250)
		c.cmd("STARTTLS", 220)
		c.overTLS(cert)
		c.cmd("EHLO x", 250)
		c.cmd("MAIL FROM:<a@x.test>", code)
	}
	mail(554)
	text, err := os.ReadFile(next.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca.file, append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	mail(250)
	if err := os.WriteFile(ca.file, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	mail(250)
}
