package queue

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/queue/bounce"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// notify sends the sender what is owed, one report for each action. What was sent is not owed any more; that is for the caller to write. The
// caller holds work.
func (q *Queue) notify(ctx context.Context, e *entry, doc *state) error {
	for _, action := range []bounce.Action{bounce.Failed, bounce.Delivered, bounce.Relayed} {
		var which []int
		for i := range doc.Recipients {
			if doc.Recipients[i].Owes == string(action) {
				which = append(which, i)
			}
		}
		if len(which) == 0 {
			continue
		}
		if err := q.send(ctx, e, doc, action, which); err != nil {
			return err
		}
		for _, i := range which {
			doc.Recipients[i].Owes = ""
		}
	}
	return nil
}

// notifyIfOwed does so between attempts, once none is under way whose news could go with it, and says whether the state has changed. The
// caller holds work.
func (q *Queue) notifyIfOwed(ctx context.Context, e *entry, doc *state) bool {
	owed := doc.owes()
	if !owed {
		return false
	}
	q.mu.Lock()
	for _, l := range e.legs {
		if l.state == legRunning || l.state == legReady && !l.tried && !l.dest.down() {
			owed = false
		}
	}
	q.mu.Unlock()
	if !owed {
		return false
	}
	if err := q.notify(ctx, e, doc); err != nil {
		q.log.Error("a sender can't be told yet; it is tried again", "record", e.id, "err", err)
	}
	return true
}

// send takes one report into custody; from there it comes back as mail. The caller holds work.
func (q *Queue) send(ctx context.Context, e *entry, doc *state, action bounce.Action, which []int) error {
	r := bounce.Report{
		Time: record.Now(), Host: q.opt.Hostname(doc.env.Listener), Original: doc.env, Message: q.opener(e, doc.env), Limit: q.cfg.ReturnSize,
	}
	r.ID = record.NewID(r.Time)
	q.mu.Lock()
	left := e.born + q.cfg.Expire - q.now()
	q.mu.Unlock()
	for _, i := range which {
		r.Recipients = append(r.Recipients, q.reported(doc, i, action, r.Time.Add(left)))
	}
	env, message, err := bounce.Build(r)
	if errors.Is(err, ErrDamaged) || errors.Is(err, spool.ErrDamaged) || errors.Is(err, spool.ErrReleased) {
		r.Message = nil
		env, message, err = bounce.Build(r)
	}
	if errors.Is(err, bounce.ErrNobody) {
		q.log.Info("nobody is told of a message with the null sender", "record", doc.ID, "action", action)
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := q.opt.Custody.Accept(ctx, env, bytes.NewReader(message), spool.AcceptOptions{}); err != nil {
		return fmt.Errorf("queue: report to the sender: %w", err)
	}
	q.metrics.reports.WithLabelValues(string(action)).Inc()
	q.log.Info("sender told", "record", doc.ID, "action", action, "recipients", len(which), "report", env.ID)
	return nil
}

// reported is what a report says of one recipient.
func (q *Queue) reported(doc *state, i int, action bounce.Action, until time.Time) bounce.Recipient {
	s := doc.Recipients[i]
	r := bounce.Recipient{
		Path: doc.env.Rcpt[i], Action: action, Code: s.Code, Enhanced: s.Enhanced, Text: s.Text, Remote: s.NextHop, Last: s.Time, Until: until,
	}
	last := s.Text
	if s.Code != 0 {
		last = fmt.Sprintf("%d %s %s", s.Code, s.Enhanced, s.Text)
	}
	switch {
	case s.Fate == expired:
		r.Code, r.Enhanced, r.Text = 0, "4.4.7", fmt.Sprintf("not delivered within %s", days(q.cfg.Expire))
		if last != "" {
			r.Text += "; the last attempt: " + last
		}
	case s.Fate == dropped:
		r.Code, r.Enhanced, r.Text, r.Remote = 0, "5.7.0", "taken out of the queue by the operator of the mail server", ""
	case action == bounce.Delayed && s.Code == 0 && s.Text == "":
		r.Text, r.Enhanced = "not tried yet", "4.4.1"
	}
	return r
}

// days says a duration as people do.
func days(d time.Duration) string {
	if n := d / (24 * time.Hour); n > 1 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", n)
	}
	return d.String()
}

