package journal

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
	"github.com/holdfast-archive/holdfast/journal/nexthop/route"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

var errDown = errors.New("the store is down")

// newAcked makes a handler of a listener with ack: archive.
func newAcked(t testing.TB, mode string, h *hoptest.Hop, c Custody) smtpd.Handler {
	pool := nexthop.New(nexthop.Options{})
	t.Cleanup(pool.Close)
	cfg := Config{Ack: AckArchive, Config: smtpd.Config{Mode: mode, Hostname: "relay.example"}}
	if h != nil {
		cfg.Hop.NextHop = []string{h.Addr()}
	}
	return New(cfg, c, pool, slog.New(slog.DiscardHandler))
}

// No dot before the archive has the message.
func TestDotWaitsForTheArchive(t *testing.T) {
	h := hoptest.New(t)
	var mu sync.Mutex
	dot := false
	h.Answer = func(n int, verb, line string) string {
		mu.Lock()
		defer mu.Unlock()
		dot = dot || verb == "."
		return ""
	}
	c := &fakeCustody{t: t}
	c.await = func(ctx context.Context, id record.ID) error {
		time.Sleep(20 * time.Millisecond) // a dot that was sent would be there by now, mostly
		mu.Lock()
		defer mu.Unlock()
		if dot || len(h.Messages()) > 0 {
			t.Error("the next hop had the dot before the archive had the message")
		}
		return nil
	}
	r := relay(t.Context(), newAcked(t, record.ModeRelay, h, c), strings.NewReader(message), nil, to)
	if r.err != nil || r.reply.Code != 250 || len(h.Messages()) != 1 {
		t.Fatalf("%+v", r)
	}
	if !c.wasEarly[0] || len(c.supplements) != 1 || c.supplements[0].Delivery.Outcome != record.Delivered {
		t.Errorf("early %v, %+v", c.wasEarly, c.supplements)
	}
}

// What the archive does not have is not delivered, the client keeps it, and the record says so.
func TestNotArchivedIsNotDelivered(t *testing.T) {
	stopping, stop := context.WithCancel(t.Context())
	slow := func(ctx context.Context, id record.ID) error { <-ctx.Done(); return context.Cause(ctx) }
	for _, tc := range []struct {
		name  string
		ctx   context.Context
		await func(ctx context.Context, id record.ID) error
		want  error
	}{
		{"down", t.Context(), func(context.Context, record.ID) error { return errDown }, ErrNotArchived},
		{"slow", t.Context(), slow, ErrNotArchived},
		{"forced to stop", stopping, func(ctx context.Context, id record.ID) error { stop(); return slow(ctx, id) }, context.Canceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := hoptest.New(t)
			c := &fakeCustody{t: t, await: tc.await}
			handler := newAcked(t, record.ModeRelay, h, c).(*Relay)
			handler.ack.patience = 20 * time.Millisecond
			if tc.want == context.Canceled {
				handler.ack.patience = time.Minute
			}
			r := relay(tc.ctx, handler, strings.NewReader(message), nil, to)
			if !errors.Is(r.err, tc.want) || tc.want == ErrNotArchived && errors.Is(r.err, context.DeadlineExceeded) { // which has another reply
				t.Errorf("%+v", r)
			}
			if n := len(h.Messages()); n != 0 {
				t.Errorf("%d delivered", n)
			}
			if len(c.supplements) != 1 {
				t.Fatalf("%+v", c.supplements)
			}
			d := c.supplements[0].Delivery
			if d.Outcome != record.Refused || !strings.HasPrefix(d.Reason, "not sent: ") || len(d.Recipients) != 1 ||
				d.Recipients[0].Outcome != record.Refused || d.Recipients[0].Time.IsZero() || !d.Next.IsZero() {
				t.Errorf("%+v", d)
			}
		})
	}
}

