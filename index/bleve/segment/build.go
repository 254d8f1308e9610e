package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"unsafe"

	bleveindex "github.com/blevesearch/bleve_index_api"
	segmentapi "github.com/blevesearch/scorch_segment_api/v2"
	zap "github.com/blevesearch/zapx/v17"
	"github.com/golang/snappy"
)

// maxDocs bounds the documents of a segment that is built here: their numbers fit into one container of a bitmap.
const maxDocs = 1 << 16

var errTooLarge = errors.New("too large for one segment")

// builder is the Sink of all documents of a segment, one after the other. It can be used again.
type builder struct {
	schema *Schema
	dicts  []dictionary // by number of field
	pool   pool
	out    []byte // the segment; documents' stored values are written as they come
	stored []uint64
	values []storedValue // of the document under way
	docs   []docValues   // by number of field
	joined []byte
	w      postingsWriter
	fst    fstWriter
	sorted []sortKey
	packed []byte
}

type storedValue struct {
	place int // of the field
	value []byte
}

// docValues are the doc values of one field: one after the other, with the end of each document's.
type docValues struct {
	values []byte
	ends   []uint32
}

func newBuilder(s *Schema) *builder {
	return &builder{schema: s, dicts: make([]dictionary, len(s.fields)), docs: make([]docValues, len(s.fields))}
}

// build makes the segment of documents, in the order of their ids.
func (b *builder) build(docs []*Document, config map[string]any) (*zap.SegmentBase, error) {
	if len(docs) == 0 || len(docs) > maxDocs {
		return nil, fmt.Errorf("%d documents: %w", len(docs), errTooLarge)
	}
	slices.SortFunc(docs, func(a, b *Document) int { return strings.Compare(a.id, b.id) })
	for i, d := range docs {
		if err := b.document(uint32(i+1), d); err != nil {
			return nil, err
		}
	}
	mem, stored, sections, err := b.finish(len(docs))
	if err != nil {
		return nil, err
	}
	stats, _ := config[segmentapi.StatsKey].(*segmentapi.Stats)
	if stats == nil {
		stats = new(segmentapi.Stats)
	}
	return zap.InitSegmentBase(mem, crc32.ChecksumIEEE(mem), zap.DefaultChunkMode, uint64(len(docs)), stored, sections, config, stats)
}

// document takes one document in, numbered from 1.
func (b *builder) document(number uint32, d *Document) error {
	for i := range b.dicts {
		b.dicts[i].begin(number)
	}
	b.values = b.values[:0]
	b.Term(fieldID, 0, d.id)
	d.source.Emit(b)
	if b.full() {
		return errTooLarge
	}
	for i := range b.docs {
		if b.schema.fields[i].Options.IncludeDocValues() {
			v := &b.docs[i]
			v.ends = append(v.ends, uint32(len(v.values)))
		}
	}
	b.store(d.id)
	return nil
}

// full says that addresses, which have 32 bits, may run out with the next document.
func (b *builder) full() bool {
	text := 0
	for i := range b.dicts {
		text += len(b.dicts[i].text) + len(b.docs[i].values)
	}
	return max(text, b.pool.used) > 1<<31
}

// Term implements Sink.
func (b *builder) Term(field int, kind byte, value string) {
	if kind != 0 {
		b.joined = append(append(b.joined[:0], kind), value...)
		value = unsafe.String(unsafe.SliceData(b.joined), len(b.joined)) // not kept
	}
	b.dicts[field].put(&b.pool, value, 1, maxTermsOfField)
	if b.schema.fields[field].Options.IncludeDocValues() {
		v := &b.docs[field]
		v.values = append(append(v.values, value...), docValueEnd)
	}
}

const (
	maxTermsOfField = 1 << 30 // terms without positions are few
	docValueEnd     = 0xff
)

// Token implements Sink.
func (b *builder) Token(field int, lead, word string, pos int) bool {
	if lead != "" {
		b.joined = append(append(b.joined[:0], lead...), word...)
		word = unsafe.String(unsafe.SliceData(b.joined), len(b.joined)) // not kept
	}
	return b.dicts[field].put(&b.pool, word, uint32(pos), b.schema.maxTerms)
}

// Store implements Sink.
func (b *builder) Store(field int, value []byte) {
	b.values = append(b.values, storedValue{b.schema.place[field], slices.Clone(value)})
}

// store writes the stored values of a document.
func (b *builder) store(id string) {
	slices.SortFunc(b.values, func(a, b storedValue) int { return a.place - b.place })
	meta := binary.AppendUvarint(b.joined[:0], uint64(len(id)))
	data := b.w.tf[:0]
	for _, v := range b.values {
		meta = binary.AppendUvarint(meta, uint64(v.place))
		meta = binary.AppendUvarint(meta, 't')
		meta = binary.AppendUvarint(meta, uint64(len(data)))
		meta = binary.AppendUvarint(meta, uint64(len(v.value)))
		meta = binary.AppendUvarint(meta, 0) // array positions
		data = append(data, v.value...)
	}
	b.packed = snappy.Encode(b.packed[:cap(b.packed)], data)
	b.stored = append(b.stored, uint64(len(b.out)))
	b.out = binary.AppendUvarint(b.out, uint64(len(meta)))
	b.out = binary.AppendUvarint(b.out, uint64(len(id)+len(b.packed)))
	b.out = append(b.out, meta...)
	b.out = append(b.out, id...)
	b.out = append(b.out, b.packed...)
	b.joined, b.w.tf = meta, data
}

// Bounds of what is kept for the next segment.
const (
	keptBlocks = 64
	keptTerms  = 1 << 16
	keptText   = 1 << 20
)

// reset makes the builder ready for another segment. A large batch leaves nothing behind.
func (b *builder) reset() {
	for i := range b.dicts {
		d := &b.dicts[i]
		if len(d.terms) > keptTerms || cap(d.text) > keptText {
			*d = dictionary{}
			continue
		}
		clear(d.table)
		d.terms, d.text = d.terms[:0], d.text[:0]
	}
	if len(b.pool.blocks) > keptBlocks {
		b.pool.blocks = b.pool.blocks[:keptBlocks:keptBlocks]
	}
	b.pool.used = 0
	for i := range b.docs {
		b.docs[i] = docValues{b.docs[i].values[:0], b.docs[i].ends[:0]}
	}
	b.out = nil // the segment has it
	b.stored = b.stored[:0]
	clear(b.values[:cap(b.values)])
	if cap(b.w.tf)+cap(b.w.loc)+cap(b.w.rest) > keptText {
		b.w = postingsWriter{}
	}
	if cap(b.sorted) > keptTerms {
		b.sorted = nil
	}
}

// documents gives them as this package's, of one schema, if that is what they are.
func documents(list []bleveindex.Document) (*Schema, []*Document) {
	docs := make([]*Document, len(list))
	for i, d := range list {
		own, ok := d.(*Document)
		if !ok || i > 0 && own.schema != docs[0].schema {
			return nil, nil
		}
		docs[i] = own
	}
	if len(docs) == 0 {
		return nil, nil
	}
	return docs[0].schema, docs
}
