// Package object is the store under the archive: immutable objects by key, in a folder or in an S3 bucket.
//
// What it promises: a key is written once and keeps its bytes; returned means persisted; and nothing that is given only a Store, a
// Publisher or a Protector can destroy. Destroying needs a Disposer, which is a type of its own so that it can be handed to one package.
// Both drivers (File, S3) pass the one conformance suite in objecttest. FORMAT.md describes what they write.
package object

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// What callers tell apart with errors.Is. Every error of this package names the key.
var (
	ErrNotFound    = errors.New("object not found")
	ErrConflict    = errors.New("object exists with other bytes") // the caller lost a race, or is about to overwrite
	ErrMismatch    = errors.New("object does not have the bytes it was written with")
	ErrUnsupported = errors.New("not supported by this store")
	ErrRange       = errors.New("range outside the object")
	ErrKey         = errors.New("invalid object key")
	ErrNoStore     = errors.New("there is no store") // the folder or bucket itself is absent; nothing makes one but Make
)

// Info describes one version of an object.
type Info struct {
	Key     string
	Size    int64         // bytes
	SHA256  record.Digest // zero where the store does not tell
	Version string        // the store's version id; empty where it has none
	Time    time.Time     // the store's own time of writing, UTC; from Create it may be off by seconds
	Lock    Lock          // as far as the store tells
	Marker  bool          // a delete marker: hides the object, holds nothing
}

// Lock is what protects an object from its birth on.
type Lock struct {
	Mode  LockMode
	Until time.Time // UTC; zero: no retention
	Hold  bool      // legal hold
}

// LockMode is an S3 Object Lock mode.
type LockMode string

// The modes.
const (
	LockNone       LockMode = ""
	LockGovernance LockMode = "governance"
	LockCompliance LockMode = "compliance"
)

// Store reads and creates objects. Safe for concurrent use. Every call ends when its context does.
type Store interface {
	// Create writes an object once. body is read from its start to its end, more than once where a retry needs it. The same bytes under
	// the same key again succeed; other bytes are ErrConflict, and of racing creators exactly one wins. When it returns nil the object is
	// fully persisted: in a folder, file and directories are fsynced. An answer that was lost is resolved here, by reading back: an error
	// other than ErrConflict means that the object may or may not be there, and that to call again with the same bytes is safe.
	Create(ctx context.Context, key string, body io.ReadSeeker, lock Lock) (Info, error)
	// Open reads n bytes from off; n < 0 means to the end. A range that the object does not have is ErrRange, an absent object
	// ErrNotFound: both at once, not at the first Read. A body that ends too soon is an error other than io.EOF. The caller closes it.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// Stat is ErrNotFound where there is no object (or only a delete marker above it).
	Stat(ctx context.Context, key string) (Info, error)
	// List yields the objects whose key begins with prefix and is greater than after, in the byte order of keys, each once. It ends at
	// the first error, which it yields. What other hands put there under names that CheckKey refuses is passed over.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]
	// Versions lists every version and delete marker of one key, newest first; a store without versions gives the one there is. A key
	// that was never written has none, which is no error.
	Versions(ctx context.Context, key string) ([]Info, error)
}

// Publisher replaces an object. Only two kinds of key are ever replaced: a log's derived checkpoint, and what is under state/; any other
// is ErrKey (CheckReplace). A reader sees the old bytes or the new ones. nil means persisted.
type Publisher interface {
	Replace(ctx context.Context, key string, body []byte) error
}

// Protector only ever keeps longer. A store that can't lock is ErrUnsupported.
type Protector interface {
	// Extend keeps every version of the object until then, or longer where it is kept longer already.
	Extend(ctx context.Context, key string, until time.Time) error
	// Hold puts every version under legal hold.
	Hold(ctx context.Context, key string) error
}

// VersionLister lists what lies under the keys that begin with prefix, all versions and delete markers of each, in the byte order of keys,
// those of one key in no order. It is how one finds out that others wrote over objects or hid them. It ends at the first error, which it
// yields. A store without versions yields the one that there is of each.
type VersionLister interface {
	ListVersions(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// VersionReader reads a version that Versions gave, also where another version or a delete marker hides it. A store without versions has
// the empty one.
type VersionReader interface {
	OpenVersion(ctx context.Context, key, version string, off, n int64) (io.ReadCloser, error)
}

// Keeper is all that may be done to a store short of destroying. It is what Open gives.
type Keeper interface {
	Store
	VersionReader
	VersionLister
	Publisher
	Protector
	Close() error
}

// Disposer is the power to destroy: a capability of its own, with credentials of its own where the store has them.
type Disposer interface {
	Unhold(ctx context.Context, key string) error
	// DeleteAll destroys every version and marker of a key; its error names what a lock still keeps.
	DeleteAll(ctx context.Context, key string) error
}
