package nexthop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

var (
	from  = record.Path{Address: "a@src.example"}
	to    = record.Path{Address: "b@dst.example"}
	other = record.Path{Address: "c@dst.example"}
	trace = Trace{Client: record.Client{Address: "192.0.2.1", Helo: "client.example", ESMTP: true}, By: "relay.example",
		ID: record.NewID(time.Unix(1700000000, 0)), Time: time.Unix(1700000000, 0)}
)

func newPool(t testing.TB, o Options) *Pool {
	p := New(o)
	t.Cleanup(p.Close)
	return p
}

func target(h *hoptest.Hop) Target {
	return Target{Address: h.Addr(), TLS: Opportunistic, Hello: "relay.example"}
}

// sent is how one transaction went.
type sent struct {
	rcpt  []error
	reply *Reply
	err   error
	d     *record.Delivery
}

// send runs a whole transaction; the body in pieces. Without an accepted recipient there is no DATA.
func send(ctx context.Context, p *Pool, target Target, m Mail, rcpt []record.Path, body ...string) sent {
	return sendTo(ctx, p, To(target), m, rcpt, body...)
}

func sendTo(ctx context.Context, p *Pool, route Route, m Mail, rcpt []record.Path, body ...string) sent {
	var s sent
	tx := p.Begin(route, m)
	defer tx.Close()
	for _, to := range rcpt {
		s.rcpt = append(s.rcpt, tx.Rcpt(ctx, to))
	}
	if len(tx.Accepted()) == 0 {
		return s
	}
	tx.Data(ctx, trace)
	for _, piece := range body {
		tx.Write([]byte(piece))
	}
	s.reply, s.err = tx.Finish(ctx)
	s.d = tx.Delivery()
	return s
}

// received is the Received line of trace.
func received() string { return string(trace.appendReceived(nil)) }

func checkSent(t *testing.T, s sent, m hoptest.Message, body string) {
	t.Helper()
	if got, want := string(m.Data), received()+body; got != want {
		t.Errorf("next hop got\n%.300q\nwant\n%.300q", got, want)
	}
	if s.d.SentSize != int64(len(m.Data)) || s.d.SentSHA256 != record.Sum(m.Data) {
		t.Errorf("recorded %d bytes %v, sent %d bytes %v", s.d.SentSize, s.d.SentSHA256, len(m.Data), record.Sum(m.Data))
	}
}

func TestDelivered(t *testing.T) {
	h := hoptest.New(t)
	p := newPool(t, Options{})
	body := "Subject: x\r\n\r\n.one\r\n..two\r\n.\r\nend.\r\n"
	m := Mail{From: record.Path{Address: ""}, Size: 40, Body: "8BITMIME", Ret: "HDRS", EnvID: "a+b=c d"}
	rcpt := record.Path{Address: "b@dst.example", Notify: "SUCCESS,DELAY", ORCPT: "rfc822;b+2Bx@dst.example"}
	s := send(t.Context(), p, target(h), m, []record.Path{rcpt, other}, body)
	if s.err != nil || s.reply.Code != 250 || s.reply.Enhanced() != "2.0.0" || !strings.HasPrefix(s.reply.Text(), "Ok: queued") {
		t.Fatalf("%v, %v", s.reply, s.err)
	}
	got := h.Messages()[0]
	checkSent(t, s, got, body)
	if want := "MAIL FROM:<> SIZE=40 BODY=8BITMIME RET=HDRS ENVID=a+2Bb+3Dc+20d"; got.Mail != want {
		t.Errorf("got  %s\nwant %s", got.Mail, want)
	}
	want := []string{"RCPT TO:<b@dst.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bx@dst.example", "RCPT TO:<c@dst.example>"}
	if !slices.Equal(got.Rcpt, want) {
		t.Errorf("got  %q\nwant %q", got.Rcpt, want)
	}
	if s.d.Outcome != record.Delivered || s.d.Attempts != 1 || s.d.Address != h.Addr() || s.d.NextHop != h.Addr() || s.d.Reason != "" {
		t.Errorf("%+v", s.d)
	}
	for _, r := range s.d.Recipients {
		if r.Outcome != record.Delivered || r.Code != 250 || r.Enhanced != "2.0.0" || r.Time.IsZero() {
			t.Errorf("%+v", r)
		}
	}
}

