package nexthop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Transaction is one message on its way: Rcpt for each recipient, Data, Write for the body, Finish. Close may come at any time
// instead of the rest, and is a no-op after Finish. Not safe for concurrent use.
//
// Of the hosts of its Route one serves. Until a byte of the body was sent another takes its place where it can't be reached, greets with
// anything but 220, refuses EHLO, the TLS that is required or our credentials, says 421, or breaks off: what was accepted so far is said to
// the new host again, and must be accepted there. A host that answers MAIL with 4xx gives way too, and its reply counts if no other host
// takes the message; a reply to RCPT or DATA counts as it is, since equivalent hosts share what it rests on.
type Transaction struct {
	pool  *Pool
	route Route
	mail  Mail

	hosts  []*host  // in the order in which they are tried; nil before the first is needed
	room   [1]*host // for a Route of one
	at     int      // of hosts, the one in turn
	faults []error  // of hosts that gave way

	c        *conn  // nil: none yet, or not any more
	last     *conn  // the one in use last, for what is told of it
	attempts int    // connections used or tried
	fresh    bool   // no connection out of the pool any more, to this host
	replay   bool   // what was accepted is still to be said to this connection
	mailed   bool   // MAIL was accepted on c
	refusal  *Reply // of MAIL, DATA or the message: the answer to all that follows
	failed   error  // the first error of the way: the answer to all that follows
	ended    bool

	deferral   *Reply // a 4xx to MAIL of a host that gave way
	deferredBy *conn

	recipients []recipient
	body       body
	final      *Reply // to the dot; with LMTP the first of them
	finished   time.Time
}

// recipient is one RCPT and its answer.
type recipient struct {
	path     record.Path
	reply    *Reply // nil: none came
	err      error
	time     time.Time
	c        *conn  // that reply came on; nil: on none
	attempts int    // when it came
	final    *Reply // to the message, with LMTP; nil: none came
}

func (r recipient) accepted() bool { return r.reply != nil && r.reply.ok() }

// Begin starts a transaction. Nothing is sent before the first Rcpt.
func (p *Pool) Begin(route Route, m Mail) *Transaction {
	t := &Transaction{pool: p, route: route, mail: m}
	if len(route.Hosts) == 0 {
		t.failed = fmt.Errorf("%w: the route %q has no host", ErrUnavailable, route.Name)
	}
	return t
}

// Rcpt asks the next hop for one recipient. With the first one MAIL is sent, and a refusal of MAIL is the answer to it. nil: accepted.
// A *Reply: refused, in the next hop's words. Other errors: ErrUnavailable (with ErrTLS or ErrAuth where that is why),
// ErrNoSMTPUTF8, ErrTooBig, ErrPath. The end of ctx is ErrUnavailable too, and wraps its cause.
func (t *Transaction) Rcpt(ctx context.Context, to record.Path) error {
	r := recipient{path: to}
	switch {
	case t.ended || t.body.asked:
		return errors.New("nexthop: Rcpt after Data, or after the end")
	case t.failed != nil:
		r.err = t.failed
	case t.refusal != nil:
		r.reply = t.refusal
	default:
		r.reply, r.err = t.rcpt(ctx, to)
	}
	r.time, r.attempts = record.Now(), t.attempts
	if r.reply != nil {
		r.c = t.last
	}
	t.recipients = append(t.recipients, r)
	switch {
	case r.err != nil:
		return r.err
	case !r.accepted():
		return r.reply
	}
	return nil
}

// Replies gives the next hop's last word on each of Accepted, after Finish: with SMTP the same for all, with LMTP one of its own. nil: none
// came, and what became of the message for that recipient is not known, or with an error of Finish other than ErrUnknown, nothing did.
func (t *Transaction) Replies() []*Reply {
	var replies []*Reply
	for _, r := range t.recipients {
		if r.accepted() {
			replies = append(replies, t.lastWord(r))
		}
	}
	return replies
}

// lastWord is the last word on a recipient that was accepted, or nil.
func (t *Transaction) lastWord(r recipient) *Reply {
	switch {
	case r.final != nil:
		return r.final
	case t.refusal != nil:
		return t.refusal
	case t.lmtp():
		return nil
	}
	return t.final
}

