package anchor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	digitorus "github.com/digitorus/timestamp"
	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/anchor"
	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/archive/timestamp"
	"github.com/holdfast-archive/holdfast/archive/timestamp/timestamptest"
)

const archiveID = "0123456789abcdef0123456789abcdef"

// world is an archive's ledger, a second place, and a clock.
type world struct {
	t        *testing.T
	store    *objecttest.Memory
	second   *objecttest.Memory
	signer   note.Signer
	verifier note.Verifier
	vkey     string
	now      time.Time
	n        int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: &objecttest.Memory{}, second: &objecttest.Memory{}, now: time.Now().UTC().Truncate(time.Millisecond)}
	skey, vkey, err := ledger.GenerateKey(archiveID)
	w.check(err)
	w.vkey = vkey
	w.signer, err = note.NewSigner(skey)
	w.check(err)
	w.verifier, err = note.NewVerifier(vkey)
	w.check(err)
	w.begin()
	return w
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// begin makes the logs.
func (w *world) begin() {
	w.t.Helper()
	for _, log := range []string{"acts", "node-main"} {
		w.check(ledger.Create(w.t.Context(), w.store, w.signer, record.Init{Archive: archiveID, Log: log, Key: w.vkey}, object.Lock{}, w.now))
	}
}

// grow appends commits to the node's log.
func (w *world) grow(commits, entries int, text string) {
	w.t.Helper()
	l, err := ledger.Open(w.t.Context(), ledger.Config{
		Store: w.store, Publisher: w.store, Log: "node-main", Archive: archiveID, Signer: w.signer, Verifier: w.verifier,
	})
	w.check(err)
	for range commits {
		var batch []record.Entry
		for range entries {
			w.n++
			id := record.NewID(w.now)
			batch = append(batch, record.Entry{V: 1, Kind: record.KindAct, Time: w.now, ID: id, Name: text, By: "uid:1", Seq: uint64(w.n), Seal: record.Sum([]byte(fmt.Sprint(text, w.n)))})
		}
		_, err := l.Append(w.t.Context(), batch, nil)
		w.check(err)
	}
	w.check(l.Close(w.t.Context()))
}

func (w *world) maker(c anchor.Config) *anchor.Maker {
	w.t.Helper()
	o := anchor.Options{
		Config: c, Store: w.store, Archive: archiveID, Node: "main", Verifier: w.verifier, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { w.now = w.now.Add(time.Millisecond); return w.now },
	}
	if c.Store != "" {
		o.Second = w.place
	}
	m, err := anchor.NewMaker(o)
	w.check(err)
	return m
}

func (w *world) place(context.Context) (*anchor.Place, error) {
	return &anchor.Place{Name: "second", Store: w.second}, nil
}

func (w *world) verify(tsa *timestamptest.TSA) *anchor.Report {
	w.t.Helper()
	r, err := anchor.Check(w.t.Context(), w.options(tsa))
	w.check(err)
	return r
}

func (w *world) options(tsa *timestamptest.TSA) anchor.CheckOptions {
	w.t.Helper()
	o := anchor.CheckOptions{Store: w.store, Archive: archiveID, Verifier: w.verifier, Second: w.place}
	if tsa != nil {
		roots, err := timestamp.LoadRoots(tsa.CAFile)
		w.check(err)
		o.Roots = roots
	}
	return o
}

// keys lists a store.
func keys(t *testing.T, s object.Store, prefix string) (list []string) {
	t.Helper()
	for info, err := range s.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, info.Key)
	}
	return list
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