// Every place at which a next hop may say no, and what is told and recorded then.
func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers map[string]string
		rcpt    string // the error of the only RCPT
		final   string // of Finish
		outcome record.Outcome
		reused  bool // the connection serves again
	}{
		{"mail", map[string]string{"MAIL": "550-5.7.1 no\r\n550 5.7.1 never"}, "550 5.7.1 no / 5.7.1 never", "", "", true},
		{"mail for now", map[string]string{"MAIL": "451 4.3.0 later"}, "451 4.3.0 later", "", "", true},
		{"rcpt", map[string]string{"RCPT": "550 5.1.1 who?"}, "550 5.1.1 who?", "", "", true},
		{"data", map[string]string{"DATA": "554 5.7.0 not you"}, "", "554 5.7.0 not you", record.Refused, true},
		{"dot", map[string]string{".": "554-5.7.1 spam\r\n554 5.7.1 eggs"}, "", "554 5.7.1 spam / 5.7.1 eggs", record.Refused, true},
		{"dot for now", map[string]string{".": "451 4.7.1 greylisted"}, "", "451 4.7.1 greylisted", record.Refused, true},
		{"dot with 421", map[string]string{".": "421 4.3.2 going down" + hoptest.Drop}, "", "421 4.3.2 going down", record.Refused, false},
		{"greeting", map[string]string{"GREETING": "554 5.3.2 no service"}, "unavailable", "", "", false},
		{"ehlo", map[string]string{"EHLO": "421 4.3.2 too many" + hoptest.Drop}, "unavailable", "", "", false},
		{"mail 421", map[string]string{"MAIL": "421 4.3.2 too many" + hoptest.Drop}, "unavailable", "", "", false},
		{"mail 354", map[string]string{"MAIL": "354 what?"}, "unavailable", "", "", false},
		{"rcpt 421", map[string]string{"RCPT": "421 4.3.2 too many" + hoptest.Drop}, "unavailable", "", "", false},
		{"rcpt dropped", map[string]string{"RCPT": hoptest.Drop}, "unavailable", "", "", false},
		{"rcpt garbage", map[string]string{"RCPT": "hello"}, "unavailable", "", "", false},
		{"data 421", map[string]string{"DATA": "421 4.3.2 too many" + hoptest.Drop}, "", "unavailable", record.Refused, false},
		{"data 250", map[string]string{"DATA": "250 2.0.0 eh?" + hoptest.Drop}, "", "unavailable", record.Refused, false},
		{"data dropped", map[string]string{"DATA": hoptest.Drop}, "", "unavailable", record.Refused, false},
		{"dot dropped", map[string]string{".": hoptest.Drop}, "", "unknown", record.Unknown, false},
		{"dot garbage", map[string]string{".": "hello"}, "", "unknown", record.Unknown, false},
		{"dot 354", map[string]string{".": "354 more?"}, "", "unknown", record.Unknown, false},
	} {
		for _, pipelining := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/pipelining=%v", tc.name, pipelining), func(t *testing.T) {
				h := hoptest.New(t)
				if !pipelining {
					h.Caps = []string{"SIZE"}
				}
				h.Answer = func(n int, verb, line string) string { return tc.answers[verb] }
				p := newPool(t, Options{})
				s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, "hello\r\n")
				checkError(t, "RCPT", s.rcpt[0], tc.rcpt)
				if tc.rcpt == "" {
					err := s.err
					if err == nil {
						err = s.reply
					}
					checkError(t, "Finish", err, tc.final)
					if s.d.Outcome != tc.outcome || s.d.Recipients[0].Outcome != tc.outcome {
						t.Errorf("outcome %s, recipient's %s, want %s", s.d.Outcome, s.d.Recipients[0].Outcome, tc.outcome)
					}
					if s.reply == nil && s.d.Reason == "" {
						t.Error("no reason recorded")
					}
				}
				h.SetAnswer(nil)
				s = send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, "hello\r\n")
				if s.err != nil || s.d.Outcome != record.Delivered {
					t.Fatalf("the next message: %v %v", s.reply, s.err)
				}
				if reused := h.Conns() == 1; reused != tc.reused {
					t.Errorf("%d connections; reused should be %v:\n%s", h.Conns(), tc.reused, strings.Join(h.Log(), "\n"))
				}
			})
		}
	}
}

