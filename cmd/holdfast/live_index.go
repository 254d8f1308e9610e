package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/bleve"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/journal/spool"
	"github.com/holdfast-archive/holdfast/search"
)

// liveIndex is the index in force with what feeds it, and while a rebuild runs a second one beside it.
type liveIndex struct {
	gens    *index.Generations
	node    string
	own     []string // our domains
	cfg     index.Config
	archive *archive.Archive
	spool   *spool.Spool
	busy    func() bool // mail is coming in: indexing yields to it
	log     *slog.Logger
	metrics *index.Metrics
	arrive  arrival

	rebuilding sync.Mutex // held for as long as a rebuild runs
	repairing  atomic.Bool

	mu  sync.RWMutex // held for reading while the one in force is used
	now *generation
	ctx context.Context // of the followers; set by start
}

// generation is one index and what feeds it.
type generation struct {
	dir      string
	fresh    atomic.Bool // it was empty when it was opened, and has not caught up yet
	outdated bool        // it was built with other own domains
	backend  index.Backend
	follower *index.Follower
	cancel   context.CancelFunc
	done     chan struct{} // closed when the follower has ended
}

// openIndex opens the index in force. One that is damaged as a whole, or that was made from another ledger, is made again: it is derived.
func openIndex(ctx context.Context, cfg index.Config, node string, a *archive.Archive, s *spool.Spool, busy func() bool, log *slog.Logger, reg prometheus.Registerer, arrive arrival) (*liveIndex, error) {
	gens, err := index.OpenGenerations(cfg.Dir)
	if err != nil {
		return nil, err
	}
	l := &liveIndex{gens: gens, node: node, own: cfg.Own(), cfg: cfg, archive: a, spool: s, busy: busy, log: log, metrics: index.NewMetrics(reg), arrive: arrive}
	dir, err := gens.Current()
	if err != nil {
		return nil, err
	}
	l.now, err = l.open(ctx, dir)
	if errors.Is(err, index.ErrCorrupt) || errors.Is(err, index.ErrOtherLedger) {
		log.Error("index can't be used and is built again", "err", err)
		if dir, err = gens.Next(); err == nil {
			err = gens.Discard()
		}
		if err == nil {
			if l.now, err = l.open(ctx, dir); err == nil {
				err = gens.Adopt(dir)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	l.metrics.Show(l.now.follower)
	if err := bleve.StockBuilder(); err != nil {
		log.Error("the segment builder does not do what Bleve's own does: Bleve's own is used, which takes three times as long", "err", err)
	}
	if reg != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "holdfast_index_stock_builder",
			Help: "1: the segment builder failed, or did not pass its self-test, and Bleve's own is used, which takes three times as long.",
		}, func() float64 {
			if bleve.StockBuilder() != nil {
				return 1
			}
			return 0
		}))
	}
	return l, nil
}

func (l *liveIndex) open(ctx context.Context, dir string) (*generation, error) {
	opened, err := bleve.Open(dir, bleve.Options{Log: l.log, Quiet: func() bool { return l.cfg.Quiet(time.Now()) }})
	if err != nil {
		return nil, err
	}
	b := &watched{Backend: opened, damaged: l.repair, arrive: l.arrive}
	cursors, err := opened.Through(ctx)
	if err == nil {
		err = index.CheckLedger(ctx, opened, l.archive)
	}
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	f := index.New(index.Options{
		Node: l.node, Own: l.own, Backend: b, Ledger: l.archive, Busy: l.busy, Log: l.log, Metrics: l.metrics,
		Tail: &indexTail{l.spool.Tail(), l.spool, l.archive},
	})
	g := &generation{dir: dir, outdated: !index.OwnDomains(cursors, l.own), backend: b, follower: f, done: make(chan struct{})}
	g.fresh.Store(len(cursors) == 0)
	return g, nil
}

