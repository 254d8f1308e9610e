package journal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

var (
	from  = record.Path{Address: "a@src.example"}
	to    = record.Path{Address: "b@dst.example", Notify: "NEVER"}
	other = record.Path{Address: "c@dst.example"}
)

// fakeCustody keeps messages in memory and fails where it is told to.
type fakeCustody struct {
	t      testing.TB
	ready  error
	fail   error         // of Accept, after the whole body was read
	early  error         // of Accept, before any of it was read
	whole  chan struct{} // closed, where set, when the body has been read
	accept chan struct{} // waited for, where set, before Accept returns

	failing error
	await   func(context.Context, record.ID) error // nil: not to be called

	mu          sync.Mutex
	envelopes   []record.Envelope
	wasEarly    []bool // by envelope
	bodies      [][]byte
	supplements []record.Supplement
	ended       []record.ID
}

func (c *fakeCustody) Ready(int64) error { return c.ready }

func (c *fakeCustody) Accept(ctx context.Context, env record.Envelope, body io.Reader, opt spool.AcceptOptions) (record.ID, error) {
	if c.early != nil {
		return record.ID{}, c.early
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return record.ID{}, err
	}
	if c.whole != nil {
		close(c.whole)
	}
	if c.accept != nil {
		<-c.accept
	}
	env.Received, env.Size, env.SHA256 = time.Now().UTC(), int64(len(b)), record.Sum(b)
	if env.ID.IsZero() {
		env.ID = record.NewID(env.Received)
	}
	if opt.Finish != nil {
		if err := opt.Finish(&env); err != nil {
			return record.ID{}, err
		}
	}
	if c.fail != nil {
		return record.ID{}, c.fail
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.envelopes, c.bodies, c.wasEarly = append(c.envelopes, env), append(c.bodies, b), append(c.wasEarly, opt.Early)
	return env.ID, nil
}

func (c *fakeCustody) Await(ctx context.Context, id record.ID) error {
	if c.await == nil {
		c.t.Error("the archive is waited for")
		return nil
	}
	c.mu.Lock()
	if !slices.ContainsFunc(c.envelopes, func(e record.Envelope) bool { return e.ID == id }) {
		c.t.Errorf("%v is waited for, which is not in custody", id)
	}
	c.mu.Unlock()
	return c.await(ctx, id)
}

func (c *fakeCustody) Failing() error { return c.failing }

func (c *fakeCustody) End(id record.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, id)
}

func (c *fakeCustody) AppendSoon(it *record.Item) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if it.Kind != record.KindSupplement || it.Supplement == nil || it.ID != it.Supplement.ID || it.Supplement.Delivery == nil {
		c.t.Errorf("not a delivery: %+v", it)
	}
	if !slices.ContainsFunc(c.envelopes, func(e record.Envelope) bool { return e.ID == it.ID }) {
		c.t.Errorf("delivery of %v, which is not in custody", it.ID)
	}
	c.supplements = append(c.supplements, it.Supplement.Supplement)
	return nil
}

func newRelay(t testing.TB, h *hoptest.Hop, c Custody) *Relay {
	pool := nexthop.New(nexthop.Options{})
	t.Cleanup(pool.Close)
	cfg := Config{Hop: nexthop.Config{NextHop: []string{h.Addr()}}, Config: smtpd.Config{Mode: record.ModeRelay, Hostname: "relay.example"}}
	return New(cfg, c, pool, slog.New(slog.DiscardHandler)).(*Relay)
}

func session() *smtpd.Session {
	return &smtpd.Session{ID: "s1", Listener: "relay", Mode: record.ModeRelay,
		Client: record.Client{Address: "192.0.2.1", Port: 4711, Helo: "client.example", ESMTP: true},
		TLS:    &record.TLS{Version: "1.3"}}
}

// relayed is how one message went.
type relayed struct {
	mail  error
	rcpt  []error
	reply *nexthop.Reply
	err   error
}

