package nexthop

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// begin opens a transaction with one recipient.
func begin(t *testing.T, p *Pool, target Target) *Transaction {
	t.Helper()
	tx := p.Begin(To(target), Mail{From: from})
	if err := tx.Rcpt(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	return tx
}

func finish(t *testing.T, tx *Transaction) {
	t.Helper()
	tx.Data(t.Context(), trace)
	tx.Write([]byte("x\r\n"))
	if reply, err := tx.Finish(t.Context()); err != nil || !reply.ok() {
		t.Fatal(reply, err)
	}
}

func TestPoolIsLastInFirstOut(t *testing.T) {
	h := hoptest.New(t)
	p := newPool(t, Options{})
	a, b := begin(t, p, target(h)), begin(t, p, target(h)) // connections 1 and 2
	finish(t, b)
	finish(t, a)
	for range 3 {
		finish(t, begin(t, p, target(h)))
	}
	var conns []int
	for _, m := range h.Messages() {
		conns = append(conns, m.Conn)
	}
	if !slices.Equal(conns, []int{2, 1, 1, 1, 1}) {
		t.Errorf("%v", conns)
	}
}

func TestPoolKeepsTargetsApart(t *testing.T) {
	h := hoptest.New(t)
	p := newPool(t, Options{})
	other := target(h)
	other.Hello = "other.example"
	clear := target(h)
	clear.TLS = None
	for _, target := range []Target{target(h), other, clear, target(h)} {
		finish(t, begin(t, p, target))
	}
	if h.Conns() != 3 {
		t.Errorf("%d connections", h.Conns())
	}
}

func TestPoolBounds(t *testing.T) {
	h := hoptest.New(t)
	registry := prometheus.NewRegistry()
	p := newPool(t, Options{MaxIdle: 2, Registry: registry})
	var open []*Transaction
	for range 5 {
		open = append(open, begin(t, p, target(h)))
	}
	for _, tx := range open {
		finish(t, tx)
	}
	waitFor(t, func() bool { return testutil.ToFloat64(p.metrics.open) == 2 && testutil.ToFloat64(p.metrics.idle) == 2 })
	p.Close()
	waitFor(t, func() bool { return testutil.ToFloat64(p.metrics.open) == 0 && testutil.ToFloat64(p.metrics.idle) == 0 })
	for n := range 5 {
		waitFor(t, func() bool { return slices.Contains(h.Log(), fmt.Sprintf("%d: QUIT", n+1)) })
	}
	finish(t, begin(t, p, target(h))) // after Close: works, and is not kept
	waitFor(t, func() bool { return slices.Contains(h.Log(), "6: QUIT") })
	if got := testutil.ToFloat64(p.metrics.replies.WithLabelValues("2xx")); got != 6 {
		t.Errorf("%v replies counted", got)
	}
}

func TestPoolAges(t *testing.T) {
	for name, o := range map[string]Options{"idle": {IdleAge: 20 * time.Millisecond}, "age": {MaxAge: time.Nanosecond}} {
		h := hoptest.New(t)
		p := newPool(t, o)
		finish(t, begin(t, p, target(h)))
		waitFor(t, func() bool { return slices.Contains(h.Log(), "1: QUIT") })
		finish(t, begin(t, p, target(h)))
		if h.Conns() != 2 {
			t.Errorf("%s: %d connections", name, h.Conns())
		}
		waitFor(t, func() bool { return slices.Contains(h.Log(), "2: QUIT") })
	}
}

// What a transaction leaves behind when it ends before DATA is cleared with the next one, in the same round trip.
func TestResetOnReuse(t *testing.T) {
	for _, caps := range [][]string{{"PIPELINING"}, {"SIZE"}} {
		h := hoptest.New(t)
		h.Caps = caps
		p := newPool(t, Options{})
		begin(t, p, target(h)).Close()
		finish(t, begin(t, p, target(h)))
		finish(t, begin(t, p, target(h)))
		var got []string
		for _, line := range h.Log() {
			word, _, _ := strings.Cut(line[3:], " ")
			got = append(got, word)
		}
		want := []string{"EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA", "MAIL", "RCPT", "DATA"}
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	}
}

// A reply that nobody asked for would be taken for the answer to the next question.
func TestUnsolicitedReply(t *testing.T) {
	h := hoptest.New(t)
	h.Answer = func(n int, verb, line string) string {
		if verb == "." && n == 1 {
			return "250 2.0.0 ok\r\n250 2.0.0 ok again"
		}
		return ""
	}
	p := newPool(t, Options{})
	finish(t, begin(t, p, target(h)))
	h.SetAnswer(func(n int, verb, line string) string {
		if verb == "." {
			return "554 5.0.0 no"
		}
		return ""
	})
	s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, "x\r\n")
	if s.reply == nil || s.reply.Code != 554 || h.Conns() != 2 {
		t.Errorf("%v %v, %d connections", s.reply, s.err, h.Conns())
	}
	var mails int
	for _, line := range h.Log() {
		if strings.HasPrefix(line, "1: MAIL") {
			mails++
		}
	}
	if mails != 1 {
		t.Errorf("the connection was used again: %q", h.Log())
	}
}

