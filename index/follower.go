package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Ledger is what the archive holds, log by log. The archive is one.
type Ledger interface {
	// Logs names the logs to follow.
	Logs() []string
	// Size is the number of entries of a log.
	Size(log string) uint64
	// Replay gives the entries from a number on, in order, and the record of those that want accepts.
	Replay(ctx context.Context, log string, from uint64, want func(*record.Entry) bool) iter.Seq2[archive.Replayed, error]
	// Fetch gives a record with all supplements that are known of it.
	Fetch(ctx context.Context, id record.ID) (*archive.Stored, error)
}

// Tail is what is in local custody. The spool's is one.
type Tail interface {
	// Next gives the next settled record, each once, and blocks until there is one. An error takes nothing: the same record comes again.
	// After a restart it begins with the oldest that is not released.
	Next(ctx context.Context) (*record.Item, error)
	// Rewind begins again with the oldest that is not released, as after a restart. Not to be called while Next is.
	Rewind()
	// Waiting gives the sequences, as ranges of first and last, that are in custody and not released. One is released when its entry is in
	// the ledger, not before.
	Waiting() [][2]uint64
}

// Options are what a Follower is wired with.
type Options struct {
	Node    string
	Backend Backend
	Ledger  Ledger
	Tail    Tail        // nil: the ledger alone
	Own     []string    // our domains, folded: document.Direct
	Busy    func() bool // mail is being accepted: indexing waits a little; nil: never
	Log     *slog.Logger
	Metrics *Metrics // nil: none
}

// How long things may take. Batches gather because the work for a batch is much the same whatever its size.
const (
	gatherTime   = 500 * time.Millisecond // a batch waits for more at most so long
	gatherIdle   = 250 * time.Millisecond // and not at all once nothing has come for so long
	gatherBytes  = 4 << 20                // of text
	gatherDocs   = 8192
	gatherLedger = 5 * time.Second // a batch from the ledger, which is in no hurry
	chunkBytes   = 1 << 20         // of text, that one reader of the ledger gives on at once
	chunkDocs    = 2048
	yieldTime    = time.Second // a batch waits at most so long for the node to be less busy
	yieldStep    = 25 * time.Millisecond
	pollLedger   = 500 * time.Millisecond
	firstRetry   = time.Second
	lastRetry    = 30 * time.Second
	// maxTries is how often the ledger's record is read, about ten minutes, before an error that may pass counts as one that will not.
	maxTries = 25
)

// cursorSpool names the cursor of a node's spool: all sequences up to it are in the index, or hold nothing that could be.
func cursorSpool(node string) string { return "spool/" + node }

// cursorOwn has a number for the own domains that an index was built with: all of it, from its first document on.
const cursorOwn = "own-domains"

// OwnDomains says whether an index, whose cursors these are, was built with these own domains. An empty one was.
func OwnDomains(cursors map[string]uint64, own []string) bool {
	return len(cursors) == 0 || cursors[cursorOwn] == ownNumber(own)
}

// ownNumber is 0 without domains, so that an index that never had any need not say so.
func ownNumber(own []string) uint64 {
	if len(own) == 0 {
		return 0
	}
	digest := record.Sum([]byte(strings.Join(own, "\n")))
	return binary.BigEndian.Uint64(digest[:8]) | 1
}

// Follower feeds a Backend: from the tail of the spool, so that new mail can be found within seconds, and from the ledger what the spool no
// longer has. Nothing is left out: a record that can't be read has at least a document that says it exists, marked Partial.
//
// Its place is kept in the Backend's cursors: for each log the number of entries done, from the first on, and for the spool the sequence
// below which all is done. What was done is done again after a crash, never left undone. Whether a record is in the index is asked of the
// index; the spool's cursor only tells where asking is worth while.
type Follower struct {
	o       Options
	log     *slog.Logger
	metrics *Metrics
	work    chan *work
	ready   chan struct{} // closed once the cursors have been read
	large   chan struct{} // has room for one: whose text is a batch by itself; of this round of follow

	documents, mail atomic.Int64 // applied by this process: their number, the bytes of their messages

	mu      sync.Mutex           // guards what follows
	known   bool                 // the cursors have been read
	entries map[string]uint64    // done, by log
	times   map[string]time.Time // of the last entry done
	low     uint64               // all sequences up to here are done, as the cursor has it
	claimed uint64               // low at the start
	fresh   bool                 // the index was empty at the start
	done    *roaring64.Bitmap    // sequences that this process has done, or found done
	before  *roaring64.Bitmap    // those that were done when the index lost something of them, perhaps
}

