package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/blevesearch/vellum"
	zap "github.com/blevesearch/zapx/v17"
	"github.com/golang/snappy"
)

// finish writes all but the documents' stored values, which are written. It gives the segment without its footer, which zapx adds when it
// goes to disk, and where the index of the stored values and that of the fields begin.
func (b *builder) finish(docs int) (mem []byte, stored, sections uint64, err error) {
	stored = uint64(len(b.out))
	b.out = slices.Grow(b.out, b.estimate())
	for _, at := range b.stored {
		b.out = binary.BigEndian.AppendUint64(b.out, at)
	}
	b.out = binary.AppendUvarint(b.out, 0) // no documents within documents
	address := make([]uint64, len(b.schema.order))
	for place, number := range b.schema.order {
		if address[place], err = b.field(place, number, docs); err != nil {
			return nil, 0, 0, err
		}
	}
	index := make([]uint64, len(b.schema.order))
	for place, number := range b.schema.order {
		f := &b.schema.fields[number]
		index[place] = uint64(len(b.out))
		b.out = binary.AppendUvarint(b.out, uint64(len(f.Name)))
		b.out = append(b.out, f.Name...)
		b.out = binary.AppendUvarint(b.out, uint64(f.Options))
		b.out = binary.AppendUvarint(b.out, 1) // sections
		b.out = binary.BigEndian.AppendUint16(b.out, zap.SectionInvertedTextIndex)
		b.out = binary.BigEndian.AppendUint64(b.out, address[place])
	}
	sections = uint64(len(b.out))
	b.out = binary.AppendUvarint(b.out, uint64(len(index)))
	for _, at := range index {
		b.out = binary.BigEndian.AppendUint64(b.out, at)
	}
	return b.out, stored, sections, nil
}

// estimate is about what is to be written, so that the buffer moves seldom and is hardly too large.
func (b *builder) estimate() int {
	n := b.pool.used/2 + 8*len(b.stored) + 4096
	for i := range b.dicts {
		n += len(b.dicts[i].text) + 12*len(b.dicts[i].terms)
	}
	return n
}

// field writes the postings, the dictionary and the doc values of one field, and gives the address of its section.
func (b *builder) field(place, number, docs int) (uint64, error) {
	d := &b.dicts[number]
	b.sorted = d.sort(b.sorted[:0])
	if err := b.fst.begin(); err != nil {
		return 0, err
	}
	for _, k := range b.sorted {
		t := &d.terms[k.number]
		value := b.postings(t, uint64(place), uint64(docs))
		if err := b.fst.Insert(d.text[t.text:t.text+t.size], value); err != nil {
			return 0, err
		}
	}
	terms, err := b.fst.end()
	if err != nil {
		return 0, err
	}
	at := uint64(len(b.out))
	b.out = binary.AppendUvarint(b.out, uint64(len(terms)))
	b.out = append(b.out, terms...)
	from, to := uint64(math.MaxUint64), uint64(math.MaxUint64) // none
	if b.schema.fields[number].Options.IncludeDocValues() {
		from = uint64(len(b.out))
		b.docValues(&b.docs[number])
		to = uint64(len(b.out))
	}
	section := uint64(len(b.out))
	b.out = binary.AppendUvarint(b.out, from)
	b.out = binary.AppendUvarint(b.out, to)
	b.out = binary.AppendUvarint(b.out, at)
	return section, nil
}

// sortKey is a term to be sorted: its first bytes as a number decide most comparisons.
type sortKey struct {
	first  uint64
	number uint32
}

func (d *dictionary) sort(dst []sortKey) []sortKey {
	for i := range d.terms {
		t := &d.terms[i]
		var first [8]byte
		copy(first[:], d.text[t.text:t.text+t.size])
		dst = append(dst, sortKey{binary.BigEndian.Uint64(first[:]), uint32(i)})
	}
	slices.SortFunc(dst, func(a, b sortKey) int {
		if a.first != b.first {
			return cmp.Compare(a.first, b.first)
		}
		x, y := &d.terms[a.number], &d.terms[b.number]
		return bytes.Compare(d.text[x.text:x.text+x.size], d.text[y.text:y.text+y.size])
	})
	return dst
}

