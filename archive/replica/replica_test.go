package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/archive/replica"
)

// A child process copies between two folders, until it is killed.
func TestMain(m *testing.M) {
	if from := os.Getenv("REPLICA_FROM"); from != "" {
		if err := child(from, os.Getenv("REPLICA_TO"), os.Getenv("REPLICA_KEYS")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(from, to, dir string) error {
	a, err := object.OpenFile(from)
	if err != nil {
		return err
	}
	b, err := object.OpenFile(to)
	if err != nil {
		return err
	}
	keys, err := archive.LoadKeys(dir)
	if err != nil {
		return err
	}
	init, err := archive.Identify(context.Background(), a, keys)
	if err != nil {
		return err
	}
	_, err = replica.New(options(a, b, init.Archive, keys)).Sync(context.Background())
	return err
}

func options(a, b replica.Store, id string, keys *archive.Keys) replica.Options {
	return replica.Options{
		Config: replica.Config{Every: 10 * time.Millisecond}, Store: a, Open: func(context.Context) (replica.Store, error) { return b, nil },
		Archive: id, Verifier: keys.LedgerVerifier(), Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
}

// world is an archive and a second copy, whose packs are any bytes: nobody looks into them.
type world struct {
	t     *testing.T
	dir   string
	store archive.Store
	to    archive.Store
	keys  *archive.Keys
	id    string
	seq   uint64
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func newWorld(t *testing.T, store, to archive.Store) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), store: store, to: to}
	init, keys, err := archive.Create(t.Context(), archive.InitOptions{
		Config: archive.Config{Node: "main"}, Store: store, KeysDir: filepath.Join(w.dir, "keys"), Software: "test", Now: time.Now(),
	})
	w.check(err)
	w.keys, w.id = keys, init.Archive
	return w
}

func folder(t *testing.T, name string) *object.File {
	t.Helper()
	f, err := object.MakeFile(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (w *world) append(entries ...record.Entry) {
	w.t.Helper()
	l, err := ledger.Open(w.t.Context(), ledger.Config{Store: w.store, Publisher: w.store, Log: "node-main", Archive: w.id, Signer: w.keys.Signer, Verifier: w.keys.LedgerVerifier()})
	w.check(err)
	_, err = l.Append(w.t.Context(), entries, nil)
	w.check(err)
	w.check(l.Close(w.t.Context()))
}

// grow appends commits of two packs, of two entries each, and gives the packs.
func (w *world) grow(commits int) (packs []record.Entry) {
	w.t.Helper()
	for range commits {
		var entries []record.Entry
		for range 2 {
			body := fmt.Append(nil, "pack ", w.seq)
			sum := record.Sum(body)
			key := fmt.Sprintf("packs/2031-01/2024/01/01/main-%d-%s.tar.zst", w.seq+1, sum.String()[:16])
			w.put(w.store, key, body)
			for range 2 {
				w.seq++
				entries = append(entries, record.Entry{V: 1, Kind: record.KindMessage, Time: time.Now().UTC(), ID: record.NewID(time.Now()), Seq: w.seq, Seal: sum, Pack: key, PackSHA256: sum, Length: 1})
			}
			packs = append(packs, entries[len(entries)-1])
		}
		w.append(entries...)
	}
	return packs
}

func (w *world) put(s archive.Store, key string, body []byte) {
	w.t.Helper()
	_, err := s.Create(w.t.Context(), key, bytes.NewReader(body), object.Lock{})
	w.check(err)
}

func (w *world) replicator() *replica.Replicator {
	return replica.New(options(w.store, w.to, w.id, w.keys))
}

func (w *world) sync() *replica.Report {
	w.t.Helper()
	r, err := w.replicator().Sync(w.t.Context())
	w.check(err)
	if !r.OK {
		w.t.Errorf("faults: %+v", r.Faults)
	}
	return r
}

// well checks that a copy is an archive with so many entries in the node's log and that of acts; 0: with any, and packs on their way.
func (w *world) well(s archive.Store, entries uint64) {
	w.t.Helper()
	r, err := archive.Verify(w.t.Context(), archive.VerifyOptions{Store: s, Keys: w.keys})
	w.check(err)
	if !r.OK || entries > 0 && (r.Entries != entries || len(r.Orphans) > 0) {
		w.t.Errorf("verify: %+v", r)
	}
}

func list(t *testing.T, s object.Store) (keys []string) {
	t.Helper()
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func read(t *testing.T, s object.Store, key string) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func same(t *testing.T, a, b object.Store) {
	t.Helper()
	keys := list(t, a)
	if !slices.Equal(keys, list(t, b)) {
		t.Errorf("the archive has %q,\nthe second copy %q", keys, list(t, b))
		return
	}
	for _, key := range keys {
		if !bytes.Equal(read(t, a, key), read(t, b, key)) {
			t.Errorf("%s differs", key)
		}
	}
}

// over runs a test with the second copy in each kind of store.
func over(t *testing.T, test func(t *testing.T, to archive.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, &objecttest.Memory{}) })
	t.Run("file", func(t *testing.T) { test(t, folder(t, "to")) })
	t.Run("s3", func(t *testing.T) {
		to, err := object.Open(t.Context(), objecttest.StartS3(t).URL, object.Options{})
		if err != nil {
			t.Fatal(err)
		}
		test(t, to)
	})
}

// What is new is copied, and nothing twice; the copy is the same, byte for byte, and verifies.
func TestSync(t *testing.T) {
	over(t, func(t *testing.T, to archive.Store) {
		w := newWorld(t, folder(t, "from"), to)
		w.grow(3)
		w.put(w.store, "anchors/x/main/2026/01/01/1.json", []byte("anchor"))
		w.check(w.store.Replace(t.Context(), "state/users.age", []byte("secret")))
		if r := w.sync(); r.Packs != 6 || r.Commits != 5 {
			t.Errorf("%+v", r)
		}
		same(t, w.store, w.to)
		w.well(to, 14)
		if r := w.sync(); r.Packs+r.Commits+r.Others > 0 {
			t.Errorf("nothing was new: %+v", r)
		}
		w.grow(2)
		w.check(w.store.Replace(t.Context(), "state/users.age", []byte("secret 2")))
		if r := w.sync(); r.Packs != 4 || r.Commits != 2 {
			t.Errorf("%+v", r)
		}
		same(t, w.store, w.to)
		w.well(to, 22)
	})
}

// Cut off at any call, the second copy is an archive that verifies, and the next Sync goes on.
func TestCutOffAnywhere(t *testing.T) {
	w := newWorld(t, folder(t, "from"), nil)
	w.grow(3)
	step := int64(1)
	if testing.Short() {
		step = 5
	}
	for n := int64(1); n < 1000; n += step {
		to := &objecttest.Memory{}
		w.to = to
		var calls atomic.Int64
		to.SetFault(func(objecttest.Op, string) objecttest.Fault {
			switch {
			case calls.Add(1) < n:
				return objecttest.Fault{}
			case n%2 == 0:
				return objecttest.Fault{After: objecttest.ErrFault}
			}
			return objecttest.Fault{Before: objecttest.ErrFault}
		})
		_, err := w.replicator().Sync(t.Context())
		to.SetFault(nil)
		if _, serr := to.Stat(t.Context(), ledger.CommitKey("acts", 0)); serr == nil {
			w.well(to, 0)
		}
		if err == nil {
			return
		}
		w.sync()
		same(t, w.store, to)
	}
	t.Error("it never ends")
}

// Twenty kills (six in a short test), and the second copy is what one is that was never interrupted.
func TestKilled(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	a, err := object.MakeFile(from)
	if err != nil {
		t.Fatal(err)
	}
	b, err := object.MakeFile(to)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, a, b)
	w.grow(40)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	kills, rounds := 0, 20
	if testing.Short() {
		rounds = 6
	}
	for range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "REPLICA_FROM="+from, "REPLICA_TO="+to, "REPLICA_KEYS="+filepath.Join(w.dir, "keys"))
		w.check(cmd.Start())
		timer := time.AfterFunc(time.Duration(random.IntN(120))*time.Millisecond, func() { cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			kills++
		}
		timer.Stop()
		if _, err := b.Stat(t.Context(), ledger.CommitKey("acts", 0)); err == nil {
			w.well(b, 0)
		}
	}
	t.Logf("%d kills", kills)
	w.sync()
	same(t, a, b)
	w.well(b, 2+160)
}

// What a tombstone names does not come back, neither by copying nor by repair; a second copy of another history is refused.
func TestWhatIsGoneStaysGone(t *testing.T) {
	from, to := folder(t, "from"), folder(t, "to")
	w := newWorld(t, from, to)
	packs := w.grow(3)
	w.sync()
	gone := packs[2]
	w.append(record.Entry{V: 1, Kind: record.KindDestroyed, Time: time.Now().UTC(), ID: record.NewID(time.Now()), By: "schedule",
		Gone: &record.Gone{Pack: gone.Pack, PackSHA256: gone.PackSHA256, First: 5, Last: 6, Destroyed: 2}})
	w.remove(from, gone.Pack)
	r, err := w.replicator().Repair(t.Context(), replica.Powers{Mend: from, MendTo: to})
	if err != nil || len(r.Repaired) > 0 || !r.OK {
		t.Errorf("repair: %+v, %v", r, err)
	}
	if _, err := from.Stat(t.Context(), gone.Pack); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("it has come back: %v", err)
	}
	w.remove(to, gone.Pack)
	w.sync()
	for range 2 {
		if r, err := w.replicator().Repair(t.Context(), replica.Powers{Mend: from, MendTo: to}); err != nil || len(r.Repaired) > 0 {
			t.Errorf("repair: %+v, %v", r, err)
		}
	}
	same(t, from, to)

	other := newWorld(t, folder(t, "other"), to)
	other.grow(1)
	if _, err := other.replicator().Sync(t.Context()); !errors.Is(err, replica.ErrOther) {
		t.Errorf("another archive: %v", err)
	}
}

