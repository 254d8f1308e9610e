package spool

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// What recovery does about what it found.

// quarantine gives a damaged segment a second name, under which it stays when the first is deleted.
func (r *recovery) quarantine(seg *segment) {
	if seg.damaged {
		return
	}
	seg.damaged = true
	s := r.spool
	err := s.fs.Link(seg.path, filepath.Join(s.paths.quarantine, filepath.Base(seg.path)))
	if err == nil {
		err = s.fs.SyncDir(s.paths.quarantine)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		seg.live++ // then it is never deleted
		s.log.Error("a damaged spool segment can't be put into quarantine; it stays where it is", "error", err)
	}
}

// orphans deals with the large messages that no frame names: nobody was told that they are in custody. But where something can't be read,
// it may have named them: then they are put into quarantine.
func (r *recovery) orphans() {
	s := r.spool
	for id, size := range r.bigs {
		path := s.paths.bigFile(id)
		if !r.damaged {
			err := s.fs.Remove(path)
			s.log.Info("a large message that was never acknowledged is removed", "path", path, "size", size, "error", err)
			continue
		}
		r.moveAway(id)
		s.log.Warn("a large message that no record names is put into quarantine", "path", path, "size", size)
	}
}

// moveAway puts a large message into quarantine. Where that fails it stays where it is, and the next start meets it again.
func (r *recovery) moveAway(id record.ID) {
	s := r.spool
	if err := s.fs.Rename(s.paths.bigFile(id), filepath.Join(s.paths.quarantine, id.String()+bigSuffix)); err != nil {
		s.log.Error("a large message can't be put into quarantine", "error", err)
	}
}

// account owes a dropped run for each sequence that is in a gap and not known.
func (r *recovery) account() {
	slices.SortFunc(r.known, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	for _, g := range r.gaps {
		for _, run := range r.known {
			if run[1] < g.First || run[0] > g.Last {
				continue
			}
			if run[0] > g.First {
				r.owe(record.Drop{First: g.First, Last: run[0] - 1, Reason: g.Reason})
			}
			g.First = run[1] + 1
		}
		if g.First <= g.Last {
			r.owe(g.Drop)
		}
	}
}

func (r *recovery) owe(d record.Drop) {
	if strings.HasPrefix(d.Reason, "damaged") {
		r.alarm("records in the spool are lost to damage", "first", d.First, "last", d.Last, "reason", d.Reason)
	} else {
		r.spool.log.Warn("sequences of the spool hold nothing", "first", d.First, "last", d.Last, "reason", d.Reason)
	}
	r.spool.committer.owed = append(r.spool.committer.owed, d)
}

// settleUnknown writes what recovery owes: dropped runs, and for each attempted message that nobody knows the outcome of a supplement that
// says so. What can't be written now is tried again by the committer.
func (s *Spool) settleUnknown(lost []record.ID) {
	if len(s.committer.owed) > 0 {
		if err := s.newSegment(); err != nil {
			s.log.Error("a spool segment can't be made", "error", s.failed("segment", err))
		}
	}
	for chunk := range slices.Chunk(lost, 1000) {
		var group []*request
		for _, id := range chunk {
			r, err := s.unknown(id)
			if err != nil {
				s.log.Error("a message without outcome can't be read; it stays in the spool", "id", id, "error", err)
				continue
			}
			group = append(group, r)
		}
		if len(group) > 0 {
			s.commit(group)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.last(); last != nil && last.live == 0 && last.size > segmentStart {
		s.inbox.setRested()
	}
}

// unknown makes the supplement of a message whose outcome is not known.
func (s *Spool) unknown(id record.ID) (*request, error) {
	s.mu.Lock()
	where := s.unsettled(id)
	s.mu.Unlock()
	it, err := s.item(where)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Round(0)
	d := &record.Delivery{
		Outcome: record.Unknown, Reason: "the relay stopped before the reply was known", Attempts: 1,
		Recipients: []record.RecipientDelivery{},
	}
	for _, rcpt := range it.Envelope.Rcpt {
		d.Recipients = append(d.Recipients, record.RecipientDelivery{Address: rcpt.Address, Outcome: record.Unknown, Time: now})
	}
	r, err := supplementRequest(&record.Item{Supplement: &record.SupplementDoc{
		Supplement: record.Supplement{ID: id, Name: "delivery-1", Time: now, Delivery: d},
	}})
	if err != nil {
		return nil, err
	}
	r.lazy = true
	return r, nil
}
