package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/retention/sweep"
)

// TestWhatIsDueIsDestroyedAndTheRestMoved: a pack of which some is held goes in part once its month is over; one that is due goes whole.
func TestWhatIsDueIsDestroyedAndTheRestMoved(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		w := newWorld(t, true, encrypt)
		kept, due := w.message("a@x.example", "this is in dispute"), w.message("b@x.example", "this is not")
		late := []*record.Item{w.late(kept.ID, 1), w.late(due.ID, 1)}
		w.reopen(append([]*record.Item{kept, due}, late...)...)
		w.now = w.now.AddDate(0, 0, 1)
		other := w.message("c@x.example", "nor is this")
		w.reopen(other, w.late(due.ID, 2), w.late(kept.ID, 2))
		w.hold("h", "body:dispute")
		before := w.objects("packs/")

		w.run() // nothing is due
		if got := w.objects("packs/"); len(got) < len(before) {
			t.Fatalf("%v went before its time", before)
		}
		w.now = w.now.AddDate(0, 3, 0)
		w.run()
		if w.there(due.ID) || w.there(other.ID) || !w.there(kept.ID) {
			t.Fatal("not what was due was destroyed")
		}
		s, err := w.archive.Fetch(t.Context(), kept.ID)
		if err != nil || len(s.Item.Supplements) != 2 || s.Entry.Kind != record.KindMessage {
			t.Fatalf("%+v, %v", s, err)
		}
		r := w.verify()
		if r.Purged == 0 || r.Moved != 3 {
			t.Fatalf("%d purged, %d moved", r.Purged, r.Moved)
		}
		keys, err := w.archive.Packs(kept.ID)
		if err != nil {
			t.Fatal(err)
		}
		info, err := w.store.Stat(t.Context(), keys[0])
		if err != nil || !info.Lock.Hold || !info.Lock.Until.After(w.now) {
			t.Fatalf("what is held lies under %+v, %v", info.Lock, err)
		}
		if names := readDir(t, w.dir+"/data/sweep"); len(names) != 1 {
			t.Errorf("left in the folder: %v", names)
		}
		proof, err := w.archive.Proof(t.Context(), kept.ID)
		if err != nil || len(proof) == 0 {
			t.Fatal(err)
		}

		w.must(w.do(ada, func() (string, any, error) { return w.rules.ReleaseHold("h", ada, "settled", false) }))
		w.now = w.now.AddDate(0, 2, 0)
		w.reopen()
		w.run()
		if w.there(kept.ID) {
			t.Fatal("it is kept although the hold was released")
		}
		if r := w.verify(); len(r.Orphans) > 0 {
			t.Fatalf("orphans: %v", r.Orphans)
		}
		// The catalog comes to the same from the ledger alone.
		w.must(w.archive.RebuildCatalog(t.Context(), nil))
		for _, it := range []*record.Item{kept, due, other} {
			if w.there(it.ID) {
				t.Errorf("%s is back", it.ID)
			}
		}
		for got, err := range w.archive.Replay(t.Context(), w.archive.Log(), 0, func(e *record.Entry) bool { return e.Kind == record.KindMessage }) {
			if err != nil || got.Item != nil {
				t.Errorf("entry %d: %v, %v", got.N, got.Item, err)
			}
		}
		w.must(w.close())
	}
}

