package smtpd

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// ways are the kinds of listener that FuzzSession has, and of clients that speak to them.
const ways = 12

// way is one of them: each mode, with bare newlines refused and accepted, behind nothing, a PROXY header of either version, or with the
// right to say XCLIENT.
func way(how byte) (cfg Config, header string) {
	cfg = relayConfig()
	cfg.TrustedNetworks = append(cfg.TrustedNetworks, "192.0.2.0/24")
	cfg.XClientNetworks = []string{"127.0.0.0/8"}
	cfg.Mode = []string{record.ModeRelay, record.ModeQueue, record.ModeJournal}[how%3]
	switch how % ways / 3 {
	case 1:
		cfg.ProxyNetworks = []string{"127.0.0.0/8"}
		header = "PROXY TCP4 192.0.2.7 127.0.0.1 4660 25\r\n"
	case 2:
		cfg.ProxyNetworks, cfg.BareNewline.Default = []string{"127.0.0.0/8"}, "accept"
		header = withSum(0x21, 0x11, proxy4, 0)
	case 3:
		cfg.BareNewline.Default = "accept"
	}
	return cfg, header
}

// FuzzSession plays whole sessions over a pipe, written in pieces of any size, and follows them with a second, plain reading of the protocol: each line
// has one reply, and what the server has told a client that it took is, byte for byte and in order, what the Handler was given.
func FuzzSession(f *testing.F) {
	const mail = "EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n"
	for _, s := range []string{
		mail + "DATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
		mail + "DATA\r\na\n.\r\nMAIL FROM:<c@x.test>\r\n.\r\nNOOP\r\n",
		mail + "DATA\r\na\r\n.\rX\r\n\r\r\n.\r\nRSET\r\n" + mail + "DATA\r\n.\r\n",
		mail + "BDAT 5\r\na\r\nb\nBDAT 2 LAST\r\n\r\nNOOP\r\n" + mail + "BDAT 3 LAST\r\n.\r\n",
		mail + "BDAT 3\r\nabcNOOP\r\nDATA\r\nRSET\r\n" + mail + "BDAT 0 LAST\r\n",
		mail + "BDAT 3\r\nabcBDAT x\r\n",
		"BDAT 3\r\nabcHELO x\r\nmail from:<> SMTPUTF8\r\nrcpt to:<\"a b\"@x>\r\ndata\r\n.\r\n",
		"STARTTLS\r\nXX\r\n\r\n\n\n\nNOOP\nNOOP\r\n" + strings.Repeat("Q\r\n", 12),
		mail + "DATA\r\n" + strings.Repeat("Received: x\r\n", 60) + "\r\n.\r\n",
		"EHLO x\r\nXCLIENT ADDR=192.0.2.9 HELO=y PROTO=ESMTP\r\n" + mail[8:] + "DATA\r\nx\r\n.\r\nXFORWARD ADDR=198.51.100.1 IDENT=7\r\n" + mail + "BDAT 2 LAST\r\n\r\n",
		mail + "XCLIENT ADDR=192.0.2.9\r\nRSET\r\nXCLIENT ADDR=198.51.100.1\r\n" + mail + "DATA\r\nNOOP\r\n",
		mail + "XCLIENT LOGIN=x\r\nBDAT 1\r\n.XCLIENT LOGIN=x\r\nBDAT 3 LAST\r\n\r\n.",
		mail + "DATA\r\n" + strings.Repeat("0123456789\r\n", 200) + ".\r\n" + mail + "BDAT 2400 LAST\r\n" + strings.Repeat("0123456789\n\r", 200),
		"GET / HTTP/1.1\r\n" + mail + "DATA\r\n.\r\n",
	} {
		for how := range byte(ways) {
			f.Add([]byte(s), []byte(nil), how)
			f.Add([]byte(s), []byte{0, 3, 40}, how)
		}
	}
	f.Fuzz(func(t *testing.T, in, sizes []byte, how byte) {
		cfg, header := way(how)
		b := &backend{t: t}
		out := playPipe(t, newServer(t, cfg, b), append([]byte(header), in...), sizes)
		want := follow(t, in, out, cfg.Mode == record.ModeJournal)
		var got [][]byte
		for _, m := range b.ended() {
			if m.whole() {
				got = append(got, m.body)
			} else if m.called && m.bodyErr == nil {
				t.Fatal("a body ended in nothing")
			}
		}
		if len(got) != len(want) {
			t.Fatalf("the Handler has %d whole messages, the client was told of %d: %q, %q", len(got), len(want), in, out)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("message %d: kept %q, sent %q", i, got[i], want[i])
			}
		}
	})
}

