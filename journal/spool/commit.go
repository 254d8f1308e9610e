package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// committer is the state of the one goroutine that writes segments.
type committer struct {
	active *segment // nil: the next write opens a new one
	number uint32   // of the next segment
	seq    uint64   // of the next record
	floor  uint64   // header.floor of new segments
	owed   []record.Drop
	voided []string // big files that no frame will refer to once the next segment stands
	buf    []byte
	frames []frame

	verdicts verdicts
	started  atomic.Int64 // when the write that is under way began, nanoseconds after Spool.born; 0: none. Read by Ready.
}

// commitLoop is the committer's goroutine.
func (s *Spool) commitLoop() {
	defer close(s.stopped)
	idle := time.NewTimer(time.Hour)
	idle.Stop()
	for group := []*request(nil); ; {
		var rested, over bool
		var wait time.Duration
		s.waiveDue()
		group, rested, wait, over = s.inbox.take(group[:0])
		switch {
		case over:
			s.closeErr = errors.Join(s.closeErr, s.endSegment())
			return
		case len(group) > 0:
			s.commit(group)
			clear(group)
			continue
		case rested:
			idle.Reset(s.opt.idleDelay)
		}
		due := time.NewTimer(min(wait, s.committer.verdicts.wait()))
		select {
		case <-s.inbox.wake:
		case <-due.C:
		case <-idle.C:
			s.rest()
		}
		due.Stop()
	}
}

// commit writes a group and tells those who wait. A failed group is never tried again as it was: its segment is left and its numbers are
// given up. Messages are refused, the client has them still; outcomes and acts get one more try in a new segment, and for them the reserve
// is given up when there is no space. After that outcomes wait in memory.
func (s *Spool) commit(group []*request) {
	err := s.write(group)
	if err != nil {
		group = slices.DeleteFunc(group, func(r *request) bool {
			if r.frame.kind != frameMessage {
				return false
			}
			if r.big != "" {
				s.committer.voided = append(s.committer.voided, r.big)
			}
			r.done <- err
			return true
		})
		if len(group) == 0 {
			return
		}
		if errors.Is(err, ErrNoSpace) {
			s.reserve.giveUp(s)
		}
		err = s.write(group)
	}
	var again []*request
	for _, r := range group {
		switch {
		case !r.lazy:
			r.done <- err
		case err != nil:
			again = append(again, r)
		}
	}
	if len(again) == 0 {
		return
	}
	if s.inbox.isClosed() {
		s.closeErr = errors.Join(s.closeErr, fmt.Errorf("spool: %d outcomes not written, they will be unknown: %w", len(again), err))
		return
	}
	delay := s.health.delay()
	s.log.Error("outcomes can't be written, they are kept in memory and tried again", "outcomes", len(again), "in", delay, "error", err)
	s.inbox.giveBack(again, delay)
}

// write puts a group into a segment, one write and one fsync, and takes it into custody. Any error means that none of it is.
func (s *Spool) write(group []*request) error {
	c := &s.committer
	c.started.Store(max(int64(time.Since(s.born)), 1))
	defer c.started.Store(0)
	var need int64
	for _, r := range group {
		need += r.frame.size()
	}
	if c.active == nil || s.isFull(c.active, need) {
		if err := s.newSegment(); err != nil {
			return s.failed("segment", err)
		}
	}
	seg, first := c.active, c.seq
	c.buf, c.frames = c.buf[:0], c.frames[:0]
	late := s.lateness()
	for _, r := range group {
		f := r.frame
		f.flags |= late(f)
		f.off, f.durable = seg.size+int64(len(c.buf)), seg.size
		if f.kind.numbered() {
			f.seq = c.seq
			c.seq++
		}
		c.buf = appendFrame(c.buf, f, seg.mark, r.meta, r.body)
		c.frames = append(c.frames, f)
	}
	if err := s.flush(seg, c.buf); err != nil {
		s.abandon(seg, first, err)
		return s.failed("write", err)
	}
	s.health.good()
	s.mu.Lock()
	seg.size += int64(len(c.buf))
	seg.durable, seg.disk = seg.size, seg.size
	s.used.Add(int64(len(c.buf)))
	for i, f := range c.frames {
		s.apply(seg, f, nil)
		group[i].frame.seq = f.seq
	}
	s.announce()
	s.mu.Unlock()
	c.verdicts.expect(c.frames, s.opt.verdictDelay)
	if cap(c.buf) > 2*maxGroup {
		c.buf = nil
	}
	return nil
}

func appendFrame(b []byte, f frame, mark marker, meta, body []byte) []byte {
	n := len(b)
	b = slices.Grow(b, frameHeader+len(meta)+len(body))[:n+frameHeader]
	f.put(b[n:], mark)
	return append(append(b, meta...), body...)
}

