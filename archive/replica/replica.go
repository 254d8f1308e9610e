// Package replica keeps a second copy of the archive in another store, and repairs one from the other.
//
// What it promises: the second copy is at every moment an archive that verifies: a pack is there before the commit that names it, and
// nothing derived is ahead of the commits. What is copied is what the ledger says, by SHA-256, and was read back. Nothing in it is ever
// replaced but what may be replaced in the archive too, and nothing comes back that a tombstone names. There is no position to lose: the
// second copy itself says how far it has come, so that a copy that is cut off anywhere goes on where it was. Destroying is not for this
// package: the sweep does it in both stores.
//
// Copied are packs, the ledger, anchors and state. Stored exports are not: they have a retention of their own.
package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
)

// Config is the section "replica" of the configuration.
type Config struct {
	Store      string        `mapstructure:"store"`       // URL, as object.Open takes it; empty: there is no second copy
	ObjectLock string        `mapstructure:"object_lock"` // none, governance or compliance: of the second copy, whatever that of the archive is
	Every      time.Duration `mapstructure:"every"`       // how often it looks for what is new
}

// DefaultEvery is how often a server looks for what is new.
const DefaultEvery = 10 * time.Second

// Lock is the mode that objects of the second copy are locked with.
func (c Config) Lock() object.LockMode { return object.Config{ObjectLock: c.ObjectLock}.Lock() }

// Validate names every fault at once.
func (c Config) Validate() error {
	var errs []error
	if c.Every < 10*time.Millisecond || c.Every > 24*time.Hour {
		errs = append(errs, fmt.Errorf("replica.every: %v is not between 10ms and 24h", c.Every))
	}
	if c.Store == "" {
		return errors.Join(errs...)
	}
	if err := object.CheckURL(c.Store); err != nil {
		errs = append(errs, fmt.Errorf("replica.store: %w", err))
	}
	switch c.Lock() {
	case object.LockNone:
	case object.LockGovernance, object.LockCompliance:
		if strings.HasPrefix(c.Store, "file:") {
			errs = append(errs, fmt.Errorf("replica.object_lock: %s: a folder can't lock", c.ObjectLock))
		}
	default:
		errs = append(errs, fmt.Errorf("replica.object_lock: %q is not none, governance or compliance", c.ObjectLock))
	}
	return errors.Join(errs...)
}

// Store is what is needed of either store.
type Store interface {
	object.Store
	object.Publisher
}

// ErrOther is returned where the second copy is of another archive, or of another history of this one.
var ErrOther = errors.New("the second copy is not of this archive")

// Options are what a Replicator is wired with.
type Options struct {
	Config   Config
	Store    Store                                    // of the archive
	Open     func(ctx context.Context) (Store, error) // opens the store of the second copy
	Archive  string                                   // the archive's id
	Verifier note.Verifier
	Log      *slog.Logger
	Registry prometheus.Registerer // nil: none
	Now      func() time.Time
}

// Replicator copies. Safe for concurrent use.
type Replicator struct {
	Options
	metrics *metrics

	turn   chan struct{} // holds one while a Sync or Repair runs
	to     Store         // of whose turn it is; nil until it could be opened
	graves map[string]*ledger.Graves

	// copying is held for reading from the moment at which it is known that an object is not destroyed until it is copied.
	copying sync.RWMutex

	said   sync.Mutex
	status Status // guarded by said
}

// Status is what the last Sync came to.
type Status struct {
	Synced  time.Time `json:"synced,omitzero"` // when the second copy last had all of the archive, UTC
	Faults  []Fault   `json:"faults"`
	Error   string    `json:"error,omitempty"`
	Objects uint64    `json:"objects"` // copied since the start
	Bytes   int64     `json:"bytes"`
}

// Fault is an object that could not be copied or mended.
type Fault struct {
	Key  string `json:"key"`
	What string `json:"what"`
}

// Report is what a Sync or a Repair did. Its JSON is what `holdfast replicate --json` prints.
type Report struct {
	OK       bool     `json:"ok"` // no faults
	Commits  uint64   `json:"commits"`
	Packs    uint64   `json:"packs"`
	Others   uint64   `json:"others"` // tiles, anchors, state
	Bytes    int64    `json:"bytes"`
	Repaired []Mended `json:"repaired"`
	Faults   []Fault  `json:"faults"`
}

// Mended is an object that was put right.
type Mended struct {
	Store string `json:"store"` // "archive" or "replica"
	Key   string `json:"key"`
	Was   string `json:"was"` // what was wrong with it
}

// New does no I/O.
func New(o Options) *Replicator {
	r := &Replicator{Options: o, turn: make(chan struct{}, 1), graves: map[string]*ledger.Graves{}, status: Status{Faults: []Fault{}}}
	r.metrics = newMetrics(o.Registry, r)
	return r
}

// Run keeps the second copy up to date until ctx ends. Once a day, and at the start, it looks for packs that the second copy lacks although
// it has their commits. Failures are logged, counted, and tried again.
func (r *Replicator) Run(ctx context.Context) {
	const whole, derived = 24 * time.Hour, time.Hour
	var lastWhole, lastDerived time.Time
	failing := false
	for ctx.Err() == nil {
		all := time.Since(lastWhole) > whole
		tiles := all || time.Since(lastDerived) > derived
		_, err := r.sync(ctx, all, tiles)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			r.Log.Error("the second copy is not up to date; it is tried again", "err", err)
		case err == nil && failing:
			r.Log.Info("the second copy goes on")
		}
		if failing = err != nil; !failing {
			if all {
				lastWhole = time.Now()
			}
			if tiles {
				lastDerived = time.Now()
			}
		}
		pause(ctx, r.Config.Every)
	}
}

