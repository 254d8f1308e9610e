// Package journal takes mail in: it stands between the SMTP session and custody, and in relay mode the next hop.
//
// What it promises: nobody is told 250, and no next hop is sent a final dot, before the message is in custody: on the local disk, or with
// ack: archive in the object store. Whatever happens to the
// next hop does not get in the way of custody, and what it said is recorded. A message that is not taken into custody is not delivered.
// FLOW.md follows one message through all of it, and says what a crash does at each step.
package journal

import (
	"context"
	"io"
	"log/slog"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// Custody is where messages are safe: the spool, and behind it the archive.
type Custody interface {
	// Ready tells whether a message of size bytes (0: not known) would be taken now.
	Ready(size int64) error
	// Accept reads body to its end. Nil means on stable storage; on any other return nothing is kept.
	Accept(ctx context.Context, env record.Envelope, body io.Reader, opt spool.AcceptOptions) (record.ID, error)
	// AppendSoon takes a supplement without waiting, and keeps on trying.
	AppendSoon(it *record.Item) error
	// End says that a message of mode queue is not to be forwarded. It is not written down; the supplement that says so is.
	End(id record.ID)
	// Await waits until a message is in the archive too. Nil means that it is in the object store; any other answer, that it is not, or that
	// it is not known. For ack: archive.
	Await(ctx context.Context, id record.ID) error
	// Failing is nil unless it is known that Await would wait in vain now.
	Failing() error
}

// New makes the handler of one listener, by its mode. cfg has been validated. pool may be nil where nothing is forwarded.
func New(cfg Config, custody Custody, pool *nexthop.Pool, log *slog.Logger) smtpd.Handler {
	cfg = cfg.WithDefaults()
	switch cfg.Mode {
	case record.ModeQueue:
		return &Forwarder{custody: custody, ack: newAck(cfg, custody), router: cfg.Router(), log: log}
	case record.ModeJournal:
		return &Keeper{custody: custody, ack: newAck(cfg, custody), reports: newReports(cfg, log), log: log}
	}
	return &Relay{
		custody: custody, ack: newAck(cfg, custody), pool: pool, hostname: cfg.Hostname, patience: patience, log: log,
		route: cfg.Hop.Route(cfg.Hostname),
	}
}

// envelope is what MAIL and the session say of a message.
func envelope(s *smtpd.Session, from record.Path, p smtpd.Params) record.Envelope {
	client := s.Client
	return record.Envelope{
		Source: record.SourceSMTP, Listener: s.Listener, Mode: s.Mode, Session: s.ID,
		Client: &client, Proxy: s.Proxy, TLS: s.TLS, Auth: s.Auth, MailFrom: &from,
		Body: p.Body, SMTPUTF8: p.SMTPUTF8, Ret: p.Ret, EnvID: p.EnvID, DeclaredSize: p.Size,
	}
}

// bareNewlines has the envelope say what only the end of the body tells.
func bareNewlines(body *smtpd.Body) spool.AcceptOptions {
	return spool.AcceptOptions{Finish: func(env *record.Envelope) error {
		env.BareCR, env.BareLF = body.BareCR(), body.BareLF()
		return nil
	}}
}