// flush appends to a segment and waits until it is on stable storage.
func (s *Spool) flush(seg *segment, b []byte) error {
	file := seg.handle.file
	_, err := file.WriteAt(b, seg.size)
	if err == nil {
		err = s.timed(file.Sync)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", seg.path, err) // the file has kept its temporary name in errors
	}
	return nil
}

// timed runs an fsync and observes how long it took.
func (s *Spool) timed(fsync func() error) error {
	start := time.Now()
	err := fsync()
	s.metrics.fsync.Observe(time.Since(start).Seconds())
	return err
}

// announce wakes the tails. Called with mu held.
func (s *Spool) announce() {
	if !s.closed {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// abandon leaves a segment after a failure. What was written there is not known, so nothing more is: no write, no truncation, no second
// fsync. The next segment's header makes it void from the last durable byte on, and accounts for the numbers.
func (s *Spool) abandon(seg *segment, first uint64, cause error) {
	c := &s.committer
	if c.seq > first {
		c.owed = append(c.owed, record.Drop{First: first, Last: c.seq - 1, Reason: "never acknowledged: " + reason(cause)})
	}
	s.mu.Lock()
	seg.disk += int64(len(c.buf))
	s.mu.Unlock()
	s.used.Add(int64(len(c.buf)))
	s.leave(seg)
}

// leave ends the committer's use of a segment.
func (s *Spool) leave(seg *segment) {
	s.committer.active = nil
	s.letGo(seg)
}

// reason is the cause of a failure without paths: it stands in the ledger.
func reason(err error) string {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		return pe.Op + ": " + pe.Err.Error()
	}
	return err.Error()
}

func (s *Spool) isFull(seg *segment, need int64) bool {
	limit := s.cfg.SegmentBytes
	return seg.size > segmentStart && (seg.size+need > limit || seg.size+seg.bigSize > limit)
}

// newSegment opens the next segment. Its header says where the one before ends, so all that is owed is in it from the start: write file
// with header and dropped runs, fsync it, rename, fsync the directory.
func (s *Spool) newSegment() error {
	c := &s.committer
	h := header{number: c.number, mark: newMarker(), first: c.seq, floor: c.floor, created: time.Now()}
	c.number++ // a number is used once, whatever comes of it
	s.mu.Lock()
	if last := s.last(); last != nil {
		h.prev, h.prevEnd, h.prevDurable = last.number, last.size, last.durable
	}
	s.mu.Unlock()

	b := make([]byte, segmentStart)
	h.put(b)
	var frames []frame
	for _, d := range c.owed {
		r, err := dropRequest(d)
		if err != nil {
			return err
		}
		f := r.frame
		f.off = int64(len(b))
		b = appendFrame(b, f, h.mark, r.meta, nil)
		frames = append(frames, f)
	}
	path := filepath.Join(s.paths.dir, segmentName(h.number))
	file, err := writeNew(s.fs, path, b, true)
	if err != nil {
		s.mu.Lock()
		s.leftovers = append(s.leftovers, path) // it may stand there, with nothing but what the next one says too
		s.mu.Unlock()
		return err
	}
	seg := &segment{header: h, path: path, size: int64(len(b)), durable: int64(len(b)), disk: int64(len(b))}
	seg.handle.file, seg.handle.refs = file, 1

	if c.active != nil {
		s.leave(c.active)
	}
	c.active = seg
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.used.Add(seg.disk)
	for i, f := range frames {
		s.apply(seg, f, &c.owed[i])
	}
	if len(frames) > 0 {
		s.announce()
	}
	s.mu.Unlock()
	c.owed = nil
	for _, path := range c.voided {
		s.fs.Remove(path) // or by the next start
	}
	c.voided = nil
	if s.sweepMu.TryLock() { // otherwise somebody is at it, and the committer does not wait
		s.sweep()
		s.sweepMu.Unlock()
	}
	return nil
}

// rest ends the newest segment when nothing in it is needed any more, so that a quiet node does not keep mail here that its archive may
// have destroyed long ago.
func (s *Spool) rest() {
	s.mu.Lock()
	last := s.last()
	rested := last != nil && last.live == 0 && last.size > segmentStart
	s.mu.Unlock()
	if !rested {
		return
	}
	if err := s.newSegment(); err != nil {
		err = s.failed("segment", err)
		s.log.Error("a spool segment can't be ended; it is tried again", "error", err)
		s.inbox.setRested()
	}
}

// endSegment writes what is owed and marks the end of the active segment, so that the next start can tell damage from a torn end.
func (s *Spool) endSegment() error {
	c := &s.committer
	if len(c.owed) > 0 {
		if err := s.newSegment(); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
	seg := c.active
	if seg == nil {
		return nil
	}
	defer s.leave(seg)
	if seg.size == segmentStart {
		return nil
	}
	f := frame{kind: frameEnd, off: seg.size, durable: seg.size}
	if err := s.flush(seg, appendFrame(nil, f, seg.mark, nil, nil)); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.size += f.size()
	seg.durable = seg.size
	return nil
}
