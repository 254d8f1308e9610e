package bleve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime/debug"
	"slices"
	"sort"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Search implements index.Backend. A shard that turns out damaged is set aside, and the search begins again without it.
func (b *Backend) Search(ctx context.Context, r index.Request) (*index.Result, error) {
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
	for {
		res, err := b.search(ctx, r)
		switch {
		case err == nil:
			return res, nil
		case b.setAside(err): // each time another
		case errors.Is(err, index.ErrCorrupt): // but its files are well
			return nil, fmt.Errorf("index: %v", err)
		default:
			return nil, fmt.Errorf("index: %w", err)
		}
	}
}

// search goes from shard to shard, the most promising first; a shard that can't have a hit for the page is only counted, one whose records
// were all received at other times than the query asks for is not opened.
func (b *Backend) search(ctx context.Context, r index.Request) (*index.Result, error) {
	s, err := newSearch(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close(b)
	shards := b.candidates(r)
	counted := true
	var missing []string
	for _, c := range shards {
		if c.Lost != 0 {
			missing = append(missing, monthOf(c.name))
		}
		if r.Page && !s.page.wants(c.shardMeta) {
			counted = false
			continue
		}
		err := ctx.Err()
		if err == nil {
			err = b.searchShard(s, c)
		}
		if wide := (*tooWide)(nil); errors.As(err, &wide) {
			err = b.refuse(ctx, shards, wide)
		}
		if err != nil {
			return nil, err
		}
	}
	hits, err := s.hits()
	if err != nil {
		return nil, err
	}
	slices.Sort(missing)
	return &index.Result{Total: s.total, Unknown: s.blank, Counted: counted, Hits: hits, Missing: slices.Compact(missing)}, nil
}

// candidate is a shard that may have hits.
type candidate struct {
	name string
	shardMeta
}

// candidates gives the shards to be searched, those first whose hits come first in the order of receipt.
func (b *Backend) candidates(r index.Request) []candidate {
	from, before := received(r.Query)
	one, byID := r.Query.(query.ID)
	var list []candidate
	for name, m := range b.meta.list() {
		if byID && monthOf(name) != shardName(one.ID) {
			continue
		}
		if m.First < before && m.Last >= from {
			list = append(list, candidate{name, m})
		}
	}
	slices.SortFunc(list, func(x, y candidate) int {
		if r.Sort == index.ReceivedAsc {
			return cmp.Or(cmp.Compare(x.First, y.First), cmp.Compare(x.name, y.name))
		}
		return cmp.Or(cmp.Compare(y.Last, x.Last), cmp.Compare(y.name, x.name))
	})
	return list
}

func (b *Backend) searchShard(s *search, c candidate) error {
	if c.Batch == 0 {
		return nil // nothing is in it yet
	}
	sh, err := b.acquire(c.name)
	if err != nil {
		return err
	}
	s.held = append(s.held, sh)
	err = guard(func() error { return s.shard(sh, sh.snapshot(), !s.page.wants(c.shardMeta)) })
	if errors.Is(err, index.ErrCorrupt) {
		return &damage{c.name, sh.folder, err}
	}
	return err
}

// guard turns what reading a damaged segment may lead to, a panic or a fault in mapped memory, into an error.
func guard(read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v: %w", r, index.ErrCorrupt)
		}
	}()
	return read()
}

