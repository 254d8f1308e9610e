// Package spool is the local custody between the moment a message is accepted and the moment the archive holds it. Nil from Accept or
// Append means that the record is on stable storage here: it comes back, byte for byte, after any crash, and after every later failure of
// the disk that leaves it readable. What is damaged is never given out as good and never passed over in silence: it is kept in quarantine
// and its sequence is accounted for.
//
// Records are written to segments, files of checksummed frames that FORMAT.md describes. One goroutine writes: while it waits for the disk
// the sessions that come gather, and one fsync then serves them all. A segment is only ever appended to. Whatever fails there, write or
// fsync, ends it; the next record opens another one. What has settled is read from the tail, in the order in which it settled, and a
// segment whose records have all been released is deleted.
//
// A message in relay mode is attempted: it settles once a supplement tells how its delivery ended. Everything else settles at once, unless
// a verdict is owed to it (AcceptOptions.Verdict). A message in queue mode settles at once too, and stays here until its forwarding has
// ended, whatever the archive has by then; so does one that was given to the archive early (AcceptOptions.Early).
package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// What callers tell apart with errors.Is. An error that came from the system names the file and wraps its cause.
var (
	ErrFull     = errors.New("spool is full")               // spool.max_bytes: the archive has to catch up
	ErrNoSpace  = errors.New("no space left for the spool") // of the file system: bytes, inodes or quota
	ErrFailed   = errors.New("spool can't be written")      // the disk fails, or does not answer
	ErrLocked   = errors.New("spool is in use by another process")
	ErrClosed   = errors.New("spool is closed")
	ErrReleased = errors.New("record was released from the spool") // look in the archive
	ErrDamaged  = errors.New("record in the spool is damaged")
	ErrInvalid  = errors.New("not a record that the spool takes")
)

// Config is the section "spool" of the configuration.
type Config struct {
	Dir      string `mapstructure:"-"`         // <data_dir>/spool
	MaxBytes int64  `mapstructure:"max_bytes"` // limit on disk, for mail; outcomes and acts may pass it

	// The rest has defaults that fit, and is here for tests.
	SegmentBytes int64 `mapstructure:"-"` // a segment is ended at about this size
	InlineBytes  int   `mapstructure:"-"` // larger messages have files of their own and are never in memory as a whole
	ReserveBytes int64 `mapstructure:"-"` // kept free so that outcomes and acts can be written when the disk is full
}

// Defaults of Config, for fields that are zero. By default a segment is no more than a sixteenth of MaxBytes.
const (
	DefaultMaxBytes     = 10 << 30
	DefaultSegmentBytes = 64 << 20
	DefaultInlineBytes  = 256 << 10
	DefaultReserveBytes = 8 << 20

	minBytes   = 1 << 20
	minSegment = 16 << 10
	maxSegment = 1 << 30
)

func (c Config) withDefaults() Config {
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = min(DefaultSegmentBytes, max(c.MaxBytes/16, minSegment))
	}
	if c.InlineBytes == 0 {
		c.InlineBytes = DefaultInlineBytes
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = DefaultReserveBytes
	}
	return c
}

// Validate names every fault at once.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("spool.dir: empty, no folder to write to"))
	}
	if c.MaxBytes != 0 && c.MaxBytes < minBytes {
		errs = append(errs, fmt.Errorf("spool.max_bytes: %d bytes is less than 1 MiB", c.MaxBytes))
	}
	d := c.withDefaults()
	if d.SegmentBytes < minSegment || d.SegmentBytes > maxSegment {
		errs = append(errs, fmt.Errorf("spool.segment_bytes: %d bytes is not between 16 KiB and 1 GiB", c.SegmentBytes))
	}
	if d.InlineBytes < 0 || d.InlineBytes > 16<<20 {
		errs = append(errs, fmt.Errorf("spool.inline_bytes: %d bytes is not between 0 and 16 MiB", c.InlineBytes))
	}
	if d.ReserveBytes < 0 || d.ReserveBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("spool.reserve_bytes: %d bytes is not between 0 and 1 GiB", c.ReserveBytes))
	}
	return errors.Join(errs...)
}

