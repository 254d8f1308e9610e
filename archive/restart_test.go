package archive_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// sealOnly archives up to the first call of a kind on the store, which fails, as does all that follows: packs stay sealed on the disk.
func (b *bench) sealOnly(prefix string) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	var mu sync.Mutex
	down := false
	b.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if down = down || op == objecttest.OpCreate && strings.HasPrefix(key, prefix); !down {
			return objecttest.Fault{}
		}
		time.AfterFunc(200*time.Millisecond, cancel) // the sealer goes on
		return objecttest.Fault{Before: objecttest.ErrFault}
	})
	defer b.store.SetFault(nil)
	if !b.runOnce(ctx) {
		b.t.Fatal("it did not stop")
	}
}

// local gives the files of packs on their way.
func (b *bench) local(suffix string) []string {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "data", "packs", "*"+suffix))
	if err != nil {
		b.t.Fatal(err)
	}
	return files
}

func (b *bench) nextSequence() uint64 {
	b.t.Helper()
	a, err := b.open(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer a.Close(b.t.Context())
	n, err := a.NextSequence()
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// A spool that is lost leaves numbers behind: in the last commit, as pending, and in packs that are sealed and not committed.
func TestANewSpoolGivesNoNumberTwice(t *testing.T) {
	b := newBench(t, false)
	b.custody.put(message(1, nil), message(2, nil))
	a, err := b.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drain := make(chan struct{})
	close(drain)
	if err := a.Run(t.Context(), stuck{b.custody, 3}, drain); err != nil {
		t.Fatal(err)
	}
	a.Close(t.Context())
	if n := b.nextSequence(); n != 4 {
		t.Fatalf("after a commit with 3 pending: %d", n)
	}
	b.custody.put(message(3, nil), message(4, nil), message(5, nil))
	b.sealOnly("packs/")
	if len(b.local(".json")) == 0 {
		t.Fatal("no pack was sealed")
	}
	if n := b.nextSequence(); n != 6 {
		t.Fatalf("with sealed packs: %d", n)
	}
	b.custody = newCustody(t)
	b.custody.put(message(6, nil))
	b.drain()
	if r := b.verify(); !r.OK || r.Records != 6 {
		t.Fatalf("%+v", r)
	}
}

func (b *bench) drops(t *testing.T) (drops []*record.Drop) {
	t.Helper()
	a, err := b.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close(t.Context())
	for r, err := range a.Replay(t.Context(), "node-n1", 0, func(*record.Entry) bool { return false }) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Entry.Drop != nil {
			drops = append(drops, r.Entry.Drop)
		}
	}
	return drops
}

// After a crash a spool gives out again what it had not deleted. A commit by then calls it pending; that is no loss.
func TestWhatIsCommittedIsNotCalledLost(t *testing.T) {
	b := newBench(t, false)
	b.fill(3)
	b.drain()
	b.seq++
	b.custody.put(message(b.seq, nil))
	a, err := b.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drain := make(chan struct{})
	close(drain)
	if err := a.Run(t.Context(), stuck{b.custody, 2}, drain); err != nil { // 2 has an entry, and came again
		t.Fatal(err)
	}
	a.Close(t.Context())
	b.drain()
	if d := b.drops(t); len(d) > 0 {
		t.Fatalf("%+v", d[0])
	}
}

// What a spool counted before a log began, as for an archive that is gone, is no gap in this one.
func TestASpoolMayBeOlderThanTheLog(t *testing.T) {
	b := newBench(t, false)
	b.custody.put(message(501, nil), message(502, nil))
	b.drain()
	if r := b.verify(); !r.OK {
		t.Fatalf("%+v", r)
	}
	if d := b.drops(t); len(d) != 1 || d[0].First != 1 || d[0].Last != 500 {
		t.Fatalf("%+v", d)
	}
}

// spoilt is what may have happened to a file.
var spoilt = map[string]func(path string) error{
	"gone": os.Remove,
	"cut":  func(path string) error { return os.Truncate(path, 100) },
	"other bytes": func(path string) error {
		text, err := os.ReadFile(path)
		if err == nil {
			text[len(text)/2] ^= 1
			err = os.WriteFile(path, text, 0o600)
		}
		return err
	},
}

func TestASealedPackThatIsNotWholeIsPackedAgain(t *testing.T) {
	for name, spoil := range spoilt {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, false)
			b.fill(20)
			b.sealOnly("packs/")
			packs := b.local(".pack")
			if len(packs) == 0 {
				t.Fatal("no pack was sealed")
			}
			for _, path := range packs {
				if err := spoil(path); err != nil {
					t.Fatal(err)
				}
			}
			b.custody.restart()
			b.drain()
			b.check()
		})
	}
}

// A pack whose file changes between its sealing and its upload is not uploaded: the node stops, and the next start packs its records again.
func TestAPackThatChangesOnDiskIsNotUploaded(t *testing.T) {
	for name, spoil := range spoilt {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, false)
			b.fill(20)
			var once sync.Once
			b.store.SetFault(func(op objecttest.Op, key string) (f objecttest.Fault) {
				if op == objecttest.OpCreate && strings.HasPrefix(key, "packs/") {
					once.Do(func() {
						for _, path := range b.local(".pack") {
							if err := spoil(path); err != nil {
								t.Error(err)
							}
						}
						f.Before = objecttest.ErrFault
					})
				}
				return f
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if !b.runOnce(ctx) || ctx.Err() != nil {
				t.Fatal("it did not stop by itself")
			}
			b.store.SetFault(nil)
			b.custody.restart()
			b.drain()
			b.check()
		})
	}
}

