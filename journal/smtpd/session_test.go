package smtpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

func TestMessage(t *testing.T) {
	b, c := start(t, relayConfig())
	c.cmd("MAIL FROM:<a@client.test> SIZE=40 BODY=8BITMIME RET=hdrs ENVID=id+2B1", 250)
	c.cmd("rcpt to:<b@corp.test> NOTIFY=success,DELAY ORCPT=rfc822;B+2Bx@corp.test", 250)
	c.cmd("RCPT TO: <c@corp.test>", 250)
	c.cmd("DATA", 354)
	c.send(stuff("Subject: x\r\n\r\n.dot\r\n"))
	if text := c.want(250); text != "250 2.0.0 OK "+b.only().session.ID {
		t.Errorf("reply %q", text)
	}
	c.cmd("QUIT", 221)
	c.closed()
	m := b.only()
	if !m.whole() || string(m.body) != "Subject: x\r\n\r\n.dot\r\n" {
		t.Errorf("body %q", m.body)
	}
	if m.from != (record.Path{Address: "a@client.test"}) ||
		m.params != (Params{Size: 40, Body: "8BITMIME", Ret: "HDRS", EnvID: "id+1"}) {
		t.Errorf("from %+v, %+v", m.from, m.params)
	}
	if want := (record.Path{Address: "b@corp.test", Notify: "SUCCESS,DELAY", ORCPT: "rfc822;B+2Bx@corp.test"}); m.rcpts[0] != want {
		t.Errorf("rcpt %+v", m.rcpts[0])
	}
	s := m.session
	if s.Listener != "test" || s.Mode != record.ModeRelay || s.TLS != nil || s.Auth != nil || s.ID == "" ||
		s.Client.Address != "127.0.0.1" ||
		s.Client.Port == 0 || s.Client.Helo != "client.test" || !s.Client.ESMTP {
		t.Errorf("session %+v", s)
	}
	if m.replied[0] != nil {
		t.Errorf("Replied(%v)", m.replied[0])
	}
	select {
	case <-s.Gone():
	default:
		t.Error("Gone is open after QUIT")
	}
}

func TestEHLO(t *testing.T) {
	cfg := relayConfig()
	cfg.MaxMessageSize = 1 << 20
	c := dial(t, listen(t, newServer(t, cfg, &backend{t: t})))
	if g := c.want(220); !strings.HasPrefix(g, "220 mx.example.test ") {
		t.Errorf("greeting %q", g)
	}
	want := "250-mx.example.test\n250-PIPELINING\n250-SIZE 1048576\n250-8BITMIME\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n" +
		"250-DSN\n250-CHUNKING\n250 LIMITS RCPTMAX=1000"
	if got := c.cmd("EHLO client.test", 250); got != want {
		t.Errorf("EHLO: %q", got)
	}
	if got := c.cmd("HELO client.test", 250); got != "250 mx.example.test" {
		t.Errorf("HELO: %q", got)
	}
}