// In mode queue such a message is withdrawn at once: the archive may have it in the next moment, and the queue waits for nothing else.
func TestNotArchivedIsWithdrawnFromTheQueue(t *testing.T) {
	c := &fakeCustody{t: t, await: func(context.Context, record.ID) error { return errDown }}
	cfg := Config{Ack: AckArchive, Config: smtpd.Config{Mode: record.ModeQueue, Hostname: "relay.example"}}
	cfg.Routes = route.Routes{{Domain: []string{"*"}, Config: nexthop.Config{NextHop: []string{"127.0.0.1:25"}}}}
	r := relay(t.Context(), New(cfg, c, nil, slog.New(slog.DiscardHandler)), strings.NewReader(message), nil, to)
	if !errors.Is(r.err, ErrNotArchived) {
		t.Errorf("%+v", r)
	}
	if len(c.ended) != 1 || c.ended[0] != c.envelopes[0].ID {
		t.Errorf("ended: %v", c.ended)
	}
	if len(c.supplements) != 1 || c.supplements[0].Delivery.Outcome != record.Refused || !c.supplements[0].Delivery.Next.IsZero() {
		t.Errorf("%+v", c.supplements)
	}
}

// A client that hangs up meanwhile sends again, so nothing is delivered for it.
func TestClientHangsUpBeforeTheArchive(t *testing.T) {
	hop := hoptest.New(t)
	waiting := make(chan struct{})
	c := &fakeCustody{t: t, await: func(ctx context.Context, id record.ID) error {
		close(waiting)
		<-ctx.Done()
		return context.Cause(ctx)
	}}
	cfg := config()
	cfg.Hop.NextHop = []string{hop.Addr()}
	h := newHouse(t, cfg, func(r *Relay) { r.custody, r.ack = c, ack{custody: c, archive: true, patience: time.Minute} })
	cl := h.client(t)
	cl.send(message, "b@dst.example")
	<-waiting
	cl.Close()
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.supplements) == 1
	})
	d := c.supplements[0].Delivery
	if d.Outcome != record.Refused || !strings.Contains(d.Reason, "hung up") || !d.ReplyLost || len(hop.Messages()) != 0 {
		t.Errorf("%+v", d)
	}
}

// The reply of a relay that can't archive is a 451, for the message and then for MAIL, and never a 5xx.
func TestNotArchivedIs451(t *testing.T) {
	hop := hoptest.New(t)
	c := &fakeCustody{t: t, await: func(context.Context, record.ID) error { return errDown }}
	cfg := config()
	cfg.Hop.NextHop = []string{hop.Addr()}
	h := newHouse(t, cfg, func(r *Relay) { r.custody, r.ack = c, ack{custody: c, archive: true, patience: time.Minute} })
	cl := h.client(t)
	cl.send(message, "b@dst.example")
	cl.expect("451")
	c.failing = errDown
	cl.say("MAIL FROM:<a@src.example>", "451")
	c.failing = nil
	c.await = func(context.Context, record.ID) error { return nil }
	cl.send(message, "b@dst.example")
	cl.expect("250")
}

func TestJournalWaitsForTheArchive(t *testing.T) {
	c := &fakeCustody{t: t, await: func(context.Context, record.ID) error { return errDown }}
	k := newAcked(t, record.ModeJournal, nil, c)
	if r := relay(t.Context(), k, strings.NewReader(message), nil, to); !errors.Is(r.err, ErrNotArchived) {
		t.Errorf("%+v", r)
	}
	waited := false
	c.await = func(context.Context, record.ID) error { waited = true; return nil }
	if r := relay(t.Context(), k, strings.NewReader(message), nil, to); r.err != nil || r.reply != nil || !waited {
		t.Errorf("%+v", r)
	}
	c.failing = errDown
	if r := relay(t.Context(), k, strings.NewReader(message), nil, to); !errors.Is(r.mail, ErrNotArchived) {
		t.Errorf("%+v", r)
	}
	c.failing, c.ready = nil, errDown
	if r := relay(t.Context(), k, strings.NewReader(message), nil, to); !errors.Is(r.mail, errDown) {
		t.Errorf("%+v", r)
	}
	if len(c.supplements) != 0 {
		t.Errorf("%+v", c.supplements)
	}
}
