package bleve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	segment "github.com/blevesearch/scorch_segment_api/v2"

	"github.com/holdfast-archive/holdfast/index"
)

// A shard is opened when it is first needed and closed when it has not been for a while.
const (
	maxOpen  = 64               // shards that stay open while nobody uses them
	idleTime = 10 * time.Minute // for how long at most
	idleStep = time.Minute
)

// acquire gives a shard, opened where it is not. Called with mu held for reading. The caller releases it.
func (b *Backend) acquire(name string) (*shard, error) {
	for {
		b.shardsMu.Lock()
		s := b.open[name]
		if s == nil {
			return b.openLocked(name)
		}
		busy := s.busy
		if busy == nil {
			s.refs++
			b.shardsMu.Unlock()
			return s, nil
		}
		b.shardsMu.Unlock()
		<-busy
	}
}

// openLocked opens a shard that is not open. Called with shardsMu held; gives it back.
func (b *Backend) openLocked(name string) (*shard, error) {
	known, _ := b.meta.shard(name)
	place := &shard{busy: make(chan struct{})} // until it is open
	b.open[name] = place
	idle := b.idleLocked(len(b.open)-maxOpen, time.Time{})
	b.shardsMu.Unlock()
	b.closeIdle(idle)

	s, err := openShard(b.dir, name, known.folder(name), b.queue, known.Batch, b.limits.segment)

	b.shardsMu.Lock()
	defer b.shardsMu.Unlock()
	defer close(place.busy)
	delete(b.open, name)
	if err != nil {
		return nil, &damage{name, known.folder(name), err}
	}
	if now, ok := b.meta.shard(name); ok && now.folder(name) != s.folder {
		return nil, errors.Join(fmt.Errorf("shard %s: %w", name, errMoved), s.close(), os.RemoveAll(s.dir))
	}
	s.refs = 1
	b.open[name] = s
	return s, nil
}

// release gives a shard back. The last to do so of one that was retired takes it away.
func (b *Backend) release(s *shard) {
	b.shardsMu.Lock()
	s.refs--
	s.used = time.Now()
	last := s.refs == 0 && s.retired
	b.shardsMu.Unlock()
	if last {
		b.remove(s)
	}
}

// retire takes a shard out of use that has another folder by now, and gives it, or nil where it is not open. The folder is removed once
// nobody reads it any more, which closes gone.
func (b *Backend) retire(name, folder string) *shard {
	b.shardsMu.Lock()
	s := b.open[name]
	if s == nil || s.busy != nil || s.folder != folder {
		b.shardsMu.Unlock()
		return nil
	}
	s.retired = true
	b.retired[s] = true
	delete(b.open, name)
	unused := s.refs == 0
	b.shardsMu.Unlock()
	if unused {
		b.remove(s)
	}
	return s
}

// remove closes a retired shard and removes its folder, durably. What is left where that fails goes when the index is opened again.
func (b *Backend) remove(s *shard) {
	s.removed = errors.Join(s.close(), os.RemoveAll(s.dir), syncDir(b.dir))
	b.shardsMu.Lock()
	delete(b.retired, s)
	b.shardsMu.Unlock()
	close(s.gone)
}

// removal waits until the folders that a shard had before are gone.
func (b *Backend) removal(ctx context.Context, name string) error {
	b.shardsMu.Lock()
	var list []*shard
	for s := range b.retired {
		if s.name == name {
			list = append(list, s)
		}
	}
	b.shardsMu.Unlock()
	for _, s := range list {
		select {
		case <-s.gone:
			if s.removed != nil {
				return s.removed
			}
		case <-ctx.Done():
			return fmt.Errorf("shard %s is still read: %w", name, ctx.Err())
		}
	}
	return nil
}

// idleLocked takes shards out of use that nobody uses: those not used since a time, and more of the longest unused up to a number. They are
// busy until closeIdle has closed them.
func (b *Backend) idleLocked(atLeast int, since time.Time) (idle []*shard) {
	for _, s := range b.open {
		if s.refs == 0 && s.busy == nil {
			idle = append(idle, s)
		}
	}
	slices.SortFunc(idle, func(x, y *shard) int { return x.used.Compare(y.used) })
	n := 0
	for n < len(idle) && (n < atLeast || idle[n].used.Before(since)) {
		idle[n].busy = make(chan struct{})
		n++
	}
	return idle[:n]
}

// closeIdle closes what idleLocked gave. What a close may fail at is on disk already.
func (b *Backend) closeIdle(idle []*shard) {
	for _, s := range idle {
		s.close()
		b.shardsMu.Lock()
		delete(b.open, s.name)
		close(s.busy)
		b.shardsMu.Unlock()
	}
}

