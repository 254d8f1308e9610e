package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// What a reader needs that takes a message line by line as it comes in, and builds nothing of it: package journal/report is one.

// ReadHeader reads a header alone: the lines of raw up to the first blank one. Lines that belong to no field are passed over.
func ReadHeader(raw []byte) Header {
	var h headerReader
	h.reset(len(raw)+1, true)
	for len(raw) > 0 {
		n := bytes.IndexByte(raw, '\n') + 1
		if n == 0 {
			n = len(raw)
		}
		line := raw[:n]
		raw = raw[n:]
		text, end := cutEnd(line)
		name := fieldName(text)
		switch {
		case len(text) == 0 && len(h.fields) > 0:
			return h.header()
		case len(text) == 0:
		case len(name) > 0:
			h.field(text, name)
			h.add(end)
		case (text[0] == ' ' || text[0] == '\t') && len(h.fields) > 0:
			h.add(line)
		default:
			h.keep = false
		}
	}
	return h.header()
}

// Media is what a header says of the body that follows it.
type Media struct {
	Type     string // lower case; text/plain where none is declared
	Charset  string // lower case; empty: none declared
	Boundary string // of a multipart; empty: none
	Name     string // file name, decoded
	Encoding string // that a Decoder undoes; empty: none
}

// Media reads the fields of RFC 2045 and 2183.
func (h Header) Media() Media {
	m := readMedia(h, "text/plain")
	if m.boundary = string(bytes.TrimRight([]byte(m.boundary), " \t")); len(m.boundary) > maxBoundary {
		m.boundary = ""
	}
	return Media{m.typ, m.charset, m.boundary, m.name, m.encoded}
}

// DecodeText gives text in UTF-8, with \n at the end of lines and without NULs. What the charset does not explain is read as it can be.
func DecodeText(raw []byte, charset string) string {
	w := walker{tally: &tally{msg: &Message{}}}
	return w.clean(string(raw), charset)
}

// HTMLText gives the text of HTML, as Message.Text has it.
func HTMLText(html string) string { return htmlToText(html) }

// CMS says what the beginning of a CMS structure tells: SMIMESigned, SMIMEEncrypted; empty: it is none that is known.
func CMS(b []byte) string { return cms(b) }

// Addresses reads a list of addresses as a field has it.
func Addresses(s string) []Address { return appendAddresses(nil, s) }

// Decoder undoes a transfer encoding line by line, as Parse does.
type Decoder struct {
	dec decoder
	eol []byte // of the last line, which may belong to a boundary
}

// NewDecoder takes the encoding as Media names it.
func NewDecoder(encoding string) *Decoder { return &Decoder{dec: decoder{encoding: encoding}} }

// Append decodes a line with its end, or a piece of a long one, and appends what it gives to dst.
func (d *Decoder) Append(dst, line []byte) []byte {
	text, end := cutEnd(line)
	if d.dec.encoding == "" {
		dst = append(append(dst, d.eol...), text...)
		d.eol = append(d.eol[:0], end...)
		return dst
	}
	out, newline, foreign := d.dec.line(text, len(end) > 0)
	if foreign {
		return dst
	}
	if newline || len(out) > 0 {
		dst = append(dst, d.eol...)
		d.eol = d.eol[:0]
	}
	dst = append(dst, out...)
	if newline {
		d.eol = append(d.eol, end...)
	}
	return dst
}

// End appends what is left. boundary says that the end of the last line belongs to the boundary that follows it.
func (d *Decoder) End(dst []byte, boundary bool) []byte {
	dst = append(dst, d.dec.end()...)
	if !boundary {
		dst = append(dst, d.eol...)
	}
	return dst
}

// Within gives a message that lies in another: the bytes of r from offset on, length of them, with their transfer encoding undone. An error
// is r's own; io.ErrUnexpectedEOF says that r is shorter.
func Within(r io.Reader, offset, length int64, encoding string) (io.Reader, error) {
	if _, err := io.CopyN(io.Discard, r, offset); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	part := &exactly{r, length}
	if encoding == "" {
		return part, nil
	}
	return &decoded{r: bufio.NewReaderSize(part, lineBuffer), d: NewDecoder(encoding)}, nil
}

// exactly reads n bytes of r: fewer are an error.
type exactly struct {
	r io.Reader
	n int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.n <= 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.n)])
	if e.n -= int64(n); err == io.EOF && e.n > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// decoded undoes a transfer encoding.
type decoded struct {
	r     *bufio.Reader
	d     *Decoder
	out   []byte
	taken int
	err   error
}

func (d *decoded) Read(p []byte) (int, error) {
	for d.taken == len(d.out) {
		if d.err != nil {
			return 0, d.err
		}
		d.out, d.taken = d.out[:0], 0
		line, err := d.r.ReadSlice('\n')
		if len(line) > 0 {
			d.out = d.d.Append(d.out, line)
		}
		if err == io.EOF {
			d.out = d.d.End(d.out, true)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			d.err = err
		}
	}
	n := copy(p, d.out[d.taken:])
	d.taken += n
	return n, nil
}
