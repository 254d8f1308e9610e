// Package report reads journal reports: what a mail server says, in a message of its own or in header fields that it adds, of the true
// sender and the true recipients of a message. FORMATS.md beside this file lists the formats.
//
// What it promises: a Reader looks at the bytes of a message as they go by, in linear time and with bounded memory, and never fails. It
// builds no tree of the parts: it follows the boundaries of the report alone, and of the message that is enclosed it takes the place, the
// size, the SHA-256 and the beginning of its header. What can't be understood changes nothing in the envelope but to say so. Whether a
// source is to be believed at all is the caller's business: whoever may write a report can name any recipient he likes.
package report

import (
	"fmt"
	"slices"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// What a configuration may name, each with the formats of a report that it allows.
const (
	Exchange  = "exchange"        // Exchange 2003 and later, Microsoft 365
	Google    = "google"          // X-Gm-Original-To
	Zimbra    = "zimbra"          // archiving (amavisd's X-Envelope fields) and legal intercept
	Domino    = "domino"          // $JournalRecipients
	XEnvelope = "x_envelope"      // X-Envelope-From, X-Envelope-To
	Encoded   = "encoded_address" // the recipient in the journal's own address: journal+user=domain@archive.example
)

// Formats has all that a configuration may name.
var Formats = []string{Exchange, Google, Zimbra, Domino, XEnvelope, Encoded}

// Values of record.Report.Format that are no names of a configuration.
const (
	formatExchange2003 = "exchange_2003"
	formatIntercept    = "zimbra_intercept"
)

// Limits of what one report may cost. What lies past them is passed over, and the report is not whole.
const (
	maxLine       = 64 << 10  // bytes of one line taken at a time
	maxHead       = 256 << 10 // bytes of a header
	maxText       = 1 << 20   // bytes of a report's text, decoded
	maxRecipients = 20000     // listed
	maxKept       = 100       // lines that nobody knows
	maxValue      = 4 << 10   // bytes of one value
	maxEnclosed   = 8         // messages in one report
	maxDepth      = 8         // multiparts of a report, one in the other
)

// Outcome says what became of a message that was looked at.
type Outcome string

// The outcomes.
const (
	None       Outcome = "none"       // it is no report
	Read       Outcome = "read"       // understood, all of it
	Partial    Outcome = "partial"    // something is missing; what was read stands in the envelope
	Unreadable Outcome = "unreadable" // it is a report, but neither sender nor recipients could be read
)

// Reader looks at one message. It is an io.Writer that takes the message's bytes; then Finish is called, once. Not for concurrent use.
type Reader struct {
	walk
	formats []string
	fault   string // of this package: a panic
}

// New makes a reader of the formats that are named.
func New(formats []string) *Reader {
	r := &Reader{formats: formats}
	r.walk.init(slices.Contains(formats, Exchange), slices.Contains(formats, Zimbra))
	return r
}

// Write takes the next bytes of the message. It never fails.
func (r *Reader) Write(p []byte) (int, error) {
	if r.fault == "" && r.state != over {
		defer r.mend()
		r.walk.write(p)
	}
	return len(p), nil
}

// mend keeps a fault of this package away from the message: a report is kept whether it can be read or not.
func (r *Reader) mend() {
	if p := recover(); p != nil {
		r.fault = fmt.Sprintf("fault of the reader: %v", p)
	}
}

// Finish puts what the report says into the envelope: Report, and where there is something to say MailFrom, Rcpt, Transport and
// Completeness. A message that is no report leaves the envelope as it is.
func (r *Reader) Finish(env *record.Envelope) (outcome Outcome) {
	before := *env
	defer func() {
		if p := recover(); p != nil {
			r.fault = fmt.Sprintf("fault of the reader: %v", p)
		}
		if r.fault != "" {
			*env = before
			env.Report = &record.Report{Format: r.format, Problem: r.fault}
			env.Completeness = weaker(env.Completeness)
			outcome = Unreadable
		}
	}()
	if r.fault != "" {
		return Unreadable
	}
	r.walk.end()
	said := r.said(env)
	if said == nil {
		return None
	}
	said.tidy()
	env.Report = &said.report
	if said.from == nil && len(said.rcpt) == 0 {
		env.Completeness = weaker(env.Completeness)
		return Unreadable
	}
	if env.MailFrom != nil || len(env.Rcpt) > 0 {
		env.Transport = &record.Transport{MailFrom: env.MailFrom, Rcpt: env.Rcpt}
	}
	env.MailFrom, env.Rcpt, env.Completeness = said.from, said.rcpt, said.complete
	if said.report.Problem != "" {
		env.Completeness = record.Partial
		return Partial
	}
	return Read
}

// weaker is what is known of an envelope whose report could not be read.
func weaker(c record.Completeness) record.Completeness {
	if c == record.HeaderOnly {
		return c
	}
	return record.Partial
}

// said is what a report comes to.
type said struct {
	report   record.Report
	from     *record.Path // nil: not said
	rcpt     []record.Path
	complete record.Completeness
}

// problem notes the first thing that is wrong.
func (s *said) problem(text string) {
	if s.report.Problem == "" {
		s.report.Problem = text
	}
}

// recipient adds one, to the envelope once however often he is named.
func (s *said) recipient(one record.ReportRecipient, seen map[string]bool) {
	s.report.Named++
	if len(s.report.Recipients) == maxRecipients {
		return
	}
	s.report.Recipients = append(s.report.Recipients, one)
	if key := fold(one.Address); !seen[key] {
		seen[key] = true
		s.rcpt = append(s.rcpt, record.Path{Address: one.Address})
	}
}

// tidy says how many recipients there are only where they are not all listed.
func (s *said) tidy() {
	if s.report.Named == len(s.report.Recipients) {
		s.report.Named = 0
	} else if s.report.Named > 0 {
		s.problem(fmt.Sprintf("%d recipients are named, %d are listed", s.report.Named, len(s.report.Recipients)))
	}
}

// said finds what the message is. The address that the mail server itself wrote into the transaction goes before all that stands in the
// message: such a copy is no report, whatever it looks like.
func (r *Reader) said(env *record.Envelope) *said {
	allowed := func(format string) bool { return slices.Contains(r.formats, format) }
	if allowed(Encoded) {
		if s := encoded(env); s != nil {
			return s
		}
	}
	switch {
	case r.format == formatIntercept:
		return r.intercept()
	case r.format != "":
		return r.exchange()
	case allowed(Domino) && hasDomino(r.header):
		return domino(r.header)
	case allowed(XEnvelope) && hasEnvelope(r.header):
		return envelope(r.header, XEnvelope)
	case allowed(Zimbra) && hasEnvelope(r.header):
		return envelope(r.header, Zimbra)
	case allowed(Google):
		return google(r.header, env)
	}
	return nil
}

// infer marks the recipients whose class nobody knows and whom the header of the message does not name.
func infer(list []record.ReportRecipient, h message.Header) {
	if len(h.Fields()) == 0 {
		return
	}
	named := map[string]bool{}
	for _, field := range []string{"To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"} {
		for _, a := range h.AddressList(field) {
			named[fold(a.Address)] = true
		}
	}
	for i := range list {
		one := &list[i]
		if (one.Class == "" || one.Class == classRecipient) && one.Expanded == "" && one.Forwarded == "" && !named[fold(one.Address)] {
			one.Inferred = record.BccOrList
		}
	}
}
