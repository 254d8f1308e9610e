// Package scrub verifies the archive piece by piece, all the time: each day a share of it is read and held against the ledger, so that a
// fault is found while a second copy can still mend it and not when a court asks.
//
// What it promises: within 1/share days every pack of the logs that it is given has been read whole and compared with the SHA-256 in its
// entries, and every commit and tile been verified. The position is kept over restarts. It writes nothing but its own position, goes on
// after a fault, and yields to mail that comes in. What it finds stays among the findings until it is read again and found well.
package scrub

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Config is the section "scrub" of the configuration.
type Config struct {
	Share float64 `mapstructure:"share"` // of the archive, each day; 0: none of it is read
}

// DefaultShare has all of the archive read within 33 days.
const DefaultShare = 0.03

// Validate names every fault at once.
func (c Config) Validate() error {
	if !(c.Share >= 0 && c.Share <= 1e9) {
		return fmt.Errorf("scrub.share: %v is no share of the archive (1 is all of it each day, 0 nothing)", c.Share)
	}
	return nil
}

// Options are what a Scrubber is wired with.
type Options struct {
	Config   Config
	Store    object.Store
	Archive  string // its id
	Verifier note.Verifier
	Logs     []string
	Path     string      // of the file with the position
	Busy     func() bool // mail is coming in; nil: never
	Log      *slog.Logger
	Registry prometheus.Registerer // nil: none
	Now      func() time.Time
}

// Scrubber reads the archive. Safe for concurrent use; Run once.
type Scrubber struct {
	Options
	readers []*ledger.Reader
	graves  map[string]*ledger.Graves // by log
	metrics *metrics

	mu      sync.Mutex
	state   state // guarded by mu
	unsaved bool  // guarded by mu
}

// New reads the position that a former run has left. One that can't be read is begun anew.
func New(o Options) (*Scrubber, error) {
	s := &Scrubber{Options: o, graves: map[string]*ledger.Graves{}}
	if s.Busy == nil {
		s.Busy = func() bool { return false }
	}
	for _, log := range o.Logs {
		r, err := ledger.NewReader(ledger.Config{Store: o.Store, Log: log, Archive: o.Archive, Verifier: o.Verifier})
		if err != nil {
			return nil, err
		}
		s.readers = append(s.readers, r)
		s.graves[log] = ledger.NewGraves(r)
	}
	var err error
	if s.state, err = load(o.Path); err != nil {
		o.Log.Warn("the scrub begins anew", "err", err)
	}
	if s.state.Archive != o.Archive {
		s.state = state{V: record.Version, Archive: o.Archive, Next: map[string]uint64{}}
	}
	s.metrics = newMetrics(o.Registry, s)
	return s, nil
}

const (
	retryAfter = time.Minute
	aDay       = 24 * time.Hour
	saveEvery  = 30 * time.Second

	betweenPasses = time.Second // however large the share
)

// Run reads until ctx ends.
func (s *Scrubber) Run(ctx context.Context) {
	if s.Config.Share == 0 {
		return
	}
	defer s.save(true)
	for ctx.Err() == nil {
		if err := s.cycle(ctx); err != nil && ctx.Err() == nil {
			s.metrics.failures.Inc()
			s.Log.Error("the scrub can't read the archive; it tries again", "err", err)
			pause(ctx, retryAfter)
		} else {
			pause(ctx, betweenPasses)
		}
	}
}

// cycle goes through all that is left of a pass through the archive.
func (s *Scrubber) cycle(ctx context.Context) error {
	if s.begin() {
		for _, r := range s.readers {
			if err := s.ledger(ctx, r); err != nil {
				return err
			}
		}
	}
	total := uint64(0)
	for _, r := range s.readers {
		if head, err := r.Newest(ctx); err == nil {
			total += head.Size
		} else if !isFault(err) {
			return err
		}
	}
	pace := s.pace(total)
	for _, r := range s.readers {
		if err := s.packs(ctx, r, pace); err != nil {
			return err
		}
	}
	s.completed()
	return nil
}

// begin starts a pass, unless one is under way, and says whether it did.
func (s *Scrubber) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.Started.IsZero() {
		return false
	}
	s.state.Started, s.state.Next, s.unsaved = s.Now().UTC(), map[string]uint64{}, true
	return true
}

func (s *Scrubber) completed() {
	s.mu.Lock()
	s.state.Completed, s.state.Started, s.unsaved = s.Now().UTC(), time.Time{}, true
	n := len(s.state.Findings)
	s.mu.Unlock()
	s.save(true)
	s.Log.Info("the scrub has read all of the archive", "findings", n)
}

// pace spreads the work: so many entries a day.
func (s *Scrubber) pace(total uint64) *pace {
	return &pace{perEntry: time.Duration(float64(aDay) / s.Config.Share / float64(max(total, 1))), due: time.Now()}
}

type pace struct {
	perEntry time.Duration
	due      time.Time
}

