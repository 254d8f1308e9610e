package bleve

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
)

// TestMergesInQuietHours: by day segments stay small, at night a shard that is settled becomes one segment, and is not looked at again.
func TestMergesInQuietHours(t *testing.T) {
	var quiet atomic.Bool
	dir := t.TempDir()
	o := Options{Quiet: quiet.Load, SmallMerge: 20}
	b := openWith(t, dir, o)
	want := map[uint64]bool{}
	for n := range uint64(30) {
		apply(t, b, index.Batch{Documents: ofOneMonth(5*n, 5*n+5)})
		for i := range uint64(5) {
			want[3*(5*n+i)] = true
		}
	}
	s := b.open["2025-01"]
	settle := func() {
		b.shardsMu.Lock()
		s.changed = time.Now().Add(-2 * settledTime)
		b.shardsMu.Unlock()
	}
	b.mergeShards(t.Context())
	if n := s.parts(); n < 5 {
		t.Errorf("%d segments by day", n)
	}
	quiet.Store(true)
	b.mergeShards(t.Context())
	if m, _ := b.meta.shard("2025-01"); m.Merged != 0 {
		t.Error("merged whole while it is written to")
	}
	apply(t, b, index.Batch{Deletes: []record.ID{secret(9).ID}})
	delete(want, 9)
	settle()
	b.mergeShards(t.Context())
	if n := s.parts(); n != 1 {
		t.Errorf("%d segments after the quiet hours", n)
	}
	if m, _ := b.meta.shard("2025-01"); m.Merged != m.Batch {
		t.Errorf("merged %d, batch %d", m.Merged, m.Batch)
	}
	holds(t, b, want)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openWith(t, dir, o)
	b.mergeShards(t.Context())
	if len(b.open) != 0 {
		t.Error("a shard that is merged was opened")
	}
	holds(t, b, want)
}

// TestManySegmentsAreMergedAtAnyHour, for each costs a search.
func TestManySegmentsAreMergedAtAnyHour(t *testing.T) {
	b := openWith(t, t.TempDir(), Options{Quiet: func() bool { return false }, SmallMerge: 2})
	for n := range uint64(manyParts + 5) {
		apply(t, b, index.Batch{Documents: ofOneMonth(2*n, 2*n+2)})
	}
	s := b.open["2025-01"]
	if n := s.parts(); n < manyParts {
		t.Fatalf("%d segments: this tests nothing", n)
	}
	b.mergeShards(t.Context())
	if n := s.parts(); n >= manyParts {
		t.Errorf("%d segments", n)
	}
}

// TestIdleShardsAreClosed, and opened again by who asks.
func TestIdleShardsAreClosed(t *testing.T) {
	b := open(t, t.TempDir())
	apply(t, b, index.Batch{Documents: ofOneMonth(0, 2)})
	used, err := b.acquire("2025-01")
	if err != nil {
		t.Fatal(err)
	}
	idle := func() {
		b.shardsMu.Lock()
		list := b.idleLocked(0, time.Now().Add(time.Second)) // as tend does, of those not used since a second from now
		b.shardsMu.Unlock()
		b.closeIdle(list)
	}
	if idle(); len(b.open) != 1 {
		t.Error("closed while it was used")
	}
	b.release(used)
	if idle(); len(b.open) != 0 {
		t.Error("not closed")
	}
	holds(t, b, map[uint64]bool{0: true, 3: true})
	if len(b.open) != 1 {
		t.Error("not opened again")
	}
}
