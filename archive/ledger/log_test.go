package ledger

import (
	mathrand "math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

func TestCreate(t *testing.T) {
	w := newWorld(t)
	_, err := Open(t.Context(), w.config())
	wantErr(t, err, ErrNoLog)
	_, err = w.reader().Newest(t.Context())
	wantErr(t, err, ErrNoLog)
	_, err = w.reader().Init(t.Context())
	wantErr(t, err, ErrNoLog)
	_, err = w.reader().Verify(t.Context(), nil, nil)
	wantErr(t, err, ErrNoLog)
	if keys := w.store.Keys(); len(keys) != 0 {
		t.Fatalf("opening what is not there has made %v", keys)
	}

	w.create()
	if keys := w.store.Keys(); !slices.Equal(keys, []string{CommitKey(testLog, 0)}) {
		t.Errorf("Create has made %v", keys)
	}
	if found := w.verify(); len(found) != 1 || found["behind ledger/node-main/checkpoint"] == nil {
		t.Errorf("a new log: %v", found)
	}
	w.clock.advance(time.Second)
	err = Create(t.Context(), w.store, w.signer, w.init(), object.Lock{}, w.clock.Now())
	wantErr(t, err, ErrExists)

	init, err := w.reader().Init(t.Context())
	check(t, err)
	if !reflect.DeepEqual(init, w.init()) {
		t.Errorf("init is %+v", init)
	}
	l := w.open()
	if h := l.Head(); h.Size != 1 || h.Commit != 0 || h.Archive != testArchive || h.Log != testLog ||
		!h.Time.Equal(w.clock.Now().Add(-time.Second).Truncate(time.Millisecond)) {
		t.Errorf("head is %+v", h)
	}
	w.clean()

	// Commit 0 alone may be gone: that is no reason to make a second log in its place.
	w.store.Remove(CommitKey(testLog, 0))
	err = Create(t.Context(), w.store, w.signer, w.init(), object.Lock{}, w.clock.Now())
	wantErr(t, err, ErrExists)
	_, err = w.reader().Init(t.Context())
	wantErr(t, err, ErrMissing)
}

func TestCreateRefuses(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t)
	for name, change := range map[string]func(*record.Init){
		"log name":   func(i *record.Init) { i.Log = "Node Main" },
		"no log":     func(i *record.Init) { i.Log = "" },
		"archive":    func(i *record.Init) { i.Archive = "abc" },
		"no archive": func(i *record.Init) { i.Archive = "" },
		"key":        func(i *record.Init) { i.Key = "holdfast" },
		"other key":  func(i *record.Init) { i.Key = other.vkey },
	} {
		init := w.init()
		change(&init)
		if err := Create(t.Context(), w.store, w.signer, init, object.Lock{}, time.Now()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if keys := w.store.Keys(); len(keys) != 0 {
		t.Errorf("it has made %v", keys)
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	w.append(w.log(), 3)

	other := newWorld(t)
	c := w.config()
	c.Signer, c.Verifier = other.signer, other.verifier
	_, err := Open(t.Context(), c)
	wantErr(t, err, ErrKey)
	for _, id := range []string{KeyID(w.signer), KeyID(other.signer)} {
		if !strings.Contains(err.Error(), id) {
			t.Errorf("%q does not name %s", err, id)
		}
	}
	c = w.config()
	c.Archive = strings.Repeat("f", 32)
	_, err = Open(t.Context(), c)
	wantErr(t, err, ErrForeign)
	for _, id := range []string{c.Archive, testArchive} {
		if !strings.Contains(err.Error(), id) {
			t.Errorf("%q does not name %s", err, id)
		}
	}
	c = w.config()
	c.Signer = other.signer
	_, err = Open(t.Context(), c)
	wantErr(t, err, ErrKey)

	// The archive's id need not be known.
	c = w.config()
	c.Archive = ""
	l, err := Open(t.Context(), c)
	check(t, err)
	w.append(l, 1)
	check(t, l.Close(t.Context()))
	w.clean()
}

// TestOpenGap: a writer that went on before a gap would write a commit anew.
func TestOpenGap(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	for range 20 {
		w.append(l, 2)
	}
	check(t, l.Close(t.Context()))
	for n := range uint64(20) { // the checkpoint is of commit 20
		for _, checkpoint := range []bool{true, false} {
			c := w.copy()
			c.store.Remove(CommitKey(testLog, n))
			if !checkpoint {
				c.store.Remove(checkpointKey(testLog))
			}
			_, err := Open(t.Context(), c.config())
			if checkpoint && err == nil {
				continue // the newest commit and the tiles are all that it needs
			}
			wantErr(t, err, ErrMissing)
			if !strings.Contains(err.Error(), CommitKey(testLog, n)) {
				t.Errorf("%q does not name commit %d", err, n)
			}
		}
	}
	c := w.copy()
	c.store.Remove(CommitKey(testLog, 20))
	_, err := Open(t.Context(), c.config())
	wantErr(t, err, ErrMissing)
}

// TestEntriesInEntriesOut appends random batches, opening the log anew at random, and compares what is read and what is signed with a tree
// that was computed without any of this package.
func TestEntriesInEntriesOut(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	w := newWorld(t)
	l := w.log()
	var all []record.Entry
	var tree naive
	first, err := MarshalEntry(record.Entry{V: 1, Kind: record.KindInit, Time: w.clock.Now(), Init: ptr(w.init())})
	check(t, err)
	tree.add(t, 0, first)
	for range 60 {
		n := 1 + rng.IntN(20)
		if rng.IntN(10) == 0 {
			n = 1 + rng.IntN(700)
		}
		for _, e := range w.append(l, n) {
			line, err := MarshalEntry(e)
			check(t, err)
			all = append(all, e)
			tree.add(t, uint64(len(all)), line)
		}
		h := l.Head()
		if h.Size != uint64(len(all)+1) || h.Root != tree.root(t, h.Size) {
			t.Fatalf("head is %d %v, want %d %v", h.Size, h.Root, len(all)+1, tree.root(t, uint64(len(all)+1)))
		}
		w.clock.advance(time.Duration(rng.IntN(40)) * time.Second)
		switch rng.IntN(8) {
		case 0:
			check(t, l.Close(t.Context()))
			l = w.open()
		case 1: // as after a crash
			l = w.open()
		}
	}
	check(t, l.Close(t.Context()))
	w.clean()
	got := collect(t, w.reader().Entries(t.Context(), 1))
	if len(got) != len(all) {
		t.Fatalf("%d entries of %d", len(got), len(all))
	}
	for i, e := range got {
		if e.N != uint64(i+1) || !reflect.DeepEqual(e.Entry, all[i]) {
			t.Fatalf("entry %d: %+v came back as %+v, number %d", i+1, all[i], e.Entry, e.N)
		}
	}
	r := w.reader()
	for range 100 {
		from := rng.Uint64N(uint64(len(all) + 3))
		next := from
		for e, err := range r.Entries(t.Context(), from) {
			check(t, err)
			if e.N != next {
				t.Fatalf("entry %d after %d", e.N, next)
			}
			if next++; rng.IntN(50) == 0 {
				next = uint64(len(all) + 1)
				break
			}
		}
		if next != max(from, uint64(len(all)+1)) {
			t.Fatalf("entries from %d end at %d", from, next)
		}
		e, err := r.Entry(t.Context(), from)
		if from > uint64(len(all)) {
			wantErr(t, err, ErrRange)
		} else if check(t, err); e.N != from || from > 0 && e.Entry.ID != all[from-1].ID {
			t.Fatalf("entry %d is %+v", from, e)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestCommitHeaders(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	batch := makeEntries(3, w.clock.Now()) // sequences 123456 to 123458
	_, err := l.Append(t.Context(), batch, [][2]uint64{{123456, 123460}, {7, 7}})
	check(t, err)
	w.clock.advance(-time.Hour) // a clock may be set back
	w.append(l, 1)
	commits := collect(t, w.reader().Commits(t.Context(), 0))
	if len(commits) != 3 {
		t.Fatalf("%d commits", len(commits))
	}
	if p := commits[1].Header.Pending; !reflect.DeepEqual(p, [][2]uint64{{7, 7}, {123459, 123460}}) {
		t.Errorf("pending is %v", p)
	}
	for i, c := range commits {
		if c.Header.Commit != uint64(i) || c.Key != CommitKey(testLog, uint64(i)) || c.SHA256 != record.Sum(w.store.Bytes(c.Key)) {
			t.Errorf("commit %d is %+v", i, c.Header)
		}
		if i > 0 && (c.Header.Previous != commits[i-1].SHA256 || c.Header.First != commits[i-1].Checkpoint.Size) {
			t.Errorf("commit %d does not follow: %+v", i, c.Header)
		}
	}
	check(t, l.Close(t.Context()))
	w.clean()
	if got := collect(t, w.reader().Commits(t.Context(), 2)); len(got) != 2 || got[0].Header.Commit != 1 {
		t.Errorf("commits from entry 2: %d, the first is %d", len(got), got[0].Header.Commit)
	}
	if got := collect(t, w.reader().Commits(t.Context(), 5)); len(got) != 0 {
		t.Errorf("%d commits from the end on", len(got))
	}
}

// TestFollow: a follower reads what is new, each entry once.
func TestFollow(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	r := w.reader()
	next := uint64(0)
	opens := 0
	for range 40 {
		w.append(l, 3)
		w.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
			if op == objecttest.OpOpen && strings.Contains(key, "/commit/") {
				opens++
			}
			return objecttest.Fault{}
		})
		for e, err := range r.Entries(t.Context(), next) {
			check(t, err)
			if e.N != next {
				t.Fatalf("entry %d after %d", e.N, next)
			}
			next++
		}
		w.store.SetFault(nil)
	}
	if next != 121 || opens != 41 {
		t.Errorf("%d entries by reading %d commits, want 121 by 41", next, opens)
	}
}
