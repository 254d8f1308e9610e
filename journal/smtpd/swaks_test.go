package smtpd

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSwaks speaks to a client that is not ours.
func TestSwaks(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("swaks is missing")
		}
		t.Skip("no swaks: apt-get install swaks")
	}
	cfg := relayConfig()
	cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
	b := &backend{t: t}
	address := listen(t, newServer(t, cfg, b))
	host, port, _ := strings.Cut(address, ":")
	for name, args := range map[string][]string{
		"plain":     nil,
		"pipelined": {"--pipeline"},
		"tls":       {"--tls"},
		"helo":      {"--protocol", "SMTP"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(swaks, append([]string{
				"--server", host, "--port", port, "--ehlo", "client.test", "--from", "a@client.test", "--to", "b@corp.test,c@corp.test",
				"--header", "Subject: " + name, "--body", "a line\n.\n..\nthe last line", "--timeout", "10",
			}, args...)...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			all := b.ended()
			m := all[len(all)-1]
			body := string(m.body)
			if !m.whole() || !strings.Contains(body, "Subject: "+name+"\r\n") ||
				!strings.Contains(body, "\r\na line\r\n.\r\n..\r\nthe last line\r\n") ||
				len(m.rcpts) != 2 || (m.session.TLS != nil) != (name == "tls") || m.session.Client.ESMTP != (name != "helo") {
				t.Errorf("whole %v, rcpts %v, session %+v: %q", m.whole(), m.rcpts, m.session, body)
			}
		})
	}
}