// TestReplies: one command for each line, and the reply that it must get. No line is a transaction that comes to an end.
func TestReplies(t *testing.T) {
	for name, lines := range map[string][]string{
		"no EHLO": {"MAIL FROM:<a@x.test>|503 5.5.1", "RCPT TO:<b@x.test>|503 5.5.1", "DATA|503 5.5.1"},
		"EHLO without a name": {"EHLO|501 5.5.4", "EHLO two names|501 5.5.4", "EHLO \xc3\xa4|501 5.5.4",
			"MAIL FROM:<a@x.test>|503 5.5.1"},
		"harmless": {"NOOP|250", "NOOP with words|250", "VRFY root|252", "EXPN list|502", "HELP|214",
			"AUTH PLAIN AHgAeA==|502", "RSET|250"},
		"unknown":     {"XYZZY|500", "|500", "MAI|500", "LHLO x|500", "STARTTLSX|500", "RSET now|501"},
		"no STARTTLS": {"EHLO x|250", "STARTTLS|502", "STARTTLS now|501"},
		"second MAIL": {"EHLO x|250", "MAIL FROM:<a@x.test>|250 2.1.0", "RCPT TO:<b@x.test>|250 2.1.5",
			"MAIL FROM:<c@x.test>|503 5.5.1", "RSET|250", "MAIL FROM:<c@x.test>|250"},
		"EHLO resets": {"EHLO x|250", "MAIL FROM:<a@x.test>|250", "RCPT TO:<b@x.test>|250", "EHLO x|250", "DATA|503",
			"MAIL FROM:<c@x.test>|250"},
		"no recipients": {"EHLO x|250", "MAIL FROM:<a@x.test>|250", "DATA|554 5.5.1", "BDAT 0|554 5.5.1", "BDAT 0 LAST|554 5.5.1"},
		"postmaster": {"EHLO x|250", "MAIL FROM:<>|250", "RCPT TO:<postmaster>|250", "RCPT TO:<PostMaster>|250",
			"RCPT TO:<root>|501", "RCPT TO:<>|501"},
		"null sender": {"EHLO x|250", "MAIL FROM:<>|250"},
		"no brackets": {"EHLO x|250", "MAIL FROM:a@x.test|501 5.1.7", "MAIL FROM:<a@x.test|501",
			"MAIL FROM:<a@x.test> |250", "RCPT TO:b@x.test|501 5.1.3"},
		"MAIL is not MAIL": {"EHLO x|250", "MAIL|501", "MAIL TO:<a@x.test>|501", "MAIL FROM <a@x.test>|501",
			"MAIL FROM:<root>|501", "MAIL FROM:<postmaster>|501"},
		"source route": {"EHLO x|250", "MAIL FROM:<@a.test:a@x.test>|553", "MAIL FROM:<a@x.test>|250",
			"RCPT TO:<@a.test,@b.test:b@x.test>|553"},
		"parameters": {"EHLO x|250", "MAIL FROM:<a@x.test> FOO=1|555 5.5.4", "MAIL FROM:<a@x.test> AUTH=<>|555",
			"MAIL FROM:<a@x.test>SIZE=1|501", "MAIL FROM:<a@x.test> SIZE=1 SIZE=1|501", "MAIL FROM:<a@x.test> SIZE=-1|501"},
		"parameter values": {"EHLO x|250", "MAIL FROM:<a@x.test> BODY=BINARYMIME|501", "MAIL FROM:<a@x.test> RET=NO|501",
			"MAIL FROM:<a@x.test> ENVID=|501", "MAIL FROM:<a@x.test> ENVID=+0A|501", "MAIL FROM:<a@x.test> SMTPUTF8=1|501"},
		"RCPT parameters": {"EHLO x|250", "MAIL FROM:<a@x.test>|250", "RCPT TO:<b@x.test> NOTIFY=NEVER,DELAY|501",
			"RCPT TO:<b@x.test> ORCPT=rfc822|501", "RCPT TO:<b@x.test> SIZE=1|555", "RCPT TO:<b@x.test> NOTIFY=NEVER|250"},
		"SIZE over the limit": {"EHLO x|250", "MAIL FROM:<a@x.test> SIZE=52428801|552 5.3.4",
			"MAIL FROM:<a@x.test> SIZE=99999999999999999999|552", "MAIL FROM:<a@x.test> SIZE=52428800|250"},
		"UTF-8 without a word": {"EHLO x|250", "MAIL FROM:<\xc3\xa4@x.test>|553 5.6.7", "MAIL FROM:<\xc3\xa4@x.test> SMTPUTF8|250",
			"RCPT TO:<b@\xc3\xa4.test>|250", "RCPT TO:<\xff@x.test>|500"},
		"UTF-8 recipient":    {"EHLO x|250", "MAIL FROM:<a@x.test>|250", "RCPT TO:<\xc3\xa4@x.test>|553 5.6.7"},
		"DATA with argument": {"EHLO x|250", "MAIL FROM:<a@x.test>|250", "RCPT TO:<b@x.test>|250", "DATA now|501"},
		"control characters": {"EHLO x|250", "MAIL FROM:<a\x00@x.test>|500", "NOOP\x7f|500", "NOOP\rRSET|500", "NOOP\tx|500"},
		"bare LF":            {"NOOP\nNOOP|500", "|250"},
		"web":                {"POST / HTTP/1.1|421"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &backend{t: t}
			c := dial(t, listen(t, newServer(t, relayConfig(), b)))
			c.want(220)
			for _, l := range lines {
				cmd, want, _ := strings.Cut(l, "|")
				if name == "bare LF" && cmd == "" { // the second half of the line before
					c.want(250)
					continue
				}
				c.send(cmd + "\r\n")
				if code, text, err := readReply(c.r); err != nil || !strings.HasPrefix(text, want) {
					t.Fatalf("%q: got %d %q, %v; want %s", cmd, code, text, err, want)
				}
			}
			c.conn.Close()
			for _, m := range b.ended() {
				if m.called {
					t.Error("Data was called")
				}
			}
		})
	}
}

