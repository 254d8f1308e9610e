package spool

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Tail gives what has settled and is not released, each item once, in the order in which it settled: a message with the supplements that
// came before it settled, or with none; a supplement that came later as an item of its own; acts; and runs of sequences that hold
// nothing. After a restart a Tail begins again with whatever has not been deleted: the same items, with other Refs, in the same order but
// for messages that a verdict was owed to.
// Several Tails read independently. One Tail is for one goroutine.
type Tail struct {
	spool *Spool
	pos   uint64
}

// Tail gives a Tail that begins with the oldest item.
func (s *Spool) Tail() *Tail { return &Tail{spool: s} }

// Next gives the next item and waits until there is one. Errors: that of ctx, ErrClosed once the spool is closed, and those of reading,
// after which the same item comes again. An item whose frame is found damaged is passed over with an alarm: it stays in custody, and the
// next start puts it into quarantine.
func (t *Tail) Next(ctx context.Context) (*record.Item, error) { return waitFor(ctx, t.next) }

// waitFor calls next until it gives an item or an error, each time after what it says to wait for.
func waitFor(ctx context.Context, next func() (*record.Item, <-chan struct{}, error)) (*record.Item, error) {
	for {
		it, changed, err := next()
		if it != nil || err != nil {
			return it, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// TryNext is Next without waiting: nil where there is nothing more now.
func (t *Tail) TryNext(ctx context.Context) (*record.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	it, _, err := t.next()
	return it, err
}

// next gives the next item, or what to wait for.
func (t *Tail) next() (*record.Item, <-chan struct{}, error) {
	s := t.spool
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, nil, ErrClosed
		}
		pos := s.queue.seek(t.pos)
		sl := s.queue.get(pos)
		if sl == nil {
			t.pos = pos
			changed := s.changed
			s.mu.Unlock()
			return nil, changed, nil
		}
		where := s.whereabouts(pos, sl)
		s.mu.Unlock()

		it, err := s.item(where)
		switch {
		case err == nil:
			t.pos = pos + 1
			return it, nil, nil
		case s.isReleased(pos): // meanwhile
		case errors.Is(err, ErrDamaged):
			s.metrics.failures.WithLabelValues("damage").Inc()
			s.log.Error("a record in the spool is damaged; it stays here and is not archived", "seq", where.seq, "error", err)
		default:
			s.metrics.failures.WithLabelValues("read").Inc()
			return nil, nil, err
		}
		t.pos = pos + 1
	}
}

func (s *Spool) isReleased(pos uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.get(pos) == nil
}

// Find gives a record that is in custody and not released, with all its supplements that are, or nil. A message whose delivery is under
// way is found too; its Ref is 0. It looks through everything that is pending: for a view now and then.
func (s *Spool) Find(ctx context.Context, id record.ID) (*record.Item, error) {
	var found []whereabouts
	key := idKey(id)
	s.mu.Lock()
	if a := s.waiting[id]; a != nil {
		found = append(found, a.whereabouts())
	}
	for pos := s.queue.seek(0); pos < s.queue.end; pos = s.queue.seek(pos + 1) {
		if sl := s.queue.get(pos); sl.key == key && sl.kind != frameDrop {
			found = append(found, s.whereabouts(pos, sl))
		}
	}
	s.mu.Unlock()
	var whole *record.Item
	for _, where := range found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		it, err := s.item(where)
		if errors.Is(err, ErrReleased) || where.ref != 0 && s.isReleased(where.ref) {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch {
		case it.ID != id:
		case it.Supplement == nil:
			whole = it
		case whole != nil: // it came after its message, also in the queue
			whole.Supplements = append(whole.Supplements, *it.Supplement)
		}
	}
	return whole, nil
}

// whereabouts is what it takes to read an item.
type whereabouts struct {
	kind        frameKind
	seq         uint64
	ref         uint64 // position in the queue; 0: not settled
	at          loc
	supplements []loc
}

func (a *attempt) whereabouts() whereabouts {
	return whereabouts{kind: frameMessage, seq: a.seq, at: a.at, supplements: a.supplements}
}

// unsettled finds a message that has not settled, or that stays; kind is 0 where there is none. Called with mu held.
func (s *Spool) unsettled(id record.ID) whereabouts {
	if a := s.waiting[id]; a != nil {
		return a.whereabouts()
	}
	if st, ok := s.staying.byID[id]; ok {
		return st.whereabouts()
	}
	return whereabouts{}
}

// whereabouts copies what the queue says of a slot. Called with mu held.
func (s *Spool) whereabouts(pos uint64, sl *slot) whereabouts {
	return whereabouts{kind: sl.kind, seq: sl.seq, ref: pos, at: sl.at, supplements: s.queue.attached(pos, sl)}
}

// item reads an item from the disk.
func (s *Spool) item(w whereabouts) (*record.Item, error) {
	f, meta, err := s.readFrame(w.at)
	if err != nil {
		return nil, err
	}
	it := &record.Item{ID: f.id, Seq: f.seq, Ref: w.ref}
	switch f.kind {
	case frameMessage, frameRefused:
		it.Kind, it.Envelope, it.EnvelopeJSON = record.KindRefused, new(record.Envelope), meta
		if f.kind == frameMessage {
			it.Kind = record.KindMessage
			it.Body = s.body(w, f)
		}
		err = decode(w.at, meta, it.Envelope)
	case frameAct:
		it.Kind, it.Act, it.ActJSON = record.KindAct, new(record.Act), meta
		err = decode(w.at, meta, it.Act)
	case frameSupplement:
		it.Kind, it.Supplement = record.KindSupplement, &record.SupplementDoc{JSON: meta}
		err = decode(w.at, meta, &it.Supplement.Supplement)
	case frameDrop:
		it.Kind, it.Drop = record.KindDropped, new(record.Drop)
		if err = decode(w.at, meta, it.Drop); err == nil {
			it.Seq = it.Drop.First
		}
	default:
		err = fmt.Errorf("%w: %v: a frame of kind %d", ErrDamaged, w.at, f.kind)
	}
	if err != nil {
		return nil, err
	}
	for _, at := range w.supplements {
		_, meta, err := s.readFrame(at)
		if err != nil {
			return nil, err
		}
		doc := record.SupplementDoc{JSON: meta}
		if err := decode(at, meta, &doc.Supplement); err != nil {
			return nil, err
		}
		it.Supplements = append(it.Supplements, doc)
	}
	return it, nil
}