// postingsWriter is scratch space for the postings of one term.
type postingsWriter struct {
	tf, loc, rest []byte
	docs          []uint16
	tfEnds        []uint64 // of the chunks
	locEnds       []uint64
}

// chunkDocs is how many postings zapx wants to read through at most: it divides a segment's documents into chunks by it.
const chunkDocs = 1024

// postings writes the postings of a term, and gives what the dictionary says of it: their address, or all of them where one number holds it.
func (b *builder) postings(t *term, place, docs uint64) uint64 {
	w := &b.w
	r := b.pool.read(t.chain)
	chunk := docs / (uint64(t.docs)/chunkDocs + 1)
	chunks := int((docs-1)/chunk) + 1
	w.tf, w.loc, w.docs, w.tfEnds, w.locEnds = w.tf[:0], w.loc[:0], w.docs[:0], w.tfEnds[:0], w.locEnds[:0]
	doc := uint64(0) // from 1
	for n := r.next(); ; {
		doc += uint64(n >> 1)
		for uint64(len(w.tfEnds)) < (doc-1)/chunk {
			w.tfEnds, w.locEnds = append(w.tfEnds, uint64(len(w.tf))), append(w.locEnds, uint64(len(w.loc)))
		}
		w.docs = append(w.docs, uint16(doc-1))
		first := uint64(r.next())
		var distances [3]uint64
		more := 0
		w.rest = w.rest[:0]
		again := false
		for !again && !r.done() {
			if n = r.next(); n&1 == 1 {
				again = true
				break
			}
			if more < len(distances) {
				distances[more] = uint64(n >> 1)
			} else {
				w.rest = binary.AppendUvarint(w.rest, uint64(n>>1))
			}
			more++
		}
		if more < 2 { // FORMAT.md: the first position as the norm, the distance to the second in the frequency
			if t.docs == 1 && more == 0 {
				return zap.FSTValEncode1Hit(doc-1, first)
			}
			w.tf = binary.AppendUvarint(w.tf, (1+distances[0])<<1)
			w.tf = binary.AppendUvarint(w.tf, first)
		} else {
			w.tf = append(w.tf, 1<<1|1, 1)
			w.location(place, first, distances, max(0, more-2))
		}
		if !again {
			break
		}
	}
	for len(w.tfEnds) < chunks {
		w.tfEnds, w.locEnds = append(w.tfEnds, uint64(len(w.tf))), append(w.locEnds, uint64(len(w.loc)))
	}
	tf := b.chunked(w.tfEnds, w.tf)
	loc := uint64(0)
	if len(w.loc) > 0 {
		loc = b.chunked(w.locEnds, w.loc)
	}
	at := uint64(len(b.out))
	b.out = binary.AppendUvarint(b.out, tf)
	b.out = binary.AppendUvarint(b.out, loc)
	b.bitmap(w.docs)
	return at
}

// location writes the one location of a term in a document: its first position, and the distances from each to the next.
func (w *postingsWriter) location(place, first uint64, distances [3]uint64, others int) {
	var head [5 * binary.MaxVarintLen64]byte
	h := binary.AppendUvarint(head[:0], place)
	h = binary.AppendUvarint(h, first)
	h = binary.AppendUvarint(h, distances[0])
	h = binary.AppendUvarint(h, distances[1])
	h = binary.AppendUvarint(h, uint64(others))
	if others > 0 {
		h = binary.AppendUvarint(h, distances[2])
	}
	w.loc = binary.AppendUvarint(w.loc, uint64(len(h)+len(w.rest)))
	w.loc = append(w.loc, h...)
	w.loc = append(w.loc, w.rest...)
}

