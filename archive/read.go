package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// packReaders keeps readers of the packs that were read last: each has looked at its pack's beginning and, where encrypted, its end.
type packReaders struct {
	store      Store
	identities []age.Identity
	damaged    func(e *record.Entry, err error) // told of every record that was not what its entry says

	mu   sync.Mutex
	open map[string]*pack.Reader
	used []string // keys in open, the one opened last at the end
}

const maxReaders = 64

// record reads one record from where its entry says it is, and checks it. Bytes are trusted by their digest, not by their place: where the
// object is not what it was, or hidden behind a delete marker, its other versions are tried, and the alarm is raised all the same.
func (p *packReaders) record(ctx context.Context, e *record.Entry) (*record.Item, error) {
	r, err := p.reader(ctx, e.Pack)
	var it *record.Item
	if err == nil {
		it, err = readChecked(ctx, r, e)
	}
	if err == nil || !isDamage(err) {
		return it, err
	}
	p.damaged(e, err)
	versions, verr := p.store.Versions(ctx, e.Pack)
	if verr != nil {
		return nil, err
	}
	for _, v := range versions {
		if v.Marker {
			continue
		}
		source := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
			return p.store.OpenVersion(ctx, e.Pack, v.Version, off, n)
		}
		if r, verr := pack.Open(ctx, source, v.Size, p.identities...); verr == nil {
			if it, verr := readChecked(ctx, r, e); verr == nil {
				return it, nil
			}
		}
	}
	return nil, err
}

// isDamage tells a pack that is not what it was from one that can't be reached or opened.
func isDamage(err error) bool {
	return isFault(err) || errors.Is(err, pack.ErrNotFound) || errors.Is(err, ErrAltered) || errors.Is(err, object.ErrNotFound)
}

// checkedAtOnce is up to how many bytes a message is read and hashed before any of it is shown. A larger one is hashed while it is read.
const checkedAtOnce = 1 << 20

func readChecked(ctx context.Context, r *pack.Reader, e *record.Entry) (*record.Item, error) {
	name := ""
	if e.Holds() == record.KindSupplement {
		name = e.Name
	}
	got, err := r.Read(ctx, pack.Place{Frame: e.Frame, Length: e.Length}, e.ID, name)
	if err != nil {
		return nil, err
	}
	it, err := got.Item()
	if err != nil {
		return nil, err
	}
	it.Seq = e.Seq
	if got.MessageSize() <= checkedAtOnce {
		seal, err := got.Seal()
		if err != nil {
			return nil, err
		}
		if seal != e.Seal {
			return nil, fmt.Errorf("%s %s: seal %s, the ledger has %s: %w", e.Kind, e.ID, seal, e.Seal, ErrAltered)
		}
	}
	return it, matches(e, it)
}

func (p *packReaders) reader(ctx context.Context, key string) (*pack.Reader, error) {
	p.mu.Lock()
	r := p.open[key]
	p.mu.Unlock()
	if r != nil {
		return r, nil
	}
	info, err := p.store.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	r, err = pack.Open(ctx, func(ctx context.Context, off, n int64) (io.ReadCloser, error) { return p.store.Open(ctx, key, off, n) }, info.Size, p.identities...)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key] == nil {
		if len(p.used) >= maxReaders {
			delete(p.open, p.used[0])
			p.used = p.used[1:]
		}
		p.open[key] = r
		p.used = append(p.used, key)
	}
	return r, nil
}

// entry reads the ledger entry of a place.
func (a *Archive) entry(ctx context.Context, p place) (*record.Entry, error) {
	r, err := a.reader(p.Log)
	if err != nil {
		return nil, err
	}
	e, err := r.Entry(ctx, p.Number)
	return &e.Entry, err
}

// reader gives a reader of a log: of this node's own the one that also writes it.
func (a *Archive) reader(log string) (*ledger.Reader, error) {
	if log == a.log.Name() {
		return a.log.Reader, nil
	}
	return ledger.NewReader(ledger.Config{Store: a.store, Log: log, Archive: a.init.Archive, Verifier: a.keys.verifierKey})
}

// firstEntry gives the number of the entry by which a record came into the archive.
func (a *Archive) firstEntry(ctx context.Context, p place) (uint64, error) {
	for n, moved := p.Number, p.Moved; ; {
		if !moved {
			return n, nil
		}
		e, err := a.entry(ctx, place{Log: p.Log, Number: n})
		if err != nil {
			return 0, err
		}
		if moved = e.Moved != nil; moved {
			n = e.Moved.Entry
		}
	}
}

// Proof gives the C2SP tlog-proof of a record's entry, with the newest checkpoint. ErrPending where it is not committed yet.
func (a *Archive) Proof(ctx context.Context, id record.ID) ([]byte, error) {
	p, ok, err := a.catalog.find(id, "")
	if err != nil {
		return nil, err
	}
	if !ok {
		if _, err := a.fetchPending(ctx, id); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", id, ErrPending)
	}
	r, err := a.reader(p.Log)
	if err != nil {
		return nil, err
	}
	first, err := a.firstEntry(ctx, p)
	if err != nil {
		return nil, err
	}
	return r.Proof(ctx, first)
}

