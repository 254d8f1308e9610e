package index_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
)

// run starts a Follower and gives what stops it.
func run(n *fakeNode, x *fakeIndex, more func(*index.Options)) (f *index.Follower, stop func()) {
	o := index.Options{Node: node, Backend: x, Ledger: n, Tail: &fakeTail{fakeNode: n}}
	if more != nil {
		more(&o)
	}
	f = index.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		f.Run(ctx)
		close(done)
	}()
	return f, func() {
		cancel()
		<-done
	}
}

func settle(t *testing.T, f *index.Follower) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := f.Settle(ctx); err != nil {
		n, known := f.Lag()
		t.Fatalf("%v: lag %d, %v", err, n, known)
	}
}

// complete checks that everything is found, with its text.
func (n *fakeNode) complete(x *fakeIndex) {
	n.t.Helper()
	n.mu.Lock()
	kept, late := maps.Clone(n.kept), maps.Clone(n.late)
	for id := range n.damaged {
		delete(late, id)
	}
	n.mu.Unlock()
	for id, list := range late {
		want := document.Fact{Field: document.Outcome, Value: fmt.Sprint(549 + len(list))}
		if d := x.document(id); d == nil || d.OutcomeOpen || !slices.Contains(d.Facts, want) {
			n.t.Errorf("%s: the outcome that came later is not there: %+v", id, d)
		}
	}
	for id, want := range kept {
		if got, ok := x.subject(id); !ok || got != want {
			n.t.Errorf("%s: subject %q, %v; want %q", id, got, ok, want)
		}
	}
}

func TestFollowsTheTailBeforeTheArchive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 1)
		x := newIndex(n)
		f, stop := run(n, x, nil)
		defer stop()
		first, second := n.accept(), n.accept()
		n.settle(second) // out of order
		time.Sleep(2 * time.Second)
		if _, ok := x.subject(second.ID); !ok {
			t.Error("not found within two seconds")
		}
		if x.cursor("spool/"+node) != 0 {
			t.Error("the spool's cursor is past a record that has not settled")
		}
		if lag, known := f.Lag(); lag != 1 || !known {
			t.Errorf("lag %d, %v with one delivery under way", lag, known)
		}
		n.settle(first)
		settle(t, f)
		n.complete(x)
		if got := x.cursor("spool/" + node); got != 2 {
			t.Errorf("spool's cursor %d, want 2", got)
		}
		n.archive(-1)
		settle(t, f)
		if got := x.cursor(nodeLog); got != n.Size(nodeLog) {
			t.Errorf("log's cursor %d, want %d", got, n.Size(nodeLog))
		}
		p := f.Progress()
		if len(p) != 1 || p[0].Log != nodeLog || p[0].Entries != n.Size(nodeLog) || p[0].Time.IsZero() {
			t.Errorf("progress %+v", p)
		}
	})
}

func TestBatchesGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 2)
		x := newIndex(n)
		f, stop := run(n, x, nil)
		for range 500 { // 100 a second
			n.settle(n.accept())
			time.Sleep(10 * time.Millisecond)
		}
		settle(t, f)
		n.complete(x)
		stop()
		if x.batches > 12 || x.largest < 45 { // half a second each
			t.Errorf("%d batches, the largest of %d records", x.batches, x.largest)
		}
	})
}

func TestWaitsWhileBusyButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 3)
		x := newIndex(n)
		_, stop := run(n, x, func(o *index.Options) { o.Busy = func() bool { return true } })
		defer stop()
		it := n.accept()
		n.settle(it)
		time.Sleep(time.Second)
		if _, ok := x.subject(it.ID); ok {
			t.Error("indexed while busy")
		}
		time.Sleep(2 * time.Second)
		if _, ok := x.subject(it.ID); !ok {
			t.Error("not indexed for more than two seconds")
		}
	})
}

// TestAnOutcomeThatComesLater is of mode queue and ack: archive: a record is in the index before it is delivered.
func TestAnOutcomeThatComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 9)
		x := newIndex(n)
		f, stop := run(n, x, nil)
		one, two := n.accept(), n.accept()
		n.settle(one)
		n.settle(two)
		settle(t, f)
		n.archive(-1)
		settle(t, f)
		if d := x.document(one.ID); len(n.late) == 0 && !d.OutcomeOpen {
			t.Errorf("an outcome that nobody told: %+v", d)
		}
		for range 2 { // tried twice
			n.mu.Lock()
			n.learn(one.ID)
			n.mu.Unlock()
			settle(t, f)
			n.complete(x)
		}
		stop()
		x2 := newIndex(n) // a rebuild reads record and supplements in one batch
		f, stop = run(n, x2, func(o *index.Options) { o.Tail = nil })
		settle(t, f)
		stop()
		n.complete(x2)
		if d := x2.document(one.ID); d.Subject == "" || x2.batches > 1 {
			t.Errorf("%d batches, %+v", x2.batches, d)
		}
	})
}

