package index

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// followTail indexes what comes out of the spool.
func (f *Follower) followTail(ctx context.Context) {
	var it *record.Item
	next := func() (err error) {
		it, err = f.o.Tail.Next(ctx)
		return err
	}
	for f.retry(ctx, "read the spool", next) {
		w := f.gather(ctx, it)
		if len(w.docs) == 0 && w.seqs.IsEmpty() {
			continue // left to the ledger
		}
		if !f.hand(ctx, w) {
			return
		}
	}
}

// gather makes a batch of an item and of those that follow it soon enough. An error of the tail ends the batch, and comes again.
func (f *Follower) gather(ctx context.Context, it *record.Item) *work {
	w := newWork("spool")
	for {
		f.take(ctx, w, it)
		wait := min(gatherIdle, gatherTime-time.Since(w.began))
		if w.full() || wait <= 0 {
			return w
		}
		soon, cancel := context.WithTimeout(ctx, wait)
		var err error
		it, err = f.o.Tail.Next(soon)
		cancel()
		if err != nil {
			return w
		}
	}
}

// take adds a settled record to a batch. What it leaves out comes by the ledger: refused mail, of which the archive may keep less than the
// spool has, and records whose message can't be read here, as when it was released meanwhile.
func (f *Follower) take(ctx context.Context, w *work, it *record.Item) {
	switch it.Kind {
	case record.KindAct:
		w.account(it.Seq)
		return
	case record.KindDropped:
		w.seqs.AddRange(it.Drop.First, it.Drop.Last+1)
		return
	case record.KindMessage:
	default:
		return
	}
	if d := it.Delivery(); d != nil && d.Outcome == record.Refused {
		return
	}
	if there, err := f.has(ctx, it.ID, it.Seq); err != nil || !there { // where the index doesn't answer: to add a document again is safe
		doc, err := f.document(ctx, w, it)
		if errors.Is(err, errBody) {
			f.log.Debug("a message can't be read in the spool; it is indexed from the archive", "id", it.ID, "error", err)
			return
		}
		f.incomplete(it.ID, err)
		w.add(doc)
		w.seqOf[it.ID] = it.Seq
	}
	w.account(it.Seq)
}