// sameLedger checks that the catalog followed the very ledger that is there. A store that was set back, as to a backup, and has grown again
// since has other entries under the numbers that the catalog knows: then the catalog goes, with errCatalog, and is made again.
func (a *Archive) sameLedger(ctx context.Context) error {
	cur, err := a.catalog.cursor(a.log.Name())
	if err != nil || cur.n == 0 || cur.n > a.log.Head().Size { // the last: follow says so
		return err
	}
	for commit, err := range a.log.Commits(ctx, cur.n-1) {
		if err != nil {
			return err
		}
		if commit.Checkpoint.Size == cur.n && commit.Checkpoint.Root == cur.root {
			break
		}
		return errors.Join(fmt.Errorf("%w: %s is not the ledger that it followed up to entry %d: the store was set back, and entries that this node "+
			"has seen may be gone", errCatalog, a.log.Name(), cur.n), removeIfThere(a.catalog.path))
	}
	return nil
}

// catchUp takes into the catalog what the ledger has and the catalog has not.
func (a *Archive) catchUp(ctx context.Context, progress func(done, total uint64)) error {
	return a.follow(ctx, a.catalog, progress)
}

func (a *Archive) follow(ctx context.Context, c *catalog, progress func(done, total uint64)) error {
	log, total := a.log.Name(), a.log.Head().Size
	cur, err := c.cursor(log)
	if err != nil {
		return err
	}
	from := cur.n
	if from > total {
		return fmt.Errorf("catalog knows %d entries of %s, the ledger has %d: %w", from, log, total, ledger.ErrMissing)
	}
	if from == total {
		return nil
	}
	for commit, err := range a.log.Commits(ctx, from) {
		if err != nil {
			return err
		}
		if err := c.addCommit(ctx, log, commit); err != nil {
			return err
		}
		if progress != nil {
			progress(commit.Checkpoint.Size, total)
		}
	}
	return nil
}

// RebuildCatalog makes the catalog again from the ledger. The old one serves until the new one has all of it.
func (a *Archive) RebuildCatalog(ctx context.Context, progress func(done, total uint64)) error {
	if !a.rebuildMu.TryLock() {
		return errors.New("catalog: it is being made again already")
	}
	defer a.rebuildMu.Unlock()
	path := a.catalog.path + ".new"
	if err := removeIfThere(path); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	fresh, err := openCatalog(path, a.init.Archive)
	if err != nil {
		return err
	}
	err = a.follow(ctx, fresh, progress)
	a.commitMu.Lock() // what is committed meanwhile goes into both
	defer a.commitMu.Unlock()
	if err == nil {
		err = a.follow(ctx, fresh, nil)
	}
	if err != nil {
		return errors.Join(err, fresh.close(), removeIfThere(path))
	}
	return a.catalog.replace(fresh)
}

// Logs names the logs whose records the index follows: for now this node's own.
func (a *Archive) Logs() []string { return []string{a.log.Name()} }

// Size is the number of entries that a log of this node has.
func (a *Archive) Size(string) uint64 { return a.log.Head().Size }

// Replayed is one entry and, where it was wanted, its record or why it can't be had.
type Replayed struct {
	N     uint64
	Entry record.Entry
	Tree  tlog.Tree    // of the log with all entries of its commit
	Item  *record.Item // its Body, where it has one, can be opened until the next entry is asked for
	Err   error
}

// Replay gives the entries of a log from a number on, up to the newest, in order, and for those that want accepts the record itself, checked
// against its entry; the message is checked while it is read. It ends at the first error of the ledger, which it yields. A record that can't
// be read or is altered is given with its error, and Replay goes on with the next.
func (a *Archive) Replay(ctx context.Context, log string, from uint64, want func(*record.Entry) bool) iter.Seq2[Replayed, error] {
	return func(yield func(Replayed, error) bool) {
		r, err := a.reader(log)
		if err != nil {
			yield(Replayed{}, err)
			return
		}
		for commit, err := range r.Commits(ctx, from) {
			if err != nil {
				yield(Replayed{}, err)
				return
			}
			for run := range runs(commit.Entries, from) {
				if !a.replayRun(ctx, run, want, func(r Replayed) bool {
					r.Tree = commit.Checkpoint.Tree()
					return yield(r, nil)
				}) {
					return
				}
			}
		}
	}
}

// runs cuts a commit's entries, from a number on, where their pack changes.
func runs(entries []ledger.Numbered, from uint64) iter.Seq[[]ledger.Numbered] {
	return func(yield func([]ledger.Numbered) bool) {
		for len(entries) > 0 {
			n := 1
			for n < len(entries) && entries[n].Entry.Pack == entries[0].Entry.Pack {
				n++
			}
			run := entries[:n]
			entries = entries[n:]
			for len(run) > 0 && run[0].N < from {
				run = run[1:]
			}
			if len(run) > 0 && !yield(run) {
				return
			}
		}
	}
}

