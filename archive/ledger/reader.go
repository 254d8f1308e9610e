package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Reader reads a log and verifies what it reads. It writes nothing, sees what others append, and is safe for concurrent use.
//
// Errors of all its methods: ErrNoLog where there is no log; ErrAltered where an object is not what was signed; ErrMissing where an object
// must have been there; ErrForeign for a log of another archive; ErrKey for one that another key has signed. Others are the store's.
type Reader struct {
	store    object.Store
	log      string
	archive  string // may be empty
	verifier note.Verifier

	mu     sync.Mutex
	newest *uint64 // a commit known to be there; guarded by mu
	mark   mark    // where a Commits has ended, for the next to begin; guarded by mu
}

// NewReader does no I/O. Of c it needs Store, Log and Verifier.
func NewReader(c Config) (*Reader, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Reader{store: c.Store, log: c.Log, archive: c.Archive, verifier: c.Verifier}, nil
}

// Name is the log's name.
func (r *Reader) Name() string { return r.log }

// Head is the state of a log after a commit.
type Head struct {
	Checkpoint
	Time time.Time // of the commit, UTC
}

func (c *Commit) head() Head { return Head{Checkpoint: c.Checkpoint, Time: c.Header.Time} }

// Newest gives the head of the log as the store has it now.
func (r *Reader) Newest(ctx context.Context) (Head, error) {
	n, err := r.find(ctx)
	if err != nil {
		return Head{}, err
	}
	c, err := r.Commit(ctx, n)
	if err != nil {
		return Head{}, err
	}
	return c.head(), nil
}

// Init gives the first entry of the log: what the archive was made with.
func (r *Reader) Init(ctx context.Context) (record.Init, error) {
	c, err := r.Commit(ctx, 0)
	if errors.Is(err, ErrMissing) {
		return record.Init{}, r.absent(ctx)
	} else if err != nil {
		return record.Init{}, err
	}
	init := c.Entries[0].Entry.Init
	if init == nil || init.Archive != c.Checkpoint.Archive || init.Log != r.log {
		return record.Init{}, fmt.Errorf("%s: %w: its first entry does not make this log", c.Key, ErrAltered)
	}
	return *init, nil
}

