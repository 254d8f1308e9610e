package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/archive/replica"
	"github.com/holdfast-archive/holdfast/retention/sweep"
)

// errNoReplica is returned where replica.store is not set.
var errNoReplica = fmt.Errorf("%w: there is no second copy; replica.store says where it shall be", errAsked)

// replicaOptions are those of the second copy's store.
func (c *config) replicaOptions() object.Options { return object.Options{Lock: c.Replica.Lock()} }

// openReplicaStore opens the store of the second copy.
func (c *config) openReplicaStore(ctx context.Context) (replica.Store, error) {
	store, err := object.Open(ctx, c.Replica.Store, c.replicaOptions())
	if err != nil {
		return nil, fmt.Errorf("replica.store: %w", err)
	}
	return store, nil
}

// openReplica makes what keeps the second copy; nothing is opened yet.
func (n *node) openReplica(keys *archive.Keys) {
	if n.cfg.Replica.Store == "" {
		return
	}
	n.replica = replica.New(replica.Options{
		Config: n.cfg.Replica, Store: n.store, Open: n.cfg.openReplicaStore, Archive: n.archive.Init().Archive, Verifier: keys.LedgerVerifier(),
		Log: n.log.With("part", "replica"), Registry: n.reg, Now: time.Now,
	})
}

// removers are what takes out of other places what is destroyed.
func (n *node) removers(keys *archive.Keys) ([]sweep.Remover, error) {
	list := []sweep.Remover{{Name: "index", Remove: n.index.purge}}
	if n.replica == nil {
		return list, nil
	}
	var graves []*ledger.Graves
	for _, log := range []string{archive.LogActs, archive.NodeLog(n.cfg.Node)} {
		r, err := ledger.NewReader(ledger.Config{Store: n.store, Log: log, Archive: n.archive.Init().Archive, Verifier: keys.LedgerVerifier()})
		if err != nil {
			return nil, err
		}
		graves = append(graves, ledger.NewGraves(r))
	}
	return append(list, sweep.SecondCopy(sweep.SecondCopyOptions{URL: n.cfg.Replica.Store, Graves: graves, Exclude: n.replica.Exclude})), nil
}

// replicate brings the second copy up to date.
func (a *governanceAPI) replicate(r *http.Request, _ record.Actor) (any, error) {
	if a.replica == nil {
		return nil, errNoReplica
	}
	if r.URL.Query().Get("repair") == "" {
		return a.replica.Sync(r.Context())
	}
	powers, err := a.cfg.repairPowers(r.Context())
	if err != nil {
		return nil, err
	}
	var report *replica.Report
	err = a.sweep.Idle(func() error {
		report, err = a.replica.Repair(r.Context(), powers)
		return err
	})
	return report, err
}

// repairPowers opens the power to mend in both stores.
func (c *config) repairPowers(ctx context.Context) (p replica.Powers, err error) {
	p.Lock = c.Archive.Lock()
	if p.Mend, err = object.OpenMender(ctx, c.Archive.Store, c.storeOptions(nil)); err != nil {
		return p, err
	}
	if p.MendTo, err = object.OpenMender(ctx, c.Replica.Store, c.replicaOptions()); err != nil {
		err = fmt.Errorf("replica.store: %w", err)
	}
	return p, err
}

// repairAlone repairs without a server, whatever state the archive is in: it needs the stores and the keys. The caller holds the lock of
// data_dir, so that nobody on this node writes or destroys.
func repairAlone(ctx context.Context, cfg *config, progress func(uint64)) (_ *replica.Report, err error) {
	keys, err := archive.LoadKeys(cfg.KeysDir)
	if err != nil {
		return nil, err
	}
	store, err := object.Open(ctx, cfg.Archive.Store, cfg.storeOptions(nil))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	to, err := cfg.openReplicaStore(ctx)
	if err != nil {
		return nil, err
	}
	init, err := archive.Identify(ctx, store, keys)
	if err != nil {
		if init, err = archive.Identify(ctx, to, keys); err != nil {
			return nil, fmt.Errorf("neither %s nor %s: %w", cfg.Archive.Store, cfg.Replica.Store, err)
		}
	}
	r := replica.New(replica.Options{
		Config: cfg.Replica, Store: store, Open: func(context.Context) (replica.Store, error) { return to, nil }, Archive: init.Archive,
		Verifier: keys.LedgerVerifier(), Log: cfg.Log.logger(), Now: time.Now,
	})
	defer func() { err = errors.Join(err, r.Close()) }()
	powers, err := cfg.repairPowers(ctx)
	if err != nil {
		return nil, err
	}
	powers.Tail, powers.Progress = true, progress
	return r.Repair(ctx, powers)
}
