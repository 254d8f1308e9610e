package journal

import (
	"context"
	"io"
	"log/slog"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

// Keeper is the handler of mode journal: journal reports and copies are kept and forwarded to nobody. It refuses nothing but for want
// of room, and that for now. Safe for concurrent use.
type Keeper struct {
	custody Custody
	ack     ack
	reports reports
	log     *slog.Logger
}

// Mail implements smtpd.Handler.
func (k *Keeper) Mail(ctx context.Context, s *smtpd.Session, from record.Path, p smtpd.Params) (smtpd.Transaction, error) {
	if err := k.ack.ready(p.Size); err != nil {
		return nil, err
	}
	env := envelope(s, from, p)
	env.Completeness = record.Partial // what the journal's mailbox was sent to; whom the message itself went to, a report may say
	return &keeping{keeper: k, session: s, env: env}, nil
}

// keeping is one message to be kept.
type keeping struct {
	keeper  *Keeper
	session *smtpd.Session
	env     record.Envelope
}

func (t *keeping) Rcpt(ctx context.Context, to record.Path) error {
	t.env.Rcpt = append(t.env.Rcpt, to)
	return nil
}

func (t *keeping) Data(ctx context.Context, body *smtpd.Body) (*nexthop.Reply, error) {
	opt, content := bareNewlines(body), io.Reader(body)
	opt.Early = t.keeper.ack.archive
	if t.keeper.reports.counts(t.session, t.env.Rcpt) {
		var said func(*record.Envelope)
		content, said = t.keeper.reports.look(body, t.session.ID)
		finish := opt.Finish
		opt.Finish = func(env *record.Envelope) error {
			said(env)
			return finish(env)
		}
	}
	id, err := t.keeper.custody.Accept(ctx, t.env, content, opt)
	if err == nil {
		err = t.keeper.ack.await(ctx, t.session, id)
	}
	if err == nil {
		t.keeper.log.Info("message kept", "session", t.env.Session, "record", id, "size", body.Size())
	}
	return nil, err
}

func (t *keeping) Replied(error) {} // the client that did not hear sends again, and has two records: both were received

func (t *keeping) Abort() {}
