package nexthop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// conn is one SMTP connection, past EHLO and, where it is used, TLS. It belongs to one goroutine at a time: to a transaction, or to
// the pool.
type conn struct {
	net.Conn
	r        *bufio.Reader
	host     *host
	timeouts Timeouts
	metrics  *metrics
	peer     string // address and port that answered
	caps     caps
	tls      *record.TLS
	tlsFault error // why a policy that wanted TLS goes without
	born     time.Time
	idle     time.Time // since when in the pool
	reused   bool      // has been in the pool: may be stale
	served   bool      // a command of a message was answered on it
	dirty    bool      // the server may be inside a transaction: RSET first
	spoilt   bool      // a deadline was pulled by a context: not to be used again
}

var longAgo = time.Unix(1, 0)

// within runs one read or write under a deadline; the end of ctx ends it early. An operation that succeeded stays a success.
func (c *conn) within(ctx context.Context, d time.Duration, op func() error) error {
	nc := c.Conn // c.Conn may have become a TLS connection by the time that the end of ctx is heard of
	if err := nc.SetDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(longAgo) })
	if ctx.Err() != nil { // looked at after AfterFunc was set: no end of ctx goes unseen
		stop()
		c.spoilt = true
		return context.Cause(ctx)
	}
	err := op()
	if !stop() {
		c.spoilt = true
		if err != nil {
			err = context.Cause(ctx)
		}
	}
	return err
}

// send writes whole lines.
func (c *conn) send(ctx context.Context, d time.Duration, b []byte) error {
	return c.within(ctx, d, func() error {
		_, err := c.Write(b)
		return err
	})
}

// closing is a 421: the server is about to close the connection (RFC 5321 section 3.8).
type closing struct{ reply *Reply }

func (e closing) Error() string { return e.reply.Error() }

