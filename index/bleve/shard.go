package bleve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/blevesearch/bleve/v2/index/scorch"
	bleveindex "github.com/blevesearch/bleve_index_api"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
)

// shard is the index of the records of one month, or of some of them.
type shard struct {
	name   string
	folder string // its name
	dir    string // its path
	ix     *scorch.Scorch

	// Guarded by Backend.shardsMu.
	refs    int           // who uses it
	used    time.Time     // when the last of them went
	changed time.Time     // when a batch went there last
	busy    chan struct{} // not nil: it is being opened or closed; closed when that is done
	retired bool          // there is another in its place

	gone    chan struct{} // of one that was retired: closed once its folder has been removed
	removed error         // or why it could not be; read after gone

	checking sync.Mutex // held while all of it is read

	mu      sync.Mutex
	columns map[uint64][]keys   // of segments, by their id; a segment never changes
	facets  map[crowdKey]*crowd // likewise
	orders  map[uint64][]uint32 // likewise: documents by Received

	health health
}

// shardName is the first shard of those that a record belongs to: the month of receipt that its id tells. So it is known of a deletion too.
func shardName(id record.ID) string { return index.Month(id) }

// keyMark is where a shard keeps the number of the last batch that it has taken.
var keyMark = []byte("batch")

// openShard opens a shard, or makes one. Its mark must be at least what meta says: Bleve begins anew, without an error, where it can't read
// what is there, and a shard that lost documents must not pass for whole.
func openShard(dir, name, folder string, queue *bleveindex.AnalysisQueue, mark, segment uint64) (s *shard, err error) {
	path := filepath.Join(dir, folder)
	s = &shard{name: name, folder: folder, dir: path, columns: map[uint64][]keys{}, facets: map[crowdKey]*crowd{}, orders: map[uint64][]uint32{}, gone: make(chan struct{})}
	defer func() {
		if r := recover(); r != nil { // bbolt does, on damage
			s.health.forget()
			s, err = nil, fmt.Errorf("%s: %v: %w", path, r, index.ErrCorrupt)
		}
	}()
	if err := scarce(path); err != nil {
		return nil, err
	}
	if mark > 0 {
		if _, err := os.Stat(s.dir); err != nil {
			return nil, fmt.Errorf("%w: %w", err, index.ErrCorrupt)
		}
	}
	ix, err := scorch.NewScorch(scorch.Name, map[string]any{
		"path": s.dir, "bolt_timeout": lockWait.String(), "asyncErrorCallbackName": callbackName, "eventCallbackName": callbackName,
		"scorchMergePlanOptions": map[string]any{"MaxSegmentSize": segment},
	}, queue)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.dir, err)
	}
	s.ix = ix.(*scorch.Scorch)
	s.health.init(s.dir, s.ix)
	if err := s.ix.Open(); err != nil {
		s.health.forget()
		if mark > 0 {
			err = fmt.Errorf("%w: %w", err, index.ErrCorrupt)
		}
		return nil, fmt.Errorf("%s: %w", s.dir, err)
	}
	snap := s.snapshot()
	got := parseNumber(snap.Internal()[string(keyMark)])
	snap.Close()
	if got < mark {
		return nil, errors.Join(fmt.Errorf("%s: has batches up to %d, not %d: %w", s.dir, got, mark, index.ErrCorrupt), s.close())
	}
	return s, nil
}

func (s *shard) close() error {
	defer s.health.forget()
	if s.health.dead() != nil {
		return nil // its goroutines are gone, and waiting for them would be for ever
	}
	return s.ix.Close()
}

// snapshot is the shard as it is now. The caller closes it.
func (s *shard) snapshot() *scorch.IndexSnapshot {
	r, _ := s.ix.Reader() // there is no error to give
	return r.(*scorch.IndexSnapshot)
}

// apply adds, replaces and deletes, and sets the mark, all in one. nil: it can be found, and it is on disk. To apply the same again is safe.
func (s *shard) apply(batch *bleveindex.Batch, mark uint64) error {
	if err := s.health.stuck(); err != nil {
		return fmt.Errorf("%s: %w", s.dir, err)
	}
	batch.SetInternal(keyMark, number(mark))
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("indexing failed: %v", r)
			}
		}()
		done <- s.ix.Batch(batch)
	}()
	var err error
	select {
	case err = <-done:
	case <-s.health.died: // Bleve would leave us waiting
		err = s.health.dead()
	}
	if err == nil {
		err = syncDir(s.dir) // Bleve syncs its files, not their names
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.dir, err)
	}
	return nil
}
