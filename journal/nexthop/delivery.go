package nexthop

import (
	"errors"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Delivery tells, after Finish, how the attempt went, for the record.
func (t *Transaction) Delivery() *record.Delivery {
	d := &record.Delivery{Outcome: t.outcome(), NextHop: t.target.Address, Attempts: t.attempts}
	var reasons []string
	if t.final == nil && t.refusal == nil && t.failed != nil {
		reasons = append(reasons, t.failed.Error())
	}
	if c := t.last; c != nil {
		d.Address, d.TLS = c.peer, c.tls
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
	for _, r := range t.recipients {
		d.Recipients = append(d.Recipients, t.describe(r, d.Outcome))
	}
	return d
}

func (t *Transaction) outcome() record.Outcome {
	switch {
	case t.final != nil && t.final.ok():
		return record.Delivered
	case t.final == nil && t.refusal == nil && errors.Is(t.failed, ErrUnknown):
		return record.Unknown
	}
	return record.Refused
}

// describe gives the last word on one recipient: the reply to its RCPT where that was no, what became of the message otherwise.
func (t *Transaction) describe(r recipient, outcome record.Outcome) record.RecipientDelivery {
	d := record.RecipientDelivery{Address: r.path.Address, Outcome: record.Refused, Time: r.time}
	reply := r.reply
	if r.accepted() {
		d.Outcome, d.Time = outcome, t.finished
		if reply = t.final; reply == nil {
			reply = t.refusal
		}
	}
	switch {
	case reply != nil:
		d.Code, d.Enhanced, d.Text = reply.Code, reply.Enhanced(), clip(reply.Text())
	case r.err != nil:
		d.Text = clip(r.err.Error())
	}
	return d
}

// maxText bounds a reply in the record, bytes: there is one for each recipient.
const maxText = 2000

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + " …"
	}
	return strings.ToValidUTF8(s, "?")
}
