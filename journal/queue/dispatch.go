package queue

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"time"
)

// endLeg is for a leg with nobody left. The caller holds mu.
func (q *Queue) endLeg(l *leg) {
	if l.state == legDone {
		return
	}
	q.unlist(l)
	l.state = legDone
	l.dest.legs--
	q.forgetDestination(l.dest)
}

// destination finds or makes one. The caller holds mu.
func (q *Queue) destination(key string) *destination {
	d := q.dests[key]
	if d == nil {
		d = &destination{key: key, window: min(initialWindow, q.cfg.DestinationDeliveries)}
		q.dests[key] = d
	}
	return d
}

// dispatch begins deliveries as they are due and there are places.
func (q *Queue) dispatch(ctx context.Context) {
	for {
		q.mu.Lock()
		next := q.pump()
		q.mu.Unlock()
		timer := time.NewTimer(next)
		select {
		case <-q.kick:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// pump begins what can begin, and says how long to wait for what can't. The caller holds mu.
func (q *Queue) pump() time.Duration {
	now, next := q.now(), time.Hour
	for len(q.waits) > 0 {
		l := q.waits[0]
		if l.due > now {
			next = min(next, l.due-now)
			break
		}
		heap.Pop(&q.waits)
		l.state = legReady
		l.dest.ready = append(l.dest.ready, l)
		q.enter(l.dest)
	}
	for d := range q.downs {
		if len(d.ready) == 0 || d.running > 0 {
			continue
		}
		if now >= d.until {
			q.enter(d)
		} else {
			next = min(next, d.until-now)
		}
	}
	for q.running < q.cfg.Deliveries && len(q.ring) > 0 && !q.stopping {
		d := q.ring[0]
		q.ring[0] = nil
		q.ring = q.ring[1:]
		d.ringed = false
		if !d.open(now) {
			continue // it comes in again when a delivery ends, or it may be probed
		}
		l := d.pop()
		if l == nil {
			continue
		}
		l.state = legRunning
		d.running++
		q.running++
		q.tasks.Go(func() { q.attempt(l) })
		if len(d.ready) > 0 {
			q.enter(d)
		}
	}
	return next
}

// enter gives a destination its turn. The caller holds mu.
func (q *Queue) enter(d *destination) {
	if !d.ringed {
		d.ringed = true
		q.ring = append(q.ring, d)
	}
}

// left is for a delivery that has ended: its destination is open to the next, or closed for a while. started is when it began. The caller
// holds mu.
func (q *Queue) left(d *destination, started time.Duration, unreachable, reached bool) {
	d.running--
	q.running--
	now := q.now()
	switch {
	case unreachable && started >= d.failed: // not one of several that were under way together
		if !d.down() {
			q.log.Warn("a destination can't be reached", "destination", d.key)
		}
		d.failures++
		d.failed, d.probed = now, true
		d.until = now + jitter(q.pause(d.failures))
		d.window = 1
		q.downs[d] = true
	case reached:
		if d.down() {
			q.log.Info("a destination can be reached again", "destination", d.key)
		}
		d.failures = 0
		delete(q.downs, d)
		d.window = min(d.window+1, q.cfg.DestinationDeliveries)
	}
	if len(d.ready) > 0 {
		q.enter(d)
	}
	q.forgetDestination(d)
	signal(q.kick)
}

// forgetDestination forgets one that nothing waits for. The caller holds mu.
func (q *Queue) forgetDestination(d *destination) {
	if d.legs == 0 && d.running == 0 {
		delete(q.dests, d.key)
		delete(q.downs, d)
	}
}

// pause is how long a destination is left alone after so many failures.
func (q *Queue) pause(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(min(q.cfg.FirstRetry, time.Minute)<<min(failures-1, 10), min(q.cfg.MaxRetry, 15*time.Minute))
}

// backoff is how long a message waits after so many attempts.
func (q *Queue) backoff(attempts int) time.Duration {
	d := q.cfg.FirstRetry
	for range min(attempts-1, 30) {
		if d = 2 * d; d >= q.cfg.MaxRetry {
			d = q.cfg.MaxRetry
			break
		}
	}
	return jitter(d)
}

// jitter takes up to a fifth off or adds it, so that what failed together does not come back together.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.4*float64(d))
}
