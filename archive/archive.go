// Package archive takes records in and gives them out again: it seals them into packs, stores the packs, and commits to each record in
// the ledger; it fetches, proves, verifies and rebuilds.
//
// What it promises: a record is released from local custody only after its pack is in the object store and its entry in the ledger. A
// crash at any step is safe to run again, and none of the steps ever replaces or removes an object. The object store and the keys are
// all that must survive; everything under data_dir can be made again from them, but for what is still in the spool.
package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// What callers tell apart with errors.Is.
var (
	ErrNotFound = errors.New("no such record")
	ErrPending  = errors.New("record is in local custody, not yet in the archive")
	ErrAltered  = errors.New("record is not what the ledger says it was")
	ErrReadOnly = errors.New("archive is open for reading only")
	// ErrDestroyed is an ErrNotFound: there was such a record, and the ledger says by which act it was destroyed.
	ErrDestroyed = fmt.Errorf("%w: it was destroyed", ErrNotFound)
)

// LogActs is the log that all nodes share.
const LogActs = "acts"

// NodeLog is the name of a node's own log.
func NodeLog(node string) string { return "node-" + node }

// Store is what the archive needs of an object store.
type Store interface {
	object.Store
	object.VersionReader
	object.VersionLister
	object.Publisher
}

// Custody is the local custody that the archive empties. The spool is one.
type Custody interface {
	// Next gives the next settled record and blocks until there is one. TryNext gives nil where there is none now.
	Next(ctx context.Context) (*record.Item, error)
	TryNext(ctx context.Context) (*record.Item, error)
	// Release says that the archive holds these.
	Release(ctx context.Context, items []*record.Item) error
	// Waiting gives the sequences, as ranges, that are in custody and not released. Every other one up to Newest has been released, if
	// Newest was asked first.
	Waiting() [][2]uint64
	Newest() uint64
	// Find gives a record that is in custody and not released, or nil.
	Find(ctx context.Context, id record.ID) (*record.Item, error)
}

// Options are what an Archive is wired with.
type Options struct {
	Config   Config
	Store    Store
	Keys     *Keys
	DataDir  string                       // catalog and packs on their way
	Expiry   func(*record.Item) time.Time // zero: never
	Held     func(*record.Item) bool      // a hold matches it, as far as is known when it comes; nil: none does
	Keep     func(*record.Item) Keep      // nil: everything
	Busy     func() bool                  // mail is coming in: packing yields to it, for a second at most; nil: never
	Log      *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
	FS       FS // of packs on their way; nil: the host's
}

// Keep says what of a record is archived.
type Keep int

// What of a record is archived.
const (
	KeepAll      Keep = iota
	KeepEnvelope      // refused mail: envelope and supplements, not the message
	KeepNothing       // refused mail: an entry says that its sequence holds nothing
)

// Archive is one archive, as one node writes and reads it. Safe for concurrent use.
type Archive struct {
	cfg        Config
	store      Store
	keys       *Keys
	init       record.Init // of the archive
	recipients []age.Recipient
	log        *ledger.Log // this node's
	acts       *Acts       // that of all nodes
	catalog    *catalog
	fs         FS
	packDir    string
	expiry     func(*record.Item) time.Time
	held       func(*record.Item) bool
	keep       func(*record.Item) Keep
	busy       func() bool
	slog       *slog.Logger
	metrics    *metrics
	now        func() time.Time
	started    time.Time
	packNo     int // by the sealing goroutine
	readers    *packReaders
	waiters    *waiters
	trouble    trouble

	former    []*sealedPack     // sealed before this start, to be committed by Run
	pending   *roaring64.Bitmap // sequences that were in custody at the last commit before this start
	atStart   uint64            // entries of the log at this start
	taken     *roaring64.Bitmap // sequences that they account for
	commitMu  sync.Mutex        // held while the ledger is ahead of the catalog
	rebuildMu sync.Mutex        // held while the catalog is made again

	mu        sync.Mutex
	custody   Custody                      // set by Run
	recovered map[recoveredKey]*sealedPack // sealed before this start, their items not yet seen again in the spool
}

