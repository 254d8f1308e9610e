package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/queue/bounce"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// attempt is one delivery of one message to one destination.
func (q *Queue) attempt(l *leg) {
	started := q.now()
	unreachable, reached := false, false
	if which, job, ok := q.job(l); ok {
		defer q.unpin(l.entry)
		res := q.opt.Carrier.Carry(q.attempts, job)
		if res.Fault == nil && len(res.Delivery.Recipients) != len(which) {
			res.Fault = fmt.Errorf("%d recipients in the answer, %d in the question", len(res.Delivery.Recipients), len(which))
		}
		unreachable, reached = res.Unreachable, !res.Unreachable && res.Fault == nil && q.attempts.Err() == nil
		q.conclude(l, which, res)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.state == legRunning { // nothing could be concluded
		q.rest(l, q.now()+q.cfg.FirstRetry)
	}
	q.left(l.dest, started, unreachable, reached)
}

// rest has a leg wait, unless its message is on hold. The caller holds mu.
func (q *Queue) rest(l *leg, at time.Duration) {
	if l.entry.held {
		l.state = legHeld
		return
	}
	q.setDue(l, at)
}

// job reads what is to be delivered: the places of the recipients in the envelope, and the job.
func (q *Queue) job(l *leg) (which []int, j Job, ok bool) {
	e := l.entry
	e.work.Lock()
	defer e.work.Unlock()
	doc, ok := q.state(e)
	if !ok {
		return nil, Job{}, false
	}
	which = q.waitingAt(doc, l.dest.key)
	if len(which) > 0 { // the state stays in memory: what a server says must not be lost because the disk can't be read just then
		if e.pins++; e.doc == nil {
			e.filed(doc)
		}
	}
	if len(which) > maxRecipients {
		slices.SortStableFunc(which, func(a, b int) int { return doc.Recipients[a].Next.Compare(doc.Recipients[b].Next) })
		which = which[:maxRecipients]
	}
	j = Job{Envelope: doc.env, Open: q.opener(e, doc.env)}
	for _, i := range which {
		to := doc.env.Rcpt[i]
		j.Recipients, j.Domain = append(j.Recipients, to), domainOf(to.Address)
	}
	if len(which) == 0 {
		q.mu.Lock()
		q.endLeg(l)
		q.mu.Unlock()
	}
	return which, j, len(which) > 0
}

// unpin is for the end of an attempt that job began.
func (q *Queue) unpin(e *entry) {
	e.work.Lock()
	defer e.work.Unlock()
	if e.pins--; e.copied && !e.gone {
		e.filed(e.doc)
	}
}

// maxRecipients is how many recipients one transaction has at most: what every server must take (RFC 5321 section 4.5.3.1.8).
const maxRecipients = 100

// waitingAt gives the recipients at a destination that are to be tried.
func (q *Queue) waitingAt(doc *state, dest string) (which []int) {
	for i, to := range doc.env.Rcpt {
		if doc.Recipients[i].Fate == waiting && q.opt.Carrier.Destination(doc.env.Listener, domainOf(to.Address)) == dest {
			which = append(which, i)
		}
	}
	return which
}

// opener opens a message where it is now. The caller holds work.
func (q *Queue) opener(e *entry, env *record.Envelope) func() (io.ReadCloser, error) {
	body := e.body
	return func() (io.ReadCloser, error) {
		if body != nil {
			r, err := body()
			if err == nil {
				return newChecked(r, env), nil
			}
			if !errors.Is(err, spool.ErrReleased) {
				return nil, err
			}
			if r, ferr := q.folder.body(env); ferr == nil { // it was taken over meanwhile
				return r, nil
			}
			return nil, err
		}
		return q.folder.body(env)
	}
}

// domainOf is what a way is found by: the part behind the last @, in lower case; empty where there is none.
func domainOf(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 { // <postmaster>
		return ""
	}
	return strings.ToLower(address[at+1:])
}

// conclude writes down what an attempt brought.
func (q *Queue) conclude(l *leg, which []int, res Result) {
	e := l.entry
	e.work.Lock()
	defer e.work.Unlock()
	if res.Fault != nil {
		q.fault(e, res.Fault)
		q.mu.Lock()
		l.tried = true // in vain: what can't be read for all its days is given up like what can't be delivered
		q.mu.Unlock()
		return
	}
	if q.attempts.Err() != nil && res.Delivery.Outcome == record.Refused && !decided(res) {
		return // cut off by the stop: not an attempt
	}
	doc, ok := q.state(e)
	if !ok {
		return
	}
	q.apply(doc, which, res)
	q.metrics.count(res.Delivery)

	q.mu.Lock()
	l.tried = true
	for _, i := range which {
		l.attempts = max(l.attempts, doc.Recipients[i].Attempts)
	}
	now, age := q.now(), q.now()-e.born
	due := now + max(min(q.backoff(l.attempts), q.cfg.Expire-age), time.Second)
	q.mu.Unlock()
	var late []int
	for _, i := range which {
		r := &doc.Recipients[i]
		switch {
		case r.Fate != waiting:
		case age >= q.cfg.Expire:
			late = append(late, i)
		default:
			r.Next = q.wall().Add(due - now).Truncate(time.Millisecond)
		}
	}
	q.expire(doc, late)
	left := q.waitingAt(doc, l.dest.key)
	for _, i := range left {
		if !slices.Contains(which, i) { // there were too many for one transaction
			due = min(due, now+max(doc.Recipients[i].Next.Sub(q.wall()), 0))
		}
	}
	q.mu.Lock()
	if len(left) > 0 {
		q.rest(l, due)
	} else {
		q.endLeg(l)
	}
	q.mu.Unlock()
	q.record(context.WithoutCancel(q.attempts), e, doc, q.supplement(doc, &res.Delivery)) // what is known is written down, also at the end
}

// decided says that a server has said no, or that we know it won't be asked.
func decided(res Result) bool {
	for _, r := range res.Delivery.Recipients {
		if r.Code != 0 || r.Enhanced != "" {
			return true
		}
	}
	return false
}

// fault is for a message that could not be read. The caller holds work.
func (q *Queue) fault(e *entry, err error) {
	switch {
	case e.gone:
	case errors.Is(err, spool.ErrReleased) && e.body != nil: // ended elsewhere: the client was not told that we have it
		q.log.Info("a message was withdrawn before it was delivered", "record", e.id)
		q.forget(e)
	case errors.Is(err, ErrDamaged) && e.body == nil:
		q.setAside(e, err)
	default:
		q.metrics.failures.Inc()
		q.log.Error("a message can't be read for its delivery; it is tried again", "record", e.id, "err", err)
	}
}

// apply notes in the state what became of each recipient.
func (q *Queue) apply(doc *state, which []int, res Result) {
	d := &res.Delivery
	ev := event{NextHop: d.NextHop, Address: d.Address, Outcome: string(record.Delivered), Text: d.Reason}
	for n, i := range which {
		r, got := &doc.Recipients[i], &d.Recipients[n]
		r.Attempts++
		r.NextHop, r.Address, r.Code, r.Enhanced, r.Text = d.NextHop, d.Address, got.Code, got.Enhanced, got.Text
		r.Time, r.Next, r.Unknown = got.Time, time.Time{}, got.Outcome == record.Unknown
		if got.NextHop != "" {
			r.NextHop = got.NextHop
		}
		if got.Peer != "" {
			r.Address = got.Peer
		}
		if r.Text == "" {
			r.Text = d.Reason
		}
		got.Attempts = 0
		if r.Attempts != d.Attempts {
			got.Attempts = r.Attempts
		}
		path := doc.env.Rcpt[i]
		switch {
		case got.Outcome == record.Delivered:
			r.Fate = delivered
			if a := successAction(res); !res.Notifies && bounce.Wants(path, a) {
				r.Owes = string(a)
			}
		case permanent(*got):
			r.Fate = failed
			ev.Outcome = string(failed)
			if bounce.Wants(path, bounce.Failed) {
				r.Owes = string(bounce.Failed)
			}
		default:
			if ev.Outcome = "deferred"; r.Unknown {
				ev.Outcome = string(record.Unknown)
			}
		}
		if got.Outcome != record.Delivered && got.Text != "" {
			ev.Text = strings.TrimSpace(fmt.Sprintf("%d %s", got.Code, got.Text))
		}
	}
	doc.note(ev)
}

func successAction(res Result) bounce.Action {
	if res.Final {
		return bounce.Delivered
	}
	return bounce.Relayed
}

// permanent says that a refusal is for good.
func permanent(r record.RecipientDelivery) bool {
	return r.Outcome == record.Refused && (r.Code/100 == 5 || r.Code == 0 && strings.HasPrefix(r.Enhanced, "5"))
}

// expire gives recipients up for their age.
func (q *Queue) expire(doc *state, which []int) {
	for _, i := range which {
		r := &doc.Recipients[i]
		r.Fate, r.Next = expired, time.Time{}
		if bounce.Wants(doc.env.Rcpt[i], bounce.Failed) {
			r.Owes = string(bounce.Failed)
		}
	}
	if len(which) > 0 {
		doc.note(event{Outcome: string(expired)})
		q.metrics.deliveries.WithLabelValues(string(expired)).Add(float64(len(which)))
	}
}

// supplement makes delivery-<n> of what is known now; its number is taken. The last one has the last word on every recipient, also on those
// that this attempt was not for. The caller holds work.
func (q *Queue) supplement(doc *state, d *record.Delivery) *record.Item {
	d.Next = time.Time{}
	if doc.waits() {
		d.Next = doc.next(q.wall())
	} else {
		doc.complete(d)
	}
	doc.Supplements++
	return &record.Item{Kind: record.KindSupplement, ID: doc.ID, Supplement: &record.SupplementDoc{Supplement: record.Supplement{
		V: record.Version, ID: doc.ID, Name: fmt.Sprintf("delivery-%d", doc.Supplements), Nonce: record.NewNonce(), Time: record.Now(), Delivery: d,
	}}}
}

// complete adds what is known of the recipients that d does not tell of. If one was delivered, so was the message.
func (s *state) complete(d *record.Delivery) {
	told := map[string]int{}
	for _, r := range d.Recipients {
		told[r.Address]++
	}
	for i, r := range s.Recipients {
		if r.Fate == delivered {
			d.Outcome = record.Delivered
		}
		address := s.env.Rcpt[i].Address
		if told[address] > 0 {
			told[address]--
			continue
		}
		d.Recipients = append(d.Recipients, s.describe(i, d))
	}
}

// describe is the last word on one recipient, with what of it is not that of d.
func (s *state) describe(i int, d *record.Delivery) record.RecipientDelivery {
	r := s.Recipients[i]
	out := record.RecipientDelivery{
		Address: s.env.Rcpt[i].Address, Outcome: record.Refused, Code: r.Code, Enhanced: r.Enhanced, Text: r.Text, Time: r.Time,
	}
	switch {
	case r.Fate == delivered:
		out.Outcome = record.Delivered
	case r.Unknown:
		out.Outcome = record.Unknown
	}
	switch r.Fate {
	case expired:
		out.Enhanced, out.Text = "4.4.7", "given up for its age; the last attempt: "+r.Text
	case dropped:
		out.Text = s.Dropped
	}
	if r.NextHop != d.NextHop {
		out.NextHop = r.NextHop
	}
	if r.Address != d.Address {
		out.Peer = r.Address
	}
	if r.Attempts != d.Attempts {
		out.Attempts = r.Attempts
	}
	if out.Time.IsZero() {
		out.Time = record.Now()
	}
	return out
}

// record makes a change of the state durable, and then gives the archive what was learnt. The caller holds work.
func (q *Queue) record(ctx context.Context, e *entry, doc *state, it *record.Item) {
	if !doc.waits() {
		if it != nil {
			q.owe(doc, it)
		}
		if e.body == nil {
			e.unsaved = true
		}
		q.finish(ctx, e, doc)
		return
	}
	filed := q.file(e, doc)
	if e.gone {
		return
	}
	switch {
	case it == nil:
	case filed:
		if err := q.opt.Custody.AppendSoon(it); err != nil {
			q.log.Error("the outcome of an attempt is not recorded", "record", e.id, "supplement", it.Supplement.Name, "err", err)
		}
	default: // after a crash another document would have this number, and the archive would not take it
		doc.Supplements--
	}
	if q.notifyIfOwed(ctx, e, doc) {
		q.file(e, doc)
	}
	if e.gone {
		return
	}
	q.mu.Lock()
	q.planWake(e, doc)
	q.mu.Unlock()
	signal(q.kick)
}

// file makes the state durable, in the folder. The caller holds work.
func (q *Queue) file(e *entry, doc *state) bool {
	if e.body != nil {
		return q.takeOver(e, doc)
	}
	return q.save(e, doc)
}

// save makes the state durable in the folder. Where that fails it stays in memory, and goes with the next change. The caller holds work.
func (q *Queue) save(e *entry, doc *state) bool {
	q.stamp(e, doc)
	if err := q.folder.save(doc); err != nil {
		e.doc, e.copied, e.unsaved = doc, false, true
		e.full = errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		q.metrics.failures.Inc()
		q.log.Error("the state of a message can't be written; it is kept in memory", "record", e.id, "err", err)
		return false
	}
	e.unsaved, e.full = false, false
	e.filed(doc)
	return true
}

// owe keeps the last supplement with the state, so that it can be told again. The caller holds work.
func (q *Queue) owe(doc *state, it *record.Item) {
	text, err := encode(&it.Supplement.Supplement)
	if err != nil {
		q.log.Error("the outcome of a delivery can't be written", "record", doc.ID, "err", err)
		return
	}
	doc.Owed = append(doc.Owed, text)
}

// finish is for a message with nobody left to be tried: its sender is told, the archive has the last supplement, and it is forgotten. What
// fails is tried again in a while, and after a restart. The caller holds work.
//
// The state is written first: a process that is killed before the end goes on from there, and asks no server again. On a full disk that is
// left out, since the end is what makes room.
func (q *Queue) finish(ctx context.Context, e *entry, doc *state) {
	if e.unsaved && !q.save(e, doc) && !e.full {
		q.later(e)
		return
	}
	err := q.notify(ctx, e, doc)
	if err == nil && e.body != nil && e.maybe { // or what stands there would begin again
		err = q.folder.remove(e.id)
	}
	for err == nil && len(doc.Owed) > 0 {
		var it *record.Item
		if it, err = decode(doc.Owed[0]); err == nil {
			err = q.opt.Custody.Append(ctx, it)
		}
		if err == nil {
			doc.Owed = doc.Owed[1:]
		}
	}
	if err == nil && e.body == nil {
		err = q.folder.remove(e.id)
	}
	if err != nil {
		e.doc, e.copied = doc, false
		q.metrics.failures.Inc()
		q.log.Error("what became of a message can't be recorded yet; it is tried again", "record", e.id, "err", err)
		q.later(e)
		return
	}
	if e.body != nil {
		q.opt.Custody.End(e.id)
	}
	q.log.Info("message done", "record", e.id, "outcome", doc.summary())
	q.forget(e)
}

// summary says how many recipients had which fate.
func (s *state) summary() string {
	n := map[fate]int{}
	for _, r := range s.Recipients {
		n[r.Fate]++
	}
	var parts []string
	for _, f := range []fate{delivered, failed, expired, dropped, waiting} {
		if n[f] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[f], f))
		}
	}
	return strings.Join(parts, ", ")
}