// New makes a Follower. It does nothing before Run.
func New(o Options) *Follower {
	f := &Follower{o: o, log: o.Log, metrics: o.Metrics, work: make(chan *work), ready: make(chan struct{}), done: roaring64.New(), before: roaring64.New()}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.metrics == nil {
		f.metrics = NewMetrics(nil)
	}
	return f
}

// work is a batch: documents, and what is done once they are in the index.
type work struct {
	docs   []*document.Document
	bytes  int                                  // of text
	mail   int64                                // bytes of the messages
	seqs   *roaring64.Bitmap                    // of this node's spool
	seqOf  map[record.ID]uint64                 // of the documents that came from the spool, their sequences
	known  map[record.ID][]record.SupplementDoc // of those from the ledger, the supplements that they have learnt
	log    string                               // empty: from the spool
	next   uint64                               // entries of log that are done
	at     time.Time                            // of the last of them
	tree   tlog.Tree                            // of log, at the end of the commit that has the last of them
	source string
	began  time.Time
	large  bool            // it has taken the room for a large text, and gives it back once it is applied
	turn   <-chan struct{} // closed when all that comes before is on its way to be applied; nil: it is

	restored []Loss // whole again with this batch
}

func newWork(source string) *work {
	return &work{
		seqs: roaring64.New(), source: source, began: time.Now(), seqOf: map[record.ID]uint64{}, known: map[record.ID][]record.SupplementDoc{},
	}
}

func (w *work) add(d *document.Document) {
	w.docs = append(w.docs, d)
	w.bytes += textOf(d)
	w.mail += d.Size
}

// join adds what follows in the same log.
func (w *work) join(c *work) {
	w.docs = append(w.docs, c.docs...)
	w.bytes += c.bytes
	w.mail += c.mail
	w.seqs.Or(c.seqs)
	w.large = w.large || c.large
	w.log, w.next, w.at, w.tree = c.log, c.next, c.at, c.tree
}

// account notes that a record of the spool is in a batch. One that bears no sequence of its own, 0, is known by its id alone.
func (w *work) account(seq uint64) {
	if seq > 0 {
		w.seqs.Add(seq)
	}
}

// document is documentOf for a batch. A message that may have much text waits until no other is under way: memory is bounded by one of them,
// however many there are. Who waits has nothing in hand that the other waits for: in the ledger it is the turn of the one whose entries come first,
// and a batch with such a text is full, and goes to be applied at once.
func (f *Follower) document(ctx context.Context, w *work, it *record.Item) (*document.Document, error) {
	if it.Envelope == nil || it.Envelope.Size < gatherBytes {
		return documentOf(it, f.o.Own)
	}
	if w.turn != nil {
		select {
		case <-w.turn:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errBody, ctx.Err())
		}
	}
	select {
	case f.large <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errBody, ctx.Err())
	}
	d, err := documentOf(it, f.o.Own)
	if textOf(d) >= gatherBytes && !errors.Is(err, errBody) {
		w.large = true
	} else {
		<-f.large
	}
	return d, err
}

// textOf is the bytes of text of a document.
func textOf(d *document.Document) int { return len(d.Subject) + len(d.Body) + len(d.AttachmentText) }

func (w *work) full() bool { return w.bytes >= gatherBytes || len(w.docs) >= gatherDocs }

// Run follows until ctx ends. It may be called once. Whatever fails is logged and tried again.
func (f *Follower) Run(ctx context.Context) {
	for f.follow(ctx) {
	}
}

