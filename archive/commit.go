package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// maxUploads is how many packs are on their way into the store at once. Their commits are in the order in which they were sealed.
const maxUploads = 4

// upload is a sealed pack on its way into the store.
type upload struct {
	pack *sealedPack
	done chan struct{} // closed when it is there, or given up
	err  error         // read after done
}

// upload puts sealed packs into the store, several at once, and gives them on in their order.
func (a *Archive) upload(ctx context.Context, packs iter.Seq[*sealedPack], out chan<- *upload) {
	slots := make(chan struct{}, maxUploads)
	for s := range packs {
		u := &upload{pack: s, done: make(chan struct{})}
		slots <- struct{}{}
		go func() {
			u.err = a.create(ctx, s)
			close(u.done)
			<-slots
		}()
		out <- u
	}
}

// create puts one pack into the store. It tries until it succeeds, ctx ends, or the file is not what was sealed any more: then the node must
// stop, and the next start packs its records again, which are all in custody still.
func (a *Archive) create(ctx context.Context, s *sealedPack) error {
	if s.Key == "" {
		return nil
	}
	for {
		err := a.retry(ctx, "store pack", a.watched(ctx, func() error {
			f, err := a.openWhole(s)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = a.store.Create(ctx, s.Key, f, a.Lock(s.Until, s.Held))
			return err
		}))
		if !errors.Is(err, object.ErrConflict) {
			return err
		}
		if err := a.evade(ctx, s, err); err != nil {
			return err
		}
	}
}

// groups gives what is to be committed together: an upload that is done, and those behind it that are done too by then.
func groups(uploads <-chan *upload) iter.Seq[[]*upload] {
	return func(yield func([]*upload) bool) {
		next, more := <-uploads
		for more {
			<-next.done
			group, entries := []*upload{next}, len(next.pack.Entries)
		behind:
			for next = nil; more && next == nil; {
				select {
				case next, more = <-uploads:
				default:
					break behind
				}
				if more && next.isDone() && entries+len(next.pack.Entries) <= maxItems {
					group, entries = append(group, next), entries+len(next.pack.Entries)
					next = nil
				}
			}
			if !yield(group) {
				return
			}
			if more && next == nil {
				next, more = <-uploads
			}
		}
	}
}

func (u *upload) isDone() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// finish commits packs that are in the store, in one commit. It tries until it succeeds, ctx ends, or the ledger is lost to another process.
func (a *Archive) finish(ctx context.Context, group []*upload) error {
	var packs []*sealedPack
	for _, u := range group {
		if u.err != nil {
			return u.err
		}
		packs = append(packs, u.pack)
	}
	return a.retry(ctx, "commit", a.watched(ctx, func() error { return a.commit(ctx, packs) }))
}

// watched has a step tell of its failures those who wait for records to be in the store, when there have been some for a while.
func (a *Archive) watched(ctx context.Context, step func() error) func() error {
	return func() error {
		err := step()
		if err != nil && ctx.Err() == nil {
			if since := a.trouble.note(err); time.Since(since) > troubleTold {
				a.waiters.tellAll(err, false)
			}
		}
		return err
	}
}

// commit writes the entries of packs that are stored, takes them into the catalog, tells those who wait, and lets go of what local custody
// held.
func (a *Archive) commit(ctx context.Context, packs []*sealedPack) error {
	a.commitMu.Lock()
	defer a.commitMu.Unlock()
	if err := a.catchUp(ctx, nil); err != nil { // a commit whose entries the catalog did not get
		return err
	}
	var entries []record.Entry
	var fresh []*sealedPack
	for _, s := range packs {
		if known, err := a.committed(s); err != nil {
			return err
		} else if !known { // otherwise by a try that was cut off after its commit
			entries, fresh = append(entries, s.Entries...), append(fresh, s)
		}
	}
	if len(entries) > 0 {
		first, err := a.log.Append(ctx, entries, a.custody.Waiting())
		if err != nil {
			return err
		}
		if err := a.catalog.add(ctx, a.log.Name(), first, entries, a.log.Head().Root); err != nil {
			return err
		}
	}
	for _, s := range fresh {
		a.metrics.records.Add(float64(len(s.Entries)))
		a.metrics.raw.Add(float64(s.Raw))
		a.metrics.stored.Add(float64(s.Size))
	}
	a.trouble.over()
	for _, s := range packs {
		a.waiters.tell(s.messages(), nil)
	}
	for _, s := range packs {
		if err := a.settle(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// messages names the messages in a pack.
func (s *sealedPack) messages() (ids []record.ID) {
	for i := range s.Entries {
		if e := &s.Entries[i]; e.Kind == record.KindMessage || e.Kind == record.KindRefused {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// committed says whether a pack's entries are in the ledger. They go there together: one that is missing tells that none are
// there by this pack.
func (a *Archive) committed(s *sealedPack) (bool, error) {
	if len(s.Entries) == 0 {
		return true, nil
	}
	for i := range s.Entries { // of all: one may be a supplement that a killed queue made twice, and whose first copy is committed
		e := &s.Entries[i]
		it := &record.Item{Kind: e.Kind, ID: e.ID, Drop: e.Drop}
		if e.Kind == record.KindSupplement {
			it.Supplement = &record.SupplementDoc{Supplement: record.Supplement{Name: e.Name}}
		}
		if known, err := a.catalog.has(a.log.Name(), it); err != nil || !known {
			return false, err
		}
	}
	return true, nil
}

func (a *Archive) settle(ctx context.Context, s *sealedPack) error {
	a.mu.Lock()
	landed := s.landed
	s.done, s.landed = true, nil
	items := s.items
	s.items = nil
	a.mu.Unlock()
	if landed != nil {
		landed()
	}
	if err := a.custody.Release(ctx, items); err != nil {
		return err
	}
	if err := a.forget(s); err != nil {
		a.slog.Warn("the files of a pack that is committed can't be removed; the next start does it", "pack", s.base, "err", err)
	}
	return nil
}

// firstPause is the pause after a first failure, of the store or of the disk. Tests have less of it.
var firstPause = 100 * time.Millisecond

// retry runs a step until it succeeds. It gives up when ctx ends and on errors that no time heals.
func (a *Archive) retry(ctx context.Context, what string, step func() error) error {
	pause := firstPause
	for n := 0; ; n++ {
		err := step()
		if err == nil {
			if n > 0 {
				a.slog.Info("works again", "step", what, "tries", n+1)
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ledger.ErrLost) || errors.Is(err, object.ErrConflict) || errors.Is(err, errCatalog) || errors.Is(err, errNotWhole) {
			return fmt.Errorf("%s: %w", what, err)
		}
		level := slog.LevelWarn
		if n > 3 {
			level = slog.LevelError
		}
		a.slog.Log(ctx, level, "step failed, trying again", "step", what, "tries", n+1, "err", err)
		if err := sleep(ctx, pause+rand.N(pause)); err != nil {
			return err
		}
		pause = min(2*pause, 5*time.Second)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
