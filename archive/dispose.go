package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// What destroys (retention/sweep) works pack by pack. Here is what it needs of the archive short of destroying: to read a pack whole, to put
// the records that stay into another pack, and to have the ledger say of a pack that it is gone.
//
//	<data_dir>/sweep/<n>.pack    the records that stay, being written, then fsynced     → thrown away while <n>.json is missing
//	<data_dir>/sweep/<n>.json    its key and entries, fsynced, then the folder          → a later try sends the same bytes
//	the object                   created in the store, read back                        → as above
//	the commit                   "moved" for each record, and the tombstone             → both files removed; the old pack may go

// Packed is a pack of this node's log: the entries whose records it holds.
type Packed struct {
	Key     string
	SHA256  record.Digest
	Entries []ledger.Numbered
}

// First and Last are the numbers of its entries: they stand in a row.
func (p *Packed) First() uint64 { return p.Entries[0].N }

// Last is the number of the last one.
func (p *Packed) Last() uint64 { return p.Entries[len(p.Entries)-1].N }

// Month is from when on, and until when, records of the pack may expire, as its key has it: the whole of a month in UTC. Both are zero for
// what is kept for ever; ok is false for a key that says nothing of it.
func (p *Packed) Month() (from, end time.Time, ok bool) {
	end, ok = endOf(p.Key)
	if !ok || end.IsZero() {
		return time.Time{}, time.Time{}, ok
	}
	return time.Date(end.Year(), end.Month(), 1, 0, 0, 0, 0, time.UTC), end.Add(time.Second), true
}

// EachPack gives the packs that this node's log names and that are not gone, from an entry on, in the order of the log.
func (a *Archive) EachPack(ctx context.Context, from uint64) iter.Seq2[*Packed, error] {
	return func(yield func(*Packed, error) bool) {
		for commit, err := range a.log.Commits(ctx, from) {
			if err != nil {
				yield(nil, err)
				return
			}
			for run := range runs(commit.Entries, from) {
				p := &Packed{Key: run[0].Entry.Pack, SHA256: run[0].Entry.PackSHA256, Entries: run}
				if p.Key == "" {
					continue
				}
				gone, err := a.catalog.isGone(p.Key, p.SHA256)
				if err != nil {
					yield(nil, err)
					return
				}
				if !gone && !yield(p, nil) {
					return
				}
			}
		}
	}
}

// Packed gives the pack of the entries from this number on. ErrDestroyed where it is gone.
func (a *Archive) Packed(ctx context.Context, first uint64) (*Packed, error) {
	for commit, err := range a.log.Commits(ctx, first) {
		if err != nil {
			return nil, err
		}
		for run := range runs(commit.Entries, first) {
			p := &Packed{Key: run[0].Entry.Pack, SHA256: run[0].Entry.PackSHA256, Entries: run}
			gone, err := a.catalog.isGone(p.Key, p.SHA256)
			if gone {
				err = fmt.Errorf("%s: %w", p.Key, ErrDestroyed)
			}
			return p, err
		}
	}
	return nil, fmt.Errorf("log %s: entry %d: %w", a.log.Name(), first, ledger.ErrRange)
}

