package sweep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/retention"
)

const (
	// atOnce is up to how many records one act destroys, a pack more or less: they are named in it.
	atOnce = 500_000
	// deleters is how many objects are destroyed at once.
	deleters = 8
	// tries is how often a run decides again where it has lost against others who act.
	tries = 3
)

// Purge destroys what a plan says, on behalf of somebody. An empty hash is the newest plan of this node. What an earlier run left is carried out
// first. It gives the acts destroyed that it ended, in order.
//
// Errors: ErrClock, ErrRunning, ErrNothing, and retention's: ErrNoPlan, ErrStale, ErrApproval. With these nothing was begun beyond what is
// given. Any other error leaves some undone, and the next run goes on.
func (s *Sweep) Purge(ctx context.Context, by record.Actor, hash string) ([]*retention.DestroyedDoc, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	done, err := s.resume(ctx, by)
	if err != nil {
		return done, err
	}
	plan, err := s.find(hash)
	if err == nil {
		err = s.carryOut(ctx, by, plan, &done)
	}
	return done, err
}

// Run is what the schedule does: go on with what was left, plan, and destroy unless that needs approval. Where a plan of the rules in force
// waits for it, or has it, no other is made.
func (s *Sweep) Run(ctx context.Context, by record.Actor) ([]*retention.DestroyedDoc, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	done, err := s.resume(ctx, by)
	if err != nil {
		return done, err
	}
	for try := 1; ; try++ {
		plan, err := s.find("")
		if err != nil || !s.o.FourEyes || s.fresh(ctx, plan) != nil {
			if plan, err = s.makePlan(ctx, by); err != nil {
				return done, err
			}
		}
		if len(plan.Packs) == 0 {
			return done, nil
		}
		err = s.carryOut(ctx, by, plan, &done)
		if !errors.Is(err, retention.ErrStale) || try >= tries { // else somebody acted meanwhile: it is decided again
			return done, err
		}
	}
}

// Resume carries out what an earlier run left.
func (s *Sweep) Resume(ctx context.Context, by record.Actor) ([]*retention.DestroyedDoc, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.resume(ctx, by)
}

// find gives a plan that was announced and is kept here.
func (s *Sweep) find(hash string) (plan *Plan, err error) {
	var doc *retention.PlanDoc
	if rerr := s.o.Book.Read(func() {
		if hash != "" {
			doc, err = s.o.Rules.Plan(hash)
			return
		}
		err = fmt.Errorf("of %s: %w", s.o.Archive.Log(), retention.ErrNoPlan)
		for _, p := range s.o.Rules.Plans() {
			if p.Log == s.o.Archive.Log() {
				doc, err = p, nil
			}
		}
	}); rerr != nil {
		return nil, rerr
	}
	if err != nil {
		return nil, err
	}
	return s.load(doc.Plan)
}

// fresh is nil for a plan of the rules in force that is not carried out yet.
func (s *Sweep) fresh(ctx context.Context, p *Plan) error {
	in, err := s.rules()
	if err != nil {
		return err
	}
	if in.digest != p.Rules || p.Log != s.o.Archive.Log() || len(p.Packs) == 0 {
		return fmt.Errorf("plan %s: %w", p.Hash(), retention.ErrStale)
	}
	_, err = s.o.Archive.Packed(ctx, p.Packs[len(p.Packs)-1].First)
	return err
}

