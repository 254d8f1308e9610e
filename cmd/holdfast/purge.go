package main

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/retention/sweep"
	"github.com/holdfast-archive/holdfast/search"
)

// openSweep makes what destroys.
func (n *node) openSweep(removers []sweep.Remover) *sweep.Sweep {
	return sweep.New(sweep.Options{
		Archive: n.archive, Store: n.store, URL: n.cfg.Archive.Store, Book: n.book, Rules: n.rules,
		Header: index.HeaderDocument, Document: index.DocumentOf, Custody: n.spool.Oldest,
		Removers: removers,
		Dir:      filepath.Join(n.cfg.DataDir, "sweep"), Node: n.cfg.Node, FourEyes: n.cfg.Retention.FourEyes,
		Locks: n.cfg.Archive.Lock() != object.LockNone, Now: time.Now, Log: n.log.With("part", "purge"),
	})
}

// errUndeclared is returned while what the configuration declares is not in force yet: then it is not known what is to be kept.
var errUndeclared = errors.New("what the configuration declares is not in force yet: nothing is destroyed")

// destroying runs what may destroy, for as long as the node runs whatever becomes of the one who asked, and with all acts read.
func (n *node) destroying(f func(ctx context.Context) error) error {
	ctx := n.running
	done := make(chan error, 1)
	n.done.Go(func() {
		done <- func() error {
			if err := n.book.Refresh(ctx); err != nil {
				return err
			}
			if !n.declared.Load() {
				return errUndeclared
			}
			return f(ctx)
		}()
	})
	return <-done
}

// purgeOnSchedule goes on with what was being destroyed when the node stopped, and then destroys what is due whenever the schedule says so,
// until ctx ends.
func (n *node) purgeOnSchedule(ctx context.Context) {
	if n.cfg.Retention.Schedule == "" {
		return
	}
	schedule, err := cron.ParseStandard(n.cfg.Retention.Schedule)
	if err != nil { // was validated
		n.log.Error("no purge by schedule", "err", err)
		return
	}
	log := n.log.With("part", "purge")
	if _, err := n.sweep.Resume(ctx, sweep.Schedule); err != nil && ctx.Err() == nil {
		log.Error("what was being destroyed is not destroyed yet; the next purge goes on", "err", err)
	}
	for next := schedule.Next(time.Now()); ; {
		if sleep(ctx, min(time.Minute, max(time.Until(next), time.Second))) != nil { // a clock that is set is seen within a minute
			return
		}
		if time.Now().Before(next) {
			continue
		}
		next = schedule.Next(time.Now())
		var done []*retention.DestroyedDoc
		err := n.destroying(func(ctx context.Context) (err error) {
			done, err = n.sweep.Run(ctx, sweep.Schedule)
			return err
		})
		for _, d := range done {
			log.Info("destroyed", "act", d.Act, "records", d.Records, "packs", len(d.Packs), "moved", d.Moved, "bytes", d.Bytes)
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, retention.ErrApproval):
			log.Warn("a purge waits for approval", "err", err)
		case err != nil:
			log.Error("purge", "err", err)
		}
	}
}

// purge takes records out of the index in force. A rebuild that runs is waited for: what it has read may be among them. So may what one has
// left that was interrupted: that goes, and the next begins anew.
func (l *liveIndex) purge(ctx context.Context, ids []record.ID) error {
	l.rebuilding.Lock()
	defer l.rebuilding.Unlock()
	if err := l.gens.Discard(); err != nil {
		return err
	}
	if now := l.current(); now.fresh.Load() { // it is being built, and some of them may be on their way into it
		if err := now.follower.Settle(ctx); err != nil {
			return err
		}
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.now.backend.Purge(ctx, ids)
}

// planned is a plan as `holdfast retention plan --json` prints it.
type planned struct {
	Hash record.Digest `json:"hash"`
	*sweep.Plan
}

func (a *governanceAPI) purgeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/v1/purge/plan", governed(a.planPurge))
	mux.HandleFunc("GET /api/v1/purge/plans", governed(a.plans))
	mux.HandleFunc("POST /api/v1/purge/approve", governed(a.approvePurge))
	mux.HandleFunc("POST /api/v1/purge", governed(a.purge))
	mux.HandleFunc("GET /api/v1/purge/certificates", governed(a.certificates))
	mux.HandleFunc("GET /api/v1/erasures", governed(a.erasures))
	mux.HandleFunc("POST /api/v1/erasures", governed(a.askErasure))
	mux.HandleFunc("POST /api/v1/erasures/decide", governed(a.decideErasure))
}

func (a *governanceAPI) planPurge(_ *http.Request, by record.Actor) (any, error) {
	var plan *sweep.Plan
	err := a.destroying(func(ctx context.Context) (err error) {
		plan, err = a.sweep.Plan(ctx, by)
		return err
	})
	if err != nil {
		return nil, err
	}
	return planned{plan.Hash(), plan}, nil
}

func (a *governanceAPI) plans(r *http.Request, by record.Actor) (any, error) {
	if err := a.viewed(r, by, "plans", nil); err != nil {
		return nil, err
	}
	list := []*retention.PlanDoc{}
	err := a.book.Read(func() { list = append(list, a.rules.Plans()...) })
	return list, err
}

// purgeOrder names a plan by its hash, or by the beginning of it.
type purgeOrder struct {
	Plan   string `json:"plan"`
	Reason string `json:"reason,omitempty"`
}

func (a *governanceAPI) approvePurge(r *http.Request, by record.Actor) (any, error) {
	var o purgeOrder
	if err := body(r, &o); err != nil {
		return nil, err
	}
	act, err := a.sweep.Approve(r.Context(), by, o.Plan, o.Reason)
	if err != nil {
		return nil, err
	}
	return done{act.ID, act.Kind, act.Time}, nil
}

