package smtpd

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// serve is one session, from the first byte to the last.
func (c *conn) serve() {
	defer c.close()
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic", "what", p, "stack", string(debug.Stack()))
			c.unwatch()
			c.answer(421, enhanced{4, 3, 0}, "Internal fault, closing connection")
		}
	}()
	if !c.begin() {
		return
	}
	c.greet()
	for {
		if len(c.out) > outputSize {
			c.flush()
		}
		if c.closing || c.writeErr != nil {
			return
		}
		line, err := c.command()
		if err == nil {
			c.do(line)
		} else if !c.lineFault(err) {
			return
		}
	}
}

// begin finds out who the client is and, with implicit TLS, does the handshake; false: the session does not come about.
func (c *conn) begin() bool {
	c.client, c.session.Client.Port = c.hop, c.hopPort
	if c.srv.policy.proxies.contains(c.hop) {
		if err := c.readProxy(); err != nil {
			c.log.Warn("closed: the PROXY header from one of proxy_networks", "peer", c.hop, "err", err)
			return false
		}
	}
	c.xclient = c.srv.policy.xclients.contains(c.client)
	if !c.identified() {
		return false
	}
	if !c.srv.cfg.TLS.implicit() {
		return true
	}
	if err := c.secure(); err != nil {
		c.log.Info("closed: TLS", "err", err)
		return false
	}
	return true
}

// identified takes note of who the client turned out to be: c.client, whose port is in c.session.Client. False: it has too many connections,
// and was told so.
func (c *conn) identified() bool {
	address := c.hop
	if c.client.IsValid() {
		address = c.client
	}
	c.session.Client.Address = address.String()
	if !address.IsValid() {
		c.session.Client.Address = c.net.RemoteAddr().String()
	}
	c.trusted = c.client.IsValid() && c.srv.policy.trusted.contains(c.client)
	c.session.BareNewline = c.srv.policy.takesBare(c.client)
	c.log = c.srv.log.With("session", c.session.ID, "client", c.session.Client.Address)
	c.log.Debug("connected", "port", c.session.Client.Port)
	if c.xclient || !c.client.IsValid() {
		return true // it brings many clients, or none
	}
	if !c.srv.limiter.connect(c.client) {
		c.log.Warn("connection refused: too many of this client")
		if !c.srv.cfg.TLS.implicit() || c.session.TLS != nil {
			c.answer(421, enhanced{4, 7, 0}, c.srv.cfg.Hostname+" Error: too many connections from "+c.client.String())
		}
		c.closing = true
		return false
	}
	c.counted = true
	return true
}

// greet begins the session, or begins it anew after XCLIENT.
func (c *conn) greet() {
	c.respond(&reply{code: 220, text: c.srv.cfg.Hostname + " ESMTP Holdfast"})
}

// close is the end of the session.
func (c *conn) close() {
	c.unwatch() // a Handler may have panicked
	c.replied(c.flush())
	c.abort()
	c.hangUp()
	c.peer.Close()
	c.net.Close() // over TLS that was not begun
	c.r, c.w = 0, 0
	c.shrink()
	c.log.Debug("disconnected")
	c.uncount()
	c.cancel()
	c.srv.forget(c)
}

func (c *conn) uncount() {
	if c.counted {
		c.srv.limiter.disconnect(c.client)
		c.counted = false
	}
}

// respond adds a reply to those on their way.
func (c *conn) respond(r *reply) { c.out = r.appendTo(c.out) }

// answer replies to a command. A journal listener gives no 5xx once it has taken a MAIL of somebody who may send.
func (c *conn) answer(code int, enh enhanced, text string) {
	r := &reply{code, enh, text}
	if c.tx != nil && c.gentle() {
		r = soften(r)
		r.text = text
	}
	c.respond(r)
}

// gentle says that the client is one that gives up on a 5xx, and must not be given one.
func (c *conn) gentle() bool { return c.srv.policy.journal && c.authorised() }

// authorised says that the client may send to any recipient.
func (c *conn) authorised() bool { return c.trusted || c.certified || c.session.Auth != nil }

// fault answers a command that is wrong. Who sends many of them is not a mail client.
func (c *conn) fault(code int, enh enhanced, text string) {
	c.answer(code, enh, text)
	c.log.Debug("command refused", "code", code, "text", text)
	c.wrong()
}

// faultError is fault for what param.go says.
func (c *conn) faultError(r *reply) { c.fault(r.code, r.enh, r.text) }

// wrong counts an error.
func (c *conn) wrong() {
	if c.faults++; c.faults >= c.srv.cfg.Limits.Errors && !c.closing {
		c.answer(421, enhanced{4, 7, 0}, c.srv.cfg.Hostname+" Error: too many errors")
		c.closing = true
	}
}

// idles counts a command that brings no message nearer.
func (c *conn) idles() {
	if c.junk++; c.junk > c.srv.cfg.Limits.JunkCommands {
		c.wrong()
	}
}

