package ledger

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// smallLog is a log with full, partial and superseded partial tiles, and its checkpoint at the newest commit.
func smallLog(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	l := w.log()
	for _, n := range []int{3, 30, 230, 2, 1, 280, 1} {
		w.append(l, n)
		w.clock.advance(time.Minute)
	}
	w.append(l, 4)
	check(t, l.Close(t.Context()))
	w.clean()
	return w
}

// TestFlips flips a bit in every byte of every object of a small log, and in many of a larger one: verification must name that object, and
// no other.
func TestFlips(t *testing.T) {
	small := newWorld(t)
	l := small.log()
	for range 2 {
		small.append(l, 2)
		small.clock.advance(time.Minute)
	}
	check(t, l.Close(t.Context()))
	flip(t, small, 1)
	flip(t, smallLog(t), 997)
}

func flip(t *testing.T, w *world, step int) {
	for _, key := range w.store.Keys() {
		body := w.store.Bytes(key)
		for i := 0; i < len(body); i += step {
			w.store.Corrupt(key, i)
			if found := w.verify(); len(found) != 1 || found["altered "+key] == nil {
				t.Fatalf("%s, byte %d of %d: %v", key, i, len(body), found)
			}
			w.store.Remove(key)
			w.store.Overwrite(key, body)
		}
	}
	w.clean()
}

// TestRemoved takes each object away, and two commits at a time.
func TestRemoved(t *testing.T) {
	w := smallLog(t)
	superseded := 0
	keys := w.store.Keys()
	for _, key := range keys {
		c := w.copy()
		c.store.Remove(key)
		found := c.verify()
		if strings.Contains(key, ".p/") && len(found) == 0 {
			superseded++ // a log may delete these
			continue
		}
		if len(found) != 1 || found["missing "+key] == nil {
			t.Errorf("without %s: %v", key, found)
		}
	}
	if superseded == 0 || superseded == 13 {
		t.Errorf("%d superseded partial tiles", superseded)
	}
	// Any run of commits, and all of them.
	for first := range uint64(9) {
		for last := first; last < 9; last++ {
			c := w.copy()
			want := map[string]bool{}
			for n := first; n <= last; n++ {
				c.store.Remove(CommitKey(testLog, n))
				want["missing "+CommitKey(testLog, n)] = true
			}
			found := c.verify()
			if len(found) != len(want) {
				t.Errorf("without commits %d to %d: %v", first, last, found)
			}
			for name := range want {
				if found[name] == nil {
					t.Errorf("without commits %d to %d: no word of %s", first, last, name)
				}
			}
		}
	}
}

// TestCutTail: the last commit is gone, and only what is derived knows.
func TestCutTail(t *testing.T) {
	w := smallLog(t)
	last := CommitKey(testLog, 8)
	c := w.copy()
	c.store.Remove(last)
	c.store.Remove(checkpointKey(testLog))
	found := c.verify()
	if found["missing "+last] == nil || found["missing "+checkpointKey(testLog)] == nil || len(found) != 2 {
		t.Errorf("tiles alone know: %v", found)
	}
	// Tiles too are gone, but for those of an older state: nothing is left that knows.
	l := c.copy()
	for _, key := range l.store.Keys() {
		if strings.HasPrefix(key, "ledger/node-main/tile/") {
			l.store.Remove(key)
		}
	}
	if found := l.verify(); found["missing "+last] != nil {
		t.Errorf("a finding from nowhere: %v", found)
	}
	// The last commit is bad: what is ahead of the one before is no finding of its own.
	c = w.copy()
	c.store.Corrupt(last, 100)
	c.store.Remove(checkpointKey(testLog))
	found = c.verify()
	if found["altered "+last] == nil || found["missing "+checkpointKey(testLog)] == nil || len(found) != 2 {
		t.Errorf("the last commit is bad: %v", found)
	}
}