func TestTooManyErrors(t *testing.T) {
	_, c := start(t, relayConfig())
	for range DefaultErrors {
		c.cmd("NONSENSE", 500)
	}
	c.want(421)
	c.closed()
}

func TestUntrustedClient(t *testing.T) {
	for _, cfg := range []Config{relayConfig(), journalConfig()} {
		cfg.TrustedNetworks = []string{"10.0.0.0/8", "2001:db8::/32", "127.0.0.2"}
		b, c := start(t, cfg)
		c.cmd("MAIL FROM:<a@x.test>", 554)
		c.cmd("RCPT TO:<b@x.test>", 503)
		c.cmd("DATA", 503)
		c.send("BDAT 5 LAST\r\nQUIT\n")
		c.want(503)
		c.cmd("QUIT", 221)
		if len(b.ended()) != 0 {
			t.Error("the Handler was asked")
		}
	}
}

func TestPipelining(t *testing.T) {
	b, c := start(t, relayConfig())
	c.send("MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nRCPT TO:<bad>\r\nDATA\r\n")
	c.want(250)
	c.want(250)
	c.want(501)
	c.want(354)
	c.send("one\r\n.\r\nRSET\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n")
	for _, code := range []int{250, 250, 250, 250, 354} {
		c.want(code)
	}
	c.send("two\r\n.\r\nQUIT\r\n")
	c.want(250)
	c.want(221)
	c.closed()
	all := b.ended()
	if len(all) != 2 || string(all[0].body) != "one\r\n" || string(all[1].body) != "two\r\n" {
		t.Errorf("%d messages", len(all))
	}
}

// writeCounter counts the writes that a session costs.
type writeCounter struct {
	*script
	writes int
}

func (w *writeCounter) Write(p []byte) (int, error) { w.writes++; return w.script.Write(p) }

func TestRepliesAreCoalesced(t *testing.T) {
	w := &writeCounter{script: newScript([]byte("EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n.\r\nNOOP\r\nQUIT\r\n"), nil)}
	srv := newServer(t, relayConfig(), &backend{t: t})
	l := newSome(w)
	go srv.Serve(l)
	<-w.closed
	// greeting; EHLO to 354; 250 for the message; the rest
	if w.writes != 4 {
		t.Errorf("%d writes: %q", w.writes, w.out.String())
	}
}

