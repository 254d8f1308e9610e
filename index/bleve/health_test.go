package bleve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/blevesearch/bleve/v2/index/scorch"
	bleveindex "github.com/blevesearch/bleve_index_api"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/bleve/segment"
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

// A process whose segment builder fails once: set to the folder. It has one builder for all, so no other test must see that.
const faultEnv = "HOLDFAST_TEST_INDEX_WITH_A_FAULT"

// faulty is a document that panics when it is emitted first, in the own builder, and not again.
type faulty struct {
	emitter
	calls int
}

func (f *faulty) Emit(to segment.Sink) {
	if f.calls++; f.calls == 1 {
		panic("a fault of ours")
	}
	f.emitter.Emit(to)
}

func indexWithAFault(dir string) error {
	b, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := b.Apply(ctx, index.Batch{Documents: []*document.Document{numbered(0)}}); err != nil {
		return err
	}
	s, err := b.acquire(shardName(numbered(0).ID))
	if err != nil {
		return err
	}
	d := numbered(3)
	ops := bleveindex.NewBatch()
	ops.Update(schema.Document(string(d.ID[:]), &faulty{emitter: emitter{d}}))
	err = s.apply(ops, 2)
	b.release(s)
	if err != nil {
		return err
	}
	for n := uint64(6); n < 12; n += 3 {
		if err := b.Apply(ctx, index.Batch{Documents: []*document.Document{numbered(n)}}); err != nil {
			return err
		}
	}
	res, err := b.Search(ctx, index.Request{Query: query.Text{Tokens: []string{"few", "words"}}})
	if err != nil {
		return err
	}
	fmt.Println("found", res.Total)
	return b.Close()
}

// TestABuilderThatFailsLaterIsTold once, and what it could not build is there all the same.
func TestABuilderThatFailsLaterIsTold(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), faultEnv+"="+t.TempDir())
	out, _ := cmd.CombinedOutput() // TestMain ends it with 1
	if n := strings.Count(string(out), "the segment builder has failed"); n != 1 || !strings.Contains(string(out), "a fault of ours") || !strings.Contains(string(out), "found 4\n") {
		t.Errorf("told %d times:\n%s", n, out)
	}
}
