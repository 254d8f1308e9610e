package query

import (
	"cmp"
	"slices"

	"github.com/holdfast-archive/holdfast/index/document"
)

// Mark is a place in a text: text[Start:End].
type Mark struct{ Start, End int }

// maxMarks bounds the marks of one field.
const maxMarks = 10_000

// Marks gives where in a record's texts stands what a query asks for: for each text field, for each of its values, marks in order that do not
// overlap. A word is marked in the form in which it was found, a phrase as a whole, of a proximity what is near enough. What stands behind
// a NOT is not looked for. At most maxMarks are looked for in a field.
func (m *Matcher) Marks(q Query) map[Field][][]Mark {
	spans := map[Field][]Span{}
	m.collect(q, spans)
	marks := map[Field][][]Mark{}
	for f, list := range spans {
		slices.SortFunc(list, Span.Compare)
		marks[f] = m.mark(f, slices.Compact(list))
	}
	return marks
}

func (m *Matcher) collect(q Query, spans map[Field][]Span) {
	add := func(f Field, s Span) bool {
		spans[f] = append(spans[f], s)
		return len(spans[f]) < maxMarks
	}
	switch q := q.(type) {
	case And:
		for _, o := range q {
			m.collect(o, spans)
		}
	case Or:
		for _, o := range q {
			m.collect(o, spans)
		}
	case Text:
		for _, f := range textsOf(q.Field) {
			for _, s := range m.analysed(f).places(q).Spans {
				if len(spans[f]) >= maxMarks || !add(f, s) {
					break
				}
			}
		}
	case Near:
		for _, f := range textsOf(q.Field) {
			if len(spans[f]) >= maxMarks {
				continue
			}
			t := m.analysed(f)
			q.pair(t.operand(q.A).Spans, t.operand(q.B).Spans, func(x, y Span) bool { return add(f, x) && add(f, y) })
		}
	}
}

// mark turns positions, in order, into places.
func (m *Matcher) mark(f Field, spans []Span) [][]Mark {
	var out [][]Mark
	pos := 1
	var tokens []document.Token
	for _, s := range m.values(f) {
		tokens = document.Tokens(tokens[:0], s)
		var marks []Mark
		for ; len(spans) > 0 && int(spans[0].First) < pos+len(tokens); spans = spans[1:] {
			first, last := int(spans[0].First)-pos, int(spans[0].Last)-pos
			if first >= 0 && last < len(tokens) {
				marks = append(marks, Mark{tokens[first].Start, tokens[last].End})
			}
		}
		out = append(out, disjoint(marks))
		pos += len(tokens) + attachmentGap
	}
	return out
}

// disjoint joins marks that overlap.
func disjoint(marks []Mark) (out []Mark) {
	slices.SortFunc(marks, func(a, b Mark) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End)) })
	for _, k := range marks {
		if n := len(out); n > 0 && k.Start < out[n-1].End {
			out[n-1].End = max(out[n-1].End, k.End)
			continue
		}
		out = append(out, k)
	}
	return out
}
