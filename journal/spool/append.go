package spool

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Append takes an act, a supplement or the envelope of refused mail (KindAct, KindSupplement, KindRefused) into custody. Nil means on
// stable storage. V, ID, Nonce, Time and Node are filled in where they are empty, the JSON where there is none, and Seq. On an error, as
// Ready has them or ErrInvalid, the item must not be taken for recorded; a process that is killed at that moment may find it in custody.
//
// Neither the limit of spool.max_bytes nor, as long as the reserve lasts, a full disk stands against it.
func (s *Spool) Append(ctx context.Context, it *record.Item) error {
	r, err := s.itemRequest(it)
	if err != nil {
		return err
	}
	if _, err := s.submit(ctx, r); err != nil {
		return err
	}
	it.Seq = r.frame.seq
	return nil
}

// AppendAct is Append for one act.
func (s *Spool) AppendAct(ctx context.Context, act record.Act) error {
	return s.Append(ctx, &record.Item{Kind: record.KindAct, ID: act.ID, Act: &act})
}

// AppendSoon takes a supplement without waiting: it is durable with the next group, at most some 50 ms later. When that fails it is kept
// in memory, logged, and tried again until it succeeds or the spool is closed; the message that it settles comes from the tail only then.
// So a crash in between leaves the outcome unknown, which is true. The error, ErrInvalid or ErrClosed, is of this call alone.
func (s *Spool) AppendSoon(it *record.Item) error {
	if it.Kind != record.KindSupplement {
		return fmt.Errorf("%w: kind %q can't be appended without waiting", ErrInvalid, it.Kind)
	}
	r, err := s.itemRequest(it)
	if err != nil {
		return err
	}
	r.lazy = true
	return s.inbox.put(r, s.opt.lazyDelay)
}

// itemRequest completes an item and makes the request to write it.
func (s *Spool) itemRequest(it *record.Item) (*request, error) {
	switch {
	case it.Kind == record.KindAct && it.Act != nil:
		return s.actRequest(it)
	case it.Kind == record.KindSupplement && it.Supplement != nil:
		return supplementRequest(it)
	case it.Kind == record.KindRefused && it.Envelope != nil:
		return s.refusedRequest(it)
	}
	return nil, fmt.Errorf("%w: kind %q, or what belongs to it is missing", ErrInvalid, it.Kind)
}

func (s *Spool) actRequest(it *record.Item) (r *request, err error) {
	act := it.Act
	fill(&act.V, record.Version)
	fill(&act.Nonce, record.NewNonce())
	fill(&act.Node, s.opt.Node)
	if act.Time.IsZero() {
		act.Time = time.Now().UTC().Round(0)
	}
	if act.ID.IsZero() {
		act.ID = record.NewID(act.Time)
	}
	it.ID = act.ID
	if it.ActJSON == nil {
		if it.ActJSON, err = marshal(act); err != nil {
			return nil, err
		}
	}
	return newRequest(frame{kind: frameAct, id: act.ID}, it.ActJSON, nil), nil
}

func supplementRequest(it *record.Item) (r *request, err error) {
	doc := it.Supplement
	if doc.ID.IsZero() || doc.Name == "" {
		return nil, fmt.Errorf("%w: a supplement without id or name", ErrInvalid)
	}
	fill(&doc.V, record.Version)
	fill(&doc.Nonce, record.NewNonce())
	if doc.Time.IsZero() {
		doc.Time = time.Now().UTC().Round(0)
	}
	it.ID = doc.ID
	if doc.JSON == nil {
		if doc.JSON, err = marshal(&doc.Supplement); err != nil {
			return nil, err
		}
	}
	f := frame{kind: frameSupplement, id: doc.ID}
	if doc.Delivery != nil && doc.Delivery.Next.IsZero() {
		f.flags |= flagOutcome
	}
	if doc.Name == record.SupplementAuth {
		f.flags |= flagVerdict
	}
	return newRequest(f, doc.JSON, nil), nil
}

func (s *Spool) refusedRequest(it *record.Item) (r *request, err error) {
	env := it.Envelope
	fill(&env.V, record.Version)
	fill(&env.Nonce, record.NewNonce())
	fill(&env.Node, s.opt.Node)
	if env.Received.IsZero() {
		env.Received = record.Now()
	}
	if env.ID.IsZero() {
		env.ID = record.NewID(env.Received)
	}
	it.ID = env.ID
	if it.EnvelopeJSON == nil {
		if it.EnvelopeJSON, err = marshal(env); err != nil {
			return nil, err
		}
	}
	return newRequest(frame{kind: frameRefused, id: env.ID}, it.EnvelopeJSON, nil), nil
}

// dropRequest is for numbers that hold nothing. Drops are written by newSegment only.
func dropRequest(d record.Drop) (*request, error) {
	meta, err := marshal(&d)
	if err != nil {
		return nil, err
	}
	return newRequest(frame{kind: frameDrop}, meta, nil), nil
}

// fill sets what is empty.
func fill[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}
