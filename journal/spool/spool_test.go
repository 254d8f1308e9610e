package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func TestRoundTrip(t *testing.T) {
	cfg := testConfig(filepath.Join(t.TempDir(), "not", "yet", "there"))
	opt := Options{Node: "n1", idleDelay: time.Hour}
	s := mustOpen(t, cfg, opt)

	sizes := []int{0, 1, 100, 4095, 4096, 4097, 100_000}
	bodies := map[record.ID][]byte{}
	var order []record.ID
	for i, n := range sizes {
		body := mail(uint64(i), n)[:n]
		id := accept(t, s, journaled(), body)
		bodies[id] = body
		order = append(order, id)
	}
	act := record.Act{Kind: record.ActSearch, Actor: record.Actor{ID: "uid:1"}, Detail: map[string]any{"query": "<x>"}}
	if err := s.AppendAct(t.Context(), act); err != nil {
		t.Fatal(err)
	}
	refused := &record.Item{Kind: record.KindRefused, Envelope: &record.Envelope{Source: record.SourceSMTP}}
	if err := s.Append(t.Context(), refused); err != nil || refused.Seq != uint64(len(sizes)+2) {
		t.Fatal(refused.Seq, err)
	}

	check := func(s *Spool) {
		t.Helper()
		items := all(t, s)
		if len(items) != len(sizes)+2 {
			t.Fatalf("%d items", len(items))
		}
		for i, it := range items {
			if err := checkItem(it); err != nil {
				t.Error(err)
			}
			if it.Seq != uint64(i+1) {
				t.Errorf("item %d has sequence %d", i, it.Seq)
			}
			if i >= len(order) {
				continue
			}
			if got, err := bodyOf(it); it.ID != order[i] || err != nil || !bytes.Equal(got, bodies[it.ID]) {
				t.Errorf("item %d: %s, %d bytes, %v", i, it.ID, len(got), err)
			}
			if e := it.Envelope; e.V != record.Version || e.Node != "n1" || e.Nonce == (record.Nonce{}) || e.Received.Location() != time.UTC || e.Received.IsZero() {
				t.Errorf("envelope %+v", e)
			}
		}
		if it := items[len(order)]; it.Act.Node != "n1" || it.Act.Detail["query"] != "<x>" {
			t.Errorf("act %+v", it.Act)
		}
		if err := checkNumbers(items, 1, s.Newest()); err != nil {
			t.Error(err)
		}
		if w := s.Waiting(); len(w) != 1 || w[0] != [2]uint64{1, uint64(len(items))} {
			t.Errorf("waiting: %v", w)
		}
	}
	check(s)
	before := digest(all(t, s))
	mustClose(t, s)
	s = mustOpen(t, cfg, opt)
	check(s)
	if after := digest(all(t, s)); after != before {
		t.Errorf("after a restart:\n%s\nbefore:\n%s", after, before)
	}
	mustClose(t, s)
}

func TestRelaySettlesByOutcome(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	a := accept(t, s, relayed(), mail(1, 100))
	b := accept(t, s, relayed(), mail(2, 100))
	if items := all(t, s); len(items) != 0 {
		t.Fatalf("%d items before an outcome", len(items))
	}
	if n, bytes := s.Pending(); n != 2 || bytes < 200 {
		t.Errorf("pending: %d records, %d bytes", n, bytes)
	}
	if it, err := s.Find(t.Context(), b); err != nil || it == nil || it.ID != b || it.Ref != 0 {
		t.Errorf("find: %v, %v", it, err)
	}
	auth := func(id record.ID) *record.Item {
		return &record.Item{Kind: record.KindSupplement, Supplement: &record.SupplementDoc{Supplement: record.Supplement{ID: id, Name: "auth"}}}
	}
	if err := s.Append(t.Context(), auth(b)); err != nil {
		t.Fatal(err)
	}
	tail := s.Tail()
	if err := s.AppendSoon(delivered(b)); err != nil {
		t.Fatal(err)
	}
	it, err := tail.Next(t.Context())
	if err != nil || it.ID != b || len(it.Supplements) != 2 || it.Supplements[0].Name != "auth" || it.Delivery().Outcome != record.Delivered {
		t.Fatalf("%+v, %v", it, err)
	}
	// What comes later is an item of its own.
	if err := s.Append(t.Context(), auth(b)); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), delivered(a)); err != nil {
		t.Fatal(err)
	}
	items, err := drain(tail)
	if err != nil || len(items) != 2 || items[0].Kind != record.KindSupplement || items[0].ID != b || items[1].ID != a || len(items[1].Supplements) != 1 {
		t.Fatalf("%s %v", digest(items), err)
	}
	if it, err := s.Find(t.Context(), b); err != nil || it == nil || it.Ref == 0 || len(it.Supplements) != 3 {
		t.Errorf("find: %+v, %v", it, err)
	}
	if it, err := s.Find(t.Context(), record.NewID(time.Now())); err != nil || it != nil {
		t.Errorf("find of what is not there: %+v, %v", it, err)
	}
	want := digest(all(t, s))
	mustClose(t, s)
	s = mustOpen(t, testConfig("/s"), opt)
	if got := digest(all(t, s)); got != want {
		t.Errorf("after a restart:\n%s\nbefore:\n%s", got, want)
	}
	mustClose(t, s)
}