// reply reads one reply. 421 is an error, closing.
func (c *conn) reply(ctx context.Context, d time.Duration) (reply *Reply, err error) {
	err = c.within(ctx, d, func() error {
		reply, err = readReply(c.r)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case reply.Code == 421:
		return nil, closing{reply}
	}
	return reply, nil
}

// answer reads the reply to a command that is done with 2xx, 4xx or 5xx. Anything else is an error.
func (c *conn) answer(ctx context.Context, d time.Duration) (*Reply, error) {
	reply, err := c.reply(ctx, d)
	if err == nil && reply.Code/100 == 3 {
		return nil, fmt.Errorf("%w: %s where it has no place", errReply, reply.Error())
	}
	return reply, err
}

// pipelined sends all lines at once (RFC 2920) and then reads the replies, one for each.
func (c *conn) pipelined(ctx context.Context, d time.Duration, lines [][]byte) ([]*Reply, error) {
	if err := c.send(ctx, d, bytes.Join(lines, nil)); err != nil {
		return nil, err
	}
	replies := make([]*Reply, 0, len(lines))
	for range lines {
		r, err := c.answer(ctx, d)
		if err != nil {
			return nil, err
		}
		replies = append(replies, r)
	}
	return replies, nil
}

// inTurn sends the lines one by one, each after the reply to the one before it, up to and with the first that is refused.
func (c *conn) inTurn(ctx context.Context, d time.Duration, lines [][]byte) ([]*Reply, error) {
	replies := make([]*Reply, 0, len(lines))
	for _, line := range lines {
		if err := c.send(ctx, d, line); err != nil {
			return nil, err
		}
		r, err := c.answer(ctx, d)
		if err != nil {
			return nil, err
		}
		if replies = append(replies, r); !r.ok() {
			break
		}
	}
	return replies, nil
}

// ask sends one command and reads its reply.
func (c *conn) ask(ctx context.Context, d time.Duration, line string) (*Reply, error) {
	if err := c.send(ctx, d, []byte(line+"\r\n")); err != nil {
		return nil, err
	}
	return c.reply(ctx, d)
}

// hangUp closes without a word. After anything unexpected it is the only thing that is safe.
func (c *conn) hangUp() {
	if t, ok := c.Conn.(*tls.Conn); ok {
		t.NetConn().Close() // not even TLS's close_notify, which may wait for a peer that does not read
	} else {
		c.Close()
	}
	c.metrics.open.Dec()
}

// quit says goodbye and closes. Only for a connection that is not inside a message.
func (c *conn) quit() {
	c.ask(context.Background(), c.timeouts.Quit, "QUIT") // whatever the answer
	c.hangUp()
}

// connect makes a connection that is ready for MAIL.
func (p *Pool) connect(ctx context.Context, h *host) (*conn, error) {
	if err := p.heldBack(h); err != nil {
		return nil, err
	}
	policy := h.target.policy()
	c, err := p.open(ctx, h, policy)
	var fault tlsError
	if policy == Opportunistic && errors.As(err, &fault) && ctx.Err() == nil {
		p.log.Warn("next hop failed the TLS handshake; going on in clear text", "next_hop", h.target.Address, "err", fault.err)
		if c, err = p.open(ctx, h, None); err == nil {
			c.tlsFault = fault
		}
	}
	if err != nil {
		return nil, err
	}
	p.reached(h)
	return c, nil
}

// open dials and goes through the handshakes.
func (p *Pool) open(ctx context.Context, h *host, policy Policy) (*conn, error) {
	network, address := h.target.dialled()
	dialCtx, cancel := context.WithTimeout(ctx, p.timeouts.Connect)
	nc, err := p.dial(dialCtx, network, address)
	cancel()
	if err != nil {
		return nil, err
	}
	c := &conn{
		Conn: nc, r: bufio.NewReaderSize(nc, maxReplyLine), host: h, timeouts: p.timeouts, metrics: p.metrics,
		peer: nc.RemoteAddr().String(), born: time.Now(),
	}
	if network == "unix" {
		c.peer = h.target.Address
	}
	p.metrics.open.Inc()
	if err := c.greet(ctx, policy); err != nil {
		c.hangUp()
		if errors.Is(err, ErrAuth) {
			p.metrics.auth.Inc()
			p.log.Error("next hop does not let us in; mail waits at its senders", "next_hop", h.target.Address, "user", h.target.Credentials.User, "err", err)
		}
		return nil, err
	}
	p.log.Debug("connected to next hop", "next_hop", h.target.Address, "peer", c.peer, "tls", c.tls != nil)
	return c, nil
}

// greet goes from the first byte to where MAIL may be said.
func (c *conn) greet(ctx context.Context, policy Policy) error {
	implicit := c.host.target.Implicit && policy != None
	if implicit {
		if err := c.handshake(ctx, policy); err != nil {
			return err
		}
	}
	greeting, err := c.reply(ctx, c.timeouts.Hello)
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if greeting.Code != 220 {
		return fmt.Errorf("greeting: %s", greeting.Error())
	}
	if err := c.hello(ctx); err != nil {
		return err
	}
	if !implicit && policy != None {
		if err := c.startTLS(ctx, policy); err != nil {
			return err
		}
	}
	if c.host.target.Credentials != (Credentials{}) {
		return c.authenticate(ctx, c.host.target.Credentials)
	}
	return nil
}

// hello says EHLO, or HELO to a server that does not know that, or LHLO, and notes what is offered.
func (c *conn) hello(ctx context.Context) error {
	verb, name := "EHLO ", c.host.target.Hello
	if c.host.target.LMTP {
		verb = "LHLO "
	}
	reply, err := c.ask(ctx, c.timeouts.Hello, verb+name)
	if err != nil {
		return fmt.Errorf("%s: %w", verb[:4], err)
	}
	if reply.Code == 250 {
		c.caps = parseCaps(reply.Lines)
		return nil
	}
	if reply.Code/100 != 5 || c.host.target.LMTP {
		return fmt.Errorf("%s: %s", verb[:4], reply.Error())
	}
	c.caps = caps{}
	if reply, err = c.ask(ctx, c.timeouts.Hello, "HELO "+name); err != nil {
		return fmt.Errorf("HELO: %w", err)
	}
	if reply.Code != 250 {
		return fmt.Errorf("HELO: %s", reply.Error())
	}
	return nil
}
