package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// What callers tell apart with errors.Is.
var (
	ErrMoved  = errors.New("the log has grown since")                  // what was decided on its former end must be decided again
	ErrCursor = errors.New("not the log that was followed")            // what was folded from it must be folded again
	ErrOpen   = errors.New("it is not known whether this was done")    // the store gave no answer: look before it is done again
	ErrFold   = errors.New("an act can't be taken into what is known") // of a later version, or damaged
)

// Order is the log of acts that all nodes share, so that these have one order. The archive has it.
type Order interface {
	// Follow gives what was committed from a cursor on, commit by commit, up to the newest at the time of the call. ErrCursor where the
	// log is not the one that the cursor is of. It ends at the first error.
	Follow(ctx context.Context, from Cursor) iter.Seq2[Batch, error]
	// Store puts an act where it survives this node and gives the entry that commits to it. Nothing has happened by that.
	Store(ctx context.Context, act *record.Act) (record.Entry, error)
	// Commit adds an entry to the log, as the one of this number. ErrMoved where the log has one of this number: the entry is not in it,
	// unless an earlier Commit of the same entry put it there. After any other error it may or may not be in the log.
	Commit(ctx context.Context, at uint64, e record.Entry) error
}

// Cursor is a place in the log: after N entries, over which the tree has this root.
type Cursor struct {
	N    uint64        `json:"n"`
	Root record.Digest `json:"root"`
}

// Batch is one commit: its acts, in order, and the place after it.
type Batch struct {
	Acts []*record.Act
	End  Cursor
}

// Fold turns acts into what is in force. A Book calls it under its lock.
type Fold interface {
	// Apply takes in one act; of a kind that is not its own it takes no notice. An error means that what is in force is not known.
	Apply(act *record.Act) error
	// Save gives all of the state as JSON, and Load takes it in again; nil is the state before the first act.
	Save() (json.RawMessage, error)
	Load(state json.RawMessage) error
}

// Book is what the acts of all nodes come to: it follows their log, keeps a snapshot on disk, and adds to it. The snapshot is derived: one
// that is absent, damaged, or of another log is made again from the first act. Safe for concurrent use.
type Book struct {
	o    BookOptions
	turn sync.Mutex // one refresh, or one act, at a time

	mu     sync.RWMutex // held for writing while the folds change
	cursor Cursor
	err    error // why the folds are not to be relied on; nil: they are
	saved  Cursor
}

// BookOptions are what a Book is wired with.
type BookOptions struct {
	Order   Order
	Archive string          // the archive's id
	Node    string          // who acts here
	Path    string          // of the snapshot
	Folds   map[string]Fold // by name, under which each stands in the snapshot
	Now     func() time.Time
	Log     *slog.Logger
}

// errUnread is the state of a Book that has not been refreshed.
var errUnread = errors.New("the acts have not been read yet")

// NewBook makes a Book from the snapshot, where there is one. It reads nothing else: Refresh does.
func NewBook(o BookOptions) (*Book, error) {
	b := &Book{o: o, err: errUnread}
	if err := b.load(); err != nil {
		o.Log.Warn("what is in force is made again from the acts", "err", err)
		if err := b.reset(); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// snapshot is the file, behind a line with the SHA-256 of its text.
type snapshot struct {
	V       int                        `json:"v"`
	Archive string                     `json:"archive"`
	Cursor  Cursor                     `json:"cursor"`
	Folds   map[string]json.RawMessage `json:"folds"`
}

func (b *Book) load() error {
	text, err := os.ReadFile(b.o.Path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return b.reset()
		}
		return err
	}
	sum, text, _ := bytes.Cut(text, []byte("\n"))
	if string(sum) != record.Sum(text).String() {
		return fmt.Errorf("%s is damaged", b.o.Path)
	}
	var s snapshot
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("%s: %w", b.o.Path, err)
	}
	if s.V != record.Version || s.Archive != b.o.Archive {
		return fmt.Errorf("%s is of version %d and archive %s", b.o.Path, s.V, s.Archive)
	}
	for name, f := range b.o.Folds {
		if s.Folds[name] == nil {
			return fmt.Errorf("%s: nothing of %s", b.o.Path, name)
		}
		if err := f.Load(s.Folds[name]); err != nil {
			return fmt.Errorf("%s: %s: %w", b.o.Path, name, err)
		}
	}
	b.cursor, b.saved = s.Cursor, s.Cursor
	return nil
}

