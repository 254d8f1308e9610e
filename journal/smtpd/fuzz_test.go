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

// FuzzSession plays whole sessions, cut into reads of any size, and follows them with a second, plain reading of the protocol: each line
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
		"GET / HTTP/1.1\r\n" + mail + "DATA\r\n.\r\n",
	} {
		for _, journal := range []bool{false, true} {
			f.Add([]byte(s), []byte(nil), journal)
			f.Add([]byte(s), []byte{0, 3, 40}, journal)
		}
	}
	f.Fuzz(func(t *testing.T, in, sizes []byte, journal bool) {
		cfg := relayConfig()
		if journal {
			cfg.Mode = record.ModeJournal
		}
		b := &backend{t: t}
		out := play(t, newServer(t, cfg, b), in, sizes)
		want := follow(t, in, out, journal)
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