// A read that succeeded as its context ended is a success, but the connection has a deadline in the past now.
func TestContextEndsWithSuccess(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	p := newPool(t, Options{})
	h := p.host(Target{})
	c := &conn{Conn: ours, r: bufio.NewReader(ours), host: h, metrics: p.metrics, born: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	err := c.within(ctx, time.Minute, func() error {
		cancel()
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	p.put(c)
	if p.take(h) != nil {
		t.Error("the connection is used again")
	}
}

// Many at once, while the server closes connections under them: what is recorded as delivered has arrived once, what as refused, never.
func TestConcurrentUse(t *testing.T) {
	h := hoptest.New(t)
	p := newPool(t, Options{MaxIdle: 3, IdleAge: 5 * time.Millisecond, MaxAge: 50 * time.Millisecond})
	outcomes := map[string]record.Outcome{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 30 {
				if w == 0 && i%3 == 2 {
					h.CutAll()
				}
				body := fmt.Sprintf("worker %d message %d\r\n", w, i)
				s := send(t.Context(), p, target(h), Mail{From: from}, []record.Path{to}, body)
				mu.Lock()
				if outcomes[body] = record.Refused; s.d != nil {
					outcomes[body] = s.d.Outcome
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	h.Close()
	arrived, tally := map[string]int{}, map[record.Outcome]int{}
	for _, m := range h.Messages() {
		_, body, _ := strings.Cut(string(m.Data), "+0000\r\n")
		arrived[body]++
	}
	for body, outcome := range outcomes {
		tally[outcome]++
		if n := arrived[body]; n > 1 || outcome == record.Delivered && n != 1 || outcome == record.Refused && n != 0 {
			t.Errorf("%q is %s and arrived %d times", body, outcome, n)
		}
	}
	if tally[record.Delivered] < 100 {
		t.Errorf("%v", tally)
	}
}

func TestTLS(t *testing.T) {
	body := strings.Repeat("secret\r\n", 1<<15)
	cert := hoptest.Certificate(t)
	for _, tc := range []struct {
		name   string
		tls    *tls.Config
		policy Policy
		answer string // to STARTTLS
		used   bool
		conns  int
		reason string // a part of it
	}{
		{"1.3", &tls.Config{Certificates: []tls.Certificate{cert}}, Opportunistic, "", true, 1, ""},
		{"1.2", &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}, Opportunistic, "", true, 1, ""},
		{"policy none", &tls.Config{Certificates: []tls.Certificate{cert}}, None, "", false, 1, ""},
		{"not offered", nil, Opportunistic, "", false, 1, ""},
		{"handshake fails", &tls.Config{}, Opportunistic, "", false, 2, "in clear text after tls handshake"},
		{"refused", &tls.Config{}, Opportunistic, "454 4.7.0 not now", false, 1, "in clear text after STARTTLS: 454 4.7.0 not now"},
		{"injection", &tls.Config{Certificates: []tls.Certificate{cert}}, Opportunistic, "220 go\r\n250 evil", false, 2, "in clear text after tls"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := hoptest.New(t)
			h.TLS = tc.tls
			h.Answer = func(n int, verb, line string) string {
				if verb == "STARTTLS" {
					return tc.answer
				}
				return ""
			}
			p := newPool(t, Options{})
			target := target(h)
			target.TLS = tc.policy
			for range 2 { // on a new connection, and on one out of the pool
				s := send(t.Context(), p, target, Mail{From: from}, []record.Path{to}, body)
				if s.err != nil || s.d.Outcome != record.Delivered {
					t.Fatal(s.rcpt, s.reply, s.err)
				}
				all := h.Messages()
				m := all[len(all)-1]
				checkSent(t, s, m, body)
				if m.TLS != tc.used || (s.d.TLS != nil) != tc.used || h.Conns() != tc.conns {
					t.Errorf("tls %v, recorded %+v, %d connections", m.TLS, s.d.TLS, h.Conns())
				}
				if tc.used && (s.d.TLS.Version != tc.name || s.d.TLS.Peer != "CN=hop.test" || s.d.TLS.Cipher == "" || s.d.TLS.Verified) {
					t.Errorf("%+v", s.d.TLS)
				}
				if tc.reason == "" && s.d.Reason != "" || !strings.Contains(s.d.Reason, tc.reason) {
					t.Errorf("reason %q", s.d.Reason)
				}
			}
		})
	}
}
