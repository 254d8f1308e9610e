package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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
	again   []*record.Item       // of packs that could not be written: they go into new ones
	pause   time.Duration        // after the last fault of the local disk
	aside   []*record.Item       // could not be read, and are tried again
	asideAt time.Time            // when they are
	asideIn time.Duration
	out     chan<- *sealedPack
}

// Run empties custody into the archive until ctx ends, or until drain is closed and all that had settled by then is committed. It gives an
// error where the node must stop: the ledger was lost to another process (ledger.ErrLost), or cannot be written for good. Records that can't be
// archived stay in custody. Run may be called once.
func (a *Archive) Run(ctx context.Context, c Custody, drain <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sealed := make(chan *sealedPack, maxSealed)
	a.mu.Lock()
	a.custody = c
	a.mu.Unlock()
	if err := a.accountForLost(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range chain(a.former, sealed) {
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
	err := s.run(ctx, items)
	close(sealed)
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return cmp.Or(err, ctx.Err())
}

// takeUp finds what was sealed before this start, to be committed first, and remembers whose records these are.
func (a *Archive) takeUp(ctx context.Context) (err error) {
	if a.former, err = a.recoverPacks(); err != nil {
		return err
	}
	for _, s := range a.former {
		for i := range s.Entries {
			a.recovered[keyOf(&s.Entries[i])] = s
		}
	}
	a.pending = roaring64.New()
	for c, err := range a.log.Commits(ctx, a.log.Head().Size-1) {
		if err != nil {
			return err
		}
		for _, r := range c.Header.Pending {
			a.pending.AddRange(r[0], r[1]+1)
		}
	}
	return nil
}

// accounted gives the sequences that have an entry, or will have one by a pack that is on its way.
func (a *Archive) accounted() (*roaring64.Bitmap, error) {
	set, err := a.catalog.sequences(a.log.Name())
	if err != nil {
		return nil, err
	}
	for _, s := range a.former {
		addSequences(set, s.Entries)
	}
	return set, nil
}

// accountForLost gives an entry to sequences that were in custody at the last commit and are nowhere any more: the spool that held them
// was lost. Likewise to those that a spool had given before this log began. So it stands in the ledger, and verify need not guess.
func (a *Archive) accountForLost(ctx context.Context) error {
	newest := a.custody.Newest() // before Waiting
	waiting := a.custody.Waiting()
	accounted, err := a.accounted()
	if err != nil {
		return err
	}
	lost, reason := a.pending.Clone(), "lost: the spool that held them was gone"
	if accounted.IsEmpty() && lost.IsEmpty() {
		first := newest + 1
		if len(waiting) > 0 {
			first = min(first, waiting[0][0])
		}
		lost.AddRange(1, first)
		reason = "not of this log: the spool had counted so far before it began"
	}
	for _, r := range waiting {
		lost.RemoveRange(r[0], r[1]+1)
	}
	lost.AndNot(accounted) // such as what was committed, and not yet released
	if lost.IsEmpty() {
		return nil
	}
	a.slog.Error("sequences without a record", "reason", reason, "count", lost.GetCardinality(), "first", lost.Minimum())
	var entries []record.Entry
	for first, last := range runsOf(lost) {
		entries = append(entries, record.Entry{V: record.Version, Kind: record.KindDropped, Time: a.now().UTC(),
			Drop: &record.Drop{First: first, Last: last, Reason: reason}})
	}
	for batch := range slices.Chunk(entries, maxItems) {
		pending := a.custody.Waiting() // those of later batches are still to be accounted for, should this be cut off
		for first, last := range runsOf(lost) {
			pending = append(pending, [2]uint64{first, last})
		}
		if err := a.retry(ctx, "commit", func() error {
			_, err := a.log.Append(ctx, batch, pending)
			return err
		}); err != nil {
			return err
		}
		for _, e := range batch {
			lost.RemoveRange(e.Drop.First, e.Drop.Last+1)
		}
	}
	return nil
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
	var yielded time.Time
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
		yielded = a.yield(waiting, yielded)
		select {
		case out <- it:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// yieldTime is how long packing waits for a node that is busy, and how long it then goes on before it waits again. Compressing a burst of
// mail can wait until it has been answered.
const (
	yieldTime = time.Second
	yieldStep = 20 * time.Millisecond
)

// yield waits while mail is coming in, unless it has done so lately, and says when it last did.
func (a *Archive) yield(ctx context.Context, last time.Time) time.Time {
	if time.Since(last) < yieldTime || !a.busy() {
		return last
	}
	for end := time.Now().Add(yieldTime); a.busy() && time.Now().Before(end); {
		if sleep(ctx, yieldStep) != nil {
			break
		}
	}
	return time.Now()
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
		if err := s.addAgain(ctx); err != nil {
			return err
		}
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
	if known, err := s.known(ctx, it); known || err != nil {
		return err
	}
	if it.Kind == record.KindMessage {
		drop := droppedFrom(it) // as which it may stand in the ledger, under another configuration
		if known, err := s.known(ctx, drop); known || err != nil {
			return err
		}
		switch s.a.keep(it) {
		case KeepEnvelope:
			it = envelopeOnly(it)
		case KeepNothing:
			it = drop
		}
	}
	if it.Kind == record.KindDropped {
		if len(s.drops) == 0 {
			s.dropped = s.a.now()
		}
		s.drops = append(s.drops, it)
		if len(s.drops) >= maxItems {
			return s.sealDrops(ctx)
		}
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

// add writes a record into the open pack of its month. A fault costs the open pack, whose records are taken again. A record that can't be
// read is told of and set aside; after a fault of the local disk there is a pause.
func (s *sealer) add(ctx context.Context, it *record.Item) error {
	until := s.a.expiry(it)
	month := monthOf(until)
	p, err := s.packFor(ctx, it, month, until)
	if err == nil {
		err = p.w.Add(it)
	}
	if err == nil {
		p.items = append(p.items, it)
		if until.After(p.until) {
			p.until = until
		}
		if p.w.Size() >= s.a.cfg.SealSize || len(p.items) >= maxItems {
			return s.sealOne(ctx, p)
		}
		return nil
	}
	if p != nil {
		s.giveUp(p)
	}
	if errors.Is(err, pack.ErrItem) {
		s.setAside(it, err)
		return nil
	}
	s.again = append(s.again, it)
	return s.diskFault(ctx, "pack not written, its records are packed again", err)
}

// giveUp throws an open pack away and has its records packed again.
func (s *sealer) giveUp(p *openPack) {
	delete(s.open, p.month)
	p.abandon()
	s.again = append(p.items, s.again...)
}

// diskFault tells of a fault and waits, longer each time.
func (s *sealer) diskFault(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.a.slog.Error(what, "err", err)
	s.pause = min(max(2*s.pause, 100*time.Millisecond), 10*time.Second)
	return sleep(ctx, s.pause)
}

func (s *sealer) addAgain(ctx context.Context) error {
	for len(s.again) > 0 {
		it := s.again[0]
		s.again = s.again[1:]
		if err := s.add(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// How long a record that could not be read is left alone: longer each time.
const (
	firstAside = time.Minute
	lastAside  = time.Hour
)

// setAside leaves a record that can't be read in custody, with an alarm. The fault may pass, such as a want of open files, so it is tried
// again now and then and at the end.
func (s *sealer) setAside(it *record.Item, err error) {
	s.a.metrics.unreadable.Inc()
	s.a.slog.Error("a record in custody can't be read: it stays there and is tried again", "record", it.ID, "seq", it.Seq, "err", err)
	if len(s.aside) == 0 {
		s.asideIn = firstAside
		s.asideAt = s.a.now().Add(s.asideIn)
	}
	s.aside = append(s.aside, it)
}

// addAside tries what was set aside: each is read first, so that one that still can't be costs no pack.
func (s *sealer) addAside(ctx context.Context) error {
	list, pause := s.aside, s.asideIn
	s.aside = nil
	for _, it := range list {
		if !readable(it) {
			s.aside = append(s.aside, it)
			continue
		}
		if err := s.add(ctx, it); err != nil {
			return err
		}
	}
	s.asideIn = min(2*pause, lastAside)
	s.asideAt = s.a.now().Add(s.asideIn)
	return s.addAgain(ctx)
}

// readable reads a message and says whether it is what its envelope says.
func readable(it *record.Item) bool {
	if it.Body == nil {
		return true
	}
	r, err := checked(it).Body()
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close()) == nil
}

func (s *sealer) packFor(ctx context.Context, it *record.Item, month string, until time.Time) (*openPack, error) {
	if p := s.open[month]; p != nil {
		return p, nil
	}
	if len(s.open) >= maxOpen {
		if err := s.sealOne(ctx, s.sorted()[0]); err != nil {
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
	if len(s.aside) > 0 && !now.Before(s.asideAt) {
		if err := s.addAside(ctx); err != nil {
			return err
		}
	}
	if len(s.drops) > 0 && now.Sub(s.dropped) >= s.a.cfg.SealAfter {
		return s.sealDrops(ctx)
	}
	return nil
}

func (s *sealer) sealAll(ctx context.Context) error {
	if err := s.addAside(ctx); err != nil {
		return err
	}
	for len(s.open) > 0 || len(s.again) > 0 {
		if err := s.addAgain(ctx); err != nil {
			return err
		}
		for _, p := range s.sorted() {
			if err := s.sealOne(ctx, p); err != nil {
				return err
			}
		}
	}
	return s.sealDrops(ctx)
}

// sealOne seals a pack and hands it on. Where it can't be made whole its records are packed again.
func (s *sealer) sealOne(ctx context.Context, p *openPack) error {
	sealed, err := s.a.seal(p)
	if err != nil {
		s.giveUp(p)
		return s.diskFault(ctx, "pack not sealed, its records are packed again", err)
	}
	delete(s.open, p.month)
	return s.hand(ctx, sealed)
}

// sealDrops commits to sequences that hold nothing.
func (s *sealer) sealDrops(ctx context.Context) error {
	if len(s.drops) == 0 {
		return nil
	}
	sealed := &sealedPack{V: record.Version, Archive: s.a.init.Archive, items: s.drops, base: s.a.nextBase()}
	for _, it := range s.drops {
		sealed.Entries = append(sealed.Entries, record.Entry{V: record.Version, Kind: record.KindDropped, Time: s.a.now().UTC(), Drop: it.Drop})
	}
	s.drops = nil
	return s.hand(ctx, sealed)
}

// hand writes the entries down and hands a pack on. From the first try on it may be on the disk, and the next start would take it up: so
// it is tried until it succeeds, and its records go into no other pack.
func (s *sealer) hand(ctx context.Context, p *sealedPack) error {
	for {
		err := p.save()
		if err == nil {
			break
		}
		if err := s.diskFault(ctx, "sealed pack not written down, trying again", err); err != nil {
			return err
		}
	}
	s.pause = 0
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
	if known, err := a.committed(s); err != nil {
		return err
	} else if known { // by a try that was cut off after its commit
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
func (a *Archive) committed(s *sealedPack) (bool, error) {
	if len(s.Entries) == 0 {
		return true, nil
	}
	e := &s.Entries[0]
	it := &record.Item{Kind: e.Kind, ID: e.ID, Drop: e.Drop}
	if e.Kind == record.KindSupplement {
		it.Supplement = &record.SupplementDoc{Supplement: record.Supplement{Name: e.Name}}
	}
	return a.catalog.has(a.log.Name(), it)
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
		if errors.Is(err, ledger.ErrLost) || errors.Is(err, object.ErrConflict) || errors.Is(err, errCatalog) {
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
