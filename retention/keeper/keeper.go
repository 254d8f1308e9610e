// Package keeper applies holds: to what the index has when one is placed, and to mail as it arrives; and it has the object store keep what
// they hold.
//
// What it promises: from the moment at which a hold is placed, each message that matches it is held, and one of which the query can't say.
// What a hold was applied to is written down in acts, soon after; until then, and after a crash, it is the hold's query that keeps (see
// retention.Decide), and the next start applies it again. Nothing here releases or destroys.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/retention"
)

// Options are what a Keeper is wired with.
type Options struct {
	Book   *audit.Book
	Rules  *retention.State
	Search func(ctx context.Context, r index.Request) (*index.Result, error)
	// Packs gives the keys of the packs that a record is in; none where it is in local custody, or in the packs of another node.
	Packs func(id record.ID) ([]string, error)
	// Flag puts an object under legal hold (object.Protector); nil where the store keeps nothing by itself.
	Flag func(ctx context.Context, key string) error
	Log  *slog.Logger
}

const (
	// every is how often what arrived is written down, and the store's flags follow.
	every = 10 * time.Second
	// page is how many records are asked of the index at once.
	page = 100_000
	// atOnce is how many records one act applies a hold to.
	atOnce = 500_000
	// flagTime is for how long a held record is looked for in the packs: longer than any stays in custody. Then it is another node's.
	flagTime = 48 * time.Hour
)

// Schedule is who acts when nobody does.
var Schedule = record.Actor{ID: "schedule"}

// Keeper applies holds. Safe for concurrent use.
type Keeper struct {
	o    Options
	gate sync.RWMutex // held for reading while documents go into the index

	mu      sync.Mutex                    // guards these two
	arrived map[string]map[record.ID]bool // by name of the hold: found as they came, and in no act yet
	swept   map[string]bool               // by name: applied to what the index has

	flagging sync.Mutex            // guards these two, and Options.Flag
	flagged  map[string]bool       // packs
	looked   map[string]record.IDs // by name of the hold: members whose packs are flagged, or which are not ours
}

// New makes a Keeper. It does nothing by itself before Run.
func New(o Options) *Keeper {
	return &Keeper{o: o, arrived: map[string]map[record.ID]bool{}, swept: map[string]bool{}, flagged: map[string]bool{}, looked: map[string]record.IDs{}}
}

// Arrive is called with documents on their way into the index; apply puts them there. What the holds in force match is held by then.
func (k *Keeper) Arrive(docs []*document.Document, apply func() error) error {
	k.gate.RLock()
	defer k.gate.RUnlock()
	var holds []retention.Hold
	if err := k.o.Book.Read(func() { holds = k.o.Rules.Standing() }); err != nil {
		k.mu.Lock()
		clear(k.swept) // these are looked for once it is known what is in force
		k.mu.Unlock()
		return apply()
	}
	if len(holds) > 0 {
		for _, d := range docs {
			k.arrive(d, holds)
		}
	}
	return apply()
}

func (k *Keeper) arrive(d *document.Document, holds []retention.Hold) {
	m := query.NewMatcher(d)
	for i := range holds {
		h := &holds[i]
		if h.Query == nil || h.Members.Has(d.ID) || h.Match(m) == query.No {
			continue
		}
		k.mu.Lock()
		if k.arrived[h.Name] == nil {
			k.arrived[h.Name] = map[record.ID]bool{}
		}
		k.arrived[h.Name][d.ID] = true
		k.mu.Unlock()
	}
}

// Held gives the records that a hold in force holds: those that it was applied to, and those that arrived since. retention.ErrNoHold.
func (k *Keeper) Held(name string) (ids record.IDs, err error) {
	if rerr := k.o.Book.Read(func() { ids, err = k.o.Rules.Held(name) }); rerr != nil || err != nil {
		return nil, errors.Join(rerr, err)
	}
	for hold, list := range k.pending() {
		if query.FoldSetName(hold) == query.FoldSetName(name) {
			ids = ids.Union(list)
		}
	}
	return ids, nil
}

// pending gives what arrived and is in no act yet.
func (k *Keeper) pending() map[string]record.IDs {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]record.IDs{}
	for hold, set := range k.arrived {
		list := make([]record.ID, 0, len(set))
		for id := range set {
			list = append(list, id)
		}
		out[hold] = record.NewIDs(list)
	}
	return out
}

// Find gives all records that a query matches, and with unsure those of which it can't say. Errors are those of the index.
func (k *Keeper) Find(ctx context.Context, r index.Request, unsure bool) (record.IDs, error) {
	var ids []record.ID
	for _, unknown := range []bool{false, true} {
		if unknown && !unsure {
			break
		}
		r.Sort, r.Limit, r.After, r.IDs, r.Unknown = index.ReceivedAsc, page, nil, true, unknown
		for {
			found, err := k.o.Search(ctx, r)
			if err != nil {
				return nil, err
			}
			for i := range found.Hits {
				ids = append(ids, found.Hits[i].ID)
			}
			if len(found.Hits) < page {
				break
			}
			r.After = &found.Hits[len(found.Hits)-1].Cursor
		}
	}
	return record.NewIDs(ids), nil
}

