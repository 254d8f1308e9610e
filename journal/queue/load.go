package queue

import (
	"context"
	"errors"
	"time"
)

// load reads what is in the folder.
func (q *Queue) load(ctx context.Context) {
	select {
	case <-q.loaded:
		return
	default:
	}
	q.mu.Lock()
	var all []*entry
	for _, e := range q.entries {
		if !e.loaded && !e.spool {
			all = append(all, e)
		}
	}
	q.mu.Unlock()
	for _, e := range all {
		if ctx.Err() != nil {
			return
		}
		q.loadOne(ctx, e)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-q.loaded:
	default:
		close(q.loaded)
	}
}

// loadOne reads one message's state. What can't be read now is tried again later.
func (q *Queue) loadOne(ctx context.Context, e *entry) {
	e.work.Lock()
	defer e.work.Unlock()
	doc, ok := q.state(e)
	if !ok {
		return
	}
	q.mu.Lock()
	if e.loaded {
		q.mu.Unlock()
		return
	}
	e.size, e.held = doc.env.Size, doc.Hold != nil
	now, wall := q.now(), q.wall()
	e.born = now - time.Duration(doc.AgeSeconds)*time.Second - away(doc.Written, wall)
	q.plan(e, doc, func(r recipient) time.Duration {
		return now + min(max(r.Next.Sub(wall), 0), q.cfg.MaxRetry)
	})
	q.mu.Unlock()
	if !doc.waits() {
		q.finish(ctx, e, doc)
	}
	signal(q.kick)
}

// away is how long nobody counted the age of a message, by the wall clock: at most a day, for that clock may have been set meanwhile.
func away(from, to time.Time) time.Duration { return min(max(to.Sub(from), 0), 24*time.Hour) }

// state gives the state of a message; the caller holds work. Where it is damaged the message is set aside; where it can't be read for now
// it is seen to again. Both give false, as does a message that is gone.
func (q *Queue) state(e *entry) (*state, bool) {
	if e.gone {
		return nil, false
	}
	if e.doc != nil {
		return e.doc, true
	}
	doc, err := q.folder.load(e.id)
	switch {
	case err == nil:
		return doc, true
	case errors.Is(err, ErrDamaged):
		q.setAside(e, err)
	default:
		q.metrics.failures.Inc()
		q.log.Error("a message of the queue can't be read; it is tried again", "record", e.id, "err", err)
		q.later(e)
	}
	return nil, false
}

// setAside puts a damaged message away. The caller holds work.
func (q *Queue) setAside(e *entry, why error) {
	q.folder.asideMessage(e.id, why)
	q.forget(e)
}

// later has a message seen to in a while.
func (q *Queue) later(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.setWake(e, q.now()+time.Minute)
	signal(q.stir)
}

// forget takes a message out of memory. The caller holds work.
func (q *Queue) forget(e *entry) {
	e.gone, e.doc, e.body = true, nil, nil
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range e.legs {
		q.endLeg(l)
	}
	q.noWake(e)
	q.unspool(e)
	if q.entries[e.id] == e {
		delete(q.entries, e.id)
	}
}

// unspool notes that a message is not in the spool any more. The caller holds mu.
func (q *Queue) unspool(e *entry) {
	if e.spool {
		e.spool = false
		q.spooled--
		close(q.room)
		q.room = make(chan struct{})
	}
}

// plan makes the legs of a message, due when due says. The caller holds mu.
func (q *Queue) plan(e *entry, doc *state, due func(recipient) time.Duration) {
	e.loaded = true
	for i, r := range doc.Recipients {
		if r.Fate != waiting {
			continue
		}
		l := e.leg(q.opt.Carrier.Destination(doc.env.Listener, domainOf(doc.env.Rcpt[i].Address)))
		if l == nil {
			d := q.destination(q.opt.Carrier.Destination(doc.env.Listener, domainOf(doc.env.Rcpt[i].Address)))
			d.legs++
			l = &leg{entry: e, dest: d, place: -1, due: due(r), state: legHeld}
			e.legs = append(e.legs, l)
		}
		l.due = min(l.due, due(r))
		l.attempts = max(l.attempts, r.Attempts)
	}
	for _, l := range e.legs {
		if !e.held {
			q.setDue(l, l.due)
		}
	}
	q.planWake(e, doc)
}

// leg finds the leg to a destination.
func (e *entry) leg(key string) *leg {
	for _, l := range e.legs {
		if l.dest.key == key {
			return l
		}
	}
	return nil
}

// planWake has a message seen to when a notice of delay is due, or its age; for the latter a last attempt has a while. The caller holds mu.
func (q *Queue) planWake(e *entry, doc *state) {
	if e.held || !doc.waits() {
		q.noWake(e)
		return
	}
	at := e.born + q.cfg.Expire + q.cfg.FirstRetry
	if q.wantsDelay(doc) {
		at = min(at, e.born+q.cfg.DelayNotice)
	}
	if doc.owes() {
		at = min(at, q.now()+time.Minute)
	}
	q.setWake(e, max(at, q.now()+time.Second))
	signal(q.stir)
}
