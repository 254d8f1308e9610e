package nexthop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Transaction is one message on its way: Rcpt for each recipient, Data, Write for the body, Finish. Close may come at any time
// instead of the rest, and is a no-op after Finish. Not safe for concurrent use.
type Transaction struct {
	pool   *Pool
	target Target
	mail   Mail

	c        *conn  // nil: none yet, or not any more
	last     *conn  // the one in use last, for what is told of it
	attempts int    // connections used or tried
	fresh    bool   // no connection out of the pool any more
	mailed   bool   // MAIL was accepted on c
	refusal  *Reply // of MAIL, DATA or the message: the answer to all that follows
	failed   error  // the first error of the way: the answer to all that follows
	ended    bool

	recipients []recipient
	body       body
	final      *Reply // to the dot
	finished   time.Time
}

// recipient is one RCPT and its answer.
type recipient struct {
	path  record.Path
	reply *Reply // nil: none came
	err   error
	time  time.Time
}

func (r recipient) accepted() bool { return r.reply != nil && r.reply.ok() }

// Begin starts a transaction. Nothing is sent before the first Rcpt.
func (p *Pool) Begin(target Target, m Mail) *Transaction {
	return &Transaction{pool: p, target: target, mail: m}
}

// Rcpt asks the next hop for one recipient. With the first one MAIL is sent, and a refusal of MAIL is the answer to it. nil: accepted.
// A *Reply: refused, in the next hop's words. Other errors: ErrUnavailable, ErrNoSMTPUTF8, ErrTooBig, ErrPath. The end of ctx is
// ErrUnavailable too, and wraps its cause.
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
	r.time = record.Now()
	t.recipients = append(t.recipients, r)
	switch {
	case r.err != nil:
		return r.err
	case !r.accepted():
		return r.reply
	}
	return nil
}

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

// attempt runs op on a connection. Where that came out of the pool and is lost, op runs once more on a new one, to which what was
// accepted so far has been said again. Only for what comes before the body.
func (t *Transaction) attempt(ctx context.Context, op func() error) error {
	err := t.ready(ctx)
	if err == nil {
		err = op()
	}
	var l lost
	if errors.As(err, &l) && t.c != nil && t.c.reused && !t.fresh && ctx.Err() == nil {
		t.pool.log.Debug("idle connection to next hop was stale", "next_hop", t.target.Address, "err", err)
		t.drop()
		t.fresh = true
		if err = t.ready(ctx); err == nil {
			if err = t.again(ctx); err == nil {
				err = op()
			}
		}
	}
	if errors.As(err, &l) {
		t.fail(fmt.Errorf("%w: %s: %w", ErrUnavailable, t.target.Address, l.err))
		return t.failed
	}
	if errors.Is(err, ErrUnavailable) {
		t.fail(err)
	}
	return err
}

// ready sees to it that there is a connection. The error is ErrUnavailable.
func (t *Transaction) ready(ctx context.Context) error {
	if t.c != nil {
		return nil
	}
	t.attempts++
	if !t.fresh {
		t.c = t.pool.take(t.target)
	}
	if t.c == nil {
		c, err := t.pool.connect(ctx, t.target)
		if err != nil {
			return err
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
		t.refusal = replies[0]
		return replies[:1], nil
	}
	t.mailed = true
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
	if err != nil {
		t.refusal = nil // it is not the client's
		return fmt.Errorf("%w: %s: another answer on a new connection: %s", ErrUnavailable, t.target.Address, err.Error())
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
	t.mailed = false
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
