package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/mail"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// bench is a queue on a bench: a spool, a disk and a world that are made for the test.
type bench struct {
	*Queue
	spool   *fakeSpool
	disk    *memFS
	carrier *fakeCarrier
	cfg     Config
	stop    func() // and wait
}

// newBench starts a queue. To be called in a synctest bubble.
func newBench(t *testing.T, cfg Config, carry func(ctx context.Context, to string, j Job) Result, change ...func(*Options)) *bench {
	t.Helper()
	cfg.Dir = "/queue"
	rng := rand.New(rand.NewPCG(1, 2))
	b := &bench{spool: newFakeSpool(t, rng), disk: newMemFS(t, rng), cfg: cfg}
	b.carrier = newFakeCarrier(t, cfg, carry)
	b.start(t, change...)
	return b
}

func (b *bench) start(t *testing.T, change ...func(*Options)) {
	t.Helper()
	o := Options{
		Custody: b.spool, Source: b.spool, Carrier: b.carrier, Audit: b.spool, FS: b.disk, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Hostname: func(string) string { return "mx.test" },
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if b.Queue, err = Open(b.cfg, o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx, 10*time.Second) }()
	b.stop = func() { cancel(); <-done }
	t.Cleanup(b.stop)
}

func (b *bench) empty(t *testing.T) {
	t.Helper()
	if left := b.disk.names("/queue", ""); len(left) > 0 {
		t.Errorf("left in the folder: %v", left)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.entries) > 0 || len(b.dests) > 0 || b.spooled != 0 || len(b.waits) > 0 || len(b.wakes) > 0 || b.running != 0 || len(b.downs) > 0 {
		t.Errorf("left in memory: %d messages, %d destinations, %d from the spool, %d legs, %d wakes, %d running, %d down",
			len(b.entries), len(b.dests), b.spooled, len(b.waits), len(b.wakes), b.running, len(b.downs))
	}
}

// the parts of a report as text
func (b *bench) report(t *testing.T, about record.ID) string {
	t.Helper()
	ids := b.spool.reports()[about.String()]
	if len(ids) != 1 {
		t.Fatalf("%d reports about %s", len(ids), about)
	}
	m, err := mail.ReadMessage(strings.NewReader(b.spool.text(ids[0])))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func always(code int, enhanced, text string) func(context.Context, string, Job) Result {
	return func(_ context.Context, _ string, j Job) Result {
		if err := readAll(j); err != nil {
			return Result{Fault: err}
		}
		return answer(j, code, enhanced, text)
	}
}

func TestDeliveredAtOnceNeverTouchesTheFolder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, Config{}, always(250, "2.0.0", "ok"))
		time.Sleep(time.Second)
		ops := b.disk.operations()
		id := b.spool.mail("ada@home.test", "bob@dest.test", "eve@dest.test")
		time.Sleep(time.Second)
		b.empty(t)
		if got := b.disk.operations() - ops; got > 0 {
			t.Errorf("%d operations", got)
		}
		all := b.spool.deliveries(id)
		last := all[len(all)-1].Delivery
		if !last.Next.IsZero() || last.Outcome != record.Delivered || len(last.Recipients) != 2 {
			t.Errorf("%+v", last)
		}
		if len(b.spool.reports()) != 0 {
			t.Error("the sender is told of a success that he did not ask for")
		}
	})
}

func TestRetriesGrowUntilItIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		begin := time.Now()
		var mu sync.Mutex
		var tries []time.Duration
		b := newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			if to == "home.test" {
				return answer(j, 250, "2.0.0", "ok")
			}
			mu.Lock()
			tries = append(tries, time.Since(begin))
			mu.Unlock()
			return answer(j, 451, "4.3.0", "not now")
		})
		id := b.spool.mail("ada@home.test", "bob@dest.test FAILURE,DELAY")
		time.Sleep(6 * 24 * time.Hour)
		b.empty(t)
		for i := 1; i < len(tries)-1; i++ { // the last one is cut to the age
			want := min(5*time.Minute<<min(i-1, 10), 4*time.Hour)
			if gap := tries[i] - tries[i-1]; gap < want*4/5 || gap > want*6/5 {
				t.Errorf("try %d came after %v, not about %v", i, gap, want)
			}
		}
		if last := tries[len(tries)-1]; last < 5*24*time.Hour || last > 5*24*time.Hour+time.Minute {
			t.Errorf("the last try came after %v", last)
		}
		all := b.spool.deliveries(id)
		if len(all) != len(tries) {
			t.Errorf("%d supplements of %d attempts", len(all), len(tries))
		}
		for i, s := range all {
			if s.Name != fmt.Sprintf("delivery-%d", i+1) || s.Delivery.Next.IsZero() != (i == len(all)-1) {
				t.Errorf("supplement %d: %s %+v", i, s.Name, s.Delivery)
			}
		}
		reports := b.spool.reports()[id.String()]
		if len(reports) != 2 {
			t.Fatalf("%d reports", len(reports))
		}
		delay, end := b.spool.text(reports[0]), b.spool.text(reports[1])
		if !strings.Contains(delay, "Action: delayed") || !strings.Contains(delay, "Will-Retry-Until:") || !strings.Contains(end, "Action: failed") || !strings.Contains(end, "Status: 4.4.7") {
			t.Errorf("%s\n%s", delay, end)
		}
	})
}

func TestPermanentRefusalIsReportedOnceForAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			if to == "slow.test" {
				time.Sleep(time.Minute)
			}
			if to == "home.test" {
				return answer(j, 250, "2.0.0", "ok")
			}
			return answer(j, 550, "5.1.1", "nobody at "+to)
		})
		id := b.spool.mail("ada@home.test", "a@dest.test", "b@slow.test", "c@quiet.test NEVER")
		time.Sleep(time.Hour)
		b.empty(t)
		text := b.report(t, id)
		for _, want := range []string{"nobody at dest.test", "nobody at slow.test"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in the report", want)
			}
		}
		if strings.Contains(text, "c@quiet.test") {
			t.Error("a recipient with NOTIFY=NEVER is reported")
		}
	})
}

func TestReportsAreNotReported(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, Config{}, always(550, "5.7.1", "go away"))
		id := b.spool.mail("ada@home.test", "bob@dest.test")
		null := b.spool.mail("", "bob@dest.test")
		time.Sleep(time.Hour)
		b.empty(t)
		reports := b.spool.reports()
		if len(reports) != 1 || len(reports[id.String()]) != 1 || len(reports[null.String()]) != 0 {
			t.Errorf("%v", reports)
		}
	})
}

func TestSuccessIsToldWhereTheServerDoesNot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			r := answer(j, 250, "2.0.0", "ok")
			r.Notifies, r.Final = to == "dsn.test", to == "lmtp.test"
			return r
		})
		quiet := b.spool.mail("ada@home.test", "bob@dsn.test SUCCESS")
		relayed := b.spool.mail("ada@home.test", "bob@dest.test SUCCESS,FAILURE")
		box := b.spool.mail("ada@home.test", "bob@lmtp.test SUCCESS")
		time.Sleep(time.Hour)
		b.empty(t)
		if n := len(b.spool.reports()[quiet.String()]); n != 0 {
			t.Errorf("%d reports where the server sends one", n)
		}
		if text := b.report(t, relayed); !strings.Contains(text, "Action: relayed") {
			t.Error(text)
		}
		if text := b.report(t, box); !strings.Contains(text, "Action: delivered") {
			t.Error(text)
		}
	})
}

func TestUnknownIsTriedAgainAndRecorded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var n atomic.Int64
		b := newBench(t, Config{}, func(_ context.Context, _ string, j Job) Result {
			if n.Add(1) == 1 {
				return answer(j, -1, "", "no reply to the dot")
			}
			return answer(j, 250, "2.0.0", "ok")
		})
		id := b.spool.mail("ada@home.test", "bob@dest.test")
		time.Sleep(time.Hour)
		b.empty(t)
		all := b.spool.deliveries(id)
		if len(all) != 2 || all[0].Delivery.Outcome != record.Unknown || all[0].Delivery.Next.IsZero() || all[1].Delivery.Outcome != record.Delivered {
			t.Errorf("%+v", all)
		}
	})
}

