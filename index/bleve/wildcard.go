package bleve

import (
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	bleveindex "github.com/blevesearch/bleve_index_api"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
)

// maxExpansion is how many different words a wildcard may stand for in all shards of a search; maxCounted is how far they are counted
// for the text of the refusal.
const (
	maxExpansion = 10_000
	maxCounted   = 100_000
)

// wildcard names one: the field as the query has it, and the term's beginning.
type wildcard struct {
	field  query.Field
	prefix string
}

// wildcards are the words that each wildcard of a search has been found to stand for, over fields, segments and shards.
type wildcards map[wildcard]map[string]struct{}

// tooWide stops a search at a wildcard.
type tooWide struct{ wildcard }

func (t *tooWide) Error() string { return fmt.Sprintf("%s*: too many words", t.prefix) }

// prefix gives the documents that have a term with this beginning.
func (e *evaluator) prefix(no fieldNo, prefix string, w wildcard) (*roaring.Bitmap, error) {
	words := e.wide[w]
	if words == nil {
		words = map[string]struct{}{}
		e.wide[w] = words
	}
	hits := roaring.New()
	var list segment.PostingsList
	err := e.words(no, prefix, func(term string) error {
		if words[term] = struct{}{}; len(words) > maxExpansion {
			return &tooWide{w}
		}
		var err error
		if list, err = e.postings(no, term, list); err != nil {
			return err
		}
		return addTo(hits, list)
	})
	return hits, err
}

// words calls fn with the terms of a field that begin so, until it gives an error.
func (e *evaluator) words(no fieldNo, prefix string, fn func(string) error) error {
	d, err := e.dict(no)
	if err != nil {
		return err
	}
	from := []byte(prefix)
	var it segment.DictionaryIterator
	if u, ok := d.(interface {
		AutomatonIteratorOmitCount(a segment.Automaton, from, before []byte) segment.DictionaryIterator
	}); ok {
		it = u.AutomatonIteratorOmitCount(nil, from, after(from))
	} else {
		it = d.AutomatonIterator(nil, from, after(from))
	}
	for {
		var entry *bleveindex.DictEntry
		if entry, err = it.Next(); err != nil {
			return fmt.Errorf("field %s: %w: %w", fieldNames[no], err, index.ErrCorrupt)
		}
		if entry == nil {
			return nil
		}
		if err := e.ctx.Err(); err != nil {
			return err
		}
		if err := fn(entry.Term); err != nil {
			return err
		}
	}
}

// after is the first term behind all that begin with prefix; nil: there is none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return append(prefix[:i:i], prefix[i]+1)
		}
	}
	return nil
}

var errEnough = errors.New("enough")

// count adds the words of one segment that a wildcard stands for, up to maxCounted.
func (e *evaluator) count(w wildcard, words map[string]struct{}) error {
	fields := textFields[w.field]
	if fields == nil {
		fields = addressFields[w.field]
	}
	for _, no := range fields {
		err := e.words(no, w.prefix, func(term string) error {
			if words[term] = struct{}{}; len(words) > maxCounted {
				return errEnough
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
