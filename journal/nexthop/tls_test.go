package nexthop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, cert: cert, key: key, file: filepath.Join(t.TempDir(), "root.pem")}
	if err := os.WriteFile(a.file, encodePEM("CERTIFICATE", der), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue gives a certificate for a name or IP address that is valid until then.
func (a *authority) issue(name string, until time.Time) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// files writes a certificate and its key where other users can read them.
func (a *authority) files(dir, name string) (cert, key string) {
	a.t.Helper()
	pair := a.issue(name, time.Now().Add(time.Hour))
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, b := range map[string][]byte{cert: encodePEM("CERTIFICATE", pair.Certificate[0]), key: encodePEM("PRIVATE KEY", der)} {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// Every fault of TLS under the policies that insist on it: the message does not go, nothing but EHLO and STARTTLS was said in clear text,
// and it is temporary.
func TestTLSForced(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	good := ca.issue("127.0.0.1", hour)
	for _, tc := range []struct {
		name     string
		cert     tls.Certificate
		version  uint16 // at most
		offered  bool
		implicit bool
		answer   string // to STARTTLS
		policy   Policy
		verify   string // next_hop_tls.name
		ca       string
		want     string // a part of the error; "": delivered
	}{
		{"required", good, 0, true, false, "", Required, "", "", ""},
		{"required, self-signed", hoptest.Certificate(t), 0, true, false, "", Required, "", "", ""},
		{"required, expired", ca.issue("127.0.0.1", time.Now().Add(-time.Minute)), 0, true, false, "", Required, "", "", ""},
		{"required, implicit", good, 0, true, true, "", Required, "", "", ""},
		{"required, stripped", good, 0, false, false, "", Required, "", "", "STARTTLS is not offered"},
		{"required, refused", good, 0, true, false, "454 4.7.0 not now", Required, "", "", "STARTTLS: 454 4.7.0 not now"},
		{"required, handshake fails", tls.Certificate{}, 0, true, false, "", Required, "", "", "tls handshake"},
		{"required, 1.1", good, tls.VersionTLS11, true, false, "", Required, "", "", "tls handshake"},
		{"required, injection", good, 0, true, false, "220 go\r\n250 evil", Required, "", "", "clear text after"},
		{"verified by address", good, 0, true, false, "", Verified, "", ca.file, ""},
		{"verified by name", ca.issue("hop.test", hour), 0, true, false, "", Verified, "hop.test", ca.file, ""},
		{"verified, implicit", good, 0, true, true, "", Verified, "", ca.file, ""},
		{"verified, 1.2", good, tls.VersionTLS12, true, false, "", Verified, "", ca.file, ""},
		{"verified, another name", ca.issue("hop.test", hour), 0, true, false, "", Verified, "hip.test", ca.file, "hip.test"},
		{"verified, no name of the host", ca.issue("hop.test", hour), 0, true, false, "", Verified, "", ca.file, "127.0.0.1"},
		{"verified, expired", ca.issue("127.0.0.1", time.Now().Add(-time.Minute)), 0, true, false, "", Verified, "", ca.file, "expired"},
		{"verified, another root", stranger.issue("127.0.0.1", hour), 0, true, false, "", Verified, "", ca.file, "unknown authority"},
		{"verified, the system's roots", good, 0, true, false, "", Verified, "", "", "unknown authority"},
		{"verified, self-signed", hoptest.Certificate(t), 0, true, false, "", Verified, "", ca.file, "tls handshake"},
		{"verified, no roots", good, 0, true, false, "", Verified, "", filepath.Join(t.TempDir(), "none"), "no such file"},
		{"verified, stripped", good, 0, false, false, "", Verified, "", ca.file, "STARTTLS is not offered"},
		{"verified, implicit, another root", stranger.issue("127.0.0.1", hour), 0, true, true, "", Verified, "", ca.file, "unknown authority"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := hoptest.New(t)
			h.Implicit = tc.implicit
			if tc.offered {
				h.TLS = &tls.Config{Certificates: []tls.Certificate{tc.cert}, MaxVersion: tc.version, MinVersion: tls.VersionTLS10}
			}
			h.Answer = answering("STARTTLS", tc.answer)
			target := target(h)
			target.TLS, target.VerifyName, target.CAFile, target.Implicit = tc.policy, tc.verify, tc.ca, tc.implicit
			p := newPool(t, Options{MaxAge: time.Nanosecond}) // each message on a connection of its own
			for range 2 {
				s := send(t.Context(), p, target, Mail{From: from}, []record.Path{to}, "secret\r\n")
				if tc.want == "" {
					if s.err != nil || s.rcpt[0] != nil || s.d.TLS == nil || s.d.TLS.Verified != (tc.policy == Verified) || !h.Messages()[0].TLS {
						t.Fatalf("%v %v %+v", s.rcpt, s.err, s.d)
					}
					continue
				}
				if !errors.Is(s.rcpt[0], ErrTLS) || !errors.Is(s.rcpt[0], ErrUnavailable) || !strings.Contains(s.rcpt[0].Error(), tc.want) {
					t.Errorf("%v, want %q", s.rcpt[0], tc.want)
				}
				for _, line := range h.Log() {
					if !strings.Contains(line, ": EHLO ") && !strings.Contains(line, ": STARTTLS") && !strings.Contains(line, ": EOF") {
						t.Errorf("said in clear text: %q", line)
					}
				}
			}
		})
	}
}

// A root that is replaced on disk counts from the next connection on.
func TestRootsAreReadAgain(t *testing.T) {
	old, now := newAuthority(t), newAuthority(t)
	h := hoptest.New(t)
	h.TLS = &tls.Config{Certificates: []tls.Certificate{now.issue("127.0.0.1", time.Now().Add(time.Hour))}}
	target := target(h)
	target.TLS, target.CAFile = Verified, old.file
	p := newPool(t, Options{})
	if s := send(t.Context(), p, target, Mail{From: from}, []record.Path{to}, "x\r\n"); !errors.Is(s.rcpt[0], ErrTLS) {
		t.Fatal(s.rcpt)
	}
	pem, err := os.ReadFile(now.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old.file, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := send(t.Context(), p, target, Mail{From: from}, []record.Path{to}, "x\r\n"); s.rcpt[0] != nil || !s.d.TLS.Verified {
		t.Fatal(s.rcpt)
	}
}

func TestAuth(t *testing.T) {
	const user, password = "relay@hop.test", "s3cret pass"
	for _, tc := range []struct {
		name     string
		password string // of the file; "-": no file
		caps     string // AUTH, where not PLAIN and LOGIN
		answer   string // to AUTH
		noTLS    bool
		want     string // a part of the error; "": signed in
	}{
		{"plain", password + "\n", "", "", false, ""},
		{"no newline", password, "", "", false, ""},
		{"second line", password + "\r\n# and a remark", "", "", false, ""},
		{"login", password, "AUTH LOGIN", "", false, ""},
		{"rejected", "another", "", "", false, "AUTH: 535"},
		{"login rejected", "another", "AUTH LOGIN CRAM-MD5", "", false, "AUTH: 535"},
		{"not now", password, "", "454 4.7.0 not now", false, "AUTH: 454 4.7.0 not now"},
		{"asks back", password, "", "334 ", false, "AUTH: 334"},
		{"nothing we know", password, "AUTH CRAM-MD5 XOAUTH2", "", false, "neither PLAIN nor LOGIN"},
		{"no file", "-", "", "", false, "no such file"},
		{"empty file", "\n", "", "", false, "empty"},
		{"NUL", "a\x00b", "", "", false, "NUL"},
		{"clear text", password, "AUTH PLAIN", "", true, "clear text"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := hoptest.New(t)
			h.User, h.Password = user, password
			h.TLS = &tls.Config{Certificates: []tls.Certificate{hoptest.Certificate(t)}}
			if tc.caps != "" {
				h.Caps = append(h.Caps, tc.caps)
			}
			h.Answer = answering("AUTH", tc.answer)
			file := filepath.Join(t.TempDir(), "password")
			if tc.password != "-" {
				if err := os.WriteFile(file, []byte(tc.password), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var log logBuffer
			p := newPool(t, Options{Log: log.logger()})
			target := target(h)
			target.TLS, target.Credentials = Required, Credentials{User: user, PasswordFile: file}
			if tc.noTLS {
				target.TLS = None
			}
			s := send(t.Context(), p, target, Mail{From: from}, []record.Path{to}, "x\r\n")
			if tc.want == "" {
				if s.rcpt[0] != nil || s.err != nil || h.Messages()[0].User != user {
					t.Fatal(s.rcpt, s.err)
				}
				return
			}
			if !errors.Is(s.rcpt[0], ErrAuth) || !errors.Is(s.rcpt[0], ErrUnavailable) || !strings.Contains(s.rcpt[0].Error(), tc.want) {
				t.Errorf("%v, want %q", s.rcpt[0], tc.want)
			}
			if !strings.Contains(log.String(), "level=ERROR") || testutil.ToFloat64(p.metrics.auth) != 1 {
				t.Errorf("no alarm:\n%s", log.String())
			}
			secret := strings.TrimSpace(tc.password)
			if text := log.String() + s.rcpt[0].Error(); secret != "" && secret != "-" && strings.Contains(text, secret) {
				t.Errorf("told: %s", text)
			}
			if tc.noTLS && strings.Contains(strings.Join(h.Log(), "\n"), "AUTH") {
				t.Errorf("%q", h.Log())
			}
			// Nobody's account is locked by the mail that comes within the pause.
			p.mu.Lock()
			p.hosts[target].until = time.Now().Add(time.Hour)
			p.mu.Unlock()
			for range 5 {
				s := send(t.Context(), p, target, Mail{From: from}, []record.Path{to}, "x\r\n")
				if !errors.Is(s.rcpt[0], ErrAuth) || !strings.Contains(s.rcpt[0].Error(), tc.want) {
					t.Errorf("%v, want %q", s.rcpt[0], tc.want)
				}
			}
			if strings.HasPrefix(tc.want, "AUTH") && h.Conns() != 1 {
				t.Errorf("tried %d times", h.Conns())
			}
			// The right password, put there later, is taken without more ado.
			if tc.name == "rejected" {
				if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
					t.Fatal(err)
				}
				if s := send(t.Context(), p, target, Mail{From: from}, []record.Path{to}, "x\r\n"); s.rcpt[0] != nil {
					t.Error(s.rcpt[0])
				}
			}
		})
	}
}
