package smtpd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// enhanced is a status code of RFC 3463; the zero value is none.
type enhanced [3]int

// reply is what a client is told. As an error it is one that may be told: its text says nothing of our insides.
type reply struct {
	code int
	enh  enhanced
	text string // each "\n" begins another line
}

func (r *reply) Error() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// appendTo adds the lines of a reply as they go to the client.
func (r *reply) appendTo(b []byte) []byte {
	for rest, more := r.text, true; more; {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		separator := ' '
		if more {
			separator = '-'
		}
		b = fmt.Appendf(b, "%d%c", r.code, separator)
		if r.enh != (enhanced{}) {
			b = fmt.Appendf(b, "%d.%d.%d ", r.enh[0], r.enh[1], r.enh[2])
		}
		b = append(append(b, line...), "\r\n"...)
	}
	return b
}

// refusals says what a client is told for each error that it may be told about. The first that errors.Is counts. The class decides what
// the client does next: 4 keeps the message there, 5 gives it up, so a fault of ours is never a 5.
var refusals = []struct {
	err error
	reply
}{
	{ErrBareNewline, reply{550, enhanced{5, 5, 2}, "Bare CR or LF in the message (RFC 5321 section 2.3.8)"}},
	{ErrNoFinalNewline, reply{550, enhanced{5, 5, 2}, "Message does not end in CRLF"}},
	{ErrLineTooLong, reply{554, enhanced{5, 5, 2}, "Line too long in the message"}},
	{ErrTooBig, reply{552, enhanced{5, 3, 4}, "Message is over the size limit"}},
	{ErrLoop, reply{554, enhanced{5, 4, 6}, "Mail loop: too many Received lines"}},
	{ErrTooSlow, reply{421, enhanced{4, 4, 2}, "Too slow, closing connection"}},
	{spool.ErrFull, reply{452, enhanced{4, 3, 1}, "Insufficient storage, try again later"}},
	{spool.ErrNoSpace, reply{452, enhanced{4, 3, 1}, "Insufficient storage, try again later"}},
	{nexthop.ErrNoSMTPUTF8, reply{553, enhanced{5, 6, 7}, "The next server does not take SMTPUTF8"}},
	{nexthop.ErrTooBig, reply{552, enhanced{5, 3, 4}, "Message is over the size limit of the next server"}},
	{nexthop.ErrPath, reply{553, enhanced{5, 1, 3}, "Address can't be passed on"}},
	{nexthop.ErrBareNewline, reply{550, enhanced{5, 5, 2}, "Bare CR or LF in the message, which the next server can't be given unaltered"}},
	{nexthop.ErrTLS, reply{451, enhanced{4, 7, 5}, "The next server offers no TLS that is good enough, try again later"}},
	{nexthop.ErrAuth, reply{451, enhanced{4, 7, 0}, "The next server does not let us in, try again later"}},
	{nexthop.ErrUnavailable, reply{451, enhanced{4, 4, 1}, "The next server does not answer, try again later"}},
	{nexthop.ErrUnknown, reply{451, enhanced{4, 4, 2}, "The next server gave no reply, try again later"}},
	{context.Canceled, reply{421, enhanced{4, 3, 2}, "Service is stopping, try again later"}},
	{context.DeadlineExceeded, reply{421, enhanced{4, 3, 2}, "Took too long, try again later"}},
}

// refuse maps an error to the reply. known is false for a fault of ours, which belongs in the log.
func refuse(err error) (r *reply, known bool) {
	if r, ok := errors.AsType[*nexthop.Reply](err); ok && (r.Code/100 == 4 || r.Code/100 == 5) {
		return verbatim(r), true
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return &r.reply, true
		}
	}
	return &reply{451, enhanced{4, 3, 0}, "Temporary fault here, try again later"}, false
}

// verbatim is a next hop's reply, its enhanced codes left where they stood in the lines.
func verbatim(r *nexthop.Reply) *reply {
	text := strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' || c == 0x7f {
			return '?'
		}
		return c
	}, strings.Join(r.Lines, "\n"))
	return &reply{code: r.Code, text: text}
}

// soften makes a temporary reply of a permanent one. Who sends journals gives up on a 5xx, and the report is lost.
func soften(r *reply) *reply {
	if r.code/100 != 5 {
		return r
	}
	soft := *r
	soft.code = 451
	switch r.enh {
	case enhanced{}:
		soft.enh, soft.text = enhanced{4, 3, 0}, "Not taken, try again later"
	case enhanced{5, 3, 4}:
		soft.code, soft.enh = 452, enhanced{4, 3, 1}
	default:
		soft.enh[0] = 4
	}
	return &soft
}
