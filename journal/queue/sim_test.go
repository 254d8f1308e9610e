package queue

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// world is the model: what the mail servers out there have, and what the queue was told.
type world struct {
	t   *testing.T
	rng *rand.Rand

	spool      *fakeSpool
	generation atomic.Int64
	died       map[int]time.Time // when a process ended by a power cut
	mu         sync.Mutex
	told       map[string][]word // by record and recipient: the replies that the queue got
	drops      map[record.ID]bool
	calm       atomic.Bool  // from now on everything is delivered
	jump       atomic.Int64 // of the clock on the wall
}

type word struct {
	code       int // 250, 550; 450 and -1 are not kept
	at         time.Time
	generation int
}

func key(id record.ID, i int) string { return fmt.Sprint(id, " ", i) }

// carry is the outside world: servers that are up or down, slow, refuse, lose replies.
func (w *world) carry(ctx context.Context, to string, j Job) Result {
	generation := int(w.generation.Load())
	select {
	case <-time.After(time.Duration(w.rng.IntN(20_000)) * time.Millisecond):
	case <-ctx.Done():
		return answer(j, 0, "", "cut off")
	}
	hour := int(time.Since(epoch) / time.Hour)
	if !w.calm.Load() && (hour+len(to))%7 < 2 { // down for two hours in seven
		return unreachable(j)
	}
	if err := readAll(j); err != nil {
		return Result{Fault: err}
	}
	res := answer(j, 250, "2.0.0", "taken")
	for n := range res.Delivery.Recipients {
		r := &res.Delivery.Recipients[n]
		dice := w.rng.IntN(10)
		switch {
		case w.calm.Load() || dice < 4 || strings.HasPrefix(r.Address, "ada@"): // reports arrive
			w.tell(j, n, 250, generation)
		case dice < 5:
			r.Outcome, r.Code, r.Enhanced, r.Text = record.Refused, 550, "5.1.1", "nobody"
			w.tell(j, n, 550, generation)
		case dice < 6:
			r.Outcome, r.Code, r.Enhanced = record.Unknown, 0, ""
		default:
			r.Outcome, r.Code, r.Enhanced, r.Text = record.Refused, 450, "4.2.0", "later"
		}
	}
	return res
}

func (w *world) tell(j Job, n, code, generation int) {
	for i, p := range j.Envelope.Rcpt {
		if p == j.Recipients[n] {
			k := key(j.Envelope.ID, i)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told[k] = append(w.told[k], word{code, time.Now(), generation})
		}
	}
}

var epoch time.Time