// Commit reads one commit. ErrMissing where it is not there.
func (r *Reader) Commit(ctx context.Context, n uint64) (*Commit, error) {
	key := CommitKey(r.log, n)
	data, err := r.read(ctx, key, maxObject)
	if errors.Is(err, object.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", key, ErrMissing)
	} else if err != nil {
		return nil, err
	}
	c, err := decodeCommit(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	c.Key = key
	if err := c.authenticate(n, r.archive, r.log, r.verifier); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return c, nil
}

// Commits gives the commits from the one that holds the entry with this number on, in order, up to the newest at the time of the call. The
// first may begin before that entry. It ends at the first error, which it yields.
func (r *Reader) Commits(ctx context.Context, from uint64) iter.Seq2[*Commit, error] {
	return func(yield func(*Commit, error) bool) {
		newest, err := r.find(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		first, err := r.holding(ctx, from, newest)
		if err != nil {
			yield(nil, err)
			return
		}
		for c, err := range r.chain(ctx, first, newest) {
			if c != nil && c.Header.Commit == first && c.Header.First > from {
				c, err = nil, fmt.Errorf("%s: %w: it begins at entry %d", c.Key, ErrAltered, c.Header.First)
			}
			if !yield(c, err) || err != nil {
				return
			}
			r.mu.Lock()
			r.mark = mark{c.Header.Commit + 1, c.end()}
			r.mu.Unlock()
		}
	}
}

// Entries gives the entries from this number on, in order, up to the newest at the time of the call. It ends at the first error, which it
// yields.
func (r *Reader) Entries(ctx context.Context, from uint64) iter.Seq2[Numbered, error] {
	return func(yield func(Numbered, error) bool) {
		for c, err := range r.Commits(ctx, from) {
			if err != nil {
				yield(Numbered{}, err)
				return
			}
			for _, e := range c.Entries {
				if e.N >= from && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Entry gives one entry. ErrRange where the log has none of this number.
func (r *Reader) Entry(ctx context.Context, n uint64) (Numbered, error) {
	newest, err := r.find(ctx)
	if err != nil {
		return Numbered{}, err
	}
	number, err := r.holding(ctx, n, newest)
	if err != nil {
		return Numbered{}, err
	}
	if number > newest {
		return Numbered{}, fmt.Errorf("log %s: entry %d: %w", r.log, n, ErrRange)
	}
	c, err := r.Commit(ctx, number)
	if err != nil {
		return Numbered{}, err
	}
	if n < c.Header.First || n >= c.end() {
		return Numbered{}, fmt.Errorf("%s: %w: it holds entries %d to %d", c.Key, ErrAltered, c.Header.First, c.end()-1)
	}
	return c.Entries[n-c.Header.First], nil
}

// readAhead is how many commits are read and decoded while one is worked on.
const readAhead = 3

// chain gives the commits first to last and checks that each goes on where the one before ended. A commit that is not there is ErrMissing.
func (r *Reader) chain(ctx context.Context, first, last uint64) iter.Seq2[*Commit, error] {
	numbers := func(yield func(uint64) bool) {
		for n := first; n <= last && yield(n); n++ {
		}
	}
	type read struct {
		commit *Commit
		err    error
	}
	return func(yield func(*Commit, error) bool) {
		var prev *Commit
		for got := range ahead(ctx, numbers, readAhead, func(ctx context.Context, n uint64) read {
			c, err := r.Commit(ctx, n)
			return read{c, err}
		}) {
			c, err := got.commit, got.err
			if err == nil && prev != nil {
				err = c.follows(prev)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			prev = c
			if !yield(c, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(nil, ctx.Err())
		}
	}
}

// ahead calls f for each value of in, n of them at once besides the one that is worked on, and gives the results in order. It ends early
// when ctx does, and has no call under way when it has ended.
func ahead[T, R any](ctx context.Context, in iter.Seq[T], n int, f func(context.Context, T) R) iter.Seq[R] {
	return func(yield func(R) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		queue := make(chan chan R, n)
		wg.Go(func() {
			defer close(queue)
			for v := range in {
				result := make(chan R, 1)
				select {
				case queue <- result:
					wg.Go(func() { result <- f(ctx, v) })
				case <-ctx.Done():
					return
				}
			}
		})
		for result := range queue {
			if !yield(<-result) {
				return
			}
		}
	}
}

// published reads the checkpoint that was last published, or gives nil where there is none that is good: it is derived, and what it says
// can be had from the commits. Only trouble with the store is an error.
func (r *Reader) published(ctx context.Context) (*Checkpoint, error) {
	signed, err := r.read(ctx, checkpointKey(r.log), maxCheckpoint)
	switch {
	case errors.Is(err, object.ErrNotFound), errors.Is(err, ErrAltered):
		return nil, nil
	case err != nil:
		return nil, err
	}
	cp, err := OpenCheckpoint(signed, r.archive, r.log, r.verifier)
	if err != nil {
		return nil, nil
	}
	return &cp, nil
}

// tile reads a tile: the partial one, or where that is gone the full one that took its place. nil where there is neither, or neither has
// its size. It is not verified.
func (r *Reader) tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	full := t
	full.W = tileWidth
	for _, try := range []tlog.Tile{t, full} {
		data, err := r.read(ctx, tileKey(r.log, try), maxTile)
		switch {
		case errors.Is(err, object.ErrNotFound), errors.Is(err, ErrAltered):
		case err != nil:
			return nil, err
		case len(data) == try.W*tlog.HashSize:
			return data[:t.W*tlog.HashSize], nil
		}
	}
	return nil, nil
}

// The most that the derived objects may have, in bytes.
const (
	maxCheckpoint = 4 << 10
	maxTile       = tileWidth * tlog.HashSize
)

// read reads a whole object. ErrAltered where it is larger than such an object can be, or the store itself says that its bytes are not
// those that were written.
func (r *Reader) read(ctx context.Context, key string, limit int) ([]byte, error) {
	body, err := r.store.Open(ctx, key, 0, -1)
	if err == nil {
		var data []byte
		data, err = io.ReadAll(io.LimitReader(body, int64(limit)+1))
		body.Close()
		if err == nil && len(data) > limit {
			err = fmt.Errorf("%w: more than %d bytes", ErrAltered, limit)
		}
		if err == nil {
			return data, nil
		}
	}
	if errors.Is(err, object.ErrMismatch) {
		err = fmt.Errorf("%w: %w", ErrAltered, err)
	}
	return nil, fmt.Errorf("%s: %w", key, err)
}