// relay plays the session: MAIL, RCPT, and unless all were refused DATA. replied is what the session says of its reply.
func relay(ctx context.Context, h smtpd.Handler, body io.Reader, replied error, rcpt ...record.Path) (r relayed) {
	tx, err := h.Mail(ctx, session(), from, smtpd.Params{Size: 99, Body: "8BITMIME", Ret: "HDRS", EnvID: "x"})
	if err != nil {
		r.mail = err
		return r
	}
	some := false
	for _, to := range rcpt {
		err := tx.Rcpt(ctx, to)
		r.rcpt, some = append(r.rcpt, err), some || err == nil
	}
	if !some {
		tx.Abort()
		return r
	}
	r.reply, r.err = tx.Data(ctx, smtpd.NewBody(body))
	tx.Replied(replied)
	return r
}

const message = "Subject: hello\r\n\r\n.a dot\r\nend\r\n"

func TestRelayDelivers(t *testing.T) {
	h := hoptest.New(t)
	h.Answer = func(n int, verb, line string) string {
		if strings.Contains(line, "c@dst") {
			return "550 5.1.1 who?"
		}
		return ""
	}
	c := &fakeCustody{t: t}
	r := relay(t.Context(), newRelay(t, h, c), strings.NewReader(message), nil, to, other)
	if r.err != nil || r.reply.Code != 250 || !strings.Contains(r.reply.Lines[0], "queued as") {
		t.Fatalf("%+v", r)
	}
	if reply, ok := errors.AsType[*nexthop.Reply](r.rcpt[1]); r.rcpt[0] != nil || !ok || reply.Error() != "550 5.1.1 who?" {
		t.Errorf("%v", r.rcpt)
	}
	env, d := c.envelopes[0], c.supplements[0]
	if string(c.bodies[0]) != message {
		t.Errorf("in custody: %q", c.bodies[0])
	}
	if env.Mode != record.ModeRelay || env.Source != record.SourceSMTP || env.Completeness != record.Full || env.Listener != "relay" ||
		env.Session != "s1" || env.Client.Helo != "client.example" || env.TLS == nil || env.MailFrom.Address != from.Address ||
		len(env.Rcpt) != 1 || env.Rcpt[0] != to || env.Body != "8BITMIME" || env.Ret != "HDRS" || env.EnvID != "x" || env.DeclaredSize != 99 {
		t.Errorf("%+v", env)
	}
	m := h.Messages()[0]
	header, rest, _ := strings.Cut(string(m.Data), "+0000\r\n")
	if rest != message || !strings.HasPrefix(header, "Received: from client.example ([192.0.2.1])\r\n\tby relay.example (Holdfast) with ESMTPS id "+
		env.ID.String()+"\r\n\tfor <b@dst.example>;") {
		t.Errorf("sent on: %q", m.Data)
	}
	if d.ID != env.ID || d.Name != "delivery-1" || d.Time.IsZero() || d.Delivery.Outcome != record.Delivered || d.Delivery.ReplyLost ||
		d.Delivery.SentSHA256 != record.Sum(m.Data) || d.Delivery.SentSize != int64(len(m.Data)) || d.Delivery.Address != h.Addr() {
		t.Errorf("%+v %+v", d, d.Delivery)
	}
	if rs := d.Delivery.Recipients; len(rs) != 2 || rs[0].Outcome != record.Delivered || rs[1].Outcome != record.Refused || rs[1].Code != 550 {
		t.Errorf("%+v", rs)
	}
}

