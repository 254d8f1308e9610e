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
	"context"
	"fmt"
	"io"
	"log/slog"
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