func checkError(t *testing.T, what string, err error, want string) {
	t.Helper()
	var reply *Reply
	switch {
	case want == "":
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case want == "unavailable":
		if !errors.Is(err, ErrUnavailable) || errors.As(err, &reply) {
			t.Errorf("%s: %v, want ErrUnavailable", what, err)
		}
	case want == "unknown":
		if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnknown", what, err)
		}
	case !errors.As(err, &reply) || reply.Error() != want:
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

func TestSomeRecipientsRefused(t *testing.T) {
	h := hoptest.New(t)
	h.Answer = func(n int, verb, line string) string {
		if verb == "RCPT" && strings.Contains(line, "<b@") {
			return "550 5.1.1 who?"
		}
		return ""
	}
	s := send(t.Context(), newPool(t, Options{}), target(h), Mail{From: from}, []record.Path{to, other}, "x\r\n")
	checkError(t, "RCPT", s.rcpt[0], "550 5.1.1 who?")
	checkError(t, "RCPT", s.rcpt[1], "")
	if r := s.d.Recipients; len(r) != 2 || s.d.Outcome != record.Delivered || r[0].Outcome != record.Refused || r[0].Code != 550 ||
		r[0].Text != "who?" || r[1].Outcome != record.Delivered || r[1].Code != 250 {
		t.Errorf("%+v", s.d)
	}
}

// The connection is lost when some recipients have been taken already: the message fails, for now.
func TestLostBetweenRecipients(t *testing.T) {
	h := hoptest.New(t)
	h.Answer = func(n int, verb, line string) string {
		if strings.Contains(line, "<c@") {
			return hoptest.Drop
		}
		return ""
	}
	s := send(t.Context(), newPool(t, Options{}), target(h), Mail{From: from}, []record.Path{to, other, to}, "x\r\n")
	checkError(t, "RCPT", s.rcpt[0], "")
	checkError(t, "RCPT", s.rcpt[1], "unavailable")
	checkError(t, "RCPT", s.rcpt[2], "unavailable")
	checkError(t, "Finish", s.err, "unavailable")
	if s.d.Outcome != record.Refused || len(s.d.Recipients) != 3 || h.Conns() != 1 || h.Dots() != 0 {
		t.Errorf("%+v, %d connections", s.d, h.Conns())
	}
}

// The bytes that arrive are those that were written, for any bytes in any pieces.
func TestBodyIsExact(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	h := hoptest.New(t)
	p := newPool(t, Options{})
	clean := []string{"\r\n", "\r\n", ".", ".", "a", "bcd", "\x00", "\xff\x80", "From ", strings.Repeat("x", 997)}
	hostile := append([]string{"\n", "\r"}, clean...)
	delivered := 0
	for i := range 400 {
		var b strings.Builder
		alphabet, size := clean, rng.IntN(60)
		switch i % 20 {
		case 0:
			size = 2000
		case 1, 2, 3, 4:
			alphabet = hostile
		}
		for range size {
			b.WriteString(alphabet[rng.IntN(len(alphabet))])
		}
		if i%20 != 5 {
			b.WriteString("\r\n")
		}
		body := b.String()
		var pieces []string
		for rest := body; rest != ""; {
			n := 1 + rng.IntN(min(len(rest), 1+rng.IntN(40000)))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		before := h.Dots()
		s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, pieces...)
		if bare(body) {
			if !errors.Is(s.err, ErrBareNewline) || s.d.Outcome != record.Refused || h.Dots() != before {
				t.Fatalf("%q: %v %v, want ErrBareNewline", body, s.reply, s.err)
			}
			continue
		}
		if s.err != nil {
			t.Fatalf("%.300q: %v", body, s.err)
		}
		all := h.Messages()
		checkSent(t, s, all[len(all)-1], body)
		if t.Failed() {
			t.FailNow()
		}
		delivered++
	}
	if delivered < 20 {
		t.Errorf("only %d bodies were delivered", delivered)
	}
}

// bare is the plain reading of ErrBareNewline, for what comes behind a line that is whole.
func bare(body string) bool {
	rest := strings.ReplaceAll(body, "\r\n", "")
	return strings.ContainsAny(rest, "\r\n") || body != "" && !strings.HasSuffix(body, "\r\n")
}

func TestSmuggling(t *testing.T) {
	h := hoptest.New(t)
	p := newPool(t, Options{})
	for _, body := range []string{"a\n.\r\nb\r\n", "a\n.\nb\r\n", "a\r.\rb\r\n", "a\r.\r\nb\r\n", "a\n.\r", "a\n.", "a\r."} {
		for cut := range len(body) {
			s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, body[:cut], body[cut:])
			if !errors.Is(s.err, ErrBareNewline) || s.d.Outcome != record.Refused {
				t.Errorf("%q cut at %d: %v %v", body, cut, s.reply, s.err)
			}
		}
	}
	if h.Dots() > 0 {
		t.Errorf("%d final dots were sent", h.Dots())
	}
}

