package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// copier is one run of Sync.
type copier struct {
	*Replicator
	whole   bool   // look at all commits and their packs, not at the new ones only
	derived bool   // copy what is not commits and packs, too
	there   keySet // packs that the second copy had when this began; of a whole run

	mu     sync.Mutex
	report Report // guarded by mu
}

const copiers = 4

func (c *copier) run(ctx context.Context) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	logs, err := ledger.Logs(ctx, c.Store)
	if err != nil {
		return err
	}
	if c.whole {
		if err := c.lookAround(ctx); err != nil {
			return err
		}
	}
	for _, log := range logs {
		if err := c.log(ctx, log); err != nil {
			return fmt.Errorf("log %s: %w", log, err)
		}
	}
	if !c.derived {
		return nil
	}
	if err := c.created(ctx, "anchors/"); err != nil {
		return err
	}
	return c.replaced(ctx, "state/")
}

// log copies what is new of a log. What is derived from it is listed first and copied last, so that it is not ahead.
func (c *copier) log(ctx context.Context, log string) error {
	var tiles []string
	var checkpoint []byte
	if c.derived {
		var err error
		if checkpoint, err = read(ctx, c.Store, "ledger/"+log+"/checkpoint"); err != nil && !errors.Is(err, object.ErrNotFound) {
			return err
		}
		if tiles, err = keys(ctx, c.Store, "ledger/"+log+"/tile/"); err != nil {
			return err
		}
	}
	from, err := c.reader(c.Store, log)
	if err != nil {
		return err
	}
	first, err := c.position(ctx, log, from)
	if err != nil {
		return err
	}
	newest, err := from.Newest(ctx)
	if err != nil {
		return err
	}
	if c.whole {
		first = 0
	}
	for n := first; n <= newest.Commit; n++ {
		commit, err := from.Commit(ctx, n)
		if isFault(err) { // without it the commits after it would be of no use
			c.fault(ledger.CommitKey(log, n), err)
			return err
		} else if err != nil {
			return err
		}
		if err := c.commit(ctx, log, commit); err != nil {
			return err
		}
	}
	if err := c.small(ctx, "ledger/"+log+"/tile/", tiles); err != nil {
		return err
	}
	if checkpoint == nil {
		return nil
	}
	return c.replace(ctx, "ledger/"+log+"/checkpoint", checkpoint)
}

// position is the first commit that the second copy lacks. Its newest must be the archive's, byte for byte.
func (c *copier) position(ctx context.Context, log string, from *ledger.Reader) (uint64, error) {
	to, err := c.reader(c.to, log)
	if err != nil {
		return 0, err
	}
	there, err := to.Newest(ctx)
	if errors.Is(err, ledger.ErrNoLog) {
		return 0, nil
	} else if errors.Is(err, ledger.ErrMissing) || errors.Is(err, ledger.ErrAltered) { // what is missing is copied, what is altered is for Repair
		c.whole = true
		return 0, c.lookAround(ctx)
	} else if isFault(err) {
		return 0, fmt.Errorf("%w: %w", ErrOther, err)
	} else if err != nil {
		return 0, err
	}
	here, err := from.Commit(ctx, there.Commit)
	switch {
	case errors.Is(err, ledger.ErrMissing):
		return 0, fmt.Errorf("%w: it has commit %d, and the archive has not: was the archive set back?", ErrOther, there.Commit)
	case err != nil:
		return 0, err
	case !bytes.Equal(here.Checkpoint.Note, there.Note):
		return 0, fmt.Errorf("%w: commit %d of log %s is another there", ErrOther, there.Commit, log)
	}
	return there.Commit + 1, nil
}

// packs gives the packs that a commit names, each once.
func packs(commit *ledger.Commit) map[string]record.Digest {
	found := map[string]record.Digest{}
	for i := range commit.Entries {
		if e := &commit.Entries[i].Entry; e.Pack != "" {
			found[e.Pack] = e.PackSHA256
		}
	}
	return found
}