func TestRelayOutcomes(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers map[string]string
		lost    error
		outcome record.Outcome // "": nothing in custody
		code    int            // the client's; 0: an error of ours
		is      error
	}{
		{"delivered", nil, nil, record.Delivered, 250, nil},
		{"delivered, client gone", nil, smtpd.ErrClientGone, record.Delivered, 250, nil},
		{"refused", map[string]string{".": "554 5.7.1 spam"}, nil, record.Refused, 554, nil},
		{"refused for now", map[string]string{".": "451 4.7.1 later"}, nil, record.Refused, 451, nil},
		{"data refused", map[string]string{"DATA": "554 5.7.1 spam"}, nil, record.Refused, 554, nil},
		{"dropped before the body", map[string]string{"DATA": hoptest.Drop}, nil, record.Refused, 0, nexthop.ErrUnavailable},
		{"dropped in the body", map[string]string{"BODY": hoptest.Drop}, nil, record.Refused, 0, nil}, // or unknown: the dot may have left
		{"dropped after the dot", map[string]string{".": hoptest.Drop}, smtpd.ErrClientGone, record.Unknown, 0, nexthop.ErrUnknown},
		{"all recipients refused", map[string]string{"RCPT": "550 5.1.1 who?"}, nil, "", 0, nil},
		{"mail refused", map[string]string{"MAIL": "550 5.1.1 who?"}, nil, "", 0, nil},
		{"nobody there", map[string]string{"GREETING": hoptest.Drop}, nil, "", 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := hoptest.New(t)
			h.Answer = func(n int, verb, line string) string { return tc.answers[verb] }
			c := &fakeCustody{t: t}
			r := relay(t.Context(), newRelay(t, h, c), strings.NewReader(message), tc.lost, to)
			if tc.outcome == "" {
				if len(c.envelopes)+len(c.supplements) > 0 || r.rcpt[0] == nil {
					t.Errorf("%v: %+v %+v", r.rcpt, c.envelopes, c.supplements)
				}
				return
			}
			if len(c.bodies) != 1 || string(c.bodies[0]) != message || len(c.supplements) != 1 {
				t.Fatalf("custody has %q, %d outcomes", c.bodies, len(c.supplements))
			}
			reply := r.reply
			if e, ok := errors.AsType[*nexthop.Reply](r.err); ok {
				reply = e
				if reply.Code/100 == 2 {
					t.Error("a 2xx as an error")
				}
			} else if r.err == nil && reply.Code/100 != 2 {
				t.Error("a refusal without an error")
			}
			if code := code(reply); code != tc.code || tc.is != nil && !errors.Is(r.err, tc.is) {
				t.Errorf("%v %v", r.reply, r.err)
			}
			d := c.supplements[0].Delivery
			if d.Outcome != tc.outcome && !(tc.answers["BODY"] != "" && d.Outcome == record.Unknown) || d.ReplyLost != (tc.lost != nil) {
				t.Errorf("%+v", d)
			}
		})
	}
}

func code(r *nexthop.Reply) int {
	if r == nil {
		return 0
	}
	return r.Code
}

