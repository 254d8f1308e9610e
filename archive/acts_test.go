package archive_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// counted is a fold that numbers its acts: each says which number it is, as it was when it was decided.
type counted struct{ list []string }

func (c *counted) Apply(act *record.Act) error {
	if act.Kind != "count" {
		return nil
	}
	var d struct {
		N   int
		Who string
	}
	if err := act.Into(&d); err != nil {
		return err
	}
	if d.N != len(c.list) {
		return fmt.Errorf("number %d after %d", d.N, len(c.list))
	}
	c.list = append(c.list, d.Who)
	return nil
}

func (c *counted) Save() (json.RawMessage, error) { return json.Marshal(c.list) }

func (c *counted) Load(state json.RawMessage) error {
	c.list = nil
	if state == nil {
		return nil
	}
	return json.Unmarshal(state, &c.list)
}

// actor is one node with a book.
type actor struct {
	archive *archive.Archive
	book    *audit.Book
	fold    *counted
	path    string
}

func (b *bench) actor(node string) *actor {
	b.t.Helper()
	cfg := config()
	cfg.Node = node
	if node != "n1" {
		_, _, err := archive.Create(b.t.Context(), archive.InitOptions{Config: cfg, Store: b.store, KeysDir: filepath.Join(b.dir, "keys"), Now: time.Now()})
		if err != nil && !strings.Contains(err.Error(), "exists") {
			b.t.Fatal(err)
		}
	}
	a, err := archive.Open(b.t.Context(), archive.Options{Config: cfg, Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, node), Now: time.Now,
		Log: slog.New(slog.DiscardHandler), Expiry: func(it *record.Item) time.Time { return it.ID.Time().AddDate(10, 0, 0) }})
	if err != nil {
		b.t.Fatal(err)
	}
	n := &actor{archive: a, fold: &counted{}, path: filepath.Join(b.dir, node, "acts.json")}
	if n.book, err = audit.NewBook(n.options(a.Init().Archive, node)); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (n *actor) options(id, node string) audit.BookOptions {
	return audit.BookOptions{Order: n.archive.Acts(), Archive: id, Node: node, Path: n.path, Folds: map[string]audit.Fold{"count": n.fold}, Now: time.Now,
		Log: slog.New(slog.DiscardHandler)}
}

func (n *actor) count(ctx context.Context, who string) error {
	_, err := n.book.Do(ctx, record.Actor{ID: who}, func() (string, any, error) {
		return "count", map[string]any{"n": len(n.fold.list), "who": who}, nil
	})
	return err
}

