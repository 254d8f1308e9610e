package report

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// state says what the lines are that come now.
type state uint8

const (
	inHead     state = iota // a header: of the message, of a part, of the report within a bounce
	inText                  // the text of the report
	inEnclosed              // the message that it encloses
	passed                  // nothing that is wanted, until a boundary
	over                    // nothing more is wanted
)

// place says whose header it is.
type place uint8

const (
	atTop place = iota
	atPart
	atBounced // the report, within a bounce
)

// walk follows the boundaries of a report, line by line.
type walk struct {
	exchangeOn, interceptOn bool

	state state
	place place
	line  []byte // of which the end has not come yet
	mid   bool   // a piece of the present line was taken already
	off   int64  // of the present line in the message
	eol   int64  // length of the end of the line before

	header message.Header // of the message
	head   []byte         // the header being read
	format string         // of the report; empty: there is none, or not yet
	bounce bool           // the message is a bounce, which may hold a report
	open   [][]byte       // boundaries, the innermost last
	floor  int            // how many of them are not the report's own but the bounce's around it

	text     []byte // of the report, decoded
	charset  string
	html     bool // text is HTML
	haveText bool
	decoder  *message.Decoder
	rest     counter // what of the text lies past the limit
	textOver bool

	enclosed []enclosed
	inner    *inner // being read
	more     int    // enclosed messages past the limit
	others   int    // parts that are neither text of the report nor a message
	cut      bool   // it ended before its last boundary
}

// enclosed is a message that is enclosed, with what its header tells.
type enclosed struct {
	record.Enclosed
	header  message.Header
	rights  bool // rights-managed: encrypted as a whole
	nothing bool // its header alone was enclosed
}

func (w *walk) init(exchange, intercept bool) { w.exchangeOn, w.interceptOn = exchange, intercept }

// write cuts into lines.
func (w *walk) write(p []byte) {
	for len(p) > 0 && w.state != over {
		n := bytes.IndexByte(p, '\n') + 1
		whole := n > 0
		if !whole {
			n = len(p)
		}
		if n = min(n, maxLine-len(w.line)); n < len(p) {
			whole = p[n-1] == '\n'
		}
		if len(w.line) == 0 && whole {
			w.take(p[:n])
		} else if w.line = append(w.line, p[:n]...); whole || len(w.line) == maxLine {
			w.take(w.line)
			w.line = w.line[:0]
		}
		p = p[n:]
	}
}

// take takes a line, or a piece of a long one.
func (w *walk) take(b []byte) {
	start := !w.mid
	w.mid = b[len(b)-1] != '\n'
	if !(start && len(b) > 2 && b[0] == '-' && b[1] == '-' && w.boundary(b)) {
		switch w.state {
		case inHead:
			w.headLine(b, start)
		case inText:
			w.textLine(b)
		case inEnclosed:
			w.inner.line(b)
		}
	}
	w.off += int64(len(b))
	w.eol = int64(len(b) - len(trimEnd(b)))
}

// trimEnd takes the end off a line.
func trimEnd(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
}

// boundary acts on a line that is one.
func (w *walk) boundary(b []byte) bool {
	text := bytes.TrimRight(trimEnd(b)[2:], " \t")
	for i := len(w.open) - 1; i >= 0; i-- {
		end, ok := bytes.CutPrefix(text, w.open[i])
		if !ok || len(end) != 0 && string(end) != "--" {
			continue
		}
		w.leave(true)
		if len(end) == 0 {
			w.open = w.open[:i+1]
			w.begin(atPart)
		} else {
			w.open = w.open[:i]
			w.state = passed
		}
		return true
	}
	return false
}

// begin reads a header.
func (w *walk) begin(at place) { w.state, w.place, w.head = inHead, at, w.head[:0] }

func (w *walk) headLine(b []byte, start bool) {
	if start && len(trimEnd(b)) == 0 && (len(w.head) > 0 || w.place == atPart) {
		w.endHead(int64(len(b)))
	} else if len(w.head)+len(b) <= maxHead {
		w.head = append(w.head, b...)
	}
}

// endHead acts on a header. skip is the length of the blank line after it.
func (w *walk) endHead(skip int64) {
	h := message.ReadHeader(w.head)
	m := h.Media()
	multipart := strings.HasPrefix(m.Type, "multipart/")
	w.state = passed
	switch w.place {
	case atTop:
		w.header = h
		w.format = w.formatOf(h, multipart)
		w.bounce = w.format == "" && w.exchangeOn && m.Type == "multipart/report"
		if w.format == "" && !w.bounce {
			w.state = over
			return
		}
	case atBounced:
		if w.format = w.formatOf(h, multipart); w.format == "" {
			return
		}
		w.floor = len(w.open)
	case atPart:
		if w.format != "" && len(w.open) <= w.floor {
			return // of the bounce, after the report
		}
	}
	switch {
	case multipart:
		if m.Boundary != "" && len(w.open) < maxDepth {
			w.open = append(w.open, []byte(m.Boundary))
		}
	case w.format == "":
		if w.place == atPart && isMessage(m.Type) && m.Encoding == "" {
			w.begin(atBounced)
		}
	case w.place == atPart && (isMessage(m.Type) || m.Type == "text/rfc822-headers"):
		if len(w.enclosed) == maxEnclosed {
			w.more++
			w.others++
			return
		}
		w.inner = newInner(w.off+skip, m)
		w.state = inEnclosed
	case len(w.enclosed) > 0:
		w.others++
	case m.Type == "text/plain" && (!w.haveText || w.html), m.Type == "text/html" && !w.haveText:
		w.haveText, w.html, w.charset, w.text = true, m.Type == "text/html", m.Charset, w.text[:0]
		w.rest, w.textOver = counter{}, false
		w.decoder = message.NewDecoder(m.Encoding)
		w.state = inText
	case m.Type == "text/html" && len(w.open) > w.floor+1: // the report's text again
	case w.place == atPart:
		w.others++
	}
}