// TestEveryRecipientEndsOnce lets a queue live through some weeks of random replies, power cuts at random file operations, faults of the
// disk, clock jumps, holds and drops. In the end every recipient was delivered once, or given up with a report, or dropped.
func TestEveryRecipientEndsOnce(t *testing.T) {
	seeds := 20
	if s := os.Getenv("QUEUE_SEEDS"); s != "" {
		seeds, _ = strconv.Atoi(s)
	}
	first := uint64(time.Now().UnixNano())
	if s := os.Getenv("QUEUE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, seeds = n, 1
	}
	for i := range uint64(seeds) {
		t.Run(fmt.Sprint("seed=", first+i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, first+i) })
		})
	}
}

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1)) // goroutines of one bubble use it at once only where the fakes hold a lock or nothing else runs
	w := &world{t: t, rng: rand.New(&lockedSource{src: rand.NewPCG(seed, 2)}), died: map[int]time.Time{}, told: map[string][]word{}, drops: map[record.ID]bool{}}
	epoch = time.Now()
	cfg := Config{Dir: "/queue", Deliveries: 6, DestinationDeliveries: 3}
	sp, fs := newFakeSpool(t, w.rng), newMemFS(t, w.rng)
	w.spool = sp
	crashes := rng.IntN(2) * rng.IntN(12)
	faults := rng.IntN(4) == 0
	var ids []record.ID
	for generation := 0; ; generation++ {
		w.generation.Store(int64(generation))
		last := generation >= crashes
		ctx, cancel := context.WithCancel(context.Background())
		fs.mu.Lock()
		fs.ops, fs.dieAt = 0, 0
		if !last {
			fs.dieAt = 1 + rng.IntN(200)
		}
		fs.died = func() { // the power fails for the spool at the same moment
			sp.kill()
			w.mu.Lock()
			w.died[generation] = time.Now()
			w.mu.Unlock()
			cancel()
		}
		fs.faulty = nil
		if faults && !last {
			fs.faulty = func(op, _ string) bool { return op != "readdir" && op != "mkdir" && w.rng.IntN(20) == 0 }
		}
		fs.mu.Unlock()
		q, err := Open(cfg, Options{
			Custody: sp, Source: sp, Carrier: newFakeCarrier(t, cfg, w.carry), Audit: sp, FS: fs,
			Wall: func() time.Time { return time.Now().Add(time.Duration(w.jump.Load())) }, Log: slog.New(slog.DiscardHandler),
		})
		done := make(chan struct{})
		if err != nil {
			if ctx.Err() == nil && !faults {
				t.Fatal(err)
			}
			close(done)
			cancel()
		} else {
			grace := time.Duration(rng.IntN(20)) * time.Second
			go func() { defer close(done); q.Run(ctx, grace) }()
			for step := 0; ctx.Err() == nil && step < 60; step++ {
				ids = append(ids, w.live(ctx, q, sp, rng, ids, last && step > 40)...)
				sleep(ctx, time.Duration(rng.IntN(300))*time.Minute)
			}
			if last {
				w.release(q, sp)
				w.calm.Store(true)
				sleep(ctx, 12*24*time.Hour)
			}
			if !last && ctx.Err() == nil { // it lived too long for its end: a plain stop
				sleep(ctx, time.Hour)
			}
			cancel()
			<-done
		}
		cancel()
		<-done
		if last {
			break
		}
		fs = fs.after()
		sp.restart()
		w.jump.Add(int64(rng.IntN(20)-10) * int64(24*time.Hour) * int64(rng.IntN(2)))
		time.Sleep(time.Duration(rng.IntN(100)) * time.Minute)
	}
	w.judge(sp, fs, crashes > 0 || faults, faults)
}

// live is what happens to a queue from outside.
func (w *world) live(ctx context.Context, q *Queue, sp *fakeSpool, rng *rand.Rand, ids []record.ID, quiet bool) (more []record.ID) {
	by := record.Actor{ID: "uid:0"}
	switch dice := rng.IntN(12); {
	case quiet:
	case dice < 6 && len(ids) < 40:
		from := "ada@home.test"
		if rng.IntN(8) == 0 {
			from = ""
		}
		var to []string
		for i := range 1 + rng.IntN(4) {
			to = append(to, fmt.Sprintf("r%d@d%d.test%s", i, rng.IntN(3), []string{"", " NEVER", " SUCCESS,FAILURE", " DELAY,FAILURE"}[rng.IntN(4)]))
		}
		sp.mu.Lock()
		dead := sp.dead
		sp.mu.Unlock()
		if !dead {
			if id := sp.mail(from, to...); !id.IsZero() {
				more = append(more, id)
			}
		}
	case dice < 7:
		w.jump.Add(int64(rng.IntN(60)-30) * int64(24*time.Hour))
	case len(ids) == 0:
	case dice < 8:
		q.Apply(ctx, by, Selection{IDs: []record.ID{ids[rng.IntN(len(ids))]}}, Change{Do: Hold})
	case dice < 9:
		q.Apply(ctx, by, Selection{All: true}, Change{Do: Release})
	case dice < 10:
		id := ids[rng.IntN(len(ids))]
		w.drops[id] = true // it may take effect even if the power fails before we hear so
		q.Apply(ctx, by, Selection{IDs: []record.ID{id}}, Change{Do: Drop, Reason: "test", Bounce: rng.IntN(2) == 0})
	case dice < 11:
		q.Apply(ctx, by, Selection{All: true}, Change{Do: Retry})
	default:
		q.List(ctx, by, Selection{All: true}, func(Message) error { return nil })
	}
	return more
}

