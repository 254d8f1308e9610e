package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/anchor"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/bundle"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/archive/replica"
	"github.com/holdfast-archive/holdfast/journal"
	"github.com/holdfast-archive/holdfast/journal/spool"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/retention/keeper"
	"github.com/holdfast-archive/holdfast/retention/sweep"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/matter"
	"github.com/holdfast-archive/holdfast/web"
)

// node is everything behind the listeners, wired: spool → archive → index → search. Who opens one owns data_dir.
type node struct {
	cfg     *config
	log     *slog.Logger
	reg     *prometheus.Registry
	lock    *os.File
	store   object.Keeper
	spool   *spool.Spool
	mail    *mailbox
	archive *archive.Archive
	audit   *audit.Log
	index   *liveIndex
	search  *search.Service
	book    *audit.Book // the acts of all nodes
	rules   *retention.State
	matters *matter.State
	keeper  *keeper.Keeper
	sweep   *sweep.Sweep
	replica *replica.Replicator // nil: there is no second copy
	running context.Context     // of archive and index; set by start

	lengthener *keeper.Lengthener // nil: nothing is locked
	declared   atomic.Bool        // what the configuration declares is in force

	drain    chan struct{}  // closed: archive what has settled, then end
	cancel   func()         // ends archive and index
	archived sync.WaitGroup // of the archive
	done     sync.WaitGroup // of what follows the acts
	care     care
	failed   chan error // the first fault that this node can't go on with
}

// openNode opens an archive that exists. Errors name what is missing: nothing is made but what can be made again.
func openNode(ctx context.Context, cfg *config) (_ *node, err error) {
	n := &node{cfg: cfg, mail: &mailbox{}, log: cfg.Log.logger(), reg: prometheus.NewRegistry(), drain: make(chan struct{}), failed: make(chan error, 2)}
	n.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	keys, err := archive.LoadKeys(cfg.KeysDir)
	if err != nil {
		return nil, err
	}
	n.store, err = object.Open(ctx, cfg.Archive.Store, cfg.storeOptions(n.reg))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close(ctx))
		}
	}()
	if err := archive.Check(ctx, n.store, keys); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Archive.Store, err)
	}
	if n.lock, err = lockDataDir(cfg.DataDir); err != nil {
		return nil, err
	}
	policies, err := retention.New(cfg.Retention)
	if err != nil {
		return nil, err
	}
	n.rules, n.matters = retention.NewState(policies, parseRule), matter.NewState()
	n.archive, err = archive.Open(ctx, archive.Options{
		Config: cfg.Archive, Store: n.store, Keys: keys, DataDir: cfg.DataDir, Log: n.log.With("part", "archive"), Registry: n.reg, Now: time.Now,
		Expiry: n.expiry,
		Held:   n.heldOnArrival,
		Keep:   keepRefused(cfg.Listeners),
		Busy:   n.mail.busy,
	})
	if err != nil {
		return nil, err
	}
	if err := n.openBook(ctx); err != nil {
		return nil, err
	}
	first, err := n.archive.NextSequence()
	if err != nil {
		return nil, err
	}
	n.spool, err = spool.Open(cfg.Spool, spool.Options{Node: cfg.Node, Log: n.log.With("part", "spool"), Metrics: n.reg, MinSeq: first})
	if err != nil {
		return nil, err
	}
	n.mail.Spool, n.mail.archive = n.spool, n.archive
	n.audit = audit.New(cfg.Node, n.spool)
	n.index, err = openIndex(ctx, cfg.Index, cfg.Node, n.archive, n.spool, n.mail.busy, n.log.With("part", "index"), n.reg, n.arrive)
	if err != nil {
		return nil, err
	}
	n.openReplica(keys)
	removers, err := n.removers(keys)
	if err != nil {
		return nil, err
	}
	n.keeper, n.sweep = n.openKeeper(), n.openSweep(removers)
	n.declare(ctx)
	n.lengthener = n.openLengthener()
	n.search = &search.Service{Index: n.index, Archive: n.archive, Audit: n.audit, Progress: n.index.through, Now: time.Now, Sets: ruled{n}, Directions: len(n.index.own) > 0}
	return n, nil
}

// keepRefused says what is archived of mail that the next hop refused, by the listener that it came through.
func keepRefused(listeners []journal.Config) func(*record.Item) archive.Keep {
	keep := journal.KeepOf(listeners)
	return func(it *record.Item) archive.Keep {
		switch keep(it) {
		case journal.KeepNone:
			return archive.KeepNothing
		case journal.KeepEnvelope:
			return archive.KeepEnvelope
		}
		return archive.KeepAll
	}
}

// custody is the spool as the archive sees it: a tail of its own, and what lets go.
type custody struct {
	*spool.Tail
	*spool.Spool
}

// mailbox is custody as listeners see it: the spool, and the archive behind it. It knows whether mail is coming in, so that what can wait does.
type mailbox struct {
	*spool.Spool
	archive *archive.Archive
	last    atomic.Int64 // Unix nanoseconds of the last message
}

func (m *mailbox) Await(ctx context.Context, id record.ID) error { return m.archive.Await(ctx, id) }

func (m *mailbox) Failing() error { return m.archive.Failing() }

// busyFor is how long after a message a node counts as busy.
const busyFor = 50 * time.Millisecond

func (m *mailbox) Accept(ctx context.Context, env record.Envelope, body io.Reader, opt spool.AcceptOptions) (record.ID, error) {
	m.last.Store(time.Now().UnixNano())
	return m.Spool.Accept(ctx, env, body, opt)
}

func (m *mailbox) busy() bool { return time.Since(time.Unix(0, m.last.Load())) < busyFor }

