package smtpd

import (
	"bytes"
	"io"
)

// unstuffer takes the framing off the data of a message (RFC 5321 section 4.5.2): the dot that was put before a dot at the beginning of a
// line, and the end of data. A line ends in CRLF and in nothing else, so the end of data is CRLF.CRLF alone, or .CRLF where the data
// begins. All other bytes, bare CR and LF too, are passed through. The zero value is not ready: see newUnstuffer.
type unstuffer struct {
	begin bool // what comes next stands at the beginning of a line
	cr    bool // the byte before was CR
	done  bool // the end of data was seen
}

func newUnstuffer() unstuffer { return unstuffer{begin: true} }

// next moves bytes of the message from src to dst: n were written, used were consumed. It stops where dst is full, where src is used up or
// its rest is too short to tell what it is (at most 2 bytes), and after the end of data.
func (u *unstuffer) next(dst, src []byte) (n, used int) {
	for n < len(dst) && used < len(src) && !u.done {
		s := src[used:]
		if u.begin && s[0] == '.' {
			switch {
			case len(s) >= 3 && s[1] == '\r' && s[2] == '\n':
				u.done = true
				return n, used + 3
			case len(s) == 1, len(s) == 2 && s[1] == '\r':
				return n, used
			}
			u.begin, u.cr = false, false
			used++
			continue
		}
		k := u.run(s[:min(len(s), len(dst)-n)])
		n += copy(dst[n:], s[:k])
		used += k
	}
	return n, used
}

// run says how many bytes of s can be passed on in one piece: up to a line that begins with a dot, or all. s is not empty.
func (u *unstuffer) run(s []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(s[from:], '\n')
		if i < 0 {
			u.begin, u.cr = false, s[len(s)-1] == '\r'
			return len(s)
		}
		i += from
		crlf := i == 0 && u.cr || i > 0 && s[i-1] == '\r'
		from = i + 1
		if from == len(s) || crlf && s[from] == '.' {
			u.begin, u.cr = crlf, false
			return from
		}
	}
}

// dotted is a message by DATA.
type dotted struct {
	c *conn
	unstuffer
}

func (d *dotted) Read(p []byte) (int, error) {
	c := d.c
	for {
		n, used := d.next(p, c.in[c.r:c.w])
		c.r += used
		switch {
		case n > 0 || len(p) == 0:
			return n, nil
		case d.done:
			return 0, io.EOF
		}
		if err := c.fillData(); err != nil {
			return 0, err
		}
	}
}

func (d *dotted) drain() error {
	var waste [inputSize / 4]byte
	for {
		if _, err := d.Read(waste[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
