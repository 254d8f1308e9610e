package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// logReader reads one log. It belongs to followLedger.
type logReader struct {
	*Follower
	name string
	own  bool   // the log of this node: its sequences are those of the tail
	next uint64 // the first entry that is in no batch yet

	failing uint64 // the entry whose record could not be read
	tries   int    // how often
}

// follow reads a log to its end. What it has read before an error is handed over all the same.
func (r *logReader) follow(ctx context.Context) error {
	if r.next >= r.o.Ledger.Size(r.name) {
		return nil
	}
	var asked error
	want := func(e *record.Entry) bool {
		switch e.Kind {
		case record.KindSupplement:
			return true
		case record.KindMessage, record.KindRefused:
		default:
			return false
		}
		seq := e.Seq
		if !r.own {
			seq = 0
		}
		there, err := r.has(ctx, e.ID, seq)
		asked = errors.Join(asked, err)
		return !there
	}
	w := newWork("ledger")
	read := func() error {
		for got, err := range r.o.Ledger.Replay(ctx, r.name, r.next, want) {
			if err = errors.Join(err, asked); err != nil {
				return err
			}
			if got.N != r.next {
				return fmt.Errorf("log %s: entry %d was given in place of %d", r.name, got.N, r.next)
			}
			if err := r.take(ctx, w, &got); err != nil {
				return err
			}
			r.next++
			w.log, w.next, w.at = r.name, r.next, got.Entry.Time
			if w.full() || time.Since(w.began) >= gatherLedger {
				if !r.hand(ctx, w) {
					return ctx.Err()
				}
				w = newWork("ledger")
			}
		}
		return ctx.Err()
	}
	err := read()
	if w.log != "" && !r.hand(ctx, w) {
		return ctx.Err()
	}
	return err
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
	if r.own && e.Seq > 0 {
		w.seqs.Add(e.Seq)
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
	case err == nil:
		doc, err = documentOf(got.Item, r.o.Own)
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
		if s, err = r.o.Ledger.Fetch(ctx, id); err == nil {
			s.Item.Supplements = withSupplement(s.Item.Supplements, late)
			if doc, err = documentOf(s.Item, r.o.Own); !errors.Is(err, errBody) {
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
	if r.tries == 0 || r.failing != n {
		r.failing, r.tries = n, 0
	}
	r.tries++
	return r.tries < maxTries
}