// certificate is what was destroyed by an act, as `holdfast retention certificate --json` prints it.
type certificate struct {
	Archive string `json:"archive"`
	*retention.DestroyedDoc
}

func (a *governanceAPI) certified(docs []*retention.DestroyedDoc) []certificate {
	list := []certificate{}
	for _, d := range docs {
		list = append(list, certificate{a.archive.Init().Archive, d})
	}
	return list
}

func (a *governanceAPI) purge(r *http.Request, by record.Actor) (any, error) {
	var o purgeOrder
	if err := body(r, &o); err != nil {
		return nil, err
	}
	var docs []*retention.DestroyedDoc
	err := a.destroying(func(ctx context.Context) (err error) {
		docs, err = a.sweep.Purge(ctx, by, o.Plan)
		return err
	})
	if errors.Is(err, sweep.ErrNothing) && len(docs) > 0 { // what was left was all
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return a.certified(docs), nil
}

func (a *governanceAPI) certificates(r *http.Request, by record.Actor) (any, error) {
	if err := a.viewed(r, by, "certificates", nil); err != nil {
		return nil, err
	}
	var docs []*retention.DestroyedDoc
	err := a.book.Read(func() { docs = a.rules.Destroyed() })
	if text := r.URL.Query().Get("act"); text != "" {
		id, perr := record.ParseID(text)
		if perr != nil {
			return nil, perr
		}
		if rerr := a.book.Read(func() {
			var one *retention.DestroyedDoc
			if one, err = a.rules.Certificate(id); err == nil {
				docs = []*retention.DestroyedDoc{one}
			}
		}); rerr != nil {
			return nil, rerr
		}
	}
	return a.certified(docs), err
}

// erasure is a request to erase, as `holdfast erase list --json` prints it.
type erasure struct {
	Name    string                     `json:"name"`
	Query   string                     `json:"query"` // as it was typed
	Reason  string                     `json:"reason"`
	By      record.Actor               `json:"by"`
	At      time.Time                  `json:"at"`
	Decided *retention.ErasureDecision `json:"decided,omitempty"`
	Found   int                        `json:"found"`
	Gone    int                        `json:"gone"` // of them
	Held    int                        `json:"held"` // by a hold, of those that are there
	Locked  int                        `json:"locked"`
	Until   time.Time                  `json:"locked_until,omitzero"` // the last of them
}

func (a *governanceAPI) erasures(r *http.Request, by record.Actor) (any, error) {
	if err := a.viewed(r, by, "erasures", nil); err != nil {
		return nil, err
	}
	var docs []*retention.ErasureDoc
	var holds []retention.Hold
	if err := a.book.Read(func() { docs, holds = a.rules.Erasures(), a.rules.Standing() }); err != nil {
		return nil, err
	}
	list := []erasure{}
	for _, d := range docs {
		e, err := a.erasure(r.Context(), d, holds)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// erasure looks what has become of the records of a request.
func (a *governanceAPI) erasure(ctx context.Context, d *retention.ErasureDoc, holds []retention.Hold) (erasure, error) {
	e := erasure{Name: d.Name, Query: d.Typed, Reason: d.Reason, By: d.By, At: d.At, Decided: d.Decided, Found: len(d.IDs)}
	locks := map[string]time.Time{}
	for _, id := range d.IDs {
		gone, err := a.archive.Gone(id)
		if err != nil {
			return e, err
		}
		if gone {
			e.Gone++
			continue
		}
		for i := range holds {
			if holds[i].Members.Has(id) {
				e.Held++
				break
			}
		}
		if a.cfg.Archive.Lock() == object.LockNone {
			continue
		}
		keys, err := a.archive.Packs(id)
		if err != nil || len(keys) == 0 {
			return e, err
		}
		until, ok := locks[keys[0]]
		if !ok {
			info, err := a.store.Stat(ctx, keys[0])
			if err != nil {
				return e, err
			}
			until = info.Lock.Until
			locks[keys[0]] = until
		}
		if until.After(time.Now()) {
			e.Locked++
			if until.After(e.Until) {
				e.Until = until
			}
		}
	}
	return e, nil
}

// erasureOrder records a request to erase. The query is as it was typed.
type erasureOrder struct {
	Name   string `json:"name"`
	Query  string `json:"query"`
	Reason string `json:"reason"`
}

func (a *governanceAPI) askErasure(r *http.Request, by record.Actor) (any, error) {
	var o erasureOrder
	if err := body(r, &o); err != nil {
		return nil, err
	}
	req, canonical, err := a.search.Ask(r.Context(), by, search.Request{Query: o.Query}, "erase "+o.Name)
	if err != nil {
		return nil, err
	}
	ids, err := a.keeper.Find(r.Context(), req, false)
	if err != nil {
		return nil, err
	}
	act, err := a.book.Do(r.Context(), by, func() (string, any, error) {
		return a.rules.AskErasure(retention.ErasureOrder{Name: o.Name, Typed: o.Query, Query: canonical, IDs: ids, Reason: o.Reason})
	})
	if err != nil {
		return nil, err
	}
	return held{done: done{act.ID, act.Kind, act.Time}, Records: len(ids)}, nil
}

func (a *governanceAPI) decideErasure(r *http.Request, by record.Actor) (any, error) {
	var o struct {
		Name   string `json:"name"`
		Grant  bool   `json:"grant"`
		Ground string `json:"ground"`
	}
	if err := body(r, &o); err != nil {
		return nil, err
	}
	return a.do(r, by, func() (string, any, error) {
		return a.rules.DecideErasure(o.Name, by, o.Grant, o.Ground, a.cfg.Retention.FourEyes)
	})
}
