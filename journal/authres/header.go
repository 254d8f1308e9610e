package authres

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
)

// header is the header of a message, byte for byte.
type header struct {
	fields []field
	over   bool // it is longer than maxHeader: the rest of it, and the body, are not known
	byName map[string][]int
	buf    *[]byte
}

// field is one field as it was received.
type field struct {
	raw  []byte // with its line end and folds
	name []byte // as written; empty: the line is no field
}

// value is what stands after the colon.
func (f *field) value() []byte { return f.raw[bytes.IndexByte(f.raw, ':')+1:] }

func (f *field) is(name string) bool {
	return len(f.name) == len(name) && strings.EqualFold(string(f.name), name)
}

// bufSize is how much is read at once.
const bufSize = 32 << 10

// buffers are kept as pointers to slices, so that putting one back does not allocate.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufSize); return &b }}

// readHeader reads a message up to its body, which rest gives. The header's bytes are valid until release.
func readHeader(ctx context.Context, r io.Reader) (h *header, rest io.Reader, err error) {
	h = &header{buf: buffers.Get().(*[]byte)}
	b := (*h.buf)[:0]
	line := 0 // start of the line that is being looked at
	for {
		for { // whole lines
			n := bytes.IndexByte(b[line:], '\n')
			if n < 0 {
				break
			}
			text := b[line : line+n+1]
			if len(text) == 1 || len(text) == 2 && text[0] == '\r' {
				*h.buf = b
				h.split(b[:line])
				return h, io.MultiReader(bytes.NewReader(b[line+n+1:]), r), nil
			}
			line += n + 1
		}
		if len(b) > maxHeader {
			h.over = true
			break
		}
		if len(b) == cap(b) {
			b = append(make([]byte, 0, 4*cap(b)), b...)
		}
		if err = ctx.Err(); err != nil {
			break
		}
		var n int
		n, err = r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF && n == 0 { // a header and no body
			line, err = len(b), nil
			break
		}
		if err != nil && err != io.EOF {
			break
		}
	}
	*h.buf = b
	if err != nil {
		h.release()
		return nil, nil, err
	}
	h.split(b[:line])
	return h, bytes.NewReader(nil), nil
}

// release gives the buffer back; nothing of the header may be used any more.
func (h *header) release() {
	if cap(*h.buf) <= 2*bufSize {
		buffers.Put(h.buf)
	}
}

// split finds the fields.
func (h *header) split(b []byte) {
	h.fields = make([]field, 0, 32)
	for start := 0; start < len(b); {
		end := start
		for { // a line, and those that go on with it
			n := bytes.IndexByte(b[end:], '\n')
			if n < 0 {
				end = len(b)
				break
			}
			end += n + 1
			if end == len(b) || b[end] != ' ' && b[end] != '\t' {
				break
			}
		}
		f := field{raw: b[start:end]}
		if colon := bytes.IndexByte(f.raw, ':'); colon > 0 {
			if name := bytes.TrimRight(f.raw[:colon], " \t"); bytes.IndexByte(name, '\n') < 0 {
				f.name = name
			}
		}
		h.fields = append(h.fields, f)
		start = end
	}
}

// each gives the fields of a name, from the top.
func (h *header) each(name string) (list []*field) {
	for i := range h.fields {
		if h.fields[i].is(name) {
			list = append(list, &h.fields[i])
		}
	}
	return list
}

// pick calls f with the fields that a list of names stands for: each name the lowest field of it that was not picked yet; for one that is
// not there, none (RFC 6376, section 5.4.2). names are in lower case.
func (h *header) pick(names []string, f func(*field)) {
	if h.byName == nil {
		h.byName = make(map[string][]int, len(h.fields))
		for i := range h.fields {
			name := string(bytes.ToLower(h.fields[i].name))
			h.byName[name] = append(h.byName[name], i)
		}
	}
	picked := make(map[string]int, len(names))
	for _, name := range names {
		list := h.byName[name]
		if left := len(list) - picked[name]; left > 0 && name != "" {
			picked[name]++
			f(&h.fields[list[left-1]])
		}
	}
}