// TestEndOfData: what other servers have taken for the end of data is not one. It is refused, and what follows it is no command.
func TestEndOfData(t *testing.T) {
	const inner = "MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@x.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
	for _, end := range []string{
		"\n.\n", "\n.\r\n", "\n.\r", "\r.\r", "\r.\n", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n.\rX", "\n\n.\r\n", "\r\r\n.\n",
		"\r\n.\r\r\n", "\r\n.\x00\r\n",
		"\r\n\x00.\r\n", "\r\n..\r\n", "\r\n.\r\x00\n", "\r\n. \r\n", "\r\n .\r\n", "\r\n.\n\r\n", "\r\n.\n.\n", "\n.\n\n",
		"\r\n.\r.\r\n", "\u0085.\u0085", "\r\n.\u2028",
	} {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			wire := "Subject: a\r\n\r\nx" + end + inner + ".\r\n"
			want, rest, ok := unstuff([]byte(wire))
			if !ok || len(rest) > 0 {
				t.Fatal("the test itself is wrong")
			}
			bare := strings.Count(string(want), "\r") != strings.Count(string(want), "\r\n") ||
				strings.Count(string(want), "\n") != strings.Count(string(want), "\r\n")

			b, c := start(t, relayConfig())
			code := 250
			if bare {
				code = 550
			}
			if text := c.data(wire, code); bare && !strings.HasPrefix(text, "550 5.5.2 ") {
				t.Errorf("reply %q", text)
			}
			c.cmd("NOOP", 250)
			if m := b.only(); m.whole() == bare || !bare && !bytes.Equal(m.body, want) {
				t.Errorf("kept %v: %q", m.whole(), m.body)
			}

			b, c = start(t, journalConfig())
			c.data(wire, 250)
			c.cmd("NOOP", 250)
			if m := b.only(); !m.whole() || !bytes.Equal(m.body, want) || (m.bareCR+m.bareLF > 0) != bare {
				t.Errorf("kept %v: %q", m.whole(), m.body)
			}
		})
	}
}

// TestCRBeforeEnd: a body that ends in a bare CR does not hide the end of data.
func TestCRBeforeEnd(t *testing.T) {
	_, c := start(t, relayConfig())
	c.data("x\r\r\n.\r\n", 550)
	c.data("x\r\n.\r\n", 250)
	b, c := start(t, journalConfig())
	c.data("x\r\r\n.\r\n", 250)
	if m := b.only(); string(m.body) != "x\r\r\n" || m.bareCR != 1 || m.bareLF != 0 {
		t.Errorf("%q, CR %d, LF %d", m.body, m.bareCR, m.bareLF)
	}
}

func TestBodyIsExact(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	b, c := start(t, journalConfig())
	var want []string
	for range 200 {
		body := randomBody(r)
		want = append(want, body)
		if r.IntN(2) == 0 {
			c.data(stuff(body), 250)
			continue
		}
		c.envelope()
		for rest := body; ; {
			n := r.IntN(len(rest) + 1)
			last := ""
			if n == len(rest) {
				last = " LAST"
			}
			c.send(fmt.Sprintf("BDAT %d%s\r\n%s", n, last, rest[:n]))
			c.want(250)
			if rest = rest[n:]; last != "" {
				break
			}
		}
	}
	for i, m := range b.ended() {
		if !m.whole() || string(m.body) != want[i] {
			t.Fatalf("message %d: whole %v, %q; want %q", i, m.whole(), m.body, want[i])
		}
	}
}

// TestTruncated: a session that breaks off at any byte before its end leaves nothing that was whole.
func TestTruncated(t *testing.T) {
	const head = "EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n"
	for _, all := range []string{
		head + "DATA\r\nSubject: x\r\n\r\n..\r\nbody\r\n.\r\n",
		head + "BDAT 14\r\nSubject: x\r\n\r\nBDAT 0\r\nBDAT 6 LAST\r\nbody\r\n",
		head + "BDAT 6\r\nbody\r\nBDAT 0 LAST\r\n",
	} {
		for _, cfg := range []Config{relayConfig(), journalConfig()} {
			for n := range len(all) + 1 {
				b := &backend{t: t}
				out := play(t, newServer(t, cfg, b), []byte(all[:n]), []byte{byte(n % 5)})
				for _, m := range b.ended() {
					if m.whole() != (n == len(all)) {
						t.Fatalf("cut at %d, whole %v, body %q, server %q", n, m.whole(), m.body, out)
					}
					if m.called && !m.whole() && m.bodyErr == nil {
						t.Fatalf("cut at %d: no error", n)
					}
				}
			}
		}
	}
}

