package journal

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

// patience is how long the next hop's reply is waited for when the client has hung up: it may still come, and then the record knows.
const patience = 30 * time.Second

// errClientGone ends that wait.
var errClientGone = errors.New("the client hung up, and the reply did not come for another while")

// Relay is the handler of mode relay: messages pass through to one next hop, whose replies are the client's, word for word. Safe for
// concurrent use.
type Relay struct {
	custody  Custody
	ack      ack
	pool     *nexthop.Pool
	route    nexthop.Route
	hostname string
	patience time.Duration
	log      *slog.Logger
}

// Mail implements smtpd.Handler. The next hop hears of it with the first recipient.
func (r *Relay) Mail(ctx context.Context, s *smtpd.Session, from record.Path, p smtpd.Params) (smtpd.Transaction, error) {
	if err := r.ack.ready(p.Size); err != nil {
		return nil, err
	}
	env := envelope(s, from, p)
	env.Completeness = record.Full
	hop := r.pool.Begin(r.route, nexthop.Mail{
		From: from, Size: p.Size, Body: p.Body, SMTPUTF8: p.SMTPUTF8, Ret: p.Ret, EnvID: p.EnvID, BareNewlines: s.BareNewline,
	})
	return &relaying{relay: r, session: s, env: env, hop: hop}, nil
}

// relaying is one message on its way through.
type relaying struct {
	relay    *Relay
	session  *smtpd.Session
	env      record.Envelope
	hop      *nexthop.Transaction
	delivery *record.Delivery // set once the message is in custody and its outcome known
}

func (t *relaying) Rcpt(ctx context.Context, to record.Path) error { return t.hop.Rcpt(ctx, to) }

func (t *relaying) Abort() { t.hop.Close() }

// Data takes the message into custody while it is sent on; then, and only then, the final dot is sent. On an error before that the
// connection to the next hop is closed inside the message, which nobody delivers.
func (t *relaying) Data(ctx context.Context, body *smtpd.Body) (*nexthop.Reply, error) {
	defer t.hop.Close()
	t.env.ID = record.NewID(time.Now())
	t.env.Rcpt = t.hop.Accepted()
	t.hop.Data(ctx, t.trace())
	opt := bareNewlines(body)
	opt.Early = t.relay.ack.archive
	if _, err := t.relay.custody.Accept(ctx, t.env, io.TeeReader(body, t.hop), opt); err != nil {
		return nil, err
	}
	if err := t.relay.ack.await(ctx, t.session, t.env.ID); err != nil {
		t.delivery = notSent(t.hop, err)
		t.report(body.Size(), nil)
		return nil, err
	}
	reply, err := t.finish(ctx)
	t.delivery = t.hop.Delivery()
	t.report(body.Size(), reply)
	switch {
	case err != nil:
		return nil, err
	case reply.Code/100 != 2:
		return nil, reply
	}
	return reply, nil
}

// trace is the Received line of the copy.
func (t *relaying) trace() nexthop.Trace {
	client := *t.env.Client
	if p := t.env.Proxy; p != nil && p.By == "xforward" { // whoever told of that client has traced it already
		client = t.session.Peer
	}
	trace := nexthop.Trace{
		Client: client, TLS: t.env.TLS != nil, Auth: t.env.Auth != nil, SMTPUTF8: t.env.SMTPUTF8,
		By: t.relay.hostname, ID: t.env.ID, Time: t.env.ID.Time(),
	}
	if len(t.env.Rcpt) == 1 {
		trace.For = &t.env.Rcpt[0]
	}
	return trace
}

// finish sends the dot and waits for the reply: as long as the client does, and a while longer.
func (t *relaying) finish(ctx context.Context) (*nexthop.Reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if gone := t.session.Gone(); gone != nil {
		go func() {
			select {
			case <-ctx.Done():
				return
			case <-gone:
			}
			timer := time.NewTimer(t.relay.patience)
			defer timer.Stop()
			select {
			case <-ctx.Done():
			case <-timer.C:
				cancel(errClientGone)
			}
		}()
	}
	return t.hop.Finish(ctx)
}

func (t *relaying) report(size int64, reply *nexthop.Reply) {
	level := slog.LevelInfo
	if t.delivery.Outcome == record.Unknown {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("session", t.env.Session), slog.String("record", t.env.ID.String()), slog.Int64("size", size),
		slog.String("outcome", string(t.delivery.Outcome)), slog.String("next_hop", t.delivery.Address),
	}
	if reply != nil {
		attrs = append(attrs, slog.String("reply", reply.Error()))
	}
	if t.delivery.Reason != "" {
		attrs = append(attrs, slog.String("reason", t.delivery.Reason))
	}
	t.relay.log.LogAttrs(context.Background(), level, "message relayed", attrs...)
}

// Replied writes down how the delivery ended, off the way of the reply. Until that is on stable storage the outcome is unknown, which a
// crash makes it.
func (t *relaying) Replied(err error) {
	if t.delivery == nil { // nothing is in custody
		return
	}
	t.delivery.ReplyLost = err != nil
	it := &record.Item{Kind: record.KindSupplement, ID: t.env.ID, Supplement: &record.SupplementDoc{Supplement: record.Supplement{
		ID: t.env.ID, Name: "delivery-1", Time: record.Now(), Delivery: t.delivery,
	}}}
	if err := t.relay.custody.AppendSoon(it); err != nil {
		t.relay.log.Error("the outcome of a delivery is not recorded, and will be unknown",
			"session", t.env.Session, "record", t.env.ID, "outcome", t.delivery.Outcome, "err", err)
	}
}