// remove takes an object away, as whoever may write to the folder can.
func (w *world) remove(f *object.File, key string) {
	w.t.Helper()
	w.check(os.Remove(filepath.Join(f.Dir(), filepath.FromSlash(key))))
}

func (w *world) damage(f *object.File, key string) {
	w.t.Helper()
	path := filepath.Join(f.Dir(), filepath.FromSlash(key))
	text, err := os.ReadFile(path)
	w.check(err)
	text[len(text)/2] ^= 4
	w.check(os.Chmod(path, 0o600))
	w.check(os.WriteFile(path, text, 0o600))
}

// Each object, altered or taken away in either copy, is put right from the other, and nothing else is touched.
func TestRepairOfEachObject(t *testing.T) {
	from, to := folder(t, "from"), folder(t, "to")
	w := newWorld(t, from, to)
	w.grow(3)
	w.sync()
	powers := replica.Powers{Mend: from, MendTo: to, Tail: true}
	whole := list(t, from)
	for i, key := range whole {
		if testing.Short() && i%3 != 0 && !strings.HasSuffix(key, "checkpoint") {
			continue
		}
		for _, f := range []*object.File{from, to} {
			for _, harm := range []func(*object.File, string){w.damage, w.remove} {
				harm(f, key)
				r, err := w.replicator().Repair(t.Context(), powers)
				if err != nil || !r.OK {
					t.Fatalf("%s: %+v, %v", key, r, err)
				}
				if len(r.Repaired) != 1 {
					t.Errorf("%s: repaired %+v", key, r.Repaired)
				}
				same(t, from, to)
			}
		}
	}
	w.well(from, 14)
	w.well(to, 14)

	// In both: it can't be mended, is named, and stops nothing else.
	pack := whole[len(whole)-1]
	w.damage(from, pack)
	w.damage(to, pack)
	w.remove(from, whole[len(whole)-2])
	r, err := w.replicator().Repair(t.Context(), powers)
	if err != nil || r.OK || len(r.Faults) != 1 || r.Faults[0].Key != pack || len(r.Repaired) != 1 {
		t.Errorf("damaged in both: %+v, %v", r, err)
	}
}

