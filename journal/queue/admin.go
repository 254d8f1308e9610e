package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/queue/bounce"
)

// What callers tell apart with errors.Is.
var (
	ErrNotFound = errors.New("no such message in the queue")
	ErrBusy     = errors.New("message is being delivered at this moment: ask again")
	ErrRequest  = errors.New("not a request that the queue takes")

	errEarly = fmt.Errorf("%w: it waits for the archive", ErrBusy)
	errHeld  = fmt.Errorf("%w: it is on hold: release it", ErrRequest)
)

// States of a message in lists.
const (
	StateActive   = "active"   // being delivered, or about to be
	StateDeferred = "deferred" // to be tried again
	StateHeld     = "held"
)

// Selection says which messages are meant: all, those with a recipient at a domain, or those named.
type Selection struct {
	All    bool
	Domain string
	IDs    []record.ID
}

func (s Selection) validate() error {
	n := 0
	for _, is := range []bool{s.All, s.Domain != "", len(s.IDs) > 0} {
		if is {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("%w: all, a domain, or ids: one of these", ErrRequest)
	}
	return nil
}

// Message is one line of a list.
type Message struct {
	ID         record.ID   `json:"id"`
	State      string      `json:"state"`
	Received   time.Time   `json:"received"`
	AgeSeconds int64       `json:"age_seconds"`
	Size       int64       `json:"size"`
	From       string      `json:"from"` // empty: the null sender
	Next       time.Time   `json:"next,omitzero"`
	Held       *hold       `json:"held,omitempty"`
	Recipients []Recipient `json:"recipients"` // in a list those that wait; with Show all
	History    []event     `json:"history,omitempty"`
}

// Recipient is one recipient of a Message.
type Recipient struct {
	Address string `json:"address"`
	recipient
}

func (e *entry) stateName() string {
	if e.held {
		return StateHeld
	}
	for _, l := range e.legs {
		if l.state == legRunning || l.state == legReady && !l.dest.down() {
			return StateActive
		}
	}
	if len(e.legs) > 0 {
		return StateDeferred
	}
	return StateActive
}

// ready waits until all that is in the folder is known, reading it where nobody has, and takes in what waits in the spool where nobody runs.
func (q *Queue) ready(ctx context.Context) error {
	q.load(ctx)
	return ctx.Err()
}

// Gather takes in what waits in the spool, for questions to a queue that does not run.
func (q *Queue) Gather(ctx context.Context) error {
	for {
		it, err := q.opt.Source.TryNext(ctx)
		if err != nil || it == nil {
			return err
		}
		e := q.admit(ctx, it)
		if e != nil && q.archived(ctx, it.Envelope) {
			e.work.Lock()
			q.planNow(e, e.doc)
			e.work.Unlock()
		}
	}
}

// archived says whether a message may be delivered already, without waiting.
func (q *Queue) archived(ctx context.Context, env *record.Envelope) bool {
	if q.opt.Await == nil {
		return true
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return q.opt.Await(ctx, env) == nil
}

// List gives the messages that are meant, the oldest first. It is for people: what it shows of envelopes is an act.
func (q *Queue) List(ctx context.Context, by record.Actor, sel Selection, each func(Message) error) error {
	if err := sel.validate(); err != nil {
		return err
	}
	if err := q.act(ctx, record.ActQueueView, by, sel, nil); err != nil {
		return err
	}
	all, err := q.selected(ctx, sel)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if m, ok := q.describe(e, false); ok {
			if err := each(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// Show gives all that is known of one message.
func (q *Queue) Show(ctx context.Context, by record.Actor, id record.ID) (Message, error) {
	if err := q.act(ctx, record.ActQueueView, by, Selection{IDs: []record.ID{id}}, nil); err != nil {
		return Message{}, err
	}
	all, err := q.selected(ctx, Selection{IDs: []record.ID{id}})
	if err != nil {
		return Message{}, err
	}
	m, ok := q.describe(all[0], true)
	if !ok {
		return Message{}, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return m, nil
}

// act writes down what is about to be done.
func (q *Queue) act(ctx context.Context, kind string, by record.Actor, sel Selection, more map[string]any) error {
	if q.opt.Audit == nil {
		return fmt.Errorf("%w: acts can't be written here", ErrRequest)
	}
	detail := map[string]any{}
	for k, v := range more {
		detail[k] = v
	}
	switch {
	case sel.All:
		detail["all"] = true
	case sel.Domain != "":
		detail["domain"] = sel.Domain
	default:
		ids := make([]string, len(sel.IDs))
		for i, id := range sel.IDs {
			ids[i] = id.String()
		}
		detail["records"] = ids
	}
	return q.opt.Audit.Do(ctx, kind, by, detail)
}

// selected gives the entries that are meant, the oldest first. A name that is not there is ErrNotFound.
func (q *Queue) selected(ctx context.Context, sel Selection) ([]*entry, error) {
	if err := q.ready(ctx); err != nil {
		return nil, err
	}
	q.mu.Lock()
	var all []*entry
	if len(sel.IDs) > 0 {
		for _, id := range sel.IDs {
			e := q.entries[id]
			if e == nil {
				q.mu.Unlock()
				return nil, fmt.Errorf("%s: %w", id, ErrNotFound)
			}
			all = append(all, e)
		}
	} else {
		for _, e := range q.entries {
			all = append(all, e)
		}
	}
	q.mu.Unlock()
	slices.SortFunc(all, func(a, b *entry) int { return a.id.Compare(b.id) })
	if sel.Domain == "" {
		return all, nil
	}
	var at []*entry
	for _, e := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if q.isTo(e, strings.ToLower(sel.Domain)) {
			at = append(at, e)
		}
	}
	return at, nil
}

// isTo says whether a message waits for a recipient at a domain.
func (q *Queue) isTo(e *entry, domain string) bool {
	e.work.Lock()
	defer e.work.Unlock()
	doc, ok := q.state(e)
	if !ok {
		return false
	}
	for i, to := range doc.env.Rcpt {
		if doc.Recipients[i].Fate == waiting && domainOf(to.Address) == domain {
			return true
		}
	}
	return false
}

func (q *Queue) describe(e *entry, whole bool) (Message, bool) {
	e.work.Lock()
	defer e.work.Unlock()
	doc, ok := q.state(e)
	if !ok {
		return Message{}, false
	}
	q.mu.Lock()
	m := Message{ID: e.id, State: e.stateName(), AgeSeconds: int64((q.now() - e.born) / time.Second)}
	q.mu.Unlock()
	m.Received, m.Size, m.Held, m.Recipients = doc.env.Received, doc.env.Size, doc.Hold, []Recipient{}
	if doc.env.MailFrom != nil {
		m.From = doc.env.MailFrom.Address
	}
	if m.State == StateDeferred {
		m.Next = doc.next(q.wall())
	}
	for i, r := range doc.Recipients {
		if whole || r.Fate == waiting {
			m.Recipients = append(m.Recipients, Recipient{Address: doc.env.Rcpt[i].Address, recipient: r})
		}
	}
	if whole {
		m.History = doc.History
	}
	return m, true
}

// Change is what can be done to messages.
type Change struct {
	Do     string // Retry, Hold, Release, Drop
	Reason string // of Drop: needed
	Bounce bool   // of Drop: the senders are told
}

// The values of Change.Do.
const (
	Retry   = "retry"   // try now what is deferred
	Hold    = "hold"    // try no more, and don't let it expire, until it is released
	Release = "release" // end a hold, and try
	Drop    = "drop"    // deliver no more: the archive keeps the message, and says who dropped it
)

var acts = map[string]string{Retry: record.ActQueueRetry, Hold: record.ActQueueHold, Release: record.ActQueueRelease, Drop: record.ActQueueDrop}

// Apply makes a change to all that are meant, once the act is in custody, and says to how many. An error of one does not keep the others from
// theirs; ErrBusy of a message that is being delivered.
func (q *Queue) Apply(ctx context.Context, by record.Actor, sel Selection, c Change) (done int, err error) {
	kind, known := acts[c.Do]
	switch {
	case !known:
		return 0, fmt.Errorf("%w: %q", ErrRequest, c.Do)
	case c.Do == Drop && strings.TrimSpace(c.Reason) == "":
		return 0, fmt.Errorf("%w: drop needs a reason", ErrRequest)
	}
	if err := sel.validate(); err != nil {
		return 0, err
	}
	all, err := q.selected(ctx, sel)
	if err != nil {
		return 0, err
	}
	more := map[string]any{"count": len(all)}
	if c.Reason != "" {
		more["reason"] = c.Reason
	}
	if c.Do == Drop {
		more["bounce"] = c.Bounce
	}
	if err := q.act(ctx, kind, by, sel, more); err != nil {
		return 0, err
	}
	var errs []error
	for _, e := range all {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		switch err := q.change(ctx, by, e, c); {
		case len(sel.IDs) == 0 && (errors.Is(err, ErrNotFound) || errors.Is(err, errHeld)): // delivered meanwhile; not meant
		case err != nil:
			if len(errs) < 10 {
				errs = append(errs, fmt.Errorf("%s: %w", e.id, err))
			}
		default:
			done++
		}
	}
	signal(q.kick)
	return done, errors.Join(errs...)
}

// change makes a change to one message.
func (q *Queue) change(ctx context.Context, by record.Actor, e *entry, c Change) error {
	e.work.Lock()
	defer e.work.Unlock()
	doc, ok := q.state(e)
	if !ok || !doc.waits() {
		return ErrNotFound
	}
	if c.Do == Drop {
		return q.drop(ctx, by, e, doc, c)
	}
	if c.Do == Hold && q.early(e) { // in the folder nothing would say that the archive is still to be waited for
		return errEarly
	}
	if c.Do == Hold && doc.Hold == nil || c.Do == Release && doc.Hold != nil {
		before := doc.Hold
		doc.Hold = nil
		if c.Do == Hold {
			doc.Hold = &hold{Time: record.Now(), By: by.ID}
		}
		doc.note(event{Outcome: map[string]string{Hold: "held", Release: "released"}[c.Do], Text: by.ID})
		if !q.file(e, doc) {
			doc.Hold = before
			return errors.New("the change could not be made durable")
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch c.Do {
	case Hold:
		e.held = true
		for _, l := range e.legs {
			if l.state == legWaits || l.state == legReady {
				q.unlist(l)
				l.state = legHeld
			}
		}
	case Release, Retry:
		if c.Do == Retry && e.held {
			return errHeld
		}
		e.held = false
		for _, l := range e.legs {
			if l.state == legWaits || l.state == legHeld {
				q.setDue(l, q.now())
			}
			if l.dest.down() {
				l.dest.until = q.now()
			}
		}
	}
	q.planWake(e, doc)
	return nil
}

// early says that a message may not be delivered yet: the archive is to have it first.
func (q *Queue) early(e *entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return e.spool && !e.loaded
}

// drop ends a message by somebody's word.
func (q *Queue) drop(ctx context.Context, by record.Actor, e *entry, doc *state, c Change) error {
	q.mu.Lock()
	for _, l := range e.legs {
		if l.state == legRunning {
			q.mu.Unlock()
			return ErrBusy
		}
	}
	for _, l := range e.legs {
		q.endLeg(l)
	}
	q.mu.Unlock()
	var which []int
	for i := range doc.Recipients {
		r := &doc.Recipients[i]
		if r.Fate != waiting {
			continue
		}
		r.Fate, r.Next = dropped, time.Time{}
		which = append(which, i)
		if c.Bounce && bounce.Wants(doc.env.Rcpt[i], bounce.Failed) {
			r.Owes = string(bounce.Failed)
		}
	}
	doc.Dropped = fmt.Sprintf("dropped by %s: %s", cmp.Or(by.ID, "?"), c.Reason)
	doc.note(event{Outcome: string(dropped), Text: doc.Dropped})
	q.metrics.deliveries.WithLabelValues(string(dropped)).Add(float64(len(which)))
	q.record(ctx, e, doc, q.supplement(doc, given(doc, which, doc.Dropped)))
	return nil
}
