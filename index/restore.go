package index

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// restore brings back what the index lost: of the months concerned all that the ledger had before the cursors, and that is not in the index.
// What follows the cursors, and what is in the spool, comes as ever, since all has begun again.
func (f *Follower) restore(ctx context.Context, lost []Loss) {
	f.mu.Lock()
	ends := maps.Clone(f.entries)
	f.mu.Unlock()
	months := map[string]bool{}
	for _, l := range lost {
		months[l.Month] = true
		f.log.Info("what the index lost of a month is indexed again from the archive", "month", l.Month)
	}
	for _, name := range f.o.Ledger.Logs() {
		r := &logReader{Follower: f, name: name, own: name == archive.NodeLog(f.o.Node), months: months, end: ends[name]}
		if !f.retry(ctx, "index again what was lost", func() error { return r.follow(ctx) }) {
			return
		}
	}
	for !f.caughtUp() {
		if !sleep(ctx, pollLedger) {
			return
		}
	}
	w := newWork("ledger")
	w.restored = lost
	if f.hand(ctx, w) {
		f.log.Info("the index has again what it lost", "months", len(months))
	}
}

// caughtUp says that of what was done before the loss all is done again that is in the spool alone.
func (f *Follower) caughtUp() bool {
	if f.o.Tail == nil {
		return true
	}
	waiting := roaring64.New()
	for _, r := range f.o.Tail.Waiting() {
		waiting.AddRange(r[0], r[1]+1)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting.And(f.before)
	waiting.AndNot(f.done)
	return waiting.IsEmpty()
}

// ErrOtherLedger says that an index was made from entries that the ledger does not have: the store was set back, as to a backup, or is
// another. The index is to be made anew.
var ErrOtherLedger = errors.New("index is of another ledger")

// CheckLedger checks that what an index has was read from this very ledger: ErrOtherLedger, or that of reading the ledger.
func CheckLedger(ctx context.Context, b Backend, l Ledger) error {
	cursors, err := b.Through(ctx)
	if err != nil {
		return err
	}
	trees := b.Trees()
	for _, log := range l.Logs() {
		n := cursors[log]
		if n == 0 {
			continue
		}
		if size := l.Size(log); n > size {
			return fmt.Errorf("%w: it has %d entries of %s, and there are %d", ErrOtherLedger, n, log, size)
		}
		for r, err := range l.Replay(ctx, log, n-1, func(*record.Entry) bool { return false }) {
			if err != nil {
				return err
			}
			if r.Tree != trees[log] {
				return fmt.Errorf("%w: entry %d of %s is another", ErrOtherLedger, n-1, log)
			}
			break
		}
	}
	return nil
}