// TestRefusals: each is said, and nothing has changed.
func TestRefusals(t *testing.T) {
	w := newWorld(t, false, false)
	w.eyes = true
	one := w.message("a@x.example", "old")
	w.reopen(one)
	w.now = w.now.AddDate(1, 0, 0)
	ctx := t.Context()
	objects := w.objects("packs/")
	refused := func(want error, err error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
		if !w.there(one.ID) {
			t.Fatal("it was destroyed all the same")
		}
	}
	purge := func(hash string) error { _, err := w.sweep.Purge(ctx, ada, hash); return err }
	approve := func(by record.Actor, hash, reason string) error {
		_, err := w.sweep.Approve(ctx, by, hash, reason)
		return err
	}
	refused(retention.ErrNoPlan, purge(""))
	refused(retention.ErrNoPlan, purge("abcd"))
	plan, err := w.sweep.Plan(ctx, ada)
	w.must(err)
	hash := plan.Hash().String()
	if plan.Records != 1 || len(plan.Packs) != 1 || plan.Due[0].By != "policy default" {
		t.Fatalf("%+v", plan)
	}
	refused(retention.ErrApproval, purge(hash))
	refused(retention.ErrSecond, approve(ada, hash, "fine"))
	refused(retention.ErrReason, approve(bob, hash, " "))
	refused(retention.ErrNoPlan, approve(bob, strings.Repeat("0", 64), "fine"))
	w.must(approve(bob, hash[:12], "looked at it"))
	refused(retention.ErrApproved, approve(bob, hash, "again"))

	was := w.now
	w.now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // before the newest entry
	refused(sweep.ErrClock, purge(hash))
	w.now = was
	w.hold("h", "from:nobody.example") // an act about holds
	refused(retention.ErrStale, purge(hash))
	refused(retention.ErrStale, approve(record.Actor{ID: "uid:3"}, hash, "late"))

	// A hold was applied to a record of the plan.
	plan, err = w.sweep.Plan(ctx, ada)
	w.must(err)
	w.must(approve(bob, plan.Hash().String(), "fine"))
	w.must(w.do(ada, func() (string, any, error) { return w.rules.ApplyHold("h", record.IDs{one.ID}) }))
	refused(retention.ErrStale, purge(""))
	w.must(w.do(ada, func() (string, any, error) { return w.rules.ReleaseHold("h", ada, "done", false) }))

	// Something was learnt of a record.
	plan, err = w.sweep.Plan(ctx, ada)
	w.must(err)
	w.must(approve(bob, plan.Hash().String(), "fine"))
	w.reopen(w.late(one.ID, 1))
	refused(retention.ErrStale, purge(""))

	if got := w.objects("packs/"); len(got) < len(objects) {
		t.Fatalf("of %v there is %v", objects, got)
	}
	plan, err = w.sweep.Plan(ctx, Schedule)
	w.must(err)
	w.must(approve(bob, plan.Hash().String(), "fine"))
	w.must(purge(plan.Hash().String()))
	if w.there(one.ID) {
		t.Fatal("it is there")
	}
	if err := purge(plan.Hash().String()); !errors.Is(err, sweep.ErrNothing) {
		t.Fatal(err)
	}
	var page strings.Builder
	for _, d := range w.rules.Destroyed() {
		w.must(sweep.WriteCertificate(&page, w.archive.Init().Archive, d))
	}
	for _, want := range []string{"CERTIFICATE", hash[:0] + plan.Hash().String(), plan.Packs[0].Key, plan.Packs[0].SHA256.String(), "by uid:2: fine", "2 records"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in\n%s", want, &page)
		}
	}
	w.verify()
	w.must(w.close())
}

var Schedule = sweep.Schedule

// tardy is a store whose clock is off.
type tardy struct {
	object.Keeper
	off time.Duration
}

func (s *tardy) Stat(ctx context.Context, key string) (object.Info, error) {
	info, err := s.Keeper.Stat(ctx, key)
	info.Time = info.Time.Add(s.off)
	return info, err
}

func TestClocksThatDisagree(t *testing.T) {
	w := newWorld(t, false, false)
	w.reopen(w.message("a@x.example", "old"))
	w.now = w.now.AddDate(1, 0, 0)
	s := &tardy{w.store, 0}
	w.store = s
	w.reopen()
	for _, off := range []time.Duration{-time.Hour, 3 * time.Minute, 365 * 24 * time.Hour} {
		s.off = off
		if _, err := w.sweep.Run(t.Context(), ada); !errors.Is(err, sweep.ErrClock) {
			t.Fatalf("a store that is %s off: %v", off, err)
		}
	}
	s.off = time.Minute
	w.run()
	w.must(w.close())
}

// TestAHoldIsToldWhatIsBeingDestroyed: it comes between the act and the deed.
func TestAHoldIsToldWhatIsBeingDestroyed(t *testing.T) {
	w := newWorld(t, false, false)
	one, two := w.message("a@x.example", "old"), w.message("a@x.example", "old too")
	w.reopen(one, two)
	w.now = w.now.AddDate(1, 0, 0)
	three := w.message("a@x.example", "new")
	w.reopen(three)
	ctx, cancel := context.WithCancel(t.Context())
	w.power = cut{cancel}
	w.reopen()
	if _, err := w.sweep.Run(ctx, ada); err == nil {
		t.Fatal("cut off, and done")
	}
	w.hold("h", "from:x.example")
	ids := record.NewIDs([]record.ID{one.ID, three.ID})
	if got := w.rules.BeingDestroyed(ids); len(got) != 1 || got[0] != one.ID {
		t.Fatalf("told of %v", got)
	}
	w.must(w.book.Save())
	w.power = w.store.(interface{ Disposer() object.Disposer }).Disposer()
	w.reopen()
	if got := w.rules.BeingDestroyed(ids); len(got) != 1 {
		t.Fatalf("after a restart told of %v", got)
	}
	w.run() // goes on
	if w.there(one.ID) || w.there(two.ID) || !w.there(three.ID) || len(w.rules.BeingDestroyed(ids)) > 0 {
		t.Fatal("it did not go on")
	}
	w.verify()
	w.must(w.close())
}