func (p *pace) each(n uint64) time.Duration {
	return time.Duration(min(float64(p.perEntry)*float64(n), float64(10*365*aDay)))
}

// wait waits until n entries that were dealt with are due. What is late is not made up for: that would be a burst.
func (p *pace) wait(ctx context.Context, n uint64) error {
	p.due = p.due.Add(p.each(n))
	if d := time.Until(p.due); d > 0 {
		return pause(ctx, d)
	}
	p.due = time.Now()
	return ctx.Err()
}

// ledger verifies the commits and tiles of a log.
func (s *Scrubber) ledger(ctx context.Context, r *ledger.Reader) error {
	found := map[string]bool{}
	_, err := r.Verify(ctx, func(*ledger.Commit) error { s.yield(ctx); return ctx.Err() }, func(f ledger.Finding) {
		switch f.Kind {
		case ledger.Altered, ledger.Missing:
			found[f.Key] = true
			s.found(string(f.Kind), f.Key, f.Err)
		}
	})
	if errors.Is(err, ledger.ErrNoLog) {
		s.found(string(ledger.Missing), ledger.CommitKey(r.Name(), 0), err)
		return nil
	}
	if err == nil {
		s.healed(func(key string) bool { return inLog(r.Name(), key) && !found[key] })
	}
	return err
}

// packs reads the packs that a log names, from the commit on where the last run has stopped.
func (s *Scrubber) packs(ctx context.Context, r *ledger.Reader, pace *pace) error {
	newest, err := r.Newest(ctx)
	if isFault(err) {
		return nil // it is among the findings already
	} else if err != nil {
		return err
	}
	for n := s.next(r.Name()); n <= newest.Commit; n++ {
		c, err := r.Commit(ctx, n)
		if isFault(err) {
			s.found(string(ledger.Altered), ledger.CommitKey(r.Name(), n), err)
		} else if err != nil {
			return err
		} else if err := s.commit(ctx, r.Name(), c, pace); err != nil {
			return err
		}
		s.passed(r.Name(), n+1)
	}
	return nil
}

// commit reads the packs that a commit names. All entries of a pack stand in one commit, in a row.
func (s *Scrubber) commit(ctx context.Context, log string, c *ledger.Commit, pace *pace) error {
	for i := 0; i < len(c.Entries); {
		first, n := &c.Entries[i].Entry, 1
		for i+n < len(c.Entries) && c.Entries[i+n].Entry.Pack == first.Pack {
			n++
		}
		i += n
		if first.Pack != "" {
			if err := s.pack(ctx, log, first.Pack, first.PackSHA256); err != nil {
				return err
			}
		}
		if err := pace.wait(ctx, uint64(n)); err != nil {
			return err
		}
	}
	return nil
}

// pack reads one pack whole.
func (s *Scrubber) pack(ctx context.Context, log, key string, want record.Digest) error {
	body, err := s.Store.Open(ctx, key, 0, -1)
	var got record.Digest
	var size int64
	if err == nil {
		got, size, err = s.sum(ctx, body)
		body.Close()
	}
	s.metrics.bytes.Add(float64(size))
	switch {
	case errors.Is(err, object.ErrNotFound):
		gone, err := s.graves[log].Gone(ctx, key, want)
		if err != nil && !isFault(err) {
			return err
		}
		if gone {
			s.healed(func(k string) bool { return k == key })
			return nil
		}
		s.found(string(ledger.Missing), key, fmt.Errorf("log %s names it", log))
	case errors.Is(err, object.ErrMismatch):
		s.found(string(ledger.Altered), key, err)
	case err != nil:
		return err
	case got != want:
		s.found(string(ledger.Altered), key, fmt.Errorf("SHA-256 is %s, log %s has %s", got, log, want))
	default:
		s.healed(func(k string) bool { return k == key })
	}
	s.metrics.packs.Inc()
	return nil
}

// sum reads a body slowly enough for mail that comes in.
func (s *Scrubber) sum(ctx context.Context, body io.Reader) (record.Digest, int64, error) {
	h, buf, size := sha256.New(), make([]byte, 256<<10), int64(0)
	for {
		s.yield(ctx)
		n, err := body.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		switch {
		case err == io.EOF:
			return record.Digest(h.Sum(nil)), size, nil
		case err != nil:
			return record.Digest{}, size, err
		case ctx.Err() != nil:
			return record.Digest{}, size, ctx.Err()
		}
	}
}

// yield waits while mail comes in, for a while.
func (s *Scrubber) yield(ctx context.Context) {
	for n := 0; n < 4 && s.Busy(); n++ {
		pause(ctx, 25*time.Millisecond)
	}
}

// isFault tells what is wrong with a log from what is wrong with the way to it.
func isFault(err error) bool {
	return errors.Is(err, ledger.ErrAltered) || errors.Is(err, ledger.ErrMissing) || errors.Is(err, ledger.ErrNoLog) || errors.Is(err, ledger.ErrKey) ||
		errors.Is(err, ledger.ErrForeign)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
