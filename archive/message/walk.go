package message

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// kind is what becomes of a node's body.
type kind uint8

const (
	skipped     kind = iota // a leaf of which only the size is wanted
	plainText               // a leaf whose text is kept
	htmlText                // the same, to be turned into text
	rawText                 // text that could not be taken apart
	multipart               // its children are its parts
	alternative             // a multipart whose parts say the same
	nested                  // a message; its one child is the message's own entity
	streamed                // the leaf that OpenPart was asked for
	collected               // a leaf of TNEF, which is read when it is whole
	wrapped                 // TNEF that was read: its children are what it holds
)

// node is an entity: the message, a nested message, or a part.
type node struct {
	kind     kind
	header   Header
	media    mediaType
	path     string
	parent   *node
	children []*node
	parts    int // children that were numbered
	depth    int
	part     int  // index in Message.Parts; -1: none
	attached bool // a text leaf that is an attachment and not part of the text

	boundary []byte // of a multipart; nil: not known yet
	outside  int    // of a multipart: where in walker.outside what it has around its parts begins
	from, to int    // of a text leaf: its bytes in walker.text
	at       int64  // of a nested message: where it begins, in bytes of the walk
	said     string // of a message in TNEF: its header, as its reader sees it
}

// tally is what all walkers of one message share: one for the message, and one for each nested message that has a transfer encoding.
type tally struct {
	limits       Limits
	msg          *Message
	text         []byte // decoded text of all text leaves, one after the other
	outside      []byte
	parts        int
	full         bool            // no more text is kept
	attached     strings.Builder // Message.AttachedText in the making
	alternatives int             // how many are being compared
	unwrapped    int             // how many TNEF parts were compared with the text before them
	tnef         []byte          // the bytes of the present TNEF part
	tnefSize     int             // of all of them
	tnefCut      bool
	charset      string // of 8-bit text that declares none; set when the walk is over
	nested       int    // walkers inside walkers
	work         int64  // steps, for tests: what they are is said where they are counted

	target string // of OpenPart: the path of the part wanted
	opened *Part  // it was found
	out    []byte // its decoded bytes, not yet taken
	ended  bool   // it is over
}

type state uint8

const (
	inHeader state = iota
	inBody
	around // before the first part of a multipart or after its end
	rest   // past the limit of parts: raw text to the end
)

// walker follows a message line by line. It holds the stack of what is open and the entity that it is in.
type walker struct {
	*tally
	root   *node
	cur    *node
	open   []*node // multiparts and nested messages that have not ended, the innermost last
	state  state
	offset int64 // bytes seen before this line
	length int64 // of this line
	before int64 // length of the end of the line before this one: when this one is a boundary, that belongs to it

	dec   decoder // of the current leaf
	size  int64   // its bytes so far
	eol   []byte  // the end of its last line, which is given out with the next one
	sub   *feeder // a nested message with a transfer encoding
	begun bool    // that message's first line was seen

	sniff    []byte // the beginning of a leaf that may be CMS
	sniffing bool

	tap    *node  // the nested message, without a transfer encoding, that OpenPart was asked for, while it lasts
	tapEnd []byte // the end of its last line

	head        headerReader
	candidate   []byte // around the parts of a multipart: the line before, which may be its true boundary
	candidateAt int    // where in outside it stands
}

func newWalker(l Limits) *walker {
	w := &walker{tally: &tally{limits: l, msg: &Message{}}}
	w.begin(&node{part: -1})
	w.root = w.cur
	return w
}

// begin enters an entity at its header.
func (w *walker) begin(n *node) {
	w.cur, w.state = n, inHeader
	w.head.reset(w.limits.HeaderBytes, n.parent == nil || n.parent.kind == nested)
	w.eol = w.eol[:0]
}

// problem notes what is wrong; partial, that some text may be missing for it.
func (w *walker) problem(s string) {
	if !slices.Contains(w.msg.Problems, s) {
		w.msg.Problems = append(w.msg.Problems, s)
	}
}

func (w *walker) partial(s string) {
	w.msg.Partial = true
	w.problem(s)
}

// line takes the next line of the message, or the next piece of a long one; start says that a line begins here.
func (w *walker) line(b []byte, start bool) {
	w.work += 1 + int64(len(b))/64 // a line, and what it costs to copy it
	w.length = int64(len(b))
	tapped := w.tap
	if !(start && len(b) > 2 && b[0] == '-' && b[1] == '-' && w.state != rest && w.delimiter(b)) {
		w.dispatch(b, start)
	}
	if tapped != nil {
		w.tapLine(b)
	}
	w.offset += w.length
	_, end := cutEnd(b)
	w.before = int64(len(end))
}

// dispatch gives a line that is no boundary to what is being read.
func (w *walker) dispatch(b []byte, start bool) {
	switch w.state {
	case inHeader:
		w.headerLine(b, start)
	case inBody:
		w.bodyLine(b)
	case around:
		w.aroundLine(b, start)
	case rest:
		w.keepOutside(b)
	}
}

// delimiter acts on a line that is a boundary of something open. The innermost goes first.
func (w *walker) delimiter(b []byte) bool {
	text, _ := cutEnd(b)
	text = bytes.TrimRight(text[2:], " \t")
	for i := len(w.open) - 1; i >= 0; i-- {
		w.work++ // a comparison
		n := w.open[i]
		end, ok := bytes.CutPrefix(text, n.boundary)
		if !ok || n.boundary == nil || len(end) != 0 && string(end) != "--" {
			continue
		}
		w.leave(i+1, true)
		if len(end) == 0 {
			w.part(n)
		} else {
			w.around()
		}
		return true
	}
	return false
}

