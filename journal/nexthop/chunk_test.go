package nexthop

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

var hostile = []string{
	"", "\n", "\r", "a", "a\nb\r\n", "a\rb\r\n", "a\n.\n", "\r\n.\r\n", "a\r\n.\rb", ".", "a\r", "a\n.\r\nMAIL FROM:<x@y>\r\n",
	"a\r\n.\nb", "\x00\r\x00\n\xff", strings.Repeat("line\n", 40000), strings.Repeat("\r", bodyBuffer), strings.Repeat("x", bodyBuffer*2),
}

// Bytes of any kind arrive as they are by BDAT, however they were cut.
func TestBareNewlinesByBDAT(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	h := hoptest.New(t)
	h.Caps = append(h.Caps, "CHUNKING")
	p := newPool(t, Options{})
	bodies := slices.Clone(hostile)
	for range 30 {
		b := make([]byte, rng.IntN(3*bodyBuffer))
		for i := range b {
			b[i] = "\r\n.ab\x00"[rng.IntN(6)]
		}
		bodies = append(bodies, string(b))
	}
	for i, body := range bodies {
		var pieces []string
		for rest := body; rest != ""; {
			n := 1 + rng.IntN(len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		s := send(t.Context(), p, target(h), Mail{From: from, BareNewlines: true}, []record.Path{to}, pieces...)
		if s.err != nil || s.reply.Code != 250 || s.d.Outcome != record.Delivered {
			t.Fatalf("%.80q: %v %v", body, s.reply, s.err)
		}
		checkSent(t, s, h.Messages()[i], body)
	}
	if h.Conns() != 1 {
		t.Errorf("%d connections", h.Conns())
	}
}

// Without CHUNKING such a body is refused for good, hung up on inside the message, and a clean one goes by DATA.
func TestBareNewlinesWithoutChunking(t *testing.T) {
	h := hoptest.New(t)
	p := newPool(t, Options{})
	for _, body := range hostile {
		if body == "" || body == "\r\n.\r\n" {
			continue
		}
		for _, declared := range []bool{true, false} {
			s := send(t.Context(), p, target(h), Mail{From: from, BareNewlines: declared}, []record.Path{to}, body)
			if !errors.Is(s.err, ErrBareNewline) || errors.Is(s.err, ErrUnavailable) || s.d.Outcome != record.Refused {
				t.Errorf("%.80q: %v %v", body, s.reply, s.err)
			}
		}
	}
	if h.Dots() != 0 {
		t.Fatalf("%d messages", h.Dots())
	}
	s := send(t.Context(), p, target(h), Mail{From: from, BareNewlines: true}, []record.Path{to}, "a\r\n.\r\n")
	if s.err != nil {
		t.Fatal(s.err)
	}
	checkSent(t, s, h.Messages()[0], "a\r\n.\r\n")
}

// What a server may do to a message by BDAT.
func TestBDATRefused(t *testing.T) {
	large := strings.Repeat("x\n", bodyBuffer)
	for _, tc := range []struct {
		name    string
		body    string
		last    bool // the answer is to the last chunk
		answer  string
		want    string
		outcome record.Outcome
	}{
		{"chunk", large, false, "552 5.3.4 too big", "552 5.3.4 too big", record.Refused},
		{"chunk for now", large, false, "451 4.3.0 later", "451 4.3.0 later", record.Refused},
		{"chunk 421", large, false, "421 4.3.2 going down" + hoptest.Drop, "421 4.3.2 going down", record.Refused},
		{"chunk dropped", large, false, hoptest.Drop, "unavailable", record.Refused},
		{"chunk garbage", large, false, "hello", "unavailable", record.Refused},
		{"last", "a\nb", true, "554 5.7.1 spam", "554 5.7.1 spam", record.Refused},
		{"last of many", large, true, "451 4.7.1 later", "451 4.7.1 later", record.Refused},
		{"last dropped", "a\nb", true, hoptest.Drop, "unknown", record.Unknown},
		{"last 354", "a\nb", true, "354 more", "unknown", record.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := hoptest.New(t)
			h.Caps = append(h.Caps, "CHUNKING")
			h.Answer = func(_ int, verb, line string) string {
				if verb == "BDAT" && strings.HasSuffix(line, " LAST") == tc.last {
					return tc.answer
				}
				return ""
			}
			s := send(t.Context(), newPool(t, Options{}), target(h), Mail{From: from, BareNewlines: true}, []record.Path{to}, tc.body)
			err := s.err
			if err == nil {
				err = s.reply
			}
			checkError(t, "Finish", err, tc.want)
			if s.d.Outcome != tc.outcome || (h.Dots() > 0) != tc.last {
				t.Errorf("%s, %d messages", s.d.Outcome, h.Dots())
			}
		})
	}
}

// Close inside a message by BDAT sends no LAST.
func TestBDATClosed(t *testing.T) {
	h := hoptest.New(t)
	h.Caps = append(h.Caps, "CHUNKING")
	p := newPool(t, Options{})
	tx := p.Begin(To(target(h)), Mail{From: from, BareNewlines: true})
	if err := tx.Rcpt(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	tx.Data(t.Context(), trace)
	tx.Write(bytes.Repeat([]byte("a\n"), bodyBuffer))
	tx.Close()
	waitFor(t, func() bool { return slices.Contains(h.Log(), "1: EOF") })
	if h.Dots() != 0 || strings.Contains(strings.Join(h.Log(), "\n"), "LAST") {
		t.Errorf("%q", h.Log())
	}
}