// What the local disk says may be wrong: the entries of a pack may be written down though the fsync failed. So its records must not go into
// another pack.
func TestASealedPackIsWrittenDownInTheEnd(t *testing.T) {
	b := newBench(t, false)
	b.fill(20)
	now := time.Now()
	a, err := archive.Open(t.Context(), archive.Options{Config: config(), Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"),
		Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler), Expiry: func(*record.Item) time.Time { return time.Time{} }})
	if err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(b.dir, "data", "packs", fmt.Sprintf("%020d-%06d", now.UnixNano(), 1))
	blocked := sync.OnceFunc(func() { // the entries can't be written
		if err := os.MkdirAll(first+".json.tmp/in the way", 0o700); err != nil {
			t.Error(err)
		}
		time.AfterFunc(300*time.Millisecond, func() { os.RemoveAll(first + ".json.tmp") })
	})
	drain := make(chan struct{})
	close(drain)
	if err := errors.Join(a.Run(t.Context(), watchedCustody{b.custody, blocked}, drain), a.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if left := b.local(""); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	b.check()
}

// watchedCustody tells when something is taken.
type watchedCustody struct {
	*custody
	taken func()
}

func (c watchedCustody) TryNext(ctx context.Context) (*record.Item, error) {
	c.taken()
	return c.custody.TryNext(ctx)
}

// A store that is away for long leaves more refused messages behind than one commit takes.
func TestManyDroppedSequencesAreCommittedInBatches(t *testing.T) {
	b := newBench(t, false)
	for i := range uint64(140_000) {
		b.custody.put(&record.Item{Kind: record.KindDropped, Drop: &record.Drop{First: 2*i + 1, Last: 2*i + 2, Reason: "refused"}})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg := config()
	cfg.SealAfter = time.Minute
	a, err := archive.Open(ctx, archive.Options{Config: cfg, Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"), Now: time.Now,
		Log: slog.New(slog.DiscardHandler), Expiry: func(*record.Item) time.Time { return time.Time{} }})
	if err != nil {
		t.Fatal(err)
	}
	drain := make(chan struct{})
	close(drain)
	if err := errors.Join(a.Run(ctx, b.custody, drain), a.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	if r := b.verify(); !r.OK || b.custody.left() > 0 {
		t.Fatalf("%d left, %+v", b.custody.left(), r)
	}
}

// A want of open files passes; the record must not wait for the next start.
func TestARecordThatCantBeReadForAWhileIsArchived(t *testing.T) {
	b := newBench(t, false)
	body := []byte("Subject: x\r\n\r\n")
	m := message(2, body)
	tries := 0
	whole := m.Body
	m.Body = func() (io.ReadCloser, error) {
		if tries++; tries == 1 {
			return nil, errors.New("too many open files")
		}
		return whole()
	}
	b.custody.put(message(1, nil), m, message(3, nil))
	b.drain()
	if r := b.verify(); !r.OK || r.Records != 3 {
		t.Fatalf("%+v", r)
	}
}

// keep_refused may be changed while records that were archived under the old one are still in the spool.
func TestARecordIsNotArchivedAgainUnderAnotherConfiguration(t *testing.T) {
	for _, order := range [][2]archive.Keep{{archive.KeepNothing, archive.KeepAll}, {archive.KeepAll, archive.KeepNothing}, {archive.KeepEnvelope, archive.KeepAll}} {
		b := newBench(t, false)
		b.custody.put(message(1, nil), message(2, nil))
		for _, keep := range order {
			a, err := archive.Open(t.Context(), archive.Options{Config: config(), Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"), Now: time.Now,
				Log: slog.New(slog.DiscardHandler), Expiry: func(*record.Item) time.Time { return time.Time{} }, Keep: func(*record.Item) archive.Keep { return keep }})
			if err != nil {
				t.Fatal(err)
			}
			drain := make(chan struct{})
			close(drain)
			if err := errors.Join(a.Run(t.Context(), b.custody, drain), a.Close(t.Context())); err != nil {
				t.Fatal(err)
			}
			if r := b.verify(); !r.OK || r.Entries != 4 {
				t.Fatalf("%v, then %v: %+v", order[0], order[1], r)
			}
			b.custody.restart()
			b.custody.released = map[uint64]bool{}
		}
	}
}

// helpful removes what the archive is about to remove.
type helpful struct {
	*custody
	dir string
}

func (h helpful) Release(ctx context.Context, items []*record.Item) error {
	files, _ := filepath.Glob(filepath.Join(h.dir, "*.json"))
	for _, f := range files {
		os.Remove(f)
	}
	return h.custody.Release(ctx, items)
}

func TestFilesOfACommittedPackMayBeGone(t *testing.T) {
	b := newBench(t, false)
	b.fill(5)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := b.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	drain := make(chan struct{})
	close(drain)
	if err := errors.Join(a.Run(ctx, helpful{b.custody, filepath.Join(b.dir, "data", "packs")}, drain), a.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	b.check()
}

func TestAPackOfAnotherArchiveIsNotCommitted(t *testing.T) {
	b := newBench(t, false)
	b.fill(5)
	b.sealOnly("packs/")
	for _, path := range b.local(".json") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		doc["archive"] = strings.Repeat("0", 32)
		if text, err = json.Marshal(doc); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.custody.restart()
	b.drain()
	b.check()
}

func TestVerifyMissesAWholeLog(t *testing.T) {
	b := newBench(t, false)
	b.fill(5)
	b.drain()
	var keys []string
	for info, err := range b.store.List(t.Context(), "ledger/node-n1/", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	for _, key := range keys {
		if err := b.store.Disposer().DeleteAll(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if r := b.verify(); r.OK || len(r.Missing) != 1 {
		t.Fatalf("%+v", r)
	}
}
