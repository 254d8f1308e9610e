package bleve

import (
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	segmentapi "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/bleve/segment"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// text gives the documents of within in which a word or a phrase stands.
func (e *evaluator) text(q query.Text, within *roaring.Bitmap) (*roaring.Bitmap, error) {
	from := sourcesOf(q.Field)
	if len(from) == 0 || len(q.Tokens) == 0 || q.Form == query.Exact && len(q.Exact) != len(q.Tokens) {
		return nil, fmt.Errorf("text %q in %q: %w", q.Tokens, q.Field, errors.ErrUnsupported)
	}
	return e.or(len(from), func(i int) (*roaring.Bitmap, error) {
		p, err := e.place(from[i], q)
		if err != nil {
			return nil, err
		}
		docs := p.docs()
		if !p.mustLook() {
			return docs, nil
		}
		if within != nil {
			docs.And(within)
		}
		return e.look(from[i], docs, p, func(number uint32) (bool, error) {
			found, err := p.at(number)
			return len(found.Spans) > 0, err
		})
	})
}

// near gives the documents of within that meet a proximity, or with maybe those that may.
func (e *evaluator) near(q query.Near, within *roaring.Bitmap, maybe bool) (*roaring.Bitmap, error) {
	from := sourcesOf(q.Field)
	if len(from) == 0 || q.N < 1 || q.N > query.MaxNear || q.Ordered && q.Without {
		return nil, fmt.Errorf("%s in %q: %w", q.Operator(), q.Field, errors.ErrUnsupported)
	}
	return e.or(len(from), func(i int) (*roaring.Bitmap, error) {
		src := from[i]
		p, err := e.nearPlaces(src, q)
		if err != nil {
			return nil, err
		}
		docs := p.docs()
		if within != nil {
			docs.And(within)
		}
		crowded := roaring.New()
		hits, err := e.look(src, docs, p, func(number uint32) (bool, error) {
			yes, enough, err := p.decide(number)
			if enough {
				crowded.Add(number)
			}
			return yes && !enough, err
		})
		if err != nil {
			return nil, err
		}
		if e.crowded == nil {
			e.crowded = roaring.New()
		}
		e.crowded.Or(crowded)
		gap, err := e.gap(textGap(q.Field))
		if src.no == fieldSubject && err == nil {
			gap, err = e.gap(exactSubject)
		}
		switch {
		case err != nil:
			return nil, err
		case maybe:
			hits.Or(crowded)
			hits.Or(gap)
		case !q.Certain():
			hits.AndNot(gap)
		}
		return hits, nil
	})
}

// look takes those of docs that say yes when their positions are read.
func (e *evaluator) look(src source, docs *roaring.Bitmap, p places, yes func(number uint32) (bool, error)) (*roaring.Bitmap, error) {
	hits := roaring.New()
	if docs.IsEmpty() {
		return hits, nil
	}
	if err := p.open(docs); err != nil {
		return nil, fmt.Errorf("field %s: %w", src, err)
	}
	for n, it := 0, docs.Iterator(); it.HasNext(); n++ {
		if n%256 == 0 && e.ctx.Err() != nil {
			return nil, e.ctx.Err()
		}
		number := it.Next()
		ok, err := yes(number)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w: %w", src, err, index.ErrCorrupt)
		}
		if ok {
			hits.Add(number)
		}
	}
	return hits, nil
}

// places is where an operand stands, in one field of one segment.
type places interface {
	// docs gives the documents in which it may stand. The caller may change it.
	docs() *roaring.Bitmap
	// mustLook says that it need not stand in each of these.
	mustLook() bool
	// open is called once, before at, with the documents that will be asked for, in order.
	open(docs *roaring.Bitmap) error
	// at gives where in a document. It is valid until the next call.
	at(number uint32) (query.Places, error)
}

// place makes the places of an operand.
func (e *evaluator) place(src source, q query.Query) (places, error) {
	switch q := q.(type) {
	case query.Text:
		return e.textPlaces(src, q)
	case query.Near:
		return e.nearPlaces(src, q)
	case query.Or:
		list := make([]places, len(q))
		for i, o := range q {
			var err error
			if list[i], err = e.place(src, o); err != nil {
				return nil, err
			}
		}
		return &unionPlaces{list: list}, nil
	}
	return nil, fmt.Errorf("%T as an operand of proximity: %w", q, errors.ErrUnsupported)
}

func (e *evaluator) textPlaces(src source, q query.Text) (places, error) {
	if x, ok := q.Expansion(); ok {
		terms, err := e.expand(src, q, &x)
		if err != nil {
			return nil, err
		}
		return e.anyOf(src, terms)
	}
	list := make([]positions, len(q.Tokens))
	for i, token := range q.Tokens {
		var err error
		if q.Form == query.Exact {
			list[i], err = e.exactly(src, token, q.Exact[i])
		} else {
			list[i], err = e.wordPlaces(src, token)
		}
		if err != nil {
			return nil, err
		}
	}
	return &phrasePlaces{list: list}, nil
}