// copyTo copies what keep says into another store.
func copyTo(t *testing.T, from object.Store, keep func(string) bool) *objecttest.Memory {
	t.Helper()
	to := &objecttest.Memory{}
	for _, key := range keys(t, from, "") {
		if keep(key) {
			if _, err := to.Create(t.Context(), key, bytes.NewReader(read(t, from, key)), object.Lock{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return to
}

func kinds(r *anchor.Report) string {
	var list []string
	for _, f := range r.Findings {
		list = append(list, f.Kind)
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// Anchors are made, stamped and copied, none where nothing was committed; openssl reads the stored token of the stored document.
func TestAnchorsOfALedgerThatGrows(t *testing.T) {
	tsa := timestamptest.Start(t, 0)
	w := newWorld(t)
	c := anchor.Config{Store: "file:x", Authority: tsa.URL, AuthorityCA: tsa.CAFile, Timeout: 10 * time.Second}
	m := w.maker(c)
	for i := range 4 {
		w.grow(1+i, 300, "search")
		a, err := m.Make(t.Context())
		w.check(err)
		again, err := m.Make(t.Context())
		if err != nil || again != a {
			t.Errorf("nothing was committed: %v, %v", again, err)
		}
		if i == 1 {
			m = w.maker(c) // a restart
		}
	}
	own, there := keys(t, w.store, "anchors/"), keys(t, w.second, "anchors/")
	if len(own) != 8 || !slices.Equal(own, there) || tsa.Asked() != 4 {
		t.Errorf("%d objects in the archive, %d in the second place, %d requests", len(own), len(there), tsa.Asked())
	}
	r := w.verify(tsa)
	if !r.OK || r.Anchors != 4 || r.Stamped != 4 || len(r.Findings) > 0 || len(r.Logs) != 2 || r.Logs[1].Entries != 1+10*300 {
		t.Errorf("check: %+v", r)
	}
	list, _, err := anchor.List(t.Context(), w.options(tsa))
	if err != nil || len(list) != 4 || len(list[3].Places) != 2 || list[3].Authority != "CN=Test Time-Stamp Authority" {
		t.Errorf("list: %+v, %v", list, err)
	}
	dir := t.TempDir()
	data, token := filepath.Join(dir, "anchor.json"), filepath.Join(dir, "anchor.tst")
	w.check(os.WriteFile(data, read(t, w.second, there[0]), 0o600))
	w.check(os.WriteFile(token, read(t, w.second, there[1]), 0o600))
	out, err := exec.Command("openssl", "ts", "-verify", "-data", data, "-in", token, "-token_in", "-CAfile", tsa.CAFile).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Verification: OK") {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}

// An operator with the key rewrites the ledger, or takes its end away, and signs it anew, tiles and all: the second place tells, and so do the
// anchors in the archive where he left them.
func TestRewrittenLedgerIsFoundOut(t *testing.T) {
	w := newWorld(t)
	m := w.maker(anchor.Config{Store: "file:x"})
	for range 3 {
		w.grow(2, 200, "search")
		_, err := m.Make(t.Context())
		w.check(err)
	}
	honest, now := w.store, w.now
	if r := w.verify(nil); !r.OK {
		t.Fatalf("honest: %+v", r)
	}

	anchored := func(key string) bool { return strings.HasPrefix(key, "anchors/") }
	for _, keep := range []struct {
		name string
		keep func(string) bool
		more string
	}{{"anchors kept", anchored, ""}, {"anchors gone", func(string) bool { return false }, " missing"}} {
		w.store, w.n, w.now = copyTo(t, honest, keep.keep), 0, now.Add(-time.Hour)
		w.begin()
		w.grow(6, 200, "view") // another history of the same length
		r := w.verify(nil)
		if want := "forked" + keep.more; r.OK || kinds(r) != want {
			t.Errorf("rewritten, %s: %s, want %s", keep.name, kinds(r), want)
		}
		if _, err := w.maker(anchor.Config{Store: "file:x"}).Make(t.Context()); !errors.Is(err, ledger.ErrForked) {
			t.Errorf("rewritten, %s: the next anchor says %v", keep.name, err)
		}
	}

	// Set back by two commits and grown again: the tree of the newest anchor is ahead, or another.
	back := func(key string) bool {
		return !strings.HasPrefix(key, "ledger/node-main/") || strings.HasPrefix(key, "ledger/node-main/commit/") && key < "ledger/node-main/commit/000000000005"
	}
	w.second = copyTo(t, honest, anchored)
	w.store = copyTo(t, honest, back)
	if r := w.verify(nil); r.OK || kinds(r) != "rolled-back" {
		t.Errorf("set back: %s", kinds(r))
	}
	w.n = 800
	w.grow(3, 200, "view")
	if r := w.verify(nil); r.OK || kinds(r) != "forked" {
		t.Errorf("set back and grown: %s", kinds(r))
	}
	// Made anew, with another key.
	w.store = &objecttest.Memory{}
	old := w.verifier
	other := newWorld(t)
	w.signer, w.verifier, w.vkey = other.signer, other.verifier, other.vkey
	w.begin()
	if r := w.verify(nil); r.OK || !strings.Contains(kinds(r), "altered") {
		t.Errorf("another key: %s", kinds(r))
	}
	w.verifier = old
}

// Whatever is done to anchors themselves is named.
func TestTamperedAnchors(t *testing.T) {
	tsa := timestamptest.Start(t, 0)
	w := newWorld(t)
	m := w.maker(anchor.Config{Store: "file:x", Authority: tsa.URL, AuthorityCA: tsa.CAFile, Timeout: 10 * time.Second})
	for range 3 {
		w.grow(1, 5, "search")
		_, err := m.Make(t.Context())
		w.check(err)
	}
	own, second := w.store, w.second
	names := keys(t, own, "anchors/")
	for _, key := range names[:2] {
		text := read(t, second, key)
		at := []int{0, len(text) - 1}
		if strings.HasSuffix(key, ".json") { // in a token are certificates beside the signer's, which nothing signs
			at = append(at, len(text)/2)
		}
		for _, i := range at {
			w.second = copyTo(t, second, func(k string) bool { return k != key })
			bad := bytes.Clone(text)
			bad[i] ^= 1
			_, err := w.second.Create(t.Context(), key, bytes.NewReader(bad), object.Lock{})
			w.check(err)
			if r := w.verify(tsa); r.OK || !strings.Contains(kinds(r), "altered") {
				t.Errorf("%s, byte %d: %s", key, i, kinds(r))
			}
		}
	}
	without := func(s *objecttest.Memory, n ...int) *objecttest.Memory {
		return copyTo(t, s, func(k string) bool { return !slices.ContainsFunc(n, func(i int) bool { return names[i] == k }) })
	}
	for _, c := range []struct {
		name        string
		own, second []int
		want        string
	}{
		{"one gone in the second place", nil, []int{0, 1}, "missing"},
		{"the last not there yet", nil, []int{4, 5}, "behind"},
		{"one gone in the archive", []int{0, 1}, nil, "missing"},
		{"one gone everywhere", []int{2, 3}, []int{2, 3}, "missing"},
		{"a token gone in the archive", []int{3}, nil, "missing"},
		{"a document gone in the archive", []int{2}, nil, "missing"},
	} {
		w.store, w.second = without(own, c.own...), without(second, c.second...)
		if r := w.verify(tsa); kinds(r) != c.want || r.OK != (c.want == "behind") {
			t.Errorf("%s: %s, ok %v", c.name, kinds(r), r.OK)
		}
	}
	w.store, w.second = own, second
	other := timestamptest.Start(t, 0)
	if r := w.verify(other); r.OK || kinds(r) != "untrusted" {
		t.Errorf("tokens of another authority: %s", kinds(r))
	}
	second.SetFault(func(objecttest.Op, string) objecttest.Fault { return objecttest.Fault{Before: objecttest.ErrFault} })
	if r := w.verify(tsa); !r.OK || len(r.Unreachable) != 1 {
		t.Errorf("second place away: %+v", r)
	}
}

// An authority or a second place that fails leaves the rest done, and is caught up with.
func TestFailuresAreCaughtUpWith(t *testing.T) {
	tsa := timestamptest.Start(t, 0)
	w := newWorld(t)
	m := w.maker(anchor.Config{Store: "file:x", Authority: tsa.URL, AuthorityCA: tsa.CAFile, Timeout: 100 * time.Millisecond})
	wait := make(chan struct{})
	defer close(wait)
	for name, f := range map[string]struct {
		handle func(http.ResponseWriter, []byte) bool
		query  func(*digitorus.Request)
		want   error
	}{
		"slow":     {func(http.ResponseWriter, []byte) bool { <-wait; return true }, nil, timestamp.ErrUnavailable},
		"garbage":  {func(w http.ResponseWriter, _ []byte) bool { fmt.Fprint(w, "?"); return true }, nil, timestamp.ErrToken},
		"mixed up": {nil, func(r *digitorus.Request) { r.HashedMessage = make([]byte, 32) }, timestamp.ErrImprint},
	} {
		tsa.Handle(f.handle)
		tsa.Query(f.query)
		w.grow(1, 1, "search")
		if a, err := m.Make(t.Context()); !errors.Is(err, f.want) || a == nil {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	if r := w.verify(tsa); !r.OK || r.Anchors != 3 || r.Stamped != 0 {
		t.Errorf("without an authority: %+v", r)
	}
	tsa.Handle(nil)
	tsa.Query(nil)
	m = w.maker(anchor.Config{Store: "file:x", Authority: tsa.URL, AuthorityCA: tsa.CAFile, Timeout: 10 * time.Second})
	_, err := m.Make(t.Context()) // nothing new, but the last has no token
	w.check(err)
	w.second.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
		return objecttest.Fault{Before: objecttest.ErrFault}
	})
	for range 2 {
		w.grow(1, 1, "search")
		if _, err := m.Make(t.Context()); !errors.Is(err, objecttest.ErrFault) {
			t.Errorf("second place away: %v", err)
		}
	}
	w.second.SetFault(nil)
	_, err = m.Make(t.Context())
	w.check(err)
	if r := w.verify(tsa); !r.OK || r.Anchors != 5 || r.Stamped != 3 || len(r.Findings) > 0 {
		t.Errorf("caught up: %+v", r)
	}
}

func TestConfig(t *testing.T) {
	good := anchor.Config{Every: time.Hour, Timeout: time.Second}
	if err := good.Validate(); err != nil || good.Enabled() {
		t.Errorf("%v", err)
	}
	bad := anchor.Config{Store: "ftp:x", Authority: "tsa", AuthorityCA: "/absent"}
	err := bad.Validate()
	for _, key := range []string{"anchor.every", "anchor.timeout", "anchor.store", "anchor.authority:", "anchor.authority_ca"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not named: %v", key, err)
		}
	}
}
