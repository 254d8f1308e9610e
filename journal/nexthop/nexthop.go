// Package nexthop hands messages on to the mail server behind us.
//
// What it promises: the body arrives byte for byte as it was written, behind one Received line of ours; the next hop's
// replies come back word for word; and the final dot is written by Finish and by nothing else, so that who calls Finish
// after custody can't deliver what is not in custody. Whatever goes wrong before the dot ends in a closed connection,
// never in QUIT or RSET, which some servers would take for the end of the message.
//
// Connections are pooled and reused. A connection that went stale in the pool is replaced without the client noticing, and a host that
// can't serve by the next one of its Route, as long as no byte of the body has been sent.
package nexthop

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What callers tell apart with errors.Is. A reply of the next hop's own is not among them: that is a *Reply (errors.As).
var (
	// ErrUnavailable: the next hop can't be reached, broke off, said 421, or did not answer in time. Nothing was delivered. Temporary.
	ErrUnavailable = errors.New("next hop unavailable")
	// ErrUnknown: the final dot may have been sent, and its reply did not come. Temporary towards the client, who may send again.
	ErrUnknown = errors.New("next hop gave no reply to the message")
	// ErrNoSMTPUTF8: the message needs SMTPUTF8 (RFC 6531) and the next hop does not offer it. Permanent.
	ErrNoSMTPUTF8 = errors.New("next hop does not offer SMTPUTF8")
	// ErrTooBig: the declared size is over the SIZE (RFC 1870) that the next hop announced. Permanent.
	ErrTooBig = errors.New("message is over the size limit of the next hop")
	// ErrPath: the address can't be written as an SMTP path that every server reads in the same way. Permanent.
	ErrPath = errors.New("address can't be passed on")
	// ErrTLS: TLS is required, and there was none that is good enough. Always with ErrUnavailable. Temporary.
	ErrTLS = errors.New("no TLS as required")
	// ErrAuth: the next hop did not let us in with our Credentials, or they can't be read, or TLS for them is not to be had. Always with
	// ErrUnavailable. Temporary, since it is our fault and not the message's.
	ErrAuth = errors.New("not authenticated")
	// ErrBareNewline: the body holds a CR or LF that is not part of CRLF, or does not end in CRLF, and by DATA nobody can say what the next
	// hop would make of it: other bytes, or the end of the message, and commands of what follows. Nothing was delivered. Permanent.
	ErrBareNewline = errors.New("body can't be sent unaltered: bare CR or LF, or no CRLF at its end")
)

// Timeouts bound every wait. Zero fields take those of DefaultTimeouts.
type Timeouts struct {
	Connect   time.Duration // TCP connect, and a TLS handshake
	Hello     time.Duration // the greeting, and each reply up to the first MAIL
	Command   time.Duration // MAIL, RCPT and RSET
	DataInit  time.Duration // the reply to DATA
	DataBlock time.Duration // one write of up to 64 KiB
	Final     time.Duration // the reply to the final dot
	Quit      time.Duration // goodbye
}

// DefaultTimeouts follow RFC 5321 section 4.5.3.2, but for greeting and EHLO (1 minute instead of 5) and for the final dot:
// who gives up on it before the server does makes duplicates, so it has 15 minutes instead of 10.
var DefaultTimeouts = Timeouts{
	Connect: 30 * time.Second, Hello: time.Minute, Command: 5 * time.Minute, DataInit: 2 * time.Minute,
	DataBlock: 3 * time.Minute, Final: 15 * time.Minute, Quit: 5 * time.Second,
}

func (t Timeouts) withDefaults() Timeouts {
	d := DefaultTimeouts
	for _, f := range []struct{ have, def *time.Duration }{
		{&t.Connect, &d.Connect}, {&t.Hello, &d.Hello}, {&t.Command, &d.Command}, {&t.DataInit, &d.DataInit},
		{&t.DataBlock, &d.DataBlock}, {&t.Final, &d.Final}, {&t.Quit, &d.Quit},
	} {
		if *f.have <= 0 {
			*f.have = *f.def
		}
	}
	return t
}

// Defaults of Options. Servers drop an idle client after 5 minutes (RFC 5321), busy ones much sooner.
const (
	DefaultMaxIdle = 32
	DefaultIdleAge = time.Minute
	DefaultMaxAge  = 10 * time.Minute
)

// Options are what a Pool is made with. The zero value serves.
type Options struct {
	MaxIdle  int           // idle connections kept for each Target
	IdleAge  time.Duration // an idle connection is closed after this
	MaxAge   time.Duration // a connection this old is not used again, so that a change in the DNS is followed
	Timeouts Timeouts
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer
	Log      *slog.Logger                                                         // nil: none
	Registry prometheus.Registerer                                                // nil: no metrics
}
