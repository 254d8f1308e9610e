// Package bleve is the embedded index: Bleve's storage (scorch) with documents, queries and pages of its own.
//
// What it promises: what Apply returned nil for is on disk and can be found, and the cursors never run ahead of it, whenever the process
// or the machine stops. A search is exact: every hit, each once, the true total, in the order asked for. An index that has lost
// files says so (index.ErrCorrupt) and does not answer with less than it was given.
//
// Documents lie in one shard for each month of receipt, so that a search over a time opens few and what has expired can be dropped whole.
// Bleve stores the terms and merges its segments; queries are evaluated here, as set operations over bitmaps, one segment at a time.
// FORMAT.md beside this file describes shards, fields and terms.
package bleve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	bleveindex "github.com/blevesearch/bleve_index_api"

	"github.com/holdfast-archive/holdfast/index"
)

// Backend is an index.Backend in a folder.
type Backend struct {
	dir   string
	queue *bleveindex.AnalysisQueue

	applyMu sync.Mutex // one batch at a time; guards builder
	builder *builder

	mu     sync.RWMutex // held for reading while the shards are in use, so that Close waits; guards closed
	closed bool
	meta   *meta

	shardsMu sync.Mutex // guards open
	open     map[string]*shard

	tallies tallies
}

var _ index.Backend = (*Backend)(nil)

// Open opens the index in a folder, making it where there is none: an index is derived, and an empty one says so by its cursors. One
// process at a time. An index that is damaged, or of another version of this format, is index.ErrCorrupt: remove the folder and let it be
// built again (holdfast rebuild).
func Open(dir string) (*Backend, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, os.ErrPermission) { // one that we may not read is not one that we wrote to
		return nil, fmt.Errorf("index: %w", err)
	}
	m, err := openMeta(dir)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	b := &Backend{dir: dir, meta: m, builder: newBuilder(), open: map[string]*shard{}}
	for _, name := range slices.Sorted(maps.Keys(m.list())) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return nil, errors.Join(fmt.Errorf("index: shard %s: %w: %w", name, err, index.ErrCorrupt), m.db.Close())
		}
	}
	b.queue = bleveindex.NewAnalysisQueue(1) // documents come analysed
	return b, nil
}

// Close waits for searches and batches that are under way. A second call is index.ErrClosed.
func (b *Backend) Close() error {
	b.applyMu.Lock()
	defer b.applyMu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return index.ErrClosed
	}
	b.closed = true
	var errs []error
	for _, s := range b.open {
		errs = append(errs, s.close())
	}
	b.queue.Close()
	errs = append(errs, b.meta.db.Close())
	return errors.Join(errs...)
}

// Through implements index.Backend. What Apply has returned is on disk, so these are the cursors of the last batch.
func (b *Backend) Through(context.Context) (map[string]uint64, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return nil, index.ErrClosed
	}
	return b.meta.cursors(), nil
}

// shard opens a shard, or gives the one that is open. Called with mu held for reading.
func (b *Backend) shard(name string) (*shard, error) {
	b.shardsMu.Lock()
	defer b.shardsMu.Unlock()
	if s := b.open[name]; s != nil {
		return s, nil
	}
	known, _ := b.meta.shard(name)
	s, err := openShard(b.dir, name, b.queue, known.Batch)
	if err != nil {
		return nil, err
	}
	b.open[name] = s
	return s, nil
}

// Apply implements index.Backend. An id that is both in Documents and in Deletes is deleted; of two documents with one id the last counts.
func (b *Backend) Apply(ctx context.Context, batch index.Batch) error {
	b.applyMu.Lock()
	defer b.applyMu.Unlock()
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return index.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	defer b.builder.reset()
	parts := b.split(batch)
	next := b.meta.lastBatch() + 1
	touched := map[string]shardMeta{}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		p := parts[name]
		s, err := b.shard(name)
		if err == nil {
			err = s.apply(p.ops, next)
		}
		if err == nil && p.fresh {
			err = syncDir(b.dir) // the shard's own name
		}
		if err != nil {
			return fmt.Errorf("index: shard %s: %w", name, err)
		}
		p.meta.Batch = next
		touched[name] = p.meta
	}
	if err := b.meta.commit(next, batch.Through, touched); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

// part is what of a batch goes to one shard.
type part struct {
	ops   *bleveindex.Batch
	meta  shardMeta // of the shard, once this is applied
	fresh bool      // there was no such shard
}

// split makes the parts of a batch.
func (b *Backend) split(batch index.Batch) map[string]*part {
	parts := map[string]*part{}
	of := func(name string) *part {
		p := parts[name]
		if p == nil {
			known, ok := b.meta.shard(name)
			p = &part{ops: bleveindex.NewBatch(), meta: known, fresh: !ok}
			parts[name] = p
		}
		return p
	}
	for _, d := range batch.Documents {
		p := of(shardName(d.ID))
		p.ops.Update(b.builder.document(d))
		received := nanoseconds(d.Received)
		p.meta.First, p.meta.Last = min(p.meta.First, received), max(p.meta.Last, received)
	}
	for _, id := range batch.Deletes {
		name := shardName(id)
		if _, ok := b.meta.shard(name); ok || parts[name] != nil { // no shard is made to delete from
			of(name).ops.Delete(string(id[:]))
		}
	}
	return parts
}
