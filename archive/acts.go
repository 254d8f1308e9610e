package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Acts is the log of acts that all nodes share, as one node reads it and adds to it. It is an audit.Order. Safe for concurrent use.
//
// An act of this log does not go through the spool: it is stored as a pack of its own, and then committed, so that nothing of it has
// happened before all nodes see it. A crash in between leaves a pack that no entry names.
type Acts struct {
	a      *Archive
	reader *ledger.Reader

	mu  sync.Mutex
	log *ledger.Log // nil: to be opened
}

// Acts gives the shared log.
func (a *Archive) Acts() *Acts { return a.acts }

func newActs(a *Archive) (*Acts, error) {
	r, err := ledger.NewReader(ledger.Config{Store: a.store, Log: LogActs, Archive: a.init.Archive, Verifier: a.keys.verifierKey})
	return &Acts{a: a, reader: r}, err
}

func (s *Acts) close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return nil
	}
	err := s.log.Close(ctx)
	s.log = nil
	if errors.Is(err, ledger.ErrLost) { // another node has written since, and publishes
		return nil
	}
	return err
}

// Follow implements audit.Order.
func (s *Acts) Follow(ctx context.Context, from audit.Cursor) iter.Seq2[audit.Batch, error] {
	return func(yield func(audit.Batch, error) bool) {
		known := from.N == 0
		for c, err := range s.reader.Commits(ctx, max(from.N, 1)-1) {
			if err != nil {
				yield(audit.Batch{}, err)
				return
			}
			s.list(ctx, c)
			end := audit.Cursor{N: c.Checkpoint.Size, Root: record.Digest(c.Checkpoint.Root)}
			if !known {
				if end != from {
					break
				}
				known = true
				continue
			}
			b := audit.Batch{End: end}
			for i := range c.Entries {
				e := &c.Entries[i].Entry
				if e.Kind != record.KindAct {
					continue
				}
				it, err := s.a.readers.record(ctx, e)
				if err != nil {
					yield(audit.Batch{}, fmt.Errorf("act %s, entry %d of %s: %w", e.ID, c.Entries[i].N, LogActs, err))
					return
				}
				b.Acts = append(b.Acts, it.Act)
			}
			if !yield(b, nil) {
				return
			}
		}
		if !known && ctx.Err() == nil {
			yield(audit.Batch{}, fmt.Errorf("%s: %w, up to entry %d: the store was set back", LogActs, audit.ErrCursor, from.N))
		}
	}
}

// list takes a commit into the catalog, with those before it that are missing there, so that an act is found by its id. It is derived:
// what fails is tried again with the next commit, or the next start.
func (s *Acts) list(ctx context.Context, c *ledger.Commit) {
	err := s.a.catalog.addCommit(ctx, LogActs, c)
	if err == nil {
		return
	}
	cur, err := s.a.catalog.cursor(LogActs)
	if err == nil {
		for c, cerr := range s.reader.Commits(ctx, cur.n) {
			if err = cerr; err == nil {
				err = s.a.catalog.addCommit(ctx, LogActs, c)
			}
			if err != nil {
				break
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		s.a.slog.Warn("acts are not found by their id yet", "err", err)
	}
}

// Store implements audit.Order.
func (s *Acts) Store(ctx context.Context, act *record.Act) (record.Entry, error) {
	text, err := json.Marshal(act)
	if err != nil {
		return record.Entry{}, err
	}
	it := &record.Item{Kind: record.KindAct, ID: act.ID, Act: act, ActJSON: text}
	var body bytes.Buffer
	w, err := pack.NewWriter(&body, pack.Options{Recipients: s.a.recipients})
	if err == nil {
		err = w.Add(it)
	}
	if err != nil {
		return record.Entry{}, fmt.Errorf("pack of act %s: %w", act.ID, err)
	}
	sum, err := w.Close()
	if err != nil {
		return record.Entry{}, fmt.Errorf("pack of act %s: %w", act.ID, err)
	}
	until := s.a.expiry(it)
	e := entryOf(it)
	e.Seal, e.Frame, e.Length = sum.Records[0].Seal, sum.Records[0].Frame, sum.Records[0].Length
	e.PackSHA256, e.Pack = sum.SHA256, s.a.packKey(&openPack{month: monthOf(until), received: act.ID.Time()}, sum.SHA256)
	_, err = s.a.store.Create(ctx, e.Pack, bytes.NewReader(body.Bytes()), s.a.Lock(until, false))
	return e, err
}

// Commit implements audit.Order.
func (s *Acts) Commit(ctx context.Context, at uint64, e record.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log != nil && s.log.Head().Size != at { // of the time before others wrote
		s.forget(ctx)
	}
	if s.log == nil {
		log, err := s.a.openLog(ctx, LogActs)
		if errors.Is(err, ledger.ErrLost) {
			return fmt.Errorf("%w: %w", audit.ErrMoved, err)
		} else if err != nil {
			return err
		}
		s.log = log
	}
	if n := s.log.Head().Size; n != at {
		return fmt.Errorf("%s has %d entries, not %d: %w", LogActs, n, at, audit.ErrMoved)
	}
	_, err := s.log.Append(ctx, []record.Entry{e}, nil)
	if err == nil {
		return nil
	}
	s.forget(ctx)
	if errors.Is(err, ledger.ErrLost) {
		return fmt.Errorf("%w: %w", audit.ErrMoved, err)
	}
	return err
}

// forget closes the log, to be opened anew: what it did not publish is derived, and published by whoever opens it next.
func (s *Acts) forget(ctx context.Context) {
	if err := s.log.Close(ctx); err != nil && !errors.Is(err, ledger.ErrLost) {
		s.a.slog.Warn("not everything of the log of acts is published; who opens it next does it", "err", err)
	}
	s.log = nil
}
