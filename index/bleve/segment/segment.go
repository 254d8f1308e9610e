// Package segment builds the segments of the index: what one batch of documents becomes on disk.
//
// Bleve's storage (scorch) opens, merges and searches segments by zapx; only the making of a new one is done here, in a quarter of the
// time and a small part of the memory. zapx's own builder takes for each document a map of words with a structure for each occurrence.
// Here a document hands its words over one by one (Document, Sink), and each goes straight to the end of its term's postings, one or two
// bytes for an occurrence, in blocks that all terms share. So a batch takes a few times the bytes of its postings while it is built, and
// a text of any length is built in one pass.
//
// What it promises: a segment that zapx reads and merges as one of its own, in which each term has the documents and the positions that
// the documents named, and nothing else. FORMAT.md beside this file describes the bytes. Because they are a format of others, that promise
// is kept twice: a test compares with what zapx's own builder makes, merges included; and SelfTest compares when the program starts. Where
// they differ, or the builder fails, zapx's own builder takes its place, for good.
package segment

import (
	"slices"
	"strings"

	bleveindex "github.com/blevesearch/bleve_index_api"
	segmentapi "github.com/blevesearch/scorch_segment_api/v2"
)

// Field is one field of all documents.
type Field struct {
	Name string
	// Options are Bleve's. With IncludeTermVectors the field has tokens, and no terms without a position. With DocValues it has at most one
	// term a document, without the byte 0xff. What is not IndexField has no terms.
	Options bleveindex.FieldIndexingOptions
}

// Schema is what fields documents have. Every segment of an index has all of them, so that they are merged by copying.
type Schema struct {
	fields   []Field // as numbered by the caller
	order    []int   // the numbers in the order of the format: _id, then by name
	place    []int   // of each number, where it stands in order
	maxTerms int
}

// fieldID is the number of the field "_id".
const fieldID = 0

// NewSchema makes one. Fields are numbered from 0 as they stand; the first must be "_id", which every document has by itself. Of one field of
// one document at most maxTerms different tokens are kept.
func NewSchema(maxTerms int, fields ...Field) *Schema {
	s := &Schema{fields: fields, maxTerms: maxTerms}
	for i := range s.fields {
		s.order = append(s.order, i)
	}
	slices.SortFunc(s.order[1:], func(a, b int) int { return strings.Compare(s.fields[a].Name, s.fields[b].Name) })
	s.place = make([]int, len(s.order))
	for i, n := range s.order {
		s.place[n] = i
	}
	return s
}

// Sink takes what is in one document. What it is given it does not keep.
type Sink interface {
	// Term adds a term without positions: the byte kind, unless it is 0, and then value. The same again is nothing.
	Term(field int, kind byte, value string)
	// Token adds a word, behind what its term begins with, at a position, from 1 on. Positions of one word must not descend; the same again is nothing. False: the field has as
	// many different ones as are kept, and this is not one of them.
	Token(field int, lead, word string, pos int) bool
	// Store keeps a value as it is. Once for each field at most.
	Store(field int, value []byte)
}

// Source is a document before it is analysed.
type Source interface {
	// Emit gives all that is in the document to a sink. It may be called more than once, by any goroutine, and gives the same each time.
	Emit(Sink)
}

// Document is a document as Bleve takes it. It is analysed only when a segment is built.
type Document struct {
	schema *Schema
	id     string
	source Source
	stock  *stock // for zapx's own builder; made when it asks
}

var _ bleveindex.Document = (*Document)(nil)

// Document makes one. Its id must be different from those of all others in the batch.
func (s *Schema) Document(id string, source Source) *Document {
	return &Document{schema: s, id: id, source: source}
}

// ID implements bleveindex.Document, as all that follows.
func (d *Document) ID() string { return d.id }

// Size is for Bleve's statistics.
func (d *Document) Size() int { return 1024 }

// NumPlainTextBytes is for Bleve's statistics.
func (d *Document) NumPlainTextBytes() uint64 { return 0 }

// StoredFieldsBytes is for Bleve's statistics.
func (d *Document) StoredFieldsBytes() uint64 { return 0 }

// Indexed says that there is something to search.
func (d *Document) Indexed() bool { return true }

// HasComposite says that there are no fields made of others.
func (d *Document) HasComposite() bool { return false }

// VisitComposite visits none.
func (d *Document) VisitComposite(bleveindex.CompositeFieldVisitor) {}

// AddIDField does nothing: there is one.
func (d *Document) AddIDField() {}

// VisitFields visits all fields of the schema. They are analysed when their terms or values are asked for.
func (d *Document) VisitFields(visit bleveindex.FieldVisitor) {
	if d.stock == nil {
		d.stock = newStock(d)
	}
	for i := range d.stock.fields {
		visit(&d.stock.fields[i])
	}
}

// AppendPositions appends where the term of a posting stands, ascending. It reads what both builders write: FORMAT.md.
func AppendPositions(dst []uint32, p segmentapi.Posting) []uint32 {
	locations := p.Locations()
	if len(locations) == 0 {
		packed, ok := p.(interface{ NormUint64() uint64 })
		if !ok {
			return dst
		}
		first := packed.NormUint64()
		dst = append(dst, uint32(first))
		if distance := p.Frequency() - 1; distance > 0 {
			dst = append(dst, uint32(first+distance))
		}
		return dst
	}
	for _, l := range locations {
		at := l.Pos()
		dst = append(dst, uint32(at))
		for _, distance := range [...]uint64{l.Start(), l.End()} {
			if distance > 0 {
				at += distance
				dst = append(dst, uint32(at))
			}
		}
		for _, distance := range l.ArrayPositions() {
			at += distance
			dst = append(dst, uint32(at))
		}
	}
	return dst
}
