package queue

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// pull takes messages from the spool.
func (q *Queue) pull(ctx context.Context) {
	pause := 100 * time.Millisecond
	for {
		it, err := q.opt.Source.Next(ctx)
		if ctx.Err() != nil || errors.Is(err, spool.ErrClosed) {
			return
		}
		if err != nil {
			q.metrics.failures.Inc()
			q.log.Error("the spool can't be read for the queue; it is tried again", "err", err)
			if !sleep(ctx, pause) {
				return
			}
			pause = min(2*pause, 30*time.Second)
			continue
		}
		pause = 100 * time.Millisecond
		if e := q.admit(ctx, it); e != nil {
			q.task(func() { q.begin(ctx, e, it.Envelope) })
		}
		if !q.waitForRoom(ctx) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// waitForRoom waits until another message may be in memory straight from the spool.
func (q *Queue) waitForRoom(ctx context.Context) bool {
	for {
		q.mu.Lock()
		full, room := q.spooled >= maxSpooled, q.room
		q.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-room:
		case <-ctx.Done():
			return false
		}
	}
}

// admit makes the entry of a message from the spool; nil where the folder has it already.
func (q *Queue) admit(ctx context.Context, it *record.Item) *entry {
	q.mu.Lock()
	old := q.entries[it.ID]
	q.mu.Unlock()
	if old != nil { // a crash came between the folder and the end in the spool
		q.loadOne(ctx, old)
		old.work.Lock()
		gone := old.gone
		old.work.Unlock()
		if !gone {
			q.opt.Custody.End(it.ID)
			return nil
		}
	}
	e := &entry{
		id: it.ID, size: it.Envelope.Size, doc: newState(it), place: -1, spool: true,
		body: func() (io.ReadCloser, error) { return q.opt.Custody.Open(it.ID) },
	}
	e.born = q.now() - away(it.Envelope.Received, q.wall())
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries[e.id] = e
	q.spooled++
	return e
}

// begin lets the deliveries of a message from the spool begin, once it may be delivered. Where a destination can't take it soon the message
// is taken over first.
func (q *Queue) begin(ctx context.Context, e *entry, env *record.Envelope) {
	if !q.await(ctx, env) {
		return
	}
	e.work.Lock()
	defer e.work.Unlock()
	doc, ok := q.state(e)
	if !ok { // dropped meanwhile
		return
	}
	if e.body != nil && q.crowded(env) {
		q.taking <- struct{}{}
		q.takeOver(e, doc)
		<-q.taking
	}
	if !e.gone {
		q.planNow(e, doc)
	}
}

// planNow makes the legs of a new message, due at once. The caller holds work.
func (q *Queue) planNow(e *entry, doc *state) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !e.loaded {
		e.held = doc.Hold != nil
		now := q.now()
		q.plan(e, doc, func(recipient) time.Duration { return now })
	}
	signal(q.kick)
}

// await waits until a message may be delivered.
func (q *Queue) await(ctx context.Context, env *record.Envelope) bool {
	if q.opt.Await == nil {
		return true
	}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := q.opt.Await(ctx, env)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		q.log.Warn("a message waits for the archive before it is delivered", "record", env.ID, "err", err)
		if !sleep(ctx, pause) {
			return false
		}
	}
}

// crowded says that a message has a destination that is down, or has many waiting already.
func (q *Queue) crowded(env *record.Envelope) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, to := range env.Rcpt {
		d := q.dests[q.opt.Carrier.Destination(env.Listener, domainOf(to.Address))]
		if d != nil && (d.down() || len(d.ready) > 8*q.cfg.DestinationDeliveries) {
			return true
		}
	}
	return false
}

// takeOver moves a message from the spool into the folder. Where that fails, as on a full disk, it stays in the spool. The caller holds
// work.
func (q *Queue) takeOver(e *entry, doc *state) bool {
	q.stamp(e, doc)
	maybe, err := q.folder.take(doc, e.body)
	if errors.Is(err, spool.ErrReleased) { // it was ended elsewhere
		q.forget(e)
		return false
	}
	if err != nil {
		e.maybe = e.maybe || maybe
		q.metrics.failures.Inc()
		q.log.Error("a message can't be taken into the queue's folder, and stays in the spool", "record", e.id, "err", err)
		return false
	}
	e.body, e.maybe = nil, false
	e.filed(doc)
	q.mu.Lock()
	q.unspool(e)
	q.mu.Unlock()
	q.opt.Custody.End(e.id)
	return true
}

// stamp says in the state how old the message is. The caller holds work.
func (q *Queue) stamp(e *entry, doc *state) {
	q.mu.Lock()
	age := q.now() - e.born
	q.mu.Unlock()
	doc.Written, doc.AgeSeconds = q.wall(), int64(max(age, 0)/time.Second)
}