// TestActsOfAllNodesHaveOneOrder: two nodes act at once on a store that loses calls and answers. Each act is done once or not at all, on
// what was in force just before it, and both nodes come to the same.
func TestActsOfAllNodesHaveOneOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	for _, encrypt := range []bool{false, true} {
		b := newBench(t, encrypt)
		nodes := []*actor{b.actor("n1"), b.actor("n2")}
		var mu sync.Mutex
		rnd := rand.New(rand.NewPCG(seed, 3))
		b.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if op != objecttest.OpCreate && op != objecttest.OpOpen {
				return objecttest.Fault{}
			}
			switch rnd.IntN(25) {
			case 0:
				return objecttest.Fault{Before: objecttest.ErrFault}
			case 1:
				return objecttest.Fault{After: objecttest.ErrFault}
			}
			return objecttest.Fault{}
		})
		var wg sync.WaitGroup
		done := map[string]bool{}
		for i := range 6 {
			wg.Go(func() {
				for k := range 6 {
					who := fmt.Sprintf("g%d-%d", i, k)
					err := nodes[i%2].count(t.Context(), who)
					if err != nil && !errors.Is(err, audit.ErrNotRecorded) {
						t.Errorf("%s: %v", who, err)
					}
					mu.Lock()
					done[who] = err == nil
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		b.store.SetFault(nil)
		for _, n := range nodes {
			if err := n.book.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		list := nodes[0].fold.list
		if !slices.Equal(list, nodes[1].fold.list) {
			t.Fatalf("%v and %v", list, nodes[1].fold.list)
		}
		seen := map[string]int{}
		for _, who := range list {
			seen[who]++
		}
		yes := 0
		for who, ok := range done {
			if want := map[bool]int{true: 1}[ok]; seen[who] != want {
				t.Errorf("%s was done %d times, told %v", who, seen[who], ok)
			}
			if ok {
				yes++
			}
		}
		if yes == 0 {
			t.Error("nothing was done")
		}
		for _, n := range nodes {
			if err := n.archive.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if r := b.verify(); !r.OK || len(r.Orphans) > len(done) {
			t.Errorf("%+v", r)
		}
	}
}

// TestTheSnapshotOfActsIsDerived: it saves reading the acts again; damaged, of another archive, or of a log that was set back, it is made
// again.
func TestTheSnapshotOfActsIsDerived(t *testing.T) {
	b := newBench(t, false)
	n := b.actor("n1")
	if err := n.book.Read(func() { t.Error("read") }); err == nil {
		t.Error("a book that was not read says what is in force")
	}
	for k := range 3 {
		if err := n.count(t.Context(), fmt.Sprint("a", k)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.book.Save(); err != nil {
		t.Fatal(err)
	}
	want := []string{"a0", "a1", "a2"}
	text, err := os.ReadFile(n.path)
	if err != nil {
		t.Fatal(err)
	}
	again := func(name string, reads bool) {
		t.Helper()
		opened := 0
		b.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
			if op == objecttest.OpOpen && strings.HasPrefix(key, "packs/") {
				opened++
			}
			return objecttest.Fault{}
		})
		defer b.store.SetFault(nil)
		fold := &counted{}
		m := &actor{archive: n.archive, fold: fold, path: n.path}
		o := m.options(n.archive.Init().Archive, "n1")
		if m.book, err = audit.NewBook(o); err != nil {
			t.Fatal(name, err)
		}
		if err := m.book.Refresh(t.Context()); err != nil {
			t.Fatal(name, err)
		}
		if !slices.Equal(fold.list, want) || opened > 0 != reads {
			t.Errorf("%s: %v, %d packs read", name, fold.list, opened)
		}
	}
	again("whole", false)
	for name, change := range map[string]func() []byte{
		"cut":     func() []byte { return text[:len(text)/2] },
		"empty":   func() []byte { return nil },
		"flipped": func() []byte { c := slices.Clone(text); c[len(c)-5] ^= 1; return c },
		"another archive": func() []byte {
			body := strings.ReplaceAll(strings.SplitN(string(text), "\n", 2)[1], n.archive.Init().Archive, strings.Repeat("0", 32))
			return []byte(record.Sum([]byte(body)).String() + "\n" + body)
		},
		"another root": func() []byte {
			body := strings.SplitN(string(text), "\n", 2)[1]
			body = strings.Replace(body, `"root":"`, `"root":"00000000`, 1)
			at := strings.Index(body, `"root":"00000000`) + len(`"root":"00000000`)
			body = body[:at+56] + body[at+64:]
			return []byte(record.Sum([]byte(body)).String() + "\n" + body)
		},
	} {
		if err := os.WriteFile(n.path, change(), 0o600); err != nil {
			t.Fatal(err)
		}
		again(name, true)
	}
}

// TestActsAreFoundByTheirID: with their proof, also where the catalog was lost and the snapshot was not, and where another node did them.
func TestActsAreFoundByTheirID(t *testing.T) {
	b := newBench(t, false)
	n := b.actor("n1")
	var ids []record.ID
	for range 3 {
		act, err := n.book.Do(t.Context(), record.Actor{ID: "x"}, func() (string, any, error) { return "count", map[string]any{"n": len(n.fold.list)}, nil })
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, act.ID)
	}
	if err := errors.Join(n.book.Save(), n.archive.Close(t.Context()), os.Remove(filepath.Join(b.dir, "n1", "catalog.db"))); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"n1", "n2"} {
		n := b.actor(node)
		if err := n.book.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if s, err := n.archive.Fetch(t.Context(), id); err != nil || s.Item.Act == nil || s.Log != archive.LogActs {
				t.Errorf("%s on %s: %+v, %v", id, node, s, err)
			}
			if proof, err := n.archive.Proof(t.Context(), id); err != nil || !strings.Contains(string(proof), archive.LogActs) {
				t.Errorf("%s on %s: %s, %v", id, node, proof, err)
			}
		}
		if err := n.archive.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAnActThatCannotBeReadStopsActs: what is in force is then not known, and nothing more is decided on it.
func TestAnActThatCannotBeReadStopsActs(t *testing.T) {
	b := newBench(t, false)
	n := b.actor("n1")
	if err := n.count(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if _, err := n.book.Do(t.Context(), record.Actor{ID: "x"}, func() (string, any, error) { return "", nil, refused }); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	_, err := n.book.Do(t.Context(), record.Actor{ID: "x"}, func() (string, any, error) { return "count", map[string]any{"n": 7}, nil })
	if !errors.Is(err, audit.ErrOpen) || !errors.Is(err, audit.ErrFold) {
		t.Errorf("%v", err)
	}
	if err := n.count(t.Context(), "b"); !errors.Is(err, audit.ErrNotRecorded) {
		t.Errorf("%v", err)
	}
	if err := n.book.Read(func() {}); !errors.Is(err, audit.ErrFold) {
		t.Errorf("%v", err)
	}
}

// tagged is a fold of one set of records.
type tagged struct{ ids record.IDs }

func (f *tagged) Apply(act *record.Act) error {
	var d struct{ IDs record.IDs }
	if err := act.Into(&d); err != nil {
		return err
	}
	f.ids = f.ids.Union(d.IDs)
	return nil
}

func (f *tagged) Save() (json.RawMessage, error) { return json.Marshal(f.ids) }
func (f *tagged) Load(json.RawMessage) error     { f.ids = nil; return nil }

// BenchmarkActOfAMillion: one act about a million records, from the wish to where it is in force.
func BenchmarkActOfAMillion(b *testing.B) {
	store, dir := new(objecttest.Memory), b.TempDir()
	_, keys, err := archive.Create(b.Context(), archive.InitOptions{Config: config(), Store: store, KeysDir: filepath.Join(dir, "keys"), Encrypt: true, NoEscrow: true, Now: time.Now()})
	if err != nil {
		b.Fatal(err)
	}
	a, err := archive.Open(b.Context(), archive.Options{Config: config(), Store: store, Keys: keys, DataDir: filepath.Join(dir, "data"), Now: time.Now,
		Log: slog.New(slog.DiscardHandler), Expiry: func(*record.Item) time.Time { return time.Time{} }})
	if err != nil {
		b.Fatal(err)
	}
	list := make([]record.ID, 1_000_000)
	for i := range list {
		list[i] = record.NewID(time.UnixMilli(1_700_000_000_000 + int64(i)*40))
	}
	ids, fold := record.NewIDs(list), &tagged{}
	book, err := audit.NewBook(audit.BookOptions{Order: a.Acts(), Archive: a.Init().Archive, Node: "n1", Path: filepath.Join(dir, "acts.json"),
		Folds: map[string]audit.Fold{"tags": fold}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_, err := book.Do(b.Context(), record.Actor{ID: "x"}, func() (string, any, error) { return "tag-add", map[string]any{"ids": ids}, nil })
		if err != nil || len(fold.ids) != len(ids) {
			b.Fatal(len(fold.ids), err)
		}
	}
	if err := a.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
