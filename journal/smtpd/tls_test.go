package smtpd

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCert makes a key pair for name in dir.
func writeCert(t testing.TB, dir, name string) TLSConfig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := TLSConfig{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for file, block := range map[string]*pem.Block{c.Cert: {Type: "CERTIFICATE", Bytes: der}, c.Key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *client) startTLS() *tls.Conn {
	c.t.Helper()
	c.cmd("STARTTLS", 220)
	over := tls.Client(c.conn, &tls.Config{ServerName: "mx.example.test", InsecureSkipVerify: true})
	if err := over.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.r = over, bufio.NewReader(over)
	return over
}

func TestSTARTTLS(t *testing.T) {
	cfg := relayConfig()
	cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
	b, c := start(t, cfg)
	if text := c.cmd("EHLO before", 250); !strings.Contains(text, "STARTTLS") {
		t.Errorf("EHLO: %q", text)
	}
	c.envelope() // a transaction in clear text, which must not be there afterwards
	c.startTLS()
	c.cmd("DATA", 503)
	c.cmd("MAIL FROM:<a@x.test>", 503)
	if text := c.cmd("EHLO after", 250); strings.Contains(text, "STARTTLS") {
		t.Errorf("EHLO within TLS: %q", text)
	}
	c.cmd("STARTTLS", 503)
	c.data(stuff(strings.Repeat("a line of a message\r\n", 10000)), 250)
	c.cmd("QUIT", 221)
	c.closed()
	all := b.ended()
	if len(all) != 2 || all[0].aborted != 1 || all[0].session.TLS != nil || all[0].session.Client.Helo != "before" {
		t.Fatal("the transaction in clear text")
	}
	s := all[1].session
	if !all[1].whole() || s.TLS == nil || s.TLS.Version != "1.3" || !strings.HasPrefix(s.TLS.Cipher, "TLS_") ||
		s.TLS.ServerName != "mx.example.test" || s.Client.Helo != "after" {
		t.Errorf("session %+v, TLS %+v", s, s.TLS)
	}
}

// TestCommandInjection: what is sent in clear text behind STARTTLS is not taken for something that came by TLS (CVE-2011-0411).
func TestCommandInjection(t *testing.T) {
	cfg := relayConfig()
	cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
	b, c := start(t, cfg)
	c.send("STARTTLS\r\nMAIL FROM:<evil@x.test>\r\n")
	c.want(421)
	c.closed()
	if len(b.ended()) != 0 {
		t.Error("the command was run")
	}
}

func TestFailedHandshake(t *testing.T) {
	cfg := relayConfig()
	cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
	b, c := start(t, cfg)
	c.cmd("STARTTLS", 220)
	c.send("MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n")
	rest, _ := io.ReadAll(c.r)
	if strings.Contains(string(rest), "50 ") {
		t.Errorf("the session went on: %q", rest)
	}
	if len(b.ended()) != 0 {
		t.Error("the command was run")
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cfg := relayConfig()
	cfg.TLS = writeCert(t, dir, "old.example.test")
	address := listen(t, newServer(t, cfg, &backend{t: t}))
	name := func() string {
		c := dial(t, address)
		c.want(220)
		return c.startTLS().ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "old.example.test" {
		t.Error(got)
	}
	writeCert(t, dir, "new.example.test")
	later := time.Now().Add(time.Hour)
	for _, f := range []string{cfg.TLS.Cert, cfg.TLS.Key} {
		if err := os.Chtimes(f, later, later); err != nil {
			t.Fatal(err)
		}
	}
	if got := name(); got != "new.example.test" {
		t.Error(got)
	}
	if err := os.WriteFile(cfg.TLS.Cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := name(); got != "new.example.test" {
		t.Error(got)
	}
}