// refuse says how many words a wildcard stands for.
func (b *Backend) refuse(ctx context.Context, shards []candidate, w *tooWide) error {
	words := map[string]struct{}{}
	for _, c := range shards {
		if c.Batch == 0 {
			continue
		}
		sh, err := b.acquire(c.name)
		if err != nil {
			return err
		}
		err = guard(func() error {
			defer b.release(sh)
			snap := sh.snapshot()
			defer snap.Close()
			for _, part := range snap.Segments() {
				e := evaluator{ctx: ctx, seg: part.Segment()}
				if err := e.count(w.expansion, words); err != nil {
					return err
				}
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return fmt.Errorf("%s stands for more than %d: %w", w.typed, maxCounted, index.ErrTooBroad)
		}
		if errors.Is(err, index.ErrCorrupt) {
			return &damage{c.name, sh.folder, err}
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%s stands for %d, more than %d: %w", w.typed, len(words), maxExpansion, index.ErrTooBroad)
}

// search is one search under way.
type search struct {
	ctx   context.Context
	req   index.Request
	page  *page
	wide  *expansions
	total uint64
	blank uint64                  // of which it is unknown
	held  []*shard                // that were searched
	snaps []*scorch.IndexSnapshot // of those: the page points into them
}

func newSearch(ctx context.Context, r index.Request) (*search, error) {
	p, err := newPage(r)
	if err != nil {
		return nil, err
	}
	return &search{ctx: ctx, req: r, page: p, wide: newExpansions()}, nil
}

func (s *search) close(b *Backend) {
	for _, snap := range s.snaps {
		snap.Close()
	}
	for _, sh := range s.held {
		b.release(sh)
	}
}

// holder is the shard that a segment is of.
func (s *search) holder(seg segment.Segment) *shard {
	for i, snap := range s.snaps {
		if slices.ContainsFunc(snap.Segments(), func(p *scorch.SegmentSnapshot) bool { return p.Segment() == seg }) {
			return s.held[i]
		}
	}
	return nil
}

// shard searches a snapshot of a shard, which is closed with the search.
func (s *search) shard(sh *shard, snap *scorch.IndexSnapshot, countOnly bool) error {
	s.snaps = append(s.snaps, snap)
	return s.segments(sh, snap, func(e *evaluator, id uint64, hits, unknown *roaring.Bitmap) error {
		s.total += hits.GetCardinality()
		s.blank += unknown.GetCardinality()
		if s.req.Unknown {
			hits = unknown
		}
		if countOnly || hits.IsEmpty() {
			return nil
		}
		list, err := e.keys()
		if err != nil {
			return err
		}
		if s.page.received && dense(hits, s.page.limit, len(list)) {
			return s.page.walk(sh.order(id, list), list, e.seg, hits)
		}
		for it := hits.Iterator(); it.HasNext(); {
			n := it.Next()
			if err := s.page.offer(s.page.key(&list[n]), e.seg, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// dense says that a page is found sooner among all documents in order than among the hits out of order.
func dense(hits *roaring.Bitmap, limit, documents int) bool {
	n := float64(hits.GetCardinality())
	return n*n > 4*float64(limit)*float64(documents)
}

// segments gives, segment by segment, its id, what matches and of what it is unknown; what is deleted is in neither.
func (s *search) segments(sh *shard, snap *scorch.IndexSnapshot, each func(e *evaluator, id uint64, hits, unknown *roaring.Bitmap) error) error {
	parts := snap.Segments()
	sh.forget(parts)
	for _, part := range parts {
		seg, id := part.Segment(), part.Id()
		e := evaluator{
			ctx: s.ctx, seg: seg, wide: s.wide, keys: func() ([]keys, error) { return sh.keys(id, seg) },
			sets: func(q query.Set) (*roaring.Bitmap, error) { return s.set(q, monthOf(sh.name), seg) },
		}
		hits, unknown, err := e.decide(s.req.Query)
		if err != nil {
			return err
		}
		if gone := part.Deleted(); gone != nil {
			hits.AndNot(gone)
			unknown.AndNot(gone)
		}
		if err := each(&e, id, hits, unknown); err != nil {
			return err
		}
	}
	return nil
}

// set gives the documents of a segment that are in a set which came with the request.
func (s *search) set(q query.Set, month string, seg segment.Segment) (*roaring.Bitmap, error) {
	ids, ok := s.req.Sets[q.String()]
	if !ok {
		return nil, fmt.Errorf("%s: no set came with the request: %w", q, errors.ErrUnsupported)
	}
	from := sort.Search(len(ids), func(i int) bool { return shardName(ids[i]) >= month })
	to := sort.Search(len(ids), func(i int) bool { return shardName(ids[i]) > month })
	names := make([]string, 0, to-from)
	for _, id := range ids[from:to] {
		names = append(names, string(id[:]))
	}
	return seg.DocNumbers(names)
}

// hits reads what the page shows.
func (s *search) hits() ([]index.Hit, error) {
	places := s.page.sorted()
	hits := make([]index.Hit, len(places))
	for i, p := range places {
		h := &hits[i]
		if s.req.IDs {
			h.ID, h.Cursor = p.id, index.Cursor{Key: p.key, ID: p.id}
			continue
		}
		err := fmt.Errorf("document without a stored hit: %w", index.ErrCorrupt)
		verr := guard(func() error {
			return p.seg.VisitStoredFields(uint64(p.number), func(field string, _ byte, value []byte, _ []uint64) bool {
				if field == fieldNames[fieldHit] {
					err = decodeHit(value, h)
					return false
				}
				return true
			})
		})
		if err = errors.Join(verr, err); err != nil {
			sh := s.holder(p.seg)
			return nil, &damage{sh.name, sh.folder, fmt.Errorf("record %s: %w", p.id, err)}
		}
		h.ID, h.Cursor = p.id, index.Cursor{Key: p.key, ID: p.id}
	}
	return hits, nil
}

// forget drops the columns of segments that are gone.
func (s *shard) forget(parts []*scorch.SegmentSnapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.facets) > 2*len(crowdFields)*len(parts) {
		maps.DeleteFunc(s.facets, func(key crowdKey, _ *crowd) bool {
			return !slices.ContainsFunc(parts, func(p *scorch.SegmentSnapshot) bool { return p.Id() == key.segment })
		})
	}
	if len(s.columns) <= 2*len(parts) {
		return
	}
	for id := range s.columns {
		if !slices.ContainsFunc(parts, func(p *scorch.SegmentSnapshot) bool { return p.Id() == id }) {
			delete(s.columns, id)
			delete(s.orders, id)
		}
	}
}

// keys gives the keys of all documents of a segment, by number. They are kept: 24 bytes a document.
func (s *shard) keys(id uint64, seg segment.Segment) ([]keys, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if list, ok := s.columns[id]; ok {
		return list, nil
	}
	values, ok := seg.(segment.DocValueVisitable)
	if !ok {
		return nil, fmt.Errorf("segment of type %T: %w", seg, index.ErrCorrupt)
	}
	list := make([]keys, seg.Count())
	fields := []string{fieldNames[fieldKeys]}
	var state segment.DocVisitState
	for i := range list {
		found := false
		var err error
		state, err = values.VisitDocValues(uint64(i), fields, func(_ string, value []byte) {
			list[i], found = decodeKeys(value)
		}, state)
		if err != nil || !found {
			return nil, fmt.Errorf("document %d of %d has no keys: %w", i, len(list), errors.Join(err, index.ErrCorrupt))
		}
	}
	s.columns[id] = list
	return list, nil
}

// order gives the documents of a segment by Received, the earliest first. It is kept: 4 bytes a document.
func (s *shard) order(id uint64, list []keys) []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.orders[id]; ok {
		return o
	}
	o := make([]uint32, len(list))
	for i := range o {
		o[i] = uint32(i)
	}
	slices.SortFunc(o, func(x, y uint32) int { return cmp.Compare(list[x].received, list[y].received) })
	s.orders[id] = o
	return o
}

// received gives the range of Received, in Unix nanoseconds, outside of which nothing can match.
func received(q query.Query) (from, before int64) {
	from, before = math.MinInt64, math.MaxInt64
	switch q := q.(type) {
	case query.And:
		for _, operand := range q {
			f, b := received(operand)
			from, before = max(from, f), min(before, b)
		}
	case query.Or:
		from, before = math.MaxInt64, math.MinInt64
		for _, operand := range q {
			f, b := received(operand)
			from, before = min(from, f), max(before, b)
		}
	case query.Time:
		if q.Field == query.Received {
			return receivedBounds(q)
		}
	}
	return from, before
}

func receivedBounds(q query.Time) (from, before int64) {
	from, before = math.MinInt64, math.MaxInt64
	if !q.From.IsZero() {
		from = nanoseconds(q.From)
	}
	if !q.Before.IsZero() {
		before = nanoseconds(q.Before)
	}
	return from, before
}

// sentBounds are in whole seconds, as sent times are: a part of a second counts up.
func sentBounds(q query.Time) (from, before int64) {
	from, before = noTime+1, math.MaxInt64
	if !q.From.IsZero() {
		from = ceilSecond(q.From)
	}
	if !q.Before.IsZero() {
		before = ceilSecond(q.Before)
	}
	return from, before
}

func ceilSecond(t time.Time) int64 {
	if t.Nanosecond() > 0 {
		return t.Unix() + 1
	}
	return t.Unix()
}

// place is a hit that is not read yet.
type place struct {
	key    int64
	id     record.ID
	seg    segment.Segment
	number uint32
}