// Options are what a Spool is wired with. All but Node may be left out.
type Options struct {
	Node    string // for envelopes and acts that name none
	Log     *slog.Logger
	Metrics prometheus.Registerer
	FS      FS // nil: the host's
	// MinSeq is the least sequence that a new record may take: one more than the ledger has seen of this node. It keeps a spool that
	// was lost or set back from giving a number twice.
	MinSeq uint64

	lazyDelay    time.Duration // AppendSoon waits at most this long for company
	idleDelay    time.Duration // a segment with nothing but released records is ended after this long
	verdictDelay time.Duration // a verdict that is owed is waited for this long
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.lazyDelay == 0 {
		o.lazyDelay = 50 * time.Millisecond
	}
	if o.idleDelay == 0 {
		o.idleDelay = 5 * time.Second
	}
	if o.verdictDelay == 0 {
		o.verdictDelay = 30 * time.Second
	}
	return o
}

// Spool is the custody of one node, in one folder that it has to itself. Safe for concurrent use.
type Spool struct {
	cfg     Config
	opt     Options
	fs      FS
	log     *slog.Logger
	metrics *metrics
	lock    io.Closer
	paths   paths

	inbox    inbox        // what waits for the committer
	used     atomic.Int64 // bytes on disk, segments and big files
	inflight atomic.Int64 // bytes of messages that are being received
	born     time.Time    // base of monotonic times
	health   health
	reserve  reserve
	writers  writers       // Accept calls that are under way
	stopped  chan struct{} // closed when the committer has ended
	closeErr error         // of the committer's last work; read after stopped

	committer committer // owned by the committer's goroutine, and by Open before it starts

	sweepMu sync.Mutex // held while segments are deleted
	idle    idleHandles

	mu       sync.Mutex // guards what follows; never held during I/O
	segments []*segment // ascending by number, the last one never deleted
	// leftovers are files of segments that could not be made. They are gone for good before any other segment is deleted: otherwise a
	// crash could leave one of them as the oldest.
	leftovers []string
	queue     queue
	waiting   map[record.ID]*attempt // what has not settled. Only the committer changes it
	staying   stays
	numbers   *roaring64.Bitmap // sequences in custody: waiting and in queue, dropped runs too
	newest    uint64            // the newest sequence that is durable or was dropped
	bytes     int64             // in custody
	changed   chan struct{}     // closed when something settles
	closed    bool
}

// paths are the places in the spool's folder.
type paths struct{ dir, big, quarantine, lock, reserve, probe string }

func newPaths(dir string) paths {
	in := func(name string) string { return filepath.Join(dir, name) }
	return paths{dir: dir, big: in("big"), quarantine: in("quarantine"), lock: in("lock"), reserve: in("reserve"), probe: in("probe")}
}

func (p paths) bigFile(id record.ID) string { return filepath.Join(p.big, id.String()+bigSuffix) }

// attempt is a message that has not settled: its outcome or its verdict is owed.
type attempt struct {
	seq         uint64
	size        int64
	at          loc
	outcome     bool // owed
	verdict     bool // owed
	supplements []loc
	noted       uint32 // the segment that last noted a supplement of it, for its stub
}

// takes notes what a supplement brings, and says whether nothing is owed any more.
func (a *attempt) takes(flags byte) (settles bool) {
	a.outcome = a.outcome && flags&flagOutcome == 0
	a.verdict = a.verdict && flags&flagVerdict == 0
	return !a.outcome && !a.verdict
}

