package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// twin is a second node of the same name with a disk of its own.
func (b *bench) twin() *bench {
	other := *b
	other.custody, other.dir = newCustody(b.t), b.t.TempDir()
	return &other
}

func (b *bench) mustOpen() *archive.Archive {
	b.t.Helper()
	a, err := b.open(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	n, err := a.NextSequence()
	if err != nil {
		b.t.Fatal(err)
	}
	b.seq = max(b.seq, n-1) // as a spool does that is given it as its least
	return a
}

// Two nodes of one name take turns: each loses its log to the other, is started again with what is in its spool, and all mail of both comes
// into the archive once, without a number that two bear.
func TestALoserThatIsStartedAgainArchivesItsMail(t *testing.T) {
	b := newBench(t, false)
	b.fill(10)
	b.drain()
	other := b.twin()
	winner, loser := b, other
	drain := make(chan struct{})
	close(drain)
	for round := range 6 {
		first, second := winner.mustOpen(), loser.mustOpen()
		winner.fill(12 + round)
		loser.fill(17 - round)
		if err := first.Run(t.Context(), winner.custody, drain); err != nil {
			t.Fatal(err)
		}
		if err := second.Run(t.Context(), loser.custody, drain); !errors.Is(err, ledger.ErrLost) {
			t.Fatalf("the second writer: %v", err)
		}
		if err := errors.Join(first.Close(t.Context()), second.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
		loser.custody.restart()
		if round%2 == 1 { // else it goes on beside the other as the winner of the next round, with what it has
			loser.drain()
		}
		winner, loser = loser, winner
	}
	for _, n := range []*bench{winner, loser} {
		n.custody.restart()
		n.drain()
	}
	b.check()
}

// What one node calls lost may be in the spool of the other. A number that a run of lost ones begins with must not be taken for a message
// that was refused and not kept.
func TestWhatWasCalledLostIsArchivedWhenItComes(t *testing.T) {
	b := newBench(t, false)
	b.fill(1)
	drain := make(chan struct{})
	close(drain)
	a := b.mustOpen()
	if err := a.Run(t.Context(), stuck{b.custody, 2}, drain); err != nil { // 2 is in its custody
		t.Fatal(err)
	}
	a.Close(t.Context())
	b.twin().drain() // and not in that of this one
	if d := b.drops(t); len(d) != 1 || *d[0] != (record.Drop{First: 2, Last: 2, Reason: d[0].Reason}) {
		t.Fatalf("%+v", d)
	}
	b.fill(1)
	b.custody.restart()
	b.drain()
	b.check()
}

// Packs that a loser had sealed are committed with their records' numbers where these are free, and without where not.
func TestSealedPacksOfALoser(t *testing.T) {
	b := newBench(t, false)
	other := b.twin()
	b.fill(30)
	b.sealOnly("packs/")
	if len(b.local(".json")) == 0 {
		t.Fatal("no pack was sealed")
	}
	other.fill(12)
	other.drain()
	b.custody.restart()
	b.drain()
	b.check()
}

// Whoever writes objects into the store that are not ours must not stop us.
func TestAForeignObjectUnderTheKeyOfANewPack(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		for foreign := range 3 {
			t.Run(fmt.Sprintf("encrypt=%v %d", encrypt, foreign+1), func(t *testing.T) {
				b := newBench(t, encrypt)
				b.custody.put(message(1, []byte("Subject: x\r\n\r\n")))
				created := 0
				var taken []string
				b.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
					if op == objecttest.OpCreate && strings.HasPrefix(key, "packs/") {
						if created++; created <= foreign+1 {
							taken = append(taken, key)
							return objecttest.Fault{Before: fmt.Errorf("%s: %w", key, object.ErrConflict)}
						}
					}
					return objecttest.Fault{}
				})
				a := b.mustOpen()
				drain := make(chan struct{})
				close(drain)
				err := errors.Join(a.Run(t.Context(), b.custody, drain), a.Close(t.Context()))
				if foreign == 2 { // 16, 32 and 64 digits: no more to be had
					if !errors.Is(err, object.ErrConflict) {
						t.Fatalf("after three foreign objects: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				b.store.SetFault(nil)
				for _, key := range taken {
					if _, err := b.store.Create(t.Context(), key, strings.NewReader("foreign"), object.Lock{}); err != nil {
						t.Fatal(err)
					}
				}
				if r := b.verify(); !r.OK || r.Records != 1 || len(r.Orphans) != len(taken) {
					t.Fatalf("%+v", r)
				}
			})
		}
	}
}

// The same after a crash between the alarm and the second try, or before the alarm.
func TestAForeignObjectUnderTheKeyOfASealedPack(t *testing.T) {
	b := newBench(t, true)
	b.fill(5)
	b.sealOnly("packs/")
	sealed := b.local(".pack")
	a := b.mustOpen() // takes up nothing before Run
	a.Close(t.Context())
	var conflicts atomic.Int32
	usual := regexp.MustCompile(`^packs/.*-[0-9a-f]{16}\.tar`)
	b.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
		if op == objecttest.OpCreate && usual.MatchString(key) {
			conflicts.Add(1)
			return objecttest.Fault{Before: fmt.Errorf("%s: %w", key, object.ErrConflict)}
		}
		return objecttest.Fault{}
	})
	b.custody.restart()
	b.drain()
	b.store.SetFault(nil)
	if n := conflicts.Load(); int(n) < len(sealed) || n == 0 {
		t.Errorf("%d conflicts for %d packs", n, len(sealed))
	}
	b.check()
}

// A store that is set back to an earlier state, and grows again, holds other records under the numbers that a node has seen.
func TestACatalogOfALedgerThatWasSetBack(t *testing.T) {
	b := newBench(t, false)
	b.fill(20)
	b.drain()
	backup := b.store
	b.store = copyStore(t, backup)
	kept := len(b.bodies)
	lost := message(b.seq+1, []byte("gone with the store"))
	b.custody.put(lost)
	b.drain()

	b.store = backup
	other := b.twin()
	other.mustOpen().Close(t.Context())
	other.fill(30) // longer than the one that is gone
	other.drain()
	var said bytes.Buffer
	a, err := archive.Open(t.Context(), archive.Options{Config: config(), Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"), Now: time.Now,
		Log: slog.New(slog.NewTextHandler(&said, nil)), Expiry: func(*record.Item) time.Time { return time.Time{} }})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close(t.Context())
	if ok, err := a.Has(lost.ID); ok || err != nil {
		t.Errorf("the catalog knows what is gone: %v, %v", ok, err)
	}
	if len(b.bodies) <= kept {
		t.Fatal("the ledger has not grown")
	}
	for id := range b.bodies {
		if ok, err := a.Has(id); !ok || err != nil {
			t.Errorf("%s: %v, %v", id, ok, err)
		}
	}
	if !strings.Contains(said.String(), "level=ERROR") || !strings.Contains(said.String(), "set back") {
		t.Errorf("the alarm is %q", said.String())
	}
}

func copyStore(t *testing.T, from *objecttest.Memory) *objecttest.Memory {
	t.Helper()
	to := new(objecttest.Memory)
	for _, key := range from.Keys() {
		var err error
		if strings.HasSuffix(key, "/checkpoint") {
			err = to.Replace(t.Context(), key, from.Bytes(key))
		} else {
			_, err = to.Create(t.Context(), key, bytes.NewReader(from.Bytes(key)), object.Lock{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}
