package message

import (
	"bytes"
	"strings"
)

// headerReader collects the lines of one header. It keeps them as they are, and finds where fields begin.
type headerReader struct {
	buf    []byte
	fields []int  // where in buf a field begins
	top    bool   // of a message: blank lines may come before it
	keep   bool   // the field being read is within the limit
	known  bool   // and it is one of knownFields
	over   bool   // something was not
	junk   []byte // a line that is no field, with its continuations: the next line tells whether the body begins with it
	limit  int
	room   [2]int // bytes left: of all fields, and after that of known ones
}

func (h *headerReader) reset(limit int, top bool) {
	*h = headerReader{buf: h.buf[:0], fields: h.fields[:0], junk: h.junk[:0], top: top, limit: limit, room: [2]int{limit, limit}}
}

// add keeps a line, or a piece of one, of the current field.
func (h *headerReader) add(b []byte) {
	switch {
	case !h.keep:
	case len(b) <= h.room[0]:
		h.room[0] -= len(b)
		h.buf = append(h.buf, b...)
	case h.known && len(b) <= h.room[1]:
		h.room[1] -= len(b)
		h.buf = append(h.buf, b...)
	default:
		h.keep, h.over = false, true
	}
}

// field begins a new field with its first line.
func (h *headerReader) field(b, name []byte) {
	h.keep, h.known = true, isKnown(name)
	at := len(h.buf)
	if h.add(b); len(h.buf) > at {
		h.fields = append(h.fields, at)
	}
}

// knownFields tell who, what and when, and how the body is to be read.
var knownFields = map[string]bool{
	"from": true, "to": true, "cc": true, "bcc": true, "sender": true, "reply-to": true, "subject": true, "date": true,
	"message-id": true, "in-reply-to": true, "references": true,
	"content-type": true, "content-transfer-encoding": true, "content-disposition": true, "content-id": true,
}

