package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-archive/holdfast/archive/object"
)

// FindingKind says what is to be said of an object.
type FindingKind string

// The kinds of finding. Altered and Missing are faults.
const (
	Altered FindingKind = "altered" // it does not hold what was signed, or what follows from it
	Missing FindingKind = "missing" // it must have been there
	Behind  FindingKind = "behind"  // derived, and not yet published: no fault
	Unknown FindingKind = "unknown" // no object of a ledger
)

// Finding names one object.
type Finding struct {
	Kind FindingKind
	Key  string
	Err  error // what it is about, in words
}

// Summary is what a verification has read.
type Summary struct {
	Commits uint64 // good ones
	Entries uint64 // in these
	Bytes   int64  // of all objects read
	Head    Head   // after the last good commit
	Pending [][2]uint64
}

// Verify reads every object of the log and checks all that can be checked: that commits are numbered without a gap and each was written
// after the very bytes before it, that entries are canonical and have the tree that was signed, and that every tile and the checkpoint,
// superseded partial tiles too, are byte for byte what the commits say. It goes on after a finding, beside a running writer too, writes
// nothing, and holds no more than a few commits and the list of tiles.
//
// Good commits are handed to commit in order, up to one that returns an error, which ends it all. Findings are handed to found, from one
// goroutine at a time, in no order. An error of Verify itself means that it could not tell; ErrNoLog, that there is nothing under the
// log's prefix.
func (r *Reader) Verify(ctx context.Context, commit func(*Commit) error, found func(Finding)) (Summary, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	v := &verification{Reader: r, group: group, found: found}
	err := v.run(ctx, commit)
	// What a finished group says comes first: it is what has cancelled ctx.
	if err := cmp.Or(group.Wait(), err); err != nil {
		return v.sum, fmt.Errorf("verify log %s: %w", r.log, err)
	}
	return v.sum, nil
}

type verification struct {
	*Reader
	group *errgroup.Group // reads tiles

	mu    sync.Mutex
	found func(Finding) // guarded by mu
	sum   Summary       // guarded by mu: Bytes; the rest belongs to run

	// The published checkpoint, nil where it is absent or not authentic; what is published is judged by its size, or where that is not
	// known by all that there is.
	checkpoint    *Checkpoint
	hasCheckpoint bool
	published     uint64
	tiles         []tlog.Tile // that are there, by level, number and width

	edge   edge
	next   uint64  // number of the commit that must come now
	last   *Commit // the one before, nil where it was not good
	good   uint64  // number of the last good commit and one
	broken bool    // the one before was not good
}

func (v *verification) report(kind FindingKind, key string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found(Finding{kind, key, err})
}

func (v *verification) read(ctx context.Context, key string, limit int) ([]byte, error) {
	data, err := v.Reader.read(ctx, key, limit)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sum.Bytes += int64(len(data))
	return data, err
}