func (w *world) release(q *Queue, sp *fakeSpool) {
	if _, err := q.Apply(context.Background(), record.Actor{ID: "uid:0"}, Selection{All: true}, Change{Do: Release}); err != nil {
		w.t.Error(err)
	}
}

// judge looks at the end of all things.
func (w *world) judge(sp *fakeSpool, fs *memFS, crashed, faults bool) {
	t := w.t
	if left := fs.names("/queue", ""); len(left) > 0 {
		t.Errorf("left in the folder: %v", left)
	}
	if left := fs.names("/queue/damaged", ""); len(left) > 0 {
		t.Errorf("set aside: %v", left)
	}
	reports := sp.reports()
	for _, id := range sp.order {
		env := sp.messages[id].Envelope
		fates := map[int]string{}
		finals := 0
		for _, sup := range sp.deliveries(id) {
			d := sup.Delivery
			if d.Next.IsZero() {
				finals++
			}
			for _, r := range d.Recipients {
				for i, p := range env.Rcpt {
					if p.Address != r.Address {
						continue
					}
					switch {
					case r.Outcome == record.Delivered:
						fates[i] += "delivered "
					case strings.HasPrefix(r.Text, "given up"):
						fates[i] += "expired "
					case strings.HasPrefix(r.Text, "dropped by"):
						fates[i] += "dropped "
					case permanent(r):
						fates[i] += "failed "
					}
				}
			}
		}
		if finals != 1 {
			t.Errorf("%s: %d last supplements: %+v", id, finals, sp.deliveries(id))
		}
		for i, p := range env.Rcpt {
			words := w.told[key(id, i)]
			w.judgeOne(id, i, env, p, fates[i], words, reports[id.String()], crashed, faults)
		}
		if env.MailFrom.Address == "" && len(reports[id.String()]) > 0 {
			t.Errorf("%s has the null sender, and a report", id)
		}
	}
}

func (w *world) judgeOne(id record.ID, i int, env *record.Envelope, p record.Path, fate string, words []word, reports []record.ID, crashed, faults bool) {
	t := w.t
	ends := strings.Fields(fate)
	slices.Sort(ends)
	ends = slices.Compact(ends) // the last supplement says all once more
	// What a process was told in the very moment of its death it could not write down.
	var kept []word
	for _, x := range words {
		if died, ok := w.died[x.generation]; ok && !x.at.Before(died) {
			continue
		}
		kept = append(kept, x)
	}
	if !crashed && len(words) > 1 {
		t.Errorf("%s to %s: asked again after %v", id, p.Address, words)
	}
	if crashed && len(kept) > 1 && !faults { // with faults of the disk a state may be lost at the next power cut
		t.Errorf("%s to %s: asked again after %v", id, p.Address, words)
	}
	if len(words) == 0 && len(ends) == 0 {
		t.Errorf("%s to %s: nothing became of it; dropped %v", id, p.Address, w.drops[id])
		for _, sup := range w.spool.deliveries(id) {
			t.Logf("%s: %+v", sup.Name, *sup.Delivery)
		}
	}
	if len(ends) > 1 && !crashed {
		t.Errorf("%s to %s: %v", id, p.Address, ends)
	}
	gaveUp := false
	for _, e := range ends {
		if e == "failed" || e == "expired" {
			gaveUp = true
		}
		if e == "dropped" && !w.drops[id] {
			t.Errorf("%s to %s: dropped by nobody", id, p.Address)
		}
	}
	if gaveUp && env.MailFrom.Address != "" && p.Notify != "NEVER" && len(reports) == 0 {
		t.Errorf("%s to %s: %v, and its sender is not told", id, p.Address, ends)
	}
}

// lockedSource is for a random source that goroutines share. What each draws depends on their order; under synctest that is the only chance
// left in a run with one seed.
type lockedSource struct {
	lock sync.Mutex
	src  rand.Source
}

func (s *lockedSource) Uint64() uint64 {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.src.Uint64()
}
