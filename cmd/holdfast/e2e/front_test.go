package e2e

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// A Postfix before us tells by XFORWARD from whom it has the mail, over TLS with a certificate that lets it in: the record has the true
// client, and the Postfix as the one that handed it on.
func TestPostfixTellsOfItsClient(t *testing.T) {
	t.Parallel()
	rng, hop := seeded(t), hoptest.New(t)
	dir := t.TempDir()
	writeCertificate(t, dir)
	// the same certificate serves us and, by its fingerprint, Postfix
	h := relayTo(t, hop, settings{more: fmt.Sprintf(
		`, xclient_networks: [127.0.0.1], tls: {cert: %[1]s/cert.pem, key: %[1]s/key.pem, required: true}, recipient_domains: [ours.test], `+
			`trusted_certificates: ["%[2]s"]`, dir, fingerprint(t, filepath.Join(dir, "cert.pem")))})
	h.edit(filepath.Base(h.config), func(text []byte) []byte {
		return []byte(strings.Replace(string(text), "trusted_networks: [127.0.0.0/8]", "trusted_networks: [192.0.2.0/24]", 1))
	})
	h.start()
	p := startPostfix(t, h.smtp, fmt.Sprintf(`smtp_send_xforward_command = yes
smtpd_authorized_xforward_hosts =
smtp_tls_security_level = encrypt
smtp_tls_cert_file = %[1]s/cert.pem
smtp_tls_key_file = %[1]s/key.pem
smtp_tls_loglevel = 1
`, dir))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}, Timeout: 5 * time.Second}
	conn, err := d.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &client{conn, bufio.NewReader(conn)}
	c.must(t, "", "220")
	c.must(t, "EHLO desk.example.test\r\n", "250")
	for i := range 3 {
		if reply, err := c.send("a@origin.test", []string{"b@elsewhere.test"}, letter(rng, fmt.Sprint("forwarded ", i), 1000)); err != nil || reply[0] != '2' {
			t.Fatalf("%q, %v", reply, err)
		}
	}
	p.drained(t, time.Minute)
	h.settle()
	hits := h.search("subject:forwarded")
	if len(hits) != 3 {
		t.Fatalf("%d records", len(hits))
	}
	for _, hit := range hits {
		e := h.record(hit.ID).Envelope
		if e.Client == nil || e.Client.Address != "127.0.0.5" || e.Client.Helo != "desk.example.test" || !e.Client.ESMTP || e.Client.Port == 0 {
			t.Errorf("client %+v", e.Client)
		}
		if e.Proxy == nil || e.Proxy.Address != "127.0.0.1" || e.Proxy.By != "xforward" || e.Proxy.Ident == "" {
			t.Errorf("proxy %+v", e.Proxy)
		}
		if e.TLS == nil || !e.TLS.Verified {
			t.Errorf("TLS %+v", e.TLS)
		}
	}
	h.mustVerify()
}
