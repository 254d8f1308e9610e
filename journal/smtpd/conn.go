package smtpd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/holdfast-archive/holdfast/archive/record"
)

const (
	inputSize   = 32 << 10 // bytes read at once
	outputSize  = 4 << 10  // replies held back at most, about
	maxCommand  = 4 << 10  // a command line, with its CRLF, bytes
	maxSkipped  = 1 << 20  // of a command line that is too long, before the connection is given up
	maxFaults   = 10       // commands that are wrong, before the connection is closed
	minRateFrom = 30 * time.Second
)

// Why a session ends, or a command line is not one.
var (
	errStopping    = errors.New("server is stopping")
	errIdle        = errors.New("no command in time")
	errLongCommand = errors.New("command line is too long")
	errBadCommand  = errors.New("command line is not printable text that ends in CRLF")
)

var inputs = sync.Pool{New: func() any { return new([inputSize]byte) }}

// conn is one client, and the net.Conn that go-smtp's server is given in its place. All of it belongs to the session's goroutine, but for
// what mu guards and what lookout may touch.
type conn struct {
	net.Conn          // TCP: addresses and deadlines
	peer     net.Conn // where bytes come from and go to: Conn, or TLS over it
	srv      *Server
	log      *slog.Logger
	session  Session // as known so far; the Handler gets copies
	trusted  bool    // it may send mail

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	in        *[inputSize]byte
	r, w      int       // in[r:w] was read and not yet used
	readErr   error     // sticky
	commandBy time.Time // when the command that is waited for has to be whole

	out      []byte // replies on their way to the client
	writeErr error  // sticky

	// go-smtp's side
	verb  string // the command that it was given, until settle
	feed  []byte // what it is still to be given: a command, or the end of data
	reply []byte // what it said to it so far

	// the command that go-smtp was given
	from   record.Path
	params Params
	to     record.Path
	chunk  chunk

	// the transaction
	current  *Session // the Handler's copy
	tx       Transaction
	rcpts    int
	utf8     bool
	answered Transaction // Data was called: Replied is to follow, and Abort is not

	waited time.Duration // for the bytes of this message
	got    int64         // bytes in that time

	faults  int
	closing bool // after the next flush
	closed  bool

	mu       sync.Mutex
	idle     bool          // guarded by mu: waiting for a command
	stopping bool          // guarded by mu
	waiting  bool          // guarded by mu: the Handler has the whole message
	timer    *time.Timer   // starts lookout
	watched  chan struct{} // closed at the end of lookout
	goneOnce sync.Once
}

func newConn(srv *Server, c net.Conn, client record.Client, trusted bool) *conn {
	id := newSessionID()
	nc := &conn{
		Conn: c, peer: c, srv: srv, trusted: trusted,
		log: srv.log.With("session", id, "client", client.Address),
		session: Session{
			ID: id, Listener: srv.cfg.Name, Mode: srv.cfg.Mode, Client: client, gone: make(chan struct{}),
		},
		in: inputs.Get().(*[inputSize]byte),
	}
	nc.ctx, nc.cancel = context.WithCancel(srv.ctx)
	return nc
}

// Read gives go-smtp its next command. That it asks says that its reply to the one before is whole.
func (c *conn) Read(p []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	for len(c.feed) == 0 {
		c.settle()
		if c.answered != nil {
			c.replied(c.flush())
		} else if len(c.out) > outputSize {
			c.flush()
		}
		if c.closing || c.writeErr != nil {
			return 0, io.EOF
		}
		line, err := c.command()
		if err == nil {
			c.verb, c.feed = c.screen(line)
		} else if !c.lineFault(err) {
			return 0, io.EOF // go-smtp closes
		}
	}
	n := copy(p, c.feed)
	c.feed = c.feed[n:]
	return n, nil
}

// command reads the next command, even of a pipelined group only while the server is not stopping.
func (c *conn) command() ([]byte, error) {
	c.mu.Lock()
	stopping := c.stopping
	c.mu.Unlock()
	if stopping {
		return nil, errStopping
	}
	c.commandBy = time.Now().Add(c.srv.cfg.CommandTimeout)
	return c.line(c.await)
}

// lineFault answers for a line that is not a command; false ends the session.
func (c *conn) lineFault(err error) bool {
	switch {
	case errors.Is(err, errLongCommand):
		c.fault(500, smtp.EnhancedCode{5, 5, 2}, "Line too long")
		return true
	case errors.Is(err, errBadCommand):
		c.fault(500, smtp.EnhancedCode{5, 5, 2}, "Commands are printable lines that end in CRLF")
		return true
	case errors.Is(err, errStopping):
		c.answer(421, smtp.EnhancedCode{4, 3, 2}, c.srv.cfg.Hostname+" is stopping, closing connection")
	case errors.Is(err, errIdle):
		c.answer(421, smtp.EnhancedCode{4, 4, 2}, c.srv.cfg.Hostname+" heard nothing for too long, closing connection")
	default:
		c.hangUp()
	}
	return false
}

// Write takes go-smtp's reply, line by line.
func (c *conn) Write(p []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	c.reply = append(c.reply, p...)
	return len(p), nil
}

// Close ends the session. go-smtp calls it, from the session's goroutine alone.
func (c *conn) Close() error {
	if c.closed {
		return nil
	}
	c.unwatch() // a Handler may have panicked
	c.settle()
	c.replied(c.flush())
	c.abort()
	c.hangUp()
	c.closed = true
	err := c.peer.Close()
	inputs.Put(c.in)
	c.in = nil
	c.log.Debug("disconnected")
	c.srv.forget(c)
	return err
}

