package spool

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// forwardedBy reads a Forwarding to its end.
func forwardedBy(t *testing.T, f *Forwarding) (ids []record.ID) {
	t.Helper()
	for {
		it, err := f.TryNext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if it == nil {
			return ids
		}
		if err := checkItem(it); err != nil {
			t.Error(err)
		}
		ids = append(ids, it.ID)
	}
}

func wantIDs(t *testing.T, what string, got []record.ID, want ...record.ID) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
}

// In queue mode the archive gets a message at once, and it stays until its forwarding has ended, through restarts.
func TestQueueStaysUntilForwarded(t *testing.T) {
	fs := newSimFS()
	opt, alarms := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	body := mail(1, 3000)
	a, b, c := accept(t, s, queued(), body), accept(t, s, queued(), mail(2, 3000)), accept(t, s, queued(), mail(3, 9000))
	items := all(t, s)
	if len(items) != 3 || items[0].ID != a || len(items[0].Supplements) != 0 {
		t.Fatal(digest(items))
	}
	f := s.Forwarding()
	wantIDs(t, "first", forwardedBy(t, f), a, b, c)
	wantIDs(t, "once", forwardedBy(t, f))

	if err := s.Append(t.Context(), deferred(a)); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), delivered(b)); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, "another reader", forwardedBy(t, s.Forwarding()), a, c)

	// The archive has everything and lots of mail passes by: a stays, what is known of b too.
	tail := s.Tail()
	for i := range 60 {
		if i == 40 {
			if err := s.Append(t.Context(), delivered(c)); err != nil {
				t.Fatal(err)
			}
		}
		accept(t, s, journaled(), mail(uint64(10+i), 3000))
		items, err := drain(tail)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Release(t.Context(), items); err != nil {
			t.Fatal(err)
		}
	}
	if n, bytes := s.Pending(); n != 0 || bytes != 0 {
		t.Errorf("pending: %d records, %d bytes", n, bytes)
	}
	if w := s.Waiting(); len(w) != 0 {
		t.Errorf("waiting: %v", w)
	}
	if used := s.used.Load(); used > 256<<10 {
		t.Errorf("%d bytes are kept for one message", used)
	}
	for _, next := range []*simFS{fs.copyFS(), fs.after(nil)} {
		opt.FS = next
		s2 := mustOpen(t, testConfig("/s"), opt)
		wantIDs(t, "after a restart", forwardedBy(t, s2.Forwarding()), a)
		r, err := s2.Open(a)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != string(body) {
			t.Error(len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s2.Open(c); !errors.Is(err, ErrReleased) {
			t.Error(err)
		}
		mustClose(t, s2)
	}
	s.End(a)
	s.End(a)
	if n := segmentsOn(fs); len(n) != 1 {
		t.Errorf("left: %v", n)
	}
	if n := len(s.staying.byID); n != 0 {
		t.Errorf("%d messages stay", n)
	}
	mustClose(t, s)
	if a := alarms.all(); len(a) > 0 {
		t.Error(a)
	}
}

// A message that was ended here because it had another durable place, and whose last supplement came later, is not given out again after a
// restart, though its own segment had to stay for the sake of another and that of the supplement had not.
func TestEndedElsewhereIsNotForwardedAgain(t *testing.T) {
	fs := newSimFS()
	opt, alarms := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	a, pin := accept(t, s, queued(), mail(1, 3000)), accept(t, s, queued(), mail(2, 3000))
	s.End(a)
	tail := s.Tail()
	for i := range 60 {
		if i == 30 {
			if err := s.Append(t.Context(), delivered(a)); err != nil {
				t.Fatal(err)
			}
		}
		accept(t, s, journaled(), mail(uint64(10+i), 3000))
		items, err := drain(tail)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Release(t.Context(), items); err != nil {
			t.Fatal(err)
		}
	}
	for _, next := range []*simFS{fs.copyFS(), fs.after(nil)} {
		opt.FS = next
		s2 := mustOpen(t, testConfig("/s"), opt)
		wantIDs(t, "after a restart", forwardedBy(t, s2.Forwarding()), pin)
		mustClose(t, s2)
	}
	s.End(pin)
	if n := len(segmentsOn(fs)); n != 1 {
		t.Errorf("left: %d segments", n)
	}
	if n := len(s.staying.loose); n != 0 {
		t.Errorf("%d messages are remembered that nobody can find", n)
	}
	mustClose(t, s)
	if a := alarms.all(); len(a) > 0 {
		t.Error(a)
	}
}

// A reader that waits is woken.
func TestForwardingWaits(t *testing.T) {
	opt, _ := simOptions(newSimFS())
	s := mustOpen(t, testConfig("/s"), opt)
	got := make(chan *record.Item)
	f := s.Forwarding()
	go func() {
		for {
			it, err := f.Next(context.Background())
			if err != nil {
				if !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				close(got)
				return
			}
			got <- it
		}
	}()
	accept(t, s, journaled(), mail(1, 10))
	id := accept(t, s, queued(), mail(2, 10))
	if it := <-got; it.ID != id {
		t.Error(it.ID)
	}
	mustClose(t, s)
	if it := <-got; it != nil {
		t.Error(it.ID)
	}
}

// What is given to the archive early is there once, its outcome follows, and a restart that finds none adds one.
func TestEarly(t *testing.T) {
	fs := newSimFS()
	opt, alarms := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	early := AcceptOptions{Early: true, Verdict: true} // the second is without meaning then
	a, b := acceptWith(t, s, relayedEarly(), mail(1, 100), early), acceptWith(t, s, relayedEarly(), mail(2, 100), early)
	tail := s.Tail()
	items, err := drain(tail)
	if err != nil || len(items) != 2 || items[0].ID != a || items[0].Delivery() != nil {
		t.Fatal(digest(items), err)
	}
	if err := s.Release(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), delivered(a)); err != nil {
		t.Fatal(err)
	}
	if items, err = drain(tail); err != nil || len(items) != 1 || items[0].Supplement == nil || items[0].ID != a {
		t.Fatal(digest(items), err)
	}
	wantIDs(t, "forwarding", forwardedBy(t, s.Forwarding()))
	if r, err := s.Open(b); err != nil {
		t.Error(err)
	} else {
		r.Close()
	}
	crashed := fs.after(nil)
	mustClose(t, s)
	for range 2 {
		opt.FS = crashed
		s = mustOpen(t, testConfig("/s"), opt)
		items = all(t, s)
		if len(items) != 4 || items[3].Supplement == nil || items[3].ID != b || items[3].Supplement.Delivery.Outcome != record.Unknown {
			t.Error(digest(items))
		}
		if n := len(s.staying.byID); n != 0 {
			t.Errorf("%d messages stay", n)
		}
		mustClose(t, s)
	}
	if a := alarms.all(); len(a) > 0 {
		t.Error(a)
	}
}