// A destination that is down is tried by one message at a time, however many wait, and all go once it is up.
func TestDownDestinationIsProbedByFew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var up atomic.Bool
		b := newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			time.Sleep(100 * time.Millisecond)
			if to == "down.test" && !up.Load() {
				return unreachable(j)
			}
			return answer(j, 250, "2.0.0", "ok")
		})
		for range 500 {
			b.spool.mail("ada@home.test", "bob@down.test")
		}
		ok := b.spool.mail("ada@home.test", "bob@up.test")
		time.Sleep(30 * time.Second)
		if len(b.spool.deliveries(ok)) != 1 {
			t.Error("the backlog of one destination keeps another waiting")
		}
		time.Sleep(24 * time.Hour)
		if n := b.carrier.attempts("down.test"); n > initialWindow+24*5+10 {
			t.Errorf("%d attempts in a day", n)
		}
		if err := b.List(context.Background(), record.Actor{ID: "uid:0"}, Selection{All: true}, func(m Message) error {
			if m.State != StateDeferred {
				return fmt.Errorf("%s is %s", m.ID, m.State)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		up.Store(true)
		time.Sleep(20 * time.Minute)
		left := 0
		b.mu.Lock()
		left = len(b.entries)
		b.mu.Unlock()
		if left > initialWindow {
			t.Errorf("%d messages still wait 20 minutes after the destination came back", left)
		}
		time.Sleep(5 * time.Hour)
		b.empty(t)
	})
}

func TestDestinationsTakeTurns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, Config{Deliveries: 10, DestinationDeliveries: 10}, func(_ context.Context, to string, j Job) Result {
			time.Sleep(time.Second)
			return answer(j, 250, "2.0.0", "ok")
		})
		for range 400 {
			b.spool.mail("ada@home.test", "bob@many.test")
		}
		var few []record.ID
		for range 20 {
			few = append(few, b.spool.mail("ada@home.test", "bob@few.test"))
		}
		time.Sleep(12 * time.Second)
		for _, id := range few {
			if len(b.spool.deliveries(id)) != 1 {
				t.Fatal("the few wait behind the many")
			}
		}
		time.Sleep(time.Hour)
		b.empty(t)
		if b.carrier.most("many.test") < 9 {
			t.Errorf("%d deliveries at most at once", b.carrier.most("many.test"))
		}
	})
}

func TestFullDiskLeavesMailInTheSpool(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var full, later atomic.Bool
		full.Store(true)
		later.Store(true)
		b := newBench(t, Config{}, func(_ context.Context, _ string, j Job) Result {
			if err := readAll(j); err != nil {
				return Result{Fault: err}
			}
			if later.Load() {
				return answer(j, 450, "4.2.0", "later")
			}
			return answer(j, 250, "2.0.0", "ok")
		})
		b.disk.mu.Lock()
		b.disk.faulty = func(op, _ string) bool { return full.Load() && (op == "write" || op == "create") }
		b.disk.mu.Unlock()
		a, c := b.spool.mail("ada@home.test", "bob@dest.test"), b.spool.mail("ada@home.test", "bob@dest.test")
		time.Sleep(20 * time.Minute)
		if n := len(b.disk.names("/queue", "")); n != 0 || b.spool.isEnded(a) || len(b.spool.deliveries(a)) != 0 {
			t.Errorf("%d files, ended %v, %d supplements", n, b.spool.isEnded(a), len(b.spool.deliveries(a)))
		}
		b.Apply(context.Background(), record.Actor{ID: "uid:0"}, Selection{IDs: []record.ID{c}}, Change{Do: Drop, Reason: "test"})
		full.Store(false)
		time.Sleep(time.Hour)
		if n := len(b.disk.names("/queue", ".json")); n != 1 || !b.spool.isEnded(a) {
			t.Errorf("%d files, ended %v", n, b.spool.isEnded(a))
		}
		later.Store(false)
		time.Sleep(5 * time.Hour)
		b.empty(t)
		if all := b.spool.deliveries(c); len(all) != 1 || !strings.HasPrefix(all[0].Delivery.Reason, "dropped by uid:0: test") {
			t.Errorf("%+v", all)
		}
	})
}