func TestChunks(t *testing.T) {
	relay, journal := relayConfig(), journalConfig()
	const mail = "EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n"
	for name, tc := range map[string]struct {
		cfg   Config
		in    string
		codes string // after those of mail
		body  string // "-": nothing whole
	}{
		"one":             {relay, "BDAT 6 LAST\r\nbody\r\nQUIT\r\n", "250 221", "body\r\n"},
		"pipelined":       {relay, "BDAT 2\r\nboBDAT 4\r\ndy\r\nBDAT 0 LAST\r\nNOOP\r\n", "250 250 250 250", "body\r\n"},
		"lower case":      {relay, "bdat 2 last\r\n\r\n", "250", "\r\n"},
		"empty":           {relay, "BDAT 0 LAST\r\n", "250", ""},
		"dots are no end": {relay, "BDAT 10 LAST\r\nx\r\n.\r\n..\r\nNOOP\r\n", "250 250", "x\r\n.\r\n..\r\n"},
		"no final CRLF":   {relay, "BDAT 4 LAST\r\nbodyNOOP\r\n", "550 250", "-"},
		"bare LF":         {relay, "BDAT 5\r\nbody\nBDAT 2 LAST\r\n\r\nNOOP\r\n", "550 503 250", "-"},
		"binary":          {journal, "BDAT 6\r\na\x00\r\xff\n.BDAT 1 LAST\r\n\rNOOP\r\n", "250 250 250", "a\x00\r\xff\n.\r"},
		"RSET between":    {relay, "BDAT 3\r\nabcRSET\r\nNOOP\r\n", "250 250 250", "-"},
		"QUIT between":    {relay, "BDAT 3\r\nabcQUIT\r\nNOOP\r\n", "250 221", "-"},
		"EHLO between":    {relay, "BDAT 3\r\nabcEHLO y\r\nDATA\r\n", "250 250 503", "-"},
		"NOOP between":    {relay, "BDAT 3\r\nabcNOOP\r\nBDAT 2 LAST\r\n\r\n", "250 250 250", "abc\r\n"},
		"DATA between": {relay, "BDAT 3\r\nabcDATA\r\nMAIL FROM:<c@x.test>\r\nBDAT 2 LAST\r\n\r\n", "250 503 503 250",
			"abc\r\n"},
		"nonsense between":      {relay, "BDAT 3\r\nabcno\n\r\nBDAT 2 LAST\r\n\r\n", "250 500 503 250", "abc\r\n"},
		"no size":               {relay, "BDAT\r\nNOOP\r\n", "501", "-"},
		"bad size":              {relay, "BDAT -1\r\nNOOP\r\n", "501", "-"},
		"huge size":             {relay, "BDAT 99999999999999999999\r\nNOOP\r\n", "501", "-"},
		"bad LAST":              {relay, "BDAT 6 LEAST\r\nNOOP\r\n", "501", "-"},
		"bad size between":      {relay, "BDAT 3\r\nabcBDAT x\r\nNOOP\r\n", "250 501", "-"},
		"not in order":          {relay, "RSET\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "250 503 250", "-"},
		"not in order and big":  {relay, "RSET\r\nBDAT 52428801 LAST\r\nQUIT\r\nNOOP\r\n", "250 503", "-"},
		"journal, no CRLF":      {journal, "BDAT 4 LAST\r\nbodyNOOP\r\n", "250 250", "body"},
		"journal, DATA between": {journal, "BDAT 3\r\nabcDATA\r\nBDAT 0 LAST\r\n", "250 451 250", "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, sizes := range [][]byte{nil, {0}, {2, 6}} {
				b := &backend{t: t}
				out := play(t, newServer(t, tc.cfg, b), []byte(mail+tc.in), sizes)
				if got := codes(t, out); got != "220 250 250 250 "+tc.codes {
					t.Fatalf("got %s, want %s: %q", got, tc.codes, out)
				}
				m := b.ended()[0]
				if m.whole() != (tc.body != "-") || m.whole() && string(m.body) != tc.body {
					t.Fatalf("whole %v: %q", m.whole(), m.body)
				}
			}
		})
	}
}

// codes are those of a transcript.
func codes(t testing.TB, out []byte) string {
	t.Helper()
	var list []string
	for r := reader(out); ; {
		code, _, err := readReply(r)
		if errors.Is(err, io.EOF) {
			return strings.Join(list, " ")
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprint(code))
	}
}

