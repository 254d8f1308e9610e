package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Snapshot is this node's log as it was at one commit: what is read and proved by it comes out the same whenever it is asked again. It is
// for one goroutine, and for as long as the context that it was made with.
type Snapshot struct {
	*ledger.Prover
	ctx    context.Context
	a      *Archive
	reader *ledger.Reader
}

// Snapshot gives the log as it is now.
func (a *Archive) Snapshot(ctx context.Context) (*Snapshot, error) {
	head, err := a.log.Newest(ctx)
	if err != nil {
		return nil, err
	}
	return a.SnapshotAt(ctx, a.log.Name(), head.Commit)
}

// SnapshotAt gives a log as it was after a commit.
func (a *Archive) SnapshotAt(ctx context.Context, log string, commit uint64) (*Snapshot, error) {
	if log != a.log.Name() {
		return nil, fmt.Errorf("log %s: this node follows %s: %w", log, a.log.Name(), ErrNotFound)
	}
	prover, err := a.log.ProverAt(ctx, commit)
	if err != nil {
		return nil, err
	}
	return &Snapshot{prover, ctx, a, a.log.Reader}, nil
}

// Find gives the number of the entry of a message; false where the snapshot has none.
func (s *Snapshot) Find(id record.ID) (uint64, bool, error) {
	p, ok, err := s.a.catalog.find(id, "")
	if err != nil || !ok || p.Gone || p.Log != s.Checkpoint.Log {
		return 0, false, err
	}
	n, err := s.a.firstEntry(s.ctx, p)
	return n, err == nil && n < s.Checkpoint.Size, err
}

// Member is one record of a snapshot.
type Member struct {
	ledger.Numbered
	Item *record.Item // its Body, where it has one, can be opened once, until the next member is asked for; it checks what is read
	Err  error        // it is not what its entry says, or not where: Damaged
}

// Damaged tells a record that is not what its entry says, or not where, from one that can't be reached just now.
func Damaged(err error) bool { return isDamage(err) || errors.Is(err, ErrDestroyed) }

// Records reads the records of these entries, given in ascending order, pack by pack. It ends at the first error, which it yields; a record
// that is damaged is given with what is wrong.
func (s *Snapshot) Records(ctx context.Context, numbers iter.Seq[uint64]) iter.Seq2[Member, error] {
	return func(yield func(Member, error) bool) {
		next, stop := iter.Pull(numbers)
		defer stop()
		n, more := next()
		for more {
			for commit, err := range s.reader.Commits(ctx, n) {
				if err != nil {
					yield(Member{}, err)
					return
				}
				first, end := commit.Header.First, commit.Header.First+uint64(len(commit.Entries))
				var wanted []ledger.Numbered
				for ; more && n < end; n, more = next() {
					if n >= s.Checkpoint.Size || n < first {
						yield(Member{}, fmt.Errorf("log %s: entry %d: %w", s.Checkpoint.Log, n, ledger.ErrRange))
						return
					}
					wanted = append(wanted, commit.Entries[n-first])
				}
				if !s.read(ctx, wanted, yield) {
					return
				}
				if !more || n >= end+seekAfter*uint64(len(commit.Entries)) {
					break // looked up again rather than read up to
				}
			}
			if more && ctx.Err() != nil {
				yield(Member{}, ctx.Err())
				return
			}
		}
	}
}

// seekAfter is how many commits, of the size of the present one, are read in a row to come to the next record.
const seekAfter = 8

// read gives the records of entries of one commit.
func (s *Snapshot) read(ctx context.Context, wanted []ledger.Numbered, yield func(Member, error) bool) bool {
	all := func(*record.Entry) bool { return true }
	for run := range runs(wanted, 0) {
		at, failed := 0, error(nil)
		ok := s.a.replayRun(ctx, run, all, func(r Replayed) bool {
			m := Member{Numbered: run[at], Item: r.Item, Err: r.Err}
			at++
			if m.Err != nil && !Damaged(m.Err) {
				failed = m.Err
				return false
			}
			return yield(m, nil)
		})
		if failed != nil {
			yield(Member{}, failed)
			return false
		}
		if !ok {
			return false
		}
		if ctx.Err() != nil {
			yield(Member{}, ctx.Err())
			return false
		}
	}
	return true
}

// Late gives the supplements of a message that came after it was packed, as the snapshot has them, damaged ones with what is wrong.
func (s *Snapshot) Late(ctx context.Context, id record.ID) ([]Member, error) {
	places, err := s.a.catalog.supplements(id)
	if err != nil {
		return nil, err
	}
	var list []Member
	for _, p := range places {
		if p.Gone || p.Log != s.Checkpoint.Log {
			continue
		}
		n, err := s.a.firstEntry(ctx, p)
		if err != nil {
			return nil, err
		}
		if n >= s.Checkpoint.Size {
			continue
		}
		e, err := s.reader.Entry(ctx, n)
		if err != nil {
			return nil, err
		}
		var it *record.Item
		l, err := s.a.fetchPlace(ctx, p, id)
		if err == nil {
			it = l.Item
		} else {
			err = fmt.Errorf("%s %s in %s: %w", id, e.Entry.Name, p.Pack, err)
			if !Damaged(err) {
				return nil, err
			}
		}
		list = append(list, Member{Numbered: e, Item: it, Err: err})
	}
	return list, nil
}

// Sign signs a text that is no checkpoint with the archive's key, for ledger.OpenNote. Its first line must say what it is: none that begins
// with "holdfast/" is signed, for that is how a checkpoint begins.
func (a *Archive) Sign(text string) ([]byte, error) {
	if len(text) >= 9 && text[:9] == "holdfast/" {
		return nil, fmt.Errorf("sign: %q begins like a checkpoint", text)
	}
	signed, err := note.Sign(&note.Note{Text: text}, a.keys.Signer)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return signed, nil
}

// Verifier is the archive's public key, as ledger.pub has it.
func (a *Archive) Verifier() string { return a.keys.Verifier }
