package bleve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	"github.com/blevesearch/bleve/v2/util"
	segment "github.com/blevesearch/scorch_segment_api/v2"
	zap "github.com/blevesearch/zapx/v17"
	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
)

// Purge implements index.Backend. A deletion leaves the words of a document in its segment, and merges leave files until somebody tidies up.
// So the shards that the documents belong to are written anew, each into a folder of its own that takes the place of the old one, which is
// removed whole.
func (b *Backend) Purge(ctx context.Context, ids []record.ID) error {
	byMonth := map[string][]record.ID{}
	for _, id := range ids {
		byMonth[shardName(id)] = append(byMonth[shardName(id)], id)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return index.ErrClosed
	}
	for month, ids := range byMonth {
		for _, name := range b.partsOf(month) {
			err := b.purgeShard(ctx, name, ids)
			if b.setAside(err) { // the damaged one goes, and what it had with it
				err = b.purgeShard(ctx, name, ids)
			}
			if err == nil {
				err = b.removal(ctx, name)
			}
			if err != nil {
				return fmt.Errorf("index: purge: %w", err)
			}
		}
	}
	b.applyMu.Lock() // so that no folder is there that is about to be in force
	defer b.applyMu.Unlock()
	if err := sweep(b.dir, b.meta.list()); err != nil { // what could not be removed the last time
		return fmt.Errorf("index: purge: %w", err)
	}
	return nil
}

// purgeShard deletes documents of one shard and writes it anew. Crash by crash:
//  1. the deletion is a batch: applied and fsynced, or not
//  2. the new folder is written and fsynced: without word from meta.db it is removed when the index is opened
//  3. meta.db names the new folder, in one transaction: from here on it is the old one that is removed then
//  4. the old folder is removed and the parent fsynced
func (b *Backend) purgeShard(ctx context.Context, name string, ids []record.ID) error {
	b.applyMu.Lock()
	defer b.applyMu.Unlock()
	if known, _ := b.meta.shard(name); known.Batch == 0 {
		return nil // nothing is in it, nor was since its folder was made
	}
	if err := b.applyLocked(ctx, index.Batch{Deletes: ids}); err != nil {
		return err
	}
	old, err := b.acquire(name)
	if err != nil {
		return err
	}
	folder := b.meta.newFolder(name)
	err = old.rewrite(ctx, filepath.Join(b.dir, folder))
	if err == nil {
		err = syncDir(b.dir)
	}
	if err == nil {
		err = b.meta.change(name, old.folder, func(m *shardMeta) { m.Dir = folder })
	}
	if err != nil {
		b.release(old)
		return errors.Join(&damage{name, old.folder, err}, os.RemoveAll(filepath.Join(b.dir, folder)))
	}
	b.retire(name, old.folder)
	b.release(old)
	return nil
}

// rewrite writes what is in the shard into a new folder, without what was deleted, and all of it fsynced. Nobody may write to the shard
// meanwhile. A segment that nothing was deleted from is the same file under two names.
func (s *shard) rewrite(ctx context.Context, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	snap := s.snapshot()
	defer snap.Close()
	for _, part := range snap.Segments() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := rewriteSegment(ctx, part, to); err != nil {
			return err
		}
	}
	if err := writeRoot(snap, to); err != nil {
		return err
	}
	return syncDir(to)
}

func rewriteSegment(ctx context.Context, part *scorch.SegmentSnapshot, to string) error {
	seg, ok := part.Segment().(segment.PersistedSegment)
	if !ok {
		return fmt.Errorf("segment %d is not on disk", part.Id()) // a batch that was applied is
	}
	deleted := part.Deleted()
	path := filepath.Join(to, filepath.Base(seg.Path()))
	switch {
	case part.LiveSize() == 0:
		return nil
	case deleted == nil || deleted.IsEmpty():
		if os.Link(seg.Path(), path) == nil {
			return nil
		}
		deleted = nil // a file system without links: a copy, by the same way
	}
	return guard(func() error {
		_, _, err := new(zap.ZapPlugin).Merge([]segment.Segment{seg}, []*roaring.Bitmap{deleted}, path, stopped(ctx), nil)
		return err
	})
}

// stopped is the channel that Merge looks at.
func stopped(ctx context.Context) chan struct{} {
	ch := make(chan struct{})
	context.AfterFunc(ctx, func() { close(ch) })
	return ch
}

// writeRoot writes the root.bolt of a folder: Bleve's own for this snapshot, and then without what was deleted.
func writeRoot(snap *scorch.IndexSnapshot, to string) error {
	if err := snap.CopyTo(rootOnly(to)); err != nil {
		return err
	}
	db, err := bolt.Open(filepath.Join(to, rootFile), 0o600, &bolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		roots := tx.Bucket(util.BoltSnapshotsBucket)
		key, _ := roots.Cursor().Last()
		root := roots.Bucket(key)
		var empty [][]byte
		err := root.ForEachBucket(func(k []byte) error {
			b := root.Bucket(k)
			file := b.Get(util.BoltPathKey)
			if file == nil {
				return nil // no segment
			}
			if _, err := os.Stat(filepath.Join(to, string(file))); errors.Is(err, os.ErrNotExist) {
				empty = append(empty, slices.Clone(k))
				return nil
			} else if err != nil {
				return err
			}
			return b.Delete(util.BoltDeletedKey)
		})
		for _, k := range empty {
			err = errors.Join(err, root.DeleteBucket(k))
		}
		return err
	})
	return errors.Join(err, db.Close())
}

const rootFile = "root.bolt"

// rootOnly takes the root.bolt of a copy that Bleve makes of a snapshot, and none of its segments.
type rootOnly string

func (dir rootOnly) GetWriter(name string) (io.WriteCloser, error) {
	if filepath.Base(name) != rootFile {
		return nil, nil
	}
	return os.OpenFile(filepath.Join(string(dir), rootFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}
