package smtpd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// TestNoOpenRelay: what a stranger may send to, and what he may not, with every trick that has made relays of servers.
func TestNoOpenRelay(t *testing.T) {
	for rcpt, code := range map[string]int{
		"<b@ours.test>":                                  250,
		"<B@OURS.Test>":                                  250,
		"<postmaster>":                                   250,
		"<PostMaster>":                                   250,
		"<b@sub.other.test>":                             250,
		"<b@a.b.other.test>":                             250,
		"<b@xn--bcher-kva.test>":                         250,
		"<b@b\u00fccher.test>":                           250,
		`<"b"@ours.test>`:                                250,
		`<"b b"@ours.test>`:                              250,
		"<b+x=y@ours.test>":                              250,
		"<b@ours.test> NOTIFY=NEVER":                     250,
		"<b@elsewhere.test>":                             554,
		"<postmaster@elsewhere.test>":                    554,
		"<b@other.test>":                                 554, // below it, and not the name itself
		"<b@notother.test>":                              554,
		"<b@sub.ours.test>":                              554,
		"<b@ours.test.elsewhere.test>":                   554,
		"<b@elsewhere.test.ours>":                        554,
		"<b@test>":                                       554,
		"<b@ours.test.>":                                 501,
		"<b@.ours.test>":                                 501,
		"<b@ours..test>":                                 501,
		"<b@ours.test,elsewhere.test>":                   501,
		"<b@ours.test:25>":                               501,
		"<b@ours.test@elsewhere.test>":                   501,
		"<b@elsewhere.test@ours.test>":                   501,
		`<"b@elsewhere.test"@ours.test>`:                 554,
		`<"b%elsewhere.test"@ours.test>`:                 554,
		"<b%elsewhere.test@ours.test>":                   554,
		"<elsewhere.test!b@ours.test>":                   554,
		`<"elsewhere.test!b"@ours.test>`:                 554,
		`<"@elsewhere.test:b"@ours.test>`:                554,
		`<b\@elsewhere.test@ours.test>`:                  501,
		"<@ours.test:b@elsewhere.test>":                  553,
		"<@elsewhere.test:b@ours.test>":                  553,
		"<@ours.test,@x.test:b@y.test>":                  553,
		`<"b@elsewhere.test> ORCPT=rfc822;x"@ours.test>`: 554,
		`<b@elsewhere.test> ORCPT=rfc822;x"@ours.test>`:  554,
		"<b@elsewhere.test> <b@ours.test>":               555,
		"<b@elsewhere.test>,<b@ours.test>":               501,
		"b@ours.test":                                    501,
		"<b@[127.0.0.1]>":                                554,
		"<b@[192.0.2.1]>":                                554,
		"<b@[IPv6:::1]>":                                 554,
		"<b@2130706433>":                                 554,
		"<b@127.0.0.1>":                                  554,
		"<b@#2130706433>":                                501,
		"<b>":                                            501,
		"<>":                                             501,
		"<root>":                                         501,
		"<\"\"@elsewhere.test>":                          554,
		"<b@\uff4furs.test>":                             554, // fullwidth o: to some the same name, to others not
		"<b@ours\u3002test>":                             554, // a dot to some
		"<b@elsewhere.test\u3002ours.test>":              554,
		"<b@our\u017f.test>":                             554, // long s
		"<b@B\u00dcCHER.test>":                           554,
		"<b@xn--bcher-kva.elsewhere.test>":               554,
		"<b@our\u00ads.test>":                            554, // soft hyphen
		"<b@ours.test\u200b>":                            554,
		"<b%elsewhere.test@[127.0.0.1]>":                 554,
		"<b@elsewhere.test%ours.test>":                   501,
		"<b@elsewhere.test!ours.test>":                   501,
		"<b@elsewhere.test\\@ours.test>":                 501,
		"<b@elsewhere.test(ours.test)>":                  501,
		"<b@elsewhere.test ours.test>":                   501,
	} {
		for _, mode := range []string{record.ModeRelay, record.ModeQueue, record.ModeJournal} {
			cfg := relayConfig()
			cfg.Mode = mode
			cfg.TrustedNetworks = []string{"192.0.2.0/24"}
			cfg.RecipientDomains = []string{"Ours.test", ".other.test", "b\u00fccher.test", "xn--4ca.test"}
			b, c := start(t, cfg)
			c.cmd("MAIL FROM:<a@ours.test> SMTPUTF8", 250) // whose address that is proves nothing
			c.send("RCPT TO:" + rcpt + "\r\n")
			got, text, err := readReply(c.r)
			if err != nil || got != code {
				t.Errorf("%s, %s: %q, %v; want %d", mode, rcpt, text, err, code)
			}
			if code == 554 && !strings.Contains(text, "554 5.7.1 <") {
				t.Errorf("%s, %s: %q", mode, rcpt, text)
			}
			c.conn.Close()
			if m := b.only(); len(m.rcpts) > 0 != (code == 250) {
				t.Errorf("%s, %s: the Handler has %v", mode, rcpt, m.rcpts)
			}
		}
	}
}

// TestRelayForOurs: who is authorised may send to anybody, by a route of his choice.
func TestRelayForOurs(t *testing.T) {
	_, c := start(t, relayConfig())
	c.cmd("MAIL FROM:<a@x.test>", 250)
	for _, rcpt := range []string{"<b@elsewhere.test>", `<"b@elsewhere.test"@ours.test>`, "<b%elsewhere.test@ours.test>", "<b@[192.0.2.1]>"} {
		c.cmd("RCPT TO:"+rcpt, 250)
	}
}

