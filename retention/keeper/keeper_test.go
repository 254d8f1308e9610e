package keeper

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/retention"
)

// order is the shared log in memory.
type order struct {
	mu    sync.Mutex
	acts  []*record.Act
	known map[record.ID]*record.Act
	fault error
}

func (o *order) Follow(_ context.Context, from audit.Cursor) iter.Seq2[audit.Batch, error] {
	return func(yield func(audit.Batch, error) bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.fault != nil {
			yield(audit.Batch{}, o.fault)
			return
		}
		for n := from.N; n < uint64(len(o.acts)); n++ {
			if !yield(audit.Batch{Acts: o.acts[n : n+1], End: audit.Cursor{N: n + 1}}, nil) {
				return
			}
		}
	}
}

func (o *order) Store(_ context.Context, act *record.Act) (record.Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known[act.ID] = act
	return record.Entry{ID: act.ID}, nil
}

func (o *order) Commit(_ context.Context, at uint64, e record.Entry) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at != uint64(len(o.acts)) {
		return audit.ErrMoved
	}
	o.acts = append(o.acts, o.known[e.ID])
	return nil
}

// store is the index, and the mail in it.
type store struct {
	mu   sync.Mutex
	docs map[record.ID]*document.Document
	asks int
}

func (s *store) Search(_ context.Context, r index.Request) (*index.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks++
	res := &index.Result{}
	for id, d := range s.docs {
		if v := query.Match(r.Query, d); v == query.Yes && !r.Unknown || v == query.Unknown && r.Unknown {
			res.Hits = append(res.Hits, index.Hit{ID: id, Cursor: index.Cursor{ID: id}})
		}
	}
	slices.SortFunc(res.Hits, func(a, b index.Hit) int { return a.ID.Compare(b.ID) })
	if r.After != nil {
		for len(res.Hits) > 0 && res.Hits[0].ID.Compare(r.After.ID) <= 0 {
			res.Hits = res.Hits[1:]
		}
	}
	res.Hits = res.Hits[:min(len(res.Hits), r.Limit)]
	return res, nil
}

type bench struct {
	*Keeper
	t     testing.TB
	order *order
	store *store
	by    record.Actor
}

func newBench(t testing.TB, o Options) *bench {
	t.Helper()
	base, err := retention.New(retention.Config{Default: "7y"})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, order: &order{known: map[record.ID]*record.Act{}}, store: &store{docs: map[record.ID]*document.Document{}}, by: record.Actor{ID: "uid:1"}}
	o.Rules = retention.NewState(base, func(s string) (query.Query, error) { return word(strings.TrimPrefix(s, "body:")), nil })
	o.Log = slog.New(slog.DiscardHandler)
	if o.Search == nil {
		o.Search = b.store.Search
	}
	if o.Book, err = audit.NewBook(audit.BookOptions{Order: b.order, Archive: "a", Node: "n", Path: filepath.Join(t.TempDir(), "acts.json"),
		Folds: map[string]audit.Fold{"retention": o.Rules}, Now: time.Now, Log: o.Log}); err != nil {
		t.Fatal(err)
	}
	b.Keeper = New(o)
	if err := o.Book.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func word(w string) query.Query {
	return query.Text{Field: query.Body, Tokens: []string{w}, Typed: w}
}

// mail has documents arrive.
func (b *bench) mail(texts ...string) (ids []record.ID) {
	b.t.Helper()
	var docs []*document.Document
	for _, text := range texts {
		d := &document.Document{ID: record.NewID(time.Now()), Received: time.Now(), Body: text, Partial: text == "encrypted"}
		docs, ids = append(docs, d), append(ids, d.ID)
	}
	b.apply(docs)
	return ids
}