// What was delivered while the state can't be written is done with all the same: it is what makes room.
func TestFullDiskIsFreedByWhatIsDone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var later atomic.Bool
		later.Store(true)
		b := newBench(t, Config{}, func(_ context.Context, _ string, j Job) Result {
			if later.Load() {
				return answer(j, 450, "4.2.0", "later")
			}
			return answer(j, 250, "2.0.0", "ok")
		}, func(o *Options) { o.FS = &fullFS{FS: o.FS} })
		b.spool.mail("ada@home.test", "bob@dest.test")
		time.Sleep(time.Minute)
		later.Store(false)
		b.folder.fs.(*fullFS).full.Store(true)
		time.Sleep(time.Hour)
		b.empty(t)
	})
}

// fullFS has no room for new files.
type fullFS struct {
	FS
	full atomic.Bool
}

func (f *fullFS) Create(name string) (File, error) {
	if f.full.Load() {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return f.FS.Create(name)
}

func TestHoldReleaseRetryDrop(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var later atomic.Bool
		var tries atomic.Int64
		later.Store(true)
		b := newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			tries.Add(1)
			if later.Load() && to != "home.test" {
				return answer(j, 450, "4.2.0", "later")
			}
			return answer(j, 250, "2.0.0", "ok")
		})
		ctx, by := context.Background(), record.Actor{ID: "uid:7"}
		apply := func(sel Selection, c Change, want int) {
			t.Helper()
			if n, err := b.Apply(ctx, by, sel, c); err != nil || n != want {
				t.Errorf("%s: %d, %v", c.Do, n, err)
			}
			time.Sleep(time.Second)
		}
		one, two := b.spool.mail("ada@home.test", "bob@one.test"), b.spool.mail("ada@home.test", "bob@two.test")
		time.Sleep(time.Second)
		apply(Selection{Domain: "one.test"}, Change{Do: Hold}, 1)
		before := tries.Load()
		apply(Selection{All: true}, Change{Do: Retry}, 1) // what is held is not meant
		if tries.Load() != before+1 {
			t.Errorf("%d attempts", tries.Load()-before)
		}
		if _, err := b.Apply(ctx, by, Selection{IDs: []record.ID{one}}, Change{Do: Retry}); !errors.Is(err, ErrRequest) {
			t.Errorf("retry of a held message: %v", err)
		}
		time.Sleep(20 * 24 * time.Hour) // the other one expires, a held one never does
		b.stop()
		b.start(t)
		time.Sleep(time.Hour)
		m, err := b.Show(ctx, by, one)
		if err != nil || m.State != StateHeld || m.Held.By != "uid:7" || m.Recipients[0].Code != 450 {
			t.Errorf("%+v, %v", m, err)
		}
		if _, err := b.Show(ctx, by, two); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		if _, err := b.Apply(ctx, by, Selection{IDs: []record.ID{one}}, Change{Do: Drop}); !errors.Is(err, ErrRequest) {
			t.Errorf("drop without a reason: %v", err)
		}
		later.Store(false)
		apply(Selection{IDs: []record.ID{one}}, Change{Do: Release}, 1)
		b.empty(t)
		later.Store(true)
		three := b.spool.mail("ada@home.test", "bob@one.test")
		time.Sleep(time.Second)
		apply(Selection{All: true}, Change{Do: Drop, Reason: "spam", Bounce: true}, 1)
		time.Sleep(time.Minute)
		b.empty(t)
		if text := b.report(t, three); !strings.Contains(text, "Action: failed") || strings.Contains(text, "spam") {
			t.Error(text)
		}
		for i, want := range []string{
			"queue-hold uid:7 map[count:1 domain:one.test]", "queue-retry uid:7 map[all:true count:2]", "queue-retry uid:7",
			"queue-view uid:7", "queue-view uid:7", "queue-release uid:7", "queue-drop uid:7 map[all:true bounce:true count:1 reason:spam]",
		} {
			if !strings.HasPrefix(b.spool.acts[i], want) {
				t.Errorf("act %d: %s, not %s", i, b.spool.acts[i], want)
			}
		}
	})
}

