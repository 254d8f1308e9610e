package bleve

import (
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	bleveindex "github.com/blevesearch/bleve_index_api"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// maxExpansion is how many different words a wildcard, a stemmed or a fuzzy word may stand for in all shards of a search; maxCounted is how
// far they are counted for the text of the refusal.
const (
	maxExpansion = 10_000
	maxCounted   = 100_000
	// maxTogether is how many words all wildcards of a search may stand for: they are kept while it lasts.
	maxTogether = 200_000
)

// expansions are the words that each wildcard of a search, by its canonical form, has been found to stand for, over fields, segments and
// shards.
type expansions struct {
	known map[string]*expansion
	total int
}

func newExpansions() *expansions { return &expansions{known: map[string]*expansion{}} }

type expansion struct {
	words map[string]struct{}
	each  func(e *evaluator, fn func(term string) error) error // all of one segment
}

// tooWide stops a search at a wildcard.
type tooWide struct {
	typed string
	*expansion
}

func (t *tooWide) Error() string { return t.typed + " stands for too many words" }

// note counts a word.
func (x *expansions) note(typed, term string, each func(*evaluator, func(string) error) error) error {
	found := x.known[typed]
	if found == nil {
		found = &expansion{map[string]struct{}{}, each}
		x.known[typed] = found
	}
	if _, ok := found.words[term]; ok {
		return nil
	}
	found.words[term] = struct{}{}
	x.total++
	switch {
	case len(found.words) > maxExpansion:
		return &tooWide{typed, found}
	case x.total > maxTogether:
		return fmt.Errorf("all wildcards together stand for more than %d: %w", maxTogether, index.ErrTooBroad)
	}
	return nil
}

// prefix gives the documents that have a term of an address field with this beginning.
func (e *evaluator) prefix(no fieldNo, prefix, typed string) (*roaring.Bitmap, error) {
	hits := roaring.New()
	var list segment.PostingsList
	each := func(e *evaluator, fn func(string) error) error { return e.words(source{no: no}, prefix, nil, fn) }
	err := each(e, func(term string) (err error) {
		if err = e.wide.note(typed, term, each); err != nil {
			return err
		}
		if list, err = e.postings(no, term, list); err != nil {
			return err
		}
		return addTo(hits, list)
	})
	return hits, err
}

// expand gives the words of a field that a text's one word stands for.
func (e *evaluator) expand(src source, q query.Text, x *query.Expansion) (terms []string, err error) {
	typed := q.String()
	key := src.String() + " " + typed
	if terms, ok := e.expanded[key]; ok {
		return terms, nil
	}
	all := sourcesOf(q.Field)
	each := func(e *evaluator, fn func(string) error) error {
		for _, src := range all {
			if err := e.matching(src, x, fn); err != nil {
				return err
			}
		}
		return nil
	}
	err = e.matching(src, x, func(term string) error {
		terms = append(terms, term)
		return e.wide.note(typed, term, each)
	})
	if err != nil {
		return nil, err
	}
	if e.expanded == nil {
		e.expanded = map[string][]string{}
	}
	e.expanded[key] = terms
	return terms, nil
}

// matching calls fn with the terms of a field that a word stands for.
func (e *evaluator) matching(src source, x *query.Expansion, fn func(term string) error) error {
	var a segment.Automaton
	if x.Fuzzy != "" && src.lead == "" { // it reads terms from their start
		a = newFuzzy(x.Fuzzy)
	}
	return e.words(src, x.Lead, a, func(term string) error {
		if !x.Match(term) {
			return nil
		}
		return fn(term)
	})
}

// words calls fn with the words of a source that begin so, and that an automaton lets through if there is one, until it gives an error.
func (e *evaluator) words(src source, prefix string, a segment.Automaton, fn func(string) error) error {
	from, before := []byte(src.lead+prefix), after([]byte(src.lead+prefix))
	if prefix == "" {
		from = append(from, 1) // behind the variants
	}
	return e.terms(src.no, from, before, a, func(term string) error { return fn(term[len(src.lead):]) })
}

// terms calls fn with the terms of a field from one up to before another (nil: to the end), as words does.
func (e *evaluator) terms(no fieldNo, from, before []byte, a segment.Automaton, fn func(string) error) error {
	d, err := e.dict(no)
	if err != nil {
		return err
	}
	var it segment.DictionaryIterator
	if u, ok := d.(interface {
		AutomatonIteratorOmitCount(a segment.Automaton, from, before []byte) segment.DictionaryIterator
	}); ok {
		it = u.AutomatonIteratorOmitCount(a, from, before)
	} else {
		it = d.AutomatonIterator(a, from, before)
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
func (e *evaluator) count(x *expansion, words map[string]struct{}) error {
	return x.each(e, func(term string) error {
		if words[term] = struct{}{}; len(words) > maxCounted {
			return errEnough
		}
		return nil
	})
}

// variants gives the terms of the exact forms of a word that have something that the word has not.
func (e *evaluator) variants(src source, word string) (terms []string, err error) {
	err = e.words(src, document.VariantsOf(word), nil, func(term string) error {
		terms = append(terms, term)
		return nil
	})
	return terms, err
}
