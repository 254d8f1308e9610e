package segment

import (
	"bytes"
	"strings"

	bleveindex "github.com/blevesearch/bleve_index_api"
)

// stock is a document for zapx's own builder: each field with a map of its terms. It takes memory and time, and is the way back.
type stock struct {
	doc    *Document
	fields []stockField
	done   bool
}

// stockField implements bleveindex.Field.
type stockField struct {
	Field
	of          *stock
	value       []byte
	frequencies bleveindex.TokenFrequencies // made of terms when asked for
	terms       map[string]*stockTerm
}

type stockTerm struct {
	bleveindex.TokenFreq
	last int // position
}

func newStock(d *Document) *stock {
	s := &stock{doc: d, fields: make([]stockField, len(d.schema.fields))}
	for i := range s.fields {
		s.fields[i] = stockField{Field: d.schema.fields[i], of: s}
	}
	return s
}

// analyse makes the terms and values of all fields, once.
func (s *stock) analyse() {
	if s.done {
		return
	}
	s.done = true
	id := &s.fields[fieldID]
	id.value = []byte(s.doc.id)
	id.term(s.doc.id)
	s.doc.source.Emit(s)
}

func (f *stockField) Name() string                             { return f.Field.Name }
func (f *stockField) Options() bleveindex.FieldIndexingOptions { return f.Field.Options }
func (f *stockField) Analyze()                                 {}
func (f *stockField) ArrayPositions() []uint64                 { return nil }
func (f *stockField) EncodedFieldType() byte                   { return 't' }
func (f *stockField) NumPlainTextBytes() uint64                { return 0 }

func (f *stockField) Value() []byte {
	f.of.analyse()
	return f.value
}

func (f *stockField) AnalyzedTokenFrequencies() bleveindex.TokenFrequencies {
	f.of.analyse()
	if f.frequencies == nil {
		f.frequencies = make(bleveindex.TokenFrequencies, len(f.terms))
		for term, t := range f.terms {
			f.frequencies[term] = &t.TokenFreq
		}
	}
	return f.frequencies
}

// AnalyzedLength is for scores, which nobody asks for. But it takes a byte, and 0 would make a term of one document unreadable in a merged
// segment, where it is written in a short form.
func (f *stockField) AnalyzedLength() int { return 1 }

// Term implements Sink.
func (s *stock) Term(field int, kind byte, value string) {
	if kind != 0 {
		value = string([]byte{kind}) + value
	}
	s.fields[field].term(value)
}

// Token implements Sink. All positions of a term stand in one location: FORMAT.md.
func (s *stock) Token(field int, lead, word string, pos int) bool {
	f := &s.fields[field]
	word = lead + word
	if f.terms[word] == nil && len(f.terms) == s.doc.schema.maxTerms {
		return false
	}
	t := f.term(word)
	switch distance := pos - t.last; {
	case len(t.Locations) == 0:
		t.Locations = []*bleveindex.TokenLocation{{Position: pos}}
	case distance <= 0:
		return true
	case t.Locations[0].Start == 0:
		t.Locations[0].Start = distance
	case t.Locations[0].End == 0:
		t.Locations[0].End = distance
	default:
		t.Locations[0].ArrayPositions = append(t.Locations[0].ArrayPositions, uint64(distance))
	}
	t.last = pos
	return true
}

// Store implements Sink.
func (s *stock) Store(field int, value []byte) { s.fields[field].value = bytes.Clone(value) }

// term gives the entry of a term, or a new one.
func (f *stockField) term(term string) *stockTerm {
	t := f.terms[term]
	if t == nil {
		if f.terms == nil {
			f.terms = map[string]*stockTerm{}
		}
		t = &stockTerm{}
		t.SetFrequency(1)
		f.terms[strings.Clone(term)] = t
	}
	return t
}