// follow reads what a client sent beside what it was answered, and returns the messages that it was told were taken.
func follow(t *testing.T, in, out []byte, journal bool) (taken [][]byte) {
	replies := reader(out)
	inMail := false
	reply := func() int {
		code, text, err := readReply(replies)
		if errors.Is(err, io.EOF) {
			return 0
		} else if err != nil {
			t.Fatal(err)
		}
		if journal && inMail && code >= 500 {
			t.Fatalf("a journal listener said %q after MAIL: %q", text, in)
		}
		return code
	}
	if code := reply(); code != 220 {
		t.Fatalf("greeting %d", code)
	}
	var chunks []byte // of the message under way
	for len(in) > 0 {
		line, rest, ok := bytes.Cut(in, []byte("\n"))
		if !ok {
			break
		}
		in = rest
		text := strings.TrimSuffix(string(line), "\r")
		verb, arg, _ := strings.Cut(text, " ")
		verb = strings.ToUpper(verb)
		clean := len(text) < len(line) && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
		if !clean || len(line) >= maxCommand {
			verb = ""
		}
		var chunk []byte
		if verb == "BDAT" {
			words := strings.Split(strings.Trim(arg, " "), " ")
			n, err := strconv.ParseInt(words[0], 10, 64)
			if err != nil || words[0][0] == '+' || n > int64(len(in)) {
				break // the session ends here, with or without a word
			}
			chunk, in = in[:n], in[n:]
		}
		code := reply()
		if code == 0 || code == 421 || verb == "QUIT" && code == 221 {
			break
		}
		switch {
		case verb == "MAIL" && code == 250:
			inMail = true
		case verb == "XCLIENT" && code == 220:
			inMail, chunks = false, nil
		case (verb == "RSET" || verb == "EHLO" || verb == "HELO") && code == 250:
			inMail, chunks = false, nil
		case verb == "DATA" && code == 354:
			body, rest, ok := unstuff(in)
			if !ok {
				in = nil
				break
			}
			if reply() == 250 {
				taken = append(taken, body)
			}
			in, inMail = rest, false
		case verb == "BDAT" && code == 250 && strings.HasSuffix(strings.ToUpper(strings.TrimRight(arg, " ")), " LAST"):
			taken = append(taken, append(chunks, chunk...))
			chunks, inMail = nil, false
		case verb == "BDAT" && code == 250:
			chunks = append(chunks, chunk...)
		case verb == "BDAT":
			chunks, inMail = nil, false
		}
	}
	for {
		code := reply()
		switch code {
		case 0:
			return taken
		case 421, 501, 451: // a BDAT that can't be understood, and 451 for it in journal mode
		default:
			t.Fatalf("reply %d to nothing: %q, %q", code, in, out)
		}
	}
}

// FuzzProxy: a header is taken whole or not at all, however it comes in, and names an address or none.
func FuzzProxy(f *testing.F) {
	for _, tc := range proxyHeaders {
		f.Add([]byte(tc.header + "EHLO x\r\n"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, n, err := parseProxy(b)
		if n < 0 || n > len(b) || n > 16+maxProxyHeader || err == nil && n == 0 && len(b) > 16+maxProxyHeader {
			t.Fatalf("%q: %d, %v", b, n, err)
		}
		if err != nil {
			return
		}
		for cut := range n {
			if _, m, err := parseProxy(b[:cut]); m != 0 || err != nil {
				t.Fatalf("%q: after %d bytes: %d, %v", b[:n], cut, m, err)
			}
		}
		if q, m, err := parseProxy(append(b[:n:n], "anything else"...)); n > 0 && (q != p || m != n || err != nil) {
			t.Fatalf("%q: with other bytes behind it: %v, %d, %v", b[:n], q, m, err)
		}
		if p.client.IsValid() && p.client.Addr().Zone() != "" {
			t.Fatalf("%q: %v", b[:n], p.client)
		}
	})
}

// FuzzAttributes: what is taken of XCLIENT and XFORWARD holds nothing that could break a line or a header.
func FuzzAttributes(f *testing.F) {
	for _, s := range []string{"ADDR=192.0.2.1 NAME=[UNAVAILABLE]", "ADDR=IPV6:2001:db8::1 PORT=25 PROTO=ESMTP HELO=a+2Bb", "LOGIN=a+40b IDENT=x SOURCE=LOCAL"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, offered := range []string{xclientAttributes, xforwardAttributes} {
			found, err := parseAttributes(s, offered)
			if err != nil {
				continue
			}
			for name, a := range found {
				if strings.ContainsFunc(a.text, func(r rune) bool { return r < ' ' || r > '~' }) || len(a.text) > 255 || !strings.Contains(offered+" ", " "+name+" ") {
					t.Fatalf("%q: %s=%q", s, name, a.text)
				}
				if name == "ADDR" && a.text != "" && !parseXAddr(a.text).IsValid() {
					t.Fatalf("%q: %s=%q", s, name, a.text)
				}
			}
		}
	})
}
