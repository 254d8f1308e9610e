package nexthop

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// logBuffer is a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// answering says the same at a verb whenever it comes.
func answering(verb, text string) func(int, string, string) string {
	return func(_ int, v, _ string) string {
		if v == verb {
			return text
		}
		return ""
	}
}

// Each thing that may be wrong with the first of two hosts, and which of them then has the message.
func TestFailover(t *testing.T) {
	rcpts := []record.Path{to, other}
	for _, tc := range []struct {
		name   string
		verb   string
		answer string
		policy Policy
		second bool   // the second host has it
		want   string // the error of the first Rcpt or of Finish, where nobody has it
		down   bool   // the first is down afterwards
	}{
		{"greeting 5xx", "GREETING", "554 5.3.2 no service" + hoptest.Drop, "", true, "", true},
		{"greeting 4xx", "GREETING", "421 4.3.2 too busy" + hoptest.Drop, "", true, "", true},
		{"no greeting", "GREETING", hoptest.Drop, "", true, "", true},
		{"EHLO", "EHLO", "451 4.3.0 not now", "", true, "", true},
		{"no TLS as required", "STARTTLS", "454 4.7.0 not now", Required, true, "", true},
		{"no TLS, opportunistic", "STARTTLS", "454 4.7.0 not now", Opportunistic, false, "", false},
		{"MAIL 421", "MAIL", "421 4.3.2 going down" + hoptest.Drop, "", true, "", true},
		{"MAIL dropped", "MAIL", hoptest.Drop, "", true, "", true},
		{"MAIL 4xx", "MAIL", "452 4.3.1 disk full", "", true, "", false},
		{"MAIL 5xx", "MAIL", "550 5.7.1 not you", "", false, "550 5.7.1 not you", false},
		{"RCPT 421", "RCPT", "421 4.3.2 going down" + hoptest.Drop, "", true, "", true},
		{"RCPT dropped", "RCPT", hoptest.Drop, "", true, "", true},
		{"RCPT 4xx", "RCPT", "450 4.2.0 greylisted", "", false, "450 4.2.0 greylisted", false},
		{"RCPT 5xx", "RCPT", "550 5.1.1 who?", "", false, "550 5.1.1 who?", false},
		{"DATA 421", "DATA", "421 4.3.2 going down" + hoptest.Drop, "", true, "", true},
		{"DATA dropped", "DATA", hoptest.Drop, "", true, "", true},
		{"DATA 4xx", "DATA", "451 4.3.0 not now", "", false, "451 4.3.0 not now", false},
		{"in the body", "BODY", "421 4.3.2 going down" + hoptest.Drop, "", false, "*", true},
		{"after the dot", ".", hoptest.Drop, "", false, "unknown", true},
		{"dot 4xx", ".", "451 4.3.0 not now", "", false, "451 4.3.0 not now", false},
	} {
		for _, pipelining := range []bool{true, false} {
			t.Run(tc.name, func(t *testing.T) {
				a, b := hoptest.New(t), hoptest.New(t)
				for _, h := range []*hoptest.Hop{a, b} {
					h.TLS = &tls.Config{Certificates: []tls.Certificate{hoptest.Certificate(t)}}
					if !pipelining {
						h.Caps = []string{"SIZE"}
					}
				}
				a.Answer = answering(tc.verb, tc.answer)
				p := newPool(t, Options{})
				first, second := target(a), target(b)
				first.TLS, second.TLS = tc.policy, tc.policy
				s := sendTo(t.Context(), p, To(first, second), Mail{From: from}, rcpts, "hello\r\n")
				switch {
				case tc.want == "*": // the host may be heard out, or have broken off before
					if len(a.Messages())+len(b.Messages()) > 0 || s.reply.delivered() {
						t.Errorf("%v %v", s.reply, s.err)
					}
				case tc.want != "":
					err := s.rcpt[0]
					if err == nil {
						if err = s.err; err == nil {
							err = s.reply
						}
					}
					checkError(t, "reply", err, tc.want)
				case s.err != nil || s.d.Outcome != record.Delivered:
					t.Fatalf("%v %v %v", s.rcpt, s.reply, s.err)
				}
				if !tc.second {
					if b.Conns() > 0 {
						t.Error("the second host was asked")
					}
				} else {
					checkSent(t, s, b.Messages()[0], "hello\r\n")
					if len(b.Messages()[0].Rcpt) != 2 || len(a.Messages()) > 0 || s.d.NextHop != b.Addr() || s.d.Address != b.Addr() || s.d.Attempts != 2 {
						t.Errorf("%+v", s.d)
					}
					if tc.down && !strings.Contains(s.d.Reason, "after "+a.Addr()) {
						t.Errorf("reason %q", s.d.Reason)
					}
				}
				if down := testutil.ToFloat64(p.metrics.up.WithLabelValues(a.Addr())) == 0; down != tc.down {
					t.Errorf("down: %v", down)
				}
			})
		}
	}
}