// Open takes the folder, making it where there is none, and recovers what is in it: the same reading that serves the tail, over all of it.
// A torn end is cut, damage goes into quarantine with an alarm (log, metric), both with an item that accounts for the sequences, and an
// attempted message without an outcome gets one, unknown; no verdict is owed to any. What it can't read for an error of the system is an error, and nothing is
// changed: the record may still be there. ErrLocked where another process has the folder.
func Open(cfg Config, opt Options) (*Spool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Spool{
		cfg: cfg.withDefaults(), opt: opt.withDefaults(), paths: newPaths(cfg.Dir), stopped: make(chan struct{}),
		born: time.Now(), queue: newQueue(), waiting: map[record.ID]*attempt{}, staying: newStays(), numbers: roaring64.New(), changed: make(chan struct{}),
	}
	s.fs, s.log = s.opt.FS, s.opt.Log
	s.metrics = newMetrics(s)
	s.inbox.wake = make(chan struct{}, 1)
	s.writers.idle = make(chan struct{})
	if err := s.takeFolder(); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lost, err := s.recoverFolder()
	if err == nil {
		err = s.metrics.register(s.opt.Metrics)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spool: %w", err), s.lock.Close())
	}
	s.reserve.ensure(s)
	s.settleUnknown(lost)
	go s.commitLoop()
	return s, nil
}

// takeFolder makes the folder durably and locks it.
func (s *Spool) takeFolder() error {
	for _, dir := range []string{s.paths.dir, s.paths.big, s.paths.quarantine} {
		if err := makeDir(s.fs, dir); err != nil {
			return err
		}
	}
	var err error
	s.lock, err = s.fs.Lock(s.paths.lock)
	return err
}

// makeDir makes a directory and its parents durably.
func makeDir(fs FS, dir string) error {
	parent := filepath.Dir(dir)
	err := fs.Mkdir(dir)
	if errors.Is(err, os.ErrNotExist) && parent != dir {
		if err = makeDir(fs, parent); err == nil {
			err = fs.Mkdir(dir)
		}
	}
	if err != nil {
		return err
	}
	if err := fs.SyncDir(parent); err != nil && !errors.Is(err, os.ErrPermission) { // one that we may not read is not one that we wrote to
		return err
	}
	return nil
}

// Close takes no more records, waits for the sessions that are in Accept (as long as ctx lasts), writes what AppendSoon still holds, ends
// the segment in good order and gives the folder up. A disk that does not answer holds it up beyond ctx. Its error says what could not be
// written. A second call is ErrClosed.
func (s *Spool) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	close(s.changed)
	s.mu.Unlock()

	err := s.writers.close(ctx)
	s.inbox.close()
	<-s.stopped
	s.metrics.unregister(s.opt.Metrics)
	s.mu.Lock()
	for _, seg := range s.segments {
		seg.closeIdle() // a body that is being read keeps its file
	}
	s.mu.Unlock()
	return errors.Join(err, s.closeErr, s.lock.Close())
}

// Pending tells what is in custody and not released: records, acts and supplements still on their way to the archive, and their bytes.
func (s *Spool) Pending() (records int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) + s.queue.left, s.bytes
}

// Waiting gives the sequences in custody that are not released, attempted and dropped ones included, as ranges of first and last, in
// order. Every other one up to Newest has been released, if Newest was asked first.
func (s *Spool) Waiting() [][2]uint64 {
	s.mu.Lock()
	numbers := s.numbers.Clone()
	s.mu.Unlock()
	var ranges [][2]uint64
	for it := numbers.Iterator(); it.HasNext(); {
		n := it.Next()
		if k := len(ranges); k > 0 && ranges[k-1][1]+1 == n {
			ranges[k-1][1] = n
			continue
		}
		ranges = append(ranges, [2]uint64{n, n})
	}
	return ranges
}

// Oldest is a sequence such that no file of the spool has a record with a lower one: released records stay in their segment until all of
// it is.
func (s *Spool) Oldest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		if !seg.stub {
			return seg.first
		}
	}
	return s.newest + 1
}

// Newest is the newest sequence that is durable; 0: none yet.
func (s *Spool) Newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// writers counts the calls of Accept, so that Close can wait for them.
type writers struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed once there are none after close
}

func (w *writers) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.n++
	return true
}

func (w *writers) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n--; w.n == 0 && w.closed {
		close(w.idle)
	}
}

func (w *writers) close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	n := w.n
	w.mu.Unlock()
	if n == 0 {
		return nil
	}
	select {
	case <-w.idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("spool: messages were still being received: %w", ctx.Err())
	}
}
