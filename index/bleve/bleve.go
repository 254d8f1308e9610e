// Package bleve is the embedded index: Bleve's storage (scorch) with documents, queries and pages of its own.
//
// What it promises: what Apply returned nil for is on disk and can be found, and the cursors never run ahead of it, whenever the process
// or the machine stops. A search is exact: every hit, each once, the true total, in the order asked for. An index that has lost
// files says so (index.ErrCorrupt) and does not answer with less than it was given.
//
// Documents lie in one shard for each month of receipt, or in several where a month is large, so that a search over a time opens few and what
// has expired can be dropped whole.
// Bleve stores the terms and merges its segments; queries are evaluated here, as set operations over bitmaps, one segment at a time.
// FORMAT.md beside this file describes shards, fields and terms.
package bleve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bleveindex "github.com/blevesearch/bleve_index_api"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/bleve/segment"
)

// Backend is an index.Backend in a folder.
type Backend struct {
	dir    string
	queue  *bleveindex.AnalysisQueue
	limits limits
	quiet  func() bool

	applyMu sync.Mutex // one batch at a time

	mu     sync.RWMutex // held for reading while the shards are in use, so that Close waits; guards closed
	closed bool
	meta   *meta

	shardsMu sync.Mutex // guards open, and how its shards are used
	open     map[string]*shard
	retired  map[*shard]bool // whose folders are not removed yet

	log     *slog.Logger
	stock   bool // that segments are built by zapx's own builder was told; guarded by applyMu
	closing chan struct{}
	tended  chan struct{} // closed when tend has ended
	merged  chan struct{} // closed when mergeInQuietHours has ended

	tallies tallies
}

var _ index.Backend = (*Backend)(nil)

// selfTest is done once for a process. Tests that start a process many times go without.
var selfTest = segment.SelfTest

// Options are what an index may be wired with.
type Options struct {
	Log *slog.Logger // nil: none

	// A month's next shard is begun before one has more than so many documents, or bytes on disk; 0: 2 million, 10 GB.
	ShardDocuments uint64
	ShardBytes     uint64

	// Quiet says that it is a quiet hour, the time for large merges; nil: it always is.
	Quiet func() bool
	// SmallMerge is how many documents a segment has at most that is merged outside of quiet hours; 0: 100,000.
	SmallMerge uint64
}

// Open opens the index in a folder, making it where there is none: an index is derived, and an empty one says so by its cursors. One
// process at a time. An index of which the whole is damaged, or of another version of this format, is index.ErrCorrupt: remove the folder and
// let it be built again (holdfast rebuild). A shard that is damaged is set aside when that shows, and comes again from the archive.
func Open(dir string, o Options) (*Backend, error) {
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
	if err := sweep(dir, m.list()); err != nil {
		return nil, errors.Join(fmt.Errorf("index: %w", err), m.db.Close())
	}
	b := &Backend{
		dir: dir, limits: limits{cmp.Or(o.ShardDocuments, 2_000_000), cmp.Or(o.ShardBytes, 10<<30), cmp.Or(o.SmallMerge, 100_000)}, quiet: o.Quiet, meta: m, open: map[string]*shard{}, retired: map[*shard]bool{}, log: o.Log, closing: make(chan struct{}), tended: make(chan struct{}), merged: make(chan struct{}),
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	for name, s := range m.list() {
		if s.Batch == 0 {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, s.folder(name))); errors.Is(err, os.ErrNotExist) {
			b.setAside(&damage{name, s.folder(name), fmt.Errorf("%w: %w", err, index.ErrCorrupt)})
		}
	}
	b.stock = selfTest() != nil // StockBuilder says why
	if b.quiet == nil {
		b.quiet = func() bool { return true }
	}
	b.queue = bleveindex.NewAnalysisQueue(1) // documents come analysed
	go b.tend()
	go b.mergeInQuietHours()
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
	close(b.closing)
	<-b.tended
	<-b.merged
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

// Apply implements index.Backend. An id that is both in Documents and in Deletes is deleted; of two documents with one id the last counts.
func (b *Backend) Apply(ctx context.Context, batch index.Batch) error {
	b.applyMu.Lock()
	defer b.applyMu.Unlock()
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return index.ErrClosed
	}
	if err := b.applyLocked(ctx, batch); err != nil {
		if b.setAside(err) {
			err = fmt.Errorf("%v: %w", err, errMoved)
		}
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

// applyLocked is Apply with applyMu and mu held.
func (b *Backend) applyLocked(ctx context.Context, batch index.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	parts, err := b.split(batch)
	if err != nil {
		return err
	}
	next := b.meta.lastBatch() + 1
	touched := map[string]shardMeta{}
	for _, name := range slices.SortedFunc(maps.Keys(parts), comparePartNames) { // so that a document goes from one part before it comes to the next
		p := parts[name]
		if err := b.applyPart(name, p, next); err != nil {
			return err
		}
		p.meta.Batch = next
		touched[name] = p.meta
	}
	if err := StockBuilder(); err != nil && !b.stock {
		b.stock = true
		b.log.Error("the segment builder has failed: Bleve's own takes its place until the next start, which takes three times as long", "err", err)
	}
	for name, m := range b.meta.list() {
		if m.Lost == 0 || !slices.Contains(batch.Restored, index.Loss{Month: monthOf(name), No: m.Lost}) {
			continue
		}
		if t, ok := touched[name]; ok {
			m = t
		}
		m.Lost = 0
		touched[name] = m
	}
	return b.meta.commit(next, batch.Through, batch.Trees, touched)
}

// Trees implements index.Backend.
func (b *Backend) Trees() map[string]tlog.Tree {
	b.meta.mu.RLock()
	defer b.meta.mu.RUnlock()
	return maps.Clone(b.meta.trees)
}

// Lost implements index.Backend.
func (b *Backend) Lost() (list []index.Loss) {
	for name, m := range b.meta.list() {
		if m.Lost != 0 {
			list = append(list, index.Loss{Month: monthOf(name), No: m.Lost})
		}
	}
	return list
}

// applyPart applies what of a batch goes to one shard.
func (b *Backend) applyPart(name string, p *part, batch uint64) error {
	s, err := b.acquire(name)
	if err != nil {
		return err
	}
	defer b.release(s)
	if s.folder != p.meta.folder(name) {
		return fmt.Errorf("shard %s: %w", name, errMoved)
	}
	err = s.apply(p.ops, batch)
	if err == nil && p.meta.Batch == 0 {
		err = syncDir(b.dir) // the shard's own name
	}
	if err == nil {
		p.meta.Documents, p.meta.Bytes, err = s.extent()
		b.shardsMu.Lock()
		s.changed = time.Now()
		b.shardsMu.Unlock()
	}
	if err != nil {
		return &damage{name, s.folder, err}
	}
	return nil
}