// Apply applies a hold in force to all that the index has, on behalf of somebody, and says to how many records more it applies now.
func (k *Keeper) Apply(ctx context.Context, by record.Actor, name string) (n int, err error) {
	hold, err := k.standing(name)
	if err != nil {
		return 0, err
	}
	if hold.Query != nil {
		ids, err := k.Find(ctx, index.Request{Query: hold.Query}, true)
		if err != nil {
			return 0, fmt.Errorf("hold %q stands, and is not yet applied to what was there: %w", name, err)
		}
		if n, err = k.write(ctx, by, hold.Name, ids.Minus(hold.Members)); err != nil {
			return n, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.swept[hold.Name] = true
	return n, nil
}

// standing gives a hold in force, with nothing on its way into the index: what goes there from here on is looked at with this hold in
// force, and what went before is found there.
func (k *Keeper) standing(name string) (*retention.Hold, error) {
	k.gate.Lock()
	defer k.gate.Unlock()
	var holds []retention.Hold
	if err := k.o.Book.Read(func() { holds = k.o.Rules.Standing() }); err != nil {
		return nil, err
	}
	for i := range holds {
		if query.FoldSetName(holds[i].Name) == query.FoldSetName(name) {
			return &holds[i], nil
		}
	}
	return nil, fmt.Errorf("%q: %w", name, retention.ErrNoHold)
}

// write has acts say to which records a hold is applied.
func (k *Keeper) write(ctx context.Context, by record.Actor, name string, ids record.IDs) (n int, err error) {
	for some := range slices.Chunk(ids, atOnce) {
		_, err := k.o.Book.Do(ctx, by, func() (string, any, error) { return k.o.Rules.ApplyHold(name, some) })
		if err != nil && !errors.Is(err, retention.ErrNothing) {
			return n, err
		}
		n += len(some)
	}
	return n, nil
}

// Flush writes down what arrived.
func (k *Keeper) Flush(ctx context.Context) error {
	for name, ids := range k.pending() {
		_, err := k.write(ctx, Schedule, name, ids)
		if err != nil && !errors.Is(err, retention.ErrReleased) && !errors.Is(err, retention.ErrNoHold) {
			return fmt.Errorf("hold %q, %d records that arrived: %w", name, len(ids), err)
		}
		k.mu.Lock()
		for _, id := range ids {
			delete(k.arrived[name], id)
		}
		if len(k.arrived[name]) == 0 {
			delete(k.arrived, name)
		}
		k.mu.Unlock()
	}
	return nil
}

// Run writes down what arrives, applies the holds that other nodes placed, and those that were in force at the start, once, and has the
// store's flags follow, until ctx ends. What fails is logged and tried again.
func (k *Keeper) Run(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := k.Follow(ctx); err != nil && ctx.Err() == nil {
			k.o.Log.Error("not all that is held is written down, or flagged in the store, yet", "err", err)
		}
	}
}

// Follow is one round of Run.
func (k *Keeper) Follow(ctx context.Context) error {
	var errs []error
	for _, step := range []func(context.Context) error{k.sweep, k.Flush, k.flag} {
		errs = append(errs, step(ctx))
	}
	return errors.Join(errs...)
}

// sweep applies the holds that this process has not yet applied.
func (k *Keeper) sweep(ctx context.Context) error {
	var holds []retention.Hold
	if err := k.o.Book.Read(func() { holds = k.o.Rules.Standing() }); err != nil {
		return err
	}
	for i := range holds {
		k.mu.Lock()
		swept := k.swept[holds[i].Name]
		k.mu.Unlock()
		if swept {
			continue
		}
		if _, err := k.Apply(ctx, Schedule, holds[i].Name); err != nil && !errors.Is(err, retention.ErrNoHold) {
			return err
		}
	}
	return nil
}

// flag puts the packs of held records under legal hold. To do it again does no harm: each start does.
func (k *Keeper) flag(ctx context.Context) error {
	k.flagging.Lock()
	defer k.flagging.Unlock()
	if k.o.Flag == nil {
		return nil
	}
	var holds []retention.Hold
	if err := k.o.Book.Read(func() { holds = k.o.Rules.Standing() }); err != nil {
		return err
	}
	for i := range holds {
		h := &holds[i]
		var looked []record.ID
		for _, id := range h.Members.Minus(k.looked[h.Name]) {
			done, err := k.flagRecord(ctx, id)
			if errors.Is(err, object.ErrUnsupported) {
				k.o.Log.Warn("the store has no legal hold: what is held is kept by this program alone", "err", err)
				k.o.Flag = nil
				return nil
			}
			if err != nil {
				return fmt.Errorf("hold %q: %w", h.Name, err)
			}
			if done {
				looked = append(looked, id)
			}
		}
		k.looked[h.Name] = k.looked[h.Name].Union(record.NewIDs(looked))
	}
	return nil
}

// flagRecord flags the packs of one record. done is false where it may yet come into one.
func (k *Keeper) flagRecord(ctx context.Context, id record.ID) (done bool, err error) {
	keys, err := k.o.Packs(id)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		if k.flagged[key] {
			continue
		}
		if err := k.o.Flag(ctx, key); err != nil {
			return false, err
		}
		k.flagged[key] = true
	}
	return len(keys) > 0 || time.Since(id.Time()) > flagTime, ctx.Err()
}
