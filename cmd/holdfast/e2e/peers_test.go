package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Real servers before and behind, with TLS and without: what they send arrives, once, and is archived with what was seen of both connections.
func TestRealPeers(t *testing.T) {
	for _, c := range []struct {
		client    string // postfix, exim, swaks
		clientTLS bool
		mode      string
		hop       string // postfix, smtp-sink, dovecot; empty in mode journal
		hopTLS    bool
	}{
		{"postfix", true, "relay", "postfix", true},
		{"postfix", false, "relay", "smtp-sink", false},
		{"postfix", true, "queue", "dovecot", true},
		{"postfix", false, "journal", "", false},
		{"exim", true, "relay", "smtp-sink", false},
		{"exim", false, "queue", "postfix", true},
		{"exim", true, "journal", "", false},
		{"swaks", true, "queue", "smtp-sink", false},
		{"swaks", false, "queue", "dovecot", false},
		{"swaks", false, "relay", "postfix", false},
		{"swaks", true, "journal", "", false},
	} {
		t.Run(strings.TrimSuffix(fmt.Sprintf("%s tls=%v/%s/%s tls=%v", c.client, c.clientTLS, c.mode, c.hop, c.hopTLS), "/ tls=false"), func(t *testing.T) {
			t.Parallel()
			const letters = 4
			rng := seeded(t)
			cert := certify(t, "mta.example.test")
			next := startHop(t, c.hop, c.hopTLS, cert)
			s := settings{mode: c.mode, more: fmt.Sprintf(`, tls: {cert: %q, key: %q, required: %v}`, cert.cert, cert.key, c.clientTLS)}
			policy := "none"
			if c.hopTLS {
				policy = fmt.Sprintf(`{policy: verified, name: mta.example.test, ca: %q}`, cert.ca)
			}
			switch c.mode {
			case "relay":
				s.more += fmt.Sprintf(`, next_hop: %q, next_hop_tls: %s`, next.address, policy)
			case "queue":
				s.more += fmt.Sprintf(`, routes: [{domain: "*", next_hop: %q, next_hop_tls: %s}]`, next.address, policy)
				s.yaml = "queue: {first_retry: 1s, max_retry: 2s}\n"
			}
			h := install(t, s)
			h.withoutRaceDetector()
			h.start()
			send := startClient(t, c.client, c.clientTLS, h.smtp)
			for i := range letters {
				send(letter(rng, fmt.Sprint("peers ", i), 500+3000*i))
			}
			until(t, time.Minute, "the letters are archived", func() bool { return len(h.search("subject:peers")) == letters })
			if c.hop != "" {
				until(t, time.Minute, "the letters arrive", func() bool { return next.arrived() >= letters })
			}
			h.settle()
			for _, hit := range h.search("subject:peers") {
				k := h.record(hit.ID)
				if (k.Envelope.TLS != nil) != c.clientTLS {
					t.Errorf("the envelope says of TLS %+v", k.Envelope.TLS)
				}
				if c.hop == "" {
					continue
				}
				d := k.delivery(t)
				if d.Outcome != "delivered" || (d.TLS != nil) != c.hopTLS || d.TLS != nil && !d.TLS.Verified {
					t.Errorf("the delivery is %+v, TLS %+v", d, d.TLS)
				}
			}
			if n := next.arrived(); c.hop != "" && n != letters {
				t.Errorf("%d letters arrived, %d were sent", n, letters)
			}
			h.mustVerify()
			h.stop()
		})
	}
}

// certificate is one with its key and the root that has signed it, as PEM files.
type certificate struct{ cert, key, ca string }

