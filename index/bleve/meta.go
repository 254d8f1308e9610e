package bleve

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/holdfast-archive/holdfast/index"
)

// meta is what is known of the index as a whole. It is written after the shards that a batch goes to, in one transaction, so that what it
// says is never ahead of them: FORMAT.md.
type meta struct {
	db   *bolt.DB
	path string

	mu      sync.RWMutex         // guards what follows: what the file says
	batch   uint64               // number of the last batch
	through map[string]uint64    // the follower's cursors
	shards  map[string]shardMeta // by name
}

// shardMeta is what is known of a shard without opening it.
type shardMeta struct {
	Batch uint64 `json:"batch"` // the last batch that went there: the shard's own mark must not be less
	First int64  `json:"first"` // the earliest Received in it, Unix nanoseconds; deletions don't change it
	Last  int64  `json:"last"`  // the latest
}

const metaFile = "meta.db"

var (
	bucketMeta    = []byte("meta")
	bucketThrough = []byte("through")
	bucketShards  = []byte("shards")

	keyFormat = []byte("format")
	keyBatch  = []byte("batch")
)

// format is raised when what is on disk changes, terms and the analysis of text included.
const format = 5

// lockWait is how long another process may hold the index before Open gives up.
const lockWait = time.Second

// openMeta opens the file and locks the index by it.
func openMeta(dir string) (*meta, error) {
	path := filepath.Join(dir, metaFile)
	fresh := false
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		fresh = true
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	m := &meta{db: db, path: path, through: map[string]uint64{}, shards: map[string]shardMeta{}}
	if err := m.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if fresh {
		if err := syncDir(dir); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return m, nil
}

// openBolt turns what bbolt does with a damaged file, a panic at times, into an error.
func openBolt(path string) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%s: %v: %w", path, r, index.ErrCorrupt)
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: in use by another process", path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%s: %w: %w", path, err, index.ErrCorrupt)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return db, nil
}

func (m *meta) load() error {
	return m.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketThrough, bucketShards} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return fmt.Errorf("%s: %w", m.path, err)
			}
		}
		b := tx.Bucket(bucketMeta)
		switch v := b.Get(keyFormat); {
		case v == nil:
			if err := b.Put(keyFormat, number(format)); err != nil {
				return fmt.Errorf("%s: %w", m.path, err)
			}
		case parseNumber(v) != format:
			return fmt.Errorf("%s: format %d, this program writes %d: %w", m.path, parseNumber(v), format, index.ErrCorrupt)
		}
		m.batch = parseNumber(b.Get(keyBatch))
		if err := tx.Bucket(bucketThrough).ForEach(func(k, v []byte) error {
			m.through[string(k)] = parseNumber(v)
			return nil
		}); err != nil {
			return err
		}
		return tx.Bucket(bucketShards).ForEach(func(k, v []byte) error {
			var s shardMeta
			if err := json.Unmarshal(v, &s); err != nil {
				return fmt.Errorf("%s: shard %s: %w: %w", m.path, k, err, index.ErrCorrupt)
			}
			m.shards[string(k)] = s
			return nil
		})
	})
}

// commit makes a batch durable: its number, the cursors it sets, the shards it touched. For one caller at a time.
func (m *meta) commit(batch uint64, through map[string]uint64, shards map[string]shardMeta) error {
	err := m.db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(bucketMeta).Put(keyBatch, number(batch)); err != nil {
			return err
		}
		for name, n := range through {
			if err := tx.Bucket(bucketThrough).Put([]byte(name), number(n)); err != nil {
				return err
			}
		}
		for name, s := range shards {
			v, err := json.Marshal(s)
			if err != nil {
				return err
			}
			if err := tx.Bucket(bucketShards).Put([]byte(name), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", m.path, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batch = batch
	maps.Copy(m.through, through)
	maps.Copy(m.shards, shards)
	return nil
}

func (m *meta) lastBatch() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.batch
}

func (m *meta) cursors() map[string]uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.through)
}

// shard gives what is known of a shard, and whether there is one.
func (m *meta) shard(name string) (shardMeta, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, ok := m.shards[name]
	if !ok {
		s = shardMeta{First: math.MaxInt64, Last: math.MinInt64}
	}
	return s, ok
}

// list gives the shards that there are.
func (m *meta) list() map[string]shardMeta {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.shards)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func parseNumber(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// syncDir makes names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