func (b *bench) apply(docs []*document.Document) {
	b.t.Helper()
	if err := b.Arrive(docs, func() error {
		b.store.mu.Lock()
		defer b.store.mu.Unlock()
		for _, d := range docs {
			b.store.docs[d.ID] = d
		}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) place(name, w string) int {
	b.t.Helper()
	if _, err := b.o.Book.Do(b.t.Context(), b.by, func() (string, any, error) {
		return b.o.Rules.PlaceHold(retention.HoldOrder{Name: name, Matter: "m", Reason: "r"}, word(w))
	}); err != nil {
		b.t.Fatal(err)
	}
	n, err := b.Apply(b.t.Context(), b.by, name)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bench) held(name string, want ...record.ID) {
	b.t.Helper()
	got, err := b.Held(name)
	if err != nil || !slices.Equal(got, record.NewIDs(want)) {
		b.t.Errorf("hold %s has %v, %v, not %v", name, got, err, want)
	}
}

func TestHoldsAreAppliedToWhatIsThereAndWhatArrives(t *testing.T) {
	b := newBench(t, Options{})
	before := b.mail("the merger", "lunch", "encrypted")
	if n := b.place("h", "merger"); n != 2 {
		t.Errorf("applied to %d", n)
	}
	b.held("h", before[0], before[2]) // what can't be read is held
	later := b.mail("another merger", "another lunch")
	b.held("h", before[0], before[2], later[0])
	acts := len(b.order.acts)
	for range 2 {
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.order.acts) != acts+1 {
		t.Errorf("%d acts for one that arrived", len(b.order.acts)-acts)
	}

	// A later extractor reads something else: what was held stays so, by the act.
	b.store.docs[before[0]].Body = "nothing of the kind"
	b.apply([]*document.Document{b.store.docs[before[0]]})
	if _, err := b.Apply(t.Context(), b.by, "h"); err != nil {
		t.Fatal(err)
	}
	b.held("h", before[0], before[2], later[0])
	if _, err := b.Apply(t.Context(), b.by, "none"); !errors.Is(err, retention.ErrNoHold) {
		t.Errorf("%v", err)
	}

	// Released: it takes nothing more, and holds nothing.
	b.mail("a merger that came before the release")
	if _, err := b.o.Book.Do(t.Context(), b.by, func() (string, any, error) { return b.o.Rules.ReleaseHold("h", b.by, "settled", false) }); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(t.Context()); err != nil || len(b.pending()) != 0 {
		t.Errorf("%v, %v", err, b.pending())
	}
	b.mail("one more merger")
	b.held("h")
}

// TestNothingArrivesBetween: mail that comes while holds are placed is held, whichever of the two was first.
func TestNothingArrivesBetween(t *testing.T) {
	b := newBench(t, Options{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []record.ID
	for range 4 {
		wg.Go(func() {
			for range 40 {
				ids := b.mail("merger", "merger")
				mu.Lock()
				all = append(all, ids...)
				mu.Unlock()
			}
		})
	}
	for i := range 5 {
		wg.Go(func() { b.place(fmt.Sprint("h", i), "merger") })
	}
	wg.Wait()
	for i := range 5 {
		b.held(fmt.Sprint("h", i), all...)
	}
}

// TestAfterACrash: what arrived and was not written down is found by the next start; likewise what came while the acts could not be read.
func TestAfterACrash(t *testing.T) {
	b := newBench(t, Options{})
	b.place("h", "merger")
	lost := b.mail("the merger")
	again := New(b.o) // the one before was killed
	if err := again.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Keeper = again
	b.held("h", lost...)
	if len(b.pending()) != 0 {
		t.Error("not written down")
	}
	asks := b.store.asks
	if err := b.sweep(t.Context()); err != nil || b.store.asks != asks {
		t.Errorf("asked again: %v", err)
	}

	blind := newBench(t, Options{})
	blind.place("h", "merger")
	blind.order.fault = errors.New("the store is away")
	o := blind.o
	var err error
	if o.Book, err = audit.NewBook(audit.BookOptions{Order: blind.order, Archive: "a", Path: filepath.Join(t.TempDir(), "acts.json"),
		Folds: map[string]audit.Fold{"retention": o.Rules}, Now: time.Now, Log: o.Log}); err != nil {
		t.Fatal(err)
	}
	blind.Keeper = New(o)
	ids := blind.mail("the merger")
	if _, err := blind.Held("h"); err == nil {
		t.Error("it is known what is held")
	}
	if err := blind.sweep(t.Context()); err == nil {
		t.Error("applied what is not known")
	}
	blind.order.fault = nil
	if err := o.Book.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := blind.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	blind.held("h", ids...)
}

// TestFlagsFollow: each pack with a held record is flagged once, those too that come into a pack later.
func TestFlagsFollow(t *testing.T) {
	packs, flags := map[record.ID][]string{}, []string{}
	fail := errors.New("slow down")
	o := Options{Packs: func(id record.ID) ([]string, error) { return packs[id], nil },
		Flag: func(_ context.Context, key string) error {
			if fail != nil {
				return fail
			}
			flags = append(flags, key)
			return nil
		}}
	b := newBench(t, o)
	ids := b.mail("merger", "merger", "merger", "lunch")
	packs[ids[0]], packs[ids[1]], packs[ids[3]] = []string{"p1"}, []string{"p1", "p2"}, []string{"p9"}
	b.place("h", "merger")
	if err := b.flag(t.Context()); !errors.Is(err, fail) {
		t.Errorf("%v", err)
	}
	fail = nil
	for range 2 {
		if err := b.flag(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	packs[ids[2]] = []string{"p3"}
	if err := b.flag(t.Context()); err != nil || !slices.Equal(flags, []string{"p1", "p2", "p3"}) {
		t.Errorf("%v, %v", flags, err)
	}
	fail = fmt.Errorf("x: %w", object.ErrUnsupported)
	b.mail("merger")
	packs[b.mail("merger")[0]] = []string{"p4"}
	if err := errors.Join(b.Flush(t.Context()), b.flag(t.Context()), b.flag(t.Context())); err != nil {
		t.Errorf("a store without legal hold: %v", err)
	}
}
