package anchor

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

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/archive/timestamp"
)

// Options are what a Maker is wired with.
type Options struct {
	Config   Config
	Store    object.Store // of the archive
	Archive  string       // its id
	Node     string
	Verifier note.Verifier
	Lock     func() object.Lock                    // of anchors in the archive's own store; nil: none
	Second   func(context.Context) (*Place, error) // opens the second place; nil: there is none
	Log      *slog.Logger
	Registry prometheus.Registerer // nil: none
	Now      func() time.Time
}

// Maker makes the anchors of a node. Safe for concurrent use.
type Maker struct {
	Options
	authority *timestamp.Authority // nil: none
	own       *Place
	metrics   *metrics

	mu      sync.Mutex // held by Make
	second  *Place     // once it could be opened
	last    *Anchor    // that was made last; nil: not known yet, or none
	stamped bool       // last has a token
	known   bool       // last was looked for
	copied  string     // the newest key in the second place

	said   sync.Mutex
	status Status // guarded by said
}

// Status is what the last try to anchor came to.
type Status struct {
	Time     time.Time `json:"time,omitzero"` // of the try, UTC
	Key      string    `json:"key,omitempty"` // of the newest anchor
	Error    string    `json:"error,omitempty"`
	Conflict bool      `json:"conflict"` // the ledger does not go on from what the anchor before saw
}

// Status tells what the last try came to.
func (m *Maker) Status() Status {
	m.said.Lock()
	defer m.said.Unlock()
	return m.status
}

func (m *Maker) say(a *Anchor, err error) {
	m.said.Lock()
	defer m.said.Unlock()
	m.status = Status{Time: m.Now().UTC(), Key: m.status.Key, Conflict: m.status.Conflict || errors.Is(err, errConflict)}
	if a != nil {
		m.status.Key = a.Key
	}
	if err != nil {
		m.status.Error = err.Error()
	}
}

// errConflict marks what compare has found. It stays in the status until the process ends: the anchor after it is of the new state.
var errConflict = errors.New("the ledger does not go on from the anchor before")

// NewMaker does no I/O but to read the roots.
func NewMaker(o Options) (*Maker, error) {
	m := &Maker{Options: o, own: &Place{Name: "archive", Store: o.Store}, metrics: newMetrics(o.Registry)}
	if m.Lock == nil {
		m.Lock = func() object.Lock { return object.Lock{} }
	}
	if c := o.Config; c.Authority != "" {
		m.authority = &timestamp.Authority{URL: c.Authority, Timeout: c.Timeout}
		if c.AuthorityCA != "" {
			roots, err := timestamp.LoadRoots(c.AuthorityCA)
			if err != nil {
				return nil, fmt.Errorf("anchor.authority_ca: %w", err)
			}
			m.authority.Roots = roots
		}
	}
	return m, nil
}

const (
	retryAfter = 5 * time.Minute // a failure
	makeWithin = 10 * time.Minute
)

