package index

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
)

// followLedger indexes what the ledger has and the tail did not bring: all of it in a rebuild, next to nothing otherwise.
func (f *Follower) followLedger(ctx context.Context) {
	readers := map[string]*logReader{}
	for {
		for _, name := range f.o.Ledger.Logs() {
			r := readers[name]
			if r == nil {
				r = &logReader{Follower: f, name: name, own: name == archive.NodeLog(f.o.Node)}
				f.mu.Lock()
				r.next = f.entries[name]
				f.mu.Unlock()
				readers[name] = r
			}
			if !f.retry(ctx, "follow the ledger", func() error { return r.follow(ctx) }) {
				return
			}
		}
		if !sleep(ctx, pollLedger) {
			return
		}
	}
}

// logReader reads one log, or again from it what the index lost. Packs are read side by side; batches are made of them in the order of the
// log. It belongs to one goroutine, but for what mu guards.
type logReader struct {
	*Follower
	name string
	own  bool   // the log of this node: its sequences are those of the tail
	next uint64 // the first entry that is in no batch yet

	// Of one that brings back what was lost: only the records of these months, of the entries before end. It moves no cursor.
	months map[string]bool
	end    uint64

	triesMu sync.Mutex     // guards tries
	tries   map[uint64]int // how often an entry's record could not be read
}

// maxReaders is how many packs are read at once at most. Each takes memory for two chunks.
const maxReaders = 8

// size is where to read to.
func (r *logReader) size() uint64 {
	if r.months != nil {
		return r.end
	}
	return r.o.Ledger.Size(r.name)
}

// run is a row of entries that lie in one pack.
type run struct {
	first, end uint64
	chunks     chan *chunk   // what was made of them, in order; closed after the last
	turn       chan struct{} // closed when it is the first in the row
}

// chunk is a part of a batch.
type chunk struct {
	work
	err error // nothing follows
}

// runEntries bounds a run where entries have no pack, or a pack has very many.
const runEntries = 1 << 14

