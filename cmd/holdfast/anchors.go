package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/anchor"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/timestamp"
)

// secondPlace opens where anchors are put besides the archive, or is nil where there is no such place.
func (c *config) secondPlace() func(context.Context) (*anchor.Place, error) {
	if c.Anchor.Store == "" {
		return nil
	}
	return func(ctx context.Context) (*anchor.Place, error) {
		store, err := object.Open(ctx, c.Anchor.Store, object.Options{})
		if err != nil {
			return nil, fmt.Errorf("anchor.store: %w", err)
		}
		return &anchor.Place{Name: c.Anchor.Store, Store: store}, nil
	}
}

// anchorMaker makes what makes anchors. It needs the store and the keys only.
func anchorMaker(ctx context.Context, cfg *config, store object.Store, keys *archive.Keys, o anchor.Options) (*anchor.Maker, error) {
	init, err := archive.Identify(ctx, store, keys)
	if err != nil {
		return nil, err
	}
	o.Config, o.Store, o.Archive, o.Node, o.Verifier, o.Now = cfg.Anchor, store, init.Archive, cfg.Node, keys.LedgerVerifier(), time.Now
	o.Second = cfg.secondPlace()
	o.Lock = func() object.Lock { return archive.LedgerLock(cfg.Archive, time.Now()) }
	return anchor.NewMaker(o)
}

// openAnchors opens what anchors are checked against.
func openAnchors(ctx context.Context, cfg *config) (o anchor.CheckOptions, done func() error, err error) {
	keys, err := archive.LoadKeys(cfg.KeysDir)
	if err != nil {
		return o, nil, err
	}
	store, err := object.Open(ctx, cfg.Archive.Store, object.Options{})
	if err != nil {
		return o, nil, err
	}
	init, err := archive.Identify(ctx, store, keys)
	if err == nil && cfg.Anchor.AuthorityCA != "" {
		o.Roots, err = timestamp.LoadRoots(cfg.Anchor.AuthorityCA)
	}
	if err != nil {
		return o, nil, errors.Join(err, store.Close())
	}
	o.Store, o.Archive, o.Verifier, o.Second = store, init.Archive, keys.LedgerVerifier(), cfg.secondPlace()
	return o, store.Close, nil
}

// startAnchors makes anchors in the background, where there is somebody to give them to.
func (n *node) startAnchors(ctx context.Context, keys *archive.Keys) error {
	n.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "holdfast_anchor_every_seconds", Help: "How often anchors are made; 0: never.",
	}, func() float64 {
		if !n.cfg.Anchor.Enabled() {
			return 0
		}
		return n.cfg.Anchor.Every.Seconds()
	}))
	if !n.cfg.Anchor.Enabled() {
		return nil
	}
	m, err := anchorMaker(ctx, n.cfg, n.store, keys, anchor.Options{Log: n.log.With("part", "anchor"), Registry: n.reg})
	if err != nil {
		return err
	}
	n.care.anchors.Store(m)
	n.care.Go(func() {
		m.Run(n.care.ctx)
		if err := m.Close(); err != nil {
			n.log.Warn("the second place of anchors", "err", err)
		}
	})
	return nil
}