// A connection cut at any byte, in either direction, is never taken for a delivery, and a delivery is never taken for a refusal.
func TestCutAtAnyByte(t *testing.T) {
	body := "Subject: cut\r\n\r\n.dots\r\nend\r\n"
	for _, way := range []string{"read", "write"} {
		for _, reused := range []bool{false, true} {
			whole := false
			for limit := 1; !whole; limit++ {
				if limit > 2000 {
					t.Fatal("never got through")
				}
				func() {
					h := hoptest.New(t)
					defer h.Close()
					p := New(Options{})
					defer p.Close()
					cutConn := 1
					f := func(n int) int {
						if n == cutConn {
							return limit
						}
						return 0
					}
					if way == "read" {
						h.ReadLimit = f
					} else {
						h.WriteLimit = f
					}
					before := 0
					if reused { // the first message goes through on a connection that is cut in the second
						if s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, "first\r\n"); s.err != nil || s.reply == nil {
							return
						}
						before = 1
					}
					s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, body)
					got := h.Dots() - before
					where := fmt.Sprintf("%s, reused %v, cut after %d bytes", way, reused, limit)
					switch {
					case s.d == nil:
						if !errors.Is(s.rcpt[0], ErrUnavailable) || got != 0 {
							t.Errorf("%s: %v, %d messages", where, s.rcpt[0], got)
						}
					case s.d.Outcome == record.Delivered:
						if got != 1 || s.reply == nil || s.reply.Code != 250 {
							t.Errorf("%s: delivered, %d messages, %v", where, got, s.reply)
						}
						whole = s.d.Attempts == 1
						checkSent(t, s, h.Messages()[before], body)
					case s.d.Outcome == record.Unknown:
						if !errors.Is(s.err, ErrUnknown) {
							t.Errorf("%s: unknown: %v", where, s.err)
						}
					default:
						if got != 0 || s.err == nil {
							t.Errorf("%s: %s, %d messages, %v %v", where, s.d.Outcome, got, s.reply, s.err)
						}
					}
				}()
			}
		}
	}
}

