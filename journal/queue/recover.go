package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Has says whether a message is in the queue, or was given to it by the spool.
func (q *Queue) Has(id record.ID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.entries[id] != nil
}

// Recover puts messages out of the archive into the queue, once the act is in custody, and says how many: after a lost node, when the archive
// has them and nobody knows the end of their delivery. Recipients of whom the supplements tell an end are not tried again. Their age counts
// from now. fetch gives a message with its supplements.
func (q *Queue) Recover(ctx context.Context, by record.Actor, ids []record.ID, fetch func(context.Context, record.ID) (*record.Item, error)) (done int, err error) {
	if len(ids) == 0 {
		return 0, fmt.Errorf("%w: no message is named", ErrRequest)
	}
	if err := q.ready(ctx); err != nil {
		return 0, err
	}
	if err := q.act(ctx, record.ActQueueRecover, by, Selection{IDs: ids}, map[string]any{"count": len(ids)}); err != nil {
		return 0, err
	}
	var errs []error
	for _, id := range ids {
		it, err := fetch(ctx, id)
		if err == nil {
			err = q.restore(it, by)
		}
		if err == nil {
			done++
		} else if len(errs) < 10 {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
		}
	}
	return done, errors.Join(errs...)
}

// restore takes one message into the folder.
func (q *Queue) restore(it *record.Item, by record.Actor) error {
	if it.Envelope == nil || it.Body == nil || it.Envelope.Mode != record.ModeQueue {
		return fmt.Errorf("%w: it did not come by a listener in mode queue", ErrRequest)
	}
	doc := newState(it)
	doc.learn(it.Supplements)
	if !doc.waits() {
		return fmt.Errorf("%w: nobody is left to be tried", ErrRequest)
	}
	doc.note(event{Outcome: "recovered", Text: by.ID})
	e := &entry{id: it.ID, size: it.Envelope.Size, doc: doc, body: it.Body, place: -1, born: q.now()}
	e.work.Lock()
	defer e.work.Unlock()
	q.mu.Lock()
	if q.entries[e.id] != nil {
		q.mu.Unlock()
		return fmt.Errorf("%w: it is in the queue", ErrRequest)
	}
	q.entries[e.id] = e
	q.mu.Unlock()
	if !q.takeOver(e, doc) {
		q.forget(e)
		return errors.New("it can't be taken into the queue's folder: see the log")
	}
	q.planNow(e, doc)
	return nil
}

// learn takes the fates of recipients, and the numbers that are taken, from supplements.
func (s *state) learn(supplements []record.SupplementDoc) {
	for _, sup := range supplements {
		var n int
		if _, err := fmt.Sscanf(sup.Name, "delivery-%d", &n); err != nil || sup.Delivery == nil {
			continue
		}
		s.Supplements = max(s.Supplements, n)
		for _, got := range sup.Delivery.Recipients {
			for i := range s.Recipients {
				r := &s.Recipients[i]
				if s.env.Rcpt[i].Address != got.Address || r.Fate != waiting {
					continue
				}
				r.Code, r.Enhanced, r.Text, r.Time = got.Code, got.Enhanced, got.Text, got.Time
				switch {
				case got.Outcome == record.Delivered:
					r.Fate = delivered
				case permanent(got):
					r.Fate = failed
				}
				break
			}
		}
	}
}
