package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-archive/holdfast/archive/object"
)

// mark is a place between two commits.
type mark struct{ commit, entry uint64 }

// find gives the number of the newest commit: from one that is known (to this Reader or by the published checkpoint) by doubling steps,
// then by halving them. It rests on commits having no gaps, which Open and Verify check.
func (r *Reader) find(ctx context.Context) (uint64, error) {
	known, err := r.start(ctx)
	if err != nil {
		return 0, err
	}
	step := uint64(1)
	for ; ; step *= 2 {
		there, err := r.exists(ctx, known+step)
		if err != nil {
			return 0, err
		}
		if !there {
			break
		}
		known += step
	}
	for absent := known + step; absent-known > 1; {
		middle := known + (absent-known)/2
		there, err := r.exists(ctx, middle)
		if err != nil {
			return 0, err
		}
		if there {
			known = middle
		} else {
			absent = middle
		}
	}
	r.knows(known)
	return known, nil
}

// start gives a commit that is there.
func (r *Reader) start(ctx context.Context) (uint64, error) {
	r.mu.Lock()
	newest := r.newest
	r.mu.Unlock()
	if newest != nil {
		return *newest, nil
	}
	cp, err := r.published(ctx)
	if err != nil {
		return 0, err
	}
	if cp != nil {
		there, err := r.exists(ctx, cp.Commit)
		if err == nil && !there {
			err = fmt.Errorf("%s: %w: the published checkpoint ends it", CommitKey(r.log, cp.Commit), ErrMissing)
		}
		return cp.Commit, err
	}
	there, err := r.exists(ctx, 0)
	if err == nil && !there {
		err = r.absent(ctx)
	}
	return 0, err
}

// absent says what it means that commit 0 is not there: ErrNoLog, or ErrMissing where there is something of the log.
func (r *Reader) absent(ctx context.Context) error {
	for info, err := range r.store.List(ctx, prefix(r.log), "") {
		if err != nil {
			return fmt.Errorf("log %s: %w", r.log, err)
		}
		return fmt.Errorf("%s: %w: %s is there", CommitKey(r.log, 0), ErrMissing, info.Key)
	}
	return fmt.Errorf("log %s: %w", r.log, ErrNoLog)
}

// knows notes that a commit is there.
func (r *Reader) knows(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newest == nil || *r.newest < n {
		r.newest = &n
	}
}

func (r *Reader) exists(ctx context.Context, n uint64) (bool, error) {
	if n > maxCommit {
		return false, nil
	}
	_, err := r.store.Stat(ctx, CommitKey(r.log, n))
	if errors.Is(err, object.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("log %s: %w", r.log, err)
	}
	return true, nil
}

// holding gives the commit that holds an entry, newest+1 where none does yet.
func (r *Reader) holding(ctx context.Context, entry, newest uint64) (uint64, error) {
	r.mu.Lock()
	at := r.mark
	r.mu.Unlock()
	if at.entry > entry {
		at = mark{}
	}
	if at.entry == entry {
		return at.commit, nil
	}
	// low is at most the answer; high is one that ends after the entry, or newest+1.
	low, high := at.commit, newest+1
	for probe, step := low, uint64(1); low < high; {
		end, err := r.peek(ctx, probe)
		if err != nil {
			return 0, err
		}
		if end > entry {
			high = probe
		} else {
			low = probe + 1
		}
		if high == newest+1 {
			probe, step = min(low+step-1, newest), step*2
		} else {
			probe = low + (high-low)/2
		}
	}
	return low, nil
}

// peek gives the number of the entry after a commit's last, on the word of its header alone: whoever acts on it reads the commit.
func (r *Reader) peek(ctx context.Context, n uint64) (uint64, error) {
	key := CommitKey(r.log, n)
	data, err := r.read(ctx, key, maxObject)
	if errors.Is(err, object.ErrNotFound) {
		return 0, fmt.Errorf("%s: %w", key, ErrMissing)
	} else if err != nil {
		return 0, err
	}
	h, _, _, err := decodeHeader(data)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", key, err)
	}
	return h.First + uint64(h.Count), nil
}