// Run makes anchors until ctx ends. Failures are logged and counted, and tried again.
func (m *Maker) Run(ctx context.Context) {
	for {
		wait := m.Config.Every
		if _, err := m.Make(ctx); err != nil && ctx.Err() == nil {
			m.Log.Error("an anchor is not complete; it is tried again", "err", err)
			wait = min(wait, retryAfter)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// Make anchors what the logs have now, and gives the anchor: a new one, or where nothing was committed since, the last. What could not be
// done of it is in the error; the rest is done.
func (m *Maker) Make(ctx context.Context) (a *Anchor, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.say(a, err) }()
	ctx, cancel := context.WithTimeout(ctx, makeWithin)
	defer cancel()
	if err := m.lookup(ctx); err != nil {
		return nil, m.failed("archive", err)
	}
	heads, err := m.heads(ctx)
	if err != nil {
		return nil, m.failed("archive", err)
	}
	errs := []error{m.compare(ctx)}
	if m.last == nil || !same(m.last.Checkpoints, heads) {
		if err := m.write(ctx, heads); err != nil {
			return nil, m.failed("archive", err)
		}
	}
	m.metrics.done("archive", m.Now())
	if err := m.stamp(ctx); err != nil {
		errs = append(errs, m.failed("authority", err))
	}
	if err := m.copy(ctx); err != nil {
		errs = append(errs, m.failed("store", err))
	}
	return m.last, errors.Join(errs...)
}

func (m *Maker) failed(part string, err error) error {
	m.metrics.failures.WithLabelValues(part).Inc()
	return fmt.Errorf("anchor: %s: %w", part, err)
}

// lookup finds the anchor that was made last, in either place: who takes them away in one is found out by the other.
func (m *Maker) lookup(ctx context.Context) (err error) {
	if m.known {
		return nil
	}
	if m.last, m.stamped, err = m.own.newest(ctx, m.Archive, m.Node, m.Verifier); err != nil && !errors.Is(err, ErrAnchor) {
		return err
	} else if err != nil {
		m.Log.Error("the last anchor is damaged, a new one is made", "err", err)
	}
	m.known = true
	if m.openSecond(ctx) != nil {
		return nil // copy says so
	}
	if there, _, err := m.second.newest(ctx, m.Archive, m.Node, m.Verifier); err == nil && there != nil && (m.last == nil || byTime(m.last, there) < 0) {
		m.Log.Error("the last anchor is in the second place and not in the archive", "key", there.Key)
		m.last, m.stamped = there, true // nobody has it stamped again
	}
	return nil
}

// heads gives the newest checkpoint of each log.
func (m *Maker) heads(ctx context.Context) (heads []ledger.Checkpoint, err error) {
	logs, err := ledger.Logs(ctx, m.Store)
	if err != nil {
		return nil, err
	}
	for _, log := range logs {
		r, err := m.reader(log)
		if err != nil {
			return nil, err
		}
		head, err := r.Newest(ctx)
		if err != nil {
			return nil, err
		}
		heads = append(heads, head.Checkpoint)
	}
	return heads, nil
}

func (m *Maker) reader(log string) (*ledger.Reader, error) {
	return ledger.NewReader(ledger.Config{Store: m.Store, Log: log, Archive: m.Archive, Verifier: m.Verifier})
}

// compare raises the alarm where the ledger is not a continuation of what the last anchor saw. The new state is anchored all the same.
func (m *Maker) compare(ctx context.Context) error {
	if m.last == nil {
		return nil
	}
	var errs []error
	for _, cp := range m.last.Checkpoints {
		r, err := m.reader(cp.Log)
		if err != nil {
			return err
		}
		if _, err := r.Descends(ctx, []ledger.Checkpoint{cp}, func(_ int, err error) { errs = append(errs, err) }); err != nil {
			errs = append(errs, err)
		}
	}
	m.metrics.conflicts.Set(float64(len(errs)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w: %w", m.last.Key, errConflict, err)
	}
	return nil
}

// write makes an anchor and stores it in the archive.
func (m *Maker) write(ctx context.Context, heads []ledger.Checkpoint) error {
	now, previous := m.Now(), record.Digest{}
	if m.last != nil {
		previous = m.last.SHA256
		if !now.After(m.last.Time) { // the clock was set back: keys keep their order
			now = m.last.Time.Add(time.Millisecond)
		}
	}
	a, err := makeAnchor(m.Archive, m.Node, now, previous, heads)
	if err != nil {
		return err
	}
	if err := m.own.create(ctx, a.Key, a.Document, m.Lock()); err != nil {
		return err
	}
	m.last, m.stamped = a, false
	m.Log.Info("anchored", "key", a.Key, "sha256", a.SHA256)
	return nil
}

// stamp has the last anchor stamped, unless it is.
func (m *Maker) stamp(ctx context.Context) error {
	if m.authority == nil {
		return nil
	}
	if !m.stamped {
		token, err := m.authority.Stamp(ctx, m.last.SHA256)
		if err != nil {
			return err
		}
		if err := m.own.create(ctx, tokenKey(m.last.Key), token.DER, m.Lock()); err != nil && !errors.Is(err, object.ErrConflict) { // another token will do
			return err
		}
		m.stamped = true
		if off := token.Time.Sub(m.Now()); off.Abs() > time.Minute {
			m.Log.Warn("the clock of the time-stamp authority is not this node's", "ahead", off.Round(time.Second))
		}
	}
	m.metrics.done("authority", m.Now())
	return nil
}

func (m *Maker) openSecond(ctx context.Context) (err error) {
	if m.second == nil {
		if m.Second == nil {
			return errors.New("there is no second place")
		}
		m.second, err = m.Second(ctx)
	}
	return err
}

// copy puts into the second place what it lacks of this node's anchors: all that came after the newest that is there.
func (m *Maker) copy(ctx context.Context) error {
	if m.Second == nil {
		return nil
	}
	if err := m.openSecond(ctx); err != nil {
		return err
	}
	of := prefix(m.Archive) + m.Node + "/"
	if m.copied == "" {
		for info, err := range m.second.Store.List(ctx, of, "") {
			if err != nil {
				return fmt.Errorf("%s: %w", m.second.Name, err)
			}
			m.copied = info.Key
		}
	}
	for info, err := range m.Store.List(ctx, of, m.copied) {
		if err != nil {
			return err
		}
		text, err := m.own.read(ctx, info.Key)
		if err != nil {
			return err
		}
		if strings.HasSuffix(info.Key, suffixDocument) {
			if _, err := parse(info.Key, text, m.Archive, m.Verifier); err != nil {
				return fmt.Errorf("%s: %w", info.Key, err)
			}
		}
		if err := m.second.create(ctx, info.Key, text, object.Lock{}); err != nil {
			return fmt.Errorf("%s: %w", m.second.Name, err)
		}
		m.copied = info.Key
	}
	m.metrics.done("store", m.Now())
	return nil
}

// Close gives back the second place. No Make may be under way.
func (m *Maker) Close() error {
	if m.second == nil {
		return nil
	}
	if c, ok := m.second.Store.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// metrics are what a Maker tells.
type metrics struct {
	last      *prometheus.GaugeVec
	failures  *prometheus.CounterVec
	conflicts prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdfast_anchor_timestamp_seconds", Help: "Unix time at which the newest checkpoints were last known to be anchored: in the archive, stamped by the authority, in the second place (store).",
		}, []string{"part"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_anchor_failures_total", Help: "Tries to anchor that failed, by part.",
		}, []string{"part"}),
		conflicts: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_anchor_conflicts", Help: "Logs that are not a continuation of what the last anchor saw: set back or rewritten.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.last, m.failures, m.conflicts)
	}
	return m
}

func (m *metrics) done(part string, at time.Time) {
	m.last.WithLabelValues(part).Set(float64(at.Unix()))
}