// around goes on outside the parts of the innermost multipart.
func (w *walker) around() {
	w.state, w.cur, w.candidate = around, nil, nil
}

// part begins the next part of a multipart.
func (w *walker) part(m *node) {
	if m.parts == 0 && boilerplate(w.outside[m.outside:]) {
		w.outside = w.outside[:m.outside]
	}
	if w.parts >= w.limits.Parts {
		w.partial("more parts than the limit")
		w.state, w.cur = rest, nil
		return
	}
	w.parts++
	m.parts++
	n := &node{parent: m, part: -1, depth: m.depth, path: strconv.Itoa(m.parts)}
	if m.path != "" {
		n.path = m.path + "." + n.path
	}
	m.children = append(m.children, n)
	w.begin(n)
}

// leave ends the current entity and all that is open above depth, at a boundary or at the end of the message.
func (w *walker) leave(depth int, boundary bool) {
	if !boundary {
		w.before = 0
	}
	for w.state == inHeader { // that of a nested message follows
		w.endHeader()
	}
	if w.state == inBody {
		w.endBody(boundary)
	}
	for i := len(w.open) - 1; i >= depth; i-- {
		switch n := w.open[i]; {
		case n.kind == nested:
			if n.part >= 0 && n.media.encoded == "" {
				w.msg.Parts[n.part].Size = max(0, w.offset-n.at-w.before)
			}
			if n == w.tap {
				if !boundary {
					w.out = append(w.out, w.tapEnd...)
				}
				w.tap, w.ended = nil, true
			}
		case n.parts == 0:
			w.noParts(n)
		}
	}
	w.open = w.open[:depth]
	w.state, w.cur = around, nil
}

// noParts makes a leaf of raw text out of a multipart in which no part was found.
func (w *walker) noParts(m *node) {
	w.partial("a multipart without parts")
	raw := w.outside[m.outside:]
	m.kind, m.from = rawText, len(w.text)
	w.text = append(w.text, raw...)
	m.to = len(w.text)
	if m.path == "" || m.parent.kind == nested {
		m.path = strings.TrimPrefix(m.path+".1", ".")
	}
	w.list(m, int64(len(raw)))
	if w.target == m.path && w.opened == nil {
		w.opened, w.out, w.ended = &w.msg.Parts[m.part], append(w.out, raw...), true
	}
	w.outside = w.outside[:m.outside]
}

// list adds a leaf or a nested message to the message's parts.
func (w *walker) list(n *node, size int64) {
	p := n.describe()
	p.Size = size
	n.part = len(w.msg.Parts)
	w.msg.Parts = append(w.msg.Parts, p)
}

func (w *walker) aroundLine(b []byte, start bool) {
	m := w.open[len(w.open)-1]
	if start && m.parts == 0 {
		// A multipart whose Content-Type names no boundary, or another: the dashes before a part's header are it.
		if w.candidate != nil && len(b) > 8 && strings.EqualFold(string(b[:8]), "content-") {
			w.problem("boundary is not the one that the header names")
			m.boundary, w.candidate = w.candidate, nil
			w.outside = w.outside[:w.candidateAt]
			w.part(m)
			w.headerLine(b, start)
			return
		}
		w.candidate = nil
		if text, _ := cutEnd(b); len(text) > 2 && len(text) <= maxBoundary && text[0] == '-' && text[1] == '-' {
			w.candidate = bytes.Clone(bytes.TrimRight(text[2:], " \t"))
			w.candidateAt = len(w.outside)
		}
	}
	w.keepOutside(b)
}

// maxBoundary is the longest boundary that is believed; RFC 2046 allows 70.
const maxBoundary = 16 << 10

// keepOutside keeps text that belongs to no part, but not the lines of something encoded.
func (w *walker) keepOutside(b []byte) {
	switch {
	case looksEncoded(b):
		w.partial("something encoded stands outside of all parts")
	case len(w.outside) == 0 && len(bytes.TrimSpace(b)) == 0:
	case !w.room(len(b)):
	default:
		w.outside = append(w.outside, b...)
	}
}

// room says whether n more bytes of text may be kept.
func (w *walker) room(n int) bool {
	if !w.full && len(w.text)+len(w.outside)+n <= w.limits.TextBytes {
		return true
	}
	w.full = true // nothing after a gap, or words would join across it
	w.partial("more text than the limit")
	return false
}

// looksEncoded says that a line is base64 or the like, as it stands in the body of an encoded part.
func looksEncoded(b []byte) bool {
	b, _ = cutEnd(b)
	if len(b) < 60 {
		return false
	}
	for _, c := range b {
		if base64Value[c] < 0 && c != '=' {
			return false
		}
	}
	return true
}

// boilerplate says that text before the first part is the usual note to readers without MIME.
func boilerplate(b []byte) bool {
	if len(b) > 1000 {
		return false
	}
	b = bytes.ToLower(b)
	return len(bytes.TrimSpace(b)) == 0 || bytes.Contains(b, []byte("mime")) || bytes.Contains(b, []byte("multi-part")) ||
		bytes.Contains(b, []byte("multipart"))
}

// finish ends the walk and makes the message of what was found.
func (w *walker) finish() *Message {
	w.leave(0, false)
	w.assemble(w.root)
	return w.msg
}
