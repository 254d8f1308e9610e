package archive

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Run empties custody into the archive until ctx ends, or until drain is closed and all that had settled by then is committed. It gives an
// error where the node must stop: the ledger was lost to another process (ledger.ErrLost), or cannot be written for good. Records that can't be
// archived stay in custody. Run may be called once.
func (a *Archive) Run(ctx context.Context, c Custody, drain <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer a.waiters.tellAll(errEnded, true)
	sealed := make(chan *sealedPack, maxSealed)
	a.mu.Lock()
	a.custody = c
	a.mu.Unlock()
	if err := a.accountForLost(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	stored := make(chan *upload, maxUploads)
	wg.Go(func() {
		defer close(stored)
		a.upload(ctx, chain(a.former, sealed), stored)
	})
	wg.Go(func() {
		for group := range groups(stored) {
			if ctx.Err() != nil {
				continue // they are on disk, and the next start goes on with them
			}
			if err := a.finish(ctx, group); err != nil {
				cancel(err)
			}
		}
	})
	items := make(chan *record.Item)
	wg.Go(func() {
		defer close(items)
		if err := a.pump(ctx, drain, items); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	})
	s := &sealer{a: a, custody: c, open: map[string]*openPack{}, out: sealed, landed: make(chan struct{}, 1)}
	err := s.run(ctx, items)
	close(sealed)
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return cmp.Or(err, ctx.Err())
}

// takeUp finds what was sealed before this start, to be committed first, and remembers whose records these are.
func (a *Archive) takeUp(ctx context.Context) (err error) {
	if a.former, err = a.recoverPacks(); err != nil {
		return err
	}
	if err := a.findForeign(); err != nil {
		return err
	}
	for _, s := range a.former {
		for i := range s.Entries {
			a.recovered[keyOf(&s.Entries[i])] = s
		}
	}
	a.pending = roaring64.New()
	for c, err := range a.log.Commits(ctx, a.log.Head().Size-1) {
		if err != nil {
			return err
		}
		for _, r := range c.Header.Pending {
			a.pending.AddRange(r[0], r[1]+1)
		}
	}
	return nil
}

// accounted gives the sequences that have an entry, or will have one by a pack that is on its way.
func (a *Archive) accounted() (*roaring64.Bitmap, error) {
	set, err := a.catalog.sequences(a.log.Name())
	if err != nil {
		return nil, err
	}
	for _, s := range a.former {
		addSequences(set, s.Entries)
	}
	return set, nil
}

// accountForLost gives an entry to sequences that were in custody at the last commit and are nowhere any more: the spool that held them
// was lost. Likewise to those that a spool had given before this log began. So it stands in the ledger, and verify need not guess.
func (a *Archive) accountForLost(ctx context.Context) error {
	newest := a.custody.Newest() // before Waiting
	waiting := a.custody.Waiting()
	accounted, err := a.accounted()
	if err != nil {
		return err
	}
	lost, reason := a.pending.Clone(), "lost: the spool that held them was gone"
	if accounted.IsEmpty() && lost.IsEmpty() {
		first := newest + 1
		if len(waiting) > 0 {
			first = min(first, waiting[0][0])
		}
		lost.AddRange(1, first)
		reason = "not of this log: the spool had counted so far before it began"
	}
	for _, r := range waiting {
		lost.RemoveRange(r[0], r[1]+1)
	}
	lost.AndNot(accounted) // such as what was committed, and not yet released
	if lost.IsEmpty() {
		return nil
	}
	a.slog.Error("sequences without a record", "reason", reason, "count", lost.GetCardinality(), "first", lost.Minimum())
	var entries []record.Entry
	for first, last := range runsOf(lost) {
		entries = append(entries, record.Entry{V: record.Version, Kind: record.KindDropped, Time: a.now().UTC(),
			Drop: &record.Drop{First: first, Last: last, Reason: reason}})
	}
	for batch := range slices.Chunk(entries, maxItems) {
		pending := a.custody.Waiting() // those of later batches are still to be accounted for, should this be cut off
		for first, last := range runsOf(lost) {
			pending = append(pending, [2]uint64{first, last})
		}
		if err := a.retry(ctx, "commit", func() error {
			_, err := a.log.Append(ctx, batch, pending)
			return err
		}); err != nil {
			return err
		}
		for _, e := range batch {
			lost.RemoveRange(e.Drop.First, e.Drop.Last+1)
		}
	}
	return nil
}

// chain yields a list, then a channel until it is closed.
func chain(first []*sealedPack, then <-chan *sealedPack) iter.Seq[*sealedPack] {
	return func(yield func(*sealedPack) bool) {
		for _, s := range first {
			if !yield(s) {
				return
			}
		}
		for s := range then {
			if !yield(s) {
				return
			}
		}
	}
}

// recoveredKey names one entry's record.
type recoveredKey struct {
	id   record.ID
	name string // of a supplement
	drop uint64 // first sequence of a dropped run
}

func keyOf(e *record.Entry) recoveredKey {
	k := recoveredKey{id: e.ID}
	if e.Holds() == record.KindSupplement {
		k.name = e.Name
	}
	if e.Drop != nil {
		k.drop = e.Drop.First
	}
	return k
}

func keyOfItem(it *record.Item) recoveredKey {
	k := recoveredKey{id: it.ID}
	if it.Supplement != nil {
		k.name = it.Supplement.Name
	}
	if it.Drop != nil {
		k.drop = it.Drop.First
	}
	return k
}

// pump moves items from custody to the sealer; after drain it ends once there is nothing more. What can't be read is tried again.
func (a *Archive) pump(ctx context.Context, drain <-chan struct{}, out chan<- *record.Item) error {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-drain:
			stop()
		case <-waiting.Done():
		}
	}()
	var yielded time.Time
	for {
		var it *record.Item
		if err := a.retry(ctx, "read custody", func() (err error) {
			if it, err = a.custody.Next(waiting); err != nil && waiting.Err() != nil {
				it, err = a.custody.TryNext(ctx)
			}
			return err
		}); err != nil || it == nil {
			return err
		}
		yielded = a.yield(waiting, yielded)
		select {
		case out <- it:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// yieldTime is how long packing waits for a node that is busy, and how long it then goes on before it waits again. Compressing a burst of
// mail can wait until it has been answered.
const (
	yieldTime = time.Second
	yieldStep = 20 * time.Millisecond
)

// yield waits while mail is coming in, unless it has done so lately, and says when it last did. Where somebody waits for the archive it does
// not wait.
func (a *Archive) yield(ctx context.Context, last time.Time) time.Time {
	if time.Since(last) < yieldTime || !a.busy() {
		return last
	}
	for end := time.Now().Add(yieldTime); a.busy() && time.Now().Before(end); {
		step := time.NewTimer(yieldStep)
		select {
		case <-step.C:
			continue
		case <-a.waiters.any():
			return last
		case <-ctx.Done():
		}
		break
	}
	return time.Now()
}