// The end of the ledger comes back where nobody writes, and the whole archive into an empty store.
func TestRepairOfWhatIsLost(t *testing.T) {
	from, to := folder(t, "from"), folder(t, "to")
	w := newWorld(t, from, to)
	w.grow(3)
	w.sync()
	last := ledger.CommitKey("node-main", 3)
	w.remove(from, last)
	w.remove(from, "ledger/node-main/checkpoint")
	w.remove(from, "ledger/node-main/tile/0/000.p/13")
	r, err := w.replicator().Repair(t.Context(), replica.Powers{Mend: from, MendTo: to})
	if err != nil || r.OK || len(r.Faults) != 1 || r.Faults[0].Key != last {
		t.Errorf("while a server may write: %+v, %v", r, err)
	}
	if r, err = w.replicator().Repair(t.Context(), replica.Powers{Mend: from, MendTo: to, Tail: true}); err != nil || !r.OK {
		t.Errorf("%+v, %v", r, err)
	}
	same(t, from, to)

	w.put(w.store, "anchors/x/main/2026/01/01/1.json", []byte("anchor"))
	w.sync()
	empty := folder(t, "empty")
	w.store = empty
	if r, err = w.replicator().Repair(t.Context(), replica.Powers{Mend: empty, MendTo: to, Tail: true}); err != nil || !r.OK {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := w.replicator().Repair(t.Context(), replica.Powers{Mend: empty, MendTo: to, Tail: true}); err != nil {
		t.Error(err)
	}
	same(t, empty, to)
	w.well(empty, 14)
}

// From a folder to a locked bucket and back: what is damaged there gets a version above it, as long locked.
func TestRepairInALockedBucket(t *testing.T) {
	b := objecttest.StartLockedS3(t)
	to, err := object.Open(t.Context(), b.URL, object.Options{Lock: object.LockGovernance})
	if err != nil {
		t.Fatal(err)
	}
	mend, err := object.OpenMender(t.Context(), b.URL, object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	from := folder(t, "from")
	w := newWorld(t, from, to)
	packs := w.grow(2)
	o := options(from, to, w.id, w.keys)
	o.Config.ObjectLock = "governance"
	copier := replica.New(o)
	if r, err := copier.Sync(t.Context()); err != nil || !r.OK {
		t.Fatalf("%+v, %v", r, err)
	}
	versions, err := to.Versions(t.Context(), packs[0].Pack)
	if err != nil || len(versions) != 1 {
		t.Fatalf("%+v, %v", versions, err)
	}
	info, err := to.Stat(t.Context(), packs[0].Pack)
	if want := time.Date(2031, 2, 1, 0, 0, 0, 0, time.UTC); err != nil || info.Lock.Mode != object.LockGovernance || !info.Lock.Until.Equal(want) {
		t.Errorf("locked %+v, want until %s, %v", info.Lock, want, err)
	}
	good := read(t, to, packs[0].Pack)
	w.check(mend.Mend(t.Context(), packs[0].Pack, strings.NewReader("damaged"), record.Sum([]byte("damaged")), object.Lock{}))
	w.remove(from, packs[1].Pack)
	r, err := copier.Repair(t.Context(), replica.Powers{Mend: from, MendTo: mend})
	if err != nil || !r.OK || len(r.Repaired) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if got := read(t, to, packs[0].Pack); !bytes.Equal(got, good) {
		t.Errorf("it reads %q", got)
	}
	if info, err := to.Stat(t.Context(), packs[0].Pack); err != nil || info.Lock.Until.Before(time.Now()) {
		t.Errorf("the new version is locked %+v, %v", info.Lock, err)
	}
	same(t, from, to)
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		replica.Config
		says string
	}{
		{replica.Config{Every: time.Second}, ""},
		{replica.Config{Every: time.Second, Store: "file:x"}, ""},
		{replica.Config{Every: 0}, "replica.every"},
		{replica.Config{Every: time.Second, Store: "x"}, "replica.store"},
		{replica.Config{Every: time.Second, Store: "file:x", ObjectLock: "compliance"}, "a folder can't lock"},
		{replica.Config{Every: time.Second, Store: "s3://bucket", ObjectLock: "maybe"}, "replica.object_lock"},
	} {
		if err := c.Validate(); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.Config, err)
		}
	}
}