// What can't be written down as an act does not happen.
func TestNoActNoChange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, Config{}, always(450, "4.2.0", "later"))
		id := b.spool.mail("ada@home.test", "bob@one.test")
		time.Sleep(time.Second)
		broken := errors.New("no custody")
		b.spool.mu.Lock()
		b.spool.fails = func(op string) error {
			if op == "act" {
				return broken
			}
			return nil
		}
		b.spool.mu.Unlock()
		for _, c := range []Change{{Do: Hold}, {Do: Drop, Reason: "x"}, {Do: Retry}, {Do: Release}} {
			if _, err := b.Apply(context.Background(), record.Actor{ID: "uid:0"}, Selection{All: true}, c); !errors.Is(err, broken) {
				t.Errorf("%s: %v", c.Do, err)
			}
		}
		if err := b.List(context.Background(), record.Actor{ID: "uid:0"}, Selection{All: true}, func(Message) error { t.Error("shown"); return nil }); !errors.Is(err, broken) {
			t.Error(err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if e := b.entries[id]; e == nil || e.held {
			t.Errorf("%+v", e)
		}
	})
}

func TestClockJumpsNeitherExpireNorStorm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var jump, tries atomic.Int64
		wall := func(o *Options) { o.Wall = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) } }
		b := newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			tries.Add(1)
			return answer(j, 450, "4.2.0", "later")
		}, wall)
		b.spool.mail("ada@home.test", "bob@one.test")
		time.Sleep(time.Hour)
		before := tries.Load()
		for _, d := range []time.Duration{30 * 24 * time.Hour, -60 * 24 * time.Hour, 100 * 24 * time.Hour} {
			jump.Store(int64(d))
			time.Sleep(time.Minute)
		}
		if tries.Load() > before+1 || len(b.spool.reports()) > 0 {
			t.Errorf("%d attempts, %d reports", tries.Load()-before, len(b.spool.reports()))
		}
		b.stop()
		jump.Store(int64(1000 * 24 * time.Hour)) // set while we were away
		b.start(t, wall)
		time.Sleep(time.Hour)
		if len(b.spool.reports()) > 0 {
			t.Error("a clock that was set while we were away gave a message up")
		}
		b.stop()
		jump.Store(int64(-1000 * 24 * time.Hour))
		b.start(t, wall)
		before = tries.Load()
		time.Sleep(5 * time.Hour)
		if tries.Load() == before {
			t.Error("a clock that was set back keeps a message from being tried")
		}
	})
}

func TestStopLetsDeliveriesEndWithinTheGrace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, Config{}, func(ctx context.Context, to string, j Job) Result {
			d := 5 * time.Second
			if to == "slow.test" {
				d = time.Hour
			}
			select {
			case <-time.After(d):
				return answer(j, 250, "2.0.0", "ok")
			case <-ctx.Done():
				return answer(j, 0, "", "cut off")
			}
		})
		quick, slow := b.spool.mail("ada@home.test", "bob@quick.test"), b.spool.mail("ada@home.test", "bob@slow.test")
		time.Sleep(time.Second)
		began := time.Now()
		b.stop()
		if d := time.Since(began); d > 11*time.Second {
			t.Errorf("the stop took %v", d)
		}
		if len(b.spool.deliveries(quick)) != 1 || len(b.spool.deliveries(slow)) != 0 {
			t.Errorf("%v, %v", b.spool.deliveries(quick), b.spool.deliveries(slow))
		}
		b.spool.restart()
		b.start(t)
		time.Sleep(2 * time.Hour)
		b.empty(t)
		if len(b.spool.deliveries(slow)) != 1 {
			t.Error("what was cut off is forgotten")
		}
	})
}