// follow follows until ctx ends: false. true: the index has lost something, and all begins again with what its cursors say, as after a restart.
func (f *Follower) follow(ctx context.Context) bool {
	lost := f.o.Backend.Lost()
	if !f.load(ctx) {
		return false
	}
	f.large = make(chan struct{}, 1)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { f.applyAll(inner) })
	wg.Go(func() { f.followLedger(inner) })
	if f.o.Tail != nil {
		f.o.Tail.Rewind()
		wg.Go(func() { f.followTail(inner) })
	}
	if len(lost) > 0 {
		wg.Go(func() { f.restore(inner, lost) })
	}
	for sleep(inner, pollLedger) {
		if slices.ContainsFunc(f.o.Backend.Lost(), func(l Loss) bool { return !slices.Contains(lost, l) }) {
			break
		}
	}
	cancel()
	wg.Wait()
	return ctx.Err() == nil
}

// load reads the cursors.
func (f *Follower) load(ctx context.Context) bool {
	var cursors map[string]uint64
	if !f.retry(ctx, "read the index's cursors", func() (err error) {
		cursors, err = f.o.Backend.Through(ctx)
		return err
	}) {
		return false
	}
	times := map[string]time.Time{}
	for _, log := range f.o.Ledger.Logs() {
		if n := cursors[log]; n > 0 {
			for r, err := range f.o.Ledger.Replay(ctx, log, n-1, func(*record.Entry) bool { return false }) {
				if err == nil {
					times[log] = r.Entry.Time
				}
				break // without a time the progress still has the number
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.low = cursors[cursorSpool(f.o.Node)]
	f.claimed, f.fresh = f.low, len(cursors) == 0
	delete(cursors, cursorSpool(f.o.Node))
	delete(cursors, cursorOwn)
	f.entries, f.times = cursors, times
	f.before.Or(f.done)
	f.before.AddRange(0, f.claimed+1)
	f.done = roaring64.New()
	if !f.known {
		f.known = true
		close(f.ready)
	}
	return true
}

// retry does something until it succeeds; false: ctx ended before.
func (f *Follower) retry(ctx context.Context, what string, do func() error) bool {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := do()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		f.metrics.errors.Inc()
		f.log.Error("indexing goes on when this succeeds", "task", what, "error", err, "retry", pause)
		if !sleep(ctx, pause) {
			return false
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// hand gives a batch to be applied, once the node is not busy or has been for long enough.
func (f *Follower) hand(ctx context.Context, w *work) bool {
	if !f.yield(ctx) {
		return false
	}
	select {
	case f.work <- w:
		return true
	case <-ctx.Done():
		return false
	}
}

// yield waits until the node is not busy or has been for long enough; false: ctx ended before.
func (f *Follower) yield(ctx context.Context) bool {
	if f.o.Busy == nil {
		return true
	}
	for end := time.Now().Add(yieldTime); f.o.Busy() && time.Now().Before(end); {
		if !sleep(ctx, yieldStep) {
			return false
		}
	}
	return true
}

// applyAll applies batches, one after the other.
func (f *Follower) applyAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-f.work:
			f.mu.Lock()
			w.docs = slices.DeleteFunc(w.docs, func(d *document.Document) bool { // the ledger was first, and may know more
				seq := w.seqOf[d.ID] // 0: it is from the ledger, or bears a sequence of another
				return seq > 0 && f.done.Contains(seq)
			})
			low := lowest(f.low, f.done, w.seqs)
			f.mu.Unlock()
			b := Batch{Documents: w.docs, Through: map[string]uint64{cursorSpool(f.o.Node): low}, Restored: w.restored}
			if w.log != "" {
				b.Through[w.log] = w.next
				b.Trees = map[string]tlog.Tree{w.log: w.tree}
			}
			if f.fresh {
				b.Through[cursorOwn] = ownNumber(f.o.Own)
			}
			if !f.retry(ctx, "apply a batch", func() error { return f.o.Backend.Apply(ctx, b) }) {
				return
			}
			if w.large {
				<-f.large
			}
			f.mu.Lock()
			f.low = low
			f.done.Or(w.seqs)
			if w.log != "" {
				f.entries[w.log] = w.next
				f.times[w.log] = w.at
			}
			f.mu.Unlock()
			f.documents.Add(int64(len(w.docs)))
			f.mail.Add(w.mail)
			f.metrics.documents.WithLabelValues(w.source).Add(float64(len(w.docs)))
			f.metrics.bytes.WithLabelValues(w.source).Add(float64(w.mail))
			f.metrics.batch.Observe(time.Since(w.began).Seconds())
		}
	}
}

// lowest moves a low-water mark up over sequences that are done.
func lowest(low uint64, done ...*roaring64.Bitmap) uint64 {
	for {
		moved := false
		for _, b := range done {
			for b.Contains(low + 1) {
				low++
				moved = true
			}
		}
		if !moved {
			return low
		}
	}
}

// has says whether a record is in the index. Sequences tell it of what this process did; for what came before, the index is asked.
func (f *Follower) has(ctx context.Context, id record.ID, seq uint64) (bool, error) {
	f.mu.Lock()
	done, claimed := seq > 0 && f.done.Contains(seq), seq <= f.claimed
	f.mu.Unlock()
	if done || !claimed {
		return done, nil
	}
	return f.stored(ctx, id)
}

// stored asks the index for a record.
func (f *Follower) stored(ctx context.Context, id record.ID) (bool, error) {
	res, err := f.o.Backend.Search(ctx, Request{Query: query.ID{ID: id}})
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", id, err)
	}
	return res.Total > 0, nil
}

// Progress is how far the index has come in one log: all of its first Entries entries are in it, the last of them made at Time (zero: not
// known).
type Progress struct {
	Log     string
	Entries uint64
	Time    time.Time
}

// Ready waits until the progress is known, which is soon after Run begins unless the index can't be read, or ctx ends: its error.
func (f *Follower) Ready(ctx context.Context) error {
	select {
	case <-f.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("index's progress is not known: %w", ctx.Err())
	}
}

// Progress gives the progress in each log; nil before it is known.
func (f *Follower) Progress() []Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.known {
		return nil
	}
	var list []Progress
	for _, log := range f.o.Ledger.Logs() {
		list = append(list, Progress{log, f.entries[log], f.times[log]})
	}
	return list
}