func certify(t *testing.T, name string) certificate {
	t.Helper()
	dir := openFolder(t)
	var root *x509.Certificate
	var signer *ecdsa.PrivateKey
	write := func(file, kind string, der []byte) string {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	issue := func(template *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		template.BasicConstraintsValid = true
		parent, by := root, signer
		if parent == nil {
			parent, by = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return key, der
	}
	key, der := issue(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	ca := write("ca.pem", "CERTIFICATE", der)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	root, signer = parsed, key
	key, der = issue(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate{write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8), ca}
}

// openFolder is a temporary one into which servers can look that have given up root.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for up := dir; up != "/" && up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// nextHop is a real server behind.
type nextHop struct {
	address string // as next_hop has it
	arrived func() int
}

func startHop(t *testing.T, kind string, tls bool, cert certificate) nextHop {
	t.Helper()
	switch kind {
	case "smtp-sink":
		s := startSink(t)
		return nextHop{fmt.Sprint("127.0.0.1:", s.port), func() int { return len(files(t, s.dir)) }}
	case "postfix":
		s := startSink(t)
		extra := ""
		if tls {
			extra = fmt.Sprintf("smtpd_tls_cert_file = %s\nsmtpd_tls_key_file = %s\nsmtpd_tls_security_level = encrypt\nsmtpd_tls_session_cache_database =\n", cert.cert, cert.key)
		}
		p := startPostfix(t, s.port, extra)
		return nextHop{fmt.Sprint("127.0.0.1:", p.port), func() int { return len(files(t, s.dir)) }}
	case "dovecot":
		d := startDovecot(t, cert)
		return nextHop{"lmtp:127.0.0.1:" + fmt.Sprint(d.port), func() int {
			found, err := filepath.Glob(filepath.Join(d.mail, "*", "new", "*"))
			if err != nil {
				t.Fatal(err)
			}
			return len(found)
		}}
	}
	return nextHop{"", func() int { return 0 }}
}

// startClient starts a real client and gives what sends a letter through it.
func startClient(t *testing.T, kind string, tls bool, port int) (send func(message []byte)) {
	t.Helper()
	through := func(by int) func([]byte) {
		return func(m []byte) {
			t.Helper()
			c, err := dialSMTP(by)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if reply, err := c.send("ada@origin.test", []string{"bob@dest.test"}, m); err != nil || reply[0] != '2' {
				t.Fatalf("%s: %q, %v", kind, reply, err)
			}
		}
	}
	switch kind {
	case "postfix":
		level := "none"
		if tls {
			level = "encrypt"
		}
		return through(startPostfix(t, port, "smtp_tls_security_level = "+level+"\n").port)
	case "exim":
		transport := "  hosts_avoid_tls = *"
		if tls {
			transport = "  hosts_require_tls = *\n  tls_verify_certificates =\n  tls_try_verify_hosts ="
		}
		return through(startExim(t, eximSettings{nextHop: port, transport: transport}).port)
	}
	swaks := need(t, "swaks", "swaks")
	return func(m []byte) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "letter")
		if err := os.WriteFile(path, bytes.TrimSuffix(m, []byte("\r\n")), 0o600); err != nil { // swaks ends the last line
			t.Fatal(err)
		}
		args := []string{"--server", fmt.Sprint("127.0.0.1:", port), "--from", "ada@origin.test", "--to", "bob@dest.test", "--data", "@" + path, "--timeout", "20"}
		if tls {
			args = append(args, "--tls")
		}
		if out, err := exec.CommandContext(withTimeout(t, time.Minute), swaks, args...).CombinedOutput(); err != nil {
			t.Fatalf("swaks: %v: %s", err, out)
		}
	}
}

// dovecot is a Dovecot of its own that takes mail by LMTP, with TLS for those who want it.
type dovecot struct {
	port int
	mail string // a Maildir for each recipient
}

func startDovecot(t *testing.T, cert certificate) dovecot {
	t.Helper()
	needRoot(t)
	program := need(t, "dovecot", "dovecot-core")
	if _, err := os.Stat("/usr/lib/dovecot/lmtp"); err != nil {
		need(t, "lmtp", "dovecot-lmtpd")
	}
	dir := openFolder(t)
	d := dovecot{port: freePort(t), mail: filepath.Join(dir, "mail")}
	if err := os.Mkdir(d.mail, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d.mail, 0o777); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
protocols = lmtp
ssl = yes
ssl_cert = <%[3]s
ssl_key = <%[4]s
mail_location = maildir:%[1]s/mail/%%u
postmaster_address = postmaster@dest.test
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=%[1]s/mail/%%u allow_all_users=yes
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = %[2]d
  }
}
`, dir, d.port, cert.cert, cert.key)
	file := filepath.Join(dir, "dovecot.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-F", "-c", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil && t.Failed() {
			t.Logf("dovecot: %s", log[max(0, len(log)-4000):])
		}
	})
	until(t, 30*time.Second, "dovecot listens", func() bool { return listening(d.port) })
	return d
}