// While custody has not said yes, no final dot is sent; when it says no, none ever is, and the next hop has half a message.
func TestCustodyBeforeTheDot(t *testing.T) {
	big := strings.Repeat("much\r\n", 1<<16)
	for name, body := range map[string]string{"small": message, "big": big} {
		t.Run(name, func(t *testing.T) {
			h := hoptest.New(t)
			c := &fakeCustody{t: t, whole: make(chan struct{}), accept: make(chan struct{})}
			done := make(chan relayed)
			go func() { done <- relay(t.Context(), newRelay(t, h, c), strings.NewReader(body), nil, to) }()
			<-c.whole
			if h.Dots() != 0 {
				t.Error("the dot was sent before custody")
			}
			close(c.accept)
			if r := <-done; r.err != nil || h.Dots() != 1 {
				t.Errorf("%+v, %d dots", r, h.Dots())
			}
		})
		t.Run(name+", custody fails", func(t *testing.T) {
			for _, c := range []*fakeCustody{{t: t, fail: spool.ErrNoSpace}, {t: t, early: spool.ErrNoSpace}} {
				h := hoptest.New(t)
				r := relay(t.Context(), newRelay(t, h, c), strings.NewReader(body), nil, to)
				if !errors.Is(r.err, spool.ErrNoSpace) || r.reply != nil || len(c.supplements) != 0 {
					t.Errorf("%+v", r)
				}
				waitFor(t, func() bool { return slices.Contains(h.Log(), "1: EOF") }) // all that was sent has been read
				if h.Dots() != 0 || slices.Contains(h.Log(), "1: QUIT") || slices.Contains(h.Log(), "1: RSET") {
					t.Errorf("%d dots: %q", h.Dots(), h.Log())
				}
			}
		})
		t.Run(name+", client fails", func(t *testing.T) {
			for _, cut := range []int{0, 1, len(body) / 2, len(body)} {
				h := hoptest.New(t)
				c := &fakeCustody{t: t}
				source := io.MultiReader(strings.NewReader(body[:cut]), errReader{io.ErrUnexpectedEOF})
				r := relay(t.Context(), newRelay(t, h, c), source, nil, to)
				if !errors.Is(r.err, io.ErrUnexpectedEOF) || len(c.bodies)+len(c.supplements) != 0 {
					t.Errorf("%+v", r)
				}
				waitFor(t, func() bool { return slices.Contains(h.Log(), "1: EOF") })
				if h.Dots() != 0 {
					t.Errorf("cut at %d: delivered", cut)
				}
			}
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// A next hop that breaks off in the middle of a large body does not cost a byte of custody.
func TestNextHopFailsInTheBody(t *testing.T) {
	h := hoptest.New(t)
	h.ReadLimit = func(int) int { return 300_000 }
	c := &fakeCustody{t: t}
	body := bytes.Repeat([]byte("much\r\n"), 1<<20)
	r := relay(t.Context(), newRelay(t, h, c), bytes.NewReader(body), nil, to)
	if !errors.Is(r.err, nexthop.ErrUnavailable) || h.Dots() != 0 {
		t.Errorf("%+v", r)
	}
	if !bytes.Equal(c.bodies[0], body) || c.supplements[0].Delivery.Outcome != record.Refused {
		t.Errorf("%d bytes in custody, %+v", len(c.bodies[0]), c.supplements[0].Delivery)
	}
}

// The server stops while the next hop thinks.
func TestStopWhileWaiting(t *testing.T) {
	h := hoptest.New(t)
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	h.Answer = func(n int, verb, line string) string {
		if verb == "." {
			cancel()
			<-release
		}
		return ""
	}
	c := &fakeCustody{t: t}
	r := relay(ctx, newRelay(t, h, c), strings.NewReader(message), nil, to)
	if !errors.Is(r.err, nexthop.ErrUnknown) || c.supplements[0].Delivery.Outcome != record.Unknown || c.supplements[0].Delivery.Reason == "" {
		t.Errorf("%+v %+v", r, c.supplements[0].Delivery)
	}
}

func TestNotReady(t *testing.T) {
	h := hoptest.New(t)
	c := &fakeCustody{t: t, ready: spool.ErrFull}
	keeper := New(Config{Config: smtpd.Config{Mode: record.ModeJournal}}, c, nil, slog.New(slog.DiscardHandler))
	for _, handler := range []smtpd.Handler{newRelay(t, h, c), keeper} {
		if r := relay(t.Context(), handler, strings.NewReader(message), nil, to); !errors.Is(r.mail, spool.ErrFull) {
			t.Errorf("%T: %+v", handler, r)
		}
	}
	if h.Conns() != 0 {
		t.Error("the next hop was asked")
	}
}

func TestKeeper(t *testing.T) {
	c := &fakeCustody{t: t}
	keeper := New(Config{Config: smtpd.Config{Mode: record.ModeJournal}}, c, nil, slog.New(slog.DiscardHandler))
	body := "bare\nnewlines\rare\r\nkept"
	r := relay(t.Context(), keeper, strings.NewReader(body), smtpd.ErrClientGone, to, other)
	if r.err != nil || r.reply != nil || len(c.supplements) != 0 {
		t.Fatalf("%+v", r)
	}
	env := c.envelopes[0]
	if string(c.bodies[0]) != body || env.BareLF != 1 || env.BareCR != 1 || len(env.Rcpt) != 2 || env.Rcpt[0] != to ||
		env.Completeness != record.Partial {
		t.Errorf("%q %+v", c.bodies[0], env)
	}
	c.fail = spool.ErrFailed
	if r := relay(t.Context(), keeper, strings.NewReader(body), nil, to); !errors.Is(r.err, spool.ErrFailed) {
		t.Errorf("%+v", r)
	}
}
