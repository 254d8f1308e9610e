package authres

import "bytes"

// The canonicalizations of RFC 6376, section 3.4. Lines end with CRLF; a bare CR or LF is a byte like any other, for that is how it was
// received. (So what was signed before some server made CRLF of a bare LF does not verify, as it does nowhere.)

// appendRelaxed writes a field in the relaxed form (section 3.4.2), with its CRLF.
func appendRelaxed(dst, raw []byte) []byte {
	colon := bytes.IndexByte(raw, ':')
	dst = append(dst, bytes.ToLower(bytes.TrimRight(raw[:colon], " \t"))...)
	dst = append(dst, ':')
	start := len(dst)
	space := false
	for _, c := range raw[colon+1:] {
		if isSpace(c) {
			space = true
			continue
		}
		if space && len(dst) > start {
			dst = append(dst, ' ')
		}
		space = false
		dst = append(dst, c)
	}
	return append(dst, "\r\n"...)
}

// appendField writes a field in either form.
func appendField(dst, raw []byte, relaxed bool) []byte {
	if relaxed {
		return appendRelaxed(dst, raw)
	}
	return append(dst, raw...)
}

// bodyCanon writes a body, given in pieces, in the simple or the relaxed form (sections 3.4.3, 3.4.4) to emit.
type bodyCanon struct {
	relaxed bool
	emit    func([]byte)

	out   []byte // to be emitted
	any   bool   // something was written that is not an empty line at the end
	lines int    // ends of line held back: at the end of the body they are one
	space bool   // white space held back (relaxed): at the end of a line it is none
	cr    bool   // a CR held back: with an LF it ends a line
}

func (c *bodyCanon) write(b []byte) {
	for len(b) > 0 {
		if n := c.plain(b); n > 0 { // the usual case, in one go
			c.flush()
			c.out = append(c.out, b[:n]...)
			b = b[n:]
			continue
		}
		switch ch := b[0]; {
		case ch == '\n' && c.cr:
			c.cr, c.space = false, false
			c.lines++
		case ch == '\r':
			if c.cr {
				c.flush()
			}
			c.cr = true
		case (ch == ' ' || ch == '\t') && c.relaxed:
			if c.cr {
				c.flush()
			}
			c.space = true
		default:
			c.flush()
			c.out = append(c.out, ch)
		}
		b = b[1:]
	}
	c.push()
}

// plain is how many bytes at the start of b go through as they are.
func (c *bodyCanon) plain(b []byte) (n int) {
	if c.relaxed {
		for n < len(b) && b[n] > ' ' {
			n++
		}
		return n
	}
	if c.cr && b[0] == '\n' {
		return 0
	}
	if n = bytes.IndexByte(b, '\r'); n < 0 {
		n = len(b)
	}
	return n
}

// flush writes what was held back: something comes after it.
func (c *bodyCanon) flush() {
	for ; c.lines > 0; c.lines-- {
		c.out = append(c.out, "\r\n"...)
		if len(c.out) > bufSize {
			c.push()
		}
	}
	if c.space {
		c.out = append(c.out, ' ')
		c.space = false
	}
	if c.cr {
		c.out = append(c.out, '\r')
		c.cr = false
	}
	c.any = true
}

func (c *bodyCanon) push() {
	c.emit(c.out)
	c.out = c.out[:0]
}

// close writes the end: what is not empty ends with one CRLF, and what is empty is CRLF in the simple form.
func (c *bodyCanon) close() {
	if c.cr {
		c.flush()
	}
	if c.any || !c.relaxed {
		c.out = append(c.out, "\r\n"...)
	}
	c.push()
}