// TestManyFaults: verification goes on after a finding.
func TestManyFaults(t *testing.T) {
	w := smallLog(t)
	all := 0
	_, whole := w.verifySum()
	w.store.Corrupt(CommitKey(testLog, 2), 50)
	w.store.Remove(CommitKey(testLog, 4))
	w.store.Corrupt("ledger/node-main/tile/0/001", 8000) // of commit 6
	w.store.Truncate("ledger/node-main/tile/0/001.p/11", 11*32-1)
	w.store.Truncate(checkpointKey(testLog), 100)
	want := []string{
		"altered " + CommitKey(testLog, 2), "missing " + CommitKey(testLog, 4), "altered ledger/node-main/tile/0/001",
		"altered ledger/node-main/tile/0/001.p/11", "altered " + checkpointKey(testLog),
	}
	found, sum := w.verifySum()
	for _, name := range want {
		if found[name] == nil {
			t.Errorf("no word of %s", name)
		}
	}
	if len(found) != len(want) {
		t.Errorf("found %v", found)
	}
	if sum.Commits != whole.Commits-2 || sum.Entries != whole.Entries-30-2 || sum.Head.Size != whole.Head.Size {
		t.Errorf("read %+v of %+v", sum, whole)
	}
	_, err := w.reader().Verify(t.Context(), func(c *Commit) error {
		all += len(c.Entries)
		return nil
	}, func(Finding) {})
	check(t, err)
	if uint64(all) != sum.Entries {
		t.Errorf("%d entries were handed over, of %d", all, sum.Entries)
	}
}

// TestMisplaced puts good objects in the places of others.
func TestMisplaced(t *testing.T) {
	w := smallLog(t)
	at := func(n uint64) string { return CommitKey(testLog, n) }
	c := w.copy()
	c.store.Overwrite(at(3), c.store.Bytes(at(4)))
	if found := c.verify(); len(found) != 1 || found["altered "+at(3)] == nil {
		t.Errorf("commit 4 in the place of 3: %v", found)
	}
	c = w.copy()
	c.store.Overwrite(at(9), c.store.Bytes(at(8)))
	if found := c.verify(); len(found) != 1 || found["altered "+at(9)] == nil {
		t.Errorf("commit 8 again as 9: %v", found)
	}
	// The same content in another frame is another object: what was written after it knows.
	c = w.copy()
	text, err := decodeObject(c.store.Bytes(at(3)))
	check(t, err)
	c.store.Overwrite(at(3), encodeObject(append(text[:len(text):len(text)], "— x AAAAAAAA\n"...)))
	if found := c.verify(); len(found) != 1 || found["altered "+at(3)] == nil {
		t.Errorf("another signature: %v", found)
	}
	// A header that nobody signed, with a chain that fits.
	c = w.copy()
	text, err = decodeObject(c.store.Bytes(at(8)))
	check(t, err)
	c.store.Overwrite(at(8), encodeObject(bytes.Replace(text, []byte(`"previous"`), []byte(`"pending":[[1,9]],"previous"`), 1)))
	if found := c.verify(); len(found) != 1 || found["altered "+at(8)] == nil {
		t.Errorf("another header: %v", found)
	}
	c = w.copy()
	c.store.Overwrite(checkpointKey(testLog), collect(t, w.reader().Commits(t.Context(), 0))[4].Checkpoint.Note)
	if found := c.verify(); len(found) != 1 || found["behind "+checkpointKey(testLog)] == nil {
		t.Errorf("an older checkpoint: %v", found)
	}
	c = w.copy()
	for _, key := range []string{"ledger/node-main/readme", "ledger/node-main/commit/1", "ledger/node-main/commit/~", "ledger/node-main/tile/0/0",
		"ledger/node-main/tile/9/000", "ledger/node-main/tile/entries/000", "ledger/node-main/commit-x", "ledger/node-main/tile/0/000.p/256",
		"ledger/node-main/checkpoint2"} {
		c.store.Overwrite(key, nil)
		if found := c.verify(); len(found) != 1 || found["unknown "+key] == nil {
			t.Errorf("%s: %v", key, found)
		}
		c.store.Remove(key)
	}
	// A bad object far ahead can't make it name all that is not between.
	c.store.Overwrite(at(maxCommit), nil)
	found := c.verify()
	if found["altered "+at(maxCommit)] == nil || found["missing "+at(9)] == nil || found["missing "+at(maxCommit-1)] == nil || len(found) > 20000 {
		t.Errorf("%d findings", len(found))
	}
}