// A pooled connection that the server has closed meanwhile, or closes at its next command, costs nothing but a new connection.
func TestStale(t *testing.T) {
	rcpts := []record.Path{to, other}
	for _, verb := range []string{"idle", "MAIL", "RCPT", "second RCPT", "DATA"} {
		for _, how := range []string{hoptest.Drop, "421 4.4.2 timeout" + hoptest.Drop, "what?" + hoptest.Drop} {
			t.Run(verb+" "+how[:1], func(t *testing.T) {
				h := hoptest.New(t)
				p := newPool(t, Options{})
				if s := send(t.Context(), p, target(h), Mail{From: from}, rcpts, "first\r\n"); s.err != nil {
					t.Fatal(s.err)
				}
				rcpt := 0
				h.SetAnswer(func(n int, v, line string) string {
					if n != 1 {
						return ""
					}
					if v == "RCPT" {
						rcpt++
					}
					if v == verb && rcpt < 2 || verb == "second RCPT" && rcpt == 2 || v == "DATA" && verb == v {
						return how
					}
					return ""
				})
				if verb == "idle" {
					h.CutAll()
				}
				s := send(t.Context(), p, target(h), Mail{From: from}, rcpts, "second\r\n")
				if s.err != nil || s.d.Outcome != record.Delivered || s.d.Attempts != 2 {
					t.Fatalf("%v %v %+v", s.rcpt, s.err, s.d)
				}
				all := h.Messages()
				if len(all) != 2 || all[1].Conn != 2 || len(all[1].Rcpt) != 2 {
					t.Fatalf("%+v", all)
				}
				checkSent(t, s, all[1], "second\r\n")
			})
		}
	}
}

// On the new connection the server says something else than before: nobody can be told that, so it is a temporary failure.
func TestStaleAndChangedAnswer(t *testing.T) {
	for _, verb := range []string{"MAIL", "RCPT"} {
		h := hoptest.New(t)
		p := newPool(t, Options{})
		send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, "first\r\n")
		h.SetAnswer(func(n int, v, line string) string {
			switch {
			case n == 1 && v == "DATA":
				return hoptest.Drop
			case n == 2 && v == verb:
				return "550 5.0.0 changed my mind"
			}
			return ""
		})
		s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, "second\r\n")
		if !errors.Is(s.err, ErrUnavailable) || s.reply != nil || s.d.Outcome != record.Refused || h.Dots() != 1 {
			t.Errorf("%s: %v %v %+v", verb, s.reply, s.err, s.d)
		}
	}
}

// After the first byte of the body there is no second try.
func TestNoRetryInTheBody(t *testing.T) {
	h := hoptest.New(t)
	p := newPool(t, Options{})
	send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, "first\r\n")
	h.SetAnswer(func(n int, verb, line string) string {
		if verb == "BODY" {
			return hoptest.Drop
		}
		return ""
	})
	s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, strings.Repeat("much\r\n", 1<<20))
	if !errors.Is(s.err, ErrUnavailable) || s.d.Outcome != record.Refused || s.d.Attempts != 1 || h.Conns() != 1 {
		t.Errorf("%v %+v, %d connections", s.err, s.d, h.Conns())
	}
}

// A server restarts, and all idle connections are stale at once.
func TestAllStale(t *testing.T) {
	h := hoptest.New(t)
	p := newPool(t, Options{})
	var open []*Transaction
	for range 3 {
		open = append(open, begin(t, p, target(h)))
	}
	for _, tx := range open {
		finish(t, tx)
	}
	h.CutAll()
	s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, "x\r\n")
	if s.err != nil || s.d.Attempts != 2 {
		t.Errorf("%v %v %+v", s.rcpt, s.err, s.d)
	}
}

// A server that says no before the end is quoted. What else it may say is not taken for the answer to the next message.
func TestEarlyRefusal(t *testing.T) {
	h := hoptest.New(t)
	h.Answer = func(n int, verb, line string) string {
		switch {
		case n == 1 && verb == "BODY":
			return "552 5.3.4 too big"
		case n == 1 && verb == ".":
			return "554 5.3.4 as I said"
		}
		return ""
	}
	p := newPool(t, Options{})
	s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, strings.Repeat("much\r\n", 1<<18))
	if s.reply == nil || s.reply.Code != 552 || s.d.Outcome != record.Refused {
		t.Errorf("%v %v", s.reply, s.err)
	}
	s = send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, "x\r\n")
	if s.err != nil || s.d.Outcome != record.Delivered {
		t.Errorf("the next message: %v %v %v", s.rcpt, s.reply, s.err)
	}
}