func (r *Reply) delivered() bool { return r != nil && r.ok() }

// A host that is gone while the first of two recipients is with it: the other one must answer the same, or nobody has the message.
func TestFailoverBetweenRecipients(t *testing.T) {
	for _, tc := range []struct{ answer, want string }{{"", ""}, {"550 5.1.1 who?", "unavailable"}, {"421 4.3.2 too" + hoptest.Drop, "unavailable"}} {
		a, b := hoptest.New(t), hoptest.New(t)
		a.Answer = func(_ int, verb, line string) string {
			if strings.Contains(line, "<c@") {
				return hoptest.Drop
			}
			return ""
		}
		b.Answer = func(_ int, verb, line string) string {
			if strings.Contains(line, "<b@") {
				return tc.answer
			}
			return ""
		}
		s := sendTo(t.Context(), newPool(t, Options{}), To(target(a), target(b)), Mail{From: from}, []record.Path{to, other}, "x\r\n")
		checkError(t, "RCPT", s.rcpt[0], "")
		checkError(t, "RCPT", s.rcpt[1], tc.want)
		checkError(t, "Finish", s.err, tc.want)
		if len(a.Messages()) > 0 || (len(b.Messages()) == 1) != (tc.want == "") {
			t.Errorf("%d and %d messages", len(a.Messages()), len(b.Messages()))
		}
	}
}

// What a host said of a recipient before it gave way stands with that recipient, and with which host.
func TestRecipientsOfAnotherHost(t *testing.T) {
	a, b := hoptest.New(t), hoptest.New(t)
	a.TLS = &tls.Config{Certificates: []tls.Certificate{hoptest.Certificate(t)}}
	a.Answer = func(_ int, verb, line string) string {
		switch {
		case strings.Contains(line, "<b@"):
			return "550 5.1.1 who?"
		case verb == "DATA":
			return hoptest.Drop
		}
		return ""
	}
	s := sendTo(t.Context(), newPool(t, Options{}), To(target(a), target(b)), Mail{From: from}, []record.Path{to, other}, "x\r\n")
	if s.err != nil || s.d.Outcome != record.Delivered || s.d.NextHop != b.Addr() || s.d.TLS != nil || s.d.Attempts != 2 {
		t.Fatalf("%v %+v", s.err, s.d)
	}
	refused, taken := s.d.Recipients[0], s.d.Recipients[1]
	if refused.NextHop != a.Addr() || refused.Peer != a.Addr() || refused.TLS == nil || refused.Attempts != 1 || refused.Code != 550 {
		t.Errorf("%+v", refused)
	}
	if taken.NextHop != "" || taken.Peer != "" || taken.TLS != nil || taken.Attempts != 0 || taken.Outcome != record.Delivered {
		t.Errorf("%+v", taken)
	}
}

// The 4xx to MAIL of one host counts where the others can't be reached, and not where one of them says something else.
func TestDeferredMail(t *testing.T) {
	for _, tc := range []struct{ second, want string }{
		{"GREETING", "452 4.3.1 disk full"}, {"MAIL", "550 5.7.1 never"},
	} {
		a, b := hoptest.New(t), hoptest.New(t)
		a.Answer = answering("MAIL", "452 4.3.1 disk full")
		b.Answer = answering(tc.second, "550 5.7.1 never")
		p := newPool(t, Options{})
		s := sendTo(t.Context(), p, To(target(a), target(b)), Mail{From: from}, []record.Path{to, other})
		checkError(t, "RCPT", s.rcpt[0], tc.want)
		checkError(t, "RCPT", s.rcpt[1], tc.want)
		if a.Conns() != 1 || b.Conns() != 1 {
			t.Errorf("%d and %d connections", a.Conns(), b.Conns())
		}
	}
}

func TestAllHostsDown(t *testing.T) {
	a, b := hoptest.New(t), hoptest.New(t)
	a.Answer, b.Answer = answering("GREETING", "554 no"), answering("EHLO", "421 no"+hoptest.Drop)
	var log logBuffer
	p := newPool(t, Options{Log: log.logger()})
	for n := range 2 { // all are tried each time, down or not
		s := sendTo(t.Context(), p, To(target(a), target(b)), Mail{From: from}, []record.Path{to})
		checkError(t, "RCPT", s.rcpt[0], "unavailable")
		for _, want := range []string{a.Addr() + ": greeting: 554 no", b.Addr() + ": EHLO: 421 no"} {
			if !strings.Contains(s.rcpt[0].Error(), want) {
				t.Errorf("%v", s.rcpt[0])
			}
		}
		if a.Conns() != n+1 || b.Conns() != n+1 {
			t.Errorf("%d and %d connections", a.Conns(), b.Conns())
		}
	}
	if n := strings.Count(log.String(), "next hop is down"); n != 2 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}

