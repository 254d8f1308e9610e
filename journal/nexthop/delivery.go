package nexthop

import (
	"errors"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Delivery tells, after Finish, how the attempt went, for the record. What a recipient was told by another host, or in another connection,
// than the one that the message went over stands with that recipient.
func (t *Transaction) Delivery() *record.Delivery {
	d := &record.Delivery{Outcome: t.outcome(), NextHop: t.route.Name, Attempts: t.attempts}
	if t.hosts != nil {
		d.NextHop = t.hosts[t.at].target.Address
	}
	var reasons []string
	if t.failed != nil {
		reasons = append(reasons, t.failed.Error())
	} else {
		for _, fault := range t.faults {
			reasons = append(reasons, "after "+fault.Error())
		}
	}
	if c := t.last; c != nil {
		d.NextHop, d.Address, d.TLS = c.host.target.Address, c.peer, c.tls
		if c.tlsFault != nil {
			reasons = append(reasons, "in clear text after "+c.tlsFault.Error())
		}
	}
	d.Reason = strings.Join(reasons, "; ")
	if t.body.begun {
		d.EightBitSentAnyway = t.body.eightBit
	}
	if d.Outcome != record.Refused || t.final != nil { // a whole copy was sent
		d.SentSize, d.SentSHA256 = t.body.size, record.Digest(t.body.hash.Sum(nil))
	}
	d.Recipients = make([]record.RecipientDelivery, 0, len(t.recipients))
	for _, r := range t.recipients {
		d.Recipients = append(d.Recipients, t.describe(r, d))
	}
	return d
}

// TellsSender says, after Finish, that the server offered DSN (RFC 3461): it reports to the sender what it was asked to.
func (t *Transaction) TellsSender() bool { return t.last != nil && t.last.caps.dsn }

// outcome is that of the message as a whole. With LMTP recipients may fare differently: delivered to one is delivered.
func (t *Transaction) outcome() record.Outcome {
	outcome := record.Refused
	if t.failed != nil && errors.Is(t.failed, ErrUnknown) {
		outcome = record.Unknown
	}
	for _, r := range t.recipients {
		if r.accepted() && t.of(r) == record.Delivered {
			outcome = record.Delivered
		}
	}
	return outcome
}

// of is the outcome for one recipient that was accepted.
func (t *Transaction) of(r recipient) record.Outcome {
	reply := t.lastWord(r)
	switch {
	case reply != nil && reply.ok():
		return record.Delivered
	case reply == nil && errors.Is(t.failed, ErrUnknown):
		return record.Unknown
	}
	return record.Refused
}

// describe gives the last word on one recipient: the reply to its RCPT where that was no, what became of the message otherwise.
func (t *Transaction) describe(r recipient, whole *record.Delivery) record.RecipientDelivery {
	d := record.RecipientDelivery{Address: r.path.Address, Outcome: record.Refused, Time: r.time}
	reply := r.reply
	if r.accepted() {
		d.Outcome, d.Time = t.of(r), t.finished
		reply = t.lastWord(r)
	} else if r.c != nil && r.c != t.last {
		d.NextHop, d.Peer, d.TLS, d.Attempts = differing(r, whole)
	}
	switch {
	case reply != nil:
		d.Code, d.Enhanced, d.Text = reply.Code, reply.Enhanced(), clip(reply.Text())
	case r.err != nil:
		d.Text = clip(r.err.Error())
	}
	return d
}

// differing is what of a recipient's connection is not that of the message.
func differing(r recipient, whole *record.Delivery) (nextHop, peer string, tls *record.TLS, attempts int) {
	if name := r.c.host.target.Address; name != whole.NextHop {
		nextHop = name
	}
	if r.c.peer != whole.Address {
		peer = r.c.peer
	}
	if r.c.tls != whole.TLS && (r.c.tls == nil || whole.TLS == nil || *r.c.tls != *whole.TLS) {
		tls = r.c.tls
	}
	if r.attempts != whole.Attempts {
		attempts = r.attempts
	}
	return nextHop, peer, tls, attempts
}

// maxText bounds a reply in the record, bytes: there is one for each recipient.
const maxText = 2000

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + " …"
	}
	return strings.ToValidUTF8(s, "?")
}
