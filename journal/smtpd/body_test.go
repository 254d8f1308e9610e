package smtpd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// randomBody has far more of what is difficult than mail has.
func randomBody(r *rand.Rand) string {
	parts := []string{"\r", "\n", "\r\n", ".", "..", "\x00", "a", "\xff", "Received: x\r\n", "\r\n.\r\n", "\r\n.", "\n.\n",
		".\r", "text of a line"}
	var b strings.Builder
	for range r.IntN(30) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "\r\n") {
		b.WriteString("\r\n")
	}
	return b.String()
}

// feedAll runs an unstuffer over wire, in pieces of random size into buffers of random size.
func feedAll(r *rand.Rand, wire []byte) (body []byte, rest []byte, done bool) {
	u := newUnstuffer()
	read, used := 0, 0
	for !u.done {
		dst := make([]byte, 1+r.IntN(7))
		n, k := u.next(dst, wire[used:read])
		body = append(body, dst[:n]...)
		used += k
		if n == 0 && !u.done {
			if read == len(wire) {
				return body, wire[used:], false
			}
			read = min(read+1+r.IntN(5), len(wire))
		}
	}
	return body, wire[used:], true
}

func TestUnstufferIsExact(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 20000 {
		body := randomBody(r)
		wire := stuff(body)
		got, rest, done := feedAll(r, []byte(wire+"NOOP\r\n"))
		if !done || string(got) != body || string(rest) != "NOOP\r\n" {
			t.Fatalf("wire %q: got %q, rest %q, done %v; want %q", wire, got, rest, done, body)
		}
	}
}

func FuzzUnstuffer(f *testing.F) {
	for _, s := range []string{".\r\n", "\r\n.\r\n", "a\r\n.\rX\r\n.\r\n", "a\r\r\n.\r\n", "a\n.\r\nb\r\n.\r\n",
		"..a\r\n...\r\n.\r\nrest", ".\r.\r\n.\r\n"} {
		f.Add([]byte(s), uint64(1))
	}
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64) {
		got, rest, done := feedAll(rand.New(rand.NewPCG(seed, 1)), wire)
		body, after, ok := unstuff(wire)
		if done != ok || ok && (!bytes.Equal(got, body) || !bytes.Equal(rest, after)) {
			t.Fatalf("wire %q: got %q, %q, %v; want %q, %q, %v", wire, got, rest, done, body, after, ok)
		}
	})
}

// TestCensus compares with counts that are made byte by byte.
func TestCensus(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 20000 {
		s := strings.TrimSuffix(randomBody(r), strings.Repeat("\r\n", r.IntN(2)))
		b := NewBody(iotest.OneByteReader(strings.NewReader(s)))
		if r.IntN(2) == 0 {
			b = NewBody(strings.NewReader(s))
		}
		if _, err := io.Copy(io.Discard, onlyReader{b}); err != nil {
			t.Fatal(err)
		}
		crlf := strings.Count(s, "\r\n")
		cr, lf := strings.Count(s, "\r")-crlf, strings.Count(s, "\n")-crlf
		longest := 0
		for line := range strings.SplitAfterSeq(s, "\n") {
			longest = max(longest, len(line))
		}
		if b.BareCR() != int64(cr) || b.BareLF() != int64(lf) || b.Size() != int64(len(s)) || b.census.longest != int64(longest) {
			t.Fatalf("%q: CR %d, LF %d, size %d, longest %d; want %d, %d, %d, %d",
				s, b.BareCR(), b.BareLF(), b.Size(), b.census.longest, cr, lf, len(s), longest)
		}
	}
}

func TestReceivedCounter(t *testing.T) {
	for _, tc := range []struct {
		text string
		want int
	}{
		{"", 0},
		{"\r\nReceived: in the text\r\n", 0},
		{"Received: a\r\nreceived: b\r\n folded Received: c\r\nX-Received: d\r\nReceivedX: e\r\nRECEIVED:f\r\n\r\nReceived: g\r\n", 3},
		{"Received: a\nReceived: b\n\nReceived: c\n", 2},
		{"Rec\r\nReceived: a\r\n", 1},
		{"Subject: x\r\nReceived: a", 1},
		{"RReceived: a\r\n", 0},
	} {
		for _, r := range []io.Reader{strings.NewReader(tc.text), iotest.OneByteReader(strings.NewReader(tc.text))} {
			b := NewBody(r)
			io.Copy(io.Discard, onlyReader{b})
			if b.Received() != tc.want {
				t.Errorf("%q: %d Received lines, want %d", tc.text, b.Received(), tc.want)
			}
		}
	}
}

// TestBodyRefuses: each fault is found wherever the reads happen to be cut, and nothing else is a fault.
func TestBodyRefuses(t *testing.T) {
	const limit = 2 << 20
	loop := strings.Repeat("Received: x\r\n", maxReceived)
	long := strings.Repeat("x", maxLine-2)
	for name, tc := range map[string]struct {
		text  string
		relay error
		keep  error // with relay off
	}{
		"empty":         {"", nil, nil},
		"plain":         {"a\r\n\r\nb\r\n", nil, nil},
		"bare LF":       {"a\nb\r\n", ErrBareNewline, nil},
		"bare CR":       {"a\rb\r\n", ErrBareNewline, nil},
		"CR CR LF":      {"a\r\r\n", ErrBareNewline, nil},
		"CR at the end": {"a\r\nb\r", ErrBareNewline, nil},
		"LF first":      {"\na\r\n", ErrBareNewline, nil},
		"no CRLF":       {"a\r\nb", ErrNoFinalNewline, nil},
		"line fits":     {long + "\r\n", nil, nil},
		"line too long": {long + "x\r\n", ErrLineTooLong, nil},
		"too big":       {strings.Repeat("0123456789abcd\r\n", limit/16) + "\r\n", ErrTooBig, ErrTooBig},
		"no loop":       {loop + "\r\nReceived: x\r\n", nil, nil},
		"loop":          {loop + "Received: x\r\n\r\n", ErrLoop, nil},
	} {
		for _, relay := range []bool{true, false} {
			for _, r := range []io.Reader{
				strings.NewReader(tc.text), iotest.HalfReader(strings.NewReader(tc.text)), iotest.DataErrReader(strings.NewReader(tc.text)),
				iotest.OneByteReader(strings.NewReader(tc.text)),
			} {
				b := NewBody(r)
				b.limits = limits{size: limit, onward: relay, exact: relay}
				want := tc.keep
				if relay {
					want = tc.relay
				}
				_, err := io.Copy(io.Discard, onlyReader{b})
				if !errors.Is(err, want) {
					t.Errorf("%s, relay %v: %v, want %v", name, relay, err, want)
				}
				if b.complete() != (want == nil) || b.refused() != (want != nil) || b.broken() {
					t.Errorf("%s, relay %v: complete %v, refused %v, broken %v", name, relay, b.complete(), b.refused(), b.broken())
				}
			}
		}
	}
}

func BenchmarkBody(b *testing.B) {
	for _, size := range []int{10 << 10, 40 << 10} {
		body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", size/78)
		wire := []byte(stuff(body))
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := newScript(nil, nil)
			c := newConn(newServer(b, relayConfig(), &backend{t: b}), s, netip.Addr{}, 0)
			buf := make([]byte, 32<<10)
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				s.in = wire
				body := &Body{src: &dotted{c: c, unstuffer: newUnstuffer()}, limits: limits{size: 1 << 30, onward: true, exact: true}}
				for {
					if _, err := body.Read(buf); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
