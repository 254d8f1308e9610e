package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// sealer turns what comes out of custody into sealed packs. It belongs to one goroutine; committer to another.
type sealer struct {
	a       *Archive
	custody Custody
	open    map[string]*openPack // by month of expiry
	drops   []*record.Item       // they need an entry and no pack
	dropped time.Time            // when the first of them came
	out     chan<- *sealedPack
}

// Run empties custody into the archive until ctx ends, or until drain is closed and all that had settled by then is committed. It gives an
// error where the node must stop: the ledger was lost to another process (ledger.ErrLost), or cannot be written for good. Records that can't be
// archived stay in custody. Run may be called once.
func (a *Archive) Run(ctx context.Context, c Custody, drain <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sealed := make(chan *sealedPack, maxSealed)
	former, err := a.takeUp(c)
	if err != nil {
		return err
	}
	if err := a.accountForLost(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range chain(former, sealed) {
			if ctx.Err() != nil {
				continue // it is on disk, and the next start goes on with it
			}
			if err := a.upload(ctx, s); err != nil {
				cancel(err)
			}
		}
	})
	items := make(chan *record.Item)
	wg.Go(func() {
		defer close(items)
		if err := a.pump(ctx, drain, items); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	})
	s := &sealer{a: a, custody: c, open: map[string]*openPack{}, out: sealed}
	err = s.run(ctx, items)
	close(sealed)
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// takeUp gives what was sealed before this start, to be committed first, and remembers whose records these are.
func (a *Archive) takeUp(c Custody) ([]*sealedPack, error) {
	a.custody = c
	packs, err := recoverPacks(a.packDir)
	for _, s := range packs {
		for i := range s.Entries {
			a.recovered[keyOf(&s.Entries[i])] = s
		}
	}
	return packs, err
}

// accountForLost gives an entry to sequences that were in custody at the last commit and are not here any more: the spool that held them
// was lost. So it stands in the ledger, and verify need not guess.
func (a *Archive) accountForLost(ctx context.Context) error {
	var pending [][2]uint64
	for c, err := range a.log.Commits(ctx, a.log.Head().Size-1) {
		if err != nil {
			return err
		}
		pending = c.Header.Pending
	}
	lost := roaring64.New()
	for _, r := range pending {
		lost.AddRange(r[0], r[1]+1)
	}
	for _, r := range a.custody.Waiting() {
		lost.RemoveRange(r[0], r[1]+1)
	}
	if lost.IsEmpty() {
		return nil
	}
	a.slog.Error("records that were in custody are gone: the spool was lost", "records", lost.GetCardinality(), "first", lost.Minimum())
	var entries []record.Entry
	for first, last := range runsOf(lost) {
		entries = append(entries, record.Entry{V: record.Version, Kind: record.KindDropped, Time: a.now().UTC(),
			Drop: &record.Drop{First: first, Last: last, Reason: "lost: the spool that held them was gone"}})
	}
	return a.retry(ctx, "commit", func() error {
		_, err := a.log.Append(ctx, entries, a.custody.Waiting())
		return err
	})
}

// chain yields a list, then a channel until it is closed.
func chain(first []*sealedPack, then <-chan *sealedPack) iter.Seq[*sealedPack] {
	return func(yield func(*sealedPack) bool) {
		for _, s := range first {
			if !yield(s) {
				return
			}
		}
		for s := range then {
			if !yield(s) {
				return
			}
		}
	}
}

// recoveredKey names one entry's record.
type recoveredKey struct {
	id   record.ID
	name string // of a supplement
	drop uint64 // first sequence of a dropped run
}

func keyOf(e *record.Entry) recoveredKey {
	k := recoveredKey{id: e.ID}
	if e.Kind == record.KindSupplement {
		k.name = e.Name
	}
	if e.Drop != nil {
		k.drop = e.Drop.First
	}
	return k
}

func keyOfItem(it *record.Item) recoveredKey {
	k := recoveredKey{id: it.ID}
	if it.Supplement != nil {
		k.name = it.Supplement.Name
	}
	if it.Drop != nil {
		k.drop = it.Drop.First
	}
	return k
}