func TestOversize(t *testing.T) {
	big := strings.Repeat("0123456789abcdef0123456789abcd\r\n", 4096) // 128 KiB
	for _, tc := range []struct {
		cfg   Config
		reply string
	}{{relayConfig(), "552 5.3.4"}, {journalConfig(), "452 4.3.1"}} {
		tc.cfg.MaxMessageSize = int64(len(big))
		reg := prometheus.NewPedanticRegistry()
		b := &backend{t: t}
		srv, err := New(tc.cfg, b, nil, reg)
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, listen(t, srv))
		c.want(220)
		c.cmd("EHLO x", 250)
		for _, send := range []func() string{
			func() string { return c.data(big+".\r\n", 250) },
			func() string { c.envelope(); c.cmd("DATA", 354); c.send(big + "x\r\n.\r\n"); return "" },
			func() string {
				c.envelope()
				c.send(fmt.Sprintf("BDAT %d LAST\r\n%sx", len(big)+1, big))
				return ""
			},
			func() string { c.send(fmt.Sprintf("MAIL FROM:<a@x.test> SIZE=%d\r\n", len(big)+1)); return "" },
		} {
			if send() != "" {
				continue
			}
			if _, text, err := readReply(c.r); err != nil || !strings.HasPrefix(text, tc.reply) {
				t.Errorf("%q, %v; want %s", text, err, tc.reply)
			}
		}
		c.cmd("NOOP", 250)
		all := b.ended()
		if len(all) != 3 || !all[0].whole() || all[1].whole() || all[2].whole() {
			t.Error("what was kept is not what was accepted")
		}
		oversize := testutil.ToFloat64(srv.messages.WithLabelValues("oversize"))
		if want := map[string]float64{record.ModeJournal: 3}[tc.cfg.Mode]; oversize != want {
			t.Errorf("oversize counted %v times, want %v", oversize, want)
		}
	}
}

func TestLongLines(t *testing.T) {
	_, c := start(t, relayConfig())
	c.send("NOOP " + strings.Repeat("x", maxCommand-7) + "\r\n")
	c.want(250)
	c.send("NOOP " + strings.Repeat("x", maxCommand-6) + "\r\n")
	c.want(500)
	c.send(strings.Repeat("x", 300<<10) + "\r\n")
	c.want(500)
	c.data(strings.Repeat("x", maxLine-2)+"\r\n.\r\n", 250)
	c.data(strings.Repeat("x", maxLine-1)+"\r\n.\r\n", 554)
	c.cmd("QUIT", 221)

	_, c = start(t, journalConfig())
	c.data(strings.Repeat("x", 2*maxLine)+"\r\n.\r\n", 250)
}

func TestLoop(t *testing.T) {
	loop := strings.Repeat("Received: from a by b\r\n", maxReceived+1) + "\r\n.\r\n"
	_, c := start(t, relayConfig())
	if text := c.data(loop, 554); !strings.HasPrefix(text, "554 5.4.6 ") {
		t.Error(text)
	}
	_, c = start(t, journalConfig())
	c.data(loop, 250)
}

func TestRecipientLimit(t *testing.T) {
	cfg := relayConfig()
	cfg.MaxRecipients = 100
	_, c := start(t, cfg)
	c.cmd("MAIL FROM:<a@x.test>", 250)
	for i := range 100 {
		c.cmd(fmt.Sprintf("RCPT TO:<b%d@x.test>", i), 250)
	}
	c.cmd("RCPT TO:<c@x.test>", 452)
	c.cmd("DATA", 354)
	c.send(".\r\n")
	c.want(250)
}

