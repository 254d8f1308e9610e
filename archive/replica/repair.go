package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Powers are what Repair needs beside what a Replicator has.
type Powers struct {
	Mend   object.Mender   // of the archive's store
	Lock   object.LockMode // of what is put into it
	MendTo object.Mender   // of that of the second copy
	// Tail lets commits come back that are at the end of a log and that the archive has lost. Nobody may be writing to the logs.
	Tail     bool
	Progress func(done uint64) // packs looked at; nil: nobody is told
}

// One of the two copies.
const (
	inArchive = "archive"
	inReplica = "replica"
)

// Repair reads both copies whole and puts right in each what is altered or missing there and well in the other: by the ledger, whose every
// commit is signed and names the one before. What a tombstone names stays gone. What is well is never written over, and what is damaged in
// both is a fault.
func (r *Replicator) Repair(ctx context.Context, p Powers) (*Report, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	defer r.end()
	if p.Progress == nil {
		p.Progress = func(uint64) {}
	}
	m := &mender{Replicator: r, Powers: p, report: Report{Repaired: []Mended{}, Faults: []Fault{}}}
	err := m.run(ctx)
	m.report.OK = len(m.report.Faults) == 0
	return &m.report, err
}

type mender struct {
	*Replicator
	Powers

	mu     sync.Mutex
	report Report // guarded by mu
	seen   uint64 // guarded by mu: packs
}

func (m *mender) fault(key, format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	what := fmt.Errorf(format, args...)
	m.report.Faults = append(m.report.Faults, Fault{key, what.Error()})
	m.Log.Error("an object can't be repaired", "object", key, "err", what)
}

func (m *mender) run(ctx context.Context) error {
	if err := m.open(ctx); err != nil {
		return err
	}
	logs, err := ledger.Logs(ctx, m.Store)
	if err != nil {
		return err
	}
	more, err := ledger.Logs(ctx, m.to)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, log := range append(logs, more...) {
		if known[log] {
			continue
		}
		known[log] = true
		if err := m.log(ctx, log); err != nil {
			return fmt.Errorf("log %s: %w", log, err)
		}
	}
	return m.others(ctx)
}

