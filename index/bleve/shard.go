package bleve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/blevesearch/bleve/v2/index/scorch"
	bleveindex "github.com/blevesearch/bleve_index_api"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
)

// shard is the index of the records of one month.
type shard struct {
	name string
	dir  string
	ix   *scorch.Scorch

	mu      sync.Mutex
	columns map[uint64][]keys   // of segments, by their id; a segment never changes
	facets  map[crowdKey]*crowd // likewise

	health health
}

// shardName is the shard that a record belongs to: the month of receipt that its id tells. So it is known of a deletion too.
func shardName(id record.ID) string { return id.Time().Format("2006-01") }

// keyMark is where a shard keeps the number of the last batch that it has taken.
var keyMark = []byte("batch")

// openShard opens a shard, or makes one. Its mark must be at least what meta says: Bleve begins anew, without an error, where it can't read
// what is there, and a shard that lost documents must not pass for whole.
func openShard(dir, name string, queue *bleveindex.AnalysisQueue, mark uint64) (s *shard, err error) {
	s = &shard{name: name, dir: filepath.Join(dir, name), columns: map[uint64][]keys{}, facets: map[crowdKey]*crowd{}}
	defer func() {
		if r := recover(); r != nil { // bbolt does, on damage
			s.health.forget()
			s, err = nil, fmt.Errorf("%s: %v: %w", filepath.Join(dir, name), r, index.ErrCorrupt)
		}
	}()
	if mark > 0 {
		if _, err := os.Stat(s.dir); err != nil {
			return nil, fmt.Errorf("%w: %w", err, index.ErrCorrupt)
		}
	}
	ix, err := scorch.NewScorch(scorch.Name, map[string]any{
		"path": s.dir, "bolt_timeout": lockWait.String(), "asyncErrorCallbackName": callbackName, "eventCallbackName": callbackName,
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
