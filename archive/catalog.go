package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// catalog is the local map from a record's id to its place in the archive. It is derived from the ledger and follows it commit by commit;
// a catalog that is absent, damaged or of another archive is made again from the first entry.
//
// Buckets: "logs" and "packs" number the names that repeat; "records" maps an id (16 bytes), and for a late supplement id and name, to a
// place; "gone" has the packs that were destroyed, by number, and by
// which act; "cursor" has for each log the number of its entries that are in here, the root of the tree over these, and the set of spool
// sequences that they account for; "drops" maps the first sequence of each dropped run, and the id of
// what was dropped where it has one, to the last.
type catalog struct {
	path string

	mu sync.RWMutex // held for writing while db is replaced
	db *bbolt.DB
}

// place is where a record's entry and bytes are.
type place struct {
	Log           string
	Number        uint64 // of the entry in its log
	Kind          record.Kind
	Pack          string // object key
	PackSHA256    record.Digest
	Frame, Length int64
	Moved         bool // Number is that of a KindMoved entry
	Gone          bool // the pack was destroyed, and the record with it
}

var (
	bucketLogs    = []byte("logs")
	bucketPacks   = []byte("packs")
	bucketRecords = []byte("records")
	bucketCursor  = []byte("cursor")
	bucketDrops   = []byte("drops")
	bucketGone    = []byte("gone")
	bucketMeta    = []byte("meta")
)

// kinds gives each kind of entry its byte in a place; the order is part of the file.
var kinds = []record.Kind{record.KindInit, record.KindMessage, record.KindRefused, record.KindSupplement, record.KindAct, record.KindDropped}

// catalogVersion is that of the file. Another one is made again.
const catalogVersion = "4"

// openCatalog opens the catalog of one archive, or an empty one where the file is absent, unreadable or of another archive.
func openCatalog(path, archiveID string) (*catalog, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	c, err := tryCatalog(path, archiveID)
	if err == nil || errors.Is(err, bolterrors.ErrTimeout) {
		return c, err
	}
	// It can't be read: it is derived, so it goes, and the ledger makes it again.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("catalog %s is unreadable and can't be removed: %w", path, err)
	}
	return tryCatalog(path, archiveID)
}

func tryCatalog(path, archiveID string) (_ *catalog, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a file that is too short is read where nothing is mapped
	defer func() {
		if r := recover(); r != nil { // bbolt panics on some kinds of damage
			err = fmt.Errorf("catalog %s is damaged: %v", path, r)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketLogs, bucketPacks, bucketRecords, bucketCursor, bucketDrops, bucketGone, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		if have := meta.Get([]byte("archive")); have != nil && string(have) != archiveID {
			return fmt.Errorf("catalog %s is of archive %s, not %s", path, have, archiveID)
		}
		if have := meta.Get([]byte("version")); string(have) != catalogVersion && meta.Get([]byte("archive")) != nil {
			return fmt.Errorf("catalog %s is of version %q, not %s", path, have, catalogVersion)
		}
		return errors.Join(meta.Put([]byte("archive"), []byte(archiveID)), meta.Put([]byte("version"), []byte(catalogVersion)))
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return &catalog{path: path, db: db}, nil
}

func (c *catalog) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.db.Close()
}

// errCatalog is returned where the catalog is damaged. It is gone by then, and the next start makes it again.
var errCatalog = errors.New("catalog is damaged")

func (c *catalog) view(fn func(*bbolt.Tx) error) error {
	return c.guarded(func() error { return c.db.View(fn) })
}

func (c *catalog) update(fn func(*bbolt.Tx) error) error {
	return c.guarded(func() error { return c.db.Update(fn) })
}

// guarded survives damage, at which bbolt panics or, where the file is too short, reads what is not mapped.
func (c *catalog) guarded(do func() error) (err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = errors.Join(fmt.Errorf("%s: %w: %v", c.path, errCatalog, r), removeIfThere(c.path))
		}
	}()
	return do()
}

// replace puts another catalog, of the same archive, in the place of this one. The other must not be used afterwards.
func (c *catalog) replace(other *catalog) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.Rename(other.path, c.path); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	old := c.db
	c.db = other.db
	return errors.Join(syncDir(filepath.Dir(c.path)), old.Close())
}

// cursor is how far the catalog has followed a log: the number of its entries that are in here, and the root of the tree over them.
type cursor struct {
	n    uint64
	root tlog.Hash
}

func decodeCursor(v []byte) (c cursor) {
	if len(v) == 8+tlog.HashSize {
		c.n = binary.BigEndian.Uint64(v)
		copy(c.root[:], v[8:])
	}
	return c
}

// cursor gives it for a log.
func (c *catalog) cursor(log string) (cur cursor, err error) {
	err = c.view(func(tx *bbolt.Tx) error {
		cur = decodeCursor(tx.Bucket(bucketCursor).Get([]byte(log)))
		return nil
	})
	return cur, err
}