// lineFault answers for a line that is not a command; false ends the session.
func (c *conn) lineFault(err error) bool {
	switch {
	case errors.Is(err, errLongCommand):
		c.fault(500, enhanced{5, 5, 2}, "Line too long")
		return true
	case errors.Is(err, errBadCommand):
		c.fault(500, enhanced{5, 5, 2}, "Commands are printable lines that end in CRLF")
		return true
	case errors.Is(err, errStopping):
		c.answer(421, enhanced{4, 3, 2}, c.srv.cfg.Hostname+" is stopping, closing connection")
	case errors.Is(err, errIdle):
		c.answer(421, enhanced{4, 4, 2}, c.srv.cfg.Hostname+" heard nothing for too long, closing connection")
	default:
		c.hangUp()
	}
	return false
}

// begun is what the Handler is told of the session; it stays the same until something changes.
func (c *conn) begun() *Session {
	if c.current != nil {
		return c.current
	}
	now := c.session
	now.Peer = now.Client
	if f := c.forwarded; f != nil {
		f.apply(&now)
	}
	c.current = &now
	return c.current
}

// message hands the Handler a message, and answers for it.
func (c *conn) message(src source) {
	body := &Body{src: src, limits: limits{
		size: c.srv.cfg.Limits.MessageSize, onward: !c.srv.policy.journal, exact: !c.session.BareNewline,
	}, onEOF: c.watch}
	c.waited, c.got = 0, 0
	c.answered = c.tx
	said, err := c.tx.Data(c.ctx, body)
	c.unwatch()
	if r := c.outcome(body, said, err); r != nil {
		c.respond(r)
	}
	c.junk = 0
	c.replied(c.flush())
}

// outcome is the reply to the end of data; nil where all was said. Faults of the message come before what the Handler says.
func (c *conn) outcome(body *Body, said *nexthop.Reply, err error) *reply {
	body.finish()
	switch {
	case !body.complete() && body.err != nil:
		err = body.err
	case err == nil && !body.complete():
		err = errors.New("message was accepted before its end was read")
	case err == nil && said != nil && said.Code/100 != 2:
		err = said
	}
	switch {
	case body.broken():
		c.srv.count("aborted")
		c.log.Info("message broken off", "from", c.from.Address, "bytes", body.Size(), "err", err)
		if errors.Is(err, ErrChunks) {
			return nil // the chunks were answered, and what ended the message will be
		}
		if r, known := refuse(err); known {
			return r
		}
		return &reply{421, enhanced{4, 4, 2}, "Message was broken off, closing connection"}
	case err != nil:
		r := c.refusal(err)
		if r.code/100 == 5 {
			c.srv.count("refused")
		} else {
			c.srv.count("deferred")
		}
		return r
	case said != nil:
		c.srv.count("delivered")
		return verbatim(said)
	}
	c.srv.count("kept")
	return &reply{250, enhanced{2, 0, 0}, "OK " + c.session.ID}
}

// refusal is the reply to an error, and logs what the reply does not say.
func (c *conn) refusal(err error) *reply {
	r, known := refuse(err)
	journal := c.srv.cfg.Mode == record.ModeJournal
	switch {
	case !known:
		c.log.Error("mail deferred by a fault", "from", c.from.Address, "err", err)
	case journal && errors.Is(err, ErrTooBig):
		c.log.Error("a journal report is over max_message_size and waits at its sender", "from", c.from.Address, "err", err)
		c.srv.count("oversize")
	default:
		c.log.Info("refused", "from", c.from.Address, "code", r.code, "err", err)
	}
	if c.gentle() {
		r = soften(r)
	}
	if r.code == 421 {
		c.closing = true
	}
	return r
}

// refused answers a command with the reply to an error.
func (c *conn) refused(err error) { c.respond(c.refusal(err)) }

// mail begins a transaction.
func (c *conn) mail(from record.Path, p Params) {
	c.from, c.params = from, p
	tx, err := c.srv.handler.Mail(c.ctx, c.begun(), from, p)
	if err != nil {
		c.refused(err)
		return
	}
	c.tx, c.utf8 = tx, p.SMTPUTF8
	c.respond(&reply{250, enhanced{2, 1, 0}, "Sender OK"})
}

func (c *conn) rcpt(to record.Path) {
	if err := c.tx.Rcpt(c.ctx, to); err != nil {
		c.refused(fmt.Errorf("recipient %s: %w", to.Address, err))
		return
	}
	c.rcpts++
	c.respond(&reply{250, enhanced{2, 1, 5}, "Recipient OK"})
}

// replied tells the Handler how the reply to the end of data fared, and is the end of the transaction.
func (c *conn) replied(err error) {
	if c.answered == nil {
		return
	}
	tx := c.answered
	c.answered = nil
	c.over()
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
	c.over()
}

// over forgets the transaction, and what XFORWARD said for it.
func (c *conn) over() {
	c.tx, c.rcpts, c.utf8 = nil, 0, false
	if c.forwarded != nil {
		c.forwarded, c.current = nil, nil
	}
}