// Sync copies all that the second copy lacks. An error means that it could not go on; faults, that it could, but for these.
func (r *Replicator) Sync(ctx context.Context) (*Report, error) { return r.sync(ctx, true, true) }

func (r *Replicator) sync(ctx context.Context, whole, derived bool) (*Report, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	defer r.end()
	c := &copier{Replicator: r, whole: whole, derived: derived, report: Report{Repaired: []Mended{}, Faults: []Fault{}}}
	err := c.run(ctx)
	c.report.OK = len(c.report.Faults) == 0
	r.say(&c.report, whole, err)
	return &c.report, err
}

func (r *Replicator) say(rep *Report, whole bool, err error) {
	r.said.Lock()
	defer r.said.Unlock()
	r.status.Objects += rep.Commits + rep.Packs + rep.Others
	r.status.Bytes += rep.Bytes
	r.status.Error = ""
	if err != nil {
		r.status.Error = err.Error()
		r.metrics.failures.Inc()
	} else {
		r.status.Synced = r.Now().UTC()
	}
	if whole && err == nil {
		r.status.Faults = rep.Faults
	} else {
		r.status.Faults = append(r.status.Faults, rep.Faults...)
	}
	if n := len(r.status.Faults); n > maxFaults {
		r.status.Faults = r.status.Faults[n-maxFaults:]
	}
}

const maxFaults = 1000

// Status tells what the last Sync came to.
func (r *Replicator) Status() Status {
	r.said.Lock()
	defer r.said.Unlock()
	s := r.status
	s.Faults = append([]Fault{}, s.Faults...)
	return s
}

// Exclude runs f while nothing is being copied: what f destroys in the second copy does not come back, if the ledger has its tombstones.
func (r *Replicator) Exclude(f func() error) error {
	r.copying.Lock()
	defer r.copying.Unlock()
	return f()
}

// begin waits until no other Sync or Repair runs.
func (r *Replicator) begin(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Replicator) end() { <-r.turn }

func (r *Replicator) open(ctx context.Context) (err error) {
	if r.to == nil {
		r.to, err = r.Open(ctx)
	}
	return err
}

// Close gives back the store of the second copy, unless a call is under way that does not end.
func (r *Replicator) Close() error {
	select {
	case r.turn <- struct{}{}:
	default:
		return nil
	}
	defer r.end()
	if c, ok := r.to.(io.Closer); ok {
		r.to = nil
		return c.Close()
	}
	return nil
}

// reader reads a log of this archive in either store.
func (r *Replicator) reader(store object.Store, log string) (*ledger.Reader, error) {
	return ledger.NewReader(ledger.Config{Store: store, Log: log, Archive: r.Archive, Verifier: r.Verifier})
}

// gravesOf knows what was destroyed, by the archive's own log.
func (r *Replicator) gravesOf(log string) (*ledger.Graves, error) {
	if r.graves[log] == nil {
		reader, err := r.reader(r.Store, log)
		if err != nil {
			return nil, err
		}
		r.graves[log] = ledger.NewGraves(reader)
	}
	return r.graves[log], nil
}

// lockYears is how long what has no month is locked: commits, and packs that are kept for ever.
const lockYears = 10

// lockOf is the lock of an object in a store of this mode: of a pack until the end of the month in which its last record may expire, as its
// key has it.
func lockOf(mode object.LockMode, key string, now time.Time) object.Lock {
	if mode == object.LockNone {
		return object.Lock{}
	}
	until := now.AddDate(lockYears, 0, 0)
	if strings.HasPrefix(key, "packs/") {
		if _, end, ok := (&archive.Packed{Key: key}).Month(); ok && !end.IsZero() {
			until = archive.LockedTo(end, now)
		}
	}
	return object.Lock{Mode: mode, Until: until.UTC()}
}

// isFault tells what is wrong with an object of a ledger from what is wrong with the way to it.
func isFault(err error) bool {
	return errors.Is(err, ledger.ErrAltered) || errors.Is(err, ledger.ErrMissing) || errors.Is(err, ledger.ErrKey) || errors.Is(err, ledger.ErrForeign)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

type metrics struct {
	failures, objects, bytes prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Replicator) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		failures: counter("holdfast_replica_failures_total", "Times that the second copy could not be brought up to date."),
		objects:  counter("holdfast_replica_objects_total", "Objects put into the second copy since the start."),
		bytes:    counter("holdfast_replica_bytes_total", "Bytes put into the second copy since the start."),
	}
	if reg != nil {
		gauge := func(name, help string, f func(Status) float64) prometheus.Collector {
			return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return f(r.Status()) })
		}
		reg.MustRegister(m.failures, m.objects, m.bytes,
			gauge("holdfast_replica_faults", "Objects that could not be copied because they are damaged or missing, or the second copy has others.", func(s Status) float64 { return float64(len(s.Faults)) }),
			gauge("holdfast_replica_timestamp_seconds", "Unix time at which the second copy last had all of the archive; 0: not since the start.", func(s Status) float64 {
				if s.Synced.IsZero() {
					return 0
				}
				return float64(s.Synced.Unix())
			}))
	}
	return m
}
