package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/retention"
)

// LockOptions are what a Lengthener is wired with.
type LockOptions struct {
	// InForce gives the policies and holds in force; an error where that is not known.
	InForce func() (*retention.Policies, []retention.Hold, error)
	Search  func(ctx context.Context, r index.Request) (*index.Result, error)
	// Indexed is how many entries of this node's log are in the index; Entries gives them, from a number on.
	Indexed func(ctx context.Context) (uint64, error)
	Entries func(ctx context.Context, from uint64) iter.Seq2[archive.Replayed, error]
	Lock    func(ctx context.Context, key string) (object.Lock, error)        // of a pack
	Extend  func(ctx context.Context, key string, until time.Time) error      // object.Protector
	Say     func(ctx context.Context, packs []Longer, alone record.IDs) error // writes it down, before it is done
	Path    string                                                            // of the file with the progress: derived, and begun anew where it is lost
	Now     func() time.Time
	Log     *slog.Logger
}

// Longer is a pack whose lock is extended.
type Longer struct {
	Pack  string    `json:"pack"`
	Until time.Time `json:"until"`
}

// Lengthener has the locks of packs follow the policies: where the records of a pack are to be kept longer than its lock says, since a
// policy was set or because their text has been read, the lock is extended. It goes through this node's log from the first entry on, once
// for each change of policies, again every quarter of a year for what is kept for ever, and after that follows what is new. A lock is never
// shortened. Where only few records of a pack are to be kept longer, the pack is not extended for their sake (see Lengthener.plan). Safe
// for concurrent use.
type Lengthener struct {
	o LockOptions

	working sync.Mutex // held by Follow
	mu      sync.Mutex // guards state
	state   LockState
}

// LockState is how far a Lengthener has come, and what it found on its way.
type LockState struct {
	V        int       `json:"v"`
	Rules    string    `json:"rules"`   // what policies, holds and quarter it goes by, as a digest
	Began    time.Time `json:"began"`   // with these
	Entries  uint64    `json:"entries"` // of the log that are done
	Total    uint64    `json:"total"`   // of the log
	Packs    int       `json:"packs"`   // looked at
	Extended int       `json:"extended"`
	// Alone counts records that are to be kept longer than the lock of their pack, which is not extended for their sake. It is this program that
	// keeps them from then on.
	Alone int `json:"alone"`
	// What is kept beyond its own time: records by a lock that ends more than a month after it, and packs by a flag although no hold in force
	// holds any record of theirs.
	OverLocked  int       `json:"over_locked"`
	OverFlagged int       `json:"over_flagged"`
	Furthest    time.Time `json:"furthest,omitzero"` // end of the longest lock among those
}

const (
	// window is how many entries are looked at together, at least; it ends with a pack.
	window = 20_000
	// heads is how many locks are asked for at once.
	heads = 4
	// slack is by how much a lock may be short: stores keep it to the second.
	slack = 2 * time.Second
	// month is by how much a lock may be over: the records of a pack are of one.
	month = 31 * 24 * time.Hour
	// renewed is how much of it is left when the lock of what is kept for ever, a year at a time, is extended.
	renewed = 183 * 24 * time.Hour
	// looks is how often a Lengthener looks for something to do.
	looks = 30 * time.Second
)

// NewLengthener makes one. What an earlier one had done is done.
func NewLengthener(o LockOptions) *Lengthener {
	l := &Lengthener{o: o}
	text, err := os.ReadFile(o.Path)
	if err == nil {
		err = json.Unmarshal(text, &l.state)
	}
	if err != nil || l.state.V != 1 {
		l.state = LockState{V: 1}
	}
	return l
}

