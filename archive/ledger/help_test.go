package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

const (
	testArchive = "0123456789abcdef0123456789abcdef"
	testLog     = "node-main"
)

// world is a store, a key and a clock.
type world struct {
	t        testing.TB
	store    *objecttest.Memory
	signer   note.Signer
	verifier note.Verifier
	vkey     string
	clock    clock
}

// clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: &objecttest.Memory{}}
	w.clock.now = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)
	skey, vkey, err := GenerateKey(testArchive)
	check(t, err)
	w.signer, err = note.NewSigner(skey)
	check(t, err)
	w.verifier, err = note.NewVerifier(vkey)
	check(t, err)
	w.vkey = vkey
	return w
}

func (w *world) config() Config {
	return Config{
		Store: w.store, Publisher: w.store, Log: testLog, Archive: testArchive, Signer: w.signer, Verifier: w.verifier, Now: w.clock.Now,
	}
}

func (w *world) init() record.Init {
	return record.Init{Archive: testArchive, Log: testLog, Key: w.vkey, Software: "test"}
}

func (w *world) create() {
	w.t.Helper()
	check(w.t, Create(w.t.Context(), w.store, w.signer, w.init(), object.Lock{}, w.clock.Now()))
}

func (w *world) open() *Log {
	w.t.Helper()
	l, err := Open(w.t.Context(), w.config())
	check(w.t, err)
	w.t.Cleanup(func() { l.Close(context.Background()) })
	return l
}

// log is a new log, open.
func (w *world) log() *Log {
	w.t.Helper()
	w.create()
	return w.open()
}

func (w *world) reader() *Reader {
	w.t.Helper()
	r, err := NewReader(Config{Store: w.store, Log: testLog, Archive: testArchive, Verifier: w.verifier})
	check(w.t, err)
	return r
}

// append appends a batch of n entries and gives them.
func (w *world) append(l *Log, n int) []record.Entry {
	w.t.Helper()
	entries := makeEntries(n, w.clock.Now())
	size := l.Head().Size
	first, err := l.Append(w.t.Context(), entries, nil)
	check(w.t, err)
	if first != size {
		w.t.Fatalf("first is %d, the log had %d entries", first, size)
	}
	return entries
}

// verify gives the findings as "kind key", each once.
func (w *world) verify() map[string]error {
	w.t.Helper()
	found, _ := w.verifySum()
	return found
}

func (w *world) verifySum() (map[string]error, Summary) {
	w.t.Helper()
	found := map[string]error{}
	sum, err := w.reader().Verify(w.t.Context(), func(*Commit) error { return nil }, func(f Finding) {
		name := string(f.Kind) + " " + f.Key
		if found[name] != nil {
			w.t.Errorf("%s is reported twice: %v and %v", name, found[name], f.Err)
		}
		if f.Err == nil {
			w.t.Errorf("%s without a word", name)
		}
		found[name] = f.Err
	})
	check(w.t, err)
	if n := w.store.Unclosed(); n != 0 {
		w.t.Errorf("%d readers were not closed", n)
	}
	return found, sum
}

// clean fails unless verification finds nothing at all.
func (w *world) clean() Summary {
	w.t.Helper()
	found, sum := w.verifySum()
	for name, err := range found {
		w.t.Errorf("%s: %v", name, err)
	}
	return sum
}

// copy is a world of its own with the same key and objects.
func (w *world) copy() *world {
	c := &world{t: w.t, store: &objecttest.Memory{}, signer: w.signer, verifier: w.verifier, vkey: w.vkey}
	c.clock.now = w.clock.Now()
	for _, key := range w.store.Keys() {
		c.store.Overwrite(key, w.store.Bytes(key))
	}
	return c
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// makeEntries makes entries as an archive makes them: one pack, frames of some 25 messages, a tenth of them with a late supplement.
func makeEntries(n int, at time.Time) []record.Entry {
	var sum record.Digest
	rand.Read(sum[:])
	pack := fmt.Sprintf("packs/2033-12/%s/main-%d-%.16s.tar.zst.age", at.Format("2006/01/02"), 123456, sum.String())
	entries := make([]record.Entry, 0, n)
	frame, length, seq := int64(0), int64(200_000), uint64(123456)
	for i := range n {
		at = at.Add(time.Duration(mathrand.IntN(40_000_000)) * time.Nanosecond)
		e := record.Entry{
			V: record.Version, Kind: record.KindMessage, Time: at.UTC(), ID: record.NewID(at), Seq: seq, Pack: pack, PackSHA256: sum,
			Frame: frame, Length: length,
		}
		rand.Read(e.Seal[:])
		if i%10 == 9 {
			e.Kind, e.Name, e.Seq = record.KindSupplement, "delivery-1", 0
		} else {
			seq++
		}
		if i%25 == 24 {
			frame += length
			length = int64(150_000 + mathrand.IntN(150_000))
		}
		entries = append(entries, e)
	}
	return entries
}

// collect gives all that a sequence yields.
func collect[T any](t testing.TB, seq iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for v, err := range seq {
		check(t, err)
		all = append(all, v)
	}
	return all
}

// naive computes a tree from nothing but its leaves, all hashes stored.
type naive struct{ stored []tlog.Hash }

func (n *naive) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		hashes[i] = n.stored[x]
	}
	return hashes, nil
}

func (n *naive) add(t testing.TB, number uint64, leaf []byte) {
	t.Helper()
	hashes, err := tlog.StoredHashes(int64(number), leaf, n)
	check(t, err)
	n.stored = append(n.stored, hashes...)
}

func (n *naive) root(t testing.TB, size uint64) tlog.Hash {
	t.Helper()
	root, err := tlog.TreeHash(int64(size), n)
	check(t, err)
	return root
}
