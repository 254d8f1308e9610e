package spool

import (
	"encoding/binary"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// queue holds what is settled and not released, in the order in which it settled. Its positions count up for ever: a position is an
// item's Ref. It takes 56 bytes for each record and holds no pointers, so that millions may wait. Guarded by Spool.mu.
type queue struct {
	chunks []*chunk // of positions base, base+chunkSlots, …
	base   uint64
	end    uint64           // the position that the next slot takes
	left   int              // slots not released
	more   map[uint64][]loc // by position: the supplements of a message after its first
}

const chunkSlots = 1024

type chunk struct {
	slots [chunkSlots]slot
	left  int // slots not released
}

// loc is the place of a frame.
type loc struct {
	seg uint32 // 0: none
	off uint32
}

// slot is one settled frame.
type slot struct {
	seq        uint64 // of a dropped run: its first
	key        uint64 // part of the record's id (idKey); of a dropped run: its last
	size       int64  // bytes in custody, the body included
	at         loc
	supplement loc // the first that was attached
	kind       frameKind
	released   bool
}

// idKey is the random part of an id, enough to find candidates by.
func idKey(id record.ID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

func newQueue() queue { return queue{base: 1, end: 1, more: map[uint64][]loc{}} }

// push appends a slot and the supplements attached to it.
func (q *queue) push(s slot, supplements []loc) (pos uint64) {
	i := q.end - q.base
	if i%chunkSlots == 0 {
		q.chunks = append(q.chunks, new(chunk))
	}
	if len(supplements) > 0 {
		s.supplement = supplements[0]
	}
	if len(supplements) > 1 {
		q.more[q.end] = supplements[1:]
	}
	c := q.chunks[i/chunkSlots]
	c.slots[i%chunkSlots] = s
	c.left++
	q.left++
	q.end++
	return q.end - 1
}

// get gives the slot at pos, or nil where it was released.
func (q *queue) get(pos uint64) *slot {
	if pos < q.base || pos >= q.end {
		return nil
	}
	i := pos - q.base
	if s := &q.chunks[i/chunkSlots].slots[i%chunkSlots]; !s.released {
		return s
	}
	return nil
}

// seek gives the first position from pos on that is not released, or end.
func (q *queue) seek(pos uint64) uint64 {
	pos = max(pos, q.base)
	for pos < q.end {
		c := q.chunks[(pos-q.base)/chunkSlots]
		if c.left == 0 {
			pos += chunkSlots - (pos-q.base)%chunkSlots
			continue
		}
		if !c.slots[(pos-q.base)%chunkSlots].released {
			return pos
		}
		pos++
	}
	return q.end
}

// attached gives the supplements of the slot at pos, in order of arrival.
func (q *queue) attached(pos uint64, s *slot) []loc {
	if s.supplement.seg == 0 {
		return nil
	}
	return append([]loc{s.supplement}, q.more[pos]...)
}

// release marks the slot at pos and forgets the chunks at the front of which nothing is left.
func (q *queue) release(pos uint64) {
	i := pos - q.base
	c := q.chunks[i/chunkSlots]
	c.slots[i%chunkSlots].released = true
	c.left--
	q.left--
	delete(q.more, pos)
	for len(q.chunks) > 0 && q.chunks[0].left == 0 && q.end-q.base >= chunkSlots {
		q.chunks[0] = nil
		q.chunks = q.chunks[1:]
		q.base += chunkSlots
	}
}
