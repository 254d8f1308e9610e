package smtpd

import (
	"bytes"
	"io"
)

const (
	maxLine     = 1 << 20 // of a message that goes on, bytes
	maxReceived = 50      // Received lines of one
)

// source is the bytes of a message without SMTP's framing. Its io.EOF means that the client has ended the message.
type source interface {
	io.Reader
	// drain reads what the client is still bound to send before it expects a reply, and throws it away.
	drain() error
}

// Body is a message as it arrives: its exact bytes. Not safe for concurrent use.
type Body struct {
	src    source
	limits limits
	census census
	header receivedCounter
	err    error // sticky: io.EOF, what is wrong with the message, or why no more can be read
	onEOF  func()
}

// limits is what a message is refused for; zero values refuse nothing.
type limits struct {
	size   int64 // bytes
	onward bool  // what should not be passed on
	exact  bool  // what can't be passed on unaltered by DATA
}

// NewBody is a Body of what r holds, refused for nothing, for those who test a Handler without a network.
func NewBody(r io.Reader) *Body { return &Body{src: plain{r}} }

type plain struct{ io.Reader }

func (p plain) drain() error { _, err := io.Copy(io.Discard, p); return err }

// Read gives the message's bytes. io.EOF: that was all of it, and it may be kept. Any other error, whether from the list at ErrBareNewline
// or from the network, means that what was read so far is not a message. Errors are final.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	b.census.add(p[:n])
	if !b.header.done {
		b.header.add(p[:n])
	}
	if fault := b.fault(err == io.EOF); fault != nil {
		b.err = fault
		return 0, fault
	}
	b.err = err
	if err == io.EOF && b.onEOF != nil {
		b.onEOF()
	}
	return n, err
}

// fault is what is wrong with the message as far as it was read.
func (b *Body) fault(end bool) error {
	c := &b.census
	if b.limits.size > 0 && c.size > b.limits.size {
		return ErrTooBig
	}
	if !b.limits.onward {
		return nil
	}
	cr := c.cr
	if c.last == '\r' && !end {
		cr-- // its LF may be next
	}
	switch {
	case b.limits.exact && (cr > c.crlf || c.lf > c.crlf):
		return ErrBareNewline
	case c.longest > maxLine:
		return ErrLineTooLong
	case b.header.n > maxReceived:
		return ErrLoop
	case b.limits.exact && end && c.size > 0 && c.last != '\n':
		return ErrNoFinalNewline
	}
	return nil
}

// Size is how many bytes Read has given.
func (b *Body) Size() int64 { return b.census.size }

// BareCR is the number of CR that no LF followed. It is final after io.EOF.
func (b *Body) BareCR() int64 { return b.census.cr - b.census.crlf }

// BareLF is the number of LF that no CR preceded. It is final after io.EOF.
func (b *Body) BareLF() int64 { return b.census.lf - b.census.crlf }

// Received is the number of Received lines in the message's header, as far as it was read.
func (b *Body) Received() int { return b.header.n }

// complete says that the whole message was read and nothing is wrong with it.
func (b *Body) complete() bool { return b.err == io.EOF }

// refused says that Read found fault with the message itself.
func (b *Body) refused() bool {
	switch b.err {
	case ErrTooBig, ErrBareNewline, ErrLineTooLong, ErrLoop, ErrNoFinalNewline:
		return true
	}
	return false
}

// broken says that the client is gone, too slow, or gave the message up.
func (b *Body) broken() bool { return b.err != nil && !b.complete() && !b.refused() }

// finish reads and throws away what the Handler did not want to read.
func (b *Body) finish() error {
	if b.complete() || b.broken() {
		return nil
	}
	err := b.src.drain()
	if err != nil {
		b.err = err
	}
	return err
}

// census counts newlines.
type census struct {
	size         int64
	cr, lf, crlf int64
	line         int64 // bytes of the line that is not yet ended
	longest      int64
	last         byte
}

func (c *census) add(p []byte) {
	if len(p) == 0 {
		return
	}
	c.size += int64(len(p))
	c.cr += int64(bytes.Count(p, []byte{'\r'}))
	from := 0
	for {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			break
		}
		i += from
		c.lf++
		if i > 0 && p[i-1] == '\r' || i == 0 && c.last == '\r' {
			c.crlf++
		}
		c.longest = max(c.longest, c.line+int64(i+1-from))
		c.line, from = 0, i+1
	}
	c.line += int64(len(p) - from)
	c.longest = max(c.longest, c.line)
	c.last = p[len(p)-1]
}

// receivedCounter counts the header lines named Received, up to the first empty line.
type receivedCounter struct {
	n     int
	match int // bytes of the name that this line began with; -1: it has another name, or was counted
	done  bool
}

const receivedName = "received:"

func (h *receivedCounter) add(p []byte) {
	for i := 0; i < len(p); i++ {
		if h.match < 0 { // nothing more to learn from this line
			end := bytes.IndexByte(p[i:], '\n')
			if end < 0 {
				return
			}
			i += end
			h.match = 0
			continue
		}
		switch c := p[i]; {
		case c == '\n' && h.match == 0:
			h.done = true
			return
		case c == '\n':
			h.match = 0
		case c == '\r' && h.match == 0:
			// an empty line, if LF comes next
		case c|0x20 == receivedName[h.match]:
			if h.match++; h.match == len(receivedName) {
				h.n++
				h.match = -1
			}
		default:
			h.match = -1
		}
	}
}