// start lets the archive and the index follow the spool.
func (n *node) start() {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.running = cancel, ctx
	n.archived.Go(func() {
		if err := n.archive.Run(ctx, custody{n.spool.Tail(), n.spool}, n.drain); err != nil && ctx.Err() == nil {
			n.fail(fmt.Errorf("archive: %w", err))
		}
	})
	n.index.start(ctx)
	n.done.Go(func() { n.followActs(ctx) })
	n.done.Go(func() { n.keeper.Run(ctx) })
	if n.lengthener != nil {
		n.done.Go(func() { n.lengthener.Run(ctx) })
	}
	n.done.Go(func() { n.archive.WatchForForeign(ctx, foreignEvery) })
}

// foreignEvery is how often the store is searched for what others did to it.
const foreignEvery = time.Hour

func (n *node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

// settled waits until all that is in custody is in the archive, and all of that in the index.
func (n *node) settled(ctx context.Context) error {
	for {
		if left, _ := n.spool.Pending(); left == 0 {
			return n.index.settle(ctx)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// stop archives what has settled, seals and commits, lets the index catch up, and closes. ctx bounds it: what is not committed by then is
// in the spool, durable, and goes on with the next start.
func (n *node) stop(ctx context.Context) error {
	close(n.drain)
	giveUp := context.AfterFunc(ctx, n.cancel)
	defer giveUp()
	n.archived.Wait()
	settle, cancel := ctx, func() {}
	if left, _ := n.spool.Pending(); left > 0 { // what could not be archived may never come into the index
		settle, cancel = context.WithTimeout(ctx, graceIndex)
	}
	defer cancel()
	if err := n.index.settle(settle); err != nil {
		n.log.Warn("the index goes on with the next start", "err", err)
	}
	if err := n.keeper.Flush(ctx); err != nil {
		n.log.Warn("what is held is written down with the next start", "err", err)
	}
	n.cancel()
	n.done.Wait()
	return n.close(ctx)
}

// close closes what is open, in the order of the flow.
func (n *node) close(ctx context.Context) error {
	var errs []error
	if n.index != nil {
		errs = append(errs, n.index.close())
	}
	if n.spool != nil {
		errs = append(errs, n.spool.Close(ctx))
	}
	if n.book != nil {
		errs = append(errs, n.book.Save())
	}
	if n.archive != nil {
		errs = append(errs, n.archive.Close(ctx))
	}
	if n.replica != nil {
		errs = append(errs, n.replica.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}

// services is what people can ask of this node.
func (n *node) services() web.Services {
	return web.Services{Search: n.search, BeginImport: n.beginImport, Import: n.importMessage, Rebuild: n.rebuild, Export: n.export, Notices: n.notices, Care: func() any { return n.careStatus() },
		Log: n.log.With("part", "web")}
}

// beginImport writes the act of an import, which the messages that follow belong to.
func (n *node) beginImport(ctx context.Context, by record.Actor, paths, reports []string) error {
	if err := journal.CheckReportFormats(reports); err != nil {
		return err
	}
	detail := map[string]any{"paths": paths}
	if len(reports) > 0 {
		detail["reports"] = reports
	}
	return n.audit.Do(ctx, record.ActImport, by, detail)
}

// importMessage takes one message into custody.
func (n *node) importMessage(ctx context.Context, origin string, reports []string, message io.Reader) (record.ID, error) {
	return journal.Import(ctx, n.mail, origin, reports, message)
}

// export writes a bundle.
func (n *node) export(ctx context.Context, by record.Actor, r search.ExportRequest) (*bundle.Result, error) {
	r.Software = version
	return n.search.Export(ctx, by, r)
}

// rebuild makes catalog and index again from the archive.
func (n *node) rebuild(ctx context.Context, by record.Actor, progress func(web.Progress)) error {
	if !n.archive.Readable() {
		return fmt.Errorf("rebuild: packs are encrypted and keys_dir %s has no identity", n.cfg.KeysDir)
	}
	if err := n.audit.Do(ctx, record.ActRebuild, by, nil); err != nil {
		return err
	}
	if err := n.archive.RebuildCatalog(ctx, func(done, total uint64) {
		progress(web.Progress{Step: "catalog", Done: int64(done), Total: int64(total), Unit: "entries"})
	}); err != nil {
		return err
	}
	return n.index.rebuild(ctx, func(done, total uint64) {
		progress(web.Progress{Step: "index", Done: int64(done), Total: int64(total), Unit: "entries"})
	})
}

// verified is what a verification found, in the archive and of its anchors.
type verified struct {
	OK bool `json:"ok"`
	*archive.Report
	Anchors *anchor.Report `json:"anchors"`
}

// verifyArchive reads the archive in this process, beside a running server or without one: it needs the store and the keys only.
func verifyArchive(ctx context.Context, cfg *config, full bool, progress func(web.Progress)) (_ *verified, err error) {
	keys, err := archive.LoadKeys(cfg.KeysDir)
	if err != nil {
		return nil, err
	}
	store, err := object.Open(ctx, cfg.Archive.Store, object.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	report, err := archive.Verify(ctx, archive.VerifyOptions{
		Store: store, Keys: keys, Full: full,
		Progress: func(step string, done, total int64, unit string) {
			progress(web.Progress{Step: step, Done: done, Total: total, Unit: unit})
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Archive.Store, err)
	}
	check, done, err := openAnchors(ctx, cfg)
	if err != nil {
		if !report.OK { // that is why
			return &verified{false, report, nil}, nil
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	anchors, err := anchor.Check(ctx, check)
	if err != nil {
		return nil, fmt.Errorf("%s: anchors: %w", cfg.Archive.Store, err)
	}
	return &verified{report.OK && anchors.OK, report, anchors}, nil
}