// So is one that says no and reads no further.
func TestLastWords(t *testing.T) {
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			r := bufio.NewReader(theirs)
			io.WriteString(theirs, "220 hop\r\n")
			for _, reply := range []string{"250 hop", "250 ok", "250 ok", "354 go"} {
				r.ReadString('\n')
				io.WriteString(theirs, reply+"\r\n")
			}
			io.CopyN(io.Discard, r, 100_000)
			io.WriteString(theirs, "552 5.3.4 too big\r\n")
			theirs.Close()
		}()
		return ours, nil
	}
	p := newPool(t, Options{Dial: dial, Timeouts: Timeouts{DataBlock: 2 * time.Second}})
	body := strings.Repeat("much\r\n", 1<<18)
	s := send(t.Context(), p, Target{Address: "hop:25", Hello: "relay.example"}, Mail{From: from}, []record.Path{to}, body)
	if s.reply == nil || s.reply.Code != 552 || s.d.Outcome != record.Refused {
		t.Errorf("%v %v", s.reply, s.err)
	}
}

// Whatever stalls, there is an end to it.
func TestStalls(t *testing.T) {
	const short = 300 * time.Millisecond
	for _, tc := range []struct {
		verb     string
		timeouts Timeouts
		want     string // of Finish; "": RCPT fails
	}{
		{"GREETING", Timeouts{Hello: short}, ""},
		{"EHLO", Timeouts{Hello: short}, ""},
		{"MAIL", Timeouts{Command: short}, ""},
		{"RCPT", Timeouts{Command: short}, ""},
		{"DATA", Timeouts{DataInit: short}, "unavailable"},
		{"BODY", Timeouts{DataBlock: short}, "unavailable"},
		{".", Timeouts{Final: short}, "unknown"},
	} {
		t.Run(tc.verb, func(t *testing.T) {
			h := hoptest.New(t)
			release := make(chan struct{})
			defer close(release)
			h.Answer = func(n int, verb, line string) string {
				if verb == tc.verb {
					<-release
				}
				return ""
			}
			body := strings.Repeat("much\r\n", 1<<21) // more than the network holds
			p := newPool(t, Options{Timeouts: tc.timeouts})
			s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, body)
			if tc.want == "" {
				checkError(t, "RCPT", s.rcpt[0], "unavailable")
				return
			}
			checkError(t, "Finish", s.err, tc.want)
		})
	}
}

// The end of the context ends every wait at once.
func TestContext(t *testing.T) {
	for _, verb := range []string{"GREETING", "EHLO", "MAIL", "DATA", "."} {
		t.Run(verb, func(t *testing.T) {
			h := hoptest.New(t)
			release := make(chan struct{})
			defer close(release)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			h.Answer = func(n int, v, line string) string {
				if v == verb {
					cancel()
					<-release
				}
				return ""
			}
			s := send(ctx, newPool(t, Options{}), target(h), Mail{From: from}, []record.Path{to}, "x\r\n")
			if s.d == nil {
				checkError(t, "RCPT", s.rcpt[0], "unavailable")
				return
			}
			checkError(t, "Finish", s.err, map[string]string{"DATA": "unavailable", ".": "unknown"}[verb])
		})
	}
}