// Applied is how many documents this Follower has brought into the index, and the bytes of their messages.
func (f *Follower) Applied() (documents, bytes int64) { return f.documents.Load(), f.mail.Load() }

// Lag is how many records in local custody and entries of the ledger are not in the index yet; false before it is known. It is 0 only
// when everything that anybody was told is safe can be found. Records whose delivery is under way count, and so, until it is archived,
// does mail that the next hop refused.
func (f *Follower) Lag() (uint64, bool) {
	waiting := roaring64.New()
	if f.o.Tail != nil {
		for _, r := range f.o.Tail.Waiting() { // before the sizes: what is released by then is counted there
			waiting.AddRange(r[0], r[1]+1)
		}
	}
	sizes := map[string]uint64{}
	for _, log := range f.o.Ledger.Logs() {
		sizes[log] = f.o.Ledger.Size(log)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.known {
		return 0, false
	}
	waiting.AndNot(f.done)
	lag := waiting.GetCardinality()
	for log, size := range sizes {
		if n := f.entries[log]; size > n {
			lag += size - n
		}
	}
	return lag, true
}

// settleStep is how often Settle looks.
const settleStep = 20 * time.Millisecond

// Settle waits until Lag is 0, or ctx ends: its error.
func (f *Follower) Settle(ctx context.Context) error {
	for {
		if n, known := f.Lag(); known && n == 0 {
			return nil
		}
		if !sleep(ctx, settleStep) {
			return fmt.Errorf("index is not settled: %w", ctx.Err())
		}
	}
}
