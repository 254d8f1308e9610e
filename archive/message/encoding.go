package message

import (
	"bytes"
	"encoding/base64"
)

// decoder undoes a transfer encoding, line by line: "quoted-printable" (RFC 2045, section 6.7), "base64" (6.8) or "uuencode". What is
// damaged is decoded as far as it goes. The go-message decoders stop at the first fault.
type decoder struct {
	encoding string
	scratch  []byte
	damaged  bool

	carry  []byte // quoted-printable: what a piece of a long line ended with
	bits   uint32 // base64: bits not given out yet, and how many
	n      uint
	padded bool // base64: the end was seen
	begun  bool // uuencode: after begin and before end
	over   bool // uuencode: after end
}

// line decodes one line without its end; hasEnd is false for a piece of a long line. The bytes are valid until the next call. newline says
// that the line's end is part of the text; foreign, that this line is not part of the encoding at all.
func (d *decoder) line(b []byte, hasEnd bool) (out []byte, newline, foreign bool) {
	switch d.encoding {
	case "quoted-printable":
		out, newline = d.quoted(b, hasEnd)
		return out, newline, false
	case "base64":
		out, foreign = d.base64(b)
		return out, false, foreign
	default:
		out, foreign = d.uu(b)
		return out, false, foreign
	}
}

// end gives the bytes that are left.
func (d *decoder) end() []byte {
	return d.carry
}

func (d *decoder) quoted(b []byte, hasEnd bool) ([]byte, bool) {
	if len(d.carry) > 0 {
		b = append(d.carry, b...)
		d.carry = nil
	}
	newline := hasEnd
	if hasEnd {
		b = bytes.TrimRight(b, " \t")
		if len(b) > 0 && b[len(b)-1] == '=' {
			b, newline = b[:len(b)-1], false
		}
	} else if i := bytes.LastIndexByte(b, '='); i >= 0 && i > len(b)-3 {
		d.carry = bytes.Clone(b[i:])
		b = b[:i]
	}
	i := bytes.IndexByte(b, '=')
	if i < 0 {
		return b, newline
	}
	out := append(d.scratch[:0], b[:i]...)
	for b = b[i:]; len(b) > 0; {
		if b[0] == '=' {
			if len(b) > 2 && hexValue(b[1]) >= 0 && hexValue(b[2]) >= 0 {
				out = append(out, byte(hexValue(b[1])<<4|hexValue(b[2])))
				b = b[3:]
				continue
			}
			d.damaged = true
		}
		out = append(out, b[0])
		b = b[1:]
	}
	d.scratch = out
	return out, newline
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

var base64Value = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = int8(i)
	}
	return t
}()

func (d *decoder) base64(b []byte) (out []byte, foreign bool) {
	b = bytes.Trim(b, " \t")
	if len(b) == 0 {
		return nil, false
	}
	if d.n == 0 && len(b)%4 == 0 {
		if need := base64.StdEncoding.DecodedLen(len(b)); cap(d.scratch) < need {
			d.scratch = make([]byte, 0, need+16)
		}
		if n, err := base64.StdEncoding.Decode(d.scratch[:cap(d.scratch)], b); err == nil && !d.padded {
			d.padded = b[len(b)-1] == '='
			return d.scratch[:n], false
		}
	}
	if !isBase64(b, d.padded) {
		d.damaged = true
		return nil, true
	}
	return d.loose(b), false
}

// loose decodes what is base64 in b, and passes over the rest.
func (d *decoder) loose(b []byte) []byte {
	out := d.scratch[:0]
	for _, c := range b {
		v := base64Value[c]
		if v < 0 {
			if c == '=' { // the rest of these bits is padding; another block may follow
				d.padded = true
				d.bits, d.n = 0, 0
			} else {
				d.damaged = true
			}
			continue
		}
		d.bits = d.bits<<6 | uint32(v)
		if d.n += 6; d.n >= 8 {
			d.n -= 8
			out = append(out, byte(d.bits>>d.n))
		}
	}
	d.scratch = out
	return out
}

// isBase64 says whether a line is base64, perhaps damaged, and not text that somebody put there. After the padding there is no doubt left
// to give it the benefit of.
func isBase64(b []byte, padded bool) bool {
	bad, words := 0, 1
	for i, c := range b {
		if base64Value[c] < 0 && c != '=' {
			bad++
			if c == ' ' && i > 0 && b[i-1] != ' ' {
				words++
			}
		}
	}
	if padded {
		return bad == 0 && len(b)%4 == 0
	}
	return bad*8 <= len(b) && words < 4
}

// uu decodes a line of uuencode (POSIX.1-2017, uuencode): a length, then groups of four characters for three bytes each.
func (d *decoder) uu(b []byte) (out []byte, foreign bool) {
	switch {
	case d.over:
		return nil, len(bytes.TrimSpace(b)) > 0
	case !d.begun:
		d.begun = bytes.HasPrefix(b, []byte("begin "))
		return nil, !d.begun && len(b) > 0
	case string(b) == "end":
		d.over = true
		return nil, false
	case len(b) == 0:
		return nil, false
	}
	n := int(b[0]-' ') & 63
	out = d.scratch[:0]
	at := func(i int) byte { // spaces at the end of a line are often lost
		if i < len(b) {
			return (b[i] - ' ') & 63
		}
		return 0
	}
	if want := 1 + (n+2)/3*4; len(b) > want+1 {
		d.damaged = true
	}
	for i := 1; len(out) < n; i += 4 {
		out = append(out, at(i)<<2|at(i+1)>>4, at(i+1)<<4|at(i+2)>>2, at(i+2)<<6|at(i+3))
	}
	d.scratch = out
	return out[:n], false
}
