package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/retention/keeper"
)

// storeOptions are those of the archive's store.
func (c *config) storeOptions(reg prometheus.Registerer) object.Options {
	return object.Options{SingleWriter: c.Archive.SingleWriter, Lock: c.Archive.Lock(), Metrics: reg}
}

// verdict is what a probe found out of a store, for people, programs and the ledger.
type verdict struct {
	Store      string   `json:"store"`
	ObjectLock string   `json:"object_lock"`
	WORM       bool     `json:"worm"`      // all that a lock forbids was tried, and refused
	Tried      []string `json:"tried"`     // what a lock forbids
	Weak       []string `json:"weak"`      // what of that the store let happen
	Checksums  bool     `json:"checksums"` // a body that was damaged on its way is refused
	Leftovers  []string `json:"leftovers"` // what the probe could not remove, and why
}

const probeTime = time.Minute

// probeStore tries what the archive rests on. With an error the verdict says how far it came.
func probeStore(ctx context.Context, store object.Keeper, cfg *config) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	r, err := object.Probe(ctx, store, cfg.Archive.Config)
	if err != nil {
		err = fmt.Errorf("probe of %s: %w", cfg.Archive.Store, err)
	}
	v := verdict{cfg.Archive.Store, string(cfg.Archive.Lock()), r.WORM, r.Tried, r.Weak, r.Checksums, r.Leftovers}
	if v.ObjectLock == "" {
		v.ObjectLock = "none"
	}
	for _, list := range []*[]string{&v.Tried, &v.Weak, &v.Leftovers} {
		if *list == nil {
			*list = []string{}
		}
	}
	return v, err
}

// probe tries the store before mail is taken, and says in log, metrics and ledger what came of it. A refusal to start is in the ledger too.
func (n *node) probe(ctx context.Context) error {
	v, err := probeStore(ctx, n.store, n.cfg)
	n.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "holdfast_store_worm", Help: "1: at the start everything that a lock forbids was tried on the store and refused; 0: no, or nothing is locked.",
	}, func() float64 {
		if v.WORM {
			return 1
		}
		return 0
	}))
	if n.cfg.Archive.Lock() == object.LockNone {
		n.log.Info("store probed", "object_lock", v.ObjectLock)
	} else if v.WORM {
		n.log.Info("store probed: what is locked is kept", "object_lock", v.ObjectLock, "tried", len(v.Tried))
	} else {
		n.log.Error("store probed: what is locked is not kept from everybody", "object_lock", v.ObjectLock, "weak", v.Weak, "err", err)
	}
	for _, left := range v.Leftovers {
		n.log.Info("the probe could not remove what it made; a later one does", "object", left)
	}
	if len(v.Tried) > 0 {
		detail := map[string]any{"store": v.Store, "object_lock": v.ObjectLock, "worm": v.WORM, "tried": v.Tried, "weak": v.Weak, "software": version}
		if rerr := n.audit.Do(ctx, record.ActProbe, keeper.Schedule, detail); rerr != nil && err == nil {
			return rerr
		}
	}
	return err
}

// checkStore probes the store of a configuration and prints what came of it.
func checkStore(ctx context.Context, cfg *config) (verdict, error) {
	store, err := object.Open(ctx, cfg.Archive.Store, cfg.storeOptions(nil))
	if err != nil {
		return verdict{}, err
	}
	v, err := probeStore(ctx, store, cfg)
	if cerr := store.Close(); err == nil {
		err = cerr
	}
	return v, err
}

// print says the verdict in words.
func (v *verdict) print(w io.Writer) {
	switch {
	case v.ObjectLock == "none":
		fmt.Fprintf(w, "%s: nothing is locked (archive.object_lock: none): whoever may write to the store may destroy what is in it\n", v.Store)
	case v.WORM:
		fmt.Fprintf(w, "%s: what is locked (%s) is kept: %d ways to destroy it were tried, and refused\n", v.Store, v.ObjectLock, len(v.Tried))
	default:
		fmt.Fprintf(w, "%s: NOT WORM (%s)\n", v.Store, v.ObjectLock)
	}
	weak := map[string]bool{}
	for _, what := range v.Weak {
		weak[what] = true
	}
	for _, what := range v.Tried {
		verdict := "refused"
		if weak[what] {
			verdict = "HAPPENED"
		}
		fmt.Fprintf(w, "  %-8s  %s\n", verdict, what)
	}
}
