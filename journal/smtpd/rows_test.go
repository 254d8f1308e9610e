package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// TestWhatServersGetWrong has a row for everything that SMTP servers, and the library that was under this package once, were found to get
// wrong, with what is owed instead. Most rows have closer tests of their own elsewhere in this package.
func TestWhatServersGetWrong(t *testing.T) {
	const body = "Subject: x\r\n\r\n"
	for row, test := range map[string]func(t *testing.T){
		"BDAT n LAST and the peer closes early: a short read is an error": func(t *testing.T) {
			for _, cfg := range []Config{relayConfig(), journalConfig()} {
				b := &backend{t: t}
				out := play(t, newServer(t, cfg, b), []byte("EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nBDAT 10 LAST\r\n12345"), nil)
				m := b.only()
				if m.whole() || !errors.Is(m.bodyErr, io.ErrUnexpectedEOF) || strings.Contains(string(out), "2.0.0 OK") {
					t.Errorf("whole %v, %v: %q", m.whole(), m.bodyErr, out)
				}
			}
		},
		"CHUNKING is offered: it is served right": func(t *testing.T) {
			b, c := start(t, journalConfig())
			if text := c.cmd("EHLO x", 250); !strings.Contains(text, "-CHUNKING\n") {
				t.Error(text)
			}
			c.envelope()
			for _, chunk := range []string{"Subject: x\r\n\r", "\n\r\n.\r\n\x00\n", ""} {
				c.send(fmt.Sprintf("BDAT %d\r\n%s", len(chunk), chunk))
				c.want(250)
			}
			c.cmd("BDAT 0 LAST", 250)
			if m := b.only(); string(m.body) != "Subject: x\r\n\r\n\r\n.\r\n\x00\n" {
				t.Errorf("%q", m.body)
			}
		},
		"CRLF . CR X: bytes exact, or refused": func(t *testing.T) {
			b, c := start(t, journalConfig())
			c.data(body+"a\r\n.\rX\r\n.\r\n", 250)
			if m := b.only(); string(m.body) != body+"a\r\n\rX\r\n" { // the dot is SMTP's, the CR is not
				t.Errorf("%q", m.body)
			}
			_, c = start(t, relayConfig())
			c.data(body+"a\r\n.\rX\r\n.\r\n", 550)
		},
		"a body that ends in a bare CR: the end of data is seen": func(t *testing.T) {
			b, c := start(t, journalConfig())
			c.data("x\r\r\n.\r\n", 250)
			if m := b.only(); string(m.body) != "x\r\r\n" {
				t.Errorf("%q", m.body)
			}
		},
		"long lines: 1 MiB of data, 4 KiB of a command": func(t *testing.T) {
			_, c := start(t, relayConfig())
			for _, n := range []int{1998, 2000, 2001, 10000, maxLine - 2} {
				c.data(strings.Repeat("x", n)+"\r\n.\r\n", 250)
			}
			c.data(strings.Repeat("x", maxLine)+"\r\n.\r\n", 554)
			c.cmd("NOOP "+strings.Repeat("x", maxCommand), 500)
			c.cmd("NOOP", 250)
		},
		"an error of ours: 451 that gives nothing away": func(t *testing.T) {
			b := &backend{t: t, data: func(_ context.Context, m *message, body *Body) (*nexthop.Reply, error) {
				m.keep(body)
				return nil, errors.New("open /var/lib/secret: permission denied")
			}}
			c := dial(t, listen(t, newServer(t, relayConfig(), b)))
			c.want(220)
			c.cmd("EHLO x", 250)
			if text := c.data(".\r\n", 451); strings.Contains(text, "secret") {
				t.Error(text)
			}
		},
		"a slow large message: the timeout is of each wait, not of all": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &backend{t: t}
				srv, c := hello(t, relayConfig(), b)
				c.envelope()
				c.cmd("DATA", 354)
				for range 40 {
					time.Sleep(DefaultDataTimeout - time.Second)
					c.send("a line\r\n")
				}
				c.send(".\r\n")
				c.want(250)
				c.conn.Close()
				stop(t, srv)
			})
		},
		"a second MAIL: 503": func(t *testing.T) {
			b, c := start(t, relayConfig())
			c.envelope()
			c.cmd("MAIL FROM:<c@x.test>", 503)
			c.cmd("DATA", 354)
			c.send(".\r\n")
			c.want(250)
			if m := b.only(); m.from.Address != "a@client.test" || len(m.rcpts) != 1 {
				t.Errorf("%+v, %+v", m.from, m.rcpts)
			}
		},
		"RCPT TO:<postmaster>: taken": func(t *testing.T) {
			b, c := start(t, relayConfig())
			c.cmd("MAIL FROM:<>", 250)
			c.cmd("RCPT TO:<postmaster>", 250)
			c.conn.Close()
			if m := b.only(); m.rcpts[0].Address != "postmaster" {
				t.Errorf("%+v", m.rcpts)
			}
		},
		"a failed TLS handshake: closed": func(t *testing.T) {
			cfg := relayConfig()
			cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
			b, c := start(t, cfg)
			c.cmd("STARTTLS", 220)
			c.send("EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n")
			if rest, _ := io.ReadAll(c.r); strings.Contains(string(rest), "250") || len(b.ended()) != 0 {
				t.Errorf("%q", rest)
			}
		},
		"limits that are not set: there are some": func(t *testing.T) {
			c := Config{}.WithDefaults()
			for name, n := range map[string]int64{
				"recipients": int64(c.Limits.Recipients), "size": c.Limits.MessageSize, "connections": int64(c.Limits.Connections),
				"connections per client": int64(c.Limits.ConnectionsPerClient), "errors": int64(c.Limits.Errors), "junk": int64(c.Limits.JunkCommands),
				"auth failures": int64(c.Limits.AuthFailureRate), "command timeout": int64(c.CommandTimeout), "data timeout": int64(c.DataTimeout),
			} {
				if n <= 0 {
					t.Errorf("%s: %d", name, n)
				}
			}
		},
		"quotes in a local part: no way out of them": func(t *testing.T) {
			const victim = `"victim@elsewhere.example> ORCPT=rfc822;x"@ours.example`
			b, c := start(t, relayConfig())
			c.cmd("MAIL FROM:<a@x.test>", 250)
			c.cmd("RCPT TO:<"+victim+">", 250)
			c.conn.Close()
			if m := b.only(); m.rcpts[0].Address != victim || m.rcpts[0].ORCPT != "" {
				t.Errorf("%+v", m.rcpts)
			}
			cfg := relayConfig()
			cfg.TrustedNetworks, cfg.RecipientDomains = nil, []string{"ours.example"}
			_, c = start(t, cfg)
			c.cmd("MAIL FROM:<a@x.test>", 250)
			c.cmd("RCPT TO:<"+victim+">", 554)
		},
		"the next hop's words: no code is put before them": func(t *testing.T) {
			said := &nexthop.Reply{Code: 250, Lines: []string{"ok, no enhanced code here", "2.0.0 and one here"}}
			b := &backend{t: t, data: func(_ context.Context, m *message, body *Body) (*nexthop.Reply, error) { return said, m.keep(body) }}
			c := dial(t, listen(t, newServer(t, relayConfig(), b)))
			c.want(220)
			c.cmd("EHLO x", 250)
			if text := c.data(".\r\n", 250); text != "250-ok, no enhanced code here\n250 2.0.0 and one here" {
				t.Error(text)
			}
		},
		"354 and a Handler that refuses: the data is read first": func(t *testing.T) {
			b := &backend{t: t, data: func(context.Context, *message, *Body) (*nexthop.Reply, error) {
				return nil, &nexthop.Reply{Code: 550, Lines: []string{"5.7.1 no"}}
			}}
			c := dial(t, listen(t, newServer(t, relayConfig(), b)))
			c.want(220)
			c.cmd("EHLO x", 250)
			c.data("MAIL FROM:<evil@x.test>\r\nQUIT\r\n.\r\n", 550)
			c.cmd("NOOP", 250)
		},
		"no more is offered than is done": func(t *testing.T) {
			b, c := start(t, relayConfig())
			text := c.cmd("EHLO x", 250)
			for line := range strings.SplitSeq(text, "\n") {
				switch keyword, _, _ := strings.Cut(line[4:], " "); keyword {
				case "mx.example.test", "PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING", "LIMITS":
				default:
					t.Errorf("offered: %s", line)
				}
			}
			c.cmd("MAIL FROM:<a@x.test> BODY=BINARYMIME", 501)
			c.cmd("MAIL FROM:<a@x.test> BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x SIZE=10", 250)
			c.conn.Close()
			b.only()
		},
	} {
		t.Run(row, test)
	}
}
