package web

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// step is one station on the way of a message.
type step struct {
	Name    string
	Details []string
	State   string // a word that tells how it went
	Class   string // good, warn, bad
	Time    time.Time
}

// wayOf draws the way of a message: from whom, custody here, and where it went.
func wayOf(s *archive.Stored) []step {
	e := s.Item.Envelope
	way := []step{sourceOf(e), {Name: "Holdfast, node " + e.Node, State: "in custody", Class: "good", Time: e.Received, Details: details(
		joined(say("listener %s", e.Listener), say("mode %s", e.Mode)), reportWay(e))}}
	n := 0
	for i := range s.Item.Supplements {
		sup := &s.Item.Supplements[i]
		if sup.Auth != nil {
			way[0].Details = append(way[0].Details, saidOf(sup.Auth)...)
		}
		if sup.Delivery != nil {
			n++
			way = append(way, hopOf(sup.Delivery, sup.Time))
		}
	}
	switch {
	case n > 0:
	case e.Source == record.SourceImport:
	case e.Mode == record.ModeJournal:
		way = append(way, step{Name: "Not sent on", Details: []string{"this listener keeps mail and forwards none"}})
	default:
		way = append(way, step{Name: "Next hop", State: "not known yet", Class: "warn", Details: []string{"no outcome is recorded"}})
	}
	return way
}

// reportWay tells of the way of a journal report itself.
func reportWay(e *record.Envelope) string {
	if e.Report == nil {
		return ""
	}
	text := "as a journal report"
	if e.Transport == nil {
		return text
	}
	if from := e.Transport.MailFrom; from != nil {
		text += " from " + cmp.Or(from.Address, "<>")
	}
	for i, to := range e.Transport.Rcpt {
		if i == 3 {
			return fmt.Sprintf("%s and %d more", text, len(e.Transport.Rcpt)-i)
		}
		text += cmp.Or(map[bool]string{true: " to "}[i == 0], ", ") + to.Address
	}
	return text
}

func sourceOf(e *record.Envelope) step {
	if e.Source == record.SourceImport {
		return step{Name: "Import", Details: details(e.Origin)}
	}
	c := e.Client
	if c == nil {
		return step{Name: "Unknown client"}
	}
	st := step{Name: cmp.Or(c.Helo, c.Address)}
	address := c.Address
	if c.Port != 0 {
		address = fmt.Sprintf("%s port %d", c.Address, c.Port)
	}
	if c.Helo != "" {
		address = "by its HELO; from " + address
	}
	st.Details = details(joined(address, tlsOf(e.TLS)))
	if e.Auth != nil {
		st.Details = append(st.Details, "signed in as "+e.Auth.Identity)
	}
	return st
}

// saidOf is what the authentication of mail said of where a message comes from.
func saidOf(v *record.Verdicts) (list []string) {
	for _, s := range v.SPF {
		about := "MAIL FROM"
		if s.Identity == record.SPFHelo {
			about = "HELO"
		}
		list = append(list, "SPF "+s.Result+" for "+about+say(" %s", s.Domain))
	}
	for _, s := range v.DKIM {
		list = append(list, "DKIM "+s.Result+say(" for %s", s.Domain)+say(": %s", s.Reason))
	}
	if len(v.DKIM) == 0 {
		list = append(list, "not signed by DKIM")
	}
	if d := v.DMARC; d != nil {
		list = append(list, "DMARC "+d.Result+say(" for %s", d.From)+say(", whose policy is %s", d.Policy))
	}
	if a := v.ARC; a != nil {
		list = append(list, "ARC "+a.Result+say(", sealed by %s", strings.Join(a.Sealed, ", ")))
	}
	return list
}

func hopOf(d *record.Delivery, at time.Time) step {
	st := step{Name: cmp.Or(d.NextHop, "Next hop"), State: string(d.Outcome), Time: at, Details: details(joined(d.Address, tlsOf(d.TLS)))}
	switch d.Outcome {
	case record.Delivered:
		st.Class = "good"
	case record.Refused:
		st.Class = "bad"
	default:
		st.Class = "warn"
	}
	if d.ReplyLost {
		st.Details = append(st.Details, "the client had gone when the reply came: it may send again")
	}
	if d.EightBitSentAnyway {
		st.Details = append(st.Details, "8-bit text went to a host that does not announce 8BITMIME")
	}
	st.Details = append(st.Details, details(d.Reason)...)
	return st
}

func tlsOf(t *record.TLS) string {
	if t == nil {
		return "clear text"
	}
	text := "TLS " + t.Version
	if t.Verified {
		text += ", certificate checked"
	}
	return text
}

func say(format, s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf(format, s)
}

func joined(list ...string) string { return strings.Join(details(list...), ", ") }

// details leaves out what is empty.
func details(list ...string) (out []string) {
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// delivery is what one attempt at the next hop came to, for each recipient.
type delivery struct {
	*record.Delivery // nil: none is recorded; the rows are the envelope's recipients
	Rows             []recipient
}

type recipient struct {
	record.RecipientDelivery
	Unnamed bool // the header does not name him: BCC, or a member of a list
}

// deliveriesOf lists who got the message, or was to get it.
func deliveriesOf(s *archive.Stored, h message.Header) []delivery {
	named := map[string]bool{}
	for _, name := range []string{"To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"} {
		for _, a := range h.AddressList(name) {
			named[strings.ToLower(a.Address)] = true
		}
	}
	row := func(r record.RecipientDelivery) recipient {
		return recipient{r, len(h.Fields()) > 0 && !named[strings.ToLower(r.Address)]}
	}
	var list []delivery
	for i := range s.Item.Supplements {
		if d := s.Item.Supplements[i].Delivery; d != nil {
			one := delivery{Delivery: d}
			for _, r := range d.Recipients {
				one.Rows = append(one.Rows, row(r))
			}
			list = append(list, one)
		}
	}
	if len(list) == 0 && len(s.Item.Envelope.Rcpt) > 0 {
		one := delivery{}
		for _, r := range s.Item.Envelope.Rcpt {
			one.Rows = append(one.Rows, row(record.RecipientDelivery{Address: r.Address}))
		}
		list = append(list, one)
	}
	return list
}