func (b *Book) reset() error {
	b.cursor = Cursor{}
	for name, f := range b.o.Folds {
		if err := f.Load(nil); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// Save writes the snapshot, if there is anything new to write.
//
//	write <path>.new, fsync, rename, fsync folder     a crash leaves the old one, or none, which the acts make again
func (b *Book) Save() error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.err != nil || b.cursor == b.saved {
		return nil
	}
	s := snapshot{V: record.Version, Archive: b.o.Archive, Cursor: b.cursor, Folds: map[string]json.RawMessage{}}
	for name, f := range b.o.Folds {
		text, err := f.Save()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.Folds[name] = text
	}
	text, err := json.Marshal(s)
	if err == nil {
		err = replaceFile(b.o.Path, []byte(record.Sum(text).String()+"\n"), text)
	}
	if err != nil {
		return fmt.Errorf("snapshot of the acts: %w", err)
	}
	return nil
}

func replaceFile(path string, texts ...[]byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for _, text := range texts {
		if _, err = f.Write(text); err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Read calls f while what is in force does not change. f must not keep what the folds may change. An error, and f is not called, where the
// acts could not be read: then nothing may be destroyed, and no act of this log can be done.
func (b *Book) Read(f func()) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.err != nil {
		return b.err
	}
	f()
	return nil
}

// Cursor says how far the acts have been read.
func (b *Book) Cursor() Cursor {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.cursor
}

// Refresh takes in what was done since, by this node and others.
func (b *Book) Refresh(ctx context.Context) error {
	b.turn.Lock()
	defer b.turn.Unlock()
	_, err := b.refresh(ctx, record.ID{})
	return err
}

// refresh takes in what is new, and says whether this act is among it. turn is held.
func (b *Book) refresh(ctx context.Context, looked record.ID) (found bool, err error) {
	found, err = b.follow(ctx, looked)
	if errors.Is(err, ErrCursor) {
		b.o.Log.Error("what is in force is made again from the acts", "err", err)
		b.mu.Lock()
		err = b.reset()
		b.mu.Unlock()
		if err == nil {
			found, err = b.follow(ctx, looked)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.err = nil
	case errors.Is(err, ErrFold): // it does not pass
		b.err = err
	case b.err != nil: // never read whole so far
		b.err = err
	}
	return found, err
}

func (b *Book) follow(ctx context.Context, looked record.ID) (found bool, err error) {
	for batch, err := range b.o.Order.Follow(ctx, b.cursor) {
		if err != nil {
			return found, err
		}
		if err := b.apply(batch); err != nil {
			return found, err
		}
		found = found || slices.ContainsFunc(batch.Acts, func(a *record.Act) bool { return a.ID == looked })
	}
	return found, ctx.Err()
}

// apply takes in one commit. After an error nothing that the folds say counts, and they begin anew.
func (b *Book) apply(batch Batch) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, act := range batch.Acts {
		if act.V > record.Version {
			err = fmt.Errorf("%s %s: %w: it is of version %d", act.Kind, act.ID, ErrFold, act.V)
		}
		for _, f := range b.o.Folds {
			if err == nil {
				if err = f.Apply(act); err != nil {
					err = fmt.Errorf("%s %s: %w: %w", act.Kind, act.ID, ErrFold, err)
				}
			}
		}
		if err != nil {
			b.err = err
			return errors.Join(err, b.reset())
		}
	}
	b.cursor = batch.End
	return nil
}

// doTime bounds one act.
const doTime = 2 * time.Minute

// Do has an act committed. decide says what is done, on what is then in force: it is called again where others have acted meanwhile, and
// its error ends it, with nothing done. detail is marshalled as JSON. Do gives the act once it is in force here.
//
// Errors beside those of decide: ErrNotRecorded: it was not done. ErrOpen: the store gave no answer, and it may have been done.
func (b *Book) Do(ctx context.Context, by record.Actor, decide func() (kind string, detail any, err error)) (*record.Act, error) {
	ctx, cancel := context.WithTimeout(ctx, doTime)
	defer cancel()
	b.turn.Lock()
	defer b.turn.Unlock()
	t := &try{book: b, by: by}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		done, err := t.once(ctx, decide)
		if err != nil {
			return nil, err
		}
		if done {
			return t.act, nil
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, t.notDone(err)
		}
	}
}

// try is one act on its way.
type try struct {
	book  *Book
	by    record.Actor
	act   *record.Act
	body  []byte // of its detail
	entry record.Entry
	at    uint64 // the number that it was last to have
	sent  bool   // a Commit for it gave no answer
	found bool   // it is in the log
	last  error  // why it was tried again
}

// once goes through all the steps. Neither done nor an error: it is to be tried again.
func (t *try) once(ctx context.Context, decide func() (string, any, error)) (done bool, err error) {
	err = t.refresh(ctx)
	switch {
	case t.found && err == nil:
		return true, nil
	case err != nil && (t.found || t.sent) && !errors.Is(err, ErrFold):
		t.last = err
		return false, nil // to know whether it was done, or to have it in force here
	case err != nil:
		return false, t.notDone(err)
	}
	at := t.book.Cursor().N
	t.sent = t.sent && at == t.at // another has that number: what was sent is nowhere, and will not be
	if err := t.decide(ctx, decide); err != nil {
		return false, err
	}
	t.at = at
	if t.last = t.book.o.Order.Commit(ctx, at, t.entry); t.last != nil {
		t.sent = !errors.Is(t.last, ErrMoved)
		return false, nil
	}
	t.found = true
	t.last = t.refresh(ctx)
	return t.last == nil, nil
}

// refresh takes in what is new, and looks for the act among it.
func (t *try) refresh(ctx context.Context) error {
	var id record.ID
	if t.act != nil {
		id = t.act.ID
	}
	found, err := t.book.refresh(ctx, id)
	t.found = t.found || found && t.act != nil
	return err
}

// decide asks what is to be done, and stores the act unless it is the one that was stored already.
func (t *try) decide(ctx context.Context, decide func() (string, any, error)) (err error) {
	var kind string
	var detail any
	if rerr := t.book.Read(func() { kind, detail, err = decide() }); rerr != nil {
		return t.notDone(rerr)
	}
	if err != nil {
		return err
	}
	body, err := json.Marshal(detail)
	if err != nil {
		return t.notDone(err)
	}
	if t.act != nil && t.act.Kind == kind && bytes.Equal(body, t.body) {
		return nil
	}
	now := t.book.o.Now().UTC().Truncate(time.Millisecond)
	t.body, t.act = body, &record.Act{
		V: record.Version, ID: record.NewID(now), Kind: kind, Nonce: record.NewNonce(), Time: now, Node: t.book.o.Node, Actor: t.by,
	}
	if err := json.Unmarshal(body, &t.act.Detail); err != nil {
		return t.notDone(err)
	}
	if t.entry, err = t.book.o.Order.Store(ctx, t.act); err != nil {
		return t.notDone(err)
	}
	return nil
}

// notDone is the error of an act that did not come about, or of which that is not known.
func (t *try) notDone(err error) error {
	if t.sent || t.found {
		return fmt.Errorf("%s by %s: %w: %w", t.act.Kind, t.by.ID, ErrOpen, errors.Join(err, t.last))
	}
	return fmt.Errorf("act by %s: %w: %w", t.by.ID, ErrNotRecorded, errors.Join(err, t.last))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
