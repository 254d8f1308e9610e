package object

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Report is what Probe found out.
type Report struct {
	Checksums bool     // a body that does not have the SHA-256 it came with is refused
	WORM      bool     // locks were tried, and everything that they forbid was refused
	Tried     []string // what was tried on locked objects, in words: all of it is forbidden
	Weak      []string // what of that the store let happen
	Leftovers []string // throwaway objects that could not be deleted, and why
}

const probePrefix = "probe/"

// probeAge is when what an earlier probe left may go: no probe runs that long.
const probeAge = time.Hour

// Probe tries on throwaway objects under probe/ whether a store does what the archive rests on. It is an error, ErrUnsupported, where it
// does not: where a second writer of a key is not refused, where ranges are wrong, where objects are to be locked and the bucket can't,
// and with RequireWORM where a lock does not hold. Locks are tried only when c asks for them, which takes some seconds and leaves one or two
// locked objects of one byte for a minute; later probes delete them. A store that lets the versions of its bucket be suspended has them
// suspended for a moment, so no other node should be writing to it when it is probed for the first time.
func Probe(ctx context.Context, k Keeper, c Config) (Report, error) {
	if i, ok := k.(*instrumented); ok {
		k = i.Keeper // what fails here on purpose is no error
	}
	p := probe{Keeper: k, run: probePrefix + strings.ToLower(rand.Text())}
	p.removeOld(ctx)
	if err := p.tryWrites(ctx); err != nil {
		return p.Report, fmt.Errorf("probe: %w", err)
	}
	if err := p.tryChecksum(ctx); err != nil {
		return p.Report, fmt.Errorf("probe: %w", err)
	}
	if c.Lock() != LockNone {
		if err := p.tryLocks(ctx, c.Lock()); err != nil {
			return p.Report, fmt.Errorf("probe: %w", err)
		}
	}
	if c.RequireWORM && !p.WORM {
		return p.Report, fmt.Errorf("probe: archive.require_worm: true, but the store does not keep what is locked: %s: %w",
			strings.Join(p.Weak, "; "), ErrUnsupported)
	}
	return p.Report, nil
}

type probe struct {
	Keeper
	Report
	run  string        // what the keys of this probe begin with
	skew time.Duration // by which the store's clock is ahead, to about a second
}

var errNotConditional = fmt.Errorf("the store has no conditional writes (If-None-Match): two writers would overwrite each other; "+
	"archive.single_writer: true does without, if this node is the only writer: %w", ErrUnsupported)

func (p *probe) tryWrites(ctx context.Context) error {
	key := p.run + "-create"
	defer p.remove(ctx, key)
	create := func(body string) error {
		_, err := p.Create(ctx, key, strings.NewReader(body), Lock{})
		return err
	}
	bodies := [4]string{"first", "second", "third", "fourth"}
	var errs [len(bodies)]error
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() { errs[i] = create(bodies[i]) })
	}
	wg.Wait()
	winner := ""
	for i, err := range errs {
		switch {
		case err == nil && winner != "":
			return errNotConditional
		case err == nil:
			winner = bodies[i]
		case !errors.Is(err, ErrConflict):
			if errors.Is(err, ErrUnsupported) {
				return fmt.Errorf("%w: %w", errNotConditional, err)
			}
			return fmt.Errorf("create: %w", err)
		}
	}
	if winner == "" {
		return fmt.Errorf("of %d writers of one key none succeeded: %w", len(bodies), errors.Join(errs[:]...))
	}
	if err := create(winner); err != nil {
		return fmt.Errorf("create again with the same bytes: %w", err)
	}
	if err := create("other"); err == nil {
		return errNotConditional
	} else if !errors.Is(err, ErrConflict) {
		return fmt.Errorf("create again with other bytes: %w", err)
	}
	return p.tryRead(ctx, key, winner)
}

// tryRead reads a part from the middle, and what is beyond the end.
func (p *probe) tryRead(ctx context.Context, key, body string) error {
	r, err := p.Open(ctx, key, 1, 3)
	if err != nil {
		return fmt.Errorf("read a range: %w", err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read a range: %w", err)
	}
	if string(got) != body[1:4] {
		return fmt.Errorf("read a range: %q, want %q: %w", got, body[1:4], ErrMismatch)
	}
	if r, err := p.Open(ctx, key, 1, int64(len(body))); err == nil {
		r.Close()
		return fmt.Errorf("the store gives a range beyond the end of the object: %w", ErrUnsupported)
	} else if !errors.Is(err, ErrRange) {
		return fmt.Errorf("read beyond the end: %w", err)
	}
	return nil
}

// tryChecksum sends a body that was damaged on the way. A store that takes it is used all the same, and it is reported: what was damaged
// comes to light when it is read.
func (p *probe) tryChecksum(ctx context.Context) error {
	d, ok := p.Keeper.(interface {
		putDamaged(ctx context.Context, key string) error
	})
	if !ok {
		return nil
	}
	key := p.run + "-damaged"
	defer p.remove(ctx, key)
	err := d.putDamaged(ctx, key)
	p.Checksums = err != nil && (errors.Is(err, ErrMismatch) || status(err)/100 == 4)
	if err != nil && !p.Checksums {
		return fmt.Errorf("write with a wrong checksum: %w", err)
	}
	return nil
}

// remove destroys a throwaway object, and nothing else. It is the one place outside the disposers that can.
func (p *probe) remove(ctx context.Context, key string) {
	err := fmt.Errorf("%s: %w", key, ErrKey)
	if strings.HasPrefix(key, probePrefix) {
		err = fmt.Errorf("%s: %w", key, ErrUnsupported)
		if d, ok := p.Keeper.(interface {
			destroy(ctx context.Context, key string) error
		}); ok {
			err = d.destroy(ctx, key)
		}
	}
	if err != nil {
		p.Leftovers = append(p.Leftovers, err.Error())
	}
}

// removeOld removes what earlier probes had to leave, such as what was locked then. What resists stays for the next one.
func (p *probe) removeOld(ctx context.Context) {
	for info, err := range p.List(ctx, probePrefix, "") {
		if err != nil {
			return
		}
		if time.Since(info.Time) > probeAge {
			p.remove(ctx, info.Key)
		}
	}
}