// TestFork: two commits that one key has signed for one place, or that don't fit, are told.
func TestFork(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	w.append(l, 5)
	a := w.copy()
	check(t, l.Close(t.Context()))
	w.append(w.open(), 5)
	check(t, a.open().Close(t.Context()))
	b := a.open()
	a.append(b, 6)
	a.append(b, 1)
	check(t, b.Close(t.Context()))
	a.clean()
	a.store.Overwrite(CommitKey(testLog, 2), w.store.Bytes(CommitKey(testLog, 2)))
	if found := a.verify(); found["altered "+CommitKey(testLog, 2)] == nil {
		t.Errorf("found %v", found)
	}
	var last error
	for _, err := range a.reader().Commits(t.Context(), 0) {
		last = err
	}
	wantErr(t, last, ErrAltered)
}

// TestWrongKey: a log that somebody else signed throughout is not well.
func TestWrongKey(t *testing.T) {
	w := smallLog(t)
	w.verifier = newWorld(t).verifier
	found, sum := w.verifySum()
	if len(found) != 10 || sum.Commits != 0 {
		t.Errorf("%d commits are good; found %v", sum.Commits, found)
	}
}

// TestVerifyBesideWriter: a log that grows meanwhile is not taken for a bad one.
func TestVerifyBesideWriter(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done.Store(true)
		for i := range 60 {
			w.clock.advance(30 * time.Second)
			if _, err := l.Append(t.Context(), makeEntries(1+i%100, w.clock.Now()), nil); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for !done.Load() {
		for name, err := range w.verify0() {
			if !strings.HasPrefix(name, "behind ") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	wg.Wait()
	check(t, l.Close(t.Context()))
	w.clean()
}

// verify0 is verify without a look at what the store has open, which beside a writer says nothing.
func (w *world) verify0() map[string]error {
	found := map[string]error{}
	_, err := w.reader().Verify(w.t.Context(), func(*Commit) error { return nil }, func(f Finding) { found[string(f.Kind)+" "+f.Key] = f.Err })
	check(w.t, err)
	return found
}

// TestVerifyOrder: good commits come in order, with the entries as they were.
func TestVerifyOrder(t *testing.T) {
	w := smallLog(t)
	var raw [][]byte
	next := uint64(0)
	sum, err := w.reader().Verify(t.Context(), func(c *Commit) error {
		if c.Header.Commit != next {
			return fmt.Errorf("commit %d after %d", c.Header.Commit, next)
		}
		next++
		for _, e := range c.Entries {
			raw = append(raw, e.Raw)
		}
		return nil
	}, func(f Finding) { t.Error(f) })
	check(t, err)
	var want [][]byte
	var size int64
	for e, err := range w.reader().Entries(t.Context(), 0) {
		check(t, err)
		want = append(want, e.Raw)
	}
	if !reflect.DeepEqual(raw, want) || sum.Commits != 9 || sum.Entries != uint64(len(want)) {
		t.Errorf("%d entries, want %d; %+v", len(raw), len(want), sum)
	}
	for _, key := range w.store.Keys() {
		size += int64(len(w.store.Bytes(key)))
	}
	if sum.Bytes != size {
		t.Errorf("%d bytes read, of %d", sum.Bytes, size)
	}
	head, err := w.reader().Newest(t.Context())
	check(t, err)
	if !reflect.DeepEqual(head, sum.Head) || head.Size != uint64(len(want)) || head.Header == (record.Digest{}) {
		t.Errorf("head is %+v, want %+v", sum.Head, head)
	}
	if !slices.IsSorted(w.store.Keys()) {
		t.Error("keys are not in order")
	}
}
