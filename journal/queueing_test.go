package journal

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/nexthop/route"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

func queueConfig() Config {
	return Config{
		Config: smtpd.Config{Name: "out", Mode: record.ModeQueue, Address: "127.0.0.1:2525", Hostname: "relay.example", TrustedNetworks: []string{"127.0.0.1"}},
		Routes: route.Routes{{Domain: []string{"dst.example", ".dst.example"}, Config: nexthop.Config{NextHop: []string{"127.0.0.1:25"}}}},
	}
}

// forwarder is that handler. Its sessions are those of session(), but in mode queue.
func forwarder(cfg Config, c Custody) queueHandler {
	return queueHandler{New(cfg, c, nil, slog.New(slog.DiscardHandler)).(*Forwarder)}
}

type queueHandler struct{ *Forwarder }

func (h queueHandler) Mail(ctx context.Context, s *smtpd.Session, from record.Path, p smtpd.Params) (smtpd.Transaction, error) {
	s.Mode = record.ModeQueue
	return h.Forwarder.Mail(ctx, s, from, p)
}

func TestQueuedMessageIsAcknowledgedAfterCustody(t *testing.T) {
	c := &fakeCustody{t: t}
	if r := relay(t.Context(), forwarder(queueConfig(), c), strings.NewReader(message), nil, to, other); r.err != nil || r.reply != nil {
		t.Fatalf("%+v", r)
	}
	env := c.envelopes[0]
	if env.Mode != record.ModeQueue || env.Completeness != record.Full || len(env.Rcpt) != 2 || env.Rcpt[0] != to || string(c.bodies[0]) != message || len(c.supplements) != 0 {
		t.Errorf("%+v, %+v", env, c.supplements)
	}
	c = &fakeCustody{t: t, fail: spool.ErrNoSpace}
	if r := relay(t.Context(), forwarder(queueConfig(), c), strings.NewReader(message), nil, to); !errors.Is(r.err, spool.ErrNoSpace) {
		t.Errorf("%+v", r)
	}
	c = &fakeCustody{t: t, ready: spool.ErrFull}
	if _, err := forwarder(queueConfig(), c).Mail(t.Context(), session(), from, smtpd.Params{}); !errors.Is(err, spool.ErrFull) {
		t.Errorf("MAIL: %v", err)
	}
}

func TestRecipientsWithoutARouteAreRefusedAtOnce(t *testing.T) {
	tx, err := forwarder(queueConfig(), &fakeCustody{t: t}).Mail(t.Context(), session(), from, smtpd.Params{})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]int{
		"b@dst.example": 0, "b@DST.example": 0, "b@sub.dst.example": 0, "postmaster": 0,
		"b@elsewhere.example": 550, `"b@dst.example"@elsewhere.example`: 550, "b@notdst.example": 550,
	} {
		err := tx.Rcpt(t.Context(), record.Path{Address: address})
		var reply *nexthop.Reply
		if errors.As(err, &reply); want == 0 && err != nil || want != 0 && (reply == nil || reply.Code != want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// What the archive does not have was not acknowledged, and ends, so that the queue does not deliver it beside the client's next try.
func TestNotArchivedIsWithdrawn(t *testing.T) {
	cfg := queueConfig()
	cfg.Ack = AckArchive
	c := &fakeCustody{t: t, await: func(context.Context, record.ID) error { return errDown }}
	if r := relay(t.Context(), forwarder(cfg, c), strings.NewReader(message), nil, to, other); !errors.Is(r.err, ErrNotArchived) {
		t.Fatalf("%+v", r)
	}
	if len(c.supplements) != 1 {
		t.Fatalf("%+v", c.supplements)
	}
	s := c.supplements[0]
	if d := s.Delivery; s.Name != "delivery-1" || s.ID != c.envelopes[0].ID || !d.Next.IsZero() || d.Outcome != record.Refused || len(d.Recipients) != 2 {
		t.Errorf("%+v, %+v", s, s.Delivery)
	}
	c = &fakeCustody{t: t, await: func(context.Context, record.ID) error { return nil }}
	if r := relay(t.Context(), forwarder(cfg, c), strings.NewReader(message), nil, to); r.err != nil || len(c.supplements) != 0 {
		t.Errorf("%+v, %+v", r, c.supplements)
	}
}

func TestQueuedMailIsKeptWholeWhateverBecomesOfIt(t *testing.T) {
	cfg := queueConfig()
	cfg.KeepRefused = KeepNone
	it := &record.Item{Kind: record.KindMessage, Envelope: &record.Envelope{Listener: "out", Mode: record.ModeQueue}}
	it.Supplements = []record.SupplementDoc{{Supplement: record.Supplement{Time: time.Now(), Delivery: &record.Delivery{Outcome: record.Refused}}}}
	if got := KeepOf([]Config{cfg})(it); got != KeepFull {
		t.Errorf("%s", got)
	}
}

func TestQueueConfiguration(t *testing.T) {
	if err := queueConfig().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Config){
		"routes: empty":                              func(c *Config) { c.Routes = nil },
		"next_hop: mode queue has routes":            func(c *Config) { c.Hop.NextHop = []string{"a:25"} },
		"routes: they are for mode queue":            func(c *Config) { c.Mode = record.ModeJournal },
		`routes[0].next_hop: "127.0.0.1:2525" is th`: func(c *Config) { c.Routes[0].NextHop = []string{"127.0.0.1:2525"} },
	} {
		cfg := queueConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
