// Package sweep destroys what is due, and nothing else can: it is the one package that is given the power to.
//
// What it promises: a record is destroyed only after it was decided on as it stands in its pack, read whole and with the SHA-256 that the
// ledger has; after an act that says so was committed at the head of the log of acts, on the very policies and holds that were decided on; and
// on a clock that agrees with the store's. What could not be read is kept. What stays of a pack that goes is in another one, locked, held where
// it is held, read back and in the ledger, before the old one goes.
//
//	decide    each pack that is due is read, and each of its records decided on                → nothing has happened
//	plan      what goes, why, and what is spared and by what: a text, an act with its SHA-256  → approved where that is asked for
//	destroy   an act "destroying" at the head of acts, with packs and records                  → whoever places a hold now is told
//	          for each pack: the records that stay in a new one; the tombstone; the object goes
//	          what else holds the records: index, second copy, exports
//	          an act "destroyed": the certificate
//
// What is cut off goes on with the next run, which first carries out every act "destroying" that has no "destroyed".
package sweep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/retention"
)

// What callers tell apart with errors.Is, beside the errors of retention.
var (
	ErrClock   = errors.New("the clock is not to be trusted: nothing is destroyed")
	ErrRunning = errors.New("a purge is running")
	ErrNothing = errors.New("nothing is due")
)

// Remover takes records out of a place of its own: the index, a second copy, stored exports. Nil means that no file there has a word that
// only they had, or that it will go at its own time. It is called again with the same records after a crash.
type Remover struct {
	Name   string
	Remove func(ctx context.Context, ids []record.ID) error
}

// Options are what a Sweep is wired with.
type Options struct {
	Archive  *archive.Archive
	Store    object.Keeper
	Power    object.Disposer // nil: opened where URL says, when it is first needed
	URL      string
	Book     *audit.Book
	Rules    *retention.State
	Header   func(*record.Item) *document.Document // of a message, as far as envelope and header say
	Document func(*record.Item) *document.Document // of a message that is read whole
	Removers []Remover
	// Custody is a sequence such that no record with a lower one is on the local disk beside the archive. nil: none is.
	Custody  func() uint64
	Dir      string // <data_dir>/sweep
	Node     string
	FourEyes bool
	Locks    bool // the store has Object Lock, and packs are locked
	Now      func() time.Time
	Log      *slog.Logger
}

// Sweep decides, plans and destroys. Safe for concurrent use: one run at a time.
type Sweep struct {
	o       Options
	turn    sync.Mutex
	started time.Time // by Now, with the reading of the monotonic clock where it has one
}

// New makes a Sweep. It does nothing by itself.
func New(o Options) *Sweep {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sweep{o: o, started: o.Now()}
}

// Schedule is who acts when nobody does.
var Schedule = record.Actor{ID: "schedule"}

// lock makes this run the only one.
func (s *Sweep) lock() (func(), error) {
	if !s.turn.TryLock() {
		return nil, ErrRunning
	}
	return s.turn.Unlock, nil
}

// power gives what destroys.
func (s *Sweep) power(ctx context.Context) (object.Disposer, error) {
	if s.o.Power == nil {
		d, err := object.OpenDisposer(ctx, s.o.URL, object.Options{})
		if err != nil {
			return nil, fmt.Errorf("purge: %w", err)
		}
		s.o.Power = d
	}
	return s.o.Power, nil
}

// rules gives what is in force.
type rules struct {
	digest   record.Digest
	policies *retention.Policies
	holds    []retention.Hold
	erase    map[record.ID]string
}

func (s *Sweep) rules() (r rules, err error) {
	err = s.o.Book.Read(func() {
		r = rules{s.o.Rules.Rules(), s.o.Rules.PoliciesInForce(), s.o.Rules.Standing(), s.o.Rules.ToErase()}
	})
	if err != nil {
		return r, fmt.Errorf("what is in force is not known, so nothing is destroyed: %w", err)
	}
	return r, nil
}
