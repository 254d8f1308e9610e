package extract

import "strings"

// change says how a piece of text stands in a document that remembers its changes.
type change uint8

const (
	kept change = iota
	added
	deleted
)

// flow puts a document's text together, paragraph by paragraph. Two things are kept from tearing words and phrases apart: what hangs in the
// middle of a paragraph (a text box, a note, a comment) comes after it; and a paragraph in which something was deleted comes twice, as it is
// now and, on a line of its own, as it was before the changes.
type flow struct {
	out    *Output
	levels []*paragraph // each hangs in the one before it; there always is one
	hung   strings.Builder
	err    error // the first of out; nothing is written after it
}

type paragraph struct {
	now, before strings.Builder
	changed     bool // before is not empty only then
}

// maxParagraph is how many bytes of text a paragraph, and what hangs in it, may have until it is written though it has not ended.
const maxParagraph = 1 << 20

func newFlow(out *Output) *flow { return &flow{out: out, levels: []*paragraph{{}}} }

func (f *flow) text(s string, c change) {
	p := f.levels[len(f.levels)-1]
	if c != kept && !p.changed {
		p.changed = true
		p.before.WriteString(p.now.String())
	}
	if c != deleted {
		p.now.WriteString(s)
	}
	if p.changed && c != added {
		p.before.WriteString(s)
	}
	if p.now.Len()+p.before.Len() > maxParagraph {
		f.end()
	}
}

// end ends a paragraph.
func (f *flow) end() {
	p := f.levels[len(f.levels)-1]
	f.line(p.now.String())
	if p.changed {
		if p.before.String() != p.now.String() {
			f.line(p.before.String())
		}
		p.before.Reset()
	}
	p.now.Reset()
	p.changed = false
	if len(f.levels) == 1 || f.hung.Len() > maxParagraph {
		f.write(f.hung.String())
		f.hung.Reset()
	}
}

func (f *flow) line(s string) {
	if strings.TrimSpace(s) == "" {
		return
	}
	if len(f.levels) > 1 {
		f.hung.WriteString(s)
		f.hung.WriteByte('\n')
		return
	}
	f.write(s)
	f.write("\n")
}

func (f *flow) write(s string) {
	if f.err == nil && s != "" {
		_, f.err = f.out.WriteString(s)
	}
}

// enter begins something that hangs in the present paragraph.
func (f *flow) enter() { f.levels = append(f.levels, &paragraph{}) }

// leave ends it.
func (f *flow) leave() {
	if len(f.levels) > 1 {
		f.end()
		f.levels = f.levels[:len(f.levels)-1]
	}
}

// finish ends all that is open.
func (f *flow) finish() error {
	for len(f.levels) > 1 {
		f.leave()
	}
	f.end()
	return f.err
}
