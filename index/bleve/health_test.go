package bleve

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/blevesearch/bleve/v2/index/scorch"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// TestGoesOnAfterFailedWrites takes a shard's folder away: nothing may be called applied until it is back.
func TestGoesOnAfterFailedWrites(t *testing.T) {
	w := newWorld(t, 10)
	b := open(t, t.TempDir())
	first, second := w.document(), w.document()
	second.ID = first.ID
	second.ID[15]++
	apply(t, b, index.Batch{Documents: []*document.Document{first}, Through: map[string]uint64{"log": 1}})
	dir := b.open[shardName(first.ID)].dir
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	next := index.Batch{Documents: []*document.Document{second}, Through: map[string]uint64{"log": 2}}
	for range 3 {
		if err := b.Apply(t.Context(), next); err == nil {
			t.Error("applied without a folder to write to")
		}
		if got, err := b.Through(t.Context()); err != nil || got["log"] != 1 {
			t.Errorf("cursors %v, %v", got, err)
		}
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := b.Apply(t.Context(), next)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if res := find(t, b, index.Request{Query: query.All{}}); res.Total != 2 {
		t.Errorf("total %d, want 2", res.Total)
	}
}

// TestDeadShardKeepsNobodyWaiting: when a goroutine of Bleve's is gone for good, another shard takes the place of this one.
func TestDeadShardKeepsNobodyWaiting(t *testing.T) {
	w := newWorld(t, 11)
	b := open(t, t.TempDir())
	d := w.document()
	batch := index.Batch{Documents: []*document.Document{d}}
	apply(t, b, batch)
	s := b.open[shardName(d.ID)]
	defer s.ix.Close() // which Backend.Close does not do with a dead one
	scorch.RegistryAsyncErrorCallbacks[callbackName](scorch.NewScorchError("persister", "panic", scorch.ErrAsyncPanic), s.dir)
	if err := b.Apply(context.Background(), batch); err == nil || errors.Is(err, index.ErrCorrupt) {
		t.Errorf("%v", err)
	}
	if res := find(t, b, index.Request{Query: query.All{}}); res.Total != 0 || !slices.Equal(res.Missing, []string{shardName(d.ID)}) {
		t.Errorf("total %d, missing %v", res.Total, res.Missing)
	}
	apply(t, b, batch)
	if res := find(t, b, index.Request{Query: query.All{}}); res.Total != 1 {
		t.Errorf("total %d, want 1", res.Total)
	}
}
