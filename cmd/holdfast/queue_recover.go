package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/queue"
)

// recoverSince is how far back queue recover looks where it is not told.
const recoverSince = 30 * 24 * time.Hour

// undelivered gives the messages of mode queue, received since a time, of which the archive has no last word, and which are neither in the
// queue nor in the spool: those that a lost node did not deliver.
//
// The order of looking is what makes it true beside a running queue: what ends between two looks is found by the later one.
func (n *node) undelivered(ctx context.Context, q *queue.Queue, since time.Time) (list []queue.Message, err error) {
	if !n.archive.Readable() {
		return nil, fmt.Errorf("recover: packs are encrypted and keys_dir %s has no identity", n.cfg.KeysDir)
	}
	begun := time.Now()
	known := map[record.ID]bool{} // to be in the spool, or to have a last word
	forwarding, tail := n.spool.Forwarding(), n.spool.Tail()
	for it, err := range items(ctx, forwarding.TryNext) {
		if err != nil {
			return nil, err
		}
		known[it.ID] = true
	}
	for it, err := range items(ctx, tail.TryNext) {
		if err != nil {
			return nil, err
		}
		if it.Supplement != nil && isLast(it.Supplement.Supplement) {
			known[it.ID] = true
		}
	}
	open := map[record.ID]queue.Message{}
	for _, log := range n.archive.Logs() {
		for r, err := range n.archive.Replay(ctx, log, 0, func(e *record.Entry) bool {
			return !e.Time.Before(since) && (e.Kind == record.KindMessage || e.Kind == record.KindSupplement && strings.HasPrefix(e.Name, "delivery-"))
		}) {
			if err != nil {
				return nil, err
			}
			n.consider(r, open, known)
		}
	}
	for id, m := range open {
		if !known[id] && !q.Has(id) && m.Received.Before(begun) {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b queue.Message) int { return a.ID.Compare(b.ID) })
	return list, nil
}

// items runs through what next gives, to the end.
func items(ctx context.Context, next func(context.Context) (*record.Item, error)) func(func(*record.Item, error) bool) {
	return func(yield func(*record.Item, error) bool) {
		for {
			it, err := next(ctx)
			if it == nil && err == nil || !yield(it, err) || err != nil {
				return
			}
		}
	}
}

// isLast says whether a supplement is the last word on a delivery.
func isLast(s record.Supplement) bool { return s.Delivery != nil && s.Delivery.Next.IsZero() }

// consider takes one record of the archive into account.
func (n *node) consider(r archive.Replayed, open map[record.ID]queue.Message, known map[record.ID]bool) {
	switch it := r.Item; {
	case r.Err != nil:
		n.log.Error("a record can't be read for queue recover", "record", r.Entry.ID, "err", r.Err)
	case it == nil:
	case it.Supplement != nil:
		if isLast(it.Supplement.Supplement) {
			known[it.ID] = true
		}
	case it.Envelope != nil && it.Envelope.Mode == record.ModeQueue:
		for _, s := range it.Supplements {
			if isLast(s.Supplement) {
				return
			}
		}
		open[it.ID] = described(it.Envelope)
	}
}

func described(env *record.Envelope) queue.Message {
	m := queue.Message{
		ID: env.ID, State: "archived", Received: env.Received, AgeSeconds: int64(time.Since(env.Received).Seconds()), Size: env.Size,
	}
	if env.MailFrom != nil {
		m.From = env.MailFrom.Address
	}
	for _, to := range env.Rcpt {
		m.Recipients = append(m.Recipients, queue.Recipient{Address: to.Address})
	}
	return m
}

// recover lists what could be put back, or puts it back.
func (a *queueAPI) recover(w http.ResponseWriter, r *http.Request, q *queue.Queue, by record.Actor) error {
	v := r.URL.Query()
	sel, err := selectionOf(v)
	if err != nil {
		return err
	}
	since := time.Now().Add(-recoverSince)
	if s := v.Get("since"); s != "" {
		if since, err = time.Parse(time.DateOnly, s); err != nil {
			return fmt.Errorf("%w: since %q is not a date such as 2026-11-20", queue.ErrRequest, s)
		}
	}
	again := v.Get("again") == "1"
	if !again {
		if err := a.node.audit.Do(r.Context(), record.ActQueueView, by, map[string]any{"recover": since.Format(time.DateOnly)}); err != nil {
			return err
		}
	}
	var list []queue.Message
	if !again || sel.All {
		if list, err = a.node.undelivered(r.Context(), q, since); err != nil {
			return err
		}
	}
	if !again {
		w.Header().Set("Content-Type", "application/x-ndjson")
		enc := json.NewEncoder(w)
		for i := range list {
			if err := enc.Encode(queueLine{Message: &list[i]}); err != nil {
				return nil // the asker is gone
			}
		}
		return nil
	}
	ids := sel.IDs
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	out := queueDone{}
	if len(ids) > 0 {
		out.Done, err = q.Recover(r.Context(), by, ids, a.node.fetchForQueue)
		if err != nil && out.Done == 0 {
			return err
		}
		if err != nil {
			out.Error = err.Error()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(out)
}

// fetchForQueue gives a message with its supplements, out of the archive.
func (n *node) fetchForQueue(ctx context.Context, id record.ID) (*record.Item, error) {
	s, err := n.archive.Fetch(ctx, id)
	if errors.Is(err, archive.ErrNotFound) {
		return nil, fmt.Errorf("%w: nor in the archive", queue.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if s.Pending() {
		return nil, fmt.Errorf("%w: it is in the spool, and the queue has it from there", queue.ErrRequest)
	}
	return s.Item, nil
}
