package segment

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	bleveindex "github.com/blevesearch/bleve_index_api"
	segmentapi "github.com/blevesearch/scorch_segment_api/v2"
	zap "github.com/blevesearch/zapx/v17"
)

// errDiffers is what one segment says that the other does not.
var errDiffers = errors.New("segments differ")

// SelfTest builds the same documents by the builder of this package and by zapx's own, and compares what can be read of both. It does so
// once for a process, in some milliseconds. Where they differ, Distrusted says so from then on, and so does SelfTest.
func SelfTest() error {
	selfTest()
	return Distrusted()
}

var selfTest = sync.OnceFunc(func() {
	schema, docs := sample(selfTestDocs)
	if err := check(schema, docs); err != nil {
		distrust(fmt.Errorf("self-test: %w", err))
	}
})

// selfTestDocs are more than one chunk of doc values holds, and so many that common words have several chunks too.
const selfTestDocs = 2*chunkDocs + 100

// check compares the segments that both builders make.
func check(schema *Schema, docs []*Document) error {
	own, _, err := schema.build(slices.Clone(docs), nil)
	if err != nil {
		return err
	}
	list := make([]bleveindex.Document, len(docs))
	for i, d := range docs {
		list[i] = d
	}
	stock, _, err := new(zap.ZapPlugin).NewUsing(list, nil)
	if err != nil {
		return err
	}
	return compare(schema, own, stock)
}

// The fields of the sample, one of each kind.
const (
	sampleWords = 1 + iota
	sampleNames
	sampleExact
	sampleKeys
	sampleShown
)

// sample makes documents, in the order of their ids, that have all that a segment can: words that stand in each document and in few, once
// and a thousand times, terms without positions, stored values, doc values, empty fields.
func sample(n int) (*Schema, []*Document) {
	schema := NewSchema(50,
		Field{"_id", bleveindex.IndexField | bleveindex.StoreField},
		Field{"words", bleveindex.IndexField | bleveindex.IncludeTermVectors},
		Field{"names", bleveindex.IndexField | bleveindex.IncludeTermVectors},
		Field{"exact", bleveindex.IndexField},
		Field{"keys", bleveindex.IndexField | bleveindex.DocValues},
		Field{"shown", bleveindex.StoreField},
	)
	var docs []*Document
	for i := range n {
		docs = append(docs, schema.Document(fmt.Sprintf("%08d", i), sampleDocument(i)))
	}
	return schema, docs
}

type sampleDocument int

// Emit implements Source.
func (i sampleDocument) Emit(to Sink) {
	n := int(i)
	to.Term(sampleKeys, 0, fmt.Sprintf("%030d", n*7919))
	to.Store(sampleShown, bytes.Repeat([]byte{byte(n), 0xff, 0}, n%50))
	to.Term(sampleExact, 'm', fmt.Sprint("id", n))
	if n%3 == 0 {
		to.Term(sampleExact, 'a', "")
		to.Term(sampleExact, 'a', "")
	}
	if n%10 == 9 {
		return
	}
	pos := 1
	for k := range 1 + n%7 {
		to.Token(sampleWords, "", "everywhere", pos)
		to.Token(sampleWords, "", "\x00everywhere\x00Éverywhere", pos)
		to.Token(sampleWords, "", fmt.Sprint("some", (n+k)%40), pos+1)
		pos += 2 + k*n
	}
	to.Token(sampleNames, "lead:", fmt.Sprint("only", n), pos)
	for k := 0; n%100 == 0 && k < 1000+n; k++ {
		to.Token(sampleNames, "", "often", pos+k*(1+n%5))
		to.Token(sampleNames, "", fmt.Sprint("many", k), pos+k*(1+n%5)) // more than are kept
	}
}

