package sweep

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// SecondCopyOptions say where a second copy of the archive is.
type SecondCopyOptions struct {
	URL     string
	Graves  []*ledger.Graves         // of the logs that have tombstones; for this Remover alone
	Exclude func(func() error) error // runs what it is given while nothing is being copied
}

// SecondCopy makes the Remover of a second copy: every pack that a tombstone names goes from there too. What a lock of the second copy still
// keeps is an error that names it, and is tried again with the next purge.
func SecondCopy(o SecondCopyOptions) Remover {
	s := &secondCopy{o: o}
	return Remover{Name: "second copy", Remove: s.remove}
}

type secondCopy struct {
	o SecondCopyOptions

	mu    sync.Mutex
	left  []record.Gone   // guarded by mu: tombstones that were read and whose packs may be there
	power object.Disposer // guarded by mu; nil until it is needed
}

// remove goes by the tombstones, which name the packs of the records: the first time by all of them, as a process may have ended before it
// was done.
func (s *secondCopy) remove(ctx context.Context, _ []record.ID) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.o.Graves {
		fresh, err := g.Fresh(ctx)
		s.left = append(s.left, fresh...)
		if err != nil {
			return err
		}
	}
	if len(s.left) == 0 {
		return nil
	}
	if s.power == nil {
		if s.power, err = object.OpenDisposer(ctx, s.o.URL, object.Options{}); err != nil {
			return fmt.Errorf("replica.store: %w", err)
		}
	}
	return s.o.Exclude(func() error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(deleters)
		for _, g := range s.left {
			group.Go(func() error { return s.power.DeleteAll(ctx, g.Pack) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		s.left = nil
		return nil
	})
}

// Idle runs f while nothing is destroyed, and keeps a purge from beginning. ErrRunning where one runs.
func (s *Sweep) Idle(f func() error) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}