func TestManyRecipientsGoInSeveralTransactions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		most := 0
		b := newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, len(j.Recipients))
			return answer(j, 250, "2.0.0", "ok")
		})
		var to []string
		for i := range 350 {
			to = append(to, fmt.Sprintf("r%d@dest.test", i))
		}
		id := b.spool.mail("ada@home.test", to...)
		time.Sleep(time.Minute)
		b.empty(t)
		all := b.spool.deliveries(id)
		if most != maxRecipients || len(all) != 4 || len(all[3].Delivery.Recipients) != 350 {
			t.Errorf("at most %d recipients, %d supplements", most, len(all))
		}
	})
}

func TestDamagedMessageIsSetAsideAndOthersGo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var later atomic.Bool
		later.Store(true)
		b := newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			if later.Load() {
				return answer(j, 450, "4.2.0", "later")
			}
			if err := readAll(j); err != nil {
				return Result{Fault: err}
			}
			return answer(j, 250, "2.0.0", "ok")
		})
		body, state, good := b.spool.mail("ada@home.test", "a@one.test"), b.spool.mail("ada@home.test", "b@one.test"), b.spool.mail("ada@home.test", "c@one.test")
		time.Sleep(time.Minute)
		b.stop()
		b.disk.files["/queue/"+body.String()+".eml"].data[3] ^= 1
		b.disk.files["/queue/"+state.String()+".json"].data[3] ^= 1
		later.Store(false)
		b.start(t)
		time.Sleep(time.Hour)
		b.empty(t)
		if n := len(b.disk.names("/queue/damaged", "")); n != 4 {
			t.Errorf("%d files set aside", n)
		}
		if len(b.spool.deliveries(good)) != 2 {
			t.Error("a good message did not go")
		}
	})
}

func TestDeliveryWaitsForTheArchiveAndEndsWithTheSpool(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		archived := map[record.ID]bool{}
		var tries atomic.Int64
		b := newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			if err := readAll(j); err != nil {
				return Result{Fault: err}
			}
			tries.Add(1)
			return answer(j, 250, "2.0.0", "ok")
		}, func(o *Options) {
			o.Await = func(_ context.Context, env *record.Envelope) error {
				mu.Lock()
				defer mu.Unlock()
				if !archived[env.ID] {
					return errors.New("the store is down")
				}
				return nil
			}
		})
		one, two := b.spool.mail("ada@home.test", "a@one.test"), b.spool.mail("ada@home.test", "a@one.test")
		time.Sleep(time.Hour)
		if tries.Load() != 0 {
			t.Error("delivered before it is in the archive")
		}
		// The client of the second was told 451: the handler ends it.
		b.spool.Append(context.Background(), &record.Item{Kind: record.KindSupplement, ID: two, Supplement: &record.SupplementDoc{Supplement: record.Supplement{
			ID: two, Name: "delivery-1", Delivery: &record.Delivery{Outcome: record.Refused, Reason: "not acknowledged"},
		}}})
		mu.Lock()
		archived[one], archived[two] = true, true
		mu.Unlock()
		time.Sleep(time.Hour)
		b.empty(t)
		if tries.Load() != 1 {
			t.Errorf("%d deliveries", tries.Load())
		}
	})
}

// What a server has taken is known, though the disk can't be read when it says so: nobody gets the message twice for that.
func TestDeliveredThoughTheStateCantBeRead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var taken atomic.Int64
		var b *bench
		faulty := func(op, name string) bool { return op == "open" && strings.HasSuffix(name, jsonSuffix) }
		b = newBench(t, Config{}, func(_ context.Context, to string, j Job) Result {
			if b.carrier.attempts(to) == 1 {
				return answer(j, 450, "4.2.0", "later")
			}
			taken.Add(1)
			b.disk.mu.Lock()
			b.disk.faulty = faulty
			b.disk.mu.Unlock()
			return answer(j, 250, "2.0.0", "ok")
		})
		id := b.spool.mail("ada@home.test", "bob@one.test")
		time.Sleep(10 * time.Minute)
		b.disk.mu.Lock()
		b.disk.faulty = nil
		b.disk.mu.Unlock()
		time.Sleep(time.Hour)
		if n := taken.Load(); n != 1 {
			t.Errorf("delivered %d times", n)
		}
		if all := b.spool.deliveries(id); len(all) != 2 || all[1].Delivery.Outcome != record.Delivered {
			t.Errorf("%+v", all)
		}
		b.empty(t)
	})
}

