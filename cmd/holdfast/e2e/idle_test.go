package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Ten thousand clients that are connected and say nothing are held in less than 300 MB, all of the server counted; with TLS too.
func TestTenThousandIdleClients(t *testing.T) {
	const clients, limit = 10000, 300e6
	dir := t.TempDir()
	writeCertificate(t, dir)
	h := install(t, settings{mode: "journal", more: fmt.Sprintf(
		", tls: {cert: %[1]s/cert.pem, key: %[1]s/key.pem}, limits: {connections: %[2]d, connections_per_client: %[2]d}", dir, clients+10)})
	h.withoutRaceDetector()
	for _, overTLS := range []bool{false, true} {
		h.start()
		before := h.resident()
		conns := make([]net.Conn, clients)
		next := make(chan int)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for i := range next {
					var err error
					if conns[i], err = idler(h.smtp, overTLS); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range conns {
			if next <- i; t.Failed() {
				break
			}
		}
		close(next)
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		if n, _ := h.metric("holdfast_smtp_connections"); n != clients {
			t.Errorf("%v are connected", n)
		}
		after := h.resident()
		t.Logf("TLS %v: %d MB with %d clients, %d bytes a client", overTLS, after/1e6, clients, (after-before)/clients)
		if after > limit {
			t.Errorf("TLS %v: %d MB", overTLS, after/1e6)
		}
		c := h.dial() // and it still takes mail
		if reply, err := c.send("a@x.test", []string{"b@x.test"}, []byte("Subject: x\r\n\r\nx\r\n")); err != nil || reply[0] != '2' {
			t.Errorf("%q, %v", reply, err)
		}
		for _, conn := range conns {
			conn.Close()
		}
		h.stop()
	}
}

// idler is a client that has said EHLO.
func idler(port int, overTLS bool) (net.Conn, error) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReaderSize(conn, 512)
	say := func(line string) error {
		if line != "" {
			io.WriteString(conn, line+"\r\n")
		}
		for {
			reply, err := r.ReadString('\n')
			if err != nil || reply[0] != '2' {
				return fmt.Errorf("%s: %q, %w", line, reply, err)
			}
			if reply[3] == ' ' {
				return nil
			}
		}
	}
	steps := []string{"", "EHLO x"}
	if overTLS {
		steps = append(steps, "STARTTLS")
	}
	for _, line := range steps {
		if err := say(line); err != nil {
			return nil, err
		}
	}
	if overTLS {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		r = bufio.NewReaderSize(conn, 512)
		if err := say("EHLO x"); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

// resident is the memory of the server that is in RAM, in bytes.
func (h *holdfast) resident() int64 {
	h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.proc.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kb, err := strconv.ParseInt(strings.Fields(string(value))[0], 10, 64)
			if err != nil {
				h.t.Fatal(err)
			}
			return kb << 10
		}
	}
	h.t.Fatal("no VmRSS")
	return 0
}

// writeCertificate makes cert.pem and key.pem in dir.
func writeCertificate(t testing.TB, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// fingerprint is the SHA-256 of the certificate in a PEM file, as openssl prints it.
func fingerprint(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	return strings.TrimSuffix(strings.ReplaceAll(fmt.Sprintf("% X", sha256.Sum256(block.Bytes)), " ", ":"), ":")
}
