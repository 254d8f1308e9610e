package sweep_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/retention/sweep"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// custody is a spool in memory: what is released must have been given out.
type custody struct {
	mu    sync.Mutex
	items []*record.Item
	given int
	left  int
}

func (c *custody) put(it *record.Item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items, c.left = append(c.items, it), c.left+1
	it.Ref = uint64(len(c.items))
}

func (c *custody) Next(ctx context.Context) (*record.Item, error) {
	if it, _ := c.TryNext(ctx); it != nil {
		return it, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (c *custody) TryNext(context.Context) (*record.Item, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given == len(c.items) {
		return nil, nil
	}
	c.given++
	return c.items[c.given-1], nil
}

func (c *custody) Release(_ context.Context, items []*record.Item) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left -= len(items)
	return nil
}

func (c *custody) Waiting() [][2]uint64                                  { return nil }
func (c *custody) Newest() uint64                                        { return 0 }
func (c *custody) Find(context.Context, record.ID) (*record.Item, error) { return nil, nil }

// world is an archive with policies and holds, and a clock that is set by hand.
type world struct {
	t     testing.TB
	dir   string
	store object.Keeper
	power object.Disposer
	keys  *archive.Keys
	now   time.Time
	locks bool
	eyes  bool
	seq   uint64

	custody *custody
	rules   *retention.State
	archive *archive.Archive
	book    *audit.Book
	sweep   *sweep.Sweep
	failed  map[record.ID]bool // what extraction can't read
	gone    map[record.ID]bool // taken out of the index
	bodies  map[record.ID][]byte
}

func newWorld(t testing.TB, locks, encrypt bool) *world {
	t.Helper()
	m := new(objecttest.Memory)
	w := &world{t: t, dir: t.TempDir(), store: m, power: m.Disposer(), locks: locks, now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC),
		failed: map[record.ID]bool{}, gone: map[record.ID]bool{}, bodies: map[record.ID][]byte{}}
	m.SetClock(func() time.Time { return w.now })
	w.create(encrypt)
	return w
}