// pump moves items from custody to the sealer; after drain it ends once there is nothing more. What can't be read is tried again.
func (a *Archive) pump(ctx context.Context, drain <-chan struct{}, out chan<- *record.Item) error {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-drain:
			stop()
		case <-waiting.Done():
		}
	}()
	for {
		var it *record.Item
		if err := a.retry(ctx, "read custody", func() (err error) {
			if it, err = a.custody.Next(waiting); err != nil && waiting.Err() != nil {
				it, err = a.custody.TryNext(ctx)
			}
			return err
		}); err != nil || it == nil {
			return err
		}
		select {
		case out <- it:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *sealer) run(ctx context.Context, items <-chan *record.Item) error {
	defer func() {
		for _, p := range s.open {
			p.abandon()
		}
	}()
	tick := time.NewTicker(max(s.a.cfg.SealAfter/20, 5*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case it, ok := <-items:
			if !ok {
				return s.sealAll(ctx)
			}
			if err := s.take(ctx, it); err != nil {
				return err
			}
		case <-tick.C:
			if err := s.sealDue(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take puts one record into its pack.
func (s *sealer) take(ctx context.Context, it *record.Item) error {
	if it.Kind == record.KindMessage {
		switch s.a.keep(it) {
		case KeepEnvelope:
			it = envelopeOnly(it)
		case KeepNothing:
			it = droppedFrom(it)
		}
	}
	if known, err := s.known(ctx, it); known || err != nil {
		return err
	}
	if it.Kind == record.KindDropped {
		if len(s.drops) == 0 {
			s.dropped = s.a.now()
		}
		s.drops = append(s.drops, it)
		return nil
	}
	return s.add(ctx, it)
}

// known releases what the archive holds already, as after a crash between commit and release, and leaves to its pack what was sealed before
// this start and is still on its way.
func (s *sealer) known(ctx context.Context, it *record.Item) (bool, error) {
	s.a.mu.Lock()
	if p, ok := s.a.recovered[keyOfItem(it)]; ok {
		delete(s.a.recovered, keyOfItem(it))
		if !p.done {
			p.items = append(p.items, it)
			s.a.mu.Unlock()
			return true, nil
		}
	}
	s.a.mu.Unlock()
	known, err := s.a.catalog.has(NodeLog(s.a.cfg.Node), it)
	if known && err == nil {
		err = s.custody.Release(ctx, []*record.Item{it})
	}
	return known, err
}

// envelopeOnly is a refused message without its bytes (keep_refused: envelope).
func envelopeOnly(it *record.Item) *record.Item {
	short := *it
	short.Kind, short.Body = record.KindRefused, nil
	return &short
}

// droppedFrom is what is left of a refused message that is not kept (keep_refused: none).
func droppedFrom(it *record.Item) *record.Item {
	return &record.Item{Kind: record.KindDropped, Ref: it.Ref, Seq: it.Seq,
		Drop: &record.Drop{First: it.Seq, Last: it.Seq, Reason: "refused by the next hop, not kept"}}
}

// add writes a record into the open pack of its month. A record that can't be read stays in custody and is told of; a fault of the local
// disk costs the open pack, whose records are taken again, after a pause.
func (s *sealer) add(ctx context.Context, it *record.Item) error {
	until := s.a.expiry(it)
	month := monthOf(until)
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		p, err := s.packFor(ctx, it, month, until)
		if err == nil {
			if err = p.w.Add(it); err == nil {
				p.items = append(p.items, it)
				if until.After(p.until) {
					p.until = until
				}
				if p.w.Size() >= s.a.cfg.SealSize || len(p.items) >= maxItems {
					return s.sealOne(ctx, p)
				}
				return nil
			}
			delete(s.open, month)
			p.abandon()
			bad := errors.Is(err, pack.ErrItem)
			if bad {
				s.a.metrics.unreadable.Inc()
				s.a.slog.Error("a record in custody can't be read: it stays there", "record", it.ID, "seq", it.Seq, "err", err)
			}
			for _, earlier := range p.items {
				if err := s.add(ctx, earlier); err != nil {
					return err
				}
			}
			if bad {
				return nil
			}
		}
		s.a.slog.Error("pack not written, trying again", "err", err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (s *sealer) packFor(ctx context.Context, it *record.Item, month string, until time.Time) (*openPack, error) {
	if p := s.open[month]; p != nil {
		return p, nil
	}
	if len(s.open) >= maxOpen {
		oldest := slices.MinFunc(s.sorted(), func(a, b *openPack) int { return a.opened.Compare(b.opened) })
		if err := s.sealOne(ctx, oldest); err != nil {
			return nil, err
		}
	}
	p, err := s.a.newPack(it, until)
	if err == nil {
		s.open[month] = p
	}
	return p, err
}

func (s *sealer) sorted() []*openPack {
	list := make([]*openPack, 0, len(s.open))
	for _, p := range s.open {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *openPack) int { return a.opened.Compare(b.opened) })
	return list
}

func (s *sealer) sealDue(ctx context.Context) error {
	now := s.a.now()
	for _, p := range s.sorted() {
		if now.Sub(p.opened) >= s.a.cfg.SealAfter {
			if err := s.sealOne(ctx, p); err != nil {
				return err
			}
		}
	}
	if len(s.drops) > 0 && now.Sub(s.dropped) >= s.a.cfg.SealAfter {
		return s.sealDrops(ctx)
	}
	return nil
}

func (s *sealer) sealAll(ctx context.Context) error {
	for _, p := range s.sorted() {
		if err := s.sealOne(ctx, p); err != nil {
			return err
		}
	}
	return s.sealDrops(ctx)
}

// sealOne seals a pack and hands it on. Where sealing fails its records are taken again into a new one.
func (s *sealer) sealOne(ctx context.Context, p *openPack) error {
	delete(s.open, p.month)
	sealed, err := s.a.seal(p)
	if err != nil {
		p.abandon()
		s.a.slog.Error("pack not sealed, its records are packed again", "err", err)
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		for _, it := range p.items {
			if err := s.add(ctx, it); err != nil {
				return err
			}
		}
		return nil
	}
	return s.hand(ctx, sealed)
}

// sealDrops commits to sequences that hold nothing.
func (s *sealer) sealDrops(ctx context.Context) error {
	if len(s.drops) == 0 {
		return nil
	}
	sealed := &sealedPack{V: record.Version, items: s.drops, base: s.a.nextBase()}
	for _, it := range s.drops {
		sealed.Entries = append(sealed.Entries, record.Entry{V: record.Version, Kind: record.KindDropped, Time: s.a.now().UTC(), Drop: it.Drop})
	}
	if err := sealed.save(); err != nil {
		s.a.slog.Error("dropped sequences not written down, trying again", "err", err)
		s.dropped = s.a.now()
		return sleep(ctx, time.Second)
	}
	s.drops = nil
	return s.hand(ctx, sealed)
}

func (s *sealer) hand(ctx context.Context, p *sealedPack) error {
	select {
	case s.out <- p:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commit writes the entries of a pack that is stored, takes them into the catalog, and lets go of what local custody held.
func (a *Archive) commit(ctx context.Context, s *sealedPack) error {
	a.commitMu.Lock()
	defer a.commitMu.Unlock()
	if err := a.catchUp(ctx, nil); err != nil { // a commit whose entries the catalog did not get
		return err
	}
	if a.committed(s) { // by a try that was cut off after its commit
		return a.settle(ctx, s)
	}
	first, err := a.log.Append(ctx, s.Entries, a.custody.Waiting())
	if err != nil {
		return err
	}
	if err := a.catalog.add(ctx, a.log.Name(), first, s.Entries); err != nil {
		return err
	}
	a.metrics.records.Add(float64(len(s.Entries)))
	a.metrics.raw.Add(float64(s.Raw))
	a.metrics.stored.Add(float64(s.Size))
	return a.settle(ctx, s)
}

// committed says whether a pack's entries are in the ledger. They went there together, so the first tells for all.
func (a *Archive) committed(s *sealedPack) bool {
	if len(s.Entries) == 0 {
		return true
	}
	e := &s.Entries[0]
	it := &record.Item{Kind: e.Kind, ID: e.ID, Drop: e.Drop}
	if e.Kind == record.KindSupplement {
		it.Supplement = &record.SupplementDoc{Supplement: record.Supplement{Name: e.Name}}
	}
	known, err := a.catalog.has(a.log.Name(), it)
	return known && err == nil
}

func (a *Archive) settle(ctx context.Context, s *sealedPack) error {
	a.mu.Lock()
	s.done = true
	items := s.items
	s.items = nil
	a.mu.Unlock()
	if err := a.custody.Release(ctx, items); err != nil {
		return err
	}
	return s.forget()
}

// retry runs a step until it succeeds. It gives up when ctx ends and on errors that no time heals.
func (a *Archive) retry(ctx context.Context, what string, step func() error) error {
	pause := 100 * time.Millisecond
	for n := 0; ; n++ {
		err := step()
		if err == nil {
			if n > 0 {
				a.slog.Info("works again", "step", what, "tries", n+1)
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ledger.ErrLost) || errors.Is(err, object.ErrConflict) {
			return fmt.Errorf("%s: %w", what, err)
		}
		level := slog.LevelWarn
		if n > 3 {
			level = slog.LevelError
		}
		a.slog.Log(ctx, level, "step failed, trying again", "step", what, "tries", n+1, "err", err)
		if err := sleep(ctx, pause+rand.N(pause)); err != nil {
			return err
		}
		pause = min(2*pause, 15*time.Second)
	}
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
