package archive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Await waits until a message that is in custody is in the archive too: its pack in the object store, and its entry in the ledger there. While
// somebody waits, packs are sealed by group and at once, whatever seal_after says. Nil means that the node may lose its disk and the message
// is still there. Any other answer means: not yet, or not known. The message stays in custody and is archived later all the same.
//
// Errors wrap ErrPending: the end of ctx, whose cause they wrap too, or a store that has been failing for ten seconds; a message that can't
// be read; or Run has ended. A message of which nobody has ever heard is waited for as long as ctx lasts.
func (a *Archive) Await(ctx context.Context, id record.ID) error {
	start := time.Now()
	w := a.waiters.add(id)
	defer a.waiters.remove(id, w)
	// Who commits it from here on finds the waiter; what was committed before is in the catalog.
	known, err := a.Has(id)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", id, ErrPending, err)
	}
	if !known {
		select {
		case err = <-w.done:
		case <-ctx.Done():
			err = context.Cause(ctx)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				a.trouble.isKnown(errors.New("the object store is too slow"))
			}
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", id, ErrPending, err)
	}
	a.metrics.await.Observe(time.Since(start).Seconds())
	return nil
}

// Failing is nil unless it is known that a message would wait in vain: the object store has failed twice in a row, or was too slow for somebody
// who waited, and no pack has been committed since. It forgets after half a minute, so that the store is tried again.
func (a *Archive) Failing() error { return a.trouble.now() }

// errEnded is told to those who wait when Run ends.
var errEnded = errors.New("the archive has stopped")

// waiters are those who wait for records to be in the archive.
type waiters struct {
	mu    sync.Mutex
	byID  map[record.ID][]*waiter
	fresh []record.ID   // begun to be waited for since takeFresh
	ended error         // told to all that come
	hurry chan struct{} // capacity 1: there are fresh ones
	some  chan struct{} // closed while there are any
}

type waiter struct{ done chan error } // capacity 1

func newWaiters() *waiters {
	return &waiters{byID: map[record.ID][]*waiter{}, hurry: make(chan struct{}, 1), some: make(chan struct{})}
}

func (ws *waiters) add(id record.ID) *waiter {
	w := &waiter{done: make(chan error, 1)}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.ended != nil {
		w.done <- ws.ended
		return w
	}
	if len(ws.byID) == 0 {
		close(ws.some)
	}
	ws.byID[id] = append(ws.byID[id], w)
	if ws.fresh = append(ws.fresh, id); len(ws.fresh) > 2*len(ws.byID)+1024 { // nobody takes them while the store is away
		ws.fresh = slices.Collect(maps.Keys(ws.byID))
	}
	select {
	case ws.hurry <- struct{}{}:
	default:
	}
	return w
}

func (ws *waiters) remove(id record.ID, w *waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	list := ws.byID[id]
	if i := slices.Index(list, w); i >= 0 {
		ws.keep(id, slices.Delete(list, i, i+1))
	}
}

// keep is called with mu held.
func (ws *waiters) keep(id record.ID, list []*waiter) {
	if len(list) > 0 {
		ws.byID[id] = list
		return
	}
	delete(ws.byID, id)
	if len(ws.byID) == 0 {
		ws.some, ws.fresh = make(chan struct{}), nil
	}
}

// tell gives everybody who waits for these records their answer.
func (ws *waiters) tell(ids []record.ID, answer error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, id := range ids {
		list, ok := ws.byID[id]
		if !ok {
			continue
		}
		for _, w := range list {
			w.done <- answer
		}
		ws.keep(id, nil)
	}
}

// tellAll gives everybody an answer. With over all who come later have it too.
func (ws *waiters) tellAll(answer error, over bool) {
	ws.mu.Lock()
	var ids []record.ID
	for id := range ws.byID {
		ids = append(ids, id)
	}
	if over {
		ws.ended = answer
	}
	ws.mu.Unlock()
	ws.tell(ids, answer)
}

// has says whether somebody waits for a record.
func (ws *waiters) has(id record.ID) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.byID[id]) > 0
}

// takeFresh gives the records that have begun to be waited for since the last call.
func (ws *waiters) takeFresh() []record.ID {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	fresh := ws.fresh
	ws.fresh = nil
	return fresh
}

// any is closed while somebody waits.
func (ws *waiters) any() <-chan struct{} {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.some
}

// How long trouble with the store is put up with.
const (
	troubleTold = 10 * time.Second // then those who wait are told
	troubleLast = 30 * time.Second // without news it is forgotten
)

// trouble is what is known to keep records from the store.
type trouble struct {
	mu    sync.Mutex
	err   error
	count int       // failures since the last success
	since time.Time // the first of them
	last  time.Time
}

// note counts a failure and gives since when there have been any.
func (t *trouble) note(err error) (since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.count == 0 || now.Sub(t.last) > troubleLast {
		t.count, t.since = 0, now
	}
	t.err, t.last = err, now
	t.count++
	return t.since
}

// isKnown notes a failure that needs no second one to count.
func (t *trouble) isKnown(err error) {
	t.note(err)
	t.note(err)
}

func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err, t.count = nil, 0
}

func (t *trouble) now() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count < 2 || time.Since(t.last) > troubleLast {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrPending, t.err)
}