// cut breaks off before anything is destroyed.
type cut struct{ cancel func() }

func (c cut) Unhold(ctx context.Context, _ string) error { c.cancel(); return ctx.Err() }
func (c cut) DeleteAll(ctx context.Context, _ string) error {
	c.cancel()
	return ctx.Err()
}

func TestErasure(t *testing.T) {
	w := newWorld(t, false, false)
	her, his, held := w.message("her@x.example", "please forget"), w.message("his@x.example", "keep"), w.message("her@x.example", "disputed")
	w.reopen(her, his, held, w.late(her.ID, 1))
	w.hold("h", "body:disputed")
	w.now = w.now.AddDate(0, 0, 3)
	ask := func(name string) error {
		return w.do(ada, func() (string, any, error) {
			return w.rules.AskErasure(retention.ErasureOrder{Name: name, Typed: "from:her@x.example", Query: "from:her@x.example", IDs: record.NewIDs([]record.ID{her.ID, held.ID}), Reason: "letter of 1 March"})
		})
	}
	decide := func(name string, by record.Actor, grant bool, ground string) error {
		return w.do(by, func() (string, any, error) { return w.rules.DecideErasure(name, by, grant, ground, true) })
	}
	w.must(ask("r1"))
	w.must(ask("r2"))
	for want, err := range map[error]error{
		retention.ErrTaken: ask("R1"), retention.ErrNoErasure: decide("r9", bob, true, "x"), retention.ErrGround: decide("r1", bob, true, " "),
		retention.ErrSecond: decide("r1", ada, true, "art. 17 (1) b"),
	} {
		if !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
	}
	w.must(decide("r2", bob, false, "art. 17 (3) e"))
	if err := decide("r2", bob, true, "x"); !errors.Is(err, retention.ErrDecided) {
		t.Fatal(err)
	}
	w.run()
	if !w.there(her.ID) {
		t.Fatal("destroyed on a request that was refused")
	}
	w.must(decide("r1", bob, true, "art. 17 (1) b"))
	w.reopen()
	w.run()
	if w.there(her.ID) || !w.there(his.ID) || !w.there(held.ID) {
		t.Fatal("not what was to be erased was")
	}
	w.verify()
	w.must(w.close())

	// Under a lock it waits.
	w = newWorld(t, true, false)
	her = w.message("her@x.example", "please forget")
	w.reopen(her)
	w.must(ask("r1"))
	w.must(decide("r1", bob, true, "art. 17 (1) b"))
	plan, err := w.sweep.Plan(t.Context(), ada)
	w.must(err)
	if len(plan.Packs) > 0 || len(plan.Spared) != 1 || plan.Spared[0].By != "lock" || plan.Spared[0].Until.IsZero() {
		t.Fatalf("%+v", plan)
	}
	w.now = plan.Spared[0].Until.Add(time.Hour)
	w.run()
	if w.there(her.ID) {
		t.Fatal("the lock is over")
	}
	w.must(w.close())
}

// due is what the model knows of a message.
type modelled struct {
	id     record.ID
	at     time.Time
	from   string
	word   string
	failed bool
	member map[string]bool // holds that were applied to it
	gone   bool
	erase  bool
}

type modelPolicy struct {
	on   string // "from" or "body"
	what string
	days int
}

type modelHold struct {
	modelPolicy
	released bool
}

// matches gives yes, no and unknown as 1, 0 and -1.
func (p modelPolicy) matches(m *modelled) int {
	switch {
	case p.on == "from" && m.from == p.what, p.on == "body" && m.word == p.what:
		return 1
	case p.on == "body" && m.failed:
		return -1
	}
	return 0
}

// TestAgainstAModel: random policies, holds, releases, arrivals, failed extractions, erasures and days passing. Never is a record destroyed
// that the model keeps, and none kept that it destroys, once lock and hold are gone.
func TestAgainstAModel(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rounds, steps := 6, 60
	if testing.Short() {
		rounds, steps = 2, 25
	}
	for round := range rounds {
		model(t, rand.New(rand.NewPCG(seed, uint64(round))), steps, round%2 == 1)
	}
}