// positions is where one word stands.
type positions interface {
	have() *roaring.Bitmap // the documents in which it may stand; not to be changed
	sure() bool            // it stands in each of these
	open(docs *roaring.Bitmap) error
	in(number uint32) ([]uint32, error) // ascending; valid until the next call
}

// wordPlaces is where a term stands.
type wordPlaces struct {
	list   segmentapi.PostingsList
	own    *roaring.Bitmap
	wanted *roaring.Bitmap
	it     segmentapi.PostingsIterator
	pos    []uint32
}

func (e *evaluator) wordPlaces(src source, term string) (*wordPlaces, error) {
	list, err := e.postings(src.no, src.lead+term, nil)
	if err != nil {
		return nil, err
	}
	w := &wordPlaces{list: list, own: roaring.New()}
	return w, addTo(w.own, list)
}

func (w *wordPlaces) have() *roaring.Bitmap { return w.own }
func (w *wordPlaces) sure() bool            { return true }

func (w *wordPlaces) open(docs *roaring.Bitmap) error {
	w.wanted = roaring.And(docs, w.own)
	w.it = w.list.Iterator(true, true, true, nil)
	some, ok := w.it.(segmentapi.OptimizablePostingsIterator)
	if !ok {
		return fmt.Errorf("postings of type %T: %w", w.it, index.ErrCorrupt)
	}
	some.ReplaceActual(w.wanted)
	return nil
}

func (w *wordPlaces) in(number uint32) ([]uint32, error) {
	if !w.wanted.Contains(number) {
		return nil, nil
	}
	p, err := w.it.Advance(uint64(number))
	if err != nil {
		return nil, err
	}
	if p == nil || p.Number() != uint64(number) {
		return nil, fmt.Errorf("no positions of document %d", number)
	}
	w.pos = segment.AppendPositions(w.pos[:0], p)
	return w.pos, nil
}

// exactPlaces is where a word stands that has variants, but without any accent.
type exactPlaces struct {
	word     *wordPlaces
	variants *anyPlaces
	out      []uint32
	pos      []uint32
}

// exactly is where a word stands in one exact form.
func (e *evaluator) exactly(src source, word, form string) (positions, error) {
	if form != "" {
		return e.wordPlaces(src, document.Variant(word, form))
	}
	w, err := e.wordPlaces(src, word)
	if err != nil {
		return nil, err
	}
	terms, err := e.variants(src, word)
	if err != nil || len(terms) == 0 {
		return w, err
	}
	v, err := e.anyOf(src, terms)
	return &exactPlaces{word: w, variants: v}, err
}

func (x *exactPlaces) have() *roaring.Bitmap { return x.word.own }
func (x *exactPlaces) sure() bool            { return false }
func (x *exactPlaces) open(docs *roaring.Bitmap) error {
	return errors.Join(x.word.open(docs), x.variants.open(docs))
}

func (x *exactPlaces) in(number uint32) ([]uint32, error) {
	all, err := x.word.in(number)
	if err != nil {
		return nil, err
	}
	marked, err := x.variants.at(number)
	x.out = x.out[:0]
	for _, s := range marked.Spans {
		x.out = append(x.out, s.First)
	}
	x.pos = query.Except(x.pos[:0], all, x.out)
	return x.pos, err
}

// phrasePlaces is where words stand one after the other; one word is a short phrase.
type phrasePlaces struct {
	list  []positions
	each  [][]uint32
	spans []query.Span
}

func (p *phrasePlaces) docs() *roaring.Bitmap {
	docs := p.list[0].have().Clone()
	for _, w := range p.list[1:] {
		docs.And(w.have())
	}
	return docs
}

func (p *phrasePlaces) mustLook() bool { return len(p.list) > 1 || !p.list[0].sure() }

func (p *phrasePlaces) open(docs *roaring.Bitmap) error {
	p.each = make([][]uint32, len(p.list))
	if len(p.list) > 1 {
		docs = roaring.And(docs, p.docs())
	}
	for _, w := range p.list {
		if err := w.open(docs); err != nil {
			return err
		}
	}
	return nil
}

func (p *phrasePlaces) at(number uint32) (query.Places, error) {
	for i, w := range p.list {
		var err error
		if p.each[i], err = w.in(number); err != nil {
			return query.Places{}, err
		}
	}
	p.spans = query.Consecutive(p.spans[:0], p.each)
	return query.Places{Spans: p.spans}, nil
}