// run reads first the checkpoint, then the list of tiles, then the commits: so the commits are not behind what is derived from them, even
// while a writer is at work.
func (v *verification) run(ctx context.Context, commit func(*Commit) error) error {
	if err := v.readCheckpoint(ctx); err != nil {
		return err
	}
	if err := v.listTiles(ctx); err != nil {
		return err
	}
	// A commit that is not there now, and later is, came after all that was listed: to follow a busy writer might never end.
	end := uint64(math.MaxUint64)
	newest, err := v.find(ctx)
	if err == nil {
		end = newest + 1
	} else if !errors.Is(err, ErrNoLog) && !errors.Is(err, ErrMissing) {
		return err
	}
	for got := range ahead(ctx, v.commitKeys(ctx, end), readAhead, func(ctx context.Context, k listed) listed {
		if k.err == nil {
			k.commit, k.err = v.Commit(ctx, k.number)
		}
		return k
	}) {
		if got.err != nil && !isFinding(got.err) {
			return got.err
		}
		if err := v.step(ctx, got, commit); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return v.finish(ctx)
}

// isFinding tells what is wrong with an object from what is wrong with the way to it.
func isFinding(err error) bool {
	for _, target := range []error{ErrAltered, ErrMissing, ErrKey, ErrForeign} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func (v *verification) readCheckpoint(ctx context.Context) error {
	key := checkpointKey(v.log)
	v.published = math.MaxUint64
	data, err := v.read(ctx, key, maxCheckpoint)
	if errors.Is(err, object.ErrNotFound) {
		return nil
	}
	v.hasCheckpoint = true
	if err == nil {
		var cp Checkpoint
		if cp, err = OpenCheckpoint(data, v.archive, v.log, v.verifier); err == nil {
			v.checkpoint, v.published = &cp, cp.Size
			return nil
		}
	}
	if !isFinding(err) {
		return err
	}
	v.report(Altered, key, err)
	return nil
}

// listed is a commit's key, and what became of reading it.
type listed struct {
	number uint64
	commit *Commit
	err    error
}

// commitKeys lists the commits, and stops at one of number end.
func (v *verification) commitKeys(ctx context.Context, end uint64) iter.Seq[listed] {
	return func(yield func(listed) bool) {
		for info, err := range v.store.List(ctx, commitPrefix(v.log), "") {
			if err != nil {
				yield(listed{err: err})
				return
			}
			n, ok := parseCommitKey(v.log, info.Key)
			if !ok {
				v.report(Unknown, info.Key, errors.New("no object of a ledger"))
			} else if n == end || !yield(listed{number: n}) {
				return
			}
		}
	}
}

// step takes in one commit object that was listed.
func (v *verification) step(ctx context.Context, got listed, visit func(*Commit) error) error {
	if got.number > v.next {
		v.missing(v.next, got.number-1, fmt.Errorf("commit %d is there", got.number))
	}
	v.next = got.number + 1
	if got.err != nil {
		kind := Altered
		if errors.Is(got.err, ErrMissing) {
			kind = Missing // listed, and gone when it was read
		}
		v.report(kind, CommitKey(v.log, got.number), got.err)
		v.broken = true
		return nil
	}
	c := got.commit
	if !v.fits(ctx, c) {
		return nil
	}
	if cp := v.checkpoint; cp != nil && cp.Commit == got.number && !bytes.Equal(cp.Note, c.Checkpoint.Note) {
		v.report(Altered, checkpointKey(v.log), fmt.Errorf("%w: it is not the one of commit %d", ErrAltered, got.number))
	}
	for _, leaf := range c.leaves {
		v.edge.add(leaf, func(t tlog.Tile, hashes []tlog.Hash) { v.full(ctx, t, hashes) })
	}
	v.good, v.broken, v.last = v.next, false, c
	v.mu.Lock()
	v.sum.Commits++
	v.sum.Entries += uint64(len(c.leaves))
	v.sum.Bytes += c.Size
	v.mu.Unlock()
	v.sum.Head, v.sum.Pending = c.head(), c.Header.Pending
	return visit(c)
}

// missing names the commits from first to last. Of very many it names the first ones and the last.
func (v *verification) missing(first, last uint64, why error) {
	const most = 10000
	for n := first; n <= last && n-first < most; n++ {
		v.report(Missing, CommitKey(v.log, n), why)
	}
	if last-first >= most {
		v.report(Missing, CommitKey(v.log, last), fmt.Errorf("and all from commit %d on: %w", first, why))
	}
	v.broken = true
}

// fits checks an authentic commit against those before it, and where these are not good makes room for their entries, which are not known.
func (v *verification) fits(ctx context.Context, c *Commit) bool {
	if v.last != nil && !v.broken {
		if err := c.follows(v.last); err != nil {
			v.report(Altered, v.last.Key, err)
		}
	}
	first, lost := c.Header.First, c.Header.Commit-v.good
	if first < v.edge.size || first-v.edge.size > lost*MaxBatch {
		v.report(Altered, c.Key, fmt.Errorf("%w: begins at entry %d, after %d commits that end at %d", ErrAltered, first, v.good, v.edge.size))
		v.broken = true
		return false
	}
	for v.edge.size < first {
		v.edge.add(tlog.Hash{}, func(t tlog.Tile, hashes []tlog.Hash) { v.full(ctx, t, hashes) })
	}
	return true
}

// finish checks what the commits have not filled, and whether what is derived knows of commits that are not there.
func (v *verification) finish(ctx context.Context) error {
	if v.next == 0 && !v.hasCheckpoint && len(v.tiles) == 0 {
		return ErrNoLog
	}
	cut := v.broken // the end of the log was not good: nothing is known of what comes after
	if cp := v.checkpoint; cp != nil && cp.Commit >= v.next {
		v.missing(v.next, cp.Commit, fmt.Errorf("the published checkpoint ends commit %d", cp.Commit))
		cut = true
	} else if cp != nil && cp.Commit+1 < v.good {
		v.report(Behind, checkpointKey(v.log), fmt.Errorf("of commit %d, the newest is %d", cp.Commit, v.good-1))
	} else if !v.hasCheckpoint && v.next == 1 {
		v.report(Behind, checkpointKey(v.log), errors.New("not yet published"))
	} else if !v.hasCheckpoint {
		v.report(Missing, checkpointKey(v.log), errors.New("commits are there"))
	}
	if cp := v.checkpoint; cp != nil {
		v.checkpointTiles(cp)
	}
	for rest := v.tiles; len(rest) > 0; {
		t := rest[0]
		same := v.widths(t)
		rest = rest[len(same):]
		have := v.edge.size >> (tileHeight * t.L) // hashes of this level
		if uint64(t.N) < have>>tileHeight {
			continue // it was full
		}
		var known []tlog.Hash
		if uint64(t.N) == have>>tileHeight && t.L < len(v.edge.levels) {
			known = v.edge.levels[t.L]
		}
		covered := same[:len(same):len(same)]
		for len(covered) > 0 && covered[len(covered)-1].W > len(known) {
			covered = covered[:len(covered)-1]
		}
		v.compare(ctx, covered, known)
		if len(covered) < len(same) && !cut {
			v.missing(v.next, v.next, fmt.Errorf("%s holds more than the commits", tileKey(v.log, same[len(same)-1])))
			cut = true
		}
	}
	return nil
}
