package smtpd

import (
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-smtp"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// session is what go-smtp calls. What it is told of a path is what screen made up; the true one is in conn.
type session struct{ *conn }

func (s session) Mail(string, *smtp.MailOptions) error {
	c := s.conn
	if c.current == nil {
		now := c.session
		c.current = &now
	}
	tx, err := c.srv.handler.Mail(c.ctx, c.current, c.from, c.params)
	if err != nil {
		return c.refusal(err)
	}
	c.tx, c.utf8 = tx, c.params.SMTPUTF8
	return nil
}

func (s session) Rcpt(string, *smtp.RcptOptions) error {
	c := s.conn
	if err := c.tx.Rcpt(c.ctx, c.to); err != nil {
		return c.refusal(fmt.Errorf("recipient %s: %w", c.to.Address, err))
	}
	c.rcpts++
	return nil
}

func (s session) Reset() { s.abort() }

func (s session) Logout() error { return nil }

// Data is called when go-smtp has said 354. Its reader is not used: the message does not go through go-smtp.
func (s session) Data(io.Reader) error {
	c := s.conn
	defer func() { c.feed = []byte(".\r\n") }() // what go-smtp reads as the data
	body := &Body{limits: limits{size: c.srv.cfg.MaxMessageSize, relay: c.srv.cfg.Mode == record.ModeRelay}, onEOF: c.watch}
	if c.verb == "BDAT" {
		c.verb, c.reply = "", c.reply[:0] // no 354
		body.src = &chunks{c}
	} else {
		c.settle()
		c.flush() // an error shows when the reply is written
		body.src = &dotted{c: c, unstuffer: newUnstuffer()}
	}
	c.waited, c.got = 0, 0

	c.answered = c.tx
	reply, err := c.tx.Data(c.ctx, body)
	c.unwatch()
	return c.outcome(body, reply, err)
}

// outcome is the reply to the end of data. It is never nil: go-smtp's own words for success are not ours. Faults of the message come
// before what the Handler says.
func (c *conn) outcome(body *Body, reply *nexthop.Reply, err error) error {
	body.finish()
	switch {
	case !body.complete() && body.err != nil:
		err = body.err
	case err == nil && !body.complete():
		err = errors.New("message was accepted before its end was read")
	case err == nil && reply != nil && reply.Code/100 != 2:
		err = reply
	}
	switch {
	case body.broken():
		c.srv.count("aborted")
		c.log.Info("message broken off", "from", c.from.Address, "bytes", body.Size(), "err", err)
		if errors.Is(err, ErrChunks) {
			c.verb = silent // the chunks were answered, and what ended the message will be
		}
		if e, known := refuse(err); known {
			return e
		}
		return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "Message was broken off, closing connection"}
	case err != nil:
		e := c.refusal(err)
		if e.Code/100 == 5 {
			c.srv.count("refused")
		} else {
			c.srv.count("deferred")
		}
		return e
	case reply != nil:
		c.srv.count("delivered")
		return verbatim(reply)
	}
	c.srv.count("kept")
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "OK " + c.session.ID}
}

// refusal is the reply to an error, and logs what the reply does not say.
func (c *conn) refusal(err error) *smtp.SMTPError {
	e, known := refuse(err)
	journal := c.srv.cfg.Mode == record.ModeJournal
	switch {
	case !known:
		c.log.Error("mail deferred by a fault", "from", c.from.Address, "err", err)
	case journal && errors.Is(err, ErrTooBig):
		c.log.Error("a journal report is over max_message_size and waits at its sender", "from", c.from.Address, "err", err)
		c.srv.count("oversize")
	default:
		c.log.Info("refused", "from", c.from.Address, "code", e.Code, "err", err)
	}
	if journal {
		e = soften(e)
	}
	if e.Code == 421 {
		c.closing = true
	}
	return e
}

// replied tells the Handler how the reply to the end of data fared, and is the end of the transaction.
func (c *conn) replied(err error) {
	if c.answered == nil {
		return
	}
	tx := c.answered
	c.answered, c.tx, c.rcpts = nil, nil, 0
	select {
	case <-c.session.gone:
		err = errors.Join(ErrClientGone, err)
	default:
	}
	tx.Replied(err)
}

// abort ends a transaction that has not come to Data.
func (c *conn) abort() {
	if c.tx != nil && c.answered == nil {
		c.tx.Abort()
	}
	c.tx, c.rcpts = nil, 0
}
