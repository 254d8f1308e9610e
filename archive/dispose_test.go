package archive_test

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// nothing is a fold that takes no notice.
type nothing struct{ counted }

func (*nothing) Apply(*record.Act) error { return nil }

// TestVerifyAccountsForWhatIsGone: a pack that is absent has a tombstone, whose act stands in the log of acts and whose numbers add up.
// Whatever is not so is a finding.
func TestVerifyAccountsForWhatIsGone(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		b := newBench(t, encrypt)
		b.fill(60)
		a, err := b.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		drain := make(chan struct{})
		close(drain)
		if err := a.Run(t.Context(), b.custody, drain); err != nil {
			t.Fatal(err)
		}
		book, err := audit.NewBook(audit.BookOptions{Order: a.Acts(), Archive: a.Init().Archive, Node: "n1", Path: filepath.Join(b.dir, "acts.json"),
			Folds: map[string]audit.Fold{"none": &nothing{}}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = book.Refresh(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		act := func() *record.Act {
			act, err := book.Do(t.Context(), record.Actor{ID: "uid:1"}, func() (string, any, error) { return record.ActDestroy, map[string]any{"n": 1}, nil })
			if err != nil {
				t.Fatal(err)
			}
			return act
		}
		var packs []*archive.Packed
		for p, err := range a.EachPack(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			packs = append(packs, p)
		}
		if len(packs) < 3 {
			t.Fatalf("%d packs", len(packs))
		}
		burial := func(p *archive.Packed) archive.Burial {
			return archive.Burial{Key: p.Key, SHA256: p.SHA256, First: p.First(), Last: p.Last()}
		}
		bury := func(act *record.Act, list ...archive.Burial) {
			t.Helper()
			if err := a.Bury(t.Context(), act, list); err != nil {
				t.Fatal(err)
			}
		}
		destroy := func(p *archive.Packed) {
			t.Helper()
			if err := b.store.Disposer().DeleteAll(t.Context(), p.Key); err != nil {
				t.Fatal(err)
			}
		}
		finds := func(list []archive.Finding, key, what string) {
			t.Helper()
			for _, f := range list {
				if f.Key == key && strings.Contains(f.What, what) {
					return
				}
			}
			t.Fatalf("of %s nothing that says %q in %v", key, what, list)
		}

		// One record stays, the others go.
		p := packs[0]
		stay, err := a.Repack(t.Context(), p, func(i int) bool { return i == 1 }, time.Time{}, false)
		if err == nil {
			err = a.StoreRepacked(t.Context(), stay)
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := a.Repack(t.Context(), p, func(i int) bool { return i == 1 }, time.Time{}, false)
		if err != nil || again.SHA256 != stay.SHA256 {
			t.Fatalf("a second try makes %s, %v", again.SHA256, err)
		}
		one := burial(p)
		one.Stay = stay
		bury(act(), one)
		bury(act(), one) // again: nothing happens
		r := b.verify()
		if !r.OK || r.Purged != uint64(len(p.Entries)-1) || r.Moved != 1 || r.Records != 60+3+6+2 {
			t.Fatalf("%+v", r)
		}
		finds(r.Behind, p.Key, "not gone yet")
		destroy(p)
		if r := b.verify(); !r.OK || len(r.Behind) > 3 || r.Purged != uint64(len(p.Entries)-1) || len(r.Orphans) > 0 {
			t.Fatalf("%+v", r)
		}
		for i := range p.Entries {
			e := &p.Entries[i].Entry
			if e.Kind != record.KindMessage {
				continue
			}
			s, err := a.Fetch(t.Context(), e.ID)
			if i == 1 && (err != nil || s.Number != p.Entries[i].N || s.Entry.Pack != stay.Key) || i != 1 && !errors.Is(err, archive.ErrDestroyed) {
				t.Fatalf("record %d of the pack: %v", i, err)
			}
		}

		destroy(packs[1])
		finds(b.verify().Missing, packs[1].Key, "name it")
		bury(&record.Act{ID: record.NewID(time.Now()), Time: time.Now()}, burial(packs[1]))
		finds(b.verify().Unaccounted, packs[1].Key, "there is no such act")
		short := burial(packs[2])
		short.First++
		bury(act(), short)
		destroy(packs[2])
		r = b.verify()
		finds(r.Unaccounted, packs[2].Key, "name it with SHA-256")
		if r.OK || len(r.Missing) > 0 {
			t.Fatalf("%+v", r)
		}
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