func TestVerdict(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	owed := AcceptOptions{Verdict: true}
	tail := s.Tail()
	next := func(want record.ID, supplements ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		it, err := tail.Next(ctx)
		if err != nil || it.ID != want {
			t.Fatal(it, err)
		}
		if len(it.Supplements) != len(supplements) {
			t.Fatalf("%+v", it.Supplements)
		}
		for i, name := range supplements {
			if it.Supplements[i].Name != name {
				t.Errorf("%+v", it.Supplements)
			}
		}
	}
	none := func() {
		t.Helper()
		if it, err := tail.TryNext(t.Context()); it != nil || err != nil {
			t.Fatal(it, err)
		}
	}
	put := func(it *record.Item) {
		t.Helper()
		if err := s.Append(t.Context(), it); err != nil {
			t.Fatal(err)
		}
	}
	a := acceptWith(t, s, journaled(), mail(1, 100), owed)
	none()
	if r, err := s.Open(a); err != nil {
		t.Error(err)
	} else {
		r.Close()
	}
	put(verdict(a))
	next(a, "auth")

	b := acceptWith(t, s, journaled(), mail(2, 100), owed)
	s.Waive(record.NewID(time.Now()))
	none()
	s.Waive(b)
	next(b)
	put(verdict(b)) // too late: by itself
	next(b)

	c := acceptWith(t, s, relayed(), mail(3, 100), owed)
	put(delivered(c))
	none()
	put(verdict(c))
	next(c, "delivery-1", "auth")

	d := acceptWith(t, s, relayed(), mail(4, 100), owed)
	s.Waive(d)
	put(verdict(d)) // in time all the same: the outcome is not there
	none()
	put(delivered(d))
	next(d, "auth", "delivery-1")

	e := acceptWith(t, s, queued(), mail(5, 100), owed)
	put(delivered(e))
	none()
	wantIDs(t, "forwarding", forwardedBy(t, s.Forwarding()))
	s.Waive(e)
	next(e, "delivery-1")
	mustClose(t, s)
}

// A verdict that does not come is not waited for for ever.
func TestVerdictNeverComes(t *testing.T) {
	opt, _ := simOptions(newSimFS())
	opt.verdictDelay = time.Millisecond
	s := mustOpen(t, testConfig("/s"), opt)
	id := acceptWith(t, s, journaled(), mail(1, 100), AcceptOptions{Verdict: true})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if it, err := s.Tail().Next(ctx); err != nil || it.ID != id {
		t.Error(it, err)
	}
	if n := len(s.waiting); n != 0 {
		t.Error(n)
	}
	mustClose(t, s)
}

// A million messages may wait for their destinations, and those that have ended are forgotten though an old one stays.
func TestStaysAreSmall(t *testing.T) {
	const n = 200_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s := newStays()
	ids := make([]record.ID, n)
	for i := range ids {
		ids[i] = record.NewID(time.Now())
		s.add(ids[i], stay{seq: uint64(i + 1), queued: true})
	}
	if each := (heap() - before) / n; each > 16+250 { // a map that has just grown is half empty
		t.Errorf("%d bytes for each", each)
	}
	if k, _, ok := s.after(n / 2); !ok || k.seq != n/2+1 {
		t.Error(k, ok)
	}
	if keys := s.within([2]uint64{3, 5}); len(keys) != 3 || keys[0].id != ids[2] {
		t.Error(keys)
	}
	for _, id := range ids[1:] {
		s.end(id)
	}
	if len(s.order) > 1100 || len(s.byID) != 1 {
		t.Errorf("%d of %d", len(s.order), len(s.byID))
	}
	if k, _, ok := s.after(0); !ok || k.id != ids[0] {
		t.Error(k, ok)
	}
	if _, _, ok := s.after(1); ok {
		t.Error("one that has ended is given")
	}
	runtime.KeepAlive(s)
}