func (w *world) create(encrypt bool) {
	_, keys, err := archive.Create(context.Background(), archive.InitOptions{Config: w.config(), Store: w.store, KeysDir: filepath.Join(w.dir, "keys"),
		Encrypt: encrypt, NoEscrow: encrypt, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	w.keys = keys
}

func (w *world) config() archive.Config {
	c := archive.Config{Node: "n1", Config: object.Config{Store: "file:/nowhere"}, SealAfter: time.Hour, SealSize: 1 << 20}
	if w.locks {
		c.ObjectLock = "governance"
	}
	return c
}

func parse(canonical string) (query.Query, error) {
	p, err := syntax.Parse(canonical, syntax.Env{Standing: true, Canonical: true})
	return p.Query, err
}

func (w *world) clock() time.Time { return w.now }

// document is the one that extraction gives.
func (w *world) document(it *record.Item) *document.Document {
	d := index.DocumentOf(it)
	if w.failed[it.ID] {
		d.Partial = true
	}
	return d
}

// open opens the archive, takes in what is in custody, and makes a Sweep.
func (w *world) open(ctx context.Context, items ...*record.Item) error {
	base, err := retention.New(retention.Config{Default: "60d"})
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	w.rules = retention.NewState(base, parse)
	w.archive, err = archive.Open(ctx, archive.Options{Config: w.config(), Store: w.store, Keys: w.keys, DataDir: filepath.Join(w.dir, "data"), Now: w.clock, Log: log,
		Expiry: func(it *record.Item) time.Time {
			return w.rules.PoliciesInForce().Expiry(it, index.HeaderDocument(it), w.now)
		}})
	if err != nil {
		return err
	}
	w.book, err = audit.NewBook(audit.BookOptions{Order: w.archive.Acts(), Archive: w.archive.Init().Archive, Node: "n1", Path: filepath.Join(w.dir, "data", "acts.json"),
		Folds: map[string]audit.Fold{"retention": w.rules}, Now: w.clock, Log: log})
	if err == nil {
		err = w.book.Refresh(ctx)
	}
	if err != nil {
		return err
	}
	w.custody = &custody{}
	for _, it := range items {
		w.custody.put(it)
	}
	drain := make(chan struct{})
	close(drain)
	if err := w.archive.Run(ctx, w.custody, drain); err != nil {
		return err
	}
	w.sweep = sweep.New(sweep.Options{Archive: w.archive, Store: w.store, Power: w.power, Book: w.book, Rules: w.rules, Header: index.HeaderDocument,
		Document: w.document, Removers: []sweep.Remover{{Name: "index", Remove: w.remove}}, Dir: filepath.Join(w.dir, "data", "sweep"), Node: "n1",
		FourEyes: w.eyes, Locks: w.locks, Now: w.clock, Log: log})
	return nil
}

func (w *world) remove(_ context.Context, ids []record.ID) error {
	for _, id := range ids {
		w.gone[id] = true
	}
	return nil
}

func (w *world) close() error {
	return errors.Join(w.book.Save(), w.archive.Close(context.Background()))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// reopen closes the archive, where it is open, and opens it again with more in custody.
func (w *world) reopen(items ...*record.Item) {
	w.t.Helper()
	if w.archive != nil {
		w.must(w.close())
	}
	w.must(w.open(context.Background(), items...))
	if w.custody.left != 0 {
		w.t.Fatalf("%d are left in custody", w.custody.left)
	}
}

// message makes one that came now.
func (w *world) message(from, text string) *record.Item {
	body := fmt.Appendf(nil, "From: %s\r\nTo: b@example.org\r\nSubject: s%d\r\n\r\n%s\r\n", from, w.seq, text)
	return w.item(body)
}

func (w *world) item(body []byte) *record.Item {
	w.seq++
	env := &record.Envelope{V: 1, ID: record.NewID(w.now), Nonce: record.NewNonce(), Received: w.now, Node: "n1", Source: record.SourceSMTP,
		Completeness: record.Full, Size: int64(len(body)), SHA256: record.Sum(body)}
	text, err := json.Marshal(env)
	w.must(err)
	w.bodies[env.ID] = body
	return &record.Item{Kind: record.KindMessage, ID: env.ID, Seq: w.seq, Envelope: env, EnvelopeJSON: text,
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }}
}

// late makes an outcome that comes after its message was packed.
func (w *world) late(id record.ID, n int) *record.Item {
	s := record.Supplement{V: 1, ID: id, Name: fmt.Sprint("delivery-", n), Nonce: record.NewNonce(), Time: w.now, Delivery: &record.Delivery{Outcome: record.Delivered, NextHop: "mx:25", Attempts: 1}}
	text, err := json.Marshal(s)
	w.must(err)
	return &record.Item{Kind: record.KindSupplement, ID: id, Supplement: &record.SupplementDoc{Supplement: s, JSON: text}}
}

var (
	ada = record.Actor{ID: "uid:1"}
	bob = record.Actor{ID: "uid:2"}
)

func (w *world) do(by record.Actor, decide func() (string, any, error)) error {
	_, err := w.book.Do(context.Background(), by, decide)
	return err
}

func (w *world) query(text string) query.Query {
	q, err := parse(text)
	w.must(err)
	return q
}

func (w *world) policy(name, q, keep string) {
	w.t.Helper()
	w.must(w.do(ada, func() (string, any, error) { return w.rules.SetPolicy(name, w.query(q), keep, "", "because") }))
}

func (w *world) hold(name, q string) {
	w.t.Helper()
	w.must(w.do(ada, func() (string, any, error) {
		return w.rules.PlaceHold(retention.HoldOrder{Name: name, Matter: "m", Reason: "because"}, w.query(q))
	}))
}

func (w *world) run() {
	w.t.Helper()
	_, err := w.sweep.Run(context.Background(), ada)
	w.must(err)
}

// there says whether a message can be read, and checks it where it can.
func (w *world) there(id record.ID) bool {
	w.t.Helper()
	s, err := w.archive.Fetch(context.Background(), id)
	if errors.Is(err, archive.ErrDestroyed) {
		if !w.gone[id] {
			w.t.Errorf("%s is destroyed and in the index", id)
		}
		return false
	}
	w.must(err)
	r, err := s.Item.Body()
	w.must(err)
	defer r.Close()
	got, err := io.ReadAll(r)
	w.must(err)
	if !bytes.Equal(got, w.bodies[id]) || w.gone[id] {
		w.t.Errorf("%s comes back with %d bytes, out of the index: %t", id, len(got), w.gone[id])
	}
	return true
}

// verify holds the archive against its ledger, and what is destroyed and kept against the entries.
func (w *world) verify() *archive.Report {
	w.t.Helper()
	r, err := archive.Verify(context.Background(), archive.VerifyOptions{Store: w.store, Keys: w.keys, Full: true})
	w.must(err)
	left := slices.ContainsFunc(r.Behind, func(f archive.Finding) bool { return strings.HasPrefix(f.Key, "packs/") }) // a tombstone without a deed
	if !r.OK || left {
		text, _ := json.MarshalIndent(r, "", " ")
		w.t.Fatalf("verify: %s", text)
	}
	return r
}

func (w *world) objects(prefix string) (keys []string) {
	for info, err := range w.store.List(context.Background(), prefix, "") {
		w.must(err)
		keys = append(keys, info.Key)
	}
	return keys
}

func readDir(t testing.TB, dir string) (names []string) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