// A route without hosts is a fault of who made it, and not the end of the world.
func TestNoHosts(t *testing.T) {
	s := sendTo(t.Context(), newPool(t, Options{}), Route{Name: "nowhere"}, Mail{From: from}, []record.Path{to})
	checkError(t, "RCPT", s.rcpt[0], "unavailable")
	tx := newPool(t, Options{}).Begin(Route{Name: "nowhere"}, Mail{From: from})
	tx.Rcpt(t.Context(), to)
	tx.Data(t.Context(), trace)
	if _, err := tx.Finish(t.Context()); !errors.Is(err, ErrUnavailable) || tx.Delivery().Outcome != record.Refused || tx.Delivery().NextHop != "nowhere" {
		t.Errorf("%v %+v", err, tx.Delivery())
	}
}

// The end of the client's patience is not the host's fault.
func TestContextEndIsNobodysFault(t *testing.T) {
	a, b := hoptest.New(t), hoptest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	a.Answer = func(_ int, verb, _ string) string {
		if verb == "MAIL" {
			cancel()
			<-time.After(20 * time.Millisecond)
		}
		return ""
	}
	p := newPool(t, Options{})
	s := sendTo(ctx, p, To(target(a), target(b)), Mail{From: from}, []record.Path{to})
	if !errors.Is(s.rcpt[0], context.Canceled) || !errors.Is(s.rcpt[0], ErrUnavailable) || b.Conns() > 0 {
		t.Errorf("%v, %d connections to the second", s.rcpt[0], b.Conns())
	}
	if testutil.ToFloat64(p.metrics.up.WithLabelValues(a.Addr())) != 1 {
		t.Error("the host counts as down")
	}
}