// A message that is damaged in the spool is given up in the end, and its sender told, instead of being read in vain for ever.
func TestDamagedInTheSpoolIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBench(t, Config{}, always(250, "2.0.0", "ok"))
		b.spool.fails = func(op string) error {
			if op == "open" {
				return spool.ErrDamaged
			}
			return nil
		}
		id := b.spool.mail("ada@home.test", "bob@one.test")
		time.Sleep(6 * 24 * time.Hour)
		if text := b.report(t, id); !strings.Contains(text, "Action: failed") {
			t.Error(text)
		}
	})
}

// <postmaster> has no domain.
func TestDomainOf(t *testing.T) {
	for address, want := range map[string]string{"postmaster": "", "a@B.test": "b.test", `"a@b"@c.test`: "c.test"} {
		if got := domainOf(address); got != want {
			t.Errorf("%s: %q, not %q", address, got, want)
		}
	}
}

// What waits for the archive can't be held: after a restart nothing would say that it has to wait.
func TestHoldOfWhatTheArchiveDoesNotHave(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		away := func(o *Options) {
			o.Await = func(context.Context, *record.Envelope) error { return errors.New("the store is down") }
		}
		b := newBench(t, Config{}, always(250, "2.0.0", "ok"), away)
		id := b.spool.mail("ada@home.test", "bob@one.test")
		time.Sleep(time.Minute)
		by := record.Actor{ID: "uid:7"}
		if _, err := b.Apply(t.Context(), by, Selection{IDs: []record.ID{id}}, Change{Do: Hold}); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		b.stop()
		b.start(t, away)
		b.Apply(t.Context(), by, Selection{All: true}, Change{Do: Release})
		time.Sleep(time.Hour)
		if n := b.carrier.attempts("one.test"); n != 0 {
			t.Errorf("delivered %d times before the archive has it", n)
		}
	})
}

// A large queue takes little memory.
func TestMemoryOfALargeQueue(t *testing.T) {
	dir := t.TempDir()
	f := &folder{dir: dir, fs: lazyFS{}, log: slog.New(slog.DiscardHandler), alarm: func() {}}
	const n = 5_000
	for range n {
		s := someState(t, "hello\r\n")
		s.Written = time.Now()
		s.Recipients[0].Next, s.Recipients[1].Next = time.Now().Add(time.Hour), time.Now().Add(time.Hour)
		if _, err := f.take(s, opening("hello\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	sp := newFakeSpool(t, rand.New(rand.NewPCG(1, 1)))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	q, err := Open(Config{Dir: dir}, Options{Custody: sp, Source: sp, Audit: sp, Carrier: newFakeCarrier(t, Config{}, always(250, "", ""))})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	q.load(context.Background())
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("%d bytes for each of %d messages, loaded in %v", each, n, took)
	if each > 1024 {
		t.Errorf("%d bytes for each message", each)
	}
	runtime.KeepAlive(q)
}

// lazyFS does not sync, so that a test makes many files.
type lazyFS struct{ osFS }

func (lazyFS) SyncDir(string) error { return nil }
func (l lazyFS) Create(name string) (File, error) {
	f, err := l.osFS.Create(name)
	return lazyFile{f}, err
}

type lazyFile struct{ File }

func (lazyFile) Sync() error { return nil }

func TestConfigNamesEveryFault(t *testing.T) {
	err := Config{FirstRetry: time.Millisecond, MaxRetry: time.Microsecond, Expire: 1, DelayNotice: 1, Deliveries: -1, DestinationDeliveries: 99999, ReturnSize: 1}.Validate()
	for _, key := range []string{"first_retry", "max_retry", "expire", "delay_notice", "deliveries", "destination_deliveries", "return_size"} {
		if err == nil || !strings.Contains(err.Error(), "queue."+key+": ") {
			t.Errorf("%s is not named: %v", key, err)
		}
	}
	if err := (Config{Dir: filepath.Join("x")}).Validate(); err != nil {
		t.Error(err)
	}
}