// TestAnswers: what a Handler returns, and what the client then hears.
func TestAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		reply   *nexthop.Reply
		err     error
		relay   string
		journal string
		outcome string // in relay mode
	}{
		"ours": {nil, nil, "250 2.0.0 OK ", "250 2.0.0 OK ", "kept"},
		"word for word": {&nexthop.Reply{Code: 250, Lines: []string{"2.0.0 Ok: queued as 4ABC"}},
			nil, "250 2.0.0 Ok: queued as 4ABC", "250 2.0.0 Ok: queued as 4ABC", "delivered"},
		"without a code": {&nexthop.Reply{Code: 250, Lines: []string{"fine"}}, nil, "250 fine", "250 fine", "delivered"},
		"many lines": {&nexthop.Reply{Code: 250, Lines: []string{"2.0.0 one", "2.6.0 two"}},
			nil, "250-2.0.0 one\n250 2.6.0 two", "250-2.0.0 one\n250 2.6.0 two", "delivered"},
		"no lines": {&nexthop.Reply{Code: 250}, nil, "250 ", "250 ", "delivered"},
		"refused": {nil, fmt.Errorf("next hop: %w", &nexthop.Reply{Code: 550, Lines: []string{"5.7.1 spam",
			"5.7.1 go away"}}), "550-5.7.1 spam\n550 5.7.1 go away", "451 4.3.0 ", "refused"},
		"deferred": {nil, &nexthop.Reply{Code: 450, Lines: []string{"4.2.0 greylisted"}}, "450 4.2.0 greylisted",
			"450 4.2.0 greylisted", "deferred"},
		"tricks":        {nil, &nexthop.Reply{Code: 550, Lines: []string{"a\r250 b\x00"}}, "550 a?250 b?", "451 4.3.0 ", "refused"},
		"not an error":  {nil, &nexthop.Reply{Code: 250, Lines: []string{"ok"}}, "451 4.3.0 ", "451 4.3.0 ", "deferred"},
		"not a success": {&nexthop.Reply{Code: 550, Lines: []string{"5.7.1 no"}}, nil, "550 5.7.1 no", "451 4.3.0 ", "refused"},
		"not a reply":   {&nexthop.Reply{Code: 354, Lines: []string{"go"}}, nil, "451 4.3.0 ", "451 4.3.0 ", "deferred"},
		"ours, a fault": {nil, errors.New("secret path /var/lib"), "451 4.3.0 Temporary fault here, try again later", "451 4.3.0 ",
			"deferred"},
		"full":         {nil, fmt.Errorf("x: %w", spool.ErrFull), "452 4.3.1 ", "452 4.3.1 ", "deferred"},
		"no space":     {nil, spool.ErrNoSpace, "452 4.3.1 ", "452 4.3.1 ", "deferred"},
		"failed":       {nil, spool.ErrFailed, "451 4.3.0 ", "451 4.3.0 ", "deferred"},
		"no next hop":  {nil, nexthop.ErrUnavailable, "451 4.4.1 ", "451 4.4.1 ", "deferred"},
		"unknown":      {nil, nexthop.ErrUnknown, "451 4.4.2 ", "451 4.4.2 ", "deferred"},
		"no SMTPUTF8":  {nil, nexthop.ErrNoSMTPUTF8, "553 5.6.7 ", "451 4.6.7 ", "refused"},
		"next too big": {nil, nexthop.ErrTooBig, "552 5.3.4 ", "452 4.3.1 ", "refused"},
		"path":         {nil, nexthop.ErrPath, "553 5.1.3 ", "451 4.1.3 ", "refused"},
		"smuggling":    {nil, nexthop.ErrBareNewline, "550 5.5.2 ", "451 4.5.2 ", "refused"},
		"stopped":      {nil, context.Canceled, "421 4.3.2 ", "421 4.3.2 ", "deferred"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, cfg := range []Config{relayConfig(), journalConfig()} {
				b := &backend{t: t, data: func(_ context.Context, m *message, body *Body) (*nexthop.Reply, error) {
					m.keep(body)
					return tc.reply, tc.err
				}}
				srv := newServer(t, cfg, b)
				c := dial(t, listen(t, srv))
				c.want(220)
				c.cmd("EHLO x", 250)
				c.envelope()
				c.cmd("DATA", 354)
				c.send("x\r\n.\r\n")
				want, outcome := tc.relay, tc.outcome
				if cfg.Mode == record.ModeJournal {
					want = tc.journal
					if outcome == "refused" {
						outcome = "deferred"
					}
				}
				_, text, err := readReply(c.r)
				if err != nil || !strings.HasPrefix(text, want) {
					t.Errorf("%q, %v; want %q", text, err, want)
				}
				if n := testutil.ToFloat64(srv.messages.WithLabelValues(outcome)); n != 1 {
					t.Errorf("%s counted %v times", outcome, n)
				}
				if strings.HasPrefix(want, "421") {
					c.closed()
				} else {
					c.cmd("NOOP", 250)
				}
				b.only()
			}
		})
	}
}

