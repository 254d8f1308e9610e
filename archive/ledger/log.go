package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Log is a log open for writing. It reads as a Reader does. Safe for concurrent use; appends go one after the other.
//
// The order of things, each step durable before the next begins, and each safe to run again:
//
//	create commit/<n>      the entries are in the log; who does not create it has lost the log and stops
//	create full tiles      at once, as far as the store lets us
//	create partial tiles   at most once in PublishEvery, and by Close
//	replace checkpoint     likewise; it is never ahead of the tiles that it needs
//
// What a crash leaves undone after the first step, the next Open does.
type Log struct {
	*Reader
	c Config

	head atomic.Pointer[Head] // of the last commit; set with mu held, read without, so that a scrape waits for no store

	mu         sync.Mutex
	lost       error      // ErrLost, once another process writes this log; guarded by mu, as all below
	closed     bool       //
	last       Commit     // without entries and leaves
	edge       edge       // of the tree with the last commit in it
	unresolved *newCommit // sent, and nobody knows whether it is there

	full          []fullTile  // not yet published
	publishedSize uint64      // of the checkpoint that is published
	publishTried  time.Time   // when partial tiles and the checkpoint last were published, or should have been
	timer         *time.Timer // publishes what no Append comes to publish
}

type fullTile struct {
	tile tlog.Tile
	data []byte
}

