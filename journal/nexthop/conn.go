package nexthop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// conn is one SMTP connection, past EHLO and, where it is used, TLS. It belongs to one goroutine at a time: to a transaction, or to
// the pool.
type conn struct {
	net.Conn
	r        *bufio.Reader
	target   Target
	timeouts Timeouts
	metrics  *metrics
	peer     string // address and port that answered
	caps     caps
	tls      *record.TLS
	tlsFault error // why a policy that wanted TLS goes without
	born     time.Time
	idle     time.Time // since when in the pool
	reused   bool      // has been in the pool: may be stale
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

// connect makes a connection that is ready for MAIL. The error is ErrUnavailable.
func (p *Pool) connect(ctx context.Context, target Target) (*conn, error) {
	c, err := p.open(ctx, target, target.TLS != None)
	var fault tlsError
	if errors.As(err, &fault) && ctx.Err() == nil {
		p.log.Warn("next hop failed the TLS handshake; going on in clear text", "next_hop", target.Address, "err", fault.err)
		if c, err = p.open(ctx, target, false); err == nil {
			c.tlsFault = fault
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnavailable, target.Address, err)
	}
	return c, nil
}

// tlsError is a handshake that failed after the server had agreed to it. The connection is lost.
type tlsError struct{ err error }

func (e tlsError) Error() string { return "tls handshake: " + e.err.Error() }
func (e tlsError) Unwrap() error { return e.err }

// open dials and goes through the handshakes.
func (p *Pool) open(ctx context.Context, target Target, useTLS bool) (*conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, p.timeouts.Connect)
	nc, err := p.dial(dialCtx, "tcp", target.Address)
	cancel()
	if err != nil {
		return nil, err
	}
	c := &conn{
		Conn: nc, r: bufio.NewReaderSize(nc, maxReplyLine), target: target, timeouts: p.timeouts, metrics: p.metrics,
		peer: nc.RemoteAddr().String(), born: time.Now(),
	}
	p.metrics.open.Inc()
	if err := c.greet(ctx, useTLS); err != nil {
		c.hangUp()
		return nil, err
	}
	p.log.Debug("connected to next hop", "next_hop", target.Address, "peer", c.peer, "tls", c.tls != nil)
	return c, nil
}

// greet goes from the greeting to where MAIL may be said.
func (c *conn) greet(ctx context.Context, useTLS bool) error {
	greeting, err := c.reply(ctx, c.timeouts.Hello)
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if greeting.Code != 220 {
		return fmt.Errorf("greeting: %s", greeting.Error())
	}
	if err := c.hello(ctx); err != nil || !useTLS || !c.caps.startTLS {
		return err
	}
	return c.startTLS(ctx)
}

// hello says EHLO, or HELO to a server that does not know that, and notes what is offered.
func (c *conn) hello(ctx context.Context) error {
	reply, err := c.ask(ctx, c.timeouts.Hello, "EHLO "+c.target.Hello)
	if err != nil {
		return fmt.Errorf("EHLO: %w", err)
	}
	if reply.Code == 250 {
		c.caps = parseCaps(reply.Lines)
		return nil
	}
	if reply.Code/100 != 5 {
		return fmt.Errorf("EHLO: %s", reply.Error())
	}
	c.caps = caps{}
	if reply, err = c.ask(ctx, c.timeouts.Hello, "HELO "+c.target.Hello); err != nil {
		return fmt.Errorf("HELO: %w", err)
	}
	if reply.Code != 250 {
		return fmt.Errorf("HELO: %s", reply.Error())
	}
	return nil
}

// startTLS changes to TLS and reads the capabilities again; what was said in clear text is forgotten (RFC 3207 section 4.2). A server
// that refuses is gone on with in clear text.
func (c *conn) startTLS(ctx context.Context) error {
	reply, err := c.ask(ctx, c.timeouts.Hello, "STARTTLS")
	if err != nil {
		return fmt.Errorf("STARTTLS: %w", err)
	}
	if reply.Code != 220 {
		c.tlsFault = fmt.Errorf("STARTTLS: %s", reply.Error())
		return nil
	}
	if c.r.Buffered() > 0 { // said before the handshake and to be read after it: an injection
		return tlsError{errors.New("clear text after the reply to STARTTLS")}
	}
	host, _, _ := net.SplitHostPort(c.target.Address)
	tc := tls.Client(c.Conn, &tls.Config{
		ServerName: host, InsecureSkipVerify: true, // opportunistic: better unverified than in clear text
		ClientSessionCache: tlsSessions, MinVersion: tls.VersionTLS12,
	})
	hsCtx, cancel := context.WithTimeout(ctx, c.timeouts.Connect)
	defer cancel()
	c.SetDeadline(time.Time{}) // hsCtx is the bound
	if err := tc.HandshakeContext(hsCtx); err != nil {
		return tlsError{err}
	}
	c.Conn, c.r = tc, bufio.NewReaderSize(tc, maxReplyLine)
	c.tls = describeTLS(tc.ConnectionState())
	return c.hello(ctx)
}

var tlsSessions = tls.NewLRUClientSessionCache(64)

func describeTLS(s tls.ConnectionState) *record.TLS {
	d := &record.TLS{
		Version:    strings.TrimPrefix(tls.VersionName(s.Version), "TLS "),
		Cipher:     tls.CipherSuiteName(s.CipherSuite),
		ServerName: s.ServerName,
	}
	if len(s.PeerCertificates) > 0 {
		d.Peer = s.PeerCertificates[0].Subject.String()
	}
	return d
}
