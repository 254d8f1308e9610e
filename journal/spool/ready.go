package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	failuresInARow = 3                // that many, and nothing is tried but a probe now and then
	firstBackoff   = time.Second      // before the first probe
	maxBackoff     = 30 * time.Second // between probes, and between tries to write outcomes
	maxSilence     = 30 * time.Second // a write that takes longer: the disk does not answer
	sparePlaces    = 16               // inodes that have to be free
)

// Ready tells whether a message of size bytes (0: not known) would be taken now: nil, ErrFull, ErrNoSpace, ErrFailed or ErrClosed. It is
// cheap enough to be asked at each MAIL. After failures it is also what tries the disk again, at growing intervals.
func (s *Spool) Ready(size int64) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if at := s.committer.started.Load(); at != 0 {
		if d := time.Since(s.born) - time.Duration(at); d > maxSilence {
			return fmt.Errorf("%w: a write to %s has been waiting for %v", ErrFailed, s.paths.dir, d.Round(time.Second))
		}
	}
	if err := s.health.check(s.probe); err != nil {
		return err
	}
	size = min(max(size, 0), 1<<50)
	if err := s.room(size); err != nil {
		return err
	}
	space, err := s.fs.Space(s.paths.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	if need := size + size/2 + s.cfg.ReserveBytes; space.Bytes < need {
		return fmt.Errorf("%w: %d bytes are left, %d are needed: %s", ErrNoSpace, space.Bytes, need, s.paths.dir)
	}
	if space.Inodes >= 0 && space.Inodes < sparePlaces {
		return fmt.Errorf("%w: %d inodes are left: %s", ErrNoSpace, space.Inodes, s.paths.dir)
	}
	if space.Bytes > 4*s.cfg.ReserveBytes {
		s.reserve.ensure(s)
	}
	return nil
}

// room tells whether the limit leaves room for size bytes more.
func (s *Spool) room(size int64) error {
	if used := s.used.Load() + s.inflight.Load(); used+size > s.cfg.MaxBytes {
		return fmt.Errorf("%w: %d of %d bytes are in use", ErrFull, used, s.cfg.MaxBytes)
	}
	return nil
}

// failed counts a failure and gives it the name that callers know.
func (s *Spool) failed(kind string, err error) error {
	name := ErrFailed
	if isNoSpace(err) {
		kind, name = "space", ErrNoSpace
	}
	s.metrics.failures.WithLabelValues(kind).Inc()
	err = fmt.Errorf("spool: %w: %w", name, err)
	s.health.bad(err)
	return err
}

// probe tries whether a small file can be made durable.
func (s *Spool) probe() error {
	if _, err := writeNew(s.fs, s.paths.probe, make([]byte, 4096), false); err != nil {
		return err
	}
	return s.fs.Remove(s.paths.probe)
}

// health knows how often in a row writing has failed.
type health struct {
	mu      sync.Mutex
	run     int           // failures since the last success
	last    error         // the newest of them
	next    time.Time     // when the next probe may be
	backoff time.Duration // after that probe
	probing bool
}

func (h *health) good() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run, h.last = 0, nil
}

func (h *health) bad(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run++
	h.last = err
	if h.run == failuresInARow {
		h.backoff = firstBackoff
		h.next = time.Now().Add(h.backoff)
	}
}

// delay is how long to wait with the next try of what can't be given up.
func (h *health) delay() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return min(100*time.Millisecond<<min(h.run, 10), maxBackoff)
}

// check is nil unless the last writes have all failed. Then, when it is time, one caller probes.
func (h *health) check(probe func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run < failuresInARow {
		return nil
	}
	if h.probing || time.Now().Before(h.next) {
		return fmt.Errorf("%w: %d failures in a row: %w", ErrFailed, h.run, h.last)
	}
	h.probing = true
	h.mu.Unlock()
	err := probe()
	h.mu.Lock()
	h.probing = false
	if err != nil {
		h.backoff = min(2*h.backoff, maxBackoff)
		h.next = time.Now().Add(h.backoff)
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	h.run, h.last = 0, nil
	return nil
}

// reserve is a file of real blocks that is given up so that outcomes and acts can be written on a full disk.
type reserve struct {
	mu    sync.Mutex
	there bool
	next  time.Time // not tried before, after a failure
}

// ensure makes the file durably unless it is there. Without it the spool works, but for a full disk; so a failure is logged.
func (r *reserve) ensure(s *Spool) {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	if r.there || time.Now().Before(r.next) {
		return
	}
	b := make([]byte, s.cfg.ReserveBytes)
	rand.Read(b) // so that a file system that compresses has to give blocks too
	if _, err := writeNew(s.fs, s.paths.reserve, b, false); err != nil {
		s.log.Warn("the spool has no reserve for a full disk", "error", err)
		s.fs.Remove(s.paths.reserve)
		r.next = time.Now().Add(time.Minute)
		return
	}
	r.there = true
}

// giveUp frees the space.
func (r *reserve) giveUp(s *Spool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.there {
		return
	}
	r.there = false
	err := s.fs.Remove(s.paths.reserve)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = s.fs.SyncDir(filepath.Dir(s.paths.reserve)) // some file systems free the blocks only then
	}
	if err != nil {
		s.log.Warn("the spool's reserve can't be freed", "error", err)
		return
	}
	s.log.Warn("the disk is full: the spool's reserve is used for outcomes and acts", "bytes", s.cfg.ReserveBytes)
}