// TestTheLedgerIsFirst: what the spool gave earlier, and is applied later, does not replace what the ledger knows since.
func TestTheLedgerIsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 10)
		x := newIndex(n)
		f, stop := run(n, x, func(o *index.Options) { o.Busy = func() bool { return true } }) // batches wait for a second
		defer stop()
		time.Sleep(1400 * time.Millisecond) // the ledger is read at 1.5, the batch of the spool is closed at 1.65
		it := n.accept()
		n.settle(it)
		time.Sleep(50 * time.Millisecond)
		n.archive(-1)
		n.mu.Lock()
		n.learn(it.ID)
		n.mu.Unlock()
		settle(t, f)
		time.Sleep(5 * time.Second) // the batch of the spool is applied
		n.complete(x)
	})
}

func TestRefusedMailIsLeftToTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 4)
		x := newIndex(n)
		f, stop := run(n, x, nil)
		defer stop()
		it := delivered(n.accept(), record.Refused)
		n.settle(it)
		n.settle(delivered(n.accept(), record.Unknown))
		time.Sleep(5 * time.Second)
		if _, ok := x.subject(it.ID); ok {
			t.Error("indexed with a text that the archive will not keep")
		}
		n.archive(-1)
		settle(t, f)
		n.complete(x)
	})
}

func TestUnreadableRecordsAreFoundAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 5)
		x := newIndex(n)
		var damaged []record.ID
		for range 10 {
			it := n.accept()
			n.settle(it)
			if it.Seq%3 == 0 {
				n.damaged[it.ID] = true
				n.kept[it.ID] = ""
				damaged = append(damaged, it.ID)
			}
		}
		n.archive(-1)
		reg := prometheus.NewRegistry()
		f, stop := run(n, x, func(o *index.Options) { o.Metrics = index.NewMetrics(reg) })
		defer stop()
		settle(t, f)
		n.complete(x)
		for _, id := range damaged {
			if d := x.document(id); d != nil && (!d.Partial || d.Received.IsZero()) {
				t.Errorf("%+v", d)
			}
		}
		if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP holdfast_index_unreadable_total Records of which the message could not be read or parsed: indexed without its text.