// tend closes shards that are not used, until the index is closed.
func (b *Backend) tend() {
	defer close(b.tended)
	for {
		select {
		case <-b.closing:
			return
		case <-time.After(idleStep):
		}
		b.shardsMu.Lock()
		idle := b.idleLocked(0, time.Now().Add(-idleTime))
		b.shardsMu.Unlock()
		b.closeIdle(idle)
	}
}

// folderName is what the folder of a shard is called.
var folderName = regexp.MustCompile(`^\d{4,}-\d\d(\.\d+)?(~\d+)?$`)

// sweep removes folders of shards that are no longer, or not yet, in force: a crash left them. What is in them is in the index already, or
// comes again.
func sweep(dir string, shards map[string]shardMeta) error {
	known := map[string]bool{}
	for name, s := range shards {
		known[s.folder(name)] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	swept := false
	for _, e := range entries {
		if known[e.Name()] || !e.IsDir() || !folderName.MatchString(e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
		swept = true
	}
	if !swept {
		return nil
	}
	return syncDir(dir)
}

// damage is an error of a shard, which knows whose.
type damage struct {
	shard, folder string
	err           error
}

func (d *damage) Error() string { return fmt.Sprintf("shard %s: %v", d.shard, d.err) }
func (d *damage) Unwrap() error { return d.err }

// setAside takes a shard out of use that an error says is damaged: an empty one is in its place, marked as not whole, until the follower has
// brought what it had. false: the error says nothing of the kind, or the shard turned out well.
func (b *Backend) setAside(err error) bool {
	var d *damage
	if !errors.Is(err, index.ErrCorrupt) || !errors.As(err, &d) {
		return false
	}
	if s := b.opened(d.shard, d.folder); s != nil {
		well := s.health.dead() == nil && s.intact()
		b.release(s)
		if well {
			return false
		}
	}
	folder := b.meta.newFolder(d.shard)
	cerr := b.meta.change(d.shard, d.folder, func(m *shardMeta) {
		m.Dir, m.Batch, m.Lost, m.Documents, m.Bytes = folder, 0, folderNumber(folder), 0, 0
	})
	if errors.Is(cerr, errMoved) {
		return true // by somebody else
	}
	if cerr != nil {
		b.log.Error("a shard of the index is damaged and can't be set aside", "shard", d.shard, "err", err, "cause", cerr)
		return false
	}
	b.log.Error("a shard of the index is damaged: it is set aside, and its records are indexed again from the archive", "shard", d.shard, "err", err)
	if b.retire(d.shard, d.folder) != nil {
		return true
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(b.dir, d.folder)), syncDir(b.dir)); err != nil {
		b.log.Warn("a damaged shard's folder is removed with the next start", "folder", d.folder, "err", err)
	}
	return true
}

// opened gives a shard that is open, to be released, or nil.
func (b *Backend) opened(name, folder string) *shard {
	b.shardsMu.Lock()
	defer b.shardsMu.Unlock()
	s := b.open[name]
	if s == nil || s.busy != nil || s.folder != folder {
		return nil
	}
	s.refs++
	return s
}

// scarce says that this process can't open a shard's files just now, whatever is in them: it has too many open, or there is no memory. Bleve
// would take it for damage, and remove what it could not open.
func scarce(dir string) error {
	entries, err := os.ReadDir(dir)
	var open []*os.File
	for _, e := range entries {
		f, oerr := os.Open(filepath.Join(dir, e.Name()))
		if oerr != nil {
			err = oerr
			break
		}
		open = append(open, f)
	}
	for _, f := range open {
		f.Close()
	}
	for _, cause := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EACCES} {
		if errors.Is(err, cause) {
			return err
		}
	}
	return nil
}

// intact says whether all segments of the shard are on disk as they were written, by the checksum in each.
func (s *shard) intact() bool {
	s.checking.Lock() // one at a time: it reads all of the shard
	defer s.checking.Unlock()
	for range 3 { // a merge may take files away meanwhile
		snap := s.snapshot()
		err := func() error {
			defer snap.Close()
			for _, part := range snap.Segments() {
				if seg, ok := part.Segment().(segment.PersistedSegment); ok {
					if err := checkSegment(seg.Path()); err != nil {
						return err
					}
				}
			}
			return nil
		}()
		if !errors.Is(err, os.ErrNotExist) {
			return err == nil
		}
	}
	return false
}

// checkSegment reads a segment's file: its last four bytes are the CRC-32 of those before.
func checkSegment(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size() - crc32.Size
	if size < 0 {
		return io.ErrUnexpectedEOF
	}
	sum := crc32.NewIEEE()
	if _, err := io.CopyN(sum, f, size); err != nil {
		return err
	}
	var want [crc32.Size]byte
	if _, err := io.ReadFull(f, want[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(want[:]) != sum.Sum32() {
		return fmt.Errorf("%s: wrong checksum: %w", path, index.ErrCorrupt)
	}
	return nil
}