// indexTail is the spool as the index sees it. By a sequence the index knows what it has from the spool and what from the ledger; so what
// bears one that the ledger gave to another record comes without it, and a run of such is passed over.
type indexTail struct {
	*spool.Tail
	*spool.Spool
	archive *archive.Archive
}

func (t *indexTail) Rewind() { t.Tail = t.Spool.Tail() }

func (t *indexTail) Next(ctx context.Context) (*record.Item, error) {
	for {
		it, err := t.Tail.Next(ctx)
		if err != nil {
			return nil, err
		}
		foreign, err := t.archive.Foreign(it)
		if err == nil && !foreign {
			return it, nil
		}
		if it.Drop != nil {
			continue
		}
		other := *it
		other.Seq = 0 // also where the catalog can't tell: then the index asks itself whether it has the record
		return &other, nil
	}
}

// arrival is told of documents on their way into the index; apply puts them there.
type arrival func(docs []*document.Document, apply func() error) error

// watched tells of damage that shows when the index is used, and of what comes into it.
type watched struct {
	index.Backend
	damaged func(error)
	arrive  arrival
}

func (w *watched) Apply(ctx context.Context, b index.Batch) error {
	return w.watch(w.arrive(b.Documents, func() error { return w.Backend.Apply(ctx, b) }))
}

func (w *watched) Search(ctx context.Context, r index.Request) (*index.Result, error) {
	res, err := w.Backend.Search(ctx, r)
	return res, w.watch(err)
}

func (w *watched) Count(ctx context.Context, r index.CountRequest) (*index.Counts, error) {
	c, err := w.Backend.Count(ctx, r)
	return c, w.watch(err)
}

func (w *watched) watch(err error) error {
	if errors.Is(err, index.ErrCorrupt) {
		w.damaged(err)
	}
	return err
}

// repair builds a damaged index again in the background; what can be answered by the old one still is.
func (l *liveIndex) repair(err error) {
	l.renew(func() { l.log.Error("index is damaged and is built again", "err", err) })
}

func (l *liveIndex) renew(say func()) {
	go func() {
		if !l.repairing.CompareAndSwap(false, true) {
			return
		}
		defer l.repairing.Store(false)
		say()
		l.current().fresh.Store(false) // it will not be whole by waiting
		if err := l.rebuild(l.ctx, func(uint64, uint64) {}); err != nil {
			l.log.Error("index not built again", "err", err)
		}
	}()
}

func (g *generation) start(ctx context.Context) {
	ctx, g.cancel = context.WithCancel(ctx)
	go func() {
		defer close(g.done)
		g.follower.Run(ctx)
	}()
	go func() {
		if g.follower.Settle(ctx) == nil {
			g.fresh.Store(false)
		}
	}()
}

func (g *generation) close() error {
	if g.cancel != nil {
		g.cancel()
		<-g.done
	}
	return g.backend.Close()
}

func (l *liveIndex) start(ctx context.Context) {
	l.ctx = ctx
	l.now.start(ctx)
	switch {
	case l.now.outdated:
		l.renew(func() { l.log.Info("index is built again: index.own_domains has changed") })
	case l.gens.Begun():
		l.renew(func() { l.log.Info("a rebuild of the index that was interrupted goes on") })
	}
}

// close waits for a rebuild, which ends with what feeds it, and lets none begin afterwards.
func (l *liveIndex) close() error {
	l.rebuilding.Lock()
	return l.current().close()
}

func (l *liveIndex) current() *generation {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.now
}

// Search asks the index in force.
func (l *liveIndex) Search(ctx context.Context, r index.Request) (*index.Result, error) {
	l.mu.RLock() // so that it isn't closed meanwhile
	defer l.mu.RUnlock()
	return l.now.backend.Search(ctx, r)
}

// Count asks the index in force.
func (l *liveIndex) Count(ctx context.Context, r index.CountRequest) (*index.Counts, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.now.backend.Count(ctx, r)
}

// throughTime is how long a search waits at most to be told how far the index has come.
const throughTime = 2 * time.Second

