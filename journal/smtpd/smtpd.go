// Package smtpd is the SMTP session (RFC 5321), and the only place in the house with SMTP reply codes.
//
// What it promises to the Handler behind it: a Body reads as exactly the bytes that the client meant, and ends in io.EOF only when the
// client has ended it, by CRLF.CRLF or by BDAT's LAST; anything else is an error, and then the message must not be kept or sent on.
// What it promises to the client: 250 after the end of data stands for nil of Transaction.Data and nothing else, a fault of ours is never
// a 5xx, and the next hop's replies come word for word.
//
// A connection's life is in session.go: who the client is (TCP, the PROXY protocol, XCLIENT), TLS, then one command after the other. The
// wire is read strictly and in one place, conn.go: a line ends in CRLF, data in CRLF.CRLF, and nothing that was read before a TLS
// handshake is left for after it. MAIL and RCPT are parsed from the line as it came. The bytes of a message go from the wire to the
// Handler with nothing between them but the dots that SMTP puts there. Who may send what to whom is in policy.go.
package smtpd

import (
	"context"
	"errors"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// What Body.Read returns for a message that may not be taken. The reply to the client follows from it, whatever the Handler then says.
var (
	// ErrBareNewline: a CR or LF that is not part of a CRLF, where Config.BareNewline refuses it.
	ErrBareNewline = errors.New("bare CR or LF in the message")
	// ErrNoFinalNewline: a message by BDAT that does not end in CRLF, where bare newlines are refused: DATA could not pass it on unaltered.
	ErrNoFinalNewline = errors.New("message does not end in CRLF")
	// ErrTooBig: more than Limits.MessageSize.
	ErrTooBig = errors.New("message is over the size limit")
	// ErrLineTooLong: a line over 1 MiB, of a message that goes on.
	ErrLineTooLong = errors.New("line of the message is over the length limit")
	// ErrLoop: more than 50 Received lines in the header of a message that goes on.
	ErrLoop = errors.New("mail loop: too many Received lines")
	// ErrChunks: the client left a message by BDAT unfinished, for RSET or another command that ends it.
	ErrChunks = errors.New("message by BDAT was left unfinished")
	// ErrTooSlow: the client sent nothing for Config.DataTimeout, or less than Config.MinRate.
	ErrTooSlow = errors.New("client is too slow")
	// A client that was gone in the middle of a message is io.ErrUnexpectedEOF, or the error of the network.
)

// ErrClientGone is what Transaction.Replied is told when the client hung up while it waited for the reply.
var ErrClientGone = errors.New("client hung up before the reply")

// Handler is what a listener does with mail. Its methods, and those of Transaction, are called by one goroutine for each session, one at a
// time; different sessions call them at once.
//
// An error that is or wraps a *nexthop.Reply refuses in its words; the errors of packages spool and nexthop have replies of their own;
// any other is a 451 that gives nothing away, and is logged here.
type Handler interface {
	// Mail begins a transaction; an error refuses MAIL. Whether the client may send has been checked. from is the null sender where its Address
	// is empty.
	Mail(ctx context.Context, s *Session, from record.Path, p Params) (Transaction, error)
}

// Transaction is one message on its way. After Mail it sees any number of Rcpt, then either Abort, or Data and then Replied: each exactly
// once.
type Transaction interface {
	// Rcpt adds a recipient; nil accepts. The path "<postmaster>" has an Address without a domain (RFC 5321 section 4.5.1).
	Rcpt(ctx context.Context, to record.Path) error
	// Data takes the message. Nil, nil is our own 250; a *nexthop.Reply with a 2xx code is passed on word for word. Nil before body
	// has given io.EOF is a fault of the Handler, and answered as one. body must not be read after Data has returned.
	//
	// ctx ends when the client is gone before the end of data, or the server is forced to stop; after the end of data a client that hangs
	// up shows in Session.Gone alone.
	Data(ctx context.Context, body *Body) (*nexthop.Reply, error)
	// Replied is called when the reply to the end of data was written: nil, or why it could not be. It need not have been received.
	Replied(err error)
	// Abort ends a transaction before Data: RSET, a new EHLO, STARTTLS, a disconnect.
	Abort()
}

// Params are the parameters of MAIL.
type Params struct {
	Size     int64  // SIZE (RFC 1870), bytes; 0: not declared
	Body     string // BODY (RFC 6152): "", "7BIT", "8BITMIME"
	SMTPUTF8 bool   // RFC 6531
	Ret      string // RET (RFC 3461): "", "FULL", "HDRS"
	EnvID    string // ENVID (RFC 3461), decoded
}

// Session is what is known of a client at the time of MAIL. It does not change afterwards, but for Gone.
type Session struct {
	ID       string        // stands in the logs
	Listener string        // Config.Name
	Mode     string        // record.ModeRelay, record.ModeQueue or record.ModeJournal
	Client   record.Client // the true client, as far as those say that may (PROXY, XCLIENT, XFORWARD)
	Proxy    *record.Proxy // who connected, where that is somebody else
	Peer     record.Client // who speaks SMTP with us: Client, but where XFORWARD told of another
	TLS      *record.TLS   // nil: clear text
	Auth     *record.Auth  // nil: not authenticated

	// BareNewline: a message may hold bare CR and LF, or not end in CRLF. It is to be kept, and to be passed on byte for byte or not at all.
	BareNewline bool

	gone chan struct{}
}

// Gone is closed when the client is known to be gone. While Data waits for something after the end of data, this is noticed within
// seconds. A nil channel, of a Session that was not made by a Server, is never closed.
func (s *Session) Gone() <-chan struct{} { return s.gone }
