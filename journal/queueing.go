package journal

import (
	"context"
	"log/slog"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/nexthop/route"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

// Forwarder is the handler of mode queue: a message is acknowledged when it is in custody, and package queue, which reads the spool, delivers
// it. Safe for concurrent use.
type Forwarder struct {
	custody Custody
	ack     ack
	router  *route.Router
	log     *slog.Logger
}

// Mail implements smtpd.Handler.
func (f *Forwarder) Mail(ctx context.Context, s *smtpd.Session, from record.Path, p smtpd.Params) (smtpd.Transaction, error) {
	if err := f.ack.ready(p.Size); err != nil {
		return nil, err
	}
	env := envelope(s, from, p)
	env.Completeness = record.Full
	return &forwarding{forwarder: f, session: s, env: env}, nil
}

// forwarding is one message to be queued.
type forwarding struct {
	forwarder *Forwarder
	session   *smtpd.Session
	env       record.Envelope
}

// noRoute is told at once, rather than in a report later.
var noRoute = &nexthop.Reply{Code: 550, Lines: []string{"5.4.4 No route to this domain is configured here"}}

func (t *forwarding) Rcpt(ctx context.Context, to record.Path) error {
	if !t.forwarder.router.Knows(to.Address[strings.LastIndexByte(to.Address, '@')+1:]) && strings.Contains(to.Address, "@") {
		return noRoute
	}
	t.env.Rcpt = append(t.env.Rcpt, to)
	return nil
}

func (t *forwarding) Data(ctx context.Context, body *smtpd.Body) (*nexthop.Reply, error) {
	f := t.forwarder
	opt := bareNewlines(body)
	opt.Early = f.ack.archive
	id, err := f.custody.Accept(ctx, t.env, body, opt)
	if err != nil {
		return nil, err
	}
	if err := f.ack.await(ctx, t.session, id); err != nil {
		t.withdraw(id, err)
		return nil, err
	}
	f.log.Info("message queued", "session", t.env.Session, "record", id, "size", body.Size(), "recipients", len(t.env.Rcpt))
	return nil, nil
}

// withdraw keeps a message from being delivered that was not acknowledged: its client sends it again. The queue waits for the archive too,
// and finds that it has ended: at once, since the archive may have it at any moment, and not only when that is written down.
func (t *forwarding) withdraw(id record.ID, why error) {
	t.forwarder.custody.End(id)
	d := &record.Delivery{Outcome: record.Refused, Reason: "not sent, and not acknowledged: " + why.Error()}
	for _, to := range t.env.Rcpt {
		d.Recipients = append(d.Recipients, record.RecipientDelivery{Address: to.Address, Outcome: record.Refused, Time: record.Now()})
	}
	it := &record.Item{Kind: record.KindSupplement, ID: id, Supplement: &record.SupplementDoc{Supplement: record.Supplement{
		ID: id, Name: "delivery-1", Time: record.Now(), Delivery: d,
	}}}
	if err := t.forwarder.custody.AppendSoon(it); err != nil {
		t.forwarder.log.Error("a message that was not acknowledged can't be withdrawn, and may be delivered", "session", t.env.Session, "record", id, "err", err)
	}
}

func (t *forwarding) Replied(error) {} // the client that did not hear sends again: both are delivered, and both are kept

func (t *forwarding) Abort() {}
