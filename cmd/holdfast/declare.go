package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// parsePolicy reads the query of a policy as people type it.
func parsePolicy(typed string) (query.Query, error) {
	p, err := syntax.Parse(typed, syntax.Env{Now: time.Now(), Standing: true})
	return p.Query, err
}

// declare has what the configuration declares be in force. Where that can't be written down it is tried again: mail must flow.
func (n *node) declare(ctx context.Context) {
	if n.book.Read(func() {}) != nil { // what is in force is not known, which has been said
		return
	}
	ctx, cancel := context.WithTimeout(ctx, actsAtStart)
	defer cancel()
	err := n.declarePolicies(ctx)
	n.declared.Store(err == nil)
	if err != nil {
		n.log.Error("not all policies of the configuration are in force yet", "err", err)
	}
}

// declarePolicies makes acts of what the configuration declares and is not in force yet: author "configuration". What it does not declare
// any more it takes out of force; what people set under other names stays.
func (n *node) declarePolicies(ctx context.Context) error {
	do := func(decide func() (string, any, error)) error {
		act, err := n.book.Do(ctx, retention.Author, decide)
		if errors.Is(err, retention.ErrNothing) || errors.Is(err, retention.ErrNoPolicy) {
			return nil
		}
		if err == nil {
			n.log.Info("the configuration changed what is kept", "kind", act.Kind, "act", act.ID)
		}
		return err
	}
	if err := do(func() (string, any, error) { return n.rules.SetDefault(n.cfg.Retention.Default) }); err != nil {
		return fmt.Errorf("retention.default: %w", err)
	}
	for i, d := range n.cfg.Retention.Policies {
		q, err := parsePolicy(d.Query)
		if err == nil {
			d, err = d.FromTemplate()
		}
		if err == nil {
			err = do(func() (string, any, error) {
				return n.rules.SetPolicy(d.Name, q, d.Keep, d.Start, cmp.Or(d.Reason, retention.DefaultReason))
			})
		}
		if err != nil {
			return fmt.Errorf("retention.policies[%d] %s: %w", i, d.Name, err)
		}
	}
	var gone []string
	if err := n.book.Read(func() { gone = n.rules.Undeclared(n.cfg.Node, n.cfg.Retention.Policies) }); err != nil {
		return err
	}
	for _, name := range gone {
		if err := do(func() (string, any, error) {
			return n.rules.RemovePolicy(name, "no longer declared in the configuration")
		}); err != nil {
			return fmt.Errorf("policy %s, no longer declared: %w", name, err)
		}
	}
	return nil
}
