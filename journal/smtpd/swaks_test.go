package smtpd

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// writePair makes PEM files of a client's certificate.
func writePair(t *testing.T, a *authority, subject pkix.Name) (cert, key string) {
	t.Helper()
	pair := a.issue(t, subject, x509.ExtKeyUsageClientAuth, time.Now().Add(time.Hour))
	pkcs8, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestSwaks speaks to a client that is not ours.
func TestSwaks(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("swaks is missing")
		}
		t.Skip("no swaks: apt-get install swaks")
	}
	ca := newAuthority(t)
	cert, key := writePair(t, ca, pkix.Name{CommonName: "mta"})
	pair := writeCert(t, t.TempDir(), "mx.example.test")
	users := writeUsers(t, cheapLine("ann", "secret"))
	proxy := func(args ...string) []string {
		return append(args, "--proxy-source", "192.0.2.7", "--proxy-source-port", "4660", "--proxy-dest", "127.0.0.1", "--proxy-dest-port", "25")
	}
	onlyProxied := func(c *Config) {
		c.ProxyNetworks, c.TrustedNetworks = []string{"127.0.0.0/8"}, []string{"192.0.2.0/24"}
	}
	nobody := func(c *Config) { c.TrustedNetworks = nil }
	none := func(*Session) bool { return true }
	for name, tc := range map[string]struct {
		args  []string
		set   func(*Config)
		check func(*Session) bool // nil: the message must not be taken
	}{
		"plain":        {nil, nil, func(s *Session) bool { return s.TLS == nil && s.Client.ESMTP && s.Auth == nil }},
		"pipelined":    {[]string{"--pipeline"}, nil, none},
		"helo":         {[]string{"--protocol", "SMTP"}, nil, func(s *Session) bool { return !s.Client.ESMTP }},
		"tls":          {[]string{"--tls"}, func(c *Config) { c.TLS.Required = true }, func(s *Session) bool { return s.TLS != nil && s.TLS.Peer == "" }},
		"tls required": {nil, func(c *Config) { c.TLS.Required = true }, nil},
		"tls at once":  {[]string{"--tls-on-connect"}, func(c *Config) { c.TLS.Mode = "implicit" }, func(s *Session) bool { return s.TLS != nil }},
		"auth plain": {[]string{"--tls", "--auth", "PLAIN", "--auth-user", "ann", "--auth-password", "secret"}, nobody,
			func(s *Session) bool { return *s.Auth == record.Auth{Mechanism: "PLAIN", Identity: "ann"} }},
		"auth login": {[]string{"--tls", "--auth", "LOGIN", "--auth-user", "ann", "--auth-password", "secret"}, nobody,
			func(s *Session) bool { return *s.Auth == record.Auth{Mechanism: "LOGIN", Identity: "ann"} }},
		"auth wrong":    {[]string{"--tls", "--auth", "PLAIN", "--auth-user", "ann", "--auth-password", "Secret"}, nobody, nil},
		"auth in clear": {[]string{"--auth", "PLAIN", "--auth-user", "ann", "--auth-password", "secret"}, nobody, nil},
		"certificate": {[]string{"--tls", "--tls-cert", cert, "--tls-key", key}, func(c *Config) {
			c.TrustedNetworks, c.ClientCA, c.TrustedCertificates = nil, ca.file, []string{"CN=mta"}
		}, func(s *Session) bool { return s.TLS.Peer == "CN=mta" && s.TLS.Verified }},
		"proxy v1": {proxy("--proxy-version", "1", "--proxy-family", "TCP4"), onlyProxied, func(s *Session) bool {
			return s.Client.Address == "192.0.2.7" && s.Client.Port == 4660 && s.Proxy.By == "proxy" && s.Proxy.Address == "127.0.0.1"
		}},
		"proxy v2": {proxy("--proxy-version", "2", "--proxy-family", "AF_INET", "--tls"), onlyProxied, func(s *Session) bool {
			return s.Client.Address == "192.0.2.7" && s.TLS != nil
		}},
		"no proxy": {nil, onlyProxied, nil},
		"xclient": {[]string{"--xclient-addr", "192.0.2.9", "--xclient-name", "spike.test", "--xclient-port", "99"}, func(c *Config) {
			c.XClientNetworks, c.TrustedNetworks = []string{"127.0.0.0/8"}, []string{"192.0.2.0/24"}
		}, func(s *Session) bool {
			return s.Client == record.Client{Address: "192.0.2.9", Port: 99, Name: "spike.test", Helo: "client.test", ESMTP: true} && s.Proxy.By == "xclient"
		}},
		"stranger": {nil, func(c *Config) { c.TrustedNetworks, c.RecipientDomains = nil, []string{"elsewhere.test"} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := relayConfig()
			cfg.TLS, cfg.Auth.Users = pair, users
			if tc.set != nil {
				tc.set(&cfg)
			}
			b := &backend{t: t}
			host, port, _ := strings.Cut(listen(t, newServer(t, cfg, b)), ":")
			cmd := exec.Command(swaks, append([]string{
				"--server", host, "--port", port, "--ehlo", "client.test", "--from", "a@client.test", "--to", "b@corp.test,c@corp.test",
				"--header", "Subject: " + name, "--body", "a line\n.\n..\nthe last line", "--timeout", "10",
			}, tc.args...)...)
			out, err := cmd.CombinedOutput()
			if tc.check == nil {
				if err == nil {
					t.Errorf("taken:\n%s", out)
				}
				for _, m := range b.ended() {
					if m.whole() {
						t.Error("kept")
					}
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			m := b.only()
			body := string(m.body)
			if !m.whole() || !strings.Contains(body, "Subject: "+name+"\r\n") ||
				!strings.Contains(body, "\r\na line\r\n.\r\n..\r\nthe last line\r\n") || len(m.rcpts) != 2 {
				t.Errorf("whole %v, rcpts %v: %q", m.whole(), m.rcpts, body)
			}
			if !tc.check(m.session) {
				t.Errorf("session %+v, TLS %+v, auth %+v, proxy %+v", m.session, m.session.TLS, m.session.Auth, m.session.Proxy)
			}
		})
	}
}