// silent stands in conn.verb for a command whose reply was given already.
const silent = "silent"

// settle takes over go-smtp's reply to the command it was given. Where it would tell of what go-smtp was shown in place of the command,
// or of what go-smtp can do, the words are ours.
func (c *conn) settle() {
	done := bytes.HasPrefix(c.reply, []byte("250"))
	switch verb := c.verb; {
	case verb == "STARTTLS", verb == silent:
	case verb == "BDAT": // go-smtp did not take it for DATA, so the chunk is still to come
		c.closing = true
		c.out = append(c.out, c.reply...)
	case verb == "EHLO" && done:
		c.out = append(c.out, c.srv.capabilities(c.session.TLS != nil)...)
	case verb == "HELO" && done:
		c.out = append(c.out, "250 "+c.srv.cfg.Hostname+"\r\n"...)
	case verb == "MAIL" && done:
		c.out = append(c.out, "250 2.1.0 Sender OK\r\n"...)
	case verb == "RCPT" && done:
		c.out = append(c.out, "250 2.1.5 Recipient OK\r\n"...)
	default:
		c.out = append(c.out, c.reply...)
	}
	c.verb, c.reply = "", c.reply[:0]
}

// flush writes the replies that were held back.
func (c *conn) flush() error {
	if c.writeErr != nil || len(c.out) == 0 {
		return c.writeErr
	}
	c.SetWriteDeadline(time.Now().Add(c.srv.cfg.CommandTimeout))
	_, c.writeErr = c.peer.Write(c.out)
	c.out = c.out[:0]
	if c.writeErr != nil {
		c.hangUp()
	}
	return c.writeErr
}

// line reads one command line, and returns it without its CRLF; it is valid until the next read. fill is await, or fillData within a
// message. Replies are held back until there is nothing more to read at once: a pipelined group is answered by one write.
func (c *conn) line(fill func() error) ([]byte, error) {
	for seen := 0; ; {
		buf := c.in[c.r:c.w]
		if i := bytes.IndexByte(buf[seen:], '\n'); i >= 0 {
			line := buf[:seen+i+1]
			c.r += len(line)
			if len(line) > maxCommand {
				return nil, errLongCommand
			}
			return trimLine(line)
		}
		if seen = len(buf); seen > maxCommand {
			return nil, c.skipLine(fill)
		}
		if err := c.flush(); err != nil {
			return nil, err
		}
		if err := fill(); err != nil {
			return nil, err
		}
	}
}

// skipLine throws the rest of a line away that is too long.
func (c *conn) skipLine(fill func() error) error {
	for skipped := 0; skipped < maxSkipped; {
		buf := c.in[c.r:c.w]
		if i := bytes.IndexByte(buf, '\n'); i >= 0 {
			c.r += i + 1
			return errLongCommand
		}
		skipped += len(buf)
		c.r = c.w
		if err := fill(); err != nil {
			return err
		}
	}
	return io.ErrUnexpectedEOF
}

func trimLine(line []byte) ([]byte, error) {
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, errBadCommand
	}
	for _, b := range line {
		if b < ' ' || b == 0x7f {
			return nil, errBadCommand
		}
	}
	return line, nil
}

// read fills the input buffer once, and waits for no longer than until the deadline that was set.
func (c *conn) read() error {
	if c.readErr != nil {
		return c.readErr
	}
	c.compact()
	n, err := c.peer.Read(c.in[c.w:])
	c.w += n
	if n == 0 {
		c.readErr = err
	}
	return c.readErr
}

// compact makes room at the end of the input buffer.
func (c *conn) compact() {
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if c.r > 0 {
		c.w = copy(c.in[:], c.in[c.r:c.w])
		c.r = 0
	}
}

// await waits for a command, and is what stop interrupts.
func (c *conn) await() error {
	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		return errStopping
	}
	c.idle = true
	c.SetReadDeadline(c.commandBy)
	c.mu.Unlock()

	err := c.read()

	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = false
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if c.stopping {
			return errStopping
		}
		return errIdle
	}
	return err
}

// fillData waits for more of a message. Each wait has the whole of the timeout, so that a slow client is not a dead one.
func (c *conn) fillData() error {
	start := time.Now()
	c.SetReadDeadline(start.Add(c.srv.cfg.DataTimeout))
	had := c.w - c.r
	err := c.read()
	switch {
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = ErrTooSlow
	case err == nil && c.srv.cfg.MinRate > 0:
		c.waited += time.Since(start)
		c.got += int64(c.w - c.r - had)
		if c.waited > minRateFrom && float64(c.got) < c.waited.Seconds()*float64(c.srv.cfg.MinRate) {
			err = ErrTooSlow
		}
	}
	if err != nil {
		c.readErr = err
		c.closing = true
		c.hangUp()
		c.cancel()
	}
	return err
}

// stop ends the session as soon as it waits for a command.
func (c *conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if c.idle {
		c.SetReadDeadline(longAgo)
	}
}

// longAgo is a deadline that ends a read at once.
var longAgo = time.Unix(1, 0)

// hangUp tells whom it concerns that the client is gone.
func (c *conn) hangUp() { c.goneOnce.Do(func() { close(c.session.gone) }) }