// chunked writes data that is cut into chunks, and gives its address.
func (b *builder) chunked(ends []uint64, data []byte) uint64 {
	at := uint64(len(b.out))
	b.out = binary.AppendUvarint(b.out, uint64(len(ends)))
	for _, end := range ends {
		b.out = binary.AppendUvarint(b.out, end)
	}
	b.out = append(b.out, data...)
	return at
}

// Of Roaring's format: https://github.com/RoaringBitmap/RoaringFormatSpec.
const (
	roaringPlain    = 12346 // no runs
	roaringArray    = 4096  // the most numbers that stand one by one
	roaringOverhead = 16    // of one container
)

// bitmap writes a bitmap of documents.
func (b *builder) bitmap(docs []uint16) {
	if len(docs) > roaringArray {
		set := roaring.New()
		for _, d := range docs {
			set.Add(uint32(d))
		}
		raw, _ := set.ToBytes() // into memory
		b.out = binary.AppendUvarint(b.out, uint64(len(raw)))
		b.out = append(b.out, raw...)
		return
	}
	b.out = binary.AppendUvarint(b.out, uint64(roaringOverhead+2*len(docs)))
	b.out = binary.LittleEndian.AppendUint32(b.out, roaringPlain)
	b.out = binary.LittleEndian.AppendUint32(b.out, 1)                   // containers
	b.out = binary.LittleEndian.AppendUint16(b.out, 0)                   // the upper half of its numbers
	b.out = binary.LittleEndian.AppendUint16(b.out, uint16(len(docs)-1)) // how many, less one
	b.out = binary.LittleEndian.AppendUint32(b.out, roaringOverhead)     // where it begins
	for _, d := range docs {
		b.out = binary.LittleEndian.AppendUint16(b.out, d)
	}
}

// docValues writes the doc values of a field, in chunks of as many documents as zapx has.
func (b *builder) docValues(v *docValues) {
	var ends []uint64
	begin := len(b.out)
	for from := 0; from < len(v.ends); from += int(zap.LegacyChunkMode) {
		to := min(from+int(zap.LegacyChunkMode), len(v.ends))
		first := uint32(0)
		if from > 0 {
			first = v.ends[from-1]
		}
		meta, n, last := b.joined[:0], 0, first
		for i := from; i < to; i++ {
			if v.ends[i] > last {
				meta = binary.AppendUvarint(meta, uint64(i))
				meta = binary.AppendUvarint(meta, uint64(v.ends[i]-first))
				n++
			}
			last = v.ends[i]
		}
		b.joined = meta
		b.packed = snappy.Encode(b.packed[:cap(b.packed)], v.values[first:last])
		b.out = binary.AppendUvarint(b.out, uint64(n))
		b.out = append(b.out, meta...)
		b.out = append(b.out, b.packed...)
		ends = append(ends, uint64(len(b.out)-begin))
	}
	at := len(b.out)
	for _, end := range ends {
		b.out = binary.AppendUvarint(b.out, end)
	}
	b.out = binary.BigEndian.AppendUint64(b.out, uint64(len(b.out)-at))
	b.out = binary.BigEndian.AppendUint64(b.out, uint64(len(ends)))
}

// fstWriter makes the dictionary of one field after the other.
type fstWriter struct {
	*vellum.Builder
	buf bytes.Buffer
}

func (w *fstWriter) begin() (err error) {
	w.buf.Reset()
	if w.Builder != nil {
		return w.Reset(&w.buf)
	}
	// As zapx has it: ends of words are not shared, which takes twice the time and saves little.
	w.Builder, err = vellum.New(&w.buf, &vellum.BuilderOpts{Encoder: 1, RegistryTableSize: 0, RegistryMRUSize: 1})
	return err
}

func (w *fstWriter) end() ([]byte, error) {
	if err := w.Close(); err != nil {
		return nil, err
	}
	return w.buf.Bytes(), nil
}