// A host that was down is looked at in the background, when its pause is over and mail goes elsewhere, and serves again.
func TestComesBack(t *testing.T) {
	a, b := hoptest.New(t), hoptest.New(t)
	var log logBuffer
	dead := true
	var mu sync.Mutex
	isDead := func(set ...bool) bool {
		mu.Lock()
		defer mu.Unlock()
		if len(set) > 0 {
			dead = set[0]
		}
		return dead
	}
	dials := 0
	p := newPool(t, Options{Log: log.logger(), Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == a.Addr() {
			mu.Lock()
			dials++
			mu.Unlock()
			if isDead() {
				return nil, errors.New("no route to host")
			}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	route := To(target(a), target(b))
	one := func() {
		t.Helper()
		if s := sendTo(t.Context(), p, route, Mail{From: from}, []record.Path{to}, "x\r\n"); s.err != nil || s.rcpt[0] != nil {
			t.Fatal(s.rcpt, s.err)
		}
	}
	for range 20 {
		one()
	}
	if mu.Lock(); dials != 1 {
		t.Errorf("a dead host was dialled %d times at once", dials)
	}
	mu.Unlock()
	with := func(f func(h *host)) {
		p.mu.Lock()
		defer p.mu.Unlock()
		f(p.hosts[target(a)])
	}
	over := func(h *host) { h.until = time.Now().Add(-time.Second) }
	with(over)
	one() // looks, and finds it dead still
	waitFor(t, func() (done bool) {
		with(func(h *host) { done = h.failures == 2 && !h.probing && h.until.After(time.Now().Add(firstPause)) })
		return done
	})
	isDead(false)
	with(over)
	one()
	waitFor(t, func() bool { return testutil.ToFloat64(p.metrics.up.WithLabelValues(a.Addr())) == 1 })
	waitFor(t, func() bool { return testutil.ToFloat64(p.metrics.idle) == 2 })
	one()
	if len(a.Messages()) != 1 || len(b.Messages()) != 22 {
		t.Errorf("%d and %d messages", len(a.Messages()), len(b.Messages()))
	}
	with(func(h *host) {
		if h.failures != 0 {
			t.Errorf("%d failures are remembered", h.failures)
		}
	})
	for _, want := range []string{"next hop is down", "next hop is up again"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("%q:\n%s", want, log.String())
		}
	}
}

func TestPausesGrow(t *testing.T) {
	p := newPool(t, Options{})
	p.mu.Lock()
	h := p.host(Target{Address: "a:25"})
	p.mu.Unlock()
	low, high := firstPause, firstPause
	for n := range 100 {
		p.failed(h, errors.New("x"))
		pause := time.Until(h.until)
		if pause < low*3/4-time.Second/10 || pause > high*5/4 {
			t.Fatalf("pause %d is %v", n, pause)
		}
		low, high = min(2*low, maxPause), min(2*high, maxPause)
	}
}

// Hosts found in the DNS are without end: they are forgotten, and not shown.
func TestHostsAreForgotten(t *testing.T) {
	p := newPool(t, Options{})
	p.mu.Lock()
	defer p.mu.Unlock()
	configured := Target{Address: "a:25"}
	busy := Target{Address: "busy:25", IP: netip.MustParseAddr("192.0.2.1")}
	p.host(configured)
	p.host(busy).until = time.Now()
	ip := netip.MustParseAddr("2001:db8::")
	for range 10 * manyHosts {
		ip = ip.Next()
		p.host(Target{Address: "mx:25", IP: ip})
	}
	if len(p.hosts) > 2*manyHosts || p.hosts[configured] == nil || p.hosts[busy] == nil {
		t.Errorf("%d hosts", len(p.hosts))
	}
	if n := testutil.CollectAndCount(p.metrics.up); n != 1 {
		t.Errorf("%d hosts are shown", n)
	}
}

// The hosts that are up come in the order of the route, those that are down after them.
func TestOrder(t *testing.T) {
	p := newPool(t, Options{})
	route := To(Target{Address: "a:25"}, Target{Address: "b:25"}, Target{Address: "c:25"}, Target{Address: "d:25"})
	order := func() (names []string) {
		for _, h := range p.choose(route, nil) {
			names = append(names, h.target.Address)
		}
		return names
	}
	check := func(want ...string) {
		t.Helper()
		if got := order(); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	check("a:25", "b:25", "c:25", "d:25")
	soon, later := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	p.hosts[route.Hosts[0]].down, p.hosts[route.Hosts[0]].until = true, later
	check("b:25", "c:25", "d:25", "a:25")
	p.hosts[route.Hosts[2]].down, p.hosts[route.Hosts[2]].until = true, soon
	check("b:25", "d:25", "c:25", "a:25")
}

// The first of two hosts is cut at any byte, in either direction, by DATA, BDAT and LMTP: the message is never with both, the second has
// it only where the first had nothing of its body, and what is told is what happened.
func TestCutAtAnyByteOfTwo(t *testing.T) {
	body := "Subject: cut\r\n\r\n.dots\r\nend\r\n"
	for _, kind := range []string{"data", "bdat", "lmtp"} {
		for _, way := range []string{"read", "write"} {
			over, whole := 0, false
			for limit := 1; !whole; limit++ {
				if limit > 2000 {
					t.Fatal("never got through")
				}
				func() {
					a, b := hoptest.New(t), hoptest.New(t)
					defer a.Close()
					defer b.Close()
					cut := func(int) int { return limit }
					if way == "read" {
						a.ReadLimit = cut
					} else {
						a.WriteLimit = cut
					}
					var route Route
					for _, h := range []*hoptest.Hop{a, b} {
						h.LMTP = kind == "lmtp"
						if kind == "bdat" {
							h.Caps = append(h.Caps, "CHUNKING")
						}
						next := target(h)
						next.LMTP = h.LMTP
						route.Hosts = append(route.Hosts, next)
					}
					p := New(Options{})
					defer p.Close()
					s := sendTo(t.Context(), p, route, Mail{From: from, BareNewlines: kind == "bdat"}, []record.Path{to, other}, body)
					where := kind + ", " + way + " cut after " + strconv.Itoa(limit)
					if s.d == nil {
						t.Errorf("%s: %v", where, s.rcpt)
						return
					}
					began := strings.Contains(strings.Join(a.Log(), "\n"), "BDAT")
					switch {
					case a.Dots() > 0 && b.Dots() > 0, began && b.Conns() > 0:
						t.Errorf("%s: with both, %d and %d", where, a.Dots(), b.Dots())
					case s.d.Outcome == record.Delivered && s.err == nil:
						from := b
						if s.d.Attempts == 1 {
							from, whole = a, true
						} else {
							over++
						}
						checkSent(t, s, from.Messages()[0], body)
					case s.d.Outcome == record.Refused && a.Dots()+b.Dots() > 0:
						t.Errorf("%s: refused, %d and %d messages: %v %v", where, a.Dots(), b.Dots(), s.reply, s.err)
					case s.d.Outcome == record.Unknown && !errors.Is(s.err, ErrUnknown):
						t.Errorf("%s: %v", where, s.err)
					}
				}()
			}
			if over < 50 {
				t.Errorf("%s, %s: the second host served %d times only", kind, way, over)
			}
		}
	}
}
