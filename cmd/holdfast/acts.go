package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
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
		Folds: map[string]audit.Fold{"retention": n.rules}, Now: time.Now, Log: n.log.With("part", "acts"),
	})
	if err != nil {
		return err
	}
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
