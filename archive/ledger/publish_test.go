package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

func TestTwoWriters(t *testing.T) {
	w := newWorld(t)
	w.create()
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[uint64]string{} // by first entry
	writer := func(name string, rounds int) {
		for range rounds { // each is a process
			l, err := Open(t.Context(), w.config())
			if errors.Is(err, ErrLost) {
				continue
			} else if err != nil {
				t.Error(err)
				return
			}
			for i := range 50 {
				e := record.Entry{V: 1, Kind: record.KindMessage, Time: time.Unix(int64(i), 0).UTC(), Name: name}
				first, err := l.Append(t.Context(), []record.Entry{e}, nil)
				if err != nil {
					if !errors.Is(err, ErrLost) {
						t.Error(err)
					}
					// Nothing makes it write again.
					if _, err := l.Append(t.Context(), []record.Entry{e}, nil); !errors.Is(err, ErrLost) {
						t.Errorf("after ErrLost: %v", err)
					}
					break
				}
				mu.Lock()
				if other := won[first]; other != "" {
					t.Errorf("entry %d is %s's and %s's", first, other, name)
				}
				won[first] = name
				mu.Unlock()
			}
			if err := l.Close(t.Context()); err != nil && !errors.Is(err, ErrLost) {
				t.Error(err)
			}
		}
	}
	for i := range 4 {
		wg.Go(func() { writer(fmt.Sprint("writer ", i), 10) })
	}
	wg.Wait()
	check(t, w.open().Close(t.Context()))
	sum := w.clean()
	if sum.Entries != uint64(len(won)+1) {
		t.Errorf("%d entries, %d were won", sum.Entries, len(won))
	}
	for e, err := range w.reader().Entries(t.Context(), 1) {
		check(t, err)
		if won[e.N] != e.Entry.Name {
			t.Errorf("entry %d is %s's, %s was told so", e.N, e.Entry.Name, won[e.N])
		}
	}
}

// TestStaleWriter: one that has lost must not put an older checkpoint over a newer.
func TestStaleWriter(t *testing.T) {
	w := newWorld(t)
	stale := w.log()
	w.append(stale, 1)
	w.append(stale, 1) // not yet published
	l := w.open()
	w.append(l, 1)
	check(t, l.Close(t.Context()))
	wantErr(t, stale.Close(t.Context()), ErrLost)
	_, err := stale.Append(t.Context(), makeEntries(1, time.Now()), nil)
	wantErr(t, err, ErrLost)
	w.clean()
}

// TestPublish: full tiles at once, the rest once a minute, by the timer when nothing is appended, and at the end.
func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.config()
		c.Now = time.Now // of the bubble
		w.create()
		l, err := Open(t.Context(), c)
		check(t, err)
		published := func() uint64 {
			cp, err := OpenCheckpoint(w.store.Bytes(checkpointKey(testLog)), testArchive, testLog, w.verifier)
			check(t, err)
			return cp.Size
		}
		w.append(l, 9)
		if n := published(); n != 1 {
			t.Errorf("published %d entries within the minute", n)
		}
		w.append(l, 300)
		if n := published(); n != 1 || w.store.Bytes("ledger/node-main/tile/0/000") == nil {
			t.Errorf("published %d entries, and the full tile: %v", n, w.store.Keys())
		}
		if w.store.Bytes("ledger/node-main/tile/0/001.p/54") != nil {
			t.Error("a partial tile within the minute")
		}
		time.Sleep(time.Minute + time.Second) // the timer
		synctest.Wait()
		if n := published(); n != 310 || w.store.Bytes("ledger/node-main/tile/0/001.p/54") == nil {
			t.Errorf("published %d entries after a minute: %v", n, w.store.Keys())
		}
		time.Sleep(10 * time.Minute)
		w.append(l, 1) // due at once
		if n := published(); n != 311 {
			t.Errorf("published %d entries", n)
		}
		w.append(l, 1)
		check(t, l.Close(t.Context()))
		if n := published(); n != 312 {
			t.Errorf("published %d entries by Close", n)
		}
		check(t, l.Close(t.Context()))
		_, err = l.Append(t.Context(), makeEntries(1, time.Now()), nil)
		wantErr(t, err, ErrClosed)
		w.clean()
		versions, err := w.store.Versions(t.Context(), checkpointKey(testLog))
		check(t, err)
		if len(versions) != 4 {
			t.Errorf("%d versions of the checkpoint", len(versions))
		}
	})
}

