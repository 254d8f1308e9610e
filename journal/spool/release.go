package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Release says that the archive holds these items of a Tail; their supplements are meant too. A segment that nothing in custody needs is
// deleted at once, with the large messages that belong to it, unless it is the newest. What is released but not yet deleted comes from the
// tail again after a restart. An item that was released before is passed over; one that did not come from a Tail of this Spool is
// ErrInvalid, and the others are still released. A deletion that fails is logged and tried again with the next.
func (s *Spool) Release(_ context.Context, items []*record.Item) error {
	var errs []error
	s.mu.Lock()
	for _, it := range items {
		switch {
		case it.Ref == 0 || it.Ref >= s.queue.end:
			errs = append(errs, fmt.Errorf("%w: %s was not given out by the spool's tail", ErrInvalid, it.ID))
		case s.queue.get(it.Ref) != nil:
			s.release(it.Ref)
		}
	}
	last := s.last()
	rested := last != nil && last.live == 0 && last.size > segmentStart
	s.mu.Unlock()
	if rested {
		s.inbox.setRested()
	}
	s.sweepMu.Lock()
	defer s.sweepMu.Unlock()
	s.sweep()
	return errors.Join(errs...)
}

// sweep deletes what is not needed any more. The oldest segment is removed; one that has older ones before it is replaced by a stub, so
// that the row of segments stays whole, and what the older ones need to know of it is kept. Called with sweepMu held.
func (s *Spool) sweep() {
	if err := s.removeLeftovers(); err != nil {
		s.metrics.failures.WithLabelValues("delete").Inc()
		s.log.Error("what a failed write left in the spool can't be deleted; it is tried again", "error", err)
		return
	}
	for {
		s.mu.Lock()
		seg, oldest := s.victim()
		s.mu.Unlock()
		if seg == nil {
			return
		}
		var err error
		if oldest {
			err = s.remove(seg)
		} else {
			err = s.stub(seg)
		}
		if err != nil {
			s.metrics.failures.WithLabelValues("delete").Inc()
			s.log.Error("a spool segment can't be deleted; it is tried again", "error", err)
			return
		}
	}
}

// removeLeftovers removes them durably.
func (s *Spool) removeLeftovers() error {
	s.mu.Lock()
	paths := slices.Clone(s.leftovers)
	s.mu.Unlock()
	if len(paths) == 0 {
		return nil
	}
	for _, path := range paths {
		if err := s.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := s.fs.SyncDir(s.paths.dir); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leftovers = slices.Delete(s.leftovers, 0, len(paths))
	return nil
}

// victim gives a segment that can be deleted, and whether it is the oldest. Called with mu held.
func (s *Spool) victim() (seg *segment, oldest bool) {
	for i, seg := range s.segments[:max(len(s.segments)-1, 0)] {
		if seg.live == 0 && (i == 0 || !seg.stub) {
			return seg, i == 0
		}
	}
	return nil, false
}

// remove deletes the oldest segment: remove file, fsync directory, and only then the large messages that it refers to, so that no frame
// ever refers to one that is missing.
func (s *Spool) remove(seg *segment) error {
	seg.markGone()
	if err := s.fs.Remove(seg.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.syncDeleted(seg); err != nil {
		return err
	}
	s.removeBigs(seg)
	s.mu.Lock()
	s.segments = slices.DeleteFunc(s.segments, func(other *segment) bool { return other == seg })
	s.forgetLoose(seg)
	s.mu.Unlock()
	s.used.Add(-seg.disk)
	return nil
}

// stub replaces a segment by one without records: write temporary file, fsync it, rename, fsync directory, and only then the large
// messages.
func (s *Spool) stub(seg *segment) error {
	s.mu.Lock()
	next := s.segments[slices.Index(s.segments, seg)+1]
	h := seg.header
	h.stub, h.mark, h.next = true, newMarker(), max(next.first, h.first)
	done, ended := s.doneBefore(seg), runsOf(seg.ended)
	s.mu.Unlock()
	b := make([]byte, segmentStart)
	h.put(b)
	b, err := appendRuns(b, frameDone, h.mark, done)
	if err == nil && len(ended) > 0 {
		b, err = appendRuns(b, frameEnded, h.mark, ended)
	}
	if err != nil {
		return err
	}

	seg.markGone()
	if _, err := writeNew(s.fs, seg.path, b, false); err != nil {
		return err
	}
	s.removeBigs(seg)
	s.mu.Lock()
	freed := seg.disk - int64(len(b))
	seg.header, seg.disk = h, int64(len(b))
	seg.settled, seg.drops, seg.ended = nil, nil, nil
	s.forgetLoose(seg)
	s.mu.Unlock()
	s.used.Add(-freed)
	return nil
}

// doneBefore gives the sequences of older segments that are done with by what stands in this one: messages that have a supplement here,
// which is not needed any more, so neither are they; and dropped runs. Called with mu held.
func (s *Spool) doneBefore(seg *segment) (done [][2]uint64) {
	return append(runsOf(seg.settled), seg.drops...)
}

// appendRuns adds a frame with runs of sequences to what will be a stub.
func appendRuns(b []byte, kind frameKind, mark marker, runs [][2]uint64) ([]byte, error) {
	meta, err := json.Marshal(runs)
	if err != nil {
		return nil, err
	}
	f := newRequest(frame{kind: kind}, meta, nil).frame
	f.off = int64(len(b))
	return appendFrame(b, f, mark, meta, nil), nil
}

// runsOf joins sequences that follow each other, in the order given.
func runsOf(seqs []uint64) (runs [][2]uint64) {
	for _, n := range seqs {
		if k := len(runs) - 1; k >= 0 && runs[k][1]+1 == n {
			runs[k][1] = n
			continue
		}
		runs = append(runs, [2]uint64{n, n})
	}
	return runs
}

// syncDeleted makes a removal durable. When that fails nobody knows whether the segment is there after a crash, so its large messages
// stay; a later start finds out.
func (s *Spool) syncDeleted(seg *segment) error {
	start := time.Now()
	err := s.fs.SyncDir(s.paths.dir)
	s.metrics.fsync.Observe(time.Since(start).Seconds())
	if err != nil {
		s.keepBigs(seg)
	}
	return err
}

// keepBigs leaves the large messages of a segment to the next start.
func (s *Spool) keepBigs(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.bigs, seg.bigSize = nil, 0
}

func (s *Spool) removeBigs(seg *segment) {
	s.mu.Lock()
	bigs := seg.bigs
	seg.bigs, seg.bigSize = nil, 0
	s.mu.Unlock()
	for _, b := range bigs {
		if err := s.fs.Remove(b.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.metrics.failures.WithLabelValues("delete").Inc()
			s.log.Error("a released message can't be deleted; the next start tries again", "error", err)
			continue
		}
		s.used.Add(-b.size)
	}
}