func TestCloseSendsNothing(t *testing.T) {
	h := hoptest.New(t)
	p := newPool(t, Options{})
	tx := p.Begin(To(target(h)), Mail{From: from})
	if err := tx.Rcpt(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	tx.Data(t.Context(), trace)
	tx.Write(bytes.Repeat([]byte("half a message\r\n"), 1<<14))
	tx.Close()
	tx.Close()
	if _, err := tx.Finish(t.Context()); err == nil {
		t.Error("Finish after Close")
	}
	waitFor(t, func() bool { return slices.Contains(h.Log(), "1: EOF") })
	if h.Dots() != 0 || len(h.Messages()) != 0 || slices.Contains(h.Log(), "1: QUIT") {
		t.Errorf("%q", h.Log())
	}
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestCapabilities(t *testing.T) {
	utf8Rcpt := record.Path{Address: "bücher@dst.example"}
	for _, tc := range []struct {
		name string
		caps []string
		mail Mail
		rcpt record.Path
		want error
		line string
	}{
		{"too big", []string{"SIZE 100"}, Mail{From: from, Size: 101}, to, ErrTooBig, ""},
		{"just fits", []string{"SIZE 100"}, Mail{From: from, Size: 100}, to, nil, "MAIL FROM:<a@src.example> SIZE=100"},
		{"no limit", []string{"SIZE 0"}, Mail{From: from, Size: 101}, to, nil, "MAIL FROM:<a@src.example> SIZE=101"},
		{"nothing offered", nil, Mail{From: from, Size: 9, Body: "8BITMIME", Ret: "FULL", EnvID: "x"}, to, nil, "MAIL FROM:<a@src.example>"},
		{"utf8", []string{"SMTPUTF8"}, Mail{From: from, SMTPUTF8: true}, utf8Rcpt, nil, "MAIL FROM:<a@src.example> SMTPUTF8"},
		{"no utf8", []string{"8BITMIME"}, Mail{From: from, SMTPUTF8: true}, to, ErrNoSMTPUTF8, ""},
		{"utf8 unsaid", []string{"SMTPUTF8"}, Mail{From: from}, utf8Rcpt, ErrNoSMTPUTF8, ""},
		{"bad path", nil, Mail{From: from}, record.Path{Address: `"v@x> NOTIFY=NEVER"@dst.example`}, ErrPath, ""},
		{"no recipient", nil, Mail{From: from}, record.Path{}, ErrPath, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := hoptest.New(t)
			h.Caps = tc.caps
			s := send(t.Context(), newPool(t, Options{}), target(h), tc.mail, []record.Path{tc.rcpt}, "x\r\n")
			if tc.want != nil {
				if !errors.Is(s.rcpt[0], tc.want) {
					t.Errorf("%v, want %v", s.rcpt[0], tc.want)
				}
				return
			}
			if s.rcpt[0] != nil || s.err != nil {
				t.Fatal(s.rcpt[0], s.err)
			}
			if got := h.Messages()[0].Mail; got != tc.line {
				t.Errorf("got %s, want %s", got, tc.line)
			}
		})
	}
}

func TestEightBitIsRecorded(t *testing.T) {
	for _, tc := range []struct {
		caps []string
		body string
		want bool
	}{{nil, "caf\xe9\r\n", true}, {nil, "cafe\r\n", false}, {[]string{"8BITMIME"}, "caf\xe9\r\n", false}} {
		h := hoptest.New(t)
		h.Caps = tc.caps
		s := send(t.Context(), newPool(t, Options{}), target(h), Mail{From: from, Body: "8BITMIME"}, []record.Path{to}, tc.body)
		if s.err != nil || s.d.EightBitSentAnyway != tc.want {
			t.Errorf("%q to %q: %v %v", tc.body, tc.caps, s.d.EightBitSentAnyway, s.err)
		}
		checkSent(t, s, h.Messages()[0], tc.body)
	}
}

func TestHelo(t *testing.T) {
	h := hoptest.New(t)
	h.NoEHLO = true
	s := send(t.Context(), newPool(t, Options{}), target(h), Mail{From: from, Size: 3}, []record.Path{to}, "x\r\n")
	if s.err != nil || s.d.Outcome != record.Delivered || h.Messages()[0].Mail != "MAIL FROM:<a@src.example>" {
		t.Errorf("%v %+v", s.err, h.Messages())
	}
}

func TestNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	target := Target{Address: ln.Addr().String(), TLS: None, Hello: "relay.example"}
	s := send(t.Context(), newPool(t, Options{}), target, Mail{From: from}, []record.Path{to, other}, "x\r\n")
	checkError(t, "RCPT", s.rcpt[0], "unavailable")
	checkError(t, "RCPT", s.rcpt[1], "unavailable")
}
