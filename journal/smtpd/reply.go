package smtpd

import (
	"context"
	"errors"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// refusals says what a client is told for each error that it may be told about. The first that errors.Is counts; the text says nothing of
// our insides. The class decides what the client does next: 4 keeps the message there, 5 gives it up, so a fault of ours is never a 5.
var refusals = []struct {
	err  error
	code int
	enh  smtp.EnhancedCode
	text string
}{
	{ErrBareNewline, 550, smtp.EnhancedCode{5, 5, 2}, "Bare CR or LF in the message (RFC 5321 section 2.3.8)"},
	{ErrNoFinalNewline, 550, smtp.EnhancedCode{5, 5, 2}, "Message does not end in CRLF"},
	{ErrLineTooLong, 554, smtp.EnhancedCode{5, 5, 2}, "Line too long in the message"},
	{ErrTooBig, 552, smtp.EnhancedCode{5, 3, 4}, "Message is over the size limit"},
	{ErrLoop, 554, smtp.EnhancedCode{5, 4, 6}, "Mail loop: too many Received lines"},
	{ErrTooSlow, 421, smtp.EnhancedCode{4, 4, 2}, "Too slow, closing connection"},
	{spool.ErrFull, 452, smtp.EnhancedCode{4, 3, 1}, "Insufficient storage, try again later"},
	{spool.ErrNoSpace, 452, smtp.EnhancedCode{4, 3, 1}, "Insufficient storage, try again later"},
	{nexthop.ErrNoSMTPUTF8, 553, smtp.EnhancedCode{5, 6, 7}, "The next server does not take SMTPUTF8"},
	{nexthop.ErrTooBig, 552, smtp.EnhancedCode{5, 3, 4}, "Message is over the size limit of the next server"},
	{nexthop.ErrPath, 553, smtp.EnhancedCode{5, 1, 3}, "Address can't be passed on"},
	{nexthop.ErrBareNewline, 550, smtp.EnhancedCode{5, 5, 2}, "Bare CR or LF in the message, which the next server can't be given unaltered"},
	{nexthop.ErrTLS, 451, smtp.EnhancedCode{4, 7, 5}, "The next server offers no TLS that is good enough, try again later"},
	{nexthop.ErrAuth, 451, smtp.EnhancedCode{4, 7, 0}, "The next server does not let us in, try again later"},
	{nexthop.ErrUnavailable, 451, smtp.EnhancedCode{4, 4, 1}, "The next server does not answer, try again later"},
	{nexthop.ErrUnknown, 451, smtp.EnhancedCode{4, 4, 2}, "The next server gave no reply, try again later"},
	{context.Canceled, 421, smtp.EnhancedCode{4, 3, 2}, "Service is stopping, try again later"},
	{context.DeadlineExceeded, 421, smtp.EnhancedCode{4, 3, 2}, "Took too long, try again later"},
}

// refuse maps an error to the reply. known is false for a fault of ours, which belongs in the log.
func refuse(err error) (reply *smtp.SMTPError, known bool) {
	if r, ok := errors.AsType[*nexthop.Reply](err); ok && (r.Code/100 == 4 || r.Code/100 == 5) {
		return verbatim(r), true
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return &smtp.SMTPError{Code: r.code, EnhancedCode: r.enh, Message: r.text}, true
		}
	}
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Temporary fault here, try again later"}, false
}

// verbatim is a next hop's reply, its enhanced codes left where they stood in the lines. go-smtp makes a line of each "\n".
func verbatim(r *nexthop.Reply) *smtp.SMTPError {
	text := strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' || c == 0x7f {
			return '?'
		}
		return c
	}, strings.Join(r.Lines, "\n"))
	return &smtp.SMTPError{Code: r.Code, EnhancedCode: smtp.NoEnhancedCode, Message: text}
}

// soften makes a temporary reply of a permanent one. Who sends journals gives up on a 5xx, and the report is lost.
func soften(e *smtp.SMTPError) *smtp.SMTPError {
	if e.Code/100 != 5 {
		return e
	}
	soft := *e
	soft.Code = 451
	switch e.EnhancedCode {
	case smtp.NoEnhancedCode:
		soft.EnhancedCode, soft.Message = smtp.EnhancedCode{4, 3, 0}, "Not taken, try again later"
	case smtp.EnhancedCode{5, 3, 4}:
		soft.Code, soft.EnhancedCode = 452, smtp.EnhancedCode{4, 3, 1}
	default:
		soft.EnhancedCode[0] = 4
	}
	return &soft
}
