package ledger

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// TestLostAnswers: whatever the store answers, a batch is committed once.
func TestLostAnswers(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		w := newWorld(t)
		l := w.log()
		w.append(l, 2)
		w.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
			if op == objecttest.OpCreate && strings.Contains(key, "/commit/") {
				if arrives {
					return objecttest.Fault{After: objecttest.ErrFault}
				}
				return objecttest.Fault{Before: objecttest.ErrFault}
			}
			return objecttest.Fault{}
		})
		batch, other := makeEntries(3, w.clock.Now()), makeEntries(1, w.clock.Now())
		for range 3 {
			w.clock.advance(time.Minute) // it must not get into the bytes
			_, err := l.Append(t.Context(), batch, [][2]uint64{{1, 1 + uint64(w.clock.Now().Minute())}})
			wantErr(t, err, objecttest.ErrFault)
			_, err = l.Append(t.Context(), other, nil)
			wantErr(t, err, ErrUnresolved)
		}
		w.store.SetFault(nil)
		_, err := l.Append(t.Context(), other, nil)
		wantErr(t, err, ErrUnresolved)
		if h := l.Head(); h.Size != 3 {
			t.Errorf("head has %d entries", h.Size)
		}
		first, err := l.Append(t.Context(), batch, nil)
		check(t, err)
		if first != 3 {
			t.Errorf("first is %d", first)
		}
		w.append(l, 1)
		check(t, l.Close(t.Context()))
		if sum := w.clean(); sum.Entries != 7 || sum.Commits != 4 {
			t.Errorf("%d entries in %d commits", sum.Entries, sum.Commits)
		}
	}
}

// TestCrash runs a little history against a store that dies after k operations, with the k-th done or not done, and goes on with a new
// process, for every k.
func TestCrash(t *testing.T) {
	var batches [][]record.Entry
	for _, n := range []int{1, 254, 1, 300, 2} {
		batches = append(batches, makeEntries(n, time.Unix(1_800_000_000, 0)))
	}
	// run appends what is not there yet, as an archive does that knows by the ledger what is there.
	run := func(ctx context.Context, w *world) error {
		l, err := Open(ctx, w.config())
		if errors.Is(err, ErrNoLog) {
			if err := Create(ctx, w.store, w.signer, w.init(), object.Lock{}, w.clock.Now()); err != nil {
				return err
			}
			l, err = Open(ctx, w.config())
		}
		if err != nil {
			return err
		}
		size := uint64(1)
		for _, b := range batches {
			if size += uint64(len(b)); l.Head().Size >= size {
				continue
			}
			w.clock.advance(40 * time.Second)
			if _, err := l.Append(ctx, b, nil); err != nil {
				return err
			}
		}
		return l.Close(ctx)
	}
	w := newWorld(t)
	total := 0
	w.store.SetFault(func(objecttest.Op, string) objecttest.Fault { total++; return objecttest.Fault{} })
	check(t, run(t.Context(), w))
	w.store.SetFault(nil)
	w.clean()
	if total < 30 {
		t.Fatalf("only %d operations", total)
	}
	for k := range total {
		for _, done := range []bool{false, true} {
			w := newWorld(t)
			ops := 0
			w.store.SetFault(func(objecttest.Op, string) objecttest.Fault {
				switch ops++; {
				case ops == k+1 && done:
					return objecttest.Fault{After: objecttest.ErrFault}
				case ops > k:
					return objecttest.Fault{Before: objecttest.ErrFault}
				}
				return objecttest.Fault{}
			})
			if err := run(t.Context(), w); err == nil {
				t.Fatalf("k %d: the crash was not noticed", k)
			}
			w.store.SetFault(nil)
			for name, err := range verifyIfAny(w) {
				if !strings.HasPrefix(name, "behind ") && name != "missing "+checkpointKey(testLog) {
					t.Errorf("k %d, done %t, after the crash: %s: %v", k, done, name, err)
				}
			}
			if err := run(t.Context(), w); err != nil {
				t.Fatalf("k %d, done %t, after the crash: %v", k, done, err)
			}
			if sum := w.clean(); sum.Entries != 559 {
				t.Errorf("k %d, done %t: %d entries", k, done, sum.Entries)
			}
		}
	}
}

func verifyIfAny(w *world) map[string]error {
	if len(w.store.Keys()) == 0 {
		return nil
	}
	return w.verify()
}

// TestBadCommit: a writer does not go on from a commit that is not good.
func TestBadCommit(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	w.append(l, 20)
	check(t, l.Close(t.Context()))
	key := CommitKey(testLog, 1)
	for i := range w.store.Bytes(key) {
		c := w.copy()
		c.store.Corrupt(key, i)
		_, err := Open(t.Context(), c.config())
		wantErr(t, err, ErrAltered)
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%q does not name %s", err, key)
		}
	}
}

// TestReadFaults: trouble on the way to an object is no finding, and nothing hangs or leaks.
func TestReadFaults(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	for range 5 {
		w.append(l, 100)
	}
	check(t, l.Close(t.Context()))
	for _, fault := range []objecttest.Fault{{Before: objecttest.ErrFault}, {Cut: objecttest.ErrFault}} {
		for k := 0; ; k++ {
			ops := 0
			var mu sync.Mutex
			w.store.SetFault(func(objecttest.Op, string) objecttest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if ops++; ops == k+1 {
					return fault
				}
				return objecttest.Fault{}
			})
			_, err := w.reader().Verify(t.Context(), func(*Commit) error { return nil }, func(f Finding) {
				t.Errorf("operation %d fails: %s %s: %v", k, f.Kind, f.Key, f.Err)
			})
			w.store.SetFault(nil)
			if k >= ops {
				check(t, err)
				break
			}
			if err != nil {
				wantErr(t, err, objecttest.ErrFault)
			} else if fault.Before != nil {
				t.Errorf("operation %d fails and Verify says nothing", k)
			}
			if n := w.store.Unclosed(); n != 0 {
				t.Fatalf("%d readers were not closed", n)
			}
		}
	}
	w.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
		if key == CommitKey(testLog, 3) {
			return objecttest.Fault{Before: object.ErrMismatch}
		}
		return objecttest.Fault{}
	})
	if found := w.verify(); len(found) != 1 || found["altered "+CommitKey(testLog, 3)] == nil {
		t.Errorf("ErrMismatch of the store: %v", found)
	}
}

func TestCanceled(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	for range 20 {
		w.append(l, 10)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	_, err := w.reader().Verify(ctx, func(*Commit) error {
		if n++; n == 5 {
			cancel()
		}
		return nil
	}, func(Finding) {})
	wantErr(t, err, context.Canceled)
	n = 0
	stop := errors.New("stop")
	_, err = w.reader().Verify(t.Context(), func(*Commit) error {
		if n++; n == 5 {
			return stop
		}
		return nil
	}, func(Finding) {})
	if wantErr(t, err, stop); n != 5 {
		t.Errorf("%d commits after an error", n)
	}
	last := error(nil)
	for _, err := range w.reader().Entries(ctx, 0) {
		last = err
	}
	wantErr(t, last, context.Canceled)
	_, err = l.Append(ctx, makeEntries(1, time.Now()), nil)
	wantErr(t, err, context.Canceled)
}