// TestRefusedBeforeData: MAIL and RCPT take the Handler's errors the same way.
func TestRefusedBeforeData(t *testing.T) {
	b := &backend{t: t,
		mail: func(m *message) error {
			if m.from.Address == "full@x.test" {
				return spool.ErrFull
			}
			return nil
		},
		rcpt: func(_ *message, to record.Path) error {
			if to.Address == "b@x.test" {
				return &nexthop.Reply{Code: 550, Lines: []string{"5.1.1 nobody", "5.1.1 of that name"}}
			}
			return nil
		}}
	for _, cfg := range []Config{relayConfig(), journalConfig()} {
		c := dial(t, listen(t, newServer(t, cfg, b)))
		c.want(220)
		c.cmd("EHLO x", 250)
		c.cmd("MAIL FROM:<full@x.test>", 452)
		c.cmd("MAIL FROM:<a@x.test>", 250)
		if cfg.Mode == record.ModeJournal {
			c.cmd("RCPT TO:<b@x.test>", 451)
			c.cmd("RCPT TO:<bad>", 451)
			c.cmd("NONSENSE", 451)
			c.cmd("DATA", 451)
		} else {
			if text := c.cmd("RCPT TO:<b@x.test>", 550); text != "550-5.1.1 nobody\n550 5.1.1 of that name" {
				t.Error(text)
			}
			c.cmd("DATA", 554)
		}
		c.cmd("RCPT TO:<c@x.test>", 250)
		c.cmd("DATA", 354)
		c.send("x\r\n.\r\n")
		c.want(250)
	}
}

// TestHandlerStopsEarly: what the Handler did not read is read for it, and 250 is not said for what it did not read.
func TestHandlerStopsEarly(t *testing.T) {
	for _, answer := range []error{nil, spool.ErrNoSpace} {
		b := &backend{t: t, data: func(context.Context, *message, *Body) (*nexthop.Reply, error) { return nil, answer }}
		c := dial(t, listen(t, newServer(t, relayConfig(), b)))
		c.want(220)
		c.cmd("EHLO x", 250)
		want := 451
		if answer != nil {
			want = 452
		}
		c.data(strings.Repeat("line\r\n", 50000)+".\r\n", want)
		c.envelope()
		c.send("BDAT 3\r\nabc")
		c.want(want)
		c.send("BDAT 3 LAST\r\nabc")
		c.want(503)
		c.cmd("NOOP", 250)
	}
}

func TestPanic(t *testing.T) {
	b := &backend{t: t, data: func(context.Context, *message, *Body) (*nexthop.Reply, error) { panic("test") }}
	srv := newServer(t, relayConfig(), b)
	c := dial(t, listen(t, srv))
	c.want(220)
	c.cmd("EHLO x", 250)
	c.envelope()
	c.cmd("DATA", 354)
	c.want(421)
	c.closed()
	if m := b.only(); len(m.replied) != 1 {
		t.Error("Replied was not called")
	}
}

func TestConcurrentSessions(t *testing.T) {
	b := &backend{t: t}
	address := listen(t, newServer(t, relayConfig(), b))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			c := dial(t, address)
			c.want(220)
			c.cmd("EHLO x", 250)
			for j := range 10 {
				c.data(stuff(fmt.Sprintf("Subject: %d-%d\r\n\r\n%s", i, j, strings.Repeat(".x\r\n", i*100))), 250)
			}
			c.cmd("QUIT", 221)
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, m := range b.ended() {
		if !m.whole() {
			t.Fatal("a message is not whole")
		}
		seen[strings.SplitN(string(m.body), "\r\n", 2)[0]] = true
	}
	if len(seen) != 160 {
		t.Errorf("%d messages", len(seen))
	}
}
