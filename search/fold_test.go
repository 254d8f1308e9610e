package search_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search"
)

// listIndex gives a list of hits in their order, newest first.
type listIndex []index.Hit

func (x listIndex) Search(_ context.Context, r index.Request) (*index.Result, error) {
	digests := map[record.Digest]bool{}
	query.Walk(r.Query, func(q query.Query) bool {
		if d, ok := q.(query.SHA256); ok {
			digests[d.Digest] = true
		}
		return true
	})
	res := &index.Result{Counted: true}
	behind := r.After == nil
	for _, h := range x {
		if len(digests) > 0 && !digests[h.SHA256] {
			continue
		}
		res.Total++
		if behind && len(res.Hits) < r.Limit {
			res.Hits = append(res.Hits, h)
		}
		behind = behind || h.ID == r.After.ID
	}
	return res, nil
}

func (listIndex) Count(context.Context, index.CountRequest) (*index.Counts, error) {
	return nil, errors.ErrUnsupported
}

// TestFold: over all pages each record is shown once or is among the same of one that is, which is the first of them.
func TestFold(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	for range 40 {
		var list listIndex
		kinds := 1 + rng.IntN(30)
		for i := range rng.IntN(120) {
			h := index.Hit{ID: record.NewID(time.Unix(int64(1e9-i), 0)), Cursor: index.Cursor{Key: int64(-i)}}
			h.Cursor.ID = h.ID
			if rng.IntN(10) > 0 { // otherwise unknown
				h.SHA256 = record.Sum([]byte(fmt.Sprint(rng.IntN(kinds))))
			}
			list = append(list, h)
		}
		s, _, _ := service(t)
		s.Index = list
		var shown, all []record.ID
		limit := 1 + rng.IntN(20)
		for after, pages := "", 0; ; pages++ {
			res, err := s.Search(t.Context(), reader, search.Request{Limit: limit, Fold: true, After: after})
			if err != nil {
				t.Fatal(err)
			}
			if res.Total != uint64(len(list)) || len(res.Hits) > limit || pages > len(list)+1 {
				t.Fatalf("total %d of %d, %d hits, page %d", res.Total, len(list), len(res.Hits), pages)
			}
			for _, h := range res.Hits {
				i := slices.IndexFunc(list, func(x index.Hit) bool { return x.ID == h.ID })
				first := slices.IndexFunc(list, func(x index.Hit) bool { return x.SHA256 == h.SHA256 })
				if i != first && !h.SHA256.IsZero() {
					t.Fatalf("%d is shown, which is the same as %d", i, first)
				}
				shown = append(shown, h.ID)
				all = append(append(all, h.ID), h.Same...)
			}
			if after = res.Next; after == "" {
				break
			}
		}
		if len(all) != len(list) {
			t.Fatalf("%d records of %d are shown or named, page of %d", len(all), len(list), limit)
		}
		slices.SortFunc(all, record.ID.Compare)
		if len(slices.Compact(all)) != len(list) || len(shown) == 0 && len(list) > 0 {
			t.Fatal("one is named twice")
		}
	}
}
