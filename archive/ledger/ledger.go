// Package ledger is an append-only Merkle log over an object store.
//
// What it promises: an entry that Append has taken is in the log for ever, at its number, and no entry before it can change, vanish or
// move without Verify naming the object. One log has one writer at a time; of two that try, one stops with ErrLost, so a log can't fork.
// Nothing is ever overwritten but the derived checkpoint, through an object.Publisher.
//
// A log is a sequence of commits: objects that are created once, each a batch of entries and the signed checkpoint after it. They are the
// truth. Hash tiles (C2SP tlog-tiles) and the published checkpoint are derived from them, may be behind, and can be made again. The
// format stands in LEDGER.md.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// What callers tell apart with errors.Is.
var (
	ErrNoLog      = errors.New("no archive here: run init")
	ErrExists     = errors.New("log exists")
	ErrLost       = errors.New("another process writes this log")
	ErrUnresolved = errors.New("the former batch may or may not be committed: append it again first")
	ErrClosed     = errors.New("log is closed")
	ErrTooLarge   = errors.New("too large for the ledger")
	ErrEntry      = errors.New("not a ledger entry")
	ErrKey        = errors.New("not the key of this ledger")
	ErrForeign    = errors.New("ledger of another archive")
	ErrAltered    = errors.New("ledger is altered")
	ErrMissing    = errors.New("ledger is incomplete")
	ErrRange      = errors.New("no such entry in the ledger")
)

// What a batch may hold. A batch that holds more is ErrTooLarge: split it.
const (
	MaxBatch      = 1 << 17  // entries
	MaxBatchBytes = 64 << 20 // bytes of the commit before compression: the entries as JSON, and some 4 KiB
)

// DefaultPublishEvery is how often partial tiles and the checkpoint are published.
const DefaultPublishEvery = time.Minute

// Config says which log, and how it is read or written.
type Config struct {
	Store   object.Store
	Log     string // name of the log: a-z, 0-9 and -
	Archive string // the archive's id. Empty: whichever archive the log belongs to

	Verifier note.Verifier

	// The rest is for a writer.
	Signer       note.Signer        // the pair of Verifier; Ed25519
	Publisher    object.Publisher   // of the checkpoint
	Lock         func() object.Lock // for each new commit; nil: none
	PublishEvery time.Duration      // 0: DefaultPublishEvery
	Now          func() time.Time   // nil: time.Now
	Logger       *slog.Logger       // nil: discarded
}

var (
	logName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,78}[a-z0-9])?$`)
	archiveID = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

func (c *Config) validate() error {
	switch {
	case c.Store == nil:
		return errors.New("ledger: no store")
	case !logName.MatchString(c.Log):
		return fmt.Errorf("log %q: not a name of a-z, 0-9 and -, at most 80 long", c.Log)
	case c.Archive != "" && !archiveID.MatchString(c.Archive):
		return fmt.Errorf("archive %q: not 32 hexadecimal digits", c.Archive)
	case c.Verifier == nil:
		return fmt.Errorf("log %s: no verifier key", c.Log)
	}
	return nil
}

// validateWriter checks what only a writer needs and sets the defaults.
func (c *Config) validateWriter() error {
	if c.Signer == nil || c.Publisher == nil {
		return fmt.Errorf("log %s: a writer needs a signer and a publisher", c.Log)
	}
	if c.Signer.Name() != c.Verifier.Name() || c.Signer.KeyHash() != c.Verifier.KeyHash() {
		return fmt.Errorf("log %s: signer %s, verifier %s: %w", c.Log, KeyID(c.Signer), KeyID(c.Verifier), ErrKey)
	}
	if c.PublishEvery <= 0 {
		c.PublishEvery = DefaultPublishEvery
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Lock == nil {
		c.Lock = func() object.Lock { return object.Lock{} }
	}
	return nil
}

// Create makes a log: it writes commit 0, whose one entry is init, at the time now. init.Archive and init.Log say which log, and init.Key
// must be the verifier key of signer. ErrExists where there is anything under the log's prefix. After another error the log may or may not
// be there.
func Create(ctx context.Context, store object.Store, signer note.Signer, init record.Init, lock object.Lock, now time.Time) error {
	verifier, err := note.NewVerifier(init.Key)
	if err != nil {
		return fmt.Errorf("create log %s: key %q: %w", init.Log, init.Key, err)
	}
	if verifier.Name() != signer.Name() || verifier.KeyHash() != signer.KeyHash() {
		return fmt.Errorf("create log %s: signer %s, key %s: %w", init.Log, KeyID(signer), KeyID(verifier), ErrKey)
	}
	c := Config{Store: store, Log: init.Log, Archive: init.Archive, Verifier: verifier}
	if err := c.validate(); err != nil {
		return err
	}
	if c.Archive == "" {
		return fmt.Errorf("create log %s: no archive id", c.Log)
	}
	for info, err := range store.List(ctx, prefix(c.Log), "") {
		if err != nil {
			return fmt.Errorf("create log %s: %w", c.Log, err)
		}
		return fmt.Errorf("create log %s: %s is there: %w", c.Log, info.Key, ErrExists)
	}
	entry := record.Entry{V: record.Version, Kind: record.KindInit, Time: now.UTC(), Init: &init}
	b, err := encodeBatch([]record.Entry{entry})
	if err != nil {
		return fmt.Errorf("create log %s: %w", c.Log, err)
	}
	commit, err := b.commit(signer, c.Archive, Header{V: record.Version, Log: c.Log, Time: now}, frontier{})
	if err != nil {
		return fmt.Errorf("create log %s: %w", c.Log, err)
	}
	err = commit.create(ctx, store, lock)
	if errors.Is(err, object.ErrConflict) {
		return fmt.Errorf("create log %s: %w", c.Log, ErrExists)
	} else if err != nil {
		return fmt.Errorf("create log %s: %w", c.Log, err)
	}
	return nil
}
