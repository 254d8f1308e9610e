package archive

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

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

	// For those who wait (Archive.Await): the first of what they wait for that is in an open pack came then, zero where there is none; how
	// many packs sealed for them are on their way; and a signal that there is one less.
	since  time.Time
	flying atomic.Int32
	landed chan struct{} // capacity 1
}

// How long a group gathers: while the one before it is on its way, and groupTime at least, so that those who come at about the same time
// share it. Where the store takes longer than slowTime a second one sets out behind the first. Larger groups are fewer objects and less
// work; more on their way at once gained nothing on a store that answers in some milliseconds.
const (
	maxFlying = 2 // packs
	groupTime = 2 * time.Millisecond
	slowTime  = 100 * time.Millisecond
)

func (s *sealer) run(ctx context.Context, items <-chan *record.Item) error {
	defer func() {
		for _, p := range s.open {
			s.a.abandon(p)
		}
	}()
	tick := time.NewTicker(max(s.a.cfg.SealAfter/20, 5*time.Millisecond))
	defer tick.Stop()
	for {
		if err := s.addAgain(ctx); err != nil {
			return err
		}
		gathered, err := s.sealGroup(ctx)
		if err != nil {
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
		case <-s.a.waiters.hurry:
			s.mark(s.a.waiters.takeFresh())
		case <-s.landed:
		case <-gathered:
		case <-tick.C:
			if err := s.sealDue(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mark finds the packs of records that have begun to be waited for. What comes later is marked when it comes.
func (s *sealer) mark(ids []record.ID) {
	for _, id := range ids {
		for _, p := range s.open {
			for _, it := range slices.Backward(p.items) {
				if it.ID == id && it.Kind != record.KindSupplement {
					s.awaited(p)
					break
				}
			}
		}
	}
}

func (s *sealer) awaited(p *openPack) {
	p.awaited = true
	if s.since.IsZero() {
		s.since = time.Now()
	}
}

// sealGroup seals the packs that somebody waits for, unless enough of them are on their way. Where they still gather it gives the time to
// wait for.
func (s *sealer) sealGroup(ctx context.Context) (gathered <-chan time.Time, err error) {
	flying, wait := s.flying.Load(), groupTime
	if s.since.IsZero() || flying >= maxFlying {
		return nil, nil
	}
	if flying > 0 {
		wait = slowTime
	}
	if left := wait - time.Since(s.since); left > 0 {
		return time.After(left), nil
	}
	s.since = time.Time{}
	for _, p := range s.sorted() {
		if !p.awaited {
			continue
		}
		if err := s.sealOne(ctx, p); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// take puts one record into its pack.
func (s *sealer) take(ctx context.Context, it *record.Item) error {
	if known, err := s.known(ctx, it); known || err != nil {
		return err
	}
	drop := droppedFrom(it) // as which a message may stand in the ledger, under another configuration
	if it.Kind == record.KindMessage {
		if known, err := s.known(ctx, drop); known || err != nil {
			return err
		}
	}
	if foreign, err := s.a.Foreign(it); err != nil {
		return err
	} else if foreign {
		it = s.a.withoutSequence(it)
	}
	if it.Kind == record.KindMessage {
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
	return &record.Item{Kind: record.KindDropped, ID: it.ID, Ref: it.Ref, Seq: it.Seq,
		Drop: &record.Drop{First: it.Seq, Last: it.Seq, Reason: "refused by the next hop, not kept"}}
}

// add writes a record into the open pack of its month. A fault costs the open pack, whose records are taken again. A record that can't be
// read is told of and set aside; after a fault of the local disk there is a pause.
func (s *sealer) add(ctx context.Context, it *record.Item) error {
	until := s.a.expiryOf(it)
	month := monthOf(until)
	p, err := s.packFor(ctx, it, month, until)
	if err == nil {
		err = p.w.Add(it)
	}
	if err == nil {
		p.items = append(p.items, it)
		if it.Kind != record.KindSupplement && s.a.waiters.has(it.ID) {
			s.awaited(p)
		}
		if until.After(p.until) {
			p.until = until
		}
		p.held = p.held || s.a.held(it)
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
	s.a.abandon(p)
	s.again = append(p.items, s.again...)
}

// diskFault tells of a fault and waits, longer each time.
func (s *sealer) diskFault(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.a.slog.Error(what, "err", err)
	s.pause = min(max(2*s.pause, firstPause), 10*time.Second)
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
	s.a.waiters.tell([]record.ID{it.ID}, err)
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
		if !p.w.Has(it) {
			return p, nil
		}
		if err := s.sealOne(ctx, p); err != nil {
			return nil, err
		}
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
	if p.awaited {
		s.flying.Add(1)
		sealed.landed = func() {
			s.flying.Add(-1)
			select {
			case s.landed <- struct{}{}:
			default:
			}
		}
	}
	return s.hand(ctx, sealed)
}

// sealDrops commits to sequences that hold nothing.
func (s *sealer) sealDrops(ctx context.Context) error {
	if len(s.drops) == 0 {
		return nil
	}
	sealed := &sealedPack{V: record.Version, Archive: s.a.init.Archive, items: s.drops, base: s.a.nextBase()}
	for _, it := range s.drops {
		sealed.Entries = append(sealed.Entries, record.Entry{V: record.Version, Kind: record.KindDropped, Time: s.a.now().UTC(), ID: it.ID, Drop: it.Drop})
	}
	s.drops = nil
	return s.hand(ctx, sealed)
}

// hand writes the entries down and hands a pack on. From the first try on it may be on the disk, and the next start would take it up: so
// it is tried until it succeeds, and its records go into no other pack.
func (s *sealer) hand(ctx context.Context, p *sealedPack) error {
	for {
		err := s.a.save(p)
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
