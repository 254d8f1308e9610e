package scrub

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

const archiveID = "0123456789abcdef0123456789abcdef"

type world struct {
	t        *testing.T
	store    *objecttest.Memory
	verifier note.Verifier
	path     string
	packs    []string
	bodies   map[string][]byte
	append   func([]record.Entry)
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// newWorld has a log with so many commits, of two packs each, of three entries each.
func newWorld(t *testing.T, commits int) *world {
	t.Helper()
	w := &world{t: t, store: &objecttest.Memory{}, path: filepath.Join(t.TempDir(), "scrub.json"), bodies: map[string][]byte{}}
	skey, vkey, err := ledger.GenerateKey(archiveID)
	w.check(err)
	signer, err := note.NewSigner(skey)
	w.check(err)
	w.verifier, err = note.NewVerifier(vkey)
	w.check(err)
	w.check(ledger.Create(t.Context(), w.store, signer, record.Init{Archive: archiveID, Log: "node-main", Key: vkey}, object.Lock{}, time.Now()))
	l, err := ledger.Open(t.Context(), ledger.Config{Store: w.store, Publisher: w.store, Log: "node-main", Archive: archiveID, Signer: signer, Verifier: w.verifier})
	w.check(err)
	seq := uint64(0)
	for c := range commits {
		var entries []record.Entry
		for p := range 2 {
			key, body := fmt.Sprintf("packs/2031-01/2024/01/01/main-%d-%d.tar.zst", c, p), []byte(fmt.Sprint("pack ", c, p))
			w.check(create(w.store, key, body))
			w.packs, w.bodies[key] = append(w.packs, key), body
			for range 3 {
				seq++
				entries = append(entries, record.Entry{V: 1, Kind: record.KindMessage, Time: time.Now().UTC(), ID: record.NewID(time.Now()), Seq: seq, Seal: record.Sum(body), Pack: key, PackSHA256: record.Sum(body), Length: 1})
			}
		}
		_, err := l.Append(t.Context(), entries, nil)
		w.check(err)
	}
	w.check(l.Close(t.Context()))
	w.append = func(entries []record.Entry) {
		l, err := ledger.Open(t.Context(), ledger.Config{Store: w.store, Publisher: w.store, Log: "node-main", Archive: archiveID, Signer: signer, Verifier: w.verifier})
		w.check(err)
		_, err = l.Append(t.Context(), entries, nil)
		w.check(err)
		w.check(l.Close(t.Context()))
	}
	return w
}

func create(s object.Store, key string, body []byte) error {
	_, err := s.Create(context.Background(), key, bytes.NewReader(body), object.Lock{})
	return err
}

// with copies the store, but for what drop says, and with other bytes in its place.
func (w *world) with(put map[string][]byte) {
	w.t.Helper()
	to := &objecttest.Memory{}
	for info, err := range w.store.List(w.t.Context(), "", "") {
		w.check(err)
		body, changed := put[info.Key]
		if !changed {
			r, err := w.store.Open(w.t.Context(), info.Key, 0, -1)
			w.check(err)
			var b bytes.Buffer
			_, err = b.ReadFrom(r)
			w.check(err)
			body = b.Bytes()
		}
		if body != nil {
			w.check(create(to, info.Key, body))
		}
	}
	for key, body := range put {
		if body != nil {
			w.check(create(to, key, body))
		}
	}
	w.store = to
}

func (w *world) scrubber(change func(*Options)) *Scrubber {
	w.t.Helper()
	o := Options{
		Config: Config{Share: 1e12}, Store: w.store, Archive: archiveID, Verifier: w.verifier, Logs: []string{"node-main"}, Path: w.path,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Registry: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	w.check(err)
	return s
}

// pass reads until one pass through the archive is complete.
func (w *world) pass(s *Scrubber) Status {
	w.t.Helper()
	w.check(s.cycle(w.t.Context()))
	return s.Status()
}

func found(s Status) string {
	var list []string
	for _, f := range s.Findings {
		list = append(list, f.Kind+" "+f.Key)
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// Packs that were altered or are gone, and what is wrong in the ledger, are found, named once, kept over a restart, and let go when they are
// well again; what an act destroyed is no finding.
func TestFindings(t *testing.T) {
	w := newWorld(t, 10)
	gone := w.packs[8] // by an act
	w.append([]record.Entry{{V: 1, Kind: record.KindDestroyed, Time: time.Now().UTC(), ID: record.NewID(time.Now()), By: "schedule",
		Gone: &record.Gone{Pack: gone, PackSHA256: record.Sum(w.bodies[gone]), First: 25, Last: 27, Destroyed: 3}}})
	s := w.scrubber(nil)
	if st := w.pass(s); len(st.Findings) > 0 || st.Completed.IsZero() {
		t.Errorf("all well: %+v", st)
	}
	if n := testutil.ToFloat64(s.metrics.packs); n != 20 {
		t.Errorf("%v packs read", n)
	}
	const tile = "ledger/node-main/tile/0/000.p/61"
	w.with(map[string][]byte{w.packs[3]: []byte("pack 9"), w.packs[7]: nil, gone: nil, tile: []byte("x"), ledger.CommitKey("node-main", 5): []byte("x")})
	want := "altered " + ledger.CommitKey("node-main", 5) + "\naltered " + tile + "\naltered " + w.packs[3] + "\nmissing " + w.packs[7]
	s = w.scrubber(nil)
	for range 2 {
		if got := found(w.pass(s)); got != want {
			t.Errorf("found:\n%s\nwant:\n%s", got, want)
		}
	}
	s.save(true)
	s = w.scrubber(nil)
	if got := found(s.Status()); got != want {
		t.Errorf("after a restart:\n%s", got)
	}
	w.with(map[string][]byte{w.packs[3]: w.bodies[w.packs[3]], w.packs[7]: w.bodies[w.packs[7]]})
	s = w.scrubber(nil)
	want = "altered " + ledger.CommitKey("node-main", 5) + "\naltered " + tile
	if got := found(w.pass(s)); got != want {
		t.Errorf("after the packs were mended:\n%s", got)
	}
}

// A scrub that is stopped goes on where it was, and does not read again what it has read. A store that fails stops it, and is no finding.
func TestPositionIsKept(t *testing.T) {
	w := newWorld(t, 20)
	var opened atomic.Int64
	stop := int64(-1)
	w.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
		if op == objecttest.OpOpen && strings.HasPrefix(key, "packs/") {
			if n := opened.Add(1); n == stop {
				return objecttest.Fault{Before: objecttest.ErrFault}
			}
		}
		return objecttest.Fault{}
	})
	stop = 11
	s := w.scrubber(nil)
	if err := s.cycle(t.Context()); err == nil || len(s.Status().Findings) > 0 {
		t.Fatalf("a store that fails: %v, %+v", err, s.Status())
	}
	s.save(true)
	stop = -1
	before := opened.Load()
	s = w.scrubber(nil)
	if at := s.position()["node-main"]; at != 6 {
		t.Errorf("it goes on at commit %d", at)
	}
	if st := w.pass(s); len(st.Findings) > 0 {
		t.Errorf("%+v", st)
	}
	if n := opened.Load() - before; n != 30 {
		t.Errorf("%d packs read after the restart, of 30 that were left", n)
	}
	w.check(os.WriteFile(w.path, []byte(`{"v":1,"arch`), 0o600))
	if st := w.pass(w.scrubber(nil)); st.Completed.IsZero() {
		t.Error("a damaged position stops it")
	}
}

// It reads no more than its share, and waits for mail.
func TestItIsGentle(t *testing.T) {
	w := newWorld(t, 10) // 61 entries
	busy := atomic.Int64{}
	s := w.scrubber(func(o *Options) {
		o.Config.Share = 86400 * 2 // all of it in half a second
		o.Busy = func() bool { return busy.Add(1) < 8 }
	})
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	s.Run(ctx)
	if n := testutil.ToFloat64(s.metrics.packs); n >= 20 {
		t.Errorf("%v of 20 packs read in half of the time", n)
	}
	if busy.Load() < 8 {
		t.Error("it did not look for mail")
	}
	if err := (Config{Share: -1}).Validate(); err == nil || !strings.Contains(err.Error(), "scrub.share") {
		t.Errorf("%v", err)
	}
}