// through says how far the index in force has come; empty: not known.
func (l *liveIndex) through(ctx context.Context) []search.Through {
	list := []search.Through{}
	f := l.current().follower
	ctx, cancel := context.WithTimeout(ctx, throughTime)
	defer cancel()
	if err := f.Ready(ctx); err != nil {
		return list
	}
	for _, p := range f.Progress() {
		list = append(list, search.Through{Log: p.Log, Seq: p.Entries, Time: p.Time})
	}
	return list
}

// settle waits until all that is in custody or in the archive is in the index.
func (l *liveIndex) settle(ctx context.Context) error { return l.current().follower.Settle(ctx) }

// rebuild builds a new index beside the one in force, which serves until the new one has caught up.
func (l *liveIndex) rebuild(ctx context.Context, progress func(done, total uint64)) error {
	if !l.rebuilding.TryLock() {
		return errors.New("rebuild: one is running already")
	}
	defer l.rebuilding.Unlock()
	if now := l.current(); now.fresh.Load() { // it is being built anyway, as after a lost data_dir
		return l.catchUp(ctx, now, progress)
	}
	g, err := l.openNext(ctx)
	if err != nil {
		return err
	}
	g.start(l.ctx)
	if err := l.catchUp(ctx, g, progress); err != nil { // what there is of it is kept
		return errors.Join(err, g.close())
	}
	if err := l.gens.Adopt(g.dir); err != nil {
		return errors.Join(err, g.close())
	}
	l.mu.Lock()
	old := l.now
	l.now = g
	l.metrics.Show(g.follower)
	l.mu.Unlock()
	return errors.Join(old.close(), os.RemoveAll(old.dir))
}

// openNext opens what an interrupted rebuild has made so far, or an empty index where there is nothing that can be gone on with.
func (l *liveIndex) openNext(ctx context.Context) (*generation, error) {
	dir, err := l.gens.Next()
	if err != nil {
		return nil, err
	}
	g, err := l.open(ctx, dir)
	switch {
	case errors.Is(err, index.ErrCorrupt), errors.Is(err, index.ErrOtherLedger):
		l.log.Warn("what an interrupted rebuild left can't be used", "err", err)
	case err != nil:
		return nil, err
	case !g.outdated:
		return g, nil
	default:
		err = g.close()
		if err != nil {
			return nil, err
		}
	}
	if err := l.gens.Discard(); err != nil {
		return nil, err
	}
	return l.open(ctx, dir)
}

// catchUp waits until a new index has what the old one has, and tells how far it is.
func (l *liveIndex) catchUp(ctx context.Context, g *generation, progress func(done, total uint64)) error {
	began := time.Now()
	told := began
	for {
		select {
		case <-g.done:
			return errors.New("rebuild: the node is stopping; it goes on with the next start")
		case <-ctx.Done():
			return fmt.Errorf("rebuild of %s was interrupted, and goes on with the next start or the next rebuild: %w", filepath.Base(g.dir), ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
		var done, total uint64
		for _, p := range g.follower.Progress() {
			done += p.Entries
			total += l.archive.Size(p.Log)
		}
		progress(done, total)
		if documents, bytes := g.follower.Applied(); time.Since(told) >= tellEvery {
			took := time.Since(began).Seconds()
			l.log.Info("the index is being built", "entries", done, "of", total, "documents", documents,
				"documents_per_second", int(float64(documents)/took), "mb_per_second", int(float64(bytes)/took/1e6))
			told = time.Now()
		}
		if n, known := g.follower.Lag(); known && n == 0 {
			documents, bytes := g.follower.Applied()
			took := time.Since(began).Seconds()
			l.log.Info("the index is built", "documents", documents, "bytes", bytes, "seconds", int(took),
				"documents_per_second", int(float64(documents)/took), "mb_per_second", int(float64(bytes)/took/1e6))
			return nil
		}
	}
}

// tellEvery is how often the log is told how far a new index is.
const tellEvery = 10 * time.Second