func model(t *testing.T, rnd *rand.Rand, steps int, locks bool) {
	w := newWorld(t, locks, false)
	var all []*modelled
	policies, holds := map[string]modelPolicy{}, map[string]*modelHold{}
	domains, words := []string{"p.example", "q.example", "r.example"}, []string{"alpha", "beta", "gamma"}
	pick := func(list []string) string { return list[rnd.IntN(len(list))] }
	text := func(p modelPolicy) string {
		if p.on == "from" {
			return "from:" + p.what
		}
		return "body:" + p.what
	}
	draw := func() modelPolicy {
		if rnd.IntN(2) == 0 {
			return modelPolicy{"from", pick(domains), 5 + rnd.IntN(120)}
		}
		return modelPolicy{"body", pick(words), 5 + rnd.IntN(120)}
	}
	held := func(m *modelled) bool {
		for name, h := range holds {
			if !h.released && (h.matches(m) != 0 || m.member[name]) {
				return true
			}
		}
		return false
	}
	keeps := func(m *modelled) bool {
		days, sure := 0, false
		for _, p := range policies {
			if v := p.matches(m); v != 0 {
				days, sure = max(days, p.days), sure || v == 1
			}
		}
		if !sure {
			days = max(days, 60)
		}
		return held(m) || w.now.Before(m.at.AddDate(0, 0, days))
	}
	w.reopen()
	for step := range steps {
		switch n := rnd.IntN(10); {
		case n < 3:
			var items []*record.Item
			for range 1 + rnd.IntN(6) {
				m := &modelled{from: pick(domains), word: pick(words), failed: rnd.IntN(6) == 0, at: w.now, member: map[string]bool{}}
				it := w.message("a@"+m.from, m.word)
				m.id, w.failed[it.ID] = it.ID, m.failed
				items, all = append(items, it), append(all, m)
			}
			if old := all[rnd.IntN(len(all))]; !old.gone && rnd.IntN(3) == 0 {
				items = append(items, w.late(old.id, step+1))
			}
			w.reopen(items...)
		case n == 3:
			p, name := draw(), fmt.Sprint("p", rnd.IntN(4))
			err := w.do(ada, func() (string, any, error) {
				return w.rules.SetPolicy(name, w.query(text(p)), fmt.Sprint(p.days, "d"), "", "because")
			})
			if !errors.Is(err, retention.ErrNothing) {
				w.must(err)
			}
			policies[name] = p
		case n == 4:
			h, name := &modelHold{modelPolicy: draw()}, fmt.Sprint("h", step)
			w.hold(name, text(h.modelPolicy))
			holds[name] = h
			if len(all) > 0 && rnd.IntN(2) == 0 {
				m := all[rnd.IntN(len(all))]
				w.must(w.do(ada, func() (string, any, error) { return w.rules.ApplyHold(name, record.IDs{m.id}) }))
				m.member[name] = true
			}
		case n == 5:
			for name, h := range holds {
				if !h.released {
					w.must(w.do(ada, func() (string, any, error) { return w.rules.ReleaseHold(name, ada, "done", false) }))
					h.released = true
					break
				}
			}
		case n == 6 && len(all) > 0:
			m, name := all[rnd.IntN(len(all))], fmt.Sprint("e", step)
			if m.gone {
				continue
			}
			w.must(w.do(ada, func() (string, any, error) {
				return w.rules.AskErasure(retention.ErasureOrder{Name: name, IDs: record.IDs{m.id}, Reason: "asked"})
			}))
			grant := rnd.IntN(2) == 0
			w.must(w.do(bob, func() (string, any, error) { return w.rules.DecideErasure(name, bob, grant, "because", true) }))
			m.erase = m.erase || grant
		default:
			w.now = w.now.AddDate(0, 0, rnd.IntN(40))
		}
		if rnd.IntN(3) > 0 {
			continue
		}
		over := map[record.ID]bool{}
		for _, m := range all {
			if m.gone {
				continue
			}
			keys, err := w.archive.Packs(m.id)
			w.must(err)
			info, err := w.store.Stat(t.Context(), keys[0])
			w.must(err)
			month, err := time.Parse("2006-01", strings.Split(keys[0], "/")[1])
			w.must(err)
			over[m.id] = !info.Lock.Until.After(w.now) && (m.erase || !w.now.Before(month.AddDate(0, 1, 0)))
		}
		w.run()
		for _, m := range all {
			if m.gone {
				continue
			}
			is, keep := w.there(m.id), keeps(m) && (!m.erase || held(m))
			switch {
			case !is && keep:
				t.Fatalf("step %d: %+v is destroyed, and the model keeps it at %s", step, m, w.now)
			case is && !keep && over[m.id]:
				t.Fatalf("step %d: %+v is there, and the model has it destroyed at %s", step, m, w.now)
			}
			m.gone = !is
		}
		if rnd.IntN(4) == 0 {
			w.verify()
		}
	}
	w.verify()
	w.must(w.close())
}