// fewWanted is up to how many records of a pack are read one by one rather than with the whole pack.
const fewWanted = 4

// replayRun gives the entries of one pack.
func (a *Archive) replayRun(ctx context.Context, run []ledger.Numbered, want func(*record.Entry) bool, yield func(Replayed) bool) bool {
	wanted := make([]bool, len(run))
	count := 0
	for i := range run {
		if run[i].Entry.Pack != "" && want(&run[i].Entry) {
			wanted[i] = true
			count++
		}
	}
	if count > 0 {
		gone, err := a.catalog.isGone(run[0].Entry.Pack, run[0].Entry.PackSHA256)
		if gone || err != nil {
			return a.replayGone(ctx, run, wanted, err, yield)
		}
	}
	if count > fewWanted {
		return a.replayPack(ctx, run, wanted, yield)
	}
	for i := range run {
		out := Replayed{N: run[i].N, Entry: run[i].Entry}
		if wanted[i] {
			out.Item, out.Err = a.replayOne(ctx, &run[i].Entry)
		}
		if !yield(out) {
			return false
		}
	}
	return true
}

// replayGone gives the entries of a pack that is gone, with those of its records that are in other packs by now. The others are ErrDestroyed.
func (a *Archive) replayGone(ctx context.Context, run []ledger.Numbered, wanted []bool, err error, yield func(Replayed) bool) bool {
	for i := range run {
		out := Replayed{N: run[i].N, Entry: run[i].Entry, Err: err}
		if wanted[i] && err == nil {
			out.Item, out.Err = a.elsewhere(ctx, &run[i].Entry)
		}
		if !wanted[i] {
			out.Err = nil
		}
		if !yield(out) {
			return false
		}
	}
	return true
}

// elsewhere reads a record that was moved. ErrDestroyed where it was not.
func (a *Archive) elsewhere(ctx context.Context, e *record.Entry) (*record.Item, error) {
	name := ""
	if e.Holds() == record.KindSupplement {
		name = e.Name
	}
	p, ok, err := a.catalog.find(e.ID, name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s in %s: %w", e.ID, e.Pack, ErrDestroyed)
	}
	s, err := a.fetchPlace(ctx, p, e.ID)
	if err != nil {
		return nil, err
	}
	if s.Entry.Seal != e.Seal {
		return nil, fmt.Errorf("%s in %s: seal %s, it was moved with %s: %w", e.ID, s.Entry.Pack, s.Entry.Seal, e.Seal, ErrAltered)
	}
	return s.Item, nil
}

func (a *Archive) replayOne(ctx context.Context, e *record.Entry) (*record.Item, error) {
	it, err := a.readers.record(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", e.ID, e.Pack, err)
	}
	return checked(it), nil
}

// errStop ends a scan early.
var errStop = errors.New("stop")

// replayPack gives the entries of one pack in one pass over it.
func (a *Archive) replayPack(ctx context.Context, run []ledger.Numbered, wanted []bool, yield func(Replayed) bool) bool {
	at := map[recoveredKey]int{}
	for i := range run {
		at[keyOf(&run[i].Entry)] = i
	}
	next := 0
	give := func(out Replayed) error {
		next++
		if !yield(out) {
			return errStop
		}
		return nil
	}
	skipTo := func(end int, cause error) error { // entries whose records did not come by
		for next < end {
			out := Replayed{N: run[next].N, Entry: run[next].Entry}
			if wanted[next] {
				out.Err = fmt.Errorf("%s in %s: %w", out.Entry.ID, out.Entry.Pack, cause)
			}
			if err := give(out); err != nil {
				return err
			}
		}
		return nil
	}
	err := a.scan(ctx, run[0].Entry.Pack, func(r *pack.Record) error {
		i, ok := at[recoveredKey{id: r.ID, name: r.Name}]
		if !ok || i < next {
			return nil
		}
		if err := skipTo(i, pack.ErrNotFound); err != nil {
			return err
		}
		out := Replayed{N: run[i].N, Entry: run[i].Entry}
		if wanted[i] {
			if out.Item, out.Err = r.Item(); out.Err == nil {
				out.Item.Seq = out.Entry.Seq
				if out.Err = matches(&out.Entry, out.Item); out.Err == nil {
					out.Item = checked(out.Item)
				}
			}
		}
		return give(out)
	})
	if errors.Is(err, errStop) {
		return false
	}
	if err == nil {
		err = pack.ErrNotFound
	}
	return skipTo(len(run), err) == nil
}

func (a *Archive) scan(ctx context.Context, key string, fn func(*pack.Record) error) error {
	body, err := a.store.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = pack.Scan(body, a.keys.Identities, fn)
	return err
}