// compare says in what two segments differ.
func compare(schema *Schema, a, b segmentapi.Segment) error {
	if a.Count() != b.Count() || !slices.Equal(a.Fields(), b.Fields()) {
		return fmt.Errorf("%w: %d documents with fields %q, %d with %q", errDiffers, a.Count(), a.Fields(), b.Count(), b.Fields())
	}
	for _, f := range schema.fields {
		if err := compareTerms(f, a, b); err != nil {
			return fmt.Errorf("field %s: %w", f.Name, err)
		}
		if !f.Options.IncludeDocValues() {
			continue
		}
		states := map[segmentapi.Segment]segmentapi.DocVisitState{} // without them each value unpacks its chunk again
		if err := compareEach(a, b, func(s segmentapi.Segment, n uint64) (list [][]byte, err error) {
			states[s], err = s.(segmentapi.DocValueVisitable).VisitDocValues(n, []string{f.Name}, func(_ string, value []byte) {
				list = append(list, bytes.Clone(value))
			}, states[s])
			return list, err
		}); err != nil {
			return fmt.Errorf("doc values of %s: %w", f.Name, err)
		}
	}
	return compareEach(a, b, func(s segmentapi.Segment, n uint64) (list [][]byte, err error) {
		id, err := s.DocID(n)
		if err != nil {
			return nil, err
		}
		list = append(list, id)
		err = s.VisitStoredFields(n, func(field string, typ byte, value []byte, pos []uint64) bool {
			list = append(list, []byte(field), []byte{typ, byte(len(pos))}, bytes.Clone(value))
			return true
		})
		return list, err
	})
}

// compareEach compares what is read of each document.
func compareEach(a, b segmentapi.Segment, read func(s segmentapi.Segment, n uint64) ([][]byte, error)) error {
	for n := range a.Count() {
		x, err := read(a, n)
		if err != nil {
			return err
		}
		y, err := read(b, n)
		if err != nil {
			return err
		}
		if !slices.EqualFunc(x, y, bytes.Equal) {
			return fmt.Errorf("%w: document %d: %q, %q", errDiffers, n, x, y)
		}
	}
	return nil
}

func compareTerms(f Field, a, b segmentapi.Segment) error {
	x, err := a.Dictionary(f.Name)
	if err != nil {
		return err
	}
	y, err := b.Dictionary(f.Name)
	if err != nil {
		return err
	}
	i, j := x.AutomatonIterator(nil, nil, nil), y.AutomatonIterator(nil, nil, nil)
	for {
		s, err := i.Next()
		if err != nil {
			return err
		}
		t, err := j.Next()
		if err != nil {
			return err
		}
		if s == nil && t == nil {
			return nil
		}
		if s == nil || t == nil || s.Term != t.Term {
			return fmt.Errorf("%w: terms %v, %v", errDiffers, s, t)
		}
		if err := comparePostings(f, s.Term, x, y); err != nil {
			return fmt.Errorf("term %q: %w", s.Term, err)
		}
	}
}

func comparePostings(f Field, term string, x, y segmentapi.TermDictionary) error {
	var its [2]segmentapi.PostingsIterator
	for i, d := range [...]segmentapi.TermDictionary{x, y} {
		list, err := d.PostingsList([]byte(term), nil, nil)
		if err != nil {
			return err
		}
		its[i] = list.Iterator(true, true, true, nil)
	}
	for {
		p, err := its[0].Next()
		if err != nil {
			return err
		}
		q, err := its[1].Next()
		if err != nil {
			return err
		}
		if p == nil && q == nil {
			return nil
		}
		if p == nil || q == nil || p.Number() != q.Number() {
			return fmt.Errorf("%w: documents %v, %v", errDiffers, p, q)
		}
		if !f.Options.IncludeTermVectors() {
			continue
		}
		if s, t := AppendPositions(nil, p), AppendPositions(nil, q); !slices.Equal(s, t) {
			return fmt.Errorf("%w: document %d: positions %d, %d", errDiffers, p.Number(), s, t)
		}
	}
}