// carryOut destroys what a plan says, some packs at a time.
func (s *Sweep) carryOut(ctx context.Context, by record.Actor, p *Plan, done *[]*retention.DestroyedDoc) error {
	if len(p.Packs) == 0 {
		return ErrNothing
	}
	if p.Log != s.o.Archive.Log() {
		return fmt.Errorf("plan %s is of %s: %w", p.Hash(), p.Log, retention.ErrStale)
	}
	late, err := s.learnt(ctx, p)
	if err != nil {
		return err
	}
	began := false
	for packs := p.Packs; len(packs) > 0; {
		if _, err := s.checkClock(ctx); err != nil {
			return err
		}
		o := retention.DestroyOrder{Plan: p.Hash(), Log: p.Log}
		var ids []record.ID
		for len(packs) > 0 && len(ids) < atOnce {
			more, err := s.idsOf(ctx, &packs[0], late)
			switch {
			case errors.Is(err, archive.ErrDestroyed): // by a run that was cut off
			case err != nil:
				return fmt.Errorf("plan %s: %w", p.Hash(), err)
			default:
				ids = append(ids, more...)
				o.Packs, o.Bytes = append(o.Packs, packs[0].PackOrder), o.Bytes+packs[0].Bytes
			}
			packs = packs[1:]
		}
		if len(o.Packs) == 0 {
			break
		}
		began = true
		o.IDs = record.NewIDs(ids)
		act, err := s.o.Book.Do(ctx, by, func() (string, any, error) { return s.o.Rules.Destroy(o, s.o.FourEyes) })
		if err != nil {
			return err
		}
		one, err := s.destroy(ctx, &retention.Destroying{DestroyOrder: o, Act: act.ID, By: act.Actor, At: act.Time})
		if err != nil {
			return err
		}
		*done = append(*done, one)
	}
	if !began {
		return fmt.Errorf("plan %s is carried out: %w", p.Hash(), ErrNothing)
	}
	return nil
}

// learnt gives the messages of which something was learnt since a plan was made: it was not decided on with that.
func (s *Sweep) learnt(ctx context.Context, p *Plan) (map[record.ID]bool, error) {
	late := map[record.ID]bool{}
	for pack, err := range s.o.Archive.EachPack(ctx, p.Entries) {
		if err != nil {
			return nil, err
		}
		for i := range pack.Entries {
			if e := &pack.Entries[i].Entry; e.Kind == record.KindSupplement {
				late[e.ID] = true
			}
		}
	}
	return late, nil
}

// idsOf gives the messages and acts of a pack that go. retention.ErrStale where the pack is not there as it was planned for.
func (s *Sweep) idsOf(ctx context.Context, p *PackPlan, late map[record.ID]bool) (ids []record.ID, err error) {
	have, err := s.o.Archive.Packed(ctx, p.First)
	if err == nil && (have.Key != p.Key || have.SHA256 != p.SHA256 || have.Last() != p.Last) {
		return nil, fmt.Errorf("%s: %w", p.Key, retention.ErrStale)
	}
	if err != nil {
		return nil, err
	}
	for i := range have.Entries {
		e := &have.Entries[i]
		if p.Stays(e.N) {
			continue
		}
		if late[e.Entry.ID] {
			return nil, fmt.Errorf("%s: of %s something was learnt: %w", p.Key, e.Entry.ID, retention.ErrStale)
		}
		if e.Entry.Holds() != record.KindSupplement {
			ids = append(ids, e.Entry.ID)
		}
	}
	return ids, nil
}

// resume carries out what was begun in this node's log.
func (s *Sweep) resume(ctx context.Context, by record.Actor) (done []*retention.DestroyedDoc, err error) {
	var left []*retention.Destroying
	if err := s.o.Book.Read(func() { left = s.o.Rules.Destroying() }); err != nil {
		return nil, fmt.Errorf("what is in force is not known, so nothing is destroyed: %w", err)
	}
	for _, d := range left {
		if d.Log != s.o.Archive.Log() {
			continue
		}
		if _, err := s.checkClock(ctx); err != nil {
			return done, err
		}
		s.o.Log.Warn("going on with what was being destroyed", "act", d.Act, "packs", len(d.Packs))
		one, err := s.destroy(ctx, d)
		if err != nil {
			return done, err
		}
		done = append(done, one)
	}
	return done, nil
}

// destroy carries out an act destroying. All of it can be done again.
//
//	packs that go in part    the records that stay stored in another pack, read back; "moved" and tombstone; the object
//	packs that go whole      tombstones; the objects
//	index and others         the records
//	act "destroyed"
func (s *Sweep) destroy(ctx context.Context, d *retention.Destroying) (*retention.DestroyedDoc, error) {
	power, err := s.power(ctx)
	if err != nil {
		return nil, err
	}
	act := &record.Act{ID: d.Act, Time: d.At, Actor: d.By}
	var whole []archive.Burial
	for i := range d.Packs {
		p := &d.Packs[i]
		if len(p.Stay) == 0 {
			whole = append(whole, archive.Burial{Key: p.Key, SHA256: p.SHA256, First: p.First, Last: p.Last})
			continue
		}
		if err := s.move(ctx, act, p); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Key, err)
		}
	}
	if err := s.o.Archive.Bury(ctx, act, whole); err != nil {
		return nil, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(deleters)
	for i := range d.Packs {
		group.Go(func() error { return s.deleteAll(gctx, power, d.Packs[i].Key) })
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("destroy: %w", err)
	}
	for _, r := range s.o.Removers {
		if err := r.Remove(ctx, d.IDs); err != nil {
			return nil, fmt.Errorf("destroy in the %s: %w", r.Name, err)
		}
	}
	if _, err = s.o.Book.Do(ctx, d.By, func() (string, any, error) { return s.o.Rules.Finish(d.Act) }); err != nil && !errors.Is(err, retention.ErrNoPurge) {
		return nil, err
	}
	var out *retention.DestroyedDoc
	if rerr := s.o.Book.Read(func() { out, err = s.o.Rules.Certificate(d.Act) }); rerr != nil {
		return nil, rerr
	}
	return out, err
}