// add takes in the entries of one commit, the first of which has this number; root is that of the tree with them in it. Entries before the
// cursor are passed over, so that to add a commit twice does no harm; a gap is an error.
func (c *catalog) add(ctx context.Context, log string, first uint64, entries []record.Entry, root tlog.Hash) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.update(func(tx *bbolt.Tx) error {
		cursors := tx.Bucket(bucketCursor)
		known := decodeCursor(cursors.Get([]byte(log))).n
		if first > known {
			return fmt.Errorf("catalog: entries of %s from %d, but only %d are known", log, first, known)
		}
		logNo, err := number(tx.Bucket(bucketLogs), []byte(log))
		if err != nil {
			return err
		}
		var lastPack string
		var packNo uint32
		for i := range entries {
			e, n := &entries[i], first+uint64(i)
			if n < known {
				continue
			}
			switch {
			case e.Drop != nil:
				err = tx.Bucket(bucketDrops).Put(dropKey(log, e.Drop.First, e.ID), binary.BigEndian.AppendUint64(nil, e.Drop.Last))
			case e.Gone != nil:
				if packNo, err = number(tx.Bucket(bucketPacks), packName(e.Gone.Pack, e.Gone.PackSHA256)); err != nil {
					return err
				}
				lastPack = ""
				err = tx.Bucket(bucketGone).Put(binary.BigEndian.AppendUint32(nil, packNo), e.ID[:])
			case e.Pack != "":
				if e.Pack != lastPack {
					if packNo, err = number(tx.Bucket(bucketPacks), packName(e.Pack, e.PackSHA256)); err != nil {
						return err
					}
					lastPack = e.Pack
				}
				err = tx.Bucket(bucketRecords).Put(recordKey(e.ID, e.Holds(), e.Name), encodePlace(logNo, n, packNo, e))
			}
			if err != nil {
				return err
			}
		}
		if err := account(cursors, seqKey(log), entries); err != nil {
			return err
		}
		end := first + uint64(len(entries))
		if end < known {
			return nil
		}
		return cursors.Put([]byte(log), append(binary.BigEndian.AppendUint64(nil, end), root[:]...))
	})
}

// addCommit is add for a commit as the ledger gives it.
func (c *catalog) addCommit(ctx context.Context, log string, commit *ledger.Commit) error {
	entries := make([]record.Entry, len(commit.Entries))
	for i := range commit.Entries {
		entries[i] = commit.Entries[i].Entry
	}
	return c.add(ctx, log, commit.Header.First, entries, commit.Checkpoint.Root)
}

// account adds to a set the spool sequences that entries account for. It is all runs, so it stays small.
func account(b *bbolt.Bucket, key []byte, entries []record.Entry) error {
	set, err := decodeSequences(b.Get(key))
	if err != nil {
		return err
	}
	addSequences(set, entries)
	set.RunOptimize()
	v, err := set.MarshalBinary()
	if err != nil {
		return err
	}
	return b.Put(key, v)
}

func addSequences(set *roaring64.Bitmap, entries []record.Entry) {
	for i := range entries {
		if seq := entries[i].Seq; seq > 0 {
			set.Add(seq)
		}
		if d := entries[i].Drop; d != nil && d.First <= d.Last {
			set.AddRange(d.First, d.Last+1)
		}
	}
}

func decodeSequences(v []byte) (*roaring64.Bitmap, error) {
	set := roaring64.New()
	if v == nil {
		return set, nil
	}
	if err := set.UnmarshalBinary(bytes.Clone(v)); err != nil { // the value is gone after its transaction
		return nil, fmt.Errorf("catalog: set of sequences: %w", err)
	}
	return set, nil
}

func seqKey(log string) []byte { return []byte(log + "\x00seqs") }

// sequences gives the spool sequences that the entries of a log account for.
func (c *catalog) sequences(log string) (set *roaring64.Bitmap, err error) {
	err = c.view(func(tx *bbolt.Tx) error {
		set, err = decodeSequences(tx.Bucket(bucketCursor).Get(seqKey(log)))
		return err
	})
	return set, err
}

// find gives the place of a record; of one of its late supplements where name is not empty. ok is false where the catalog has none.
func (c *catalog) find(id record.ID, name string) (p place, ok bool, err error) {
	kind := record.KindMessage
	if name != "" {
		kind = record.KindSupplement
	}
	err = c.view(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketRecords).Get(recordKey(id, kind, name))
		if v == nil {
			return nil
		}
		ok = true
		return decodePlace(tx, v, &p)
	})
	return p, ok && err == nil, err
}