// TestOpenRelayIsNoConfiguration: what would make one is a fault, key and value named.
func TestOpenRelayIsNoConfiguration(t *testing.T) {
	for name, tc := range map[string]struct {
		key string
		set func(*Config)
	}{
		"everybody":         {"trusted_networks", func(c *Config) { c.TrustedNetworks = []string{"0.0.0.0/0"} }},
		"everybody by IPv6": {"trusted_networks", func(c *Config) { c.TrustedNetworks = []string{"::/0"} }},
		"in two halves":     {"trusted_networks", func(c *Config) { c.TrustedNetworks = []string{"0.0.0.0/1", "128.0.0.0/1"} }},
		"in four quarters":  {"trusted_networks", func(c *Config) { c.TrustedNetworks = []string{"0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"} }},
		"all of IPv6":       {"trusted_networks", func(c *Config) { c.TrustedNetworks = []string{"2000::/3"} }},
		"mapped":            {"trusted_networks", func(c *Config) { c.TrustedNetworks = []string{"::ffff:0.0.0.0/96"} }},
		"any proxy":         {"proxy_networks", func(c *Config) { c.ProxyNetworks = []string{"0.0.0.0/0"} }},
		"any front":         {"xclient_networks", func(c *Config) { c.XClientNetworks = []string{"::/0"} }},
		"a top level":       {"recipient_domains", func(c *Config) { c.RecipientDomains = []string{".com"} }},
		"a public suffix":   {"recipient_domains", func(c *Config) { c.RecipientDomains = []string{".co.uk"} }},
		"a star":            {"recipient_domains", func(c *Config) { c.RecipientDomains = []string{"*"} }},
		"a dot":             {"recipient_domains", func(c *Config) { c.RecipientDomains = []string{"."} }},
		"nothing":           {"recipient_domains", func(c *Config) { c.RecipientDomains = []string{""} }},
		"a literal":         {"recipient_domains", func(c *Config) { c.RecipientDomains = []string{"[192.0.2.1]"} }},
		"subject, no CA": {"trusted_certificates", func(c *Config) {
			c.TLS = writeCert(t, t.TempDir(), "mx.example.test")
			c.TrustedCertificates = []string{"CN=mta"}
		}},
	} {
		for _, mode := range []string{record.ModeRelay, record.ModeQueue} {
			c := relayConfig()
			c.Mode = mode
			tc.set(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("listener \"test\": %s: ", tc.key)) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, %s: %v", name, mode, err)
			}
		}
	}
	for _, fine := range [][]string{
		{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1"}, {"10.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16"},
		{"0.0.0.0/2"}, {"2001:db8::/32"},
	} {
		c := relayConfig()
		c.TrustedNetworks = fine
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// TestBareNewlineByNetwork: where it is accepted, a message is taken as it is, and the Handler told; everywhere else it is refused.
func TestBareNewlineByNetwork(t *testing.T) {
	bodies := map[string]bool{ // and whether only BDAT can carry it
		"a\nb\r\n": false, "a\rb\r\n": false, "\n.\n\r\n": false, "a\r\r\n": false, "a": true, "a\r": true, "a\nb\n": true,
	}
	for _, mode := range []string{record.ModeRelay, record.ModeQueue} {
		for name, tc := range map[string]struct {
			bare   BareNewline
			accept bool
		}{
			"default":       {BareNewline{}, false},
			"refuse":        {BareNewline{Default: "refuse"}, false},
			"accept":        {BareNewline{Default: "accept"}, true},
			"this network":  {BareNewline{Accept: []string{"127.0.0.0/8"}}, true},
			"other network": {BareNewline{Default: "refuse", Accept: []string{"192.0.2.0/24"}}, false},
		} {
			for body, chunked := range bodies {
				cfg := relayConfig()
				cfg.Mode, cfg.BareNewline = mode, tc.bare
				b, c := start(t, cfg)
				code := 550
				if tc.accept {
					code = 250
				}
				if chunked {
					c.envelope()
					c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(body), body))
					c.want(code)
				} else {
					c.data(stuff(body), code)
				}
				m := b.only()
				if m.session.BareNewline != tc.accept || m.whole() != tc.accept || tc.accept && string(m.body) != body {
					t.Errorf("%s, %s, %q: told %v, whole %v: %q", mode, name, body, m.session.BareNewline, m.whole(), m.body)
				}
				if tc.accept && m.bareCR+m.bareLF == 0 && strings.Count(body, "\r")+strings.Count(body, "\n") != 2*strings.Count(body, "\r\n") {
					t.Errorf("%s, %s, %q: no bare newline is told of", mode, name, body)
				}
			}
		}
	}
}

// TestQueueMode: it is as strict as mode relay.
func TestQueueMode(t *testing.T) {
	cfg := relayConfig()
	cfg.Mode, cfg.MaxMessageSize = record.ModeQueue, 64<<10
	b, c := start(t, cfg)
	c.data("a\nb\r\n.\r\n", 550)
	c.data(strings.Repeat("Received: x\r\n", maxReceived+1)+"\r\n.\r\n", 554)
	c.data(strings.Repeat("0123456789abcd\r\n", 5000)+".\r\n", 552)
	c.cmd("MAIL FROM:<a@x.test> SIZE=70000", 552)
	c.data(stuff("Subject: x\r\n\r\nx\r\n"), 250)
	if s := b.ended()[0].session; s.Mode != record.ModeQueue {
		t.Error(s.Mode)
	}
}
