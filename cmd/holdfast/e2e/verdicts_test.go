package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/authres/dnstest"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// verdictsBy turns the verdicts on, with a DNS server of the test.
func verdictsBy(dns *dnstest.Server, more string) settings {
	return settings{yaml: fmt.Sprintf("verdicts: {enabled: true, resolver: %q%s}\n", dns.Addr, more)}
}

// openDKIM signs what Postfix takes in, for signer.test, and gives its port and the record of its key.
func startOpenDKIM(t *testing.T) (port int, key string) {
	t.Helper()
	program := need(t, "opendkim", "opendkim")
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "private")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}), 0o600); err != nil {
		t.Fatal(err)
	}
	port = freePort(t)
	conf := filepath.Join(dir, "opendkim.conf")
	text := fmt.Sprintf("Domain signer.test\nSelector sel\nKeyFile %s\nMode s\nCanonicalization relaxed/simple\nSocket inet:%d@127.0.0.1\nBackground no\n"+
		"RequireSafeKeys no\nTemporaryDirectory %s\nInternalHosts 127.0.0.1\n", file, port, dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-x", conf, "-f")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	until(t, 20*time.Second, "opendkim listens", func() bool { return listening(port) })
	return port, "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
}

// auth gives the verdicts of a record.
func (k kept) auth() *record.Verdicts {
	for _, s := range k.Supplements {
		if s.Auth != nil {
			return s.Auth
		}
	}
	return nil
}

// Mail that a real opendkim signed comes through a real Postfix. Its verdicts are in the archive with it, and hold when the DNS has
// forgotten everything.
func TestVerdictsOfSignedMail(t *testing.T) {
	t.Parallel()
	dns := dnstest.New(t)
	milter, key := startOpenDKIM(t)
	dns.Set("sel._domainkey.signer.test", "TXT", key)
	dns.Set("signer.test", "TXT", "v=spf1 ip4:127.0.0.1 -all")
	dns.Set("_dmarc.signer.test", "TXT", "v=DMARC1; p=reject; adkim=s; aspf=s")
	hop := hoptest.New(t)
	h := relayTo(t, hop, verdictsBy(dns, ""))
	h.start()
	p := startPostfix(t, h.smtp, fmt.Sprintf("smtpd_milters = inet:127.0.0.1:%d\nmilter_default_action = tempfail\n", milter))
	for i := range 3 {
		c, err := dialSMTP(p.port)
		if err != nil {
			t.Fatal(err)
		}
		message := fmt.Sprintf("From: Ada <ada@signer.test>\r\nTo: bob@dest.test\r\nSubject: signed %d\r\nDate: Wed, 25 Nov 2026 07:00:00 +0000\r\n\r\n  signed   text\r\n.\r\n\r\n", i)
		if reply, err := c.send("ada@signer.test", []string{"bob@dest.test"}, []byte(strings.ReplaceAll(message, "\r\n.\r\n", "\r\n..\r\n"))); err != nil || reply[0] != '2' {
			t.Fatalf("%q, %v", reply, err)
		}
		c.Close()
	}
	p.drained(t, time.Minute)
	h.settle()
	hits := h.search("from:signer.test")
	if len(hits) != 3 {
		t.Fatalf("%d records", len(hits))
	}
	dns.Clear() // the keys are gone
	for _, hit := range hits {
		k := h.record(hit.ID)
		v := k.auth()
		if v == nil {
			t.Fatalf("no verdicts: %+v", k.Supplements)
		}
		if got := fmt.Sprint(v.Results()); got != "[{spf pass} {dkim pass} {dmarc pass} {arc none}]" || !v.DMARC.DKIMAligned || !v.DMARC.SPFAligned {
			t.Errorf("%s: %+v", got, v)
		}
		out := h.run("get", hit.ID, "--auth", "--recheck")
		for _, want := range []string{"spf    pass", "mailfrom signer.test", "dkim   pass", "signer.test, selector sel, rsa-sha256, 2048 bits", "dmarc  pass",
			"policy reject of signer.test, aligned: SPF and DKIM", `sel._domainkey.signer.test. 300 IN TXT "v=DKIM1`, "checked again from what is recorded: the same"} {
			if !strings.Contains(out, want) {
				t.Errorf("get --auth does not say %q:\n%s", want, out)
			}
		}
		var doc struct {
			Auth *record.Verdicts
			Same bool
		}
		if err := json.Unmarshal([]byte(h.run("get", hit.ID, "--recheck", "--json")), &doc); err != nil || !doc.Same || doc.Auth.DKIM[0].Result != "pass" {
			t.Errorf("--json: %+v, %v", doc, err)
		}
		page, _ := h.get("/message/" + hit.ID)
		for _, want := range []string{"SPF pass for MAIL FROM signer.test", "DKIM pass for signer.test", "DMARC pass for signer.test, whose policy is reject"} {
			if !bytes.Contains(page, []byte(want)) {
				t.Errorf("the page does not say %q", want)
			}
		}
	}
	if n, ok := h.metric("holdfast_auth_verdicts_total"); !ok || n != 12 {
		t.Errorf("%v results are counted", n)
	}
	h.mustVerify()
	h.stop()
	h.mustVerify()
}

// With a resolver that never answers mail goes its way as without one, and the records say that nobody answered.
func TestSilentResolver(t *testing.T) {
	t.Parallel()
	dns := dnstest.New(t)
	dns.Silence(".")
	hop := hoptest.New(t)
	h := relayTo(t, hop, verdictsBy(dns, ", timeout: 3s"))
	h.start()
	rng := seeded(t)
	start := time.Now()
	const n = 20
	c := h.dial()
	for i := range n {
		c.begin(t, "ada@origin.test", "bob@dest.test")
		if reply := c.data(t, letter(rng, fmt.Sprint("silent ", i), 2000)); reply[0] != '2' {
			t.Fatal(reply)
		}
	}
	if d := time.Since(start); d > n*3*time.Second/2 {
		t.Errorf("%d messages took %v: they wait for the resolver", n, d)
	}
	h.settle()
	hits := h.search("")
	if len(hits) != n {
		t.Errorf("%d records", len(hits))
	}
	for _, hit := range hits {
		k := h.record(hit.ID)
		v := k.auth()
		if v == nil || v.SPF[0].Result != "temperror" || len(k.Supplements) != 2 {
			t.Errorf("%s: %+v", hit.ID, v)
		}
	}
	out, code := h.try("get", hits[0].ID, "--recheck")
	if code != 0 || !strings.Contains(out, "no answer in time") {
		t.Errorf("exit %d: %s", code, out)
	}
	h.mustVerify()
	h.stop()
}