// TestPublishFails: what is derived can't stop the log, and is made good when the store works again.
func TestPublishFails(t *testing.T) {
	w := newWorld(t)
	w.create()
	w.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
		if !strings.Contains(key, "/commit/") && (op == objecttest.OpCreate || op == objecttest.OpReplace) {
			return objecttest.Fault{Before: objecttest.ErrFault}
		}
		return objecttest.Fault{}
	})
	l := w.open()
	w.append(l, 300)
	w.append(l, 300)
	if keys := w.store.Keys(); len(keys) != 3 {
		t.Fatalf("%v", keys)
	}
	proof, err := l.Proof(t.Context(), 5) // without any tile
	check(t, err)
	_, _, err = CheckProof(proof, testArchive, testLog, w.verifier)
	check(t, err)
	w.store.SetFault(nil)
	w.append(l, 1) // full tiles at once, the rest in a minute
	if w.store.Bytes("ledger/node-main/tile/0/000") == nil || w.store.Bytes(checkpointKey(testLog)) != nil {
		t.Errorf("%v", w.store.Keys())
	}
	w.clock.advance(time.Minute)
	w.append(l, 1)
	w.clean()
}

// TestBadDerived: a log opens and goes on whatever has become of what is derived.
func TestBadDerived(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	for range 3 {
		w.append(l, 300)
	}
	check(t, l.Close(t.Context()))
	for _, key := range w.store.Keys() {
		if strings.Contains(key, "/commit/") {
			continue
		}
		for name, harm := range map[string]func(*world){
			"flip":     func(c *world) { c.store.Corrupt(key, 20) },
			"remove":   func(c *world) { c.store.Remove(key) },
			"truncate": func(c *world) { c.store.Truncate(key, 17) },
			"empty":    func(c *world) { c.store.Truncate(key, 0) },
			"enlarge":  func(c *world) { c.store.Overwrite(key, make([]byte, 1<<20)) },
		} {
			c := w.copy()
			harm(c)
			l, err := Open(t.Context(), c.config())
			if err != nil {
				t.Fatalf("%s %s: %v", name, key, err)
			}
			c.append(l, 10)
			if got, want := l.Head().Size, uint64(911); got != want {
				t.Errorf("%s %s: %d entries", name, key, got)
			}
			var tree naive
			for e, err := range l.Entries(t.Context(), 0) {
				check(t, err)
				tree.add(t, e.N, e.Raw)
			}
			if tree.root(t, 911) != l.Head().Root {
				t.Errorf("%s %s: wrong root", name, key)
			}
			check(t, l.Close(t.Context()))
		}
	}
}

// TestFolder: a log in a folder, as most will be.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	store, err := object.MakeFile(dir)
	check(t, err)
	defer store.Close()
	w := newWorld(t)
	c := w.config()
	c.Store, c.Publisher = store, store
	check(t, Create(t.Context(), store, w.signer, w.init(), object.Lock{}, w.clock.Now()))
	for _, n := range []int{1, 300, 5} {
		l, err := Open(t.Context(), c)
		check(t, err)
		w.append(l, n)
		w.clock.advance(time.Minute)
		w.append(l, n)
		check(t, l.Close(t.Context()))
	}
	r, err := NewReader(c)
	check(t, err)
	sum, err := r.Verify(t.Context(), func(*Commit) error { return nil }, func(f Finding) { t.Error(f) })
	check(t, err)
	if sum.Commits != 7 || sum.Entries != 613 {
		t.Errorf("%d commits, %d entries", sum.Commits, sum.Entries)
	}
	for n := uint64(0); n < 613; n += 17 {
		text, err := r.Proof(t.Context(), n)
		check(t, err)
		_, _, err = CheckProof(text, testArchive, testLog, w.verifier)
		check(t, err)
	}
	check(t, os.Remove(filepath.Join(dir, filepath.FromSlash(CommitKey(testLog, 2)))))
	var found []Finding
	_, err = r.Verify(t.Context(), func(*Commit) error { return nil }, func(f Finding) { found = append(found, f) })
	check(t, err)
	if len(found) != 1 || found[0].Kind != Missing || found[0].Key != CommitKey(testLog, 2) {
		t.Errorf("found %v", found)
	}
}
