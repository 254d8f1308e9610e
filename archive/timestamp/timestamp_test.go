package timestamp_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	digitorus "github.com/digitorus/timestamp"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/archive/timestamp"
	"github.com/holdfast-archive/holdfast/archive/timestamp/timestamptest"
)

func authority(t *testing.T, tsa *timestamptest.TSA) *timestamp.Authority {
	t.Helper()
	roots, err := timestamp.LoadRoots(tsa.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	return &timestamp.Authority{URL: tsa.URL, Roots: roots}
}

// What openssl stamps we take, and what we have taken openssl takes; each byte of it that is changed is found by both or by us.
func TestStampedByOpenSSL(t *testing.T) {
	tsa := timestamptest.Start(t, 0)
	a := authority(t, tsa)
	text := []byte("x")
	digest := record.Sum(text)
	token, err := a.Stamp(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(token.Time).Abs(); d > time.Hour || token.Authority != "CN=Test Time-Stamp Authority" || token.Policy != "1.2.3.4.1" || token.Accuracy != time.Second {
		t.Errorf("token says %+v", token)
	}
	again, err := timestamp.Verify(token.DER, digest, a.Roots)
	if err != nil || !again.Time.Equal(token.Time) || again.Serial != token.Serial {
		t.Errorf("verified later: %+v, %v", again, err)
	}

	dir := t.TempDir()
	data, der := filepath.Join(dir, "data"), filepath.Join(dir, "token.der")
	if err := errors.Join(os.WriteFile(data, text, 0o600), os.WriteFile(der, token.DER, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "ts", "-verify", "-data", data, "-in", der, "-token_in", "-CAfile", tsa.CAFile).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Verification: OK") {
		t.Errorf("openssl ts -verify: %v\n%s", err, out)
	}

	if _, err := timestamp.Verify(token.DER, record.Sum([]byte("other")), a.Roots); !errors.Is(err, timestamp.ErrImprint) {
		t.Errorf("of other bytes: %v", err)
	}
	if _, err := timestamp.Verify(token.DER, digest, x509.NewCertPool()); !errors.Is(err, timestamp.ErrCertificate) {
		t.Errorf("with other roots: %v", err)
	}
	for n := range len(token.DER) {
		if _, err := timestamp.Verify(token.DER[:n], digest, a.Roots); err == nil {
			t.Errorf("cut to %d bytes: taken", n)
		}
	}
	// The certificates beside the signer's own are no part of what is signed. All else is found.
	signed := bytes.Index(token.DER, digest[:])
	for i := signed - 40; i < signed+32; i++ {
		bad := bytes.Clone(token.DER)
		bad[i] ^= 1
		if _, err := timestamp.Verify(bad, digest, a.Roots); err == nil {
			t.Errorf("byte %d changed: taken", i)
		}
	}
}

// An authority that fails in each of the known ways is found out, with an error that says which.
func TestBadAuthorities(t *testing.T) {
	digest := record.Sum([]byte("x"))
	reply := func(status int, kind, text string) func(http.ResponseWriter, []byte) bool {
		return func(w http.ResponseWriter, _ []byte) bool {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			fmt.Fprint(w, text)
			return true
		}
	}
	const replyType = "application/timestamp-reply"
	refusal, err := digitorus.CreateErrorResponse(digitorus.Rejection, digitorus.SystemFailure)
	if err != nil {
		t.Fatal(err)
	}
	tsa := timestamptest.Start(t, 0)
	a := authority(t, tsa)
	a.Timeout = 5 * time.Second
	good, err := a.Stamp(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		handle func(http.ResponseWriter, []byte) bool
		query  func(*digitorus.Request)
		want   error
		says   string
	}{
		{"error page", reply(503, "text/html", "busy"), nil, timestamp.ErrUnavailable, "503"},
		{"a page", reply(200, "text/html", "<html>log in</html>"), nil, timestamp.ErrToken, "text/html"},
		{"garbage", reply(200, replyType, "garbage"), nil, timestamp.ErrToken, "no time-stamp reply"},
		{"nothing", reply(200, replyType, ""), nil, timestamp.ErrToken, ""},
		{"a token that is no answer", reply(200, replyType, string(good.DER)), nil, timestamp.ErrToken, ""},
		{"endless", reply(200, replyType, strings.Repeat("0", timestamp.MaxToken+1)), nil, timestamp.ErrToken, "more than"},
		{"refusal", reply(200, replyType, string(refusal)), nil, timestamp.ErrRefused, "system failure"},
		{"granted, no token", reply(200, replyType, "\x30\x05\x30\x03\x02\x01\x00"), nil, timestamp.ErrToken, "none"},
		{"another nonce", nil, func(r *digitorus.Request) { r.Nonce = big.NewInt(7) }, timestamp.ErrNonce, ""},
		{"no nonce", nil, func(r *digitorus.Request) { r.Nonce = nil }, timestamp.ErrNonce, ""},
		{"another imprint", nil, func(r *digitorus.Request) { r.HashedMessage = bytes.Repeat([]byte{1}, 32) }, timestamp.ErrImprint, ""},
		{"no certificate", nil, func(r *digitorus.Request) { r.Certificates = false }, timestamp.ErrToken, "certificate"},
	} {
		tsa.Handle(c.handle)
		tsa.Query(c.query)
		_, err := a.Stamp(t.Context(), digest)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), a.URL) {
			t.Errorf("%s: %v, want %v that says %q", c.name, err, c.want, c.says)
		}
	}

	done := make(chan struct{})
	tsa.Handle(func(http.ResponseWriter, []byte) bool { <-done; return true })
	a.Timeout = 50 * time.Millisecond
	if _, err := a.Stamp(t.Context(), digest); !errors.Is(err, timestamp.ErrUnavailable) {
		t.Errorf("slow: %v", err)
	}
	close(done)
	down := &timestamp.Authority{URL: "http://127.0.0.1:1/tsr"}
	if _, err := down.Stamp(t.Context(), digest); !errors.Is(err, timestamp.ErrUnavailable) {
		t.Errorf("down: %v", err)
	}
	expired := timestamptest.Start(t, -time.Hour)
	if _, err := authority(t, expired).Stamp(t.Context(), digest); !errors.Is(err, timestamp.ErrCertificate) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("certificate expired: %v", err)
	}
	other := authority(t, tsa)
	other.URL = timestamptest.Start(t, 0).URL
	if _, err := other.Stamp(t.Context(), digest); !errors.Is(err, timestamp.ErrCertificate) {
		t.Errorf("another root: %v", err)
	}
}

func TestCheckURL(t *testing.T) {
	for url, good := range map[string]bool{
		"http://tsa.example/tsr": true, "https://tsa.example": true, "": false, "tsa.example": false, "ftp://tsa.example": false,
		"https://user:secret@tsa.example/": false,
	} {
		err := timestamp.CheckURL(url)
		if (err == nil) != good || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	digest := record.Sum([]byte("x"))
	f.Add([]byte("\x30\x03\x02\x01\x00"))
	if seed, err := os.ReadFile("testdata/token.der"); err == nil {
		f.Add(seed)
	} else {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if token, err := timestamp.Read(der, digest); err == nil && token.Digest != digest {
			t.Error("taken for another digest")
		}
	})
}