// wantsDelay says whether anybody is still to be told of a delay.
func (q *Queue) wantsDelay(doc *state) bool { return len(q.delayed(doc)) > 0 }

func (q *Queue) delayed(doc *state) (which []int) {
	if from := doc.env.MailFrom; from == nil || from.Address == "" {
		return nil
	}
	for i, r := range doc.Recipients {
		if r.Fate == waiting && !r.Late && bounce.Wants(doc.env.Rcpt[i], bounce.Delayed) {
			which = append(which, i)
		}
	}
	return which
}

// keep sees to what is due but deliveries.
func (q *Queue) keep(ctx context.Context) {
	for ctx.Err() == nil {
		q.mu.Lock()
		var e *entry
		next := time.Hour
		if len(q.wakes) > 0 {
			if next = q.wakes[0].wake - q.now(); next <= 0 {
				e = heap.Pop(&q.wakes).(*entry)
			}
		}
		q.mu.Unlock()
		if e != nil {
			q.see(ctx, e)
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-q.stir:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// see does for one message what is due: what failed before, a notice of delay, its end for its age.
func (q *Queue) see(ctx context.Context, e *entry) {
	q.mu.Lock()
	loaded := e.loaded || e.spool
	q.mu.Unlock()
	if !loaded {
		q.loadOne(ctx, e)
		return
	}
	e.work.Lock()
	defer e.work.Unlock()
	doc, ok := q.state(e)
	if !ok {
		return
	}
	if !doc.waits() {
		q.finish(ctx, e, doc)
		return
	}
	q.mu.Lock()
	held, age := e.held, q.now()-e.born
	q.mu.Unlock()
	if held {
		return
	}
	changed := q.notifyIfOwed(ctx, e, doc)
	if which := q.delayed(doc); age >= q.cfg.DelayNotice && len(which) > 0 {
		if err := q.send(ctx, e, doc, bounce.Delayed, which); err != nil {
			q.log.Error("a sender can't be told of a delay yet; it is tried again", "record", e.id, "err", err)
			q.later(e)
			return
		}
		for _, i := range which {
			doc.Recipients[i].Late = true
		}
		changed = true
	}
	if age >= q.cfg.Expire {
		if late := q.overdue(e, doc); len(late) > 0 {
			q.expire(doc, late)
			q.record(ctx, e, doc, q.supplement(doc, given(doc, late, "not delivered within "+days(q.cfg.Expire))))
			return
		}
	}
	if changed {
		q.file(e, doc)
	}
	if e.gone {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.planWake(e, doc)
	if age >= q.cfg.Expire {
		q.setWake(e, q.now()+q.cfg.FirstRetry)
	}
}

// overdue gives the recipients that may be given up: they have been tried since this process began, or their destination has, and they are not
// being tried now. So a clock that was set while we were away gives up nothing. Legs of others are made due. The caller holds work.
func (q *Queue) overdue(e *entry, doc *state) (which []int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range e.legs {
		if l.state == legRunning || l.state == legDone {
			continue
		}
		if !l.tried && !l.dest.probed {
			if l.state == legWaits {
				q.setDue(l, q.now())
				signal(q.kick)
			}
			continue
		}
		which = append(which, q.waitingAt(doc, l.dest.key)...)
		q.endLeg(l)
	}
	return which
}

// given is a Delivery that tells of recipients who are not tried any more.
func given(doc *state, which []int, reason string) *record.Delivery {
	d := &record.Delivery{Outcome: record.Refused, Reason: reason}
	for _, i := range which {
		d.Recipients = append(d.Recipients, doc.describe(i, d))
	}
	return d
}

// encode and decode are for supplements that are kept with the state, byte for byte.
func encode(s *record.Supplement) (json.RawMessage, error) { return json.Marshal(s) }

func decode(text json.RawMessage) (*record.Item, error) {
	doc := &record.SupplementDoc{JSON: text}
	if err := json.Unmarshal(text, &doc.Supplement); err != nil {
		return nil, fmt.Errorf("queue: supplement: %w", err)
	}
	return &record.Item{Kind: record.KindSupplement, ID: doc.ID, Supplement: doc}, nil
}