func isMessage(typ string) bool { return typ == "message/rfc822" || typ == "message/global" }

// formatOf says of a header which report it begins.
func (w *walk) formatOf(h message.Header, multipart bool) string {
	if w.exchangeOn {
		for _, f := range h.Fields() {
			switch {
			case strings.EqualFold(f.Name, "X-MS-Journal-Report"): // its value means nothing
				return Exchange
			case strings.EqualFold(f.Name, "Content-Identifer"), strings.EqualFold(f.Name, "Content-Identifier"): // the first is what was sent
				if strings.EqualFold(strings.TrimSpace(f.Raw), "ExJournalReport") {
					return formatExchange2003
				}
			}
		}
	}
	if w.interceptOn && multipart && w.place == atTop {
		if account, _ := interceptOf(h.Subject()); account != "" {
			return formatIntercept
		}
	}
	return ""
}

func (w *walk) textLine(b []byte) {
	if !w.textOver {
		w.text = w.decoder.Append(w.text, b)
		if len(w.text) <= maxText {
			return
		}
		w.textOver = true
		cut := bytes.LastIndexByte(w.text[:maxText], '\n') + 1
		w.rest.write(w.text[cut:])
		w.text = w.text[:cut]
		return
	}
	w.rest.write(w.decoder.Append(nil, b))
}

// leave ends the part being read. boundary says that a boundary ends it, to which the end of the line before it belongs.
func (w *walk) leave(boundary bool) {
	switch w.state {
	case inHead:
		if w.place != atPart || len(w.head) > 0 {
			w.endHead(0)
			if w.state != inHead && w.state != passed && w.state != over {
				w.leave(boundary)
			}
		}
	case inText:
		if tail := w.decoder.End(nil, boundary); w.textOver {
			w.rest.write(append(tail, '\n'))
		} else {
			w.text = append(w.text, tail...)
		}
	case inEnclosed:
		eol := int64(0)
		if boundary {
			eol = w.eol
		}
		w.enclosed = append(w.enclosed, w.inner.end(w.off, eol, boundary))
		w.inner = nil
	}
}

// end ends the message.
func (w *walk) end() {
	if len(w.line) > 0 {
		w.take(w.line)
		w.line = nil
	}
	w.cut = w.format != "" && len(w.open) > 0 && w.state != passed
	w.leave(false)
}

// inner is an enclosed message that is being read.
type inner struct {
	enclosed
	decoder *message.Decoder
	hash    hash.Hash
	buf     []byte // decoded, not yet hashed
	head    []byte
	headEnd bool
}

// hashBuffer is how many bytes are hashed at a time.
const hashBuffer = 16 << 10

func newInner(off int64, m message.Media) *inner {
	n := &inner{decoder: message.NewDecoder(m.Encoding), hash: sha256.New()}
	n.Offset, n.Encoding, n.nothing = off, m.Encoding, m.Type == "text/rfc822-headers"
	return n
}

func (n *inner) line(b []byte) {
	from := len(n.buf)
	n.buf = n.decoder.Append(n.buf, b)
	n.look(n.buf[from:])
	if !n.rights && len(b) > 12 && b[0]|0x20 == 'c' && b[8] == 't' {
		n.rights = bytes.Contains(bytes.ToLower(b[:min(len(b), 200)]), []byte(rightsType))
	}
	if len(n.buf) >= hashBuffer {
		n.flush()
	}
}

// rightsType is the media type of a message as rights management encrypts it.
const rightsType = "application/x-microsoft-rpmsg-message"

// look takes the header out of decoded bytes.
func (n *inner) look(p []byte) {
	for len(p) > 0 && !n.headEnd {
		i := bytes.IndexByte(p, '\n') + 1
		if i == 0 {
			i = len(p)
		}
		if len(n.head) > 0 || len(trimEnd(p[:i])) > 0 { // blank lines before a header are none of it
			n.head = append(n.head, p[:i]...)
		}
		p = p[i:]
		n.headEnd = len(n.head) > maxHead || bytes.HasSuffix(n.head, []byte("\n\n")) || bytes.HasSuffix(n.head, []byte("\n\r\n"))
	}
}

func (n *inner) flush() {
	n.Size += int64(len(n.buf))
	n.hash.Write(n.buf)
	n.buf = n.buf[:0]
}

// end ends it before the line at off. eol is how much of the line before belongs to the boundary.
func (n *inner) end(off, eol int64, boundary bool) enclosed {
	n.Length = max(0, off-n.Offset)
	if n.Encoding == "" {
		n.Length = max(0, n.Length-eol)
	}
	from := len(n.buf)
	n.buf = n.decoder.End(n.buf, boundary || n.Encoding != "")
	n.look(n.buf[from:])
	n.flush()
	n.hash.Sum(n.SHA256[:0])
	n.header = message.ReadHeader(n.head)
	n.MessageID = short(n.header.MessageID())
	n.rights = n.rights || strings.EqualFold(n.header.Get("Content-Class"), "rpmsg.message")
	return n.enclosed
}