// ReadPack reads a pack once and gives each record with the index of its entry. The item's Body can be opened once, until fn returns. Only
// nil says that what was given is what the ledger commits to: that the pack has the SHA-256 of its entries, and a record for each. An error
// for which Damaged holds says that it has not.
func (a *Archive) ReadPack(ctx context.Context, p *Packed, fn func(i int, it *record.Item) error) error {
	at := map[recoveredKey]int{}
	for i := range p.Entries {
		at[keyOf(&p.Entries[i].Entry)] = i
	}
	body, err := a.store.Open(ctx, p.Key, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	scanned, err := pack.Scan(body, a.keys.Identities, func(r *pack.Record) error {
		key := recoveredKey{id: r.ID, name: r.Name}
		i, ok := at[key]
		if !ok {
			return fmt.Errorf("%s: %s %s in it has no entry: %w", p.Key, r.Kind, r.ID, ErrAltered)
		}
		delete(at, key)
		it, err := r.Item()
		if err != nil {
			return err
		}
		if it.Kind != p.Entries[i].Entry.Holds() {
			return fmt.Errorf("%s: %s %s is a %s in it: %w", p.Key, p.Entries[i].Entry.Holds(), r.ID, it.Kind, ErrAltered)
		}
		it.Seq = p.Entries[i].Entry.Seq
		return fn(i, it)
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", p.Key, err)
	case scanned.SHA256 != p.SHA256:
		return fmt.Errorf("%s: SHA-256 %s, the ledger has %s: %w", p.Key, scanned.SHA256, p.SHA256, ErrAltered)
	case len(at) > 0:
		return fmt.Errorf("%s: %d records are not in it: %w", p.Key, len(at), ErrAltered)
	}
	return nil
}

// Gone says whether a message was destroyed, or was never here.
func (a *Archive) Gone(id record.ID) (bool, error) {
	p, ok, err := a.catalog.find(id, "")
	return !ok || p.Gone, err
}

// Late gives how many supplements of a message came after it was packed.
func (a *Archive) Late(id record.ID) (int, error) {
	list, err := a.catalog.supplements(id)
	return len(list), err
}

// Newest is the time of the newest commit of this node's log.
func (a *Archive) Newest() time.Time { return a.log.Head().Time }

// Node is the name of this node's log.
func (a *Archive) Log() string { return a.log.Name() }

// Repacked is a pack of the records that stay.
type Repacked struct {
	V       int            `json:"v"`
	Of      record.Digest  `json:"of"` // SHA-256 of the pack that they lay in
	Key     string         `json:"key"`
	SHA256  record.Digest  `json:"sha256"`
	Until   time.Time      `json:"until,omitzero"`
	Held    bool           `json:"held,omitempty"`
	Entries []record.Entry `json:"entries"` // of kind moved

	base string
}

// Repack puts the records that stay of a pack into one of its own, on the local disk: it is stored by Store. until (zero: never) and held are
// for its key and lock. What a try before this one left is gone on with.
func (a *Archive) Repack(ctx context.Context, p *Packed, stays func(i int) bool, until time.Time, held bool) (*Repacked, error) {
	base := a.repackBase(p.SHA256)
	if err := makeDir(osFS{}, filepath.Dir(base)); err != nil {
		return nil, fmt.Errorf("repack: %w", err)
	}
	if r, err := readRepacked(base); err == nil && r.Of == p.SHA256 && r.same(p, stays) {
		return r, nil
	}
	if err := a.ForgetRepacked(p.SHA256); err != nil {
		return nil, err
	}
	r, err := a.repack(ctx, base, p, stays, until, held)
	if err != nil {
		return nil, fmt.Errorf("repack %s: %w", p.Key, err)
	}
	return r, nil
}

// repackBase is the path, without suffix, of what stays of a pack.
func (a *Archive) repackBase(of record.Digest) string {
	return filepath.Join(filepath.Dir(a.packDir), "sweep", of.String()[:keyDigits])
}

// ForgetRepacked removes from the local disk what was made of the pack with this SHA-256.
func (a *Archive) ForgetRepacked(of record.Digest) error {
	base := a.repackBase(of)
	if err := errors.Join(removeIfThere(base+".json"), removeIfThere(base+".pack")); err != nil {
		return fmt.Errorf("repack: %w", err)
	}
	return nil
}

// same says that a pack has exactly the records that are to stay.
func (r *Repacked) same(p *Packed, stays func(i int) bool) bool {
	n := 0
	for i := range p.Entries {
		if !stays(i) {
			continue
		}
		if n >= len(r.Entries) || r.Entries[n].Moved == nil || r.Entries[n].Moved.Entry != p.Entries[i].N {
			return false
		}
		n++
	}
	return n == len(r.Entries)
}

func readRepacked(base string) (*Repacked, error) {
	text, err := os.ReadFile(base + ".json")
	if err != nil {
		return nil, err
	}
	r := &Repacked{base: base}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	f, err := r.open()
	if err != nil {
		return nil, err
	}
	return r, f.Close()
}

// open opens the file, at its start, once its bytes are known to be those that were written.
func (r *Repacked) open() (io.ReadSeekCloser, error) {
	f, err := os.Open(r.base + ".pack")
	if err != nil {
		return nil, err
	}
	got, err := hashAll(f)
	if err == nil && got.SHA256 != r.SHA256 {
		err = fmt.Errorf("%s.pack: %w", r.base, errNotWhole)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (a *Archive) repack(ctx context.Context, base string, p *Packed, stays func(i int) bool, until time.Time, held bool) (*Repacked, error) {
	f, err := osFS{}.Create(base + ".pack")
	if err != nil {
		return nil, err
	}
	var order []int
	w, err := pack.NewWriter(f, pack.Options{Recipients: a.recipients})
	if err == nil {
		err = a.ReadPack(ctx, p, func(i int, it *record.Item) error {
			if !stays(i) {
				return nil
			}
			order = append(order, i)
			return w.Add(it)
		})
	}
	var sum *pack.Summary
	if err == nil {
		sum, err = w.Close()
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	r := &Repacked{V: record.Version, Of: p.SHA256, SHA256: sum.SHA256, Until: until, Held: held, base: base}
	first := &p.Entries[order[0]].Entry
	r.Key = a.packKey(&openPack{month: monthOf(until), received: first.ID.Time(), firstSeq: first.Seq}, sum.SHA256)
	for k, placed := range sum.Records {
		e := &p.Entries[order[k]]
		if placed.Seal != e.Entry.Seal {
			return nil, fmt.Errorf("%s %s: seal %s, the ledger has %s: %w", placed.Kind, placed.ID, placed.Seal, e.Entry.Seal, ErrAltered)
		}
		r.Entries = append(r.Entries, record.Entry{
			V: record.Version, Kind: record.KindMoved, Time: e.Entry.Time, ID: e.Entry.ID, Name: e.Entry.Name, By: e.Entry.By, Seal: placed.Seal,
			Pack: r.Key, PackSHA256: sum.SHA256, Frame: placed.Frame, Length: placed.Length,
			Moved: &record.Moved{Entry: e.N, Kind: placed.Kind},
		})
	}
	text, err := json.Marshal(r)
	if err == nil {
		err = writeWhole(osFS{}, base+".json", text)
	}
	return r, err
}

// StoreRepacked puts the pack into the store, locked and held in the PUT, and reads it back.
func (a *Archive) StoreRepacked(ctx context.Context, r *Repacked) error {
	f, err := r.open()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := a.store.Create(ctx, r.Key, f, a.Lock(r.Until, r.Held)); err != nil {
		return err
	}
	body, err := a.store.Open(ctx, r.Key, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := hashAll(body)
	if err != nil {
		return err
	}
	if got.SHA256 != r.SHA256 {
		return fmt.Errorf("%s: SHA-256 %s, it was stored with %s: %w", r.Key, got.SHA256, r.SHA256, object.ErrMismatch)
	}
	return nil
}

// Burial says that a pack is gone: of its entries' records those that stay are in another pack, and the others are destroyed.
type Burial struct {
	Key         string
	SHA256      record.Digest
	First, Last uint64
	Stay        *Repacked // nil: none
}

// Bury has the ledger say that packs are gone, by an act: from then on no record is read from them. It says nothing of a pack of which that
// is said already. It tries until it succeeds, or ctx ends; then it is to be called again.
func (a *Archive) Bury(ctx context.Context, act *record.Act, list []Burial) error {
	for len(list) > 0 {
		n, entries := 0, 0
		for n < len(list) && (n == 0 || entries+list[n].entries() <= maxItems) {
			entries += list[n].entries()
			n++
		}
		if err := a.retry(ctx, "tombstones", func() error { return a.bury(ctx, act, list[:n]) }); err != nil {
			return err
		}
		for i := range list[:n] {
			if r := list[i].Stay; r != nil {
				if err := a.ForgetRepacked(r.Of); err != nil {
					return err
				}
			}
		}
		list = list[n:]
	}
	return nil
}

func (b *Burial) entries() int {
	if b.Stay == nil {
		return 1
	}
	return 1 + len(b.Stay.Entries)
}

func (a *Archive) bury(ctx context.Context, act *record.Act, list []Burial) error {
	a.mu.Lock()
	custody := a.custody
	a.mu.Unlock()
	if custody == nil {
		return errors.New("tombstones: the archive does not run yet")
	}
	a.commitMu.Lock()
	defer a.commitMu.Unlock()
	if err := a.catchUp(ctx, nil); err != nil { // of a try whose answer was lost
		return err
	}
	var entries []record.Entry
	for i := range list {
		b := &list[i]
		if gone, err := a.catalog.isGone(b.Key, b.SHA256); err != nil {
			return err
		} else if gone {
			continue
		}
		stay := 0
		if b.Stay != nil {
			stay = len(b.Stay.Entries)
			entries = append(entries, b.Stay.Entries...)
		}
		entries = append(entries, record.Entry{V: record.Version, Kind: record.KindDestroyed, Time: act.Time.UTC(), ID: act.ID, By: act.Actor.ID,
			Gone: &record.Gone{Pack: b.Key, PackSHA256: b.SHA256, First: b.First, Last: b.Last, Destroyed: b.Last - b.First + 1 - uint64(stay)}})
	}
	if len(entries) == 0 {
		return nil
	}
	first, err := a.log.Append(ctx, slices.Clip(entries), custody.Waiting())
	if err != nil {
		return err
	}
	return a.catalog.add(ctx, a.log.Name(), first, entries, a.log.Head().Root)
}