// commit copies the packs that a commit names, and then the commit.
func (c *copier) commit(ctx context.Context, log string, commit *ledger.Commit) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(copiers)
	for key, sum := range packs(commit) {
		group.Go(func() error { return c.pack(gctx, log, key, sum) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if c.whole {
		if _, err := c.to.Stat(ctx, commit.Key); err == nil {
			return nil
		} else if !errors.Is(err, object.ErrNotFound) {
			return err
		}
	}
	b, err := stage(ctx, c.Store, commit.Key)
	if err != nil {
		return err
	}
	defer b.Close()
	if b.sum != commit.SHA256 {
		return fmt.Errorf("%s: it changed while it was read: %w", commit.Key, ledger.ErrAltered)
	}
	if err := c.put(ctx, commit.Key, b); err != nil {
		return err
	}
	c.count(&c.report.Commits, b.size)
	if commit.Header.Commit == 0 {
		return c.begin(ctx, log, commit)
	}
	return nil
}

// begin publishes the first checkpoint of a log, with its one tile: a log with more commits than the first must have one.
func (c *copier) begin(ctx context.Context, log string, commit *ledger.Commit) error {
	leaf := tlog.RecordHash(commit.Entries[0].Raw)
	if _, err := c.to.Create(ctx, "ledger/"+log+"/tile/0/000.p/1", bytes.NewReader(leaf[:]), object.Lock{}); err != nil && !errors.Is(err, object.ErrConflict) {
		return err
	}
	key := "ledger/" + log + "/checkpoint"
	if _, err := c.to.Stat(ctx, key); !errors.Is(err, object.ErrNotFound) {
		return err
	}
	return c.to.Replace(ctx, key, commit.Checkpoint.Note)
}

// pack copies a pack, unless it is there or was destroyed. One that is not what the ledger says is a fault, and stays where it is.
func (c *copier) pack(ctx context.Context, log, key string, sum record.Digest) error {
	if c.whole && c.there.has(key) {
		return nil
	}
	b, err := stage(ctx, c.Store, key)
	if errors.Is(err, object.ErrNotFound) || errors.Is(err, object.ErrMismatch) {
		gone, gerr := c.gone(ctx, log, key, sum)
		if gerr != nil {
			return gerr
		}
		if !gone {
			c.fault(key, err)
		}
		return nil
	} else if err != nil {
		return err
	}
	defer b.Close()
	if b.sum != sum {
		c.fault(key, fmt.Errorf("SHA-256 is %s, log %s has %s", b.sum, log, sum))
		return nil
	}
	c.copying.RLock()
	defer c.copying.RUnlock()
	if gone, err := c.destroyedByNow(ctx, log, key, sum); gone || err != nil {
		return err
	}
	err = c.put(ctx, key, b)
	if errors.Is(err, object.ErrConflict) || errors.Is(err, object.ErrMismatch) {
		c.fault(key, fmt.Errorf("in the second copy: %w", err))
		return nil
	}
	if err == nil {
		c.count(&c.report.Packs, b.size)
	}
	return err
}

// gone says whether a tombstone names a pack.
func (c *copier) gone(ctx context.Context, log, key string, sum record.Digest) (bool, error) {
	c.mu.Lock()
	g, err := c.gravesOf(log)
	c.mu.Unlock()
	if err != nil {
		return false, err
	}
	return g.Gone(ctx, key, sum)
}

// destroyedByNow looks whether the object is still in the archive: it goes from there after its tombstone was written.
func (c *copier) destroyedByNow(ctx context.Context, log, key string, sum record.Digest) (bool, error) {
	if gone, err := c.gone(ctx, log, key, sum); gone || err != nil {
		return gone, err
	}
	_, err := c.Store.Stat(ctx, key)
	if errors.Is(err, object.ErrNotFound) {
		return true, nil
	}
	return false, err
}

// put creates an object in the second copy and reads it back.
func (c *copier) put(ctx context.Context, key string, b *staged) error {
	lock := object.Lock{}
	if !strings.Contains(key, "/tile/") { // which can be made again
		lock = lockOf(c.Config.Lock(), key, c.Now())
	}
	if _, err := c.to.Create(ctx, key, b, lock); err != nil {
		return err
	}
	return readBack(ctx, c.to, key, b.sum)
}

func readBack(ctx context.Context, store object.Store, key string, want record.Digest) error {
	r, err := store.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := record.SumReader(r)
	if err == nil && got != want {
		err = fmt.Errorf("%s: read back it has SHA-256 %s, not %s: %w", key, got, want, object.ErrMismatch)
	}
	return err
}

// created copies what is created once under a prefix and small.
func (c *copier) created(ctx context.Context, prefix string) error {
	list, err := keys(ctx, c.Store, prefix)
	if err != nil {
		return err
	}
	return c.small(ctx, prefix, list)
}

// small copies small objects under a prefix that are created once, unless they are there.
func (c *copier) small(ctx context.Context, prefix string, list []string) error {
	there, err := keysOf(ctx, c.to, prefix)
	if err != nil {
		return err
	}
	for _, key := range list {
		if there.has(key) {
			continue
		}
		if err := c.one(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// one copies one object.
func (c *copier) one(ctx context.Context, key string) error {
	b, err := stage(ctx, c.Store, key)
	if errors.Is(err, object.ErrNotFound) { // a partial tile whose full one has come
		return nil
	} else if err != nil {
		return err
	}
	defer b.Close()
	if err := c.put(ctx, key, b); errors.Is(err, object.ErrConflict) {
		c.fault(key, fmt.Errorf("in the second copy: %w", err))
		return nil
	} else if err != nil {
		return err
	}
	c.count(&c.report.Others, b.size)
	return nil
}

// lookAround lists the packs that the second copy has: that is fewer requests than to ask for each.
func (c *copier) lookAround(ctx context.Context) (err error) {
	if c.there == nil {
		c.there, err = keysOf(ctx, c.to, "packs/")
	}
	return err
}

// keySet is a set of keys that takes eight bytes for each: of a million packs it is kept in memory.
type keySet map[uint64]struct{}

var seed = maphash.MakeSeed()

func (s keySet) has(key string) bool {
	_, ok := s[maphash.String(seed, key)]
	return ok
}

// keysOf lists a store.
func keysOf(ctx context.Context, store object.Store, prefix string) (keySet, error) {
	s := keySet{}
	for info, err := range store.List(ctx, prefix, "") {
		if err != nil {
			return nil, err
		}
		s[maphash.String(seed, info.Key)] = struct{}{}
	}
	return s, nil
}

// replaced copies what may be replaced, where it differs.
func (c *copier) replaced(ctx context.Context, prefix string) error {
	list, err := keys(ctx, c.Store, prefix)
	if err != nil {
		return err
	}
	for _, key := range list {
		text, err := read(ctx, c.Store, key)
		if err == nil {
			err = c.replace(ctx, key, text)
		}
		if err != nil && !errors.Is(err, object.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (c *copier) replace(ctx context.Context, key string, text []byte) error {
	have, err := read(ctx, c.to, key)
	if err == nil && bytes.Equal(have, text) {
		return nil
	}
	if err != nil && !errors.Is(err, object.ErrNotFound) {
		return err
	}
	if err := c.to.Replace(ctx, key, text); err != nil {
		return err
	}
	c.count(&c.report.Others, int64(len(text)))
	return nil
}

func (c *copier) count(of *uint64, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*of++
	c.report.Bytes += size
	c.metrics.objects.Inc()
	c.metrics.bytes.Add(float64(size))
}

func (c *copier) fault(key string, what error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Faults = append(c.report.Faults, Fault{key, what.Error()})
	c.Log.Error("an object is not copied", "object", key, "err", what)
}

// staged is an object's bytes on their way: in memory, or a file that has no name any more, so that a crash leaves nothing of it.
type staged struct {
	io.ReadSeeker
	size int64
	sum  record.Digest
	file *os.File
}

// Close lets go of it.
func (b *staged) Close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}

// inMemory is up to how many bytes an object is held in memory.
const inMemory = 4 << 20

// stage reads an object whole.
func stage(ctx context.Context, store object.Store, key string) (*staged, error) {
	r, err := store.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var head bytes.Buffer
	n, err := io.Copy(&head, io.LimitReader(r, inMemory+1))
	if err != nil {
		return nil, err
	}
	if n <= inMemory {
		return &staged{ReadSeeker: bytes.NewReader(head.Bytes()), size: n, sum: record.Sum(head.Bytes())}, nil
	}
	f, err := os.CreateTemp("", "holdfast-replica-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	size, err := io.Copy(f, io.MultiReader(&head, r))
	var sum record.Digest
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		sum, err = record.SumReader(f)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", key, err), f.Close())
	}
	return &staged{ReadSeeker: f, size: size, sum: sum, file: f}, nil
}

// maxSmall bounds what is read into memory whole, in bytes.
const maxSmall = 64 << 20

func read(ctx context.Context, store object.Store, key string) ([]byte, error) {
	r, err := store.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxSmall+1))
	if err == nil && len(text) > maxSmall {
		err = fmt.Errorf("%s: more than %d bytes", key, maxSmall)
	}
	return text, err
}

func keys(ctx context.Context, store object.Store, prefix string) (list []string, err error) {
	for info, err := range store.List(ctx, prefix, "") {
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(info.Key, prefix) {
			list = append(list, info.Key)
		}
	}
	return list, nil
}
