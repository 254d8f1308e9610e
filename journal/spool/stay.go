package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// stay is a message whose frame stays until its delivery has ended, whatever the archive has: one in queue mode, or one that the archive was
// given early.
type stay struct {
	seq    uint64
	at     loc
	queued bool // queue mode; otherwise early
}

func (st stay) whereabouts() whereabouts {
	return whereabouts{kind: frameMessage, seq: st.seq, at: st.at}
}

// stays finds them by id and in order. It takes some 100 bytes for each. Guarded by Spool.mu.
type stays struct {
	byID  map[record.ID]stay
	order []stayKey // ascending; those that have ended too, until they are the larger part
	// loose are those that End let go of while their segment is still there: nothing on the disk says so yet. The supplement that will say
	// it has to be remembered by its segment like that of any other.
	loose map[record.ID]stay
}

type stayKey struct {
	seq uint64
	id  record.ID
}

func newStays() stays { return stays{byID: map[record.ID]stay{}, loose: map[record.ID]stay{}} }

func (s *stays) add(id record.ID, st stay) {
	s.byID[id] = st
	s.order = append(s.order, stayKey{st.seq, id})
}

// get gives the stay that a key in order stands for.
func (s *stays) get(k stayKey) (stay, bool) {
	st, ok := s.byID[k.id]
	return st, ok && st.seq == k.seq
}

// after gives the first one in queue mode whose sequence is greater than seq.
func (s *stays) after(seq uint64) (k stayKey, st stay, ok bool) {
	for _, k := range s.order[s.search(seq+1):] {
		if st, ok := s.get(k); ok && st.queued {
			return k, st, true
		}
	}
	return stayKey{}, stay{}, false
}

// within gives those in a run of sequences.
func (s *stays) within(run [2]uint64) (keys []stayKey) {
	for _, k := range s.order[s.search(run[0]):s.search(run[1]+1)] {
		if _, ok := s.get(k); ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// search gives the place in order of the first whose sequence is at least seq.
func (s *stays) search(seq uint64) int {
	i, _ := slices.BinarySearchFunc(s.order, seq, func(k stayKey, n uint64) int { return cmp.Compare(k.seq, n) })
	return i
}

func (s *stays) end(id record.ID) {
	delete(s.byID, id)
	if len(s.order) > 2*len(s.byID)+1024 {
		s.order = slices.DeleteFunc(slices.Clone(s.order), func(k stayKey) bool { _, ok := s.get(k); return !ok })
	}
}

// endStay lets go of a message, if it stays. by is the segment that says so durably, or nil. Called with mu held.
func (s *Spool) endStay(id record.ID, by *segment) {
	st, stays := s.staying.byID[id]
	if !stays {
		var loose bool
		if st, loose = s.staying.loose[id]; !loose || by == nil {
			return
		}
		delete(s.staying.loose, id)
	}
	if by != nil && by.number != st.at.seg {
		by.ended = append(by.ended, st.seq)
	}
	if stays {
		s.staying.end(id)
		s.unpin(st.at)
	}
}

// forgetLoose is for a segment whose frames are gone: nobody can find its messages again. Called with mu held.
func (s *Spool) forgetLoose(seg *segment) {
	maps.DeleteFunc(s.staying.loose, func(_ record.ID, st stay) bool { return st.at.seg == seg.number })
}

// Forwarding gives the messages in queue mode whose forwarding has not ended, each once, oldest first. It has ended when a supplement with a
// Delivery without Next is durable, or by End. After a restart a Forwarding begins again with all of which no such supplement is known.
// Several read independently. One is for one goroutine.
//
// A message that stays keeps its whole segment on the disk. So what is not forwarded soon is to be copied to another durable place, and
// then ended here.
type Forwarding struct {
	spool *Spool
	seq   uint64 // of the last one given
}

// Forwarding gives a Forwarding that begins with the oldest message.
func (s *Spool) Forwarding() *Forwarding { return &Forwarding{spool: s} }

// Next gives the next message, without supplements, and waits until there is one. Its Body can be opened until the forwarding has ended.
// Errors: as those of Tail.Next.
func (f *Forwarding) Next(ctx context.Context) (*record.Item, error) { return waitFor(ctx, f.next) }

// TryNext is Next without waiting: nil where there is nothing more now.
func (f *Forwarding) TryNext(ctx context.Context) (*record.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	it, _, err := f.next()
	return it, err
}

// next gives the next message, or what to wait for.
func (f *Forwarding) next() (*record.Item, <-chan struct{}, error) {
	s := f.spool
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, nil, ErrClosed
		}
		k, st, ok := s.staying.after(f.seq)
		changed := s.changed
		s.mu.Unlock()
		if !ok {
			return nil, changed, nil
		}
		it, err := s.item(st.whereabouts())
		switch {
		case err == nil:
			f.seq = k.seq
			return it, nil, nil
		case !s.stays(k): // it has ended meanwhile
		case errors.Is(err, ErrDamaged):
			s.metrics.failures.WithLabelValues("damage").Inc()
			s.log.Error("a message in the spool is damaged; it stays here and is not forwarded", "seq", k.seq, "record", k.id, "error", err)
		default:
			s.metrics.failures.WithLabelValues("read").Inc()
			return nil, nil, err
		}
		f.seq = k.seq
	}
}

func (s *Spool) stays(k stayKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.staying.get(k)
	return ok
}

// End says that a message in queue mode need not stay for its forwarding any more, because it has another durable place or no use. It is
// not written down: after a restart Forwarding gives the message again if it is still there. One that does not stay is passed over.
func (s *Spool) End(id record.ID) {
	s.mu.Lock()
	if st, ok := s.staying.byID[id]; ok {
		s.endStay(id, nil)
		s.staying.loose[id] = st
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
}

// Open opens a message that has not settled (its outcome or its verdict is owed) or that stays until its delivery has ended. It looks in one
// place, whatever else is pending. Any other is ErrReleased: it is on its way to the archive, or there.
func (s *Spool) Open(id record.ID) (io.ReadCloser, error) {
	s.mu.Lock()
	where := s.unsettled(id)
	s.mu.Unlock()
	if where.kind == 0 {
		return nil, fmt.Errorf("%s: %w", id, ErrReleased)
	}
	it, err := s.item(whereabouts{kind: where.kind, seq: where.seq, at: where.at})
	if err != nil {
		return nil, err
	}
	return it.Body()
}