func isKnown(name []byte) bool {
	var lower [32]byte
	if len(name) > len(lower) {
		return false
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return knownFields[string(lower[:len(name)])]
}

// header gives what was collected.
func (h *headerReader) header() Header {
	if len(h.fields) == 0 {
		return Header{}
	}
	s := string(h.buf)
	list := make([]Field, len(h.fields))
	for i, at := range h.fields {
		end := len(s)
		if i+1 < len(h.fields) {
			end = h.fields[i+1]
		}
		name, value, _ := strings.Cut(s[at:end], ":")
		list[i] = Field{strings.TrimRight(name, " \t"), strings.TrimRight(value, "\r\n")}
	}
	return Header{fields: list}
}

// fieldName gives the name of the field that a line begins with; empty: it begins with none. RFC 5322, sections 2.2 and 4.5.8 (blanks
// before the colon).
func fieldName(line []byte) []byte {
	i := 0
	for i < len(line) && line[i] > ' ' && line[i] < 0x7f && line[i] != ':' {
		i++
	}
	name := line[:i]
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	if i == len(line) || line[i] != ':' {
		return nil
	}
	return name
}

func (w *walker) headerLine(b []byte, start bool) {
	h := &w.head
	if !start {
		switch {
		case len(h.junk) == 0:
			h.add(b)
		case len(h.junk) < h.limit:
			h.junk = append(h.junk, b...)
		default: // a line as long as this is no part of a header
			w.endHeader()
			w.dispatch(b, false)
		}
		return
	}
	text, end := cutEnd(b)
	if h.top && len(h.fields) == 0 {
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	name := fieldName(text)
	switch {
	case len(text) == 0:
		if h.top && len(h.fields) == 0 && len(h.junk) == 0 && !h.over {
			return
		}
		if len(h.junk) == 0 {
			w.endHeader()
			return
		}
	case len(name) > 0:
		if len(h.junk) > 0 {
			w.problem("a line of the header is no field")
			w.keepOutside(h.junk)
			h.junk = h.junk[:0]
		}
		h.field(text, name)
		h.add(end)
		return
	case (text[0] == ' ' || text[0] == '\t') && len(h.junk) == 0 && len(h.fields) > 0:
		h.add(b)
		return
	case (text[0] == ' ' || text[0] == '\t') && len(h.junk) > 0 && len(h.junk) < h.limit:
		h.junk = append(h.junk, b...)
		return
	case bytes.HasPrefix(text, []byte("From ")), bytes.HasPrefix(text, []byte(">From ")):
		w.problem("a line of an mbox stands in the header")
		w.keepOutside(b)
		return
	case len(h.junk) == 0:
		h.junk = append(h.junk, b...)
		return
	}
	w.problem("no blank line before the body")
	w.endHeader()
	w.dispatch(b, true)
}

// endHeader ends the header of the current entity and goes on with what its fields say that follows.
func (w *walker) endHeader() {
	n, h := w.cur, &w.head
	n.header = h.header()
	if h.over {
		w.partial("a header longer than the limit")
		w.msg.HeaderPartial = w.msg.HeaderPartial || n.parent == nil
	}
	if len(h.fields)+len(h.junk) > 0 && !n.header.hasAny() {
		if h.top {
			w.partial("no header")
		}
		for _, f := range n.header.fields {
			w.keepOutside([]byte(f.Name + ":" + f.Raw + "\n"))
		}
	}
	standard := "text/plain"
	if n.parent != nil && n.parent.media.typ == "multipart/digest" {
		standard = "message/rfc822"
	}
	n.media = readMedia(n.header, standard)
	for _, p := range n.media.problems {
		w.problem(p)
	}
	junk := bytes.Clone(h.junk)
	w.beginBody(n)
	for len(junk) > 0 {
		line := junk
		if i := bytes.IndexByte(junk, '\n'); i >= 0 {
			line = junk[:i+1]
		}
		junk = junk[len(line):]
		w.dispatch(line, true)
	}
}

// beginBody decides what becomes of an entity's body.
func (w *walker) beginBody(n *node) {
	m := &n.media
	top := n.parent == nil || n.parent.kind == nested
	isMultipart := strings.HasPrefix(m.typ, "multipart/")
	w.msg.Signed = w.msg.Signed || m.typ == "multipart/signed"
	if kind := m.protection(); kind != "" {
		w.protect(kind)
		if kind == SMIMESigned && m.isCMS() {
			w.opaque()
		}
	}
	deep := n.depth >= w.limits.Depth
	if isMultipart && !deep {
		n.kind = multipart
		if m.typ == "multipart/alternative" {
			n.kind = alternative
		}
		n.depth++
		if b := strings.TrimRight(m.boundary, " \t"); b != "" && len(b) <= maxBoundary {
			n.boundary = []byte(b)
		}
		n.outside = len(w.outside)
		w.open = append(w.open, n)
		w.around()
		return
	}
	if top {
		n.path = strings.TrimPrefix(n.path+".1", ".")
	}
	wanted := w.target != "" && n.path == w.target && w.opened == nil
	tooDeep := deep || w.nested >= maxNested || w.parts >= w.limits.Parts
	if isMultipart {
		m.encoded = "" // a multipart has none (RFC 2045, section 6.4)
	}
	w.state, w.size, w.begun, w.dec = inBody, 0, false, decoder{encoding: m.encoded, scratch: w.dec.scratch}
	switch {
	case wanted && (!m.isMessage() || tooDeep):
		n.kind = streamed
	case isMultipart:
		w.partial("nested deeper than the limit")
		n.kind = rawText
	case m.isMessage() && tooDeep:
		w.partial("nested deeper than the limit")
		n.kind = rawText
	case m.isMessage():
		n.kind = nested
		w.parts++
		n.depth++
	case m.isTNEF() && (w.target == "" || w.wantsTNEF(n)):
		n.kind = collected
		w.tnef, w.tnefCut = nil, false
	case m.typ == "message/partial":
		w.partial("a fragment of a message")
		n.kind = rawText
	case m.isText():
		n.kind, n.attached = plainText, m.disposition == "attachment" && !top
		if m.isHTML() {
			n.kind = htmlText
		}
	}
	w.sniffing, w.sniff = n.kind == skipped && m.isPKCS7(), w.sniff[:0]
	if w.target != "" && n.kind != streamed && n.kind != nested && n.kind != collected {
		n.kind = skipped
	}
	n.from, n.to = len(w.text), len(w.text)
	w.list(n, 0)
	if wanted {
		p := w.msg.Parts[n.part]
		p.Size = -1
		w.opened = &p
	}
	if n.kind == nested && m.encoded == "" {
		w.enter(n)
	}
}

// maxNested bounds how many nested messages, each with a transfer encoding, may stand one in the other: each reads the bytes again.
const maxNested = 4

// enter goes into a nested message that has no transfer encoding: its lines are this walker's.
func (w *walker) enter(n *node) {
	n.at = w.offset + w.length
	if w.opened != nil && n.path == w.target {
		w.tap = n
	}
	w.open = append(w.open, n)
	child := &node{parent: n, part: -1, depth: n.depth, path: n.path}
	n.children = append(n.children, child)
	w.begin(child)
}
