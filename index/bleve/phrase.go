package bleve

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/index"
)

// phrase gives the documents of within that have the tokens at consecutive positions of a field.
func (e *evaluator) phrase(no fieldNo, tokens []string, within *roaring.Bitmap) (*roaring.Bitmap, error) {
	lists := make([]segment.PostingsList, len(tokens))
	var candidates *roaring.Bitmap
	for i, token := range tokens {
		var err error
		if lists[i], err = e.postings(no, token, nil); err != nil {
			return nil, err
		}
		have := roaring.New()
		if err := addTo(have, lists[i]); err != nil {
			return nil, err
		}
		if candidates == nil {
			candidates = have
			if within != nil {
				candidates.And(within)
			}
		} else {
			candidates.And(have)
		}
		if candidates.IsEmpty() {
			return candidates, nil
		}
	}
	readers := make([]positionReader, len(tokens))
	for i, list := range lists {
		it := list.Iterator(true, true, true, nil)
		some, ok := it.(segment.OptimizablePostingsIterator)
		if !ok {
			return nil, fmt.Errorf("postings of type %T: %w", it, index.ErrCorrupt)
		}
		some.ReplaceActual(candidates) // all of them now give the same documents
		readers[i].it = it
	}
	hits := roaring.New()
	for n, it := 0, candidates.Iterator(); it.HasNext(); n++ {
		if n%1024 == 0 && e.ctx.Err() != nil {
			return nil, e.ctx.Err()
		}
		number := it.Next()
		for i := range readers {
			if err := readers[i].next(number); err != nil {
				return nil, fmt.Errorf("field %s: %w: %w", fieldNames[no], err, index.ErrCorrupt)
			}
		}
		if consecutive(readers) {
			hits.Add(number)
		}
	}
	return hits, nil
}

// positionReader reads the positions of one term in one document after the other.
type positionReader struct {
	it  segment.PostingsIterator
	pos []uint64 // ascending
}

// next goes on to the next document, which must be number.
func (r *positionReader) next(number uint32) error {
	p, err := r.it.Next()
	if err != nil {
		return err
	}
	if p == nil || p.Number() != uint64(number) {
		return fmt.Errorf("no positions of document %d", number)
	}
	r.pos = r.pos[:0]
	for _, loc := range p.Locations() { // one, as builder.text packs them
		at := loc.Pos()
		r.pos = append(r.pos, at)
		for _, distance := range loc.ArrayPositions() {
			at += distance
			r.pos = append(r.pos, at)
		}
	}
	return nil
}

// consecutive says that a position of the first term is followed by one of the second, and so on. It uses the first up.
func consecutive(terms []positionReader) bool {
	starts := terms[0].pos
	for i := 1; i < len(terms) && len(starts) > 0; i++ {
		kept, at := starts[:0], 0
		next := terms[i].pos
		for _, s := range starts {
			for at < len(next) && next[at] < s+uint64(i) {
				at++
			}
			if at < len(next) && next[at] == s+uint64(i) {
				kept = append(kept, s)
			}
		}
		starts = kept
	}
	return len(starts) > 0
}