// State gives how far it is.
func (l *Lengthener) State() LockState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Run works until ctx ends. What fails is logged and tried again.
func (l *Lengthener) Run(ctx context.Context) {
	t := time.NewTicker(looks)
	defer t.Stop()
	for {
		if err := l.Follow(ctx); err != nil && ctx.Err() == nil {
			l.o.Log.Error("not all locks follow the policies yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Follow has the locks follow the policies in force for all that is in the index.
func (l *Lengthener) Follow(ctx context.Context) error {
	l.working.Lock()
	defer l.working.Unlock()
	for {
		policies, holds, err := l.o.InForce()
		if err != nil {
			return err
		}
		indexed, err := l.o.Indexed(ctx)
		if err != nil {
			return err
		}
		s := l.State()
		if rules := digestOf(policies, holds, l.o.Now()); s.Rules != rules {
			s = LockState{V: 1, Rules: rules, Began: l.o.Now().UTC()}
		}
		s.Total = max(s.Total, indexed)
		if s.Entries >= indexed {
			return l.keep(s)
		}
		entries, err := l.next(ctx, s.Entries, indexed)
		if err != nil {
			return err
		}
		if err := l.follow(ctx, &s, entries, policies, holds); err != nil {
			return err
		}
		s.Entries = entries[len(entries)-1].N + 1
		if err := l.keep(s); err != nil {
			return err
		}
	}
}

// keep writes the progress down. Where that is lost all is looked at again, which does no harm.
func (l *Lengthener) keep(s LockState) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s == l.state {
		return nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.o.Path+".new", text, 0o600); err != nil {
		return err
	}
	l.state = s
	return os.Rename(l.o.Path+".new", l.o.Path)
}

// digestOf tells one state of policies and holds from another. It is another every quarter of a year.
func digestOf(p *retention.Policies, holds []retention.Hold, now time.Time) string {
	h := sha256.New()
	list := append([]retention.Policy{p.Default()}, p.All()...)
	for i := range list {
		q := "?"
		if list[i].Query != nil {
			q = list[i].Query.String()
		}
		fmt.Fprintf(h, "%q %q %s %s\n", list[i].Name, q, list[i].Keep, list[i].Start)
	}
	for i := range holds {
		fmt.Fprintf(h, "hold %q\n", holds[i].Name)
	}
	fmt.Fprintf(h, "%d-%d", now.UTC().Year(), (now.UTC().Month()-1)/3)
	return hex.EncodeToString(h.Sum(nil))
}

// next gives entries from a number on, up to one, so many that they end with a pack.
func (l *Lengthener) next(ctx context.Context, from, to uint64) (list []archive.Replayed, err error) {
	for r, err := range l.o.Entries(ctx, from) {
		if err != nil {
			return nil, err
		}
		if r.N >= to || len(list) >= window && r.Entry.Pack != list[len(list)-1].Entry.Pack {
			break
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("entries from %d on: %w", from, io.ErrUnexpectedEOF)
	}
	return list, nil
}

// packOf is one pack and until when each of its records is to be kept.
type packOf struct {
	key   string
	ids   []record.ID
	until []time.Time // zero: for ever
	held  bool        // some record is
	lock  object.Lock
	gone  bool
}

// follow looks at the packs of some entries and extends what is too short.
func (l *Lengthener) follow(ctx context.Context, s *LockState, entries []archive.Replayed, policies *retention.Policies, holds []retention.Hold) error {
	packs, err := l.packsOf(ctx, entries, policies, holds)
	if err != nil {
		return err
	}
	if err := l.askLocks(ctx, packs); err != nil {
		return err
	}
	now := l.o.Now()
	var longer []Longer
	var alone []record.ID
	for _, p := range packs {
		if p.gone {
			continue
		}
		s.Packs++
		until, left := p.plan(now)
		if !until.IsZero() {
			longer = append(longer, Longer{p.key, until})
			p.lock.Until = until
		}
		alone = append(alone, left...)
		s.count(p)
	}
	s.Extended += len(longer)
	s.Alone += len(alone)
	if len(longer) == 0 {
		return nil
	}
	if err := l.o.Say(ctx, longer, record.NewIDs(alone)); err != nil {
		return err
	}
	for _, p := range longer {
		if err := l.o.Extend(ctx, p.Pack, p.Until); err != nil && !errors.Is(err, object.ErrNotFound) {
			return fmt.Errorf("extend the lock of %s to %s: %w", p.Pack, p.Until.Format(time.RFC3339), err)
		}
	}
	l.o.Log.Info("locks extended", "packs", len(longer), "records_alone", len(alone), "through_entry", entries[len(entries)-1].N)
	return nil
}

// count notes what a pack keeps beyond its time.
func (s *LockState) count(p *packOf) {
	over := 0
	for _, until := range p.until {
		if !until.IsZero() && p.lock.Until.After(until.Add(month)) {
			over++
		}
	}
	if s.OverLocked += over; over > 0 && p.lock.Until.After(s.Furthest) {
		s.Furthest = p.lock.Until
	}
	if p.lock.Hold && !p.held {
		s.OverFlagged++
	}
}

// need is until when a pack has to be locked, now, for a record that is to be kept until then (zero: for ever), where it is locked until
// some time already; zero: it is locked for long enough. What is kept for longer than is locked at once needs a lock of half a year.
func need(until, locked, now time.Time) time.Time {
	end := archive.LockedTo(until, now)
	switch {
	case !until.IsZero() && !until.After(now): // nothing has to keep it any more
		return time.Time{}
	case !until.IsZero() && end.After(until): // a lock of a day at least is for new packs
		end = until
	case (until.IsZero() || until.After(end)) && locked.After(now.Add(renewed)):
		return time.Time{}
	}
	if !end.After(locked.Add(slack)) {
		return time.Time{}
	}
	return end
}

// plan says until when the lock of a pack is to be extended (zero: not at all), and which of its records are then still to be kept longer.
// It is extended as far as at least half of its records need it: the rest is kept too long then, and what needs still more is kept by this
// program.
func (p *packOf) plan(now time.Time) (until time.Time, alone []record.ID) {
	ends := make([]time.Time, len(p.ids)) // zero: long enough
	sorted := make([]time.Time, 0, len(p.ids))
	for i := range p.ids {
		ends[i] = need(p.until[i], p.lock.Until, now)
		sorted = append(sorted, ends[i])
	}
	if len(sorted) == 0 {
		return time.Time{}, nil
	}
	slices.SortFunc(sorted, func(a, b time.Time) int { return b.Compare(a) })
	half := sorted[(len(sorted)-1)/2] // at least half of them need this much
	for _, end := range ends {
		if !half.IsZero() && end.Format("2006-01") == half.Format("2006-01") && end.After(until) { // packs are by month
			until = end
		}
	}
	for i, end := range ends {
		if end.After(until) && end.After(p.lock.Until) {
			alone = append(alone, p.ids[i])
		}
	}
	return until, alone
}

// askLocks asks the store for the locks of packs.
func (l *Lengthener) askLocks(ctx context.Context, packs []*packOf) error {
	var wg sync.WaitGroup
	faults := make([]error, heads)
	for n := range heads {
		wg.Go(func() {
			for i := n; i < len(packs) && faults[n] == nil; i += heads {
				lock, err := l.o.Lock(ctx, packs[i].key)
				if packs[i].gone = errors.Is(err, object.ErrNotFound); packs[i].gone {
					err = nil // destroyed since
				}
				packs[i].lock, faults[n] = lock, err
			}
		})
	}
	wg.Wait()
	return errors.Join(faults...)
}

// packsOf gives the packs of entries with the decisions on their records. Acts say nothing of how long: their pack was locked for them.
func (l *Lengthener) packsOf(ctx context.Context, entries []archive.Replayed, policies *retention.Policies, holds []retention.Hold) (list []*packOf, err error) {
	d := decider{l: l, policies: policies}
	if err := d.look(ctx, entries); err != nil {
		return nil, err
	}
	packs := map[string]*packOf{}
	for i := range entries {
		e := &entries[i].Entry
		if e.Pack == "" || e.Holds() != record.KindMessage && e.Holds() != record.KindRefused && e.Holds() != record.KindSupplement {
			continue
		}
		until, err := d.until(ctx, e)
		if err != nil {
			return nil, err
		}
		p := packs[e.Pack]
		if p == nil {
			p = &packOf{key: e.Pack}
			packs[e.Pack] = p
			list = append(list, p)
		}
		p.ids, p.until = append(p.ids, e.ID), append(p.until, until)
		p.held = p.held || slices.ContainsFunc(holds, func(h retention.Hold) bool { return h.Members.Has(e.ID) })
	}
	return list, nil
}

// decider decides on records by what the index says of them, for a time of receipt.
type decider struct {
	l            *Lengthener
	policies     *retention.Policies
	from, before time.Time
	yes, unknown []record.IDs // by policy, in the order of policies.All
	sent         map[record.ID]time.Time
}

// look asks the index for what the policies match among the messages of some entries.
func (d *decider) look(ctx context.Context, entries []archive.Replayed) error {
	for i := range entries {
		e := &entries[i].Entry
		if e.Holds() != record.KindMessage && e.Holds() != record.KindRefused {
			continue
		}
		if d.from.IsZero() || e.Time.Before(d.from) {
			d.from = e.Time
		}
		if end := e.Time.Add(time.Millisecond); end.After(d.before) {
			d.before = end
		}
	}
	if d.from.IsZero() {
		return nil
	}
	return d.ask(ctx)
}

func (d *decider) ask(ctx context.Context) (err error) {
	all := d.policies.All()
	d.yes, d.unknown, d.sent = make([]record.IDs, len(all)), make([]record.IDs, len(all)), map[record.ID]time.Time{}
	for i := range all {
		p := &all[i]
		if p.Query == nil {
			continue
		}
		within := query.NewAnd(query.Time{Field: query.Received, From: d.from, Before: d.before}, p.Query)
		if d.yes[i], err = d.find(ctx, within, p.Start, false); err == nil {
			d.unknown[i], err = d.find(ctx, within, p.Start, true)
		}
		if err != nil {
			return fmt.Errorf("policy %q: %w", p.Name, err)
		}
	}
	return nil
}

func (d *decider) find(ctx context.Context, q query.Query, start retention.Start, unknown bool) (record.IDs, error) {
	r := index.Request{Query: q, Sort: index.ReceivedAsc, Limit: page, IDs: start != retention.Date, Unknown: unknown}
	var ids []record.ID
	for {
		found, err := d.l.o.Search(ctx, r)
		if err != nil {
			return nil, err
		}
		if len(found.Missing) > 0 {
			return nil, fmt.Errorf("the index is not whole in %v", found.Missing)
		}
		for i := range found.Hits {
			h := &found.Hits[i]
			ids = append(ids, h.ID)
			if start == retention.Date {
				d.sent[h.ID] = h.Sent
			}
		}
		if len(found.Hits) < page {
			return record.NewIDs(ids), nil
		}
		r.After = &found.Hits[len(found.Hits)-1].Cursor
	}
}

// until says until when the record of an entry is to be kept. A supplement that came later is kept as long as its record.
func (d *decider) until(ctx context.Context, e *record.Entry) (time.Time, error) {
	received := e.Time
	if e.Holds() == record.KindSupplement {
		received = e.ID.Time()
		if received.Before(d.from) || !received.Before(d.before) {
			other := decider{l: d.l, policies: d.policies, from: received.Add(-time.Second), before: received.Add(time.Second)}
			if err := other.ask(ctx); err != nil {
				return time.Time{}, err
			}
			d = &other
		}
	}
	doc := &document.Document{ID: e.ID, Received: received, Sent: d.sent[e.ID]}
	decision := d.policies.DecideBy(doc, func(i int, p *retention.Policy) query.Verdict {
		switch {
		case p.Query == nil, d.unknown[i].Has(e.ID):
			return query.Unknown
		case d.yes[i].Has(e.ID):
			return query.Yes
		}
		return query.No
	})
	if decision.Forever {
		return time.Time{}, nil
	}
	return decision.Until, nil
}
