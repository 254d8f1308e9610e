package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
)

// What Descends says of a checkpoint that the log of today does not hold.
var (
	ErrRolledBack = errors.New("the ledger was set back")
	ErrForked     = errors.New("the ledger was rewritten")
)

// Descends holds checkpoints that were kept elsewhere against the log of today: each must be, byte for byte, that of the commit that it
// names, and the tree of today must hold its tree unaltered and in its place (RFC 6962 section 2.1.2). judge is told of each that is not so,
// from one goroutine at a time: ErrRolledBack for one that is ahead of the log, ErrForked for one of another history, ErrAltered or
// ErrMissing where its commit can't be read. The checkpoints must have been opened, with the key of this log, and be of this log.
// An error of Descends itself means that it could not tell.
func (r *Reader) Descends(ctx context.Context, earlier []Checkpoint, judge func(i int, err error)) (Head, error) {
	head, err := r.Newest(ctx)
	if err != nil {
		return Head{}, err
	}
	faults := make([]error, len(earlier))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range earlier {
		group.Go(func() (err error) {
			faults[i], err = r.standsIn(within, &earlier[i], &head)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Head{}, err
	}
	if err := r.holds(ctx, earlier, faults, &head); err != nil {
		return Head{}, err
	}
	for i, err := range faults {
		if err != nil {
			judge(i, err)
		}
	}
	return head, nil
}

// standsIn compares a checkpoint with the commit that it names.
func (r *Reader) standsIn(ctx context.Context, cp *Checkpoint, head *Head) (fault, err error) {
	if cp.Commit > head.Commit || cp.Size > head.Size {
		return fmt.Errorf("%w: log %s has %d entries in commits up to %d, and had %d in commits up to %d", ErrRolledBack, r.log, head.Size, head.Commit,
			cp.Size, cp.Commit), nil
	}
	c, err := r.Commit(ctx, cp.Commit)
	switch {
	case err != nil && isFinding(err):
		return err, nil
	case err != nil:
		return nil, err
	case !bytes.Equal(c.Checkpoint.Note, cp.Note):
		return fmt.Errorf("%w: %s is not the commit that was there: it signs %d entries with root %s, and did %d with root %s", ErrForked, c.Key,
			c.Checkpoint.Size, c.Checkpoint.Root, cp.Size, cp.Root), nil
	}
	return nil, nil
}

// holds proves that the tree of the head holds those of the checkpoints which stand in their commits: by the tiles, or where these are not
// good by one walk through all commits.
func (r *Reader) holds(ctx context.Context, earlier []Checkpoint, faults []error, head *Head) error {
	v, err := r.viewOf(ctx, head.Size)
	if err != nil {
		return err
	}
	if v.Size == head.Size && v.Root != head.Root {
		return fmt.Errorf("log %s: %w: two trees of %d entries", r.log, ErrAltered, head.Size)
	}
	for i := range earlier {
		cp := &earlier[i]
		if faults[i] != nil || cp.Size == 0 {
			continue
		}
		if v.tiled == nil {
			return r.walk(ctx, earlier, faults, head)
		}
		proof, err := tlog.ProveTree(int64(v.Size), int64(cp.Size), v.tiled)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return r.walk(ctx, earlier, faults, head)
		}
		if err := tlog.CheckTree(proof, int64(v.Size), v.Root, int64(cp.Size), cp.Root); err != nil {
			faults[i] = fmt.Errorf("%w: the tree of %d entries of log %s does not hold the one of %d with root %s", ErrForked, v.Size, r.log, cp.Size, cp.Root)
		}
	}
	return nil
}

// walk goes through the chain of commits: what stands in one of them was the tree then, and each was written on top of the one before.
func (r *Reader) walk(ctx context.Context, earlier []Checkpoint, faults []error, head *Head) error {
	want := map[uint64][]int{}
	for i := range earlier {
		if faults[i] == nil {
			want[earlier[i].Commit] = append(want[earlier[i].Commit], i)
		}
	}
	for c, err := range r.chain(ctx, 0, head.Commit) {
		if err != nil {
			return err
		}
		for _, i := range want[c.Header.Commit] {
			if c.Checkpoint.Root != earlier[i].Root {
				faults[i] = fmt.Errorf("%w: %s", ErrForked, c.Key)
			}
		}
	}
	return nil
}