// lmtp says whether the host in turn speaks LMTP.
func (t *Transaction) lmtp() bool { return t.last != nil && t.last.host.target.LMTP }

// Accepted gives the recipients that the next hop took, in the order given.
func (t *Transaction) Accepted() []record.Path {
	var paths []record.Path
	for _, r := range t.recipients {
		if r.accepted() {
			paths = append(paths, r.path)
		}
	}
	return paths
}

// rcpt sends RCPT, behind MAIL where that is still to be sent. Only failures of the connection are sticky; what is wrong with one
// recipient is not.
func (t *Transaction) rcpt(ctx context.Context, to record.Path) (reply *Reply, err error) {
	err = t.attempt(ctx, func() error {
		if !t.mailed {
			replies, err := t.open(ctx, []record.Path{to})
			if err == nil {
				reply = replies[0]
			}
			return err
		}
		line, err := rcptLine(to, t.mail, t.c.caps)
		if err != nil {
			return err
		}
		if err := t.c.send(ctx, t.pool.timeouts.Command, line); err != nil {
			return lost{err}
		}
		reply, err = t.c.answer(ctx, t.pool.timeouts.Command)
		return asLost(err)
	})
	if err == nil && t.refusal != nil {
		reply = t.refusal
	}
	return reply, err
}

// lost marks an error after which the connection is of no use.
type lost struct{ err error }

func (e lost) Error() string { return e.err.Error() }
func (e lost) Unwrap() error { return e.err }

func asLost(err error) error {
	if err == nil {
		return nil
	}
	return lost{err}
}

// attempt runs op on a connection, and again on another where that one is lost: a new one to the same host where it came out of the pool
// and may have been stale, else one to the next host of the route. To a new connection what was accepted so far is said again. Only for
// what comes before the body.
func (t *Transaction) attempt(ctx context.Context, op func() error) error {
	for {
		err := t.ready(ctx)
		if err == nil && t.replay {
			err = t.again(ctx)
		}
		if err == nil {
			t.replay = false
			err = op()
		}
		var l lost
		switch {
		case err == nil && t.refusal != nil && !t.mailed && t.refusal.Temporary() && len(t.Accepted()) == 0 && t.at+1 < len(t.hosts):
			t.deferral, t.deferredBy, t.refusal = t.refusal, t.last, nil
			t.pool.log.Debug("next hop defers; trying the next one", "next_hop", t.hosts[t.at].target.Address, "reply", t.deferral.Error())
			t.release()
			t.at++
			t.fresh = false
		case err == nil:
			return nil
		case !errors.As(err, &l):
			if errors.Is(err, ErrUnavailable) {
				t.fail(err)
			}
			return err
		case !t.another(ctx, l.err):
			return t.failed // or nil, with a refusal
		}
		t.replay = true
	}
}

// another goes on to another connection, or host, after the loss of one. Where there is none the transaction has failed, or the 4xx of a
// host that gave way stands.
func (t *Transaction) another(ctx context.Context, cause error) bool {
	h := t.hosts[t.at]
	stale := t.c != nil && t.c.reused && !t.fresh
	t.drop()
	switch {
	case ctx.Err() != nil:
	case stale:
		t.pool.log.Debug("idle connection to next hop was stale", "next_hop", h.target.Address, "err", cause)
		t.fresh = true
		return true
	default:
		t.pool.failed(h, cause)
		t.faults = append(t.faults, named(h, cause))
		if t.at+1 < len(t.hosts) {
			t.at++
			t.fresh = false
			return true
		}
		if t.deferral != nil && len(t.Accepted()) == 0 {
			t.refusal, t.last = t.deferral, t.deferredBy
			return false
		}
		t.fail(unavailable{t.faults})
		return false
	}
	t.fail(unavailable{append(t.faults, named(h, cause))})
	return false
}

func named(h *host, err error) error { return fmt.Errorf("%s: %w", h.target.Address, err) }

