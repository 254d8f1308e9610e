package bleve

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/index"
)

// meta is what is known of the index as a whole. It is written after the shards that a batch goes to, in one transaction, so that what it
// says is never ahead of them: FORMAT.md.
type meta struct {
	db   *bolt.DB
	path string

	writing sync.Mutex // held from what a change is made of until it is known here

	mu      sync.RWMutex         // guards what follows: what the file says
	batch   uint64               // number of the last batch
	folders uint64               // number of the last folder that was made for a shard
	through map[string]uint64    // the follower's cursors
	trees   map[string]tlog.Tree // of the logs that they are of
	shards  map[string]shardMeta // by name
}

// shardMeta is what is known of a shard without opening it.
type shardMeta struct {
	Batch uint64 `json:"batch"` // the last batch that went there: the shard's own mark must not be less. 0: there is nothing in it
	First int64  `json:"first"` // the earliest Received in it, Unix nanoseconds; deletions don't change it
	Last  int64  `json:"last"`  // the latest
	// Those of the times in the ids, Unix milliseconds.
	FirstID int64 `json:"first_id"`
	LastID  int64 `json:"last_id"`

	Documents uint64 `json:"documents"` // after the last batch
	Bytes     uint64 `json:"bytes"`     // likewise, of its segments

	Merged uint64 `json:"merged,omitempty"` // the last batch when it was merged into one segment

	Dir  string `json:"dir,omitempty"`  // its folder; empty: that of its name
	Lost uint64 `json:"lost,omitempty"` // not 0: what was in it was lost, and is not all there again; tells one loss from another
}

// folder is the name of the shard's folder.
func (s shardMeta) folder(name string) string { return cmp.Or(s.Dir, name) }

// errMoved: the shard has another folder by now. What was done to the one before counts for nothing.
var errMoved = errors.New("shard was set aside meanwhile")

const metaFile = "meta.db"

var (
	bucketMeta    = []byte("meta")
	bucketThrough = []byte("through")
	bucketTrees   = []byte("trees")
	bucketShards  = []byte("shards")

	keyFormat = []byte("format")
	keyBatch  = []byte("batch")
)

// format is raised when what is on disk changes, terms and the analysis of text included.
const format = 7

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
	m := &meta{db: db, path: path, through: map[string]uint64{}, trees: map[string]tlog.Tree{}, shards: map[string]shardMeta{}}
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
		for _, name := range [][]byte{bucketMeta, bucketThrough, bucketTrees, bucketShards} {
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
		if err := tx.Bucket(bucketTrees).ForEach(func(k, v []byte) error {
			if len(v) != 8+tlog.HashSize {
				return fmt.Errorf("%s: tree of %s: %d bytes: %w", m.path, k, len(v), index.ErrCorrupt)
			}
			m.trees[string(k)] = tlog.Tree{N: int64(parseNumber(v[:8])), Hash: tlog.Hash(v[8:])}
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
			m.folders = max(m.folders, folderNumber(s.Dir))
			return nil
		})
	})
}

// commit makes a batch durable: its number, the cursors it sets, the shards it touched. For one caller at a time. errMoved where one of them
// was set aside since.
func (m *meta) commit(batch uint64, through map[string]uint64, trees map[string]tlog.Tree, shards map[string]shardMeta) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	for name, s := range shards {
		if now, ok := m.shard(name); ok && now.folder(name) != s.folder(name) {
			return fmt.Errorf("shard %s: %w", name, errMoved)
		}
	}
	return m.write(&batch, through, trees, shards)
}

// change sets what is known of one shard, unless it has another folder than expected by now: errMoved.
func (m *meta) change(name, folder string, to func(*shardMeta)) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	s, ok := m.shard(name)
	if !ok || s.folder(name) != folder {
		return errMoved
	}
	to(&s)
	return m.write(nil, nil, nil, map[string]shardMeta{name: s})
}

// write is one transaction. Called with writing held.
func (m *meta) write(batch *uint64, through map[string]uint64, trees map[string]tlog.Tree, shards map[string]shardMeta) error {
	err := m.db.Update(func(tx *bolt.Tx) error {
		if batch != nil {
			if err := tx.Bucket(bucketMeta).Put(keyBatch, number(*batch)); err != nil {
				return err
			}
		}
		for name, n := range through {
			if err := tx.Bucket(bucketThrough).Put([]byte(name), number(n)); err != nil {
				return err
			}
		}
		for name, t := range trees {
			if err := tx.Bucket(bucketTrees).Put([]byte(name), append(number(uint64(t.N)), t.Hash[:]...)); err != nil {
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
	if batch != nil {
		m.batch = *batch
	}
	maps.Copy(m.through, through)
	maps.Copy(m.trees, trees)
	maps.Copy(m.shards, shards)
	return nil
}

// newFolder names a folder for a shard that no shard has had since Open, which removes what was left of those before.
func (m *meta) newFolder(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.folders++
	return name + folderMark + strconv.FormatUint(m.folders, 10)
}

// folderMark stands before the number in a folder's name.
const folderMark = "~"

// folderNumber is the number in a folder's name, or 0.
func folderNumber(folder string) uint64 {
	_, text, _ := strings.Cut(folder, folderMark)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
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
		s = shardMeta{First: math.MaxInt64, Last: math.MinInt64, FirstID: math.MaxInt64, LastID: math.MinInt64}
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