// others brings back anchors and state that the archive has lost.
func (m *mender) others(ctx context.Context) error {
	from, to := &side{name: inReplica, store: m.to}, &side{name: inArchive, store: m.Store}
	for _, prefix := range []string{"anchors/", "state/"} {
		list, err := keys(ctx, m.to, prefix)
		if err != nil {
			return err
		}
		for _, key := range list {
			if _, err := m.Store.Stat(ctx, key); err == nil {
				continue
			} else if !errors.Is(err, object.ErrNotFound) {
				return err
			}
			text, err := read(ctx, m.to, key)
			if err == nil {
				err = m.mend(ctx, from, to, key, record.Sum(text), object.ErrNotFound)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// side is a log in one of the copies.
type side struct {
	name   string
	store  Store
	reader *ledger.Reader
	end    uint64 // the number after that of its newest commit object
}

// log repairs a log: first its commits, so that all tombstones are there, then the packs that they name, then what is derived.
func (m *mender) log(ctx context.Context, log string) error {
	sides := [2]*side{{name: inArchive, store: m.Store}, {name: inReplica, store: m.to}}
	for _, s := range sides {
		var err error
		if s.reader, err = m.reader(s.store, log); err != nil {
			return err
		}
		list, err := keys(ctx, s.store, "ledger/"+log+"/commit/")
		if err != nil {
			return err
		}
		for n := len(list); n > 0 && s.end == 0; n-- { // names that no commit has come after them in no order
			s.end = after(log, list[n-1])
		}
		// What is published tells of a commit too that is gone.
		signed, err := read(ctx, s.store, "ledger/"+log+"/checkpoint")
		if err == nil {
			if cp, err := ledger.OpenCheckpoint(signed, m.Archive, log, m.Verifier); err == nil {
				s.end = max(s.end, cp.Commit+1)
			}
		} else if !errors.Is(err, object.ErrNotFound) {
			return err
		}
	}
	end := max(sides[0].end, sides[1].end)
	var last *ledger.Commit
	for n := uint64(0); n < end; n++ {
		c, err := m.commit(ctx, log, n, last, sides)
		if err != nil {
			return err
		}
		last = c
	}
	graves := map[string]record.Digest{}
	err := m.each(ctx, end, sides, func(c *ledger.Commit) error {
		for i := range c.Entries {
			if g := c.Entries[i].Entry.Gone; g != nil {
				graves[g.Pack] = g.PackSHA256
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = m.each(ctx, end, sides, func(c *ledger.Commit) error {
		if c.Header.Commit >= sides[1].end {
			return nil // not copied yet: that is no damage
		}
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(copiers)
		for key, sum := range packs(c) {
			if graves[key] != sum {
				group.Go(func() error { return m.pack(gctx, log, key, sum, sides) })
			}
		}
		return group.Wait()
	})
	if err != nil {
		return err
	}
	for i, s := range sides {
		if err := m.derived(ctx, log, s, sides[1-i]); err != nil {
			return err
		}
	}
	return nil
}

// after is the number after that of a commit's key; 0: it is none.
func after(log, key string) uint64 {
	var n uint64
	if _, err := fmt.Sscanf(strings.TrimPrefix(key, "ledger/"+log+"/commit/"), "%d", &n); err != nil || ledger.CommitKey(log, n) != key {
		return 0
	}
	return n + 1
}

// commit looks at one commit on both sides and gives it, or nil where it is good on neither.
func (m *mender) commit(ctx context.Context, log string, n uint64, last *ledger.Commit, sides [2]*side) (*ledger.Commit, error) {
	key := ledger.CommitKey(log, n)
	var good [2]*ledger.Commit
	var why [2]error
	for i, s := range sides {
		c, err := s.reader.Commit(ctx, n)
		switch {
		case err == nil && last != nil && c.Header.Commit == last.Header.Commit+1 && c.Header.Previous != last.SHA256:
			why[i] = fmt.Errorf("%s: %w: it was written after other bytes than those of the commit before", key, ledger.ErrAltered)
		case err == nil:
			good[i] = c
		case isFault(err):
			why[i] = err
		default:
			return nil, err
		}
	}
	switch {
	case good[0] != nil && good[1] != nil && !bytes.Equal(good[0].Checkpoint.Note, good[1].Checkpoint.Note):
		return nil, fmt.Errorf("%w: %s is signed in both, and differs", ErrOther, key)
	case good[0] != nil && good[1] != nil && good[0].SHA256 == good[1].SHA256:
		return good[0], nil
	case good[0] != nil && n >= sides[1].end: // not copied yet
		return good[0], nil
	case good[0] != nil:
		return good[0], m.mend(ctx, sides[0], sides[1], key, good[0].SHA256, why[1])
	case good[1] != nil && n >= sides[0].end && !m.Tail:
		m.fault(key, "the end of log %s is lost in the archive, from commit %d on, and is in the second copy: stop the server and repair again", log, n)
		return good[1], nil
	case good[1] != nil:
		sides[0].end = max(sides[0].end, n+1)
		return good[1], m.mend(ctx, sides[1], sides[0], key, good[1].SHA256, why[0])
	}
	m.fault(key, "it is good in neither copy: %w", errors.Join(why[:]...))
	return nil, nil
}

// each gives the commits, from the side where they are good.
func (m *mender) each(ctx context.Context, end uint64, sides [2]*side, do func(*ledger.Commit) error) error {
	for n := uint64(0); n < end; n++ {
		for i, s := range sides {
			c, err := s.reader.Commit(ctx, n)
			if err == nil {
				err = do(c)
			} else if isFault(err) {
				if i == 0 {
					continue
				}
				err = nil // named already
			}
			if err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// pack looks at one pack on both sides.
func (m *mender) pack(ctx context.Context, log, key string, sum record.Digest, sides [2]*side) error {
	m.mu.Lock()
	m.seen++
	n := m.seen
	m.mu.Unlock()
	m.Progress(n)
	var why [2]error
	for i, s := range sides {
		err := readBack(ctx, s.store, key, sum)
		if err != nil && !errors.Is(err, object.ErrNotFound) && !errors.Is(err, object.ErrMismatch) {
			return err
		}
		why[i] = err
	}
	switch {
	case why[0] == nil && why[1] == nil:
		return nil
	case why[0] != nil && why[1] != nil:
		m.fault(key, "log %s names it, and it is good in neither copy: %w", log, errors.Join(why[:]...))
		return nil
	}
	m.copying.RLock()
	defer m.copying.RUnlock()
	g, err := m.freshGraves(log)
	if err != nil {
		return err
	}
	if gone, err := g.Gone(ctx, key, sum); gone || err != nil && !isFault(err) {
		return err // destroyed since this began
	}
	if why[0] == nil {
		return m.mend(ctx, sides[0], sides[1], key, sum, why[1])
	}
	return m.mend(ctx, sides[1], sides[0], key, sum, why[0])
}

func (m *mender) freshGraves(log string) (*ledger.Graves, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gravesOf(log)
}

// derived puts right tiles and checkpoint of one side where the other's are well and not ahead.
func (m *mender) derived(ctx context.Context, log string, s, other *side) error {
	if other.end > s.end {
		return nil
	}
	bad, err := findings(ctx, s)
	if err != nil {
		return err
	}
	worse, err := findings(ctx, other)
	if err != nil {
		return err
	}
	tiles, err := keys(ctx, other.store, "ledger/"+log+"/tile/")
	if err != nil {
		return err
	}
	for _, key := range tiles {
		if worse[key] != nil {
			continue
		}
		if bad[key] == nil {
			_, err := s.store.Stat(ctx, key)
			if err == nil {
				continue
			} else if !errors.Is(err, object.ErrNotFound) {
				return err
			}
			bad[key] = err
		}
		text, err := read(ctx, other.store, key)
		if err == nil {
			err = m.mend(ctx, other, s, key, record.Sum(text), bad[key])
		}
		if err != nil {
			return err
		}
	}
	return m.checkpoint(ctx, log, s, other, bad, worse)
}

// checkpoint puts right the checkpoint of one side, after its tiles.
func (m *mender) checkpoint(ctx context.Context, log string, s, other *side, bad, worse map[string]error) error {
	key := "ledger/" + log + "/checkpoint"
	if worse[key] != nil {
		return nil
	}
	if bad[key] == nil {
		_, err := s.store.Stat(ctx, key)
		if !errors.Is(err, object.ErrNotFound) {
			return err
		}
		bad[key] = err
	}
	text, err := read(ctx, other.store, key)
	if errors.Is(err, object.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = s.store.Replace(ctx, key, text)
	}
	if err == nil {
		m.mended(s.name, key, bad[key])
	}
	return err
}

// findings are what a verification of a log finds altered or missing.
func findings(ctx context.Context, s *side) (map[string]error, error) {
	bad := map[string]error{}
	_, err := s.reader.Verify(ctx, func(*ledger.Commit) error { return nil }, func(f ledger.Finding) {
		if f.Kind == ledger.Altered || f.Kind == ledger.Missing {
			bad[f.Key] = f.Err
		}
	})
	if errors.Is(err, ledger.ErrNoLog) {
		err = nil
	}
	return bad, err
}

// mend puts the bytes that one side has in the place of what the other has.
func (m *mender) mend(ctx context.Context, from, to *side, key string, sum record.Digest, why error) error {
	b, err := stage(ctx, from.store, key)
	if err != nil {
		return err
	}
	defer b.Close()
	power, mode := m.Mend, m.Lock
	if to.name == inReplica {
		power, mode = m.MendTo, m.Config.Lock()
	}
	lock := object.Lock{}
	if !strings.Contains(key, "/tile/") {
		lock = lockOf(mode, key, m.Now())
	}
	if err := power.Mend(ctx, key, b, sum, lock); err != nil {
		return err
	}
	if err := readBack(ctx, to.store, key, sum); err != nil {
		return err
	}
	m.mended(to.name, key, why)
	return nil
}

func (m *mender) mended(store, key string, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := "not what it was"
	if why != nil {
		was = why.Error()
	}
	m.report.Repaired = append(m.report.Repaired, Mended{store, key, was})
	m.Log.Warn("repaired", "store", store, "object", key, "was", was)
}
