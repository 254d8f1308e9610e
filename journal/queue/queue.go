// Package queue delivers the mail of listeners in mode queue: it was acknowledged when it was in custody, and is now sent on by routes of
// its recipients' domains, tried again for days, and reported to its sender where it can't be delivered.
//
// What it promises: of each recipient of each message that the spool forwards it becomes known, exactly once, that it was delivered, given
// up with a report to the sender, or dropped by somebody's act; until then it is in custody here or in the spool, across any crash. A
// recipient that was delivered is tried again only if this process was killed between the server's reply and the write that follows it.
// What it learns goes to the archive as supplements (delivery-1, -2 …); the last of them is durable before the message is forgotten here.
//
// It pulls: a reader of the spool (Source) gives it messages, and the first attempt is made straight from there. A message of which
// something is left then is taken over into a folder (FORMAT.md), two files each, and the spool may forget it. In memory there is a small
// entry for each message; its state is read when it is due, and its body is streamed.
//
// Deliveries are by destination: what shares a way. Each has a limit that grows as deliveries go well; one that can't be reached is tried
// by one message at a time, at growing intervals, however many wait for it. Between destinations places are given in turn.
package queue

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// Custody is the spool as the queue sees it. Nil from Accept and Append means on stable storage.
type Custody interface {
	// Accept takes a report of ours, which then comes from Source like other mail.
	Accept(ctx context.Context, env record.Envelope, body io.Reader, opt spool.AcceptOptions) (record.ID, error)
	Append(ctx context.Context, it *record.Item) error
	AppendSoon(it *record.Item) error
	// Open opens a message that Source gave and that has not ended; spool.ErrReleased of any other.
	Open(id record.ID) (io.ReadCloser, error)
	// End says that a message need not stay in the spool for the queue.
	End(id record.ID)
}

// Source gives the messages to be forwarded, each once, and after a restart again those that have neither ended nor a last supplement.
type Source interface {
	Next(ctx context.Context) (*record.Item, error)
	TryNext(ctx context.Context) (*record.Item, error)
}

// Carrier takes messages to other servers. Safe for concurrent use.
type Carrier interface {
	// Destination names what the mail for a domain shares with other mail: equal names, one way. It asks nobody. It may change with the
	// configuration, not while the process runs.
	Destination(listener, domain string) string
	// Carry makes one attempt. It ends soon after ctx.
	Carry(ctx context.Context, j Job) Result
}

// Job is one attempt at one destination.
type Job struct {
	Envelope   *record.Envelope
	Domain     string        // of one of the recipients, to find the way by
	Recipients []record.Path // all of one destination
	// Open opens the message. Its reader gives an error in the place of io.EOF where the bytes are not those that were received: then
	// nothing may be delivered.
	Open func() (io.ReadCloser, error)
}

// Result is how it went.
type Result struct {
	// Delivery has one entry in Recipients for each of the Job, in its order. A refusal is for good where its Code is 5xx, or there is no
	// Code and Enhanced begins with 5.
	Delivery    record.Delivery
	Notifies    bool  // the server took over to tell the sender of a success (RFC 3461)
	Final       bool  // the server is the last one: what it took is in the mailbox (LMTP)
	Unreachable bool  // the destination as a whole can't be reached; nothing is known of its recipients
	Fault       error // of ours: the message could not be read. Nothing was delivered, and nothing is to be concluded
}

// Audit writes acts before they take effect.
type Audit interface {
	Do(ctx context.Context, kind string, by record.Actor, detail map[string]any) error
}

// Options are what a Queue is wired with. Custody, Source and Carrier are needed.
type Options struct {
	Custody  Custody
	Source   Source
	Carrier  Carrier
	Audit    Audit                                                 // nil: nobody may change anything
	Await    func(ctx context.Context, env *record.Envelope) error // returns when a message may be delivered; nil: at once
	Hostname func(listener string) string                          // our name in reports; nil: "localhost"
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	FS       FS               // nil: the host's
	Wall     func() time.Time // the clock on the wall, which may jump; nil: time.Now
}

// How many messages may be in memory straight from the spool, and how many of them may be taken over at once.
const (
	maxSpooled = 1000
	maxTaking  = 8
)

// Queue is the queue of one node, in one folder that it has to itself. Safe for concurrent use.
type Queue struct {
	cfg     Config
	opt     Options
	log     *slog.Logger
	folder  *folder
	metrics *metrics
	base    time.Time // of now

	kick   chan struct{} // there is something to do for dispatch
	stir   chan struct{} // … and for keep
	taking chan struct{} // places for taking over
	loaded chan struct{} // closed when all that was in the folder is known
	tasks  sync.WaitGroup

	attempts context.Context // of the deliveries
	cut      func()          // ends them

	mu       sync.Mutex // guards what follows; never held during I/O
	entries  map[record.ID]*entry
	dests    map[string]*destination
	downs    map[*destination]bool // those that are down
	ring     []*destination        // those that have a leg ready, in turn
	waits    dueHeap
	wakes    wakeHeap
	running  int
	spooled  int           // entries in the spool
	room     chan struct{} // closed when spooled falls
	stopping bool
}

// Open takes the folder, making it where there is none. What is in it is read by Run, or at the first question.
func Open(cfg Config, opt Options) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.FS == nil {
		opt.FS = osFS{}
	}
	if opt.Wall == nil {
		opt.Wall = time.Now
	}
	if opt.Hostname == nil {
		opt.Hostname = func(string) string { return "localhost" }
	}
	q := &Queue{
		cfg: cfg.WithDefaults(), opt: opt, log: opt.Log, base: time.Now(),
		kick: make(chan struct{}, 1), stir: make(chan struct{}, 1), taking: make(chan struct{}, maxTaking), loaded: make(chan struct{}),
		entries: map[record.ID]*entry{}, dests: map[string]*destination{}, downs: map[*destination]bool{}, room: make(chan struct{}),
	}
	q.attempts, q.cut = context.WithCancel(context.Background())
	q.metrics = newMetrics(q)
	q.folder = &folder{dir: cfg.Dir, fs: opt.FS, log: opt.Log, alarm: q.metrics.damaged.Inc}
	ids, err := q.folder.open()
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	for _, id := range ids {
		q.entries[id] = &entry{id: id, place: -1}
	}
	if err := q.metrics.register(opt.Metrics); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return q, nil
}

// now is the time that everything is planned by. It never jumps.
func (q *Queue) now() time.Duration { return time.Since(q.base) }

// wall is what documents are stamped with.
func (q *Queue) wall() time.Time { return q.opt.Wall().UTC().Truncate(time.Millisecond) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends. Then no delivery begins any more, and those under way may end as long as grace lasts; what is cut off is
// tried again after the next start. It returns when all is at rest.
func (q *Queue) Run(ctx context.Context, grace time.Duration) {
	var loops sync.WaitGroup
	loops.Go(func() { q.load(ctx) })
	loops.Go(func() { q.pull(ctx) })
	loops.Go(func() { q.dispatch(ctx) })
	loops.Go(func() { q.keep(ctx) })
	<-ctx.Done()
	q.mu.Lock()
	q.stopping = true
	q.mu.Unlock()
	timer := time.AfterFunc(grace, q.cut)
	loops.Wait()
	q.tasks.Wait()
	timer.Stop()
	q.cut()
}

// Close gives the metrics up. After Run.
func (q *Queue) Close() { q.metrics.unregister(q.opt.Metrics) }

// task runs f unless the queue stops.
func (q *Queue) task(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.stopping {
		q.tasks.Go(f)
	}
}

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
	e.body, e.doc, e.maybe = nil, nil, false
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