// Open opens an archive for a node that writes to it. Errors: ledger.ErrNoLog where there is no archive (nothing is made),
// ErrWrongKey where it is another's.
func Open(ctx context.Context, o Options) (*Archive, error) {
	if o.Keys.Signer == nil {
		return nil, fmt.Errorf("keys_dir %s: no %s: %w", o.Keys.Dir, fileSigner, ErrNoKeys)
	}
	init, err := readInit(ctx, o.Store, o.Keys)
	if err != nil {
		return nil, err
	}
	a := &Archive{
		cfg: o.Config, store: o.Store, keys: o.Keys, init: *init, packDir: filepath.Join(o.DataDir, "packs"),
		expiry: o.Expiry, held: o.Held, keep: o.Keep, busy: o.Busy, slog: o.Log, now: o.Now, started: o.Now(), recovered: map[recoveredKey]*sealedPack{},
		waiters: newWaiters(), fs: o.FS,
	}
	if a.fs == nil {
		a.fs = osFS{}
	}
	if a.held == nil || a.cfg.Lock() == object.LockNone {
		a.held = func(*record.Item) bool { return false }
	}
	if a.keep == nil {
		a.keep = func(*record.Item) Keep { return KeepAll }
	}
	if a.busy == nil {
		a.busy = func() bool { return false }
	}
	if a.recipients, err = parseRecipients(init.Recipients, o.Config.Recipients); err != nil {
		return nil, err
	}
	a.readers = &packReaders{store: o.Store, identities: o.Keys.Identities, damaged: a.damaged, open: map[string]*pack.Reader{}}
	if a.acts, err = newActs(a); err != nil {
		return nil, err
	}
	if a.log, err = a.openLog(ctx, NodeLog(o.Config.Node)); err != nil { // before anything is made on disk
		return nil, err
	}
	if err := makeDir(a.fs, a.packDir); err != nil {
		return nil, errors.Join(fmt.Errorf("data_dir: %w", err), a.log.Close(ctx))
	}
	path := filepath.Join(o.DataDir, "catalog.db")
	err = a.recoverState(ctx, path)
	if errors.Is(err, errCatalog) { // it is gone, and is made again
		a.slog.Error("the catalog is made again from the ledger", "err", err)
		err = a.recoverState(ctx, path)
	}
	if err != nil {
		return nil, errors.Join(err, a.log.Close(ctx))
	}
	a.metrics = newMetrics(o.Registry, a)
	return a, nil
}

// recoverState opens the catalog, lets it catch up, and finds what was on its way.
func (a *Archive) recoverState(ctx context.Context, path string) (err error) {
	if a.catalog, err = openCatalog(path, a.init.Archive); err != nil {
		return err
	}
	if err = a.sameLedger(ctx); err == nil {
		if err = a.catchUp(ctx, nil); err == nil {
			if err = a.takeUp(ctx); err == nil {
				_, err = a.accounted()
			}
		}
	}
	if err != nil {
		return errors.Join(err, a.catalog.close())
	}
	return nil
}

// damaged raises the alarm.
func (a *Archive) damaged(e *record.Entry, err error) {
	a.metrics.altered.Inc()
	a.slog.Error("a record is not what the ledger says it was", "record", e.ID, "pack", e.Pack, "err", err)
}

// Close publishes what the ledger has not yet and closes the catalog. Run must have ended.
func (a *Archive) Close(ctx context.Context) error {
	return errors.Join(a.acts.close(ctx), a.log.Close(ctx), a.catalog.close())
}

// Init is what the archive was made with.
func (a *Archive) Init() record.Init { return a.init }

// Encrypted says whether packs are.
func (a *Archive) Encrypted() bool { return len(a.recipients) > 0 }

// Readable says whether this node can read what it archives: whether packs are encrypted to its own identity too.
func (a *Archive) Readable() bool {
	return !a.Encrypted() || slices.ContainsFunc(a.recipients, func(r age.Recipient) bool {
		own, ok := r.(*age.X25519Recipient)
		return ok && own.String() == a.keys.Recipient
	})
}

// NextSequence is the spool sequence that follows the newest that this node's log, or a pack on its way there, speaks of: where a spool that
// is new must begin, so that no number is given twice.
func (a *Archive) NextSequence() (uint64, error) {
	known, err := a.accounted()
	if err != nil {
		return 0, err
	}
	known.Or(a.pending)
	if known.IsEmpty() {
		return 1, nil
	}
	return known.Maximum() + 1, nil
}

// Has says whether a message is in the archive: committed, as far as this node has followed the ledger.
func (a *Archive) Has(id record.ID) (bool, error) {
	_, ok, err := a.catalog.find(id, "")
	return ok, err
}