func TestUnknownOutcomeAfterRestart(t *testing.T) {
	fs := newSimFS()
	opt, alarms := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	id := accept(t, s, relayed(), mail(1, 9000))
	fs2 := fs.after(nil)
	mustClose(t, s)
	for round := range 3 { // killed, and then closed in good order: the outcome is written once
		opt.FS = fs2
		s = mustOpen(t, testConfig("/s"), opt)
		items := all(t, s)
		if len(items) != 1 || items[0].ID != id {
			t.Fatalf("round %d: %s", round, digest(items))
		}
		if err := checkItem(items[0]); err != nil {
			t.Error(err)
		}
		d := items[0].Delivery()
		if len(items[0].Supplements) != 1 || d.Outcome != record.Unknown || d.Reason == "" || len(d.Recipients) != 2 || d.Recipients[1].Address != "c@y.example" {
			t.Errorf("round %d: %+v", round, d)
		}
		mustClose(t, s)
	}
	if a := alarms.all(); len(a) > 0 {
		t.Error(a)
	}
}

func TestBodyErrorsKeepNothing(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	boom := errors.New("boom")
	for _, n := range []int{0, 10, 4096, 4097, 50_000} {
		for _, want := range []error{boom, io.ErrUnexpectedEOF} {
			body := io.MultiReader(bytes.NewReader(mail(1, max(n, 20))[:n]), iotest.ErrReader(want))
			if _, err := s.Accept(t.Context(), journaled(), body, AcceptOptions{}); !errors.Is(err, want) {
				t.Errorf("%d bytes: %v, want %v", n, err, want)
			}
		}
	}
	finish := func(env *record.Envelope) error {
		if env.Size != 50_000 || env.SHA256.IsZero() || env.Received.IsZero() {
			t.Errorf("finish was given %+v", env)
		}
		return boom
	}
	if _, err := s.Accept(t.Context(), journaled(), bytes.NewReader(mail(1, 50_000)), AcceptOptions{Finish: finish}); !errors.Is(err, boom) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Accept(ctx, journaled(), bytes.NewReader(mail(1, 50)), AcceptOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := s.Accept(t.Context(), journaled(), zeroReader{}, AcceptOptions{}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
	if n := s.inflight.Load(); n != 0 {
		t.Errorf("%d bytes in flight", n)
	}
	id, err := s.Accept(t.Context(), journaled(), iotest.OneByteReader(bytes.NewReader(mail(7, 6000))), AcceptOptions{
		Finish: func(env *record.Envelope) error { env.BareLF = 3; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	items := all(t, s)
	if len(items) != 1 || items[0].Seq != 1 || items[0].ID != id || items[0].Envelope.BareLF != 3 {
		t.Error(digest(items))
	}
	if files, _ := fs.ReadDir("/s/big"); len(files) != 1 {
		t.Errorf("large messages: %v", files)
	}
	mustClose(t, s)
}

type zeroReader struct{}

func (zeroReader) Read([]byte) (int, error) { return 0, nil }

func TestReleaseDeletes(t *testing.T) {
	fs := newSimFS()
	opt, alarms := simOptions(fs)
	cfg := testConfig("/s")
	s := mustOpen(t, cfg, opt)
	for i := range 100 { // about seven segments
		accept(t, s, journaled(), mail(uint64(i), 3000+i%3*1000))
	}
	items := all(t, s)
	index := s.Tail()
	if it, err := index.Next(t.Context()); err != nil || it.Seq != 1 {
		t.Fatal(it, err)
	}
	late, err := items[50].Body()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), items[:90]); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), items[:90]); err != nil {
		t.Error("a second release:", err)
	}
	if err := s.Release(t.Context(), []*record.Item{{}}); !errors.Is(err, ErrInvalid) {
		t.Error("a strange item:", err)
	}
	if _, err := items[0].Body(); !errors.Is(err, ErrReleased) {
		t.Error("body of a released item:", err)
	}
	if b, err := io.ReadAll(late); err != nil || record.Sum(b) != items[50].Envelope.SHA256 {
		t.Error("a body that was open:", err)
	}
	late.Close()
	if it, err := index.Next(t.Context()); err != nil || it.Seq != 91 {
		t.Errorf("the other tail: %+v, %v", it, err)
	}
	if n, _ := s.Pending(); n != 10 {
		t.Errorf("%d pending", n)
	}
	if w := s.Waiting(); len(w) != 1 || w[0] != [2]uint64{91, 100} {
		t.Errorf("waiting: %v", w)
	}
	if n := len(segmentsOn(fs)); n > 4 {
		t.Errorf("%d segments are left", n)
	}
	mustClose(t, s)
	s = mustOpen(t, cfg, opt)
	if again := all(t, s); len(again) > 12 || again[len(again)-1].Seq != 100 {
		t.Errorf("after a restart %d items came again", len(again))
	}
	if err := s.Release(t.Context(), all(t, s)); err != nil {
		t.Error(err)
	}
	if n, bytes := s.Pending(); n != 0 || bytes != 0 {
		t.Errorf("pending: %d records, %d bytes", n, bytes)
	}
	if id := accept(t, s, journaled(), mail(1, 10)); all(t, s)[0].Seq != 101 {
		t.Error("a sequence was used again:", id)
	}
	mustClose(t, s)
	if a := alarms.all(); len(a) > 0 {
		t.Error(a)
	}
}

func segmentsOn(fs *simFS) (names []string) {
	files, _ := fs.ReadDir("/s")
	for _, f := range files {
		if strings.HasSuffix(f.Name, segmentSuffix) {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return names
}

// A message whose next hop takes its time holds its own segment, not the later ones; and what these knew of older ones is not forgotten.
func TestStuckMessage(t *testing.T) {
	fs := newSimFS()
	opt, alarms := simOptions(fs)
	cfg := testConfig("/s")
	s := mustOpen(t, cfg, opt)
	straddler := accept(t, s, relayed(), mail(1, 3000))
	stuck := accept(t, s, relayed(), mail(2, 3000))
	tail := s.Tail()
	for i := range 100 {
		if i == 2 { // a write that fails: the run that it drops is accounted for in a segment that is deleted soon
			fs.fault = func(_ int, op, _ string) fault {
				if op == "write" {
					fs.fault = nil
					return fault{err: syscall.EIO}
				}
				return fault{}
			}
			if _, err := s.Accept(t.Context(), journaled(), bytes.NewReader(mail(5, 10)), AcceptOptions{}); !errors.Is(err, ErrFailed) {
				t.Error(err)
			}
		}
		accept(t, s, journaled(), mail(uint64(10+i), 3000))
		if i == 30 {
			if err := s.Append(t.Context(), delivered(straddler)); err != nil {
				t.Fatal(err)
			}
		}
		items, err := drain(tail)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Release(t.Context(), items); err != nil {
			t.Fatal(err)
		}
	}
	if used := s.used.Load(); used > 256<<10 {
		t.Errorf("%d bytes are kept for one message", used)
	}
	for _, crash := range []bool{true, false} {
		next := fs.copyFS()
		if crash {
			next = fs.after(nil)
		}
		opt.FS = next
		s2 := mustOpen(t, cfg, opt)
		for _, it := range all(t, s2) {
			if it.Drop != nil {
				t.Errorf("crash %v: dropped again: %+v", crash, it.Drop)
			}
			if it.ID == straddler {
				t.Errorf("crash %v: a message came again whose outcome is gone: %+v", crash, it.Delivery())
			}
			if it.ID == stuck && it.Delivery().Outcome != record.Unknown {
				t.Errorf("crash %v: %+v", crash, it.Delivery())
			}
		}
		mustClose(t, s2)
	}
	if err := s.Append(t.Context(), delivered(stuck)); err != nil {
		t.Fatal(err)
	}
	items, err := drain(tail)
	if err != nil || len(items) != 1 || items[0].ID != stuck {
		t.Fatal(digest(items), err)
	}
	if err := s.Release(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	if n := segmentsOn(fs); len(n) != 1 {
		t.Errorf("left: %v", n)
	}
	mustClose(t, s)
	if a := alarms.all(); len(a) > 0 {
		t.Error(a)
	}
}

// Mail that is released does not stay in the newest segment of a quiet node.
func TestQuietNodeKeepsNothing(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	opt.idleDelay = time.Millisecond
	s := mustOpen(t, testConfig("/s"), opt)
	secret := mail(1, 300)
	accept(t, s, journaled(), secret)
	if err := s.Release(t.Context(), all(t, s)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the segment is deleted", func() bool {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		for _, f := range fs.dirs["/s"].now {
			if bytes.Contains(f.data, secret) {
				return false
			}
		}
		return true
	})
	accept(t, s, journaled(), mail(2, 10))
	if items := all(t, s); len(items) != 1 || items[0].Seq != 2 {
		t.Error(digest(items))
	}
	mustClose(t, s)
	s = mustOpen(t, testConfig("/s"), opt)
	if items := all(t, s); len(items) != 1 || items[0].Seq != 2 {
		t.Error(digest(items))
	}
	mustClose(t, s)
}

func TestLimits(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	cfg := testConfig("/s")
	cfg.MaxBytes = 1 << 20
	s := mustOpen(t, cfg, opt)
	var err error
	for range 1000 {
		if _, err = s.Accept(t.Context(), journaled(), bytes.NewReader(mail(1, 20_000)), AcceptOptions{}); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if used := s.used.Load(); used > cfg.MaxBytes+64<<10 {
		t.Errorf("%d bytes are used", used)
	}
	if err := s.AppendAct(t.Context(), record.Act{Kind: record.ActView}); err != nil {
		t.Error("an act in a full spool:", err)
	}
	if err := s.Release(t.Context(), all(t, s)); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(1000); err != nil {
		t.Error("after release:", err)
	}
	for _, c := range []struct {
		space Space
		size  int64
		want  error
	}{
		{Space{Bytes: 16 << 10, Inodes: 100}, 1000, nil},
		{Space{Bytes: 16 << 10, Inodes: -1}, 1000, nil},
		{Space{Bytes: 16 << 10, Inodes: 2}, 1000, ErrNoSpace},
		{Space{Bytes: 1 << 10, Inodes: 100}, 1000, ErrNoSpace},
		{Space{Bytes: 16 << 10, Inodes: 100}, 11 << 10, ErrNoSpace},
		{Space{Bytes: 1 << 40, Inodes: 100}, 1 << 62, ErrFull},
		{Space{Bytes: 1 << 40, Inodes: 100}, 1 << 20, ErrFull},
	} {
		fs.space = c.space
		if err := s.Ready(c.size); !errors.Is(err, c.want) {
			t.Errorf("%+v, message of %d: %v, want %v", c.space, c.size, err, c.want)
		}
	}
	fs.space = Space{Bytes: 1 << 40}
	mustClose(t, s)
	if err := s.Ready(0); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestSequenceFloor(t *testing.T) {
	fs := newSimFS()
	opt, alarms := simOptions(fs)
	opt.MinSeq = 500
	cfg := testConfig("/s")
	s := mustOpen(t, cfg, opt)
	accept(t, s, journaled(), mail(1, 10))
	mustClose(t, s)
	opt.MinSeq = 1000 // the ledger has seen more than the spool: it was set back
	s = mustOpen(t, cfg, opt)
	accept(t, s, journaled(), mail(1, 10))
	mustClose(t, s)
	opt.MinSeq = 0
	s = mustOpen(t, cfg, opt)
	accept(t, s, journaled(), mail(1, 10))
	var seqs []uint64
	for _, it := range all(t, s) {
		seqs = append(seqs, it.Seq)
	}
	if !slices.Equal(seqs, []uint64{500, 1000, 1001}) {
		t.Error(seqs)
	}
	mustClose(t, s)
	if a := alarms.all(); len(a) > 0 {
		t.Error(a)
	}
}

func TestLockedAndClosed(t *testing.T) {
	cfg := testConfig(filepath.Join(t.TempDir(), "spool"))
	reg := prometheus.NewRegistry()
	s := mustOpen(t, cfg, Options{Metrics: reg})
	if _, err := Open(cfg, Options{}); !errors.Is(err, ErrLocked) {
		t.Error("a second spool in the folder:", err)
	}
	accept(t, s, journaled(), mail(1, 10))
	if n, err := testutil.GatherAndCount(reg, "holdfast_spool_pending_records", "holdfast_spool_bytes", "holdfast_spool_fsync_seconds"); n != 3 || err != nil {
		t.Error(n, err)
	}
	want := "# HELP holdfast_spool_pending_records Records, acts and supplements in custody, not yet committed to the archive.\n" +
		"# TYPE holdfast_spool_pending_records gauge\nholdfast_spool_pending_records 1\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "holdfast_spool_pending_records"); err != nil {
		t.Error(err)
	}
	other := testConfig(filepath.Join(t.TempDir(), "spool"))
	if _, err := Open(other, Options{Metrics: reg}); err == nil {
		t.Error("a second spool with the same metrics")
	}
	if n, err := testutil.GatherAndCount(reg, "holdfast_spool_bytes"); n != 1 || err != nil {
		t.Error(n, err)
	}
	mustClose(t, mustOpen(t, other, Options{}))
	tail := s.Tail()
	drain(tail)
	ended := make(chan error)
	go func() {
		_, err := tail.Next(context.Background())
		ended <- err
	}()
	mustClose(t, s)
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Error("a tail that waits:", err)
	}
	if err := s.Close(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error("closed twice:", err)
	}
	if _, err := s.Accept(t.Context(), journaled(), strings.NewReader(""), AcceptOptions{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := s.AppendAct(t.Context(), record.Act{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := s.AppendSoon(delivered(record.NewID(time.Now()))); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	mustClose(t, mustOpen(t, cfg, Options{Metrics: reg}))
}

// Close waits for the message that is being received, and writes the outcomes that wait for company.
func TestCloseWaits(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	opt.lazyDelay = time.Hour
	s := mustOpen(t, testConfig("/s"), opt)
	id := accept(t, s, relayed(), mail(1, 100))
	if err := s.AppendSoon(delivered(id)); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	accepted := make(chan error, 1)
	go func() {
		_, err := s.Accept(context.Background(), journaled(), r, AcceptOptions{})
		accepted <- err
	}()
	w.Write([]byte("first half"))
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	eventually(t, "the spool takes nothing more", func() bool { return errors.Is(s.Ready(0), ErrClosed) })
	w.Write([]byte(", second half"))
	w.Close()
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	opt.FS = fs.after(nil)
	s = mustOpen(t, testConfig("/s"), opt)
	items := all(t, s)
	for _, it := range items {
		if it.ID == id && it.Delivery().Outcome != record.Delivered {
			t.Errorf("%+v", it.Delivery())
		}
	}
	if len(items) != 2 {
		t.Error(digest(items))
	}
	mustClose(t, s)

	s = mustOpen(t, testConfig("/s"), opt)
	r, w = io.Pipe()
	go func() {
		_, err := s.Accept(context.Background(), journaled(), r, AcceptOptions{})
		accepted <- err
	}()
	w.Write([]byte("never ends"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.Close()
	if err := <-accepted; !errors.Is(err, ErrClosed) {
		t.Error("a message that ends after the spool was closed:", err)
	}
}

func TestInvalidItems(t *testing.T) {
	opt, _ := simOptions(newSimFS())
	s := mustOpen(t, testConfig("/s"), opt)
	defer mustClose(t, s)
	for _, it := range []*record.Item{
		{}, {Kind: record.KindMessage, Envelope: &record.Envelope{}}, {Kind: record.KindAct}, {Kind: record.KindSupplement},
		{Kind: record.KindDropped, Drop: &record.Drop{First: 1, Last: 2}},
		{Kind: record.KindSupplement, Supplement: &record.SupplementDoc{}},
		{Kind: record.KindAct, Act: &record.Act{Detail: map[string]any{"x": func() {}}}},
	} {
		if err := s.Append(t.Context(), it); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", it, err)
		}
	}
	if err := s.AppendSoon(&record.Item{Kind: record.KindAct, Act: &record.Act{}}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestConfigValidate(t *testing.T) {
	if err := (Config{Dir: "x"}).Validate(); err != nil {
		t.Error(err)
	}
	err := Config{MaxBytes: 5, SegmentBytes: 3, InlineBytes: -1, ReserveBytes: -2}.Validate()
	for _, want := range []string{"spool.dir", "spool.max_bytes: 5", "spool.segment_bytes: 3", "spool.inline_bytes: -1", "spool.reserve_bytes: -2"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if _, err := Open(Config{}, Options{}); err == nil {
		t.Error("opened without a folder")
	}
}

// Many writers, two tails, releases: what the race detector is for.
func TestConcurrent(t *testing.T) {
	cfg := testConfig(filepath.Join(t.TempDir(), "spool"))
	alarms := &alarms{}
	s := mustOpen(t, cfg, Options{Node: "test", Log: slog.New(alarms), lazyDelay: time.Millisecond, idleDelay: time.Millisecond})
	const writers, each = 16, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[record.ID]record.Digest{}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				body := mail(uint64(w*1000+i), 200+i*150)
				env := journaled()
				if i%2 == 0 {
					env = relayed()
				}
				id, err := s.Accept(context.Background(), env, bytes.NewReader(body), AcceptOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				want[id] = record.Sum(body)
				mu.Unlock()
				if i%2 == 0 {
					if err := s.AppendSoon(delivered(id)); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Find(context.Background(), id); err != nil {
					t.Error(err)
				}
				s.Waiting()
			}
		})
	}
	ctx, stopIndex := context.WithCancel(t.Context())
	indexed := make(chan struct{})
	go func() {
		defer close(indexed)
		for tail := s.Tail(); ; {
			it, err := tail.Next(ctx)
			if err != nil {
				return
			}
			if _, err := bodyOf(it); err != nil && !errors.Is(err, ErrReleased) {
				t.Error(err)
			}
		}
	}()
	seen := map[record.ID]bool{}
	tail := s.Tail()
	var batch, everything []*record.Item
	for len(seen) < writers*each {
		it, err := tail.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := checkItem(it); err != nil {
			t.Error(err)
		}
		if seen[it.ID] {
			t.Errorf("%s came twice", it.ID)
		}
		seen[it.ID] = true
		everything = append(everything, it)
		if batch = append(batch, it); len(batch) == 25 {
			if err := s.Release(t.Context(), batch); err != nil {
				t.Error(err)
			}
			batch = nil
		}
	}
	wg.Wait()
	if err := s.Release(t.Context(), batch); err != nil {
		t.Error(err)
	}
	stopIndex()
	<-indexed
	for _, it := range everything {
		if want[it.ID] != it.Envelope.SHA256 {
			t.Errorf("%s is not what was accepted", it.ID)
		}
	}
	if err := checkNumbers(everything, 1, s.Newest()); err != nil {
		t.Error(err)
	}
	if n, bytes := s.Pending(); n != 0 || bytes != 0 {
		t.Errorf("pending: %d, %d bytes", n, bytes)
	}
	mustClose(t, s)
	if a := alarms.all(); len(a) > 0 {
		t.Error(a)
	}
	if left, _ := os.ReadDir(filepath.Join(cfg.Dir, "big")); len(left) > 20 {
		t.Errorf("%d large messages are left", len(left))
	}
}

// Two million records may wait when the store is down for long.
func TestQueueIsSmall(t *testing.T) {
	q := newQueue()
	const n = 200_000
	for i := range n {
		q.push(slot{seq: uint64(i + 1), kind: frameMessage}, nil)
	}
	if got := testing.AllocsPerRun(1, func() { q.seek(0) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if size := unsafe.Sizeof(slot{}); size > 48 {
		t.Errorf("%d bytes for each record", size)
	}
	for pos := uint64(1); pos <= n; pos += 2 {
		q.release(pos)
	}
	if pos := q.seek(0); pos != 2 || q.left != n/2 {
		t.Error(pos, q.left)
	}
	for pos := uint64(2); pos <= n; pos += 2 {
		q.release(pos)
	}
	if len(q.chunks) > 1 || q.left != 0 || q.seek(0) != q.end {
		t.Error(len(q.chunks), q.left)
	}
	if pos := q.push(slot{}, []loc{{1, 2}, {3, 4}}); pos != n+1 || len(q.attached(pos, q.get(pos))) != 2 {
		t.Error(pos)
	}
}

func ExampleSpool() {
	dir, _ := os.MkdirTemp("", "spool")
	defer os.RemoveAll(dir)
	s, err := Open(Config{Dir: dir}, Options{Node: "main"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if _, err := s.Accept(ctx, record.Envelope{}, strings.NewReader("Subject: hello\r\n\r\n"), AcceptOptions{}); err == nil {
		fmt.Println("250 in custody")
	}
	it, _ := s.Tail().Next(ctx)
	fmt.Println("archived:", it.Seq, it.Envelope.Size, "bytes")
	s.Release(ctx, []*record.Item{it})
	s.Close(ctx)
	// Output:
	// 250 in custody
	// archived: 1 18 bytes
}
