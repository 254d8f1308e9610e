package bleve

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// ofOneMonth are documents of one month only.
func ofOneMonth(from, to uint64) (docs []*document.Document) {
	for n := from; n < to; n++ {
		docs = append(docs, secret(3*n))
	}
	return docs
}

// TestSplit fills a month: no shard gets more than it may have, each document is in one of them, however often it comes.
func TestSplit(t *testing.T) {
	dir := t.TempDir()
	o := Options{ShardDocuments: 30}
	b := openWith(t, dir, o)
	want := map[uint64]bool{}
	for n := range uint64(100) {
		want[3*n] = true
	}
	apply(t, b, index.Batch{Documents: ofOneMonth(0, 45)})
	apply(t, b, index.Batch{Documents: ofOneMonth(40, 100)}) // some again
	holds(t, b, want)
	check := func() {
		t.Helper()
		var live uint64
		for name, m := range b.meta.list() {
			if m.Documents > 30 {
				t.Errorf("shard %s has %d documents", name, m.Documents)
			}
			live += m.Documents
		}
		if live != uint64(len(want)) {
			t.Errorf("%d documents in all shards, want %d", live, len(want))
		}
	}
	check()
	if names := slices.SortedFunc(maps.Keys(b.meta.list()), comparePartNames); !slices.Equal(names, []string{"2025-01", "2025-01.2", "2025-01.3", "2025-01.4"}) {
		t.Errorf("shards %v", names)
	}
	again := secret(0)
	again.Subject += " again"
	apply(t, b, index.Batch{Documents: []*document.Document{secret(0), again}, Deletes: []record.ID{secret(3).ID, secret(297).ID}})
	delete(want, 3)
	delete(want, 297)
	if res := find(t, b, index.Request{Query: query.ID{ID: again.ID}, Limit: 2}); len(res.Hits) != 1 || res.Hits[0].Subject != again.Subject {
		t.Errorf("one that came again: %+v", res.Hits)
	}
	apply(t, b, index.Batch{Documents: []*document.Document{secret(0)}})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openWith(t, dir, o)
	holds(t, b, want)
	check()

	if err := b.Purge(t.Context(), []record.ID{secret(0).ID, secret(150).ID}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{0, 3, 150} {
		delete(want, n)
		if found := scan(t, dir, n); found != nil {
			t.Errorf("of document %d there is left %v", n, found)
		}
	}
	holds(t, b, want)

	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, b.meta.list()["2025-01.2"].folder("2025-01.2"))); err != nil {
		t.Fatal(err)
	}
	b = openWith(t, dir, o)
	lost := b.Lost()
	if res := find(t, b, index.Request{Query: query.All{}}); len(lost) != 1 || lost[0].Month != "2025-01" || !slices.Equal(res.Missing, []string{"2025-01"}) || res.Total == 0 {
		t.Fatalf("lost %v, missing %v, found %d", lost, res.Missing, res.Total)
	}
	var all index.Batch
	for n := range want {
		all.Documents = append(all.Documents, secret(n))
	}
	all.Restored = lost
	apply(t, b, all)
	holds(t, b, want)
	check()
}

// TestSplitByBytes begins the next shard where the one before is large.
func TestSplitByBytes(t *testing.T) {
	b := openWith(t, t.TempDir(), Options{ShardBytes: 20_000})
	for n := range uint64(40) {
		apply(t, b, index.Batch{Documents: ofOneMonth(n, n+1)})
	}
	list := b.meta.list()
	if len(list) < 2 {
		t.Errorf("shards %v", list)
	}
	for name, m := range list {
		if m.Bytes > 25_000 { // what a batch makes is known when it is made
			t.Errorf("shard %s has %d bytes", name, m.Bytes)
		}
	}
	if res := find(t, b, index.Request{Query: query.All{}}); res.Total != 40 {
		t.Errorf("%d documents", res.Total)
	}
}
