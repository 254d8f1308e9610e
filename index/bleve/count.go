package bleve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Count implements index.Backend. What a shard has is remembered with the query for as long as the shard stays as it is, so that of a query
// that is asked again only the shards that mail still goes to are counted again.
func (b *Backend) Count(ctx context.Context, r index.CountRequest) (*index.Counts, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return nil, index.ErrClosed
	}
	if r.Within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Within)
		defer cancel()
	}
	for _, f := range r.Facets {
		if !slices.Contains(index.Facets, f) {
			return nil, fmt.Errorf("index: facet %q: %w", f, errors.ErrUnsupported)
		}
	}
	for {
		counts, err := b.count(ctx, r)
		switch {
		case err == nil:
			return counts, nil
		case b.setAside(err): // each time another
		case errors.Is(err, index.ErrCorrupt): // but its files are well
			return nil, fmt.Errorf("index: %v", err)
		default:
			return nil, fmt.Errorf("index: %w", err)
		}
	}
}

func (b *Backend) count(ctx context.Context, r index.CountRequest) (*index.Counts, error) {
	facets := slices.Compact(slices.Sorted(slices.Values(r.Facets)))
	req := index.Request{Query: r.Query, Sets: r.Sets}
	s, err := newSearch(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.close(b)
	shards := b.candidates(req)
	if len(facets) > 0 {
		b.prefetch(ctx, shards, facets)
	}
	var parts []*tally
	var missing []string
	var state strings.Builder
	for _, c := range shards {
		if c.Lost != 0 {
			missing = append(missing, monthOf(c.name))
		}
		var t *tally
		of := ""
		err := ctx.Err()
		if err == nil {
			t, of, err = b.countShard(s, c, facets)
		}
		if wide := (*tooWide)(nil); errors.As(err, &wide) {
			err = b.refuse(ctx, shards, wide)
		}
		if err != nil {
			return nil, err
		}
		parts = append(parts, t)
		fmt.Fprintf(&state, "%s %d %s\n", c.folder(c.name), c.Lost, of)
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	key, remember := tallyKey{nil, fmt.Sprint(r.Top, facets, " ", r.Query)}, !asksSets(r.Query)
	if known := b.tallies.get(key, state.String()); remember && known != nil {
		return clone(known.counts), nil
	}
	sum := newTally()
	for _, t := range parts {
		sum.add(t)
	}
	counts := &index.Counts{Total: sum.total, Unknown: sum.unknown, Missing: missing, Facets: map[index.Facet]index.Spread{}}
	for _, f := range facets {
		counts.Facets[f] = sum.spread(f, r.Top)
	}
	if remember {
		b.tallies.put(key, &remembered{state: state.String(), counts: clone(counts)})
	}
	return counts, nil
}

// clone is for those who may change what they are given.
func clone(c *index.Counts) *index.Counts {
	to := *c
	to.Missing, to.Facets = slices.Clone(c.Missing), maps.Clone(c.Facets)
	for f, s := range to.Facets {
		s.Values = slices.Clone(s.Values)
		to.Facets[f] = s
	}
	return &to
}

// prefetch makes what the facets of addresses and times are counted with, of all shards side by side. What fails here fails again when it is used.
func (b *Backend) prefetch(ctx context.Context, shards []candidate, facets []index.Facet) {
	var wg sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, c := range shards {
		if c.Batch == 0 || ctx.Err() != nil {
			continue
		}
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			sh, err := b.acquire(c.name)
			if err != nil {
				return
			}
			defer b.release(sh)
			_ = guard(func() error {
				snap := sh.snapshot()
				defer snap.Close()
				for _, part := range snap.Segments() {
					if _, err := sh.keys(part.Id(), part.Segment()); err != nil {
						return err
					}
					for _, f := range facets {
						if crowdFields[f] == nil {
							continue
						}
						if _, err := sh.crowd(part.Id(), &evaluator{ctx: ctx, seg: part.Segment()}, f); err != nil {
							return err
						}
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
}

// countShard counts one shard, or remembers what it counted; state is of the shard as it was counted.
func (b *Backend) countShard(s *search, c candidate, facets []index.Facet) (t *tally, state string, err error) {
	if c.Batch == 0 {
		return newTally(), "", nil // nothing is in it yet
	}
	sh, err := b.acquire(c.name)
	if err != nil {
		return nil, "", err
	}
	s.held = append(s.held, sh)
	err = guard(func() error {
		snap := sh.snapshot()
		s.snaps = append(s.snaps, snap)
		key := tallyKey{sh, fmt.Sprint(facets, " ", s.req.Query)}
		state = stateOf(snap)
		remember := !asksSets(s.req.Query)
		if remember {
			if known := b.tallies.get(key, state); known != nil {
				t = known.tally
				return nil
			}
		}
		t = newTally()
		err := s.segments(sh, snap, func(e *evaluator, id uint64, hits, unknown *roaring.Bitmap) error {
			t.total += hits.GetCardinality()
			t.unknown += unknown.GetCardinality()
			if hits.IsEmpty() {
				return nil
			}
			for _, f := range facets {
				if err := t.count(sh, e, id, f, hits); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil && remember {
			b.tallies.put(key, &remembered{state: state, tally: t})
		}
		return err
	})
	if errors.Is(err, index.ErrCorrupt) {
		return nil, "", &damage{c.name, sh.folder, err}
	}
	return t, state, err
}

// stateOf is the same for snapshots with the same documents: segments never change, and what is deleted stays so.
func stateOf(snap *scorch.IndexSnapshot) string {
	var b strings.Builder
	for _, part := range snap.Segments() {
		gone := uint64(0)
		if d := part.Deleted(); d != nil {
			gone = d.GetCardinality()
		}
		fmt.Fprintf(&b, "%d-%d ", part.Id(), gone)
	}
	return b.String()
}

func asksSets(q query.Query) (asks bool) {
	query.Walk(q, func(q query.Query) bool {
		_, is := q.(query.Set)
		asks = asks || is
		return !asks
	})
	return asks
}

// tally is what was counted.
type tally struct {
	total, unknown uint64
	values         map[index.Facet]map[string]uint64
	days           map[int64]uint64 // of receipt, since 1970; for both facets of time
}

func newTally() *tally {
	return &tally{values: map[index.Facet]map[string]uint64{}, days: map[int64]uint64{}}
}

func (t *tally) of(f index.Facet) map[string]uint64 {
	if t.values[f] == nil {
		t.values[f] = map[string]uint64{}
	}
	return t.values[f]
}

func (t *tally) add(o *tally) {
	t.total += o.total
	t.unknown += o.unknown
	for day, n := range o.days {
		t.days[day] += n
	}
	for f, values := range o.values {
		if t.values[f] == nil {
			t.values[f] = maps.Clone(values)
			continue
		}
		into := t.values[f]
		for v, n := range values {
			into[v] += n
		}
	}
}

// size is how many numbers it is.
func (t *tally) size() int {
	n := 1 + len(t.days)
	for _, values := range t.values {
		n += len(values)
	}
	return n
}

// facetKinds are the facets that are facts.
var facetKinds = map[index.Facet]byte{
	index.ByDirection: factKinds[document.Direction], index.ByFileType: factKinds[document.FileType], index.BySPF: factKinds[document.SPF],
	index.ByDKIM: factKinds[document.DKIM], index.ByDMARC: factKinds[document.DMARC],
}

// count adds the hits of one segment.
func (t *tally) count(sh *shard, e *evaluator, id uint64, f index.Facet, hits *roaring.Bitmap) error {
	switch kind := facetKinds[f]; {
	case kind != 0:
		own := roaring.New()
		return e.words(source{no: fieldExact}, string(kind), nil, func(term string) error {
			list, err := e.postings(fieldExact, term, nil)
			if err != nil {
				return err
			}
			own.Clear()
			if err := addTo(own, list); err != nil {
				return err
			}
			if n := own.AndCardinality(hits); n > 0 {
				t.of(f)[strings.Clone(term[1:])] += n
			}
			return nil
		})
	case f.OfTime():
		return t.time(e, f, hits)
	}
	c, err := sh.crowd(id, e, f)
	if err != nil {
		return err
	}
	counts := make([]uint64, len(c.values))
	for it := hits.Iterator(); it.HasNext(); {
		n := it.Next()
		for _, v := range c.list[c.start[n]:c.start[n+1]] {
			counts[v]++
		}
	}
	into := t.of(f)
	for v, n := range counts {
		if n > 0 {
			into[c.values[v]] += n
		}
	}
	return nil
}

const dayLength = int64(24 * time.Hour)

func (t *tally) time(e *evaluator, f index.Facet, hits *roaring.Bitmap) error {
	if f == index.ByDay && t.values[index.ByMonth] != nil || f == index.ByMonth && t.values[index.ByDay] != nil {
		return nil // one counts for both
	}
	t.of(f)
	list, err := e.keys()
	if err != nil {
		return err
	}
	for it := hits.Iterator(); it.HasNext(); {
		at := list[it.Next()].received
		day := at / dayLength
		if at < 0 && at%dayLength != 0 {
			day--
		}
		t.days[day]++
	}
	return nil
}

// spread gives a facet for people.
func (t *tally) spread(f index.Facet, top int) (s index.Spread) {
	values := t.values[f]
	if f.OfTime() {
		values = map[string]uint64{}
		layout := "2006-01-02"
		if f == index.ByMonth {
			layout = "2006-01"
		}
		for day, n := range t.days {
			values[time.Unix(day*86400, 0).UTC().Format(layout)] += n
		}
		top = len(values)
	}
	for v, n := range values {
		s.Values = append(s.Values, index.Count{Value: v, N: n})
	}
	slices.SortFunc(s.Values, func(a, b index.Count) int {
		if f.OfTime() {
			return cmp.Compare(a.Value, b.Value)
		}
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Value, b.Value))
	})
	if top = max(top, 0); len(s.Values) > top {
		s.Values, s.More = slices.Clone(s.Values[:top]), len(s.Values)-top
	}
	return s
}

// crowd is the values of a facet of addresses, of all documents of a segment: document n has list[start[n]:start[n+1]], places in values.
// 4 bytes for each document and each value that it has.
type crowd struct {
	values []string
	start  []uint32
	list   []uint32
}

var crowdFields = map[index.Facet][]fieldNo{
	index.BySender: {fieldFrom}, index.ByDomain: {fieldFrom}, index.ByRecipient: {fieldTo, fieldCc, fieldBcc, fieldRcpt},
}

type crowdKey struct {
	segment uint64
	facet   index.Facet
}

// crowd gives the addresses of a segment. They are kept, as keys are.
func (s *shard) crowd(id uint64, e *evaluator, f index.Facet) (*crowd, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := crowdKey{id, f}
	if p := s.facets[key]; p != nil {
		return p, nil
	}
	numbers := map[string]uint32{}
	p := &crowd{start: make([]uint32, e.seg.Count()+1)}
	var pairs []uint64 // document, value
	var list segment.PostingsList
	own := roaring.New()
	for _, no := range crowdFields[f] {
		err := e.words(source{no: no}, string(addressWhole), nil, func(term string) error {
			value := term[1:]
			if f == index.ByDomain {
				if _, value = document.Split(value); value == "" {
					return nil
				}
			}
			v, ok := numbers[value]
			if !ok {
				v = uint32(len(p.values))
				value = strings.Clone(value)
				p.values = append(p.values, value)
				numbers[value] = v
			}
			var err error
			if list, err = e.postings(no, term, list); err != nil {
				return err
			}
			own.Clear()
			if err := addTo(own, list); err != nil {
				return err
			}
			for it := own.Iterator(); it.HasNext(); {
				pairs = append(pairs, uint64(it.Next())<<32|uint64(v))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(pairs)
	pairs = slices.Compact(pairs)
	p.list = make([]uint32, len(pairs))
	for i, pair := range pairs {
		p.list[i] = uint32(pair)
		p.start[pair>>32+1]++
	}
	for n := range e.seg.Count() {
		p.start[n+1] += p.start[n]
	}
	s.facets[key] = p
	return p, nil
}

// tallies remembers what was counted. Safe for concurrent use.
type tallies struct {
	mu    sync.Mutex
	known map[tallyKey]*remembered
	order []tallyKey // the one that was put last at the end
	size  int
}

type tallyKey struct {
	shard *shard // opened again, it is another; nil: the answer, of all shards
	asked string
}

// remembered is what a shard has, or the answer of all. Neither is to be changed.
type remembered struct {
	state  string
	tally  *tally
	counts *index.Counts
}

// size is how many numbers it is.
func (r *remembered) size() int {
	if r.tally != nil {
		return r.tally.size()
	}
	n := 1
	for _, s := range r.counts.Facets {
		n += len(s.Values)
	}
	return n
}

// maxRemembered bounds the numbers of all that is remembered: a hundred bytes each, at most.
const maxRemembered = 1 << 20

func (t *tallies) get(key tallyKey, state string) *remembered {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.known[key]; r != nil && r.state == state {
		return r
	}
	return nil
}

func (t *tallies) put(key tallyKey, r *remembered) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = map[tallyKey]*remembered{}
	}
	t.drop(key)
	t.known[key] = r
	t.order = append(t.order, key)
	for t.size += r.size(); t.size > maxRemembered; {
		t.drop(t.order[0])
	}
}

// drop forgets one. mu is held.
func (t *tallies) drop(key tallyKey) {
	r := t.known[key]
	if r == nil {
		return
	}
	delete(t.known, key)
	t.size -= r.size()
	t.order = slices.DeleteFunc(t.order, func(k tallyKey) bool { return k == key })
}
