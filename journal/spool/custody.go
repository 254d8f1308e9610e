package spool

import (
	"cmp"
	"slices"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// apply takes a durable frame into custody. The committer calls it for what it has written, recovery for what it reads, so that both come
// to the same state: what settles when, and which supplement goes with its message, follows from the order of the frames alone. run is
// what a dropped frame says. Called with mu held.
func (s *Spool) apply(seg *segment, f frame, run *record.Drop) {
	at := loc{seg: seg.number, off: uint32(f.off)}
	size := f.size()
	if f.kind.numbered() {
		seg.numbers++
		s.newest = max(s.newest, f.seq)
		s.numbers.Add(f.seq)
	}
	switch f.kind {
	case frameMessage:
		if f.flags&flagBig != 0 {
			seg.bigs = append(seg.bigs, bigFile{path: s.paths.bigFile(f.id), size: f.bodyLen})
			seg.bigSize += f.bodyLen
			s.used.Add(f.bodyLen)
			size += f.bodyLen
		}
		if f.flags&flagStays != 0 {
			s.endStay(f.id, nil) // of an id that was used twice
			s.staying.add(f.id, stay{seq: f.seq, at: at, queued: f.flags&flagAttempted == 0})
			seg.live++
		}
		a := &attempt{seq: f.seq, size: size, at: at, outcome: f.flags&(flagAttempted|flagStays) == flagAttempted, verdict: f.flags&flagVerdict != 0}
		if a.outcome || a.verdict {
			if old := s.waiting[f.id]; old != nil { // an id that was used twice: neither record is lost for that
				s.settleAttempt(f.id, old)
			}
			s.waiting[f.id] = a
			break
		}
		s.queue.push(slot{kind: f.kind, seq: f.seq, key: idKey(f.id), size: size, at: at}, nil)
	case frameRefused, frameAct:
		s.queue.push(slot{kind: f.kind, seq: f.seq, key: idKey(f.id), size: size, at: at}, nil)
	case frameSupplement:
		if f.flags&flagOutcome != 0 {
			s.endStay(f.id, seg)
		}
		if f.flags&flagLate != 0 {
			s.waive(f.id) // in recovery: its message had settled by now
		}
		a := s.waiting[f.id]
		if a == nil || f.flags&flagLate != 0 { // its message has settled, or is not here any more
			s.queue.push(slot{kind: f.kind, key: idKey(f.id), size: size, at: at}, nil)
			break
		}
		a.supplements = append(a.supplements, at)
		a.size += size
		if a.at.seg != seg.number && a.noted != seg.number {
			seg.settled, a.noted = append(seg.settled, a.seq), seg.number
		}
		if a.takes(f.flags) {
			s.settleAttempt(f.id, a)
		}
	case frameDrop:
		if run == nil {
			return
		}
		seg.drops = append(seg.drops, [2]uint64{run.First, run.Last})
		s.newest = max(s.newest, run.Last)
		s.numbers.AddRange(run.First, run.Last+1)
		s.queue.push(slot{kind: f.kind, seq: run.First, key: run.Last, size: size, at: at}, nil)
	default:
		return
	}
	seg.live++
	s.bytes += size
}

// settleAttempt moves a message with its supplements to the queue and returns its position. Called with mu held.
func (s *Spool) settleAttempt(id record.ID, a *attempt) uint64 {
	delete(s.waiting, id)
	return s.queue.push(slot{kind: frameMessage, seq: a.seq, key: idKey(id), size: a.size, at: a.at}, a.supplements)
}

// release takes the slot at pos out of custody. Called with mu held; pos has not been released before.
func (s *Spool) release(pos uint64) {
	sl := s.queue.get(pos)
	s.bytes -= sl.size
	switch {
	case sl.kind == frameDrop:
		s.numbers.RemoveRange(sl.seq, sl.key+1)
	case sl.seq != 0:
		s.numbers.Remove(sl.seq)
	}
	s.unpin(sl.at)
	for _, at := range s.queue.attached(pos, sl) {
		s.unpin(at)
	}
	s.queue.release(pos)
}

// unpin says that a frame is not needed any more.
func (s *Spool) unpin(at loc) {
	if seg := s.segment(at.seg); seg != nil {
		seg.live--
	}
}

// segment finds a segment by its number. Called with mu held.
func (s *Spool) segment(number uint32) *segment {
	i, ok := slices.BinarySearchFunc(s.segments, number, func(seg *segment, n uint32) int { return cmp.Compare(seg.number, n) })
	if !ok {
		return nil
	}
	return s.segments[i]
}

// last is the newest segment, or nil. Called with mu held.
func (s *Spool) last() *segment {
	if len(s.segments) == 0 {
		return nil
	}
	return s.segments[len(s.segments)-1]
}