// follow reads a log to its end. What it has read before an error is handed over all the same.
func (r *logReader) follow(ctx context.Context) error {
	if r.next >= r.size() {
		return nil
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	readers := min(runtime.GOMAXPROCS(0), maxReaders)
	order, todo := make(chan *run, readers), make(chan *run)
	wg.Go(func() { r.plan(ctx, order, todo) })
	for range readers {
		wg.Go(func() {
			for one := range todo {
				r.read(ctx, one)
			}
		})
	}
	w := newWork("ledger")
	err := func() error {
		for one := range order {
			close(one.turn)
			for c := range one.chunks {
				if c.err != nil {
					return c.err
				}
				if len(w.docs) > 0 && w.bytes+c.bytes > gatherBytes {
					if !r.hand(outer, w) {
						return outer.Err()
					}
					w = newWork("ledger")
				}
				w.join(&c.work)
				r.done(c.next)
				if w.full() || time.Since(w.began) >= gatherLedger {
					if !r.hand(outer, w) {
						return outer.Err()
					}
					w = newWork("ledger")
				}
			}
		}
		return outer.Err()
	}()
	if (w.log != "" || len(w.docs) > 0) && !r.hand(outer, w) {
		return outer.Err()
	}
	return err
}

// done moves next.
func (r *logReader) done(next uint64) {
	r.next = next
	r.triesMu.Lock()
	defer r.triesMu.Unlock()
	for n := range r.tries {
		if n < next {
			delete(r.tries, n)
		}
	}
}

// plan cuts the log into runs. Each goes to a reader first, so that somebody closes its chunks, and then into the row.
func (r *logReader) plan(ctx context.Context, order, todo chan<- *run) {
	defer close(order)
	defer close(todo)
	give := func(one *run, to chan<- *run) bool {
		select {
		case to <- one:
			return true
		case <-ctx.Done():
			return false
		}
	}
	var one *run
	pack, end := "", r.size()
	for got, err := range r.o.Ledger.Replay(ctx, r.name, r.next, func(*record.Entry) bool { return false }) {
		if err != nil {
			if one == nil || give(one, todo) && give(one, order) {
				bad := &run{chunks: make(chan *chunk, 1), turn: make(chan struct{})}
				bad.chunks <- &chunk{err: err}
				close(bad.chunks)
				give(bad, order)
			}
			return
		}
		if got.N >= end {
			break
		}
		if one != nil && (got.Entry.Pack != pack && got.Entry.Pack != "" && pack != "" || got.N-one.first >= runEntries) {
			if !give(one, todo) || !give(one, order) {
				return
			}
			one = nil
		}
		if one == nil {
			one, pack = &run{first: got.N, chunks: make(chan *chunk, 1), turn: make(chan struct{})}, ""
		}
		if got.Entry.Pack != "" {
			pack = got.Entry.Pack
		}
		one.end = got.N + 1
	}
	if one != nil && give(one, todo) {
		give(one, order)
	}
}

// read makes chunks of a run.
func (r *logReader) read(ctx context.Context, one *run) {
	defer close(one.chunks)
	fresh := func() *chunk {
		c := &chunk{work: *newWork("ledger")}
		c.turn = one.turn
		return c
	}
	c := fresh()
	give := func() bool {
		select {
		case one.chunks <- c:
			c = fresh()
			return true
		case <-ctx.Done():
			return false
		}
	}
	var asked error
	want := func(e *record.Entry) bool {
		there, err := r.has(ctx, e)
		asked = errors.Join(asked, err)
		return !there
	}
	next := one.first
	err := func() error {
		for got, err := range r.o.Ledger.Replay(ctx, r.name, one.first, want) {
			if err = errors.Join(err, asked); err != nil {
				return err
			}
			if got.N != next {
				return fmt.Errorf("log %s: entry %d was given in place of %d", r.name, got.N, next)
			}
			if err := r.take(ctx, &c.work, &got); err != nil {
				return err
			}
			next++
			c.next, c.at, c.tree = next, got.Entry.Time, got.Tree
			if r.months == nil {
				c.log = r.name
			}
			if next == one.end {
				return nil
			}
			if c.bytes >= chunkBytes || len(c.docs) >= chunkDocs || time.Since(c.began) >= gatherLedger {
				if !give() || !r.yield(ctx) {
					return ctx.Err()
				}
			}
		}
		return errors.Join(ctx.Err(), fmt.Errorf("log %s: it ends before entry %d", r.name, next))
	}()
	if c.next > 0 && !give() {
		return
	}
	if err != nil {
		c.err = err
		give()
	}
}

// has says that nothing is to be made of an entry: there is no document for it, or it is in the index.
func (r *logReader) has(ctx context.Context, e *record.Entry) (bool, error) {
	if r.months != nil && !r.months[Month(e.ID)] {
		return true, nil
	}
	switch e.Kind {
	case record.KindSupplement:
		return false, nil
	case record.KindMessage, record.KindRefused:
	default:
		return true, nil
	}
	if r.months != nil {
		return r.stored(ctx, e.ID)
	}
	seq := e.Seq
	if !r.own {
		seq = 0
	}
	return r.Follower.has(ctx, e.ID, seq)
}

// take adds an entry to a batch. An error means that it was not added, and is to be read again.
func (r *logReader) take(ctx context.Context, w *work, got *archive.Replayed) error {
	e := &got.Entry
	index := r.index
	if e.Kind == record.KindSupplement {
		index = r.learn
	}
	if err := index(ctx, w, got); err != nil {
		return err
	}
	if r.months != nil {
		return nil
	}
	if r.own {
		w.account(e.Seq)
	}
	if r.own && e.Drop != nil {
		w.seqs.AddRange(e.Drop.First, e.Drop.Last+1)
	}
	return nil
}

// index adds the document of an entry, where there is one to add.
func (r *logReader) index(ctx context.Context, w *work, got *archive.Replayed) error {
	e := &got.Entry
	var doc *document.Document
	err := got.Err
	switch {
	case err == nil && got.Item == nil: // not wanted: in the index, or nothing for it
		return nil
	case errors.Is(err, archive.ErrDestroyed):
		return nil
	case err == nil:
		doc, err = r.document(ctx, w, got.Item)
		if err == nil || !errors.Is(err, errBody) {
			r.incomplete(e.ID, err)
			w.add(doc)
			w.known[e.ID] = got.Item.Supplements
			return nil
		}
	}
	if r.maySucceed(got.N, err) {
		return err
	}
	if there, serr := r.stored(ctx, e.ID); serr != nil || there { // what is there is not less
		return serr
	}
	if doc == nil {
		doc = &document.Document{ID: e.ID, Received: e.Time, Partial: true, HeaderPartial: true, Bare: true}
	}
	r.incomplete(e.ID, err)
	w.add(doc)
	return nil
}

// learn indexes a record again with a supplement that came after it: how a delivery ended, in mode queue and with ack: archive.
func (r *logReader) learn(ctx context.Context, w *work, got *archive.Replayed) error {
	id, err := got.Entry.ID, got.Err
	if errors.Is(err, archive.ErrDestroyed) {
		return nil
	}
	var late *record.SupplementDoc
	if err == nil && got.Item != nil {
		if late = got.Item.Supplement; late == nil || late.Delivery == nil && late.Auth == nil {
			return nil
		}
		if known, ok := w.known[id]; ok { // the record is in this very batch
			w.known[id] = withSupplement(known, late)
			for _, d := range w.docs {
				if d.ID == id {
					d.Learn(w.known[id])
				}
			}
			return nil
		}
	}
	var doc *document.Document
	if err == nil {
		var s *archive.Stored
		s, err = r.o.Ledger.Fetch(ctx, id)
		if errors.Is(err, archive.ErrDestroyed) {
			return nil
		}
		if err == nil {
			s.Item.Supplements = withSupplement(s.Item.Supplements, late)
			if doc, err = r.document(ctx, w, s.Item); !errors.Is(err, errBody) {
				r.incomplete(id, err)
				w.add(doc)
				w.known[id] = s.Item.Supplements
				return nil
			}
		}
	}
	if r.maySucceed(got.N, err) {
		return err
	}
	r.log.Warn("a supplement of a record can't be indexed: what the index has of the record stays", "id", id, "supplement", got.Entry.Name, "error", err)
	return nil
}

// withSupplement adds one that may be among them already, in the order of their times.
func withSupplement(known []record.SupplementDoc, late *record.SupplementDoc) []record.SupplementDoc {
	if late != nil && !slices.ContainsFunc(known, func(s record.SupplementDoc) bool { return s.Name == late.Name }) {
		known = append(slices.Clip(known), *late)
	}
	known = slices.Clone(known)
	slices.SortStableFunc(known, func(a, b record.SupplementDoc) int { return a.Time.Compare(b.Time) })
	return known
}

// maySucceed says whether to read a record again after an error.
func (r *logReader) maySucceed(n uint64, err error) bool {
	for _, final := range []error{
		archive.ErrAltered, archive.ErrNotFound, pack.ErrCorrupt, pack.ErrNotFound, pack.ErrNoIdentity, object.ErrNotFound, object.ErrMismatch,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	r.triesMu.Lock()
	defer r.triesMu.Unlock()
	if r.tries == nil {
		r.tries = map[uint64]int{}
	}
	r.tries[n]++
	return r.tries[n] < maxTries
}