// deleteAll destroys an object, whose records no hold keeps: so its flag goes first.
func (s *Sweep) deleteAll(ctx context.Context, power object.Disposer, key string) error {
	if s.o.Locks {
		info, err := s.o.Store.Stat(ctx, key)
		if err == nil && info.Lock.Hold {
			err = power.Unhold(ctx, key)
		}
		if err != nil && !errors.Is(err, object.ErrNotFound) {
			return err
		}
	}
	return power.DeleteAll(ctx, key)
}

// move puts the records of a pack that stay into another, and has the ledger say so.
func (s *Sweep) move(ctx context.Context, act *record.Act, p *retention.PackOrder) error {
	old, err := s.o.Archive.Packed(ctx, p.First)
	if errors.Is(err, archive.ErrDestroyed) {
		return s.o.Archive.ForgetRepacked(p.SHA256) // by an earlier try, which may have been cut off just then
	}
	if err != nil {
		return err
	}
	if old.Key != p.Key || old.SHA256 != p.SHA256 || old.Last() != p.Last {
		return fmt.Errorf("entry %d is of %s: %w", p.First, old.Key, archive.ErrAltered)
	}
	in, err := s.rules()
	if err != nil {
		return err
	}
	until, held, err := s.keptUntil(ctx, in, old, p)
	if err != nil {
		return err
	}
	stays := func(i int) bool { return p.Stays(old.Entries[i].N) }
	r, err := s.o.Archive.Repack(ctx, old, stays, until, held)
	if err != nil {
		return err
	}
	if err := s.o.Archive.StoreRepacked(ctx, r); err != nil {
		return err
	}
	if err := s.o.Archive.Bury(ctx, act, []archive.Burial{{Key: p.Key, SHA256: p.SHA256, First: p.First, Last: p.Last, Stay: r}}); err != nil {
		return err
	}
	if !s.o.Locks || r.Held {
		return nil
	}
	return s.heldSince(ctx, in, r)
}

// heldSince puts a new pack under legal hold where a hold may have come while it was made: who placed it found the old one, and flagged that.
func (s *Sweep) heldSince(ctx context.Context, in rules, r *archive.Repacked) error {
	now, err := s.rules()
	if err != nil {
		return err
	}
	held := now.digest != in.digest
	for _, h := range now.holds {
		for i := range r.Entries {
			held = held || h.Members.Has(r.Entries[i].ID)
		}
	}
	if !held {
		return nil
	}
	return s.o.Store.Hold(ctx, r.Key)
}

// keptUntil says for how long the records of a pack that stay are kept, and whether a hold keeps any.
func (s *Sweep) keptUntil(ctx context.Context, in rules, pack *archive.Packed, p *retention.PackOrder) (until time.Time, held bool, err error) {
	d := &decider{Sweep: s, rules: in, now: s.o.Now()}
	forever := false
	until = d.now.Add(24 * time.Hour) // of what is kept by a hold alone
	err = s.o.Archive.ReadPack(ctx, pack, func(i int, it *record.Item) error {
		if !p.Stays(pack.Entries[i].N) {
			return nil
		}
		v, err := d.record(ctx, it)
		if err != nil {
			return err
		}
		held = held || v.held
		switch {
		case v.follows:
		case v.until.IsZero():
			forever = true
		case v.until.After(until):
			until = v.until
		}
		return nil
	})
	if forever {
		until = time.Time{}
	}
	return until, held, err
}
