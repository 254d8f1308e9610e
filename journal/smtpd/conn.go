package smtpd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

const (
	smallSize   = 1 << 10  // bytes read at once while a command is waited for
	inputSize   = 32 << 10 // and within a message
	outputSize  = 4 << 10  // replies held back at most, about
	maxCommand  = 4 << 10  // a command line, with its CRLF, bytes
	maxSkipped  = 1 << 20  // of a command line that is too long, before the connection is given up
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

// conn is one client. All of it belongs to the session's goroutine, but for what mu guards and what lookout may touch.
type conn struct {
	net     net.Conn // TCP: addresses and deadlines
	peer    net.Conn // where bytes come from and go to: net, or TLS over it
	srv     *Server
	log     *slog.Logger
	session Session // as known so far; the Handler gets copies

	// who the client is
	hop       netip.Addr // who connected
	hopPort   int
	client    netip.Addr // the client by TCP, the PROXY protocol or XCLIENT; the zero Addr is nobody that a network could be trusted for
	counted   bool       // limiter.connect was called for client
	trusted   bool       // by its network
	certified bool       // by its certificate
	xclient   bool       // XCLIENT and XFORWARD are for it
	forwarded *forward   // of XFORWARD, until the end of the transaction

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	in        []byte           // small, or large's
	r, w      int              // in[r:w] was read and not yet used
	large     *[inputSize]byte // out of the pool, within a message
	small     [smallSize]byte
	readErr   error     // sticky
	commandBy time.Time // when the command that is waited for has to be whole

	out      []byte // replies on their way to the client
	writeErr error  // sticky

	// the transaction
	current  *Session // the Handler's copy
	from     record.Path
	params   Params
	tx       Transaction
	rcpts    int
	utf8     bool
	answered Transaction // Data was called: Replied is to follow, and Abort is not
	chunk    chunk

	waited time.Duration // for the bytes of this message
	got    int64         // bytes in that time

	faults       int
	junk         int // commands since the last message that bring none nearer
	authFailures int
	closing      bool // after the next flush
	mu           sync.Mutex
	idle         bool          // guarded by mu: waiting for a command
	stopping     bool          // guarded by mu
	waiting      bool          // guarded by mu: the Handler has the whole message
	timer        *time.Timer   // starts lookout
	watched      chan struct{} // closed at the end of lookout
	goneOnce     sync.Once
}

func newConn(srv *Server, c net.Conn, peer netip.Addr, port int) *conn {
	id := newSessionID()
	nc := &conn{
		net: c, peer: c, srv: srv, hop: peer, hopPort: port, log: srv.log.With("session", id),
		session: Session{ID: id, Listener: srv.cfg.Name, Mode: srv.cfg.Mode, gone: make(chan struct{})},
	}
	nc.in = nc.small[:]
	nc.ctx, nc.cancel = context.WithCancel(srv.ctx)
	return nc
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

// flush writes the replies that were held back.
func (c *conn) flush() error {
	if c.writeErr != nil || len(c.out) == 0 {
		return c.writeErr
	}
	c.net.SetWriteDeadline(time.Now().Add(c.srv.cfg.CommandTimeout))
	_, c.writeErr = c.peer.Write(c.out)
	if c.out = c.out[:0]; cap(c.out) > smallSize {
		c.out = nil
	}
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

// compact makes room at the end of the input buffer: a large one where the small one is full.
func (c *conn) compact() {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
	case c.r > 0:
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.in) {
		c.grow()
	}
}

// grow takes a large input buffer, which a message is read into.
func (c *conn) grow() {
	if c.large != nil {
		return
	}
	c.large = inputs.Get().(*[inputSize]byte)
	c.w = copy(c.large[:], c.in[c.r:c.w])
	c.in, c.r = c.large[:], 0
}

// shrink gives the large buffer back: an idle client holds little memory.
func (c *conn) shrink() {
	if c.large == nil || c.r != c.w {
		return
	}
	inputs.Put(c.large)
	c.large, c.in, c.r, c.w = nil, c.small[:], 0, 0
}

// await waits for a command, and is what stop interrupts.
func (c *conn) await() error {
	c.shrink()
	err := c.wait(c.commandBy, c.read)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errIdle
	}
	return err
}

// opening does what comes before the first command and may take the client a while; stop ends it.
func (c *conn) opening(limit time.Duration, do func() error) error {
	until := time.Now().Add(limit)
	c.net.SetWriteDeadline(until)
	return c.wait(until, do)
}

// wait calls do, which reads from the network, with a deadline that stop may bring forward.
func (c *conn) wait(until time.Time, do func() error) error {
	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		return errStopping
	}
	c.idle = true
	c.net.SetReadDeadline(until)
	c.mu.Unlock()

	err := do()

	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = false
	if c.stopping && errors.Is(err, os.ErrDeadlineExceeded) {
		return errStopping
	}
	return err
}

// fillData waits for more of a message. Each wait has the whole of the timeout, so that a slow client is not a dead one.
func (c *conn) fillData() error {
	start := time.Now()
	c.net.SetReadDeadline(start.Add(c.srv.cfg.DataTimeout))
	c.grow()
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
		c.net.SetReadDeadline(longAgo)
	}
}

// longAgo is a deadline that ends a read at once.
var longAgo = time.Unix(1, 0)

// hangUp tells whom it concerns that the client is gone.
func (c *conn) hangUp() { c.goneOnce.Do(func() { close(c.session.gone) }) }