// supplements gives the places of all late supplements of a record, in the order of their names.
func (c *catalog) supplements(id record.ID) (places []place, err error) {
	err = c.view(func(tx *bbolt.Tx) error {
		cur := tx.Bucket(bucketRecords).Cursor()
		prefix := recordKey(id, record.KindSupplement, "")
		for k, v := cur.Seek(prefix); k != nil && len(k) > len(prefix) && string(k[:len(prefix)]) == string(prefix); k, v = cur.Next() {
			var p place
			if err := decodePlace(tx, v, &p); err != nil {
				return err
			}
			places = append(places, p)
		}
		return nil
	})
	return places, err
}

// has says whether what an item holds is in the archive already.
func (c *catalog) has(log string, it *record.Item) (ok bool, err error) {
	err = c.view(func(tx *bbolt.Tx) error {
		switch {
		case it.Drop != nil:
			v := tx.Bucket(bucketDrops).Get(dropKey(log, it.Drop.First, it.ID))
			ok = len(v) == 8 && binary.BigEndian.Uint64(v) == it.Drop.Last
		case it.Supplement != nil:
			ok = tx.Bucket(bucketRecords).Get(recordKey(it.ID, record.KindSupplement, it.Supplement.Name)) != nil
		default:
			ok = tx.Bucket(bucketRecords).Get(recordKey(it.ID, it.Kind, "")) != nil
		}
		return nil
	})
	return ok, err
}

// recordKey is the id; for a late supplement followed by its name.
func recordKey(id record.ID, kind record.Kind, name string) []byte {
	if kind != record.KindSupplement {
		return id[:]
	}
	return append(append(id[:len(id):len(id)], 0), name...)
}

func dropKey(log string, seq uint64, id record.ID) []byte {
	key := binary.BigEndian.AppendUint64([]byte(log+"\x00"), seq)
	if !id.IsZero() {
		key = append(key, id[:]...)
	}
	return key
}

// number gives a repeating name its number in a bucket, a new one where it has none. Numbers map back under a key of their own.
func number(b *bbolt.Bucket, name []byte) (uint32, error) {
	byName := append([]byte{'n'}, name...)
	if v := b.Get(byName); len(v) == 4 {
		return binary.BigEndian.Uint32(v), nil
	}
	seq, err := b.NextSequence()
	if err != nil {
		return 0, err
	}
	no := binary.BigEndian.AppendUint32(nil, uint32(seq))
	if err := b.Put(byName, no); err != nil {
		return 0, err
	}
	return uint32(seq), b.Put(append([]byte{'#'}, no...), name)
}

func packName(key string, sum record.Digest) []byte { return append([]byte(key+"\x00"), sum[:]...) }

// isGone says whether a pack was destroyed.
func (c *catalog) isGone(key string, sum record.Digest) (gone bool, err error) {
	err = c.view(func(tx *bbolt.Tx) error {
		if no := tx.Bucket(bucketPacks).Get(append([]byte{'n'}, packName(key, sum)...)); no != nil {
			gone = tx.Bucket(bucketGone).Get(no) != nil
		}
		return nil
	})
	return gone, err
}

// flagMoved is set in the kind of a place whose Number is that of a KindMoved entry.
const flagMoved = 0x80

const placeSize = 1 + 4 + 8 + 4 + 8 + 8

func encodePlace(logNo uint32, n uint64, packNo uint32, e *record.Entry) []byte {
	b := make([]byte, 0, placeSize)
	kind := byte(0)
	for i, k := range kinds {
		if k == e.Holds() {
			kind = byte(i)
		}
	}
	if e.Moved != nil {
		kind |= flagMoved
	}
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, logNo)
	b = binary.BigEndian.AppendUint64(b, n)
	b = binary.BigEndian.AppendUint32(b, packNo)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Frame))
	return binary.BigEndian.AppendUint64(b, uint64(e.Length))
}

func decodePlace(tx *bbolt.Tx, v []byte, p *place) error {
	if len(v) != placeSize || int(v[0]&^flagMoved) >= len(kinds) {
		return fmt.Errorf("catalog: a place of %d bytes", len(v))
	}
	p.Kind, p.Moved = kinds[v[0]&^flagMoved], v[0]&flagMoved != 0
	p.Log = string(tx.Bucket(bucketLogs).Get(append([]byte{'#'}, v[1:5]...)))
	p.Number = binary.BigEndian.Uint64(v[5:])
	p.Gone = tx.Bucket(bucketGone).Get(v[13:17]) != nil
	pack := tx.Bucket(bucketPacks).Get(append([]byte{'#'}, v[13:17]...))
	if len(pack) <= len(p.PackSHA256) {
		return errors.New("catalog: a place in no pack")
	}
	cut := len(pack) - len(p.PackSHA256)
	p.Pack = string(pack[:cut-1])
	copy(p.PackSHA256[:], pack[cut:])
	p.Frame = int64(binary.BigEndian.Uint64(v[17:]))
	p.Length = int64(binary.BigEndian.Uint64(v[25:]))
	return nil
}