// Open opens a log for writing. It verifies the newest commit and, as far as the published checkpoint and tiles do not cover them, those
// before it, and publishes what a crash left unpublished. Errors: those of a Reader; ErrNoLog where there is none, and none is made.
func Open(ctx context.Context, c Config) (*Log, error) {
	r, err := NewReader(c)
	if err != nil {
		return nil, err
	}
	if err := c.validateWriter(); err != nil {
		return nil, err
	}
	l := &Log{Reader: r, c: c}
	newest, err := r.find(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.noneAfter(ctx, newest); err != nil {
		return nil, err
	}
	if err := l.recover(ctx, newest); err != nil {
		return nil, err
	}
	r.archive = l.last.Checkpoint.Archive
	r.mark = mark{l.last.Header.Commit, l.last.Header.First} // who reads first, mostly reads the end
	l.mu.Lock()
	defer l.mu.Unlock()
	l.publish(ctx, true)
	if l.lost != nil {
		return nil, l.lost
	}
	return l, nil
}

// noneAfter checks that no commit stands beyond the newest: else one between them is missing, and this writer would write it anew.
func (r *Reader) noneAfter(ctx context.Context, newest uint64) error {
	for info, err := range r.store.List(ctx, commitPrefix(r.log), CommitKey(r.log, newest)) {
		if err != nil {
			return fmt.Errorf("log %s: %w", r.log, err)
		}
		if n, ok := parseCommitKey(r.log, info.Key); !ok {
			continue
		} else if n == newest+1 { // appended since: its writer is alive, and one of us will lose
			return fmt.Errorf("log %s: %w", r.log, ErrLost)
		}
		return fmt.Errorf("%s: %w: %s is there", CommitKey(r.log, newest+1), ErrMissing, info.Key)
	}
	return nil
}

// recover sets last and edge: from the published checkpoint and its tiles and the commits after it, or where these will not do from
// all commits.
func (l *Log) recover(ctx context.Context, newest uint64) error {
	cp, edge, err := l.publishedEdge(ctx)
	if err != nil {
		return err
	}
	first := uint64(0)
	if cp != nil {
		if cp.Commit > newest { // published since: its writer is alive
			return fmt.Errorf("log %s: %w", l.log, ErrLost)
		}
		l.edge, l.publishedSize, first = edge, cp.Size, cp.Commit
	}
	for c, err := range l.chain(ctx, first, newest) {
		if err != nil {
			return err
		}
		switch {
		case cp != nil && c.Header.Commit == cp.Commit:
			if !bytes.Equal(c.Checkpoint.Note, cp.Note) {
				return fmt.Errorf("%s: %w: it is not what the published checkpoint ends", c.Key, ErrAltered)
			}
		default:
			for _, leaf := range c.leaves {
				l.edge.add(leaf, l.queue)
			}
			if len(l.full) >= 64 { // a replay of the whole log: don't hold all of its tiles
				l.publishFull(ctx)
			}
		}
		l.settle(c)
	}
	return nil
}

// publishedEdge gives the published checkpoint and the edge that its tiles give, or nil where either will not do.
func (r *Reader) publishedEdge(ctx context.Context) (*Checkpoint, edge, error) {
	cp, err := r.published(ctx)
	if cp == nil {
		return nil, edge{}, err
	}
	e := edge{size: cp.Size}
	for _, t := range edgeTiles(cp.Size) {
		data, err := r.tile(ctx, t)
		if data == nil {
			return nil, edge{}, err
		}
		for len(e.levels) <= t.L {
			e.levels = append(e.levels, make([]tlog.Hash, 0, tileWidth))
		}
		e.levels[t.L] = tileHashes(data)
	}
	if f := e.frontier(); f.root() != cp.Root {
		return nil, edge{}, nil
	}
	return cp, e, nil
}

// Append commits a batch of entries and gives the number of the first. nil means that all of them are in the log for ever, in one commit.
// pending are the runs (first and last) of spool sequences that are in custody; those of the batch itself may be among them and are left
// out of the commit.
//
// ErrLost: another process writes this log. This one must stop; every later call fails too. ErrTooLarge, ErrEntry: nothing was written, and
// the Log is as it was. After any other error the batch may or may not be committed: call again with the same entries until it is known.
// That gives the same commit, never a second one, and until then another batch is ErrUnresolved.
func (l *Log) Append(ctx context.Context, entries []record.Entry, pending [][2]uint64) (first uint64, err error) {
	b, err := encodeBatch(entries)
	if err != nil {
		return 0, fmt.Errorf("log %s: %w", l.log, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.lost != nil:
		return 0, l.lost
	case l.closed:
		return 0, fmt.Errorf("log %s: %w", l.log, ErrClosed)
	case l.unresolved != nil && !bytes.Equal(l.unresolved.body, b.body):
		return 0, fmt.Errorf("log %s: %w", l.log, ErrUnresolved)
	case l.unresolved == nil:
		if l.unresolved, err = l.next(b, pending); err != nil {
			return 0, fmt.Errorf("log %s: %w", l.log, err)
		}
	}
	c := l.unresolved
	err = c.create(ctx, l.store, l.c.Lock())
	if errors.Is(err, object.ErrConflict) {
		return 0, l.lose(fmt.Errorf("%s: %w: %w", c.Key, ErrLost, err))
	} else if err != nil {
		return 0, fmt.Errorf("log %s: %w", l.log, err)
	}
	l.unresolved = nil
	for _, leaf := range c.leaves {
		l.edge.add(leaf, l.queue)
	}
	l.settle(&c.Commit)
	l.knows(c.Header.Commit)
	l.publish(ctx, false)
	return c.Header.First, nil
}

// settle makes c the last commit.
func (l *Log) settle(c *Commit) {
	l.last = *c
	l.last.Entries, l.last.leaves = nil, nil
	head := c.head()
	l.head.Store(&head)
}

// next makes the commit after the last.
func (l *Log) next(b *batch, pending [][2]uint64) (*newCommit, error) {
	pending, err := pendingRuns(pending, b.seqs)
	if err != nil {
		return nil, err
	}
	return b.commit(l.c.Signer, l.archive, Header{
		V: record.Version, Log: l.log, Commit: l.last.Header.Commit + 1, Time: l.c.Now(), Previous: l.last.SHA256, Pending: pending,
	}, l.last.after)
}

// lose poisons the log.
func (l *Log) lose(err error) error {
	l.lost = err
	l.full, l.unresolved = nil, nil
	return err
}

// Head is the log's state after the last commit of this Log. It does no I/O and waits for none.
func (l *Log) Head() Head { return *l.head.Load() }

// Close publishes what is not yet published and ends the Log. Its error says what could not be published: nothing that was appended is
// lost, and the next Open publishes it.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.lost != nil {
		return nil
	}
	return l.publishAll(ctx)
}