# TYPE holdfast_index_unreadable_total counter
holdfast_index_unreadable_total 3
`), "holdfast_index_unreadable_total"); err != nil {
			t.Error(err)
		}
	})
}

// TestDamageTakesNothingAway: what was indexed from the spool stays when the archive's copy turns out bad, whatever the cursors say.
func TestDamageTakesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 8)
		x := newIndex(n)
		f, stop := run(n, x, nil)
		it := n.accept()
		n.settle(it)
		settle(t, f)
		stop()
		n.archive(-1)
		n.damaged[it.ID] = true
		clear(x.through)
		f, stop = run(n, x, nil)
		defer stop()
		settle(t, f)
		n.complete(x)
	})
}

// TestIndexOfAnotherLedger: an index that has seen what the ledger has not must not pass for one of it.
func TestIndexOfAnotherLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 9)
		for range 20 {
			n.settle(n.accept())
		}
		n.archive(-1)
		x := newIndex(n)
		f, stop := run(n, x, nil)
		settle(t, f)
		stop()
		if err := index.CheckLedger(t.Context(), x, n); err != nil {
			t.Errorf("of the ledger that it followed: %v", err)
		}
		n.settle(n.accept())
		n.archive(-1)
		if err := index.CheckLedger(t.Context(), x, n); err != nil {
			t.Errorf("of the same that has grown: %v", err)
		}
		kept := n.entries
		n.entries = append(slices.Clone(kept[:10]), kept[11:]...) // set back, and grown again
		if err := index.CheckLedger(t.Context(), x, n); !errors.Is(err, index.ErrOtherLedger) {
			t.Errorf("of one with other entries: %v", err)
		}
		n.entries = kept[:10]
		if err := index.CheckLedger(t.Context(), x, n); !errors.Is(err, index.ErrOtherLedger) {
			t.Errorf("of a shorter one: %v", err)
		}
		if err := index.CheckLedger(t.Context(), newIndex(n), n); err != nil {
			t.Errorf("of an empty index: %v", err)
		}
	})
}

// TestWhatTheIndexLostComesAgain: out of the ledger and out of the spool, while the process runs and after a restart.
func TestWhatTheIndexLostComesAgain(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t, 10)
			x := newIndex(n)
			var months []string
			for range 3 {
				for range 20 {
					n.settle(n.accept())
				}
				months = append(months, index.Month(record.NewID(time.Now())))
				time.Sleep(31 * 24 * time.Hour)
			}
			f, stop := run(n, x, nil)
			defer func() { stop() }()
			settle(t, f)
			n.archive(40)
			settle(t, f)
			for _, month := range []string{months[0], months[2], index.Month(record.NewID(time.Now()))} {
				if restart {
					stop()
				}
				x.lose(month)
				if restart {
					f, stop = run(n, x, nil)
				}
				n.settle(n.accept())
				for end := time.Now().Add(time.Hour); len(x.Lost()) > 0; time.Sleep(time.Second) {
					if time.Now().After(end) {
						t.Fatalf("not restored: %v", x.Lost())
					}
				}
				settle(t, f)
				n.complete(x)
			}
		})
	}
}

func TestLagIsAbsentUntilKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 6)
		x := newIndex(n)
		x.setFaults(1)
		reg := prometheus.NewRegistry()
		m := index.NewMetrics(reg)
		shown := func() int {
			c, err := testutil.GatherAndCount(reg, "holdfast_index_lag_entries")
			if err != nil {
				t.Error(err)
			}
			return c
		}
		if shown() != 0 {
			t.Error("lag before there is a follower")
		}
		f, stop := run(n, x, func(o *index.Options) { o.Metrics = m })
		defer stop()
		m.Show(f)
		time.Sleep(time.Minute)
		if shown() != 0 || f.Progress() != nil {
			t.Error("lag before the cursors are known")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ready before the cursors are known: %v", err)
		}
		x.setFaults(0)
		if err := f.Ready(t.Context()); err != nil || f.Progress() == nil {
			t.Errorf("not ready: %v, %+v", err, f.Progress())
		}
		settle(t, f)
		if shown() != 1 {
			t.Error("no lag")
		}
	})
}

// TestASequenceGivenTwiceHidesNothing: a spool that was lost and starts again with numbers that the index has seen.
func TestASequenceGivenTwiceHidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 7)
		x := newIndex(n)
		x.through["spool/"+node], x.stale = 5, true
		f, stop := run(n, x, nil)
		defer stop()
		for range 7 {
			n.settle(n.accept())
		}
		n.archive(4)
		settle(t, f)
		n.complete(x)
	})
}

// TestWhatBearsNoSequenceHidesNothing: two processes took themselves for one node, and what the loser has in its spool comes without the
// numbers that the ledger gave to others. All that comes from the ledger after it is found all the same.
func TestWhatBearsNoSequenceHidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 8)
		x := newIndex(n)
		f, stop := run(n, x, nil)
		defer stop()
		foreign := n.accept()
		subject := fmt.Sprintf("s%d", foreign.Seq)
		n.mu.Lock()
		n.waiting.Remove(foreign.Seq)
		n.mu.Unlock()
		foreign.Seq = 0
		n.settle(foreign)
		n.mu.Lock()
		n.kept[foreign.ID] = subject
		n.mu.Unlock()
		time.Sleep(3 * time.Second)
		if got, ok := x.subject(foreign.ID); !ok || got != subject {
			t.Errorf("not found out of the spool: %q, %v", got, ok)
		}
		for range 3 {
			n.settle(delivered(n.accept(), record.Refused)) // these come by the ledger
		}
		n.archive(-1)
		settle(t, f)
		n.mu.Lock()
		delete(n.kept, foreign.ID) // what the archive of this test has of it has another subject
		n.mu.Unlock()
		n.complete(x)
	})
}

// TestRandomNode lets mail come, settle out of order, be archived and released, while everything fails now and then and the process
// starts again at any time. The index must be whole at the end, its cursors right at all times, and a lag of 0 never a lie.
func TestRandomNode(t *testing.T) {
	for range 6 {
		synctest.Test(t, func(t *testing.T) { randomNode(t, rand.Uint64()) })
	}
}

func randomNode(t *testing.T, seed uint64) {
	n := newNode(t, seed)
	n.faults = 0.1
	r := rand.New(rand.NewPCG(seed, 8))
	x := newIndex(n)
	x.faults = 0.1
	f, stop := run(n, x, nil)
	var open []*record.Item
	for range 400 {
		switch k := r.IntN(20); {
		case k < 8:
			open = append(open, n.accept())
		case k < 9:
			open = append(open, n.act())
		case k < 10:
			open = append(open, n.drop())
		case k < 11:
			open = append(open, delivered(n.accept(), record.Refused))
		case k < 12:
			n.settle(&record.Item{Kind: record.KindSupplement, Supplement: &record.SupplementDoc{}})
		case k < 16 && len(open) > 0:
			i := r.IntN(len(open))
			n.settle(open[i])
			open = append(open[:i], open[i+1:]...)
		case k < 17:
			n.archive(r.IntN(20))
		case k < 18:
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		case k < 19 && r.IntN(3) == 0:
			stop()
			f, stop = run(n, x, nil)
		default:
			n.mu.Lock()
			acknowledged := maps.Clone(n.kept)
			n.mu.Unlock()
			if lag, known := f.Lag(); known && lag == 0 {
				for id := range acknowledged {
					if _, ok := x.subject(id); !ok {
						t.Errorf("lag 0, and %s is not found", id)
					}
				}
			}
		}
	}
	for _, it := range open {
		n.settle(it)
	}
	if r.IntN(2) == 0 {
		time.Sleep(time.Minute)
	}
	n.archive(-1)
	settle(t, f)
	n.complete(x)
	stop()

	// A rebuild comes to the same.
	y := newIndex(n)
	f, stop = run(n, y, func(o *index.Options) { o.Tail = nil })
	settle(t, f)
	n.complete(y)
	stop()
}
