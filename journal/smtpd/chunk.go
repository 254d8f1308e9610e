package smtpd

import (
	"errors"
	"io"
	"strconv"
	"strings"
)

// chunk is the argument of BDAT (RFC 3030).
type chunk struct {
	left int64 // bytes still to come
	last bool
}

func parseChunk(arg string) (chunk, bool) {
	size, last, found := strings.Cut(arg, " ")
	if found && !strings.EqualFold(last, "LAST") || size == "" || strings.Trim(size, "0123456789") != "" {
		return chunk{}, false
	}
	n, err := strconv.ParseInt(size, 10, 64)
	return chunk{left: n, last: found}, err == nil
}

// doChunk is for the first BDAT of a message, and for those that come out of order.
func (c *conn) doChunk(arg string) {
	next, ok := c.chunkArg(arg)
	if !ok {
		return
	}
	if !c.hasRecipients() {
		c.skipChunk(next)
		return
	}
	c.chunk = next
	c.message(&chunks{c})
}

// chunkArg answers a BDAT that can't be understood, and ends the session: what follows may be a chunk or a command, and nobody knows.
func (c *conn) chunkArg(arg string) (chunk, bool) {
	next, ok := parseChunk(arg)
	if !ok {
		c.fault(501, enhanced{5, 5, 4}, "Expected BDAT size [LAST]")
		c.closing = true
	}
	return next, ok
}

// skipChunk throws a chunk away that was refused. The client may have sent it before it knew (PIPELINING), but not without measure.
func (c *conn) skipChunk(next chunk) {
	if next.left > c.srv.cfg.Limits.MessageSize {
		c.closing = true
		return
	}
	c.chunk = next
	(&chunks{c: c}).drain() // an error closes the session
}

// chunks is a message by BDAT. It reads the commands between the chunks by itself: so a message is one Body, and what ends it is LAST and
// nothing else.
type chunks struct{ c *conn }

func (s *chunks) Read(p []byte) (int, error) {
	c := s.c
	for c.chunk.left == 0 {
		if c.chunk.last {
			return 0, io.EOF
		}
		c.answer(250, enhanced{2, 0, 0}, "Chunk OK")
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	if c.r == c.w {
		if err := c.fillData(); err != nil {
			return 0, err
		}
	}
	p = p[:min(int64(len(p)), c.chunk.left)]
	n := copy(p, c.in[c.r:c.w])
	c.r += n
	c.chunk.left -= int64(n)
	return n, nil
}

// drain reads the rest of the chunk that is under way: its reply is the one that the client waits for.
func (s *chunks) drain() error {
	c := s.c
	for c.chunk.left > 0 {
		if c.r == c.w {
			if err := c.fillData(); err != nil {
				return err
			}
		}
		n := min(int64(c.w-c.r), c.chunk.left)
		c.r += int(n)
		c.chunk.left -= n
	}
	return nil
}

// next reads commands up to the next BDAT. ErrChunks: the client began something else, which is left to be read again.
func (s *chunks) next() error {
	c := s.c
	for {
		line, err := c.line(c.fillData)
		if err != nil {
			if !errors.Is(err, errLongCommand) && !errors.Is(err, errBadCommand) {
				c.closing = true
				return err
			}
			if c.lineFault(err); c.closing {
				return ErrChunks
			}
			continue
		}
		verb, arg, _ := strings.Cut(string(line), " ")
		switch verb = strings.ToUpper(verb); verb {
		case "BDAT":
			next, ok := c.chunkArg(strings.Trim(arg, " "))
			if !ok {
				return ErrChunks
			}
			c.chunk = next
			return nil
		case "NOOP":
			c.answer(250, enhanced{2, 0, 0}, "OK")
		case "RSET", "QUIT", "HELO", "EHLO", "STARTTLS":
			c.r -= len(line) + len("\r\n")
			return ErrChunks
		default:
			c.fault(503, enhanced{5, 5, 1}, "The message is not ended: BDAT or RSET")
			if c.closing {
				return ErrChunks
			}
		}
	}
}