// anyPlaces is where one of many terms stands: they are read one after the other, and what was read is kept by document.
type anyPlaces struct {
	e     *evaluator
	src   source
	terms []string
	own   *roaring.Bitmap
	found map[uint32][]query.Span
}

func (e *evaluator) anyOf(src source, terms []string) (*anyPlaces, error) {
	a := &anyPlaces{e: e, src: src, terms: terms, own: roaring.New()}
	var list segmentapi.PostingsList
	for _, term := range terms {
		var err error
		if list, err = e.postings(src.no, src.lead+term, list); err != nil {
			return nil, err
		}
		if err := addTo(a.own, list); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *anyPlaces) docs() *roaring.Bitmap { return a.own.Clone() }
func (a *anyPlaces) mustLook() bool        { return false }

func (a *anyPlaces) open(docs *roaring.Bitmap) error {
	a.found = map[uint32][]query.Span{}
	for _, term := range a.terms {
		w, err := a.e.wordPlaces(a.src, term)
		if err != nil {
			return err
		}
		if err := w.open(docs); err != nil {
			return err
		}
		if err := a.e.ctx.Err(); err != nil {
			return err
		}
		for it := w.wanted.Iterator(); it.HasNext(); {
			number := it.Next()
			pos, err := w.in(number)
			if err != nil {
				return fmt.Errorf("%w: %w", err, index.ErrCorrupt)
			}
			list := a.found[number]
			for _, p := range pos {
				list = append(list, query.Span{First: p, Last: p})
			}
			a.found[number] = list
		}
	}
	for _, list := range a.found {
		slices.SortFunc(list, query.Span.Compare)
	}
	return nil
}

func (a *anyPlaces) at(number uint32) (query.Places, error) {
	return query.Places{Spans: a.found[number]}, nil
}

// unionPlaces is where one of several operands stands.
type unionPlaces struct {
	list  []places
	own   []*roaring.Bitmap
	spans []query.Span
}

func (u *unionPlaces) docs() *roaring.Bitmap {
	docs := roaring.New()
	for _, p := range u.list {
		docs.Or(p.docs())
	}
	return docs
}

func (u *unionPlaces) mustLook() bool {
	return slices.ContainsFunc(u.list, func(p places) bool { return p.mustLook() })
}

func (u *unionPlaces) open(docs *roaring.Bitmap) error {
	u.own = make([]*roaring.Bitmap, len(u.list))
	for i, p := range u.list {
		u.own[i] = roaring.And(docs, p.docs())
		if err := p.open(u.own[i]); err != nil {
			return err
		}
	}
	return nil
}

func (u *unionPlaces) at(number uint32) (query.Places, error) {
	list := make([]query.Places, len(u.list))
	for i, p := range u.list {
		if !u.own[i].Contains(number) {
			continue
		}
		var err error
		if list[i], err = p.at(number); err != nil {
			return query.Places{}, err
		}
	}
	found := query.Union(u.spans[:0], list...)
	u.spans = found.Spans
	return found, nil
}

// nearPlaces is where two operands stand near each other.
type nearPlaces struct {
	query.Near
	a, b  places
	ownB  *roaring.Bitmap
	spans []query.Span
}

func (e *evaluator) nearPlaces(src source, q query.Near) (*nearPlaces, error) {
	a, err := e.place(src, q.A)
	if err != nil {
		return nil, err
	}
	b, err := e.place(src, q.B)
	if err != nil {
		return nil, err
	}
	return &nearPlaces{Near: q, a: a, b: b}, nil
}

func (n *nearPlaces) docs() *roaring.Bitmap {
	docs := n.a.docs()
	if !n.Without {
		docs.And(n.b.docs())
	}
	return docs
}

func (n *nearPlaces) mustLook() bool { return true }

func (n *nearPlaces) open(docs *roaring.Bitmap) error {
	n.ownB = roaring.And(docs, n.b.docs())
	if err := n.a.open(roaring.And(docs, n.a.docs())); err != nil {
		return err
	}
	return n.b.open(n.ownB)
}

// operands gives where both stand.
func (n *nearPlaces) operands(number uint32) (a, b query.Places, err error) {
	a, err = n.a.at(number)
	if err == nil && n.ownB.Contains(number) {
		b, err = n.b.at(number)
	}
	return a, b, err
}

func (n *nearPlaces) decide(number uint32) (yes, enough bool, err error) {
	a, b, err := n.operands(number)
	if err != nil {
		return false, false, err
	}
	yes, enough = n.Decide(a, b)
	return yes, enough, nil
}

func (n *nearPlaces) at(number uint32) (query.Places, error) {
	a, b, err := n.operands(number)
	if err != nil {
		return query.Places{}, err
	}
	found := n.Join(n.spans[:0], a, b)
	n.spans = found.Spans
	return found, nil
}
