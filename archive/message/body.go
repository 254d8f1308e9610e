package message

import "bytes"

// bodyLine takes a line of the body of a leaf.
func (w *walker) bodyLine(b []byte) {
	text, end := cutEnd(b)
	if w.cur.kind == nested && !w.begun {
		if len(text) == 0 {
			return
		}
		w.begun = true
		if len(fieldName(text)) > 0 { // an encoding is declared, but what comes is the header of a message as it is
			w.problem("transfer encoding declared but not used")
			w.cur.media.encoded = ""
			w.enter(w.cur)
			w.cur.parent.at = w.offset
			if w.tap == w.cur.parent {
				w.tapLine(b)
			}
			w.dispatch(b, true)
			return
		}
		if w.cur.path != w.target {
			w.sub = newFeeder(w)
		}
	}
	if w.dec.encoding == "" {
		w.emit(w.eol)
		w.emit(text)
		w.eol = append(w.eol[:0], end...)
		return
	}
	out, newline, foreign := w.dec.line(text, len(end) > 0)
	if foreign {
		w.keepOutside(b)
		return
	}
	if newline || len(out) > 0 {
		w.emit(w.eol)
		w.eol = w.eol[:0]
	}
	w.emit(out)
	if newline {
		w.eol = append(w.eol, end...)
	}
}

// endBody ends a leaf. The last line end before a boundary belongs to the boundary.
func (w *walker) endBody(boundary bool) {
	w.emit(w.dec.end())
	if !boundary {
		w.emit(w.eol)
	}
	w.eol = w.eol[:0]
	if w.dec.damaged {
		w.problem("damaged " + w.dec.encoding)
	}
	n := w.cur
	if w.sub != nil {
		w.sub.end()
		w.nested--
		w.sub = nil
	}
	if n.kind == plainText || n.kind == htmlText || n.kind == rawText {
		n.to = len(w.text)
	}
	if n.kind == streamed || n.kind == nested && w.target == n.path {
		w.ended = true
	}
	w.msg.Parts[n.part].Size = w.size
	if w.sniffing {
		w.sniffing = false
		w.endCMS(n)
	}
	if n.kind == collected {
		w.endTNEF(n)
	}
}

// emit takes decoded bytes of the current leaf.
func (w *walker) emit(p []byte) {
	if len(p) == 0 {
		return
	}
	w.size += int64(len(p))
	if w.sniffing && len(w.sniff) < sniffed {
		w.sniff = append(w.sniff, p[:min(len(p), sniffed-len(w.sniff))]...)
	}
	switch w.cur.kind {
	case plainText, htmlText:
		if w.room(len(p)) {
			w.text = append(w.text, p...)
		}
	case rawText:
		if !looksEncoded(p) && w.room(len(p)) {
			w.text = append(w.text, p...)
		}
	case streamed:
		w.out = append(w.out, p...)
	case collected:
		w.keepTNEF(p)
	case nested:
		if w.sub != nil {
			w.sub.feed(p)
		} else { // the one that OpenPart was asked for
			w.out = append(w.out, p...)
		}
	}
}

// tapLine gives out a line of the nested message that OpenPart was asked for.
func (w *walker) tapLine(b []byte) {
	if w.tap != nil {
		text, end := cutEnd(b)
		w.out = append(w.out, w.tapEnd...)
		w.out = append(w.out, text...)
		w.tapEnd = append(w.tapEnd[:0], end...)
	}
}

// feeder hands the decoded bytes of a nested message, line by line, to a walker of its own.
type feeder struct {
	w    *walker
	line []byte
	mid  bool
}

func newFeeder(w *walker) *feeder {
	w.nested++
	n := w.cur
	sub := &walker{tally: w.tally}
	sub.root = &node{parent: n, part: -1, depth: n.depth, path: n.path}
	n.children = append(n.children, sub.root)
	sub.begin(sub.root)
	return &feeder{w: sub}
}

func (f *feeder) feed(p []byte) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n') + 1
		if i == 0 {
			i = min(len(p), lineBuffer-len(f.line))
		}
		if len(f.line) == 0 && p[i-1] == '\n' {
			f.w.line(p[:i], !f.mid)
			f.mid = false
		} else {
			f.line = append(f.line, p[:i]...)
			if f.line[len(f.line)-1] == '\n' || len(f.line) >= lineBuffer {
				f.give()
			}
		}
		p = p[i:]
	}
}

func (f *feeder) give() {
	f.w.line(f.line, !f.mid)
	f.mid = f.line[len(f.line)-1] != '\n'
	f.line = f.line[:0]
}

func (f *feeder) end() {
	if len(f.line) > 0 {
		f.give()
	}
	f.w.leave(0, false)
}