// unavailable is ErrUnavailable with what was wrong at each host.
type unavailable struct{ faults []error }

func (e unavailable) Error() string {
	var b strings.Builder
	b.WriteString(ErrUnavailable.Error())
	for i, f := range e.faults {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		b.WriteString(f.Error())
	}
	return b.String()
}

func (e unavailable) Unwrap() []error { return append([]error{ErrUnavailable}, e.faults...) }

// ready sees to it that there is a connection. An error is lost.
func (t *Transaction) ready(ctx context.Context) error {
	if t.c != nil {
		return nil
	}
	if t.hosts == nil {
		t.hosts = t.pool.choose(t.route, t.room[:0])
	}
	h := t.hosts[t.at]
	t.attempts++
	if !t.fresh {
		t.c = t.pool.take(h)
	}
	if t.c == nil {
		c, err := t.pool.connect(ctx, h)
		if err != nil {
			t.last = nil
			return lost{err}
		}
		t.c = c
	}
	t.last = t.c
	return nil
}

// open sends MAIL and the recipients, in one write where the server takes that, and gives the replies to the recipients; if there are
// fewer, the last is a refusal that stands for the rest. The refusal of MAIL is the reply to all of them, and to those to come.
func (t *Transaction) open(ctx context.Context, to []record.Path) ([]*Reply, error) {
	c, wait := t.c, t.pool.timeouts.Command
	var lines [][]byte
	if c.dirty {
		lines = append(lines, []byte("RSET\r\n"))
	}
	mail, err := mailLine(t.mail, c.caps)
	if err != nil {
		return nil, err
	}
	lines = append(lines, mail)
	for _, path := range to {
		line, err := rcptLine(path, t.mail, c.caps)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	ask := c.inTurn
	if c.caps.pipelining {
		ask = c.pipelined
	}
	resetting := c.dirty
	c.dirty = true // until the dot is answered
	replies, err := ask(ctx, wait, lines)
	if err != nil {
		return nil, lost{err}
	}
	if resetting {
		if !replies[0].ok() {
			return nil, lost{fmt.Errorf("RSET: %s", replies[0].Error())}
		}
		replies = replies[1:]
	}
	if !replies[0].ok() {
		t.refusal, c.served = replies[0], true
		return replies[:1], nil
	}
	t.mailed, c.served = true, true
	return replies[1:], nil
}

// again says to a new connection what was accepted on the one that is lost. Any other answer than then ends the transaction.
func (t *Transaction) again(ctx context.Context) error {
	accepted := t.Accepted()
	if len(accepted) == 0 {
		return nil
	}
	replies, err := t.open(ctx, accepted)
	var l lost
	if errors.As(err, &l) {
		return err
	}
	for _, r := range replies {
		if !r.ok() {
			err = r
		}
	}
	t.refusal = nil // it is not the client's
	if err != nil {
		return fmt.Errorf("%w: %s: another answer on a new connection: %s", ErrUnavailable, t.c.host.target.Address, err.Error())
	}
	for i, k := 0, 0; i < len(t.recipients); i++ {
		if r := &t.recipients[i]; r.accepted() {
			r.reply, r.c = replies[k], t.c
			k++
		}
	}
	return nil
}

// fail ends the way with err: the connection is closed hard, and err is the answer from now on.
func (t *Transaction) fail(err error) {
	if t.failed == nil {
		t.failed = err
	}
	t.drop()
}

// drop hangs up.
func (t *Transaction) drop() {
	if t.c != nil {
		t.c.hangUp()
		t.c = nil
	}
	t.mailed, t.body.sent = false, false
}

// release gives the connection back.
func (t *Transaction) release() {
	if t.c != nil {
		t.pool.put(t.c)
		t.c = nil
	}
	t.mailed = false
}

// Close ends the transaction. Inside a message the connection is closed without a word, so that nothing is delivered; before DATA it
// goes back into the pool.
func (t *Transaction) Close() {
	if t.ended {
		return
	}
	t.ended = true
	if t.body.asked {
		t.drop()
	} else {
		t.release()
	}
	t.body.free()
}
