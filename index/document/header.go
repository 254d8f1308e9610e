package document

import (
	"slices"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Header is what the fields of one name say.
type Header struct {
	Name   string   // lower case
	Values []string // decoded, in their order
}

// maxHeaders bounds the values of all fields of a message, in bytes. It keeps the words of a header under MaxWords. A message that has more
// is HeaderPartial.
const maxHeaders = MaxWords

// instead has the fields of the header that a query asks in another way, and how.
var instead = map[string]string{
	"from": "from:", "to": "to:", "cc": "cc:", "bcc": "bcc:", "sender": "participants:", "reply-to": "participants:",
	"date": "sent:", "message-id": "msgid:", "references": "thread:", "in-reply-to": "thread:", "dkim-signature": "dkim:", "received": "client:", "return-path": "envfrom:",
	"delivered-to": "rcpt:",
	"content-type": "filetype:", "content-transfer-encoding": "", "mime-version": "", "arc-seal": "", "autocrypt": "", "face": "", "x-face": "",
	"x-gm-message-state": "",
}

// Unsearched says that the words of the fields of a name (in lower case) are not kept, and what asks them instead, if anything does. They
// are asked in another way, or hold signatures and the like, or are the trace of servers (Received): half as much again as all
// other words of a message.
func Unsearched(name string) (field string, yes bool) {
	if field, yes = instead[name]; yes {
		return field, true
	}
	if strings.HasPrefix(name, "list-") {
		return "list:", true
	}
	return "", strings.HasSuffix(name, "-signature") || strings.HasPrefix(name, "x-ms-exchange-antispam-messagedata")
}

// headers takes the fields of a header but Subject, which is searched as itself.
func (d *Document) headers(h *message.Header) {
	left := maxHeaders
	for _, f := range h.Fields() {
		name := strings.ToLower(f.Name)
		if _, not := Unsearched(name); not || name == "subject" {
			continue
		}
		value := h.Text(f)
		if left -= len(value) + 1; left < 0 {
			d.Partial, d.HeaderPartial = true, true
			return
		}
		i := slices.IndexFunc(d.Headers, func(have Header) bool { return have.Name == name })
		if i < 0 {
			i = len(d.Headers)
			d.Headers = append(d.Headers, Header{Name: name})
		}
		d.Headers[i].Values = append(d.Headers[i].Values, value)
	}
}

// others are the fields with addresses that have no field of their own here: participants: asks them too.
var others = []string{"Sender", "Reply-To", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Bcc"}

// The values of Direction.
const (
	Inbound  = "inbound"  // from elsewhere, to at least one of our own
	Outbound = "outbound" // from one of our own, to at least one elsewhere
	Internal = "internal" // from one of our own, to at least one of our own
)

// Direct adds the directions, once FromMessage has made the document. own are our domains, folded; what lies below one is our own too.
// Sender and recipients are those of the envelope, or where that does not have them (an import, a copy to a journal) those of the header.
// Mail from elsewhere to elsewhere has no direction.
func (d *Document) Direct(env *record.Envelope, own []string) {
	if len(own) == 0 {
		return
	}
	senders, recipients := d.EnvFrom, d.Rcpt
	if env.Completeness == record.Partial || env.Completeness == record.HeaderOnly {
		senders, recipients = nil, nil
	}
	if len(senders) == 0 {
		senders = d.From
	}
	if len(recipients) == 0 {
		recipients = slices.Concat(d.To, d.Cc, d.Bcc)
	}
	ours := func(a Address) bool {
		_, domain := Split(a.Address)
		return slices.ContainsFunc(Domains(domain), func(name string) bool { return slices.Contains(own, name) })
	}
	from := slices.ContainsFunc(senders, ours)
	for _, to := range recipients {
		switch {
		case to.Address == "":
		case !from && ours(to):
			d.fact(Direction, Inbound)
		case from && ours(to):
			d.fact(Direction, Internal)
		case from:
			d.fact(Direction, Outbound)
		}
	}
}
