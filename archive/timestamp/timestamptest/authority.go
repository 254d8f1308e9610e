// Package timestamptest has a real time-stamp authority for tests: an HTTP server whose answers `openssl ts -reply` makes.
package timestamptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
)

// TSA is an authority. Its fields may be set between requests, never during one.
type TSA struct {
	URL    string
	CAFile string // PEM of the root
	Dir    string

	mu      sync.Mutex
	query   func(*timestamp.Request)               // guarded by mu
	handle  func(http.ResponseWriter, []byte) bool // guarded by mu
	count   int                                    // guarded by mu
	openssl string
}

// Start starts an authority whose certificate is valid from now-1h for the given time (0: for a day; less: it has expired that long ago).
// Without openssl on this machine the test is skipped, and in CI fails.
func Start(t testing.TB, valid time.Duration) *TSA {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no openssl: %v", err)
		}
		t.Skip("no openssl on this machine")
	}
	if valid == 0 {
		valid = 24 * time.Hour
	}
	a := &TSA{Dir: t.TempDir(), openssl: openssl}
	a.CAFile = filepath.Join(a.Dir, "ca.pem")
	a.makeKeys(t, time.Now().Add(valid))
	srv := httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(srv.Close)
	a.URL = srv.URL + "/tsr"
	return a
}

// Query has each request changed before it is answered, as by an authority that mixes them up; nil: as it is.
func (a *TSA) Query(change func(*timestamp.Request)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.query = change
}

// Handle has each request answered by somebody else where it says true; nil: by openssl.
func (a *TSA) Handle(h func(w http.ResponseWriter, query []byte) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handle = h
}

// Asked is how many requests there were.
func (a *TSA) Asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

func (a *TSA) serve(w http.ResponseWriter, r *http.Request) {
	query, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	a.mu.Lock()
	a.count++
	change, handle, n := a.query, a.handle, a.count
	a.mu.Unlock()
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/timestamp-query" {
		http.Error(w, "not a query", http.StatusBadRequest)
		return
	}
	if handle != nil && handle(w, query) {
		return
	}
	if change != nil {
		req, err := timestamp.ParseRequest(query)
		if err == nil {
			change(req)
			query, err = req.Marshal()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	reply, err := a.reply(query, n)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	w.Write(reply)
}

func (a *TSA) reply(query []byte, n int) ([]byte, error) {
	in, out := filepath.Join(a.Dir, fmt.Sprint(n, ".tsq")), filepath.Join(a.Dir, fmt.Sprint(n, ".tsr"))
	if err := os.WriteFile(in, query, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(a.openssl, "ts", "-reply", "-config", "tsa.cnf", "-queryfile", in, "-out", out)
	cmd.Dir = a.Dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("openssl ts -reply: %w: %s", err, text)
	}
	return os.ReadFile(out)
}

const config = `[ tsa ]
default_tsa = main
[ main ]
dir = .
serial = ./serial
signer_cert = ./tsa.pem
signer_key = ./tsa.key
certs = ./ca.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
`

// makeKeys makes a root and an authority's certificate.
func (a *TSA) makeKeys(t testing.TB, until time.Time) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) {
		check(os.WriteFile(filepath.Join(a.Dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	check(err)
	write("ca.pem", "CERTIFICATE", rootDER)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}) // id-kp-timeStamping
	check(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Test Time-Stamp Authority"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: until.Add(-36 * time.Hour), NotAfter: until,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
	check(err)
	write("tsa.pem", "CERTIFICATE", leafDER)
	keyDER, err := x509.MarshalECPrivateKey(key)
	check(err)
	write("tsa.key", "EC PRIVATE KEY", keyDER)
	check(os.WriteFile(filepath.Join(a.Dir, "tsa.cnf"), []byte(config), 0o600))
	check(os.WriteFile(filepath.Join(a.Dir, "serial"), []byte("01\n"), 0o600))
}
