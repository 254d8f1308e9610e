package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/retention/keeper"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// parseRule reads the canonical query of a policy or a hold.
func parseRule(canonical string) (query.Query, error) {
	p, err := syntax.Parse(canonical, syntax.Env{Standing: true, Canonical: true})
	return p.Query, err
}

const (
	// actsEvery is how often a node looks what others did.
	actsEvery = 10 * time.Second
	// actsAtStart is how long a start waits for the acts.
	actsAtStart = 30 * time.Second
)

// openBook reads what is in force. A node whose packs are encrypted to others, or whose store does not answer, goes on with what the
// snapshot says: mail must flow. Nothing can be destroyed then, and no such act be done.
func (n *node) openBook(ctx context.Context) (err error) {
	n.book, err = audit.NewBook(audit.BookOptions{
		Order: n.archive.Acts(), Archive: n.archive.Init().Archive, Node: n.cfg.Node, Path: filepath.Join(n.cfg.DataDir, "acts.json"),
		Folds: map[string]audit.Fold{"retention": n.rules, "matters": n.matters}, Now: time.Now, Log: n.log.With("part", "acts"),
	})
	if err != nil {
		return err
	}
	n.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "holdfast_acts_known", Help: "1: the acts of all nodes are read, and what is in force is known; 0: no.",
	}, func() float64 {
		if n.book.Read(func() {}) != nil {
			return 0
		}
		return 1
	}))
	ctx, cancel := context.WithTimeout(ctx, actsAtStart)
	defer cancel()
	if err := n.book.Refresh(ctx); err != nil {
		n.log.Error("the acts can't be read: policies and holds are those that this node knew before", "err", err)
	}
	return nil
}

// followActs takes in what other nodes do, until ctx ends.
func (n *node) followActs(ctx context.Context) {
	for sleep(ctx, actsEvery) == nil {
		if err := n.book.Refresh(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("the acts can't be read", "err", err)
		} else if err == nil && !n.declared.Load() {
			n.declare(ctx)
		}
	}
}

// expiry is when a record may expire, as far as that is known at ingest.
func (n *node) expiry(it *record.Item) time.Time {
	p := n.rules.PoliciesInForce()
	if !p.NeedsHeader() {
		return p.Expiry(it, nil, time.Now())
	}
	return p.Expiry(it, index.HeaderDocument(it), time.Now())
}

// heldOnArrival says whether a hold matches a message for sure, as far as is known at ingest: then the store is told so with the pack.
func (n *node) heldOnArrival(it *record.Item) bool {
	holds := n.rules.HoldsInForce()
	if len(holds) == 0 || it.Envelope == nil {
		return false
	}
	m := query.NewMatcher(index.HeaderDocument(it))
	for i := range holds {
		if holds[i].Match(m) == query.Yes {
			return true
		}
	}
	return false
}

// openKeeper makes what applies holds.
func (n *node) openKeeper() *keeper.Keeper {
	o := keeper.Options{Book: n.book, Rules: n.rules, Search: n.index.Search, Packs: n.archive.Packs, Log: n.log.With("part", "holds")}
	if n.cfg.Archive.Lock() != object.LockNone {
		o.Flag = n.store.Hold
	}
	return keeper.New(o)
}

// arrive holds what the holds in force match before it can be found.
func (n *node) arrive(docs []*document.Document, apply func() error) error {
	return n.keeper.Arrive(docs, apply)
}

// ruled says what hold:, tag:, matter: and policy: stand for.
type ruled struct{ *node }

// Set implements search.Sets.
func (r ruled) Set(ctx context.Context, q query.Set) (ids []record.ID, err error) {
	switch q.Field {
	case query.Hold:
		ids, err = r.keeper.Held(q.Name)
	case query.Tag:
		err = r.read(func() (err error) { ids, err = r.matters.Tagged(q.Name); return err })
	case query.Matter:
		ids, err = r.matter(q.Name)
	case query.Policy:
		ids, err = r.policy(ctx, q.Name)
	default:
		err = errors.New("it is not known when each message expires")
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w: %w", q, search.ErrNoSet, err)
	}
	return ids, nil
}

// read asks what is in force.
func (n *node) read(f func() error) (err error) {
	if rerr := n.book.Read(func() { err = f() }); rerr != nil {
		return rerr
	}
	return err
}

// matter gives what is held for a matter, and what somebody there said something of.
func (r ruled) matter(name string) (ids record.IDs, err error) {
	var holds []string
	err = r.read(func() error {
		m, err := r.matters.Matter(name)
		if err != nil {
			return err
		}
		ids = m.Records()
		for _, h := range r.rules.HoldDocs() {
			if query.FoldSetName(h.Matter) == query.FoldSetName(name) {
				holds = append(holds, h.Name)
			}
		}
		return nil
	})
	for _, h := range holds {
		if err != nil {
			break
		}
		var held record.IDs
		held, err = r.keeper.Held(h)
		ids = ids.Union(held)
	}
	return ids, err
}

// policy gives what a policy keeps: what it matches, and what it might match.
func (r ruled) policy(ctx context.Context, name string) (record.IDs, error) {
	for _, p := range r.rules.PoliciesInForce().All() {
		if query.FoldSetName(p.Name) != name {
			continue
		}
		q := p.Query
		if q == nil {
			q = query.All{}
		}
		return r.keeper.Find(ctx, index.Request{Query: q}, true)
	}
	return nil, fmt.Errorf("%q: %w", name, retention.ErrNoPolicy)
}
