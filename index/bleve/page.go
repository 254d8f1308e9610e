package bleve

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
)

// page keeps the first Limit of the hits that it is offered, in the order asked for and behind the cursor. Ties go by id, in the same
// direction as the keys, so that the order of all hits is one and each has its place.
type page struct {
	limit    int
	sign     int // 1: ascending, -1: descending
	key      func(*keys) int64
	received bool // sorted by Received
	after    *index.Cursor
	places   []place // a heap, the last of them on top
}

func newPage(r index.Request) (*page, error) {
	p := &page{limit: r.Limit, sign: 1, after: r.After}
	switch r.Sort {
	case index.ReceivedDesc, index.SentDesc, index.SizeDesc, "":
		p.sign = -1
	}
	switch r.Sort {
	case index.ReceivedDesc, index.ReceivedAsc, "":
		p.received = true
		p.key = func(k *keys) int64 { return k.received }
	case index.SentDesc, index.SentAsc:
		p.key = func(k *keys) int64 { return k.sent }
	case index.SizeDesc, index.SizeAsc:
		p.key = func(k *keys) int64 { return k.size }
	default:
		return nil, fmt.Errorf("sort %q: unknown order", r.Sort)
	}
	return p, nil
}

// compare is negative where the first comes before the second.
func (p *page) compare(key int64, id record.ID, key2 int64, id2 record.ID) int {
	return p.sign * cmp.Or(cmp.Compare(key, key2), id.Compare(id2))
}

// ahead is compare by keys alone.
func (p *page) ahead(key, key2 int64) int { return p.sign * cmp.Compare(key, key2) }

// wants says whether a shard may have something for the page.
func (p *page) wants(m shardMeta) bool {
	if p.limit <= 0 || !p.received {
		return p.limit > 0
	}
	best, worst := m.First, m.Last
	if p.sign < 0 {
		best, worst = worst, best
	}
	if p.after != nil && p.ahead(worst, p.after.Key) < 0 {
		return false
	}
	return len(p.places) < p.limit || p.ahead(best, p.places[0].key) <= 0
}

// offer takes a hit in if it belongs to the page. Its id is read only where that may be.
func (p *page) offer(key int64, seg segment.Segment, number uint32) error {
	full := len(p.places) == p.limit
	if full && p.ahead(key, p.places[0].key) > 0 || p.after != nil && p.ahead(key, p.after.Key) < 0 {
		return nil
	}
	b, err := seg.DocID(uint64(number))
	if err != nil || len(b) != len(record.ID{}) {
		return fmt.Errorf("document %d has the id %x: %w: %w", number, b, err, index.ErrCorrupt)
	}
	at := place{key: key, id: record.ID(b), seg: seg, number: number}
	switch {
	case p.after != nil && p.compare(key, at.id, p.after.Key, p.after.ID) <= 0:
	case !full:
		heap.Push(p, at)
	case p.compare(key, at.id, p.places[0].key, p.places[0].id) < 0:
		p.places[0] = at
		heap.Fix(p, 0)
	}
	return nil
}

// walk offers the hits of a segment in the order of the page, from the cursor on, and ends when no more of them belong to it. So a page costs the
// same wherever it is.
func (p *page) walk(order []uint32, list []keys, seg segment.Segment, hits *roaring.Bitmap) error {
	at := func(i int) uint32 { return order[i] }
	if p.sign < 0 {
		at = func(i int) uint32 { return order[len(order)-1-i] }
	}
	from := 0
	if p.after != nil {
		from = sort.Search(len(order), func(i int) bool { return p.ahead(list[at(i)].received, p.after.Key) >= 0 })
	}
	for i := from; i < len(order); i++ {
		n := at(i)
		key := list[n].received
		if len(p.places) == p.limit && p.ahead(key, p.places[0].key) > 0 {
			return nil
		}
		if !hits.Contains(n) {
			continue
		}
		if err := p.offer(key, seg, n); err != nil {
			return err
		}
	}
	return nil
}

// sorted gives the page in order.
func (p *page) sorted() []place {
	slices.SortFunc(p.places, func(x, y place) int { return p.compare(x.key, x.id, y.key, y.id) })
	return p.places
}

func (p *page) Len() int { return len(p.places) }
func (p *page) Less(i, j int) bool {
	x, y := &p.places[i], &p.places[j]
	return p.compare(x.key, x.id, y.key, y.id) > 0
}
func (p *page) Swap(i, j int) { p.places[i], p.places[j] = p.places[j], p.places[i] }
func (p *page) Push(x any)    { p.places = append(p.places, x.(place)) }
func (p *page) Pop() any {
	last := len(p.places) - 1
	at := p.places[last]
	p.places = p.places[:last]
	return at
}
