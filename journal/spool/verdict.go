package spool

import (
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// What settles a message that a verdict is owed to is decided by the committer alone, between two writes, and each supplement's frame says
// whether it came too late. So recovery, which knows nothing of waivers and of time, puts the same supplements to each message: what the
// archive was given with it is not given again, and what it was not given with it is not lost.

// Waive says that the verdict owed to a message (AcceptOptions.Verdict) will not come. One to which none is owed is passed over.
func (s *Spool) Waive(id record.ID) { s.inbox.waive(id) }

// waiveDue settles what Waive was told of, and what has waited too long. By the committer.
func (s *Spool) waiveDue() {
	ids := append(s.inbox.takeWaived(), s.committer.verdicts.due(time.Now())...)
	if len(ids) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.waive(id)
	}
	s.announce()
}

// waive has a message not wait for its verdict any more. Called with mu held, by the committer or before it starts.
func (s *Spool) waive(id record.ID) {
	a := s.waiting[id]
	if a == nil || !a.verdict {
		return
	}
	if a.verdict = false; !a.outcome {
		s.settleAttempt(id, a)
	}
}

// lateness gives a function that is asked for each frame of a group, in order, and gives flagLate for a supplement whose message will have
// settled by then.
func (s *Spool) lateness() func(frame) byte {
	var ahead map[record.ID]attempt // what the group does to those that it brings supplements for
	return func(f frame) byte {
		if f.kind != frameSupplement {
			return 0
		}
		a, seen := ahead[f.id]
		if !seen {
			s.mu.Lock()
			if w := s.waiting[f.id]; w != nil {
				a = attempt{outcome: w.outcome, verdict: w.verdict}
			}
			s.mu.Unlock()
		}
		if !a.outcome && !a.verdict {
			return flagLate
		}
		a.takes(f.flags)
		if ahead == nil {
			ahead = map[record.ID]attempt{}
		}
		ahead[f.id] = a
		return 0
	}
}

// verdicts are those that are owed, in the order in which they are due. Owned by the committer.
type verdicts struct{ list []owedVerdict }

type owedVerdict struct {
	id  record.ID
	due time.Time
}

// expect notes the messages among the frames just written that wait for a verdict.
func (v *verdicts) expect(frames []frame, delay time.Duration) {
	for _, f := range frames {
		if f.kind == frameMessage && f.flags&flagVerdict != 0 {
			v.list = append(v.list, owedVerdict{f.id, time.Now().Add(delay)})
		}
	}
}

// due takes out what is due.
func (v *verdicts) due(now time.Time) (ids []record.ID) {
	n := 0
	for n < len(v.list) && !v.list[n].due.After(now) {
		ids = append(ids, v.list[n].id)
		n++
	}
	if v.list = v.list[n:]; len(v.list) == 0 {
		v.list = nil
	}
	return ids
}

// wait says how long it is until the next one is due.
func (v *verdicts) wait() time.Duration {
	if len(v.list) == 0 {
		return time.Hour
	}
	return time.Until(v.list[0].due)
}
