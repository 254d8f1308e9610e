// Package bounce writes delivery status notifications: what a sender is told of mail that could not be delivered, is late, or was handed
// on (RFC 3461, 3464, and 6533 for addresses that are not ASCII).
//
// What it promises: a report never asks for another one. It goes out with the null sender, and to a null sender there is none (ErrNobody).
// Whatever a server or a sender wrote that is repeated here can't end a line, a header or a part. Its size is bounded, whatever the size
// of the message that it is about.
package bounce

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// ErrNobody is returned for a message that came with the null sender: nobody is to be told.
var ErrNobody = errors.New("message has the null sender: nobody is told")

// Action is what became of a recipient (RFC 3464 section 2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed" // to a server that tells nobody
)

// DefaultLimit is how much of a message goes back with RET=FULL, in bytes. A larger one is told of by its header alone.
const DefaultLimit = 64 << 10

// maxHeader bounds the header that goes back, in bytes: it is cut at the end of a line.
const maxHeader = 32 << 10

// Report is one notification, about one message. All recipients have the same Action.
type Report struct {
	ID   record.ID // of the notification as a record of its own
	Time time.Time // of its making
	Host string    // who reports: our name

	Original   *record.Envelope // of the message that it is about
	Recipients []Recipient

	// Message opens the message; nil where it can't be had any more, and then none of it goes back.
	Message func() (io.ReadCloser, error)
	Limit   int64 // bytes; 0: DefaultLimit
}

// Recipient is what became of one recipient.
type Recipient struct {
	Path     record.Path // as the sender gave it
	Action   Action
	Code     int    // SMTP reply code; 0: none came, and Text is ours
	Enhanced string // RFC 3463; empty: not known
	Text     string // of the reply, lines joined by a newline, or in our words
	Remote   string // host or address of the server that answered; empty: none did
	Last     time.Time
	Until    time.Time // Delayed: when it will be given up
}

// Build gives the notification: the message, with CRLF, and the envelope that it is to be sent with, of which custody fills in the rest.
// ErrNobody where there is nobody to send it to. Any other error is one of reading the message.
func Build(r Report) (record.Envelope, []byte, error) {
	from := r.Original.MailFrom
	if from == nil || from.Address == "" {
		return record.Envelope{}, nil, ErrNobody
	}
	if r.Limit <= 0 {
		r.Limit = DefaultLimit
	}
	back, err := r.returned()
	if err != nil {
		return record.Envelope{}, nil, err
	}
	b := &builder{Report: r, back: back}
	b.utf8 = r.Original.SMTPUTF8 && b.needsUTF8()
	message := b.build()
	env := record.Envelope{
		ID: r.ID, Source: record.SourceBounce, Listener: r.Original.Listener, Mode: record.ModeQueue, Completeness: record.Full,
		MailFrom: &record.Path{}, Rcpt: []record.Path{{Address: from.Address, Raw: from.Raw, Notify: "NEVER"}},
		SMTPUTF8: b.utf8, DeclaredSize: int64(len(message)), Origin: r.Original.ID.String(),
	}
	if b.utf8 || !isASCII(message) {
		env.Body = "8BITMIME"
	}
	return env, message, nil
}

// Wants says whether the sender asked to be told of this action for this recipient (RFC 3461 section 4.1; without NOTIFY of failures
// only, which the section allows).
func Wants(p record.Path, a Action) bool {
	word := "FAILURE"
	switch a {
	case Delayed:
		word = "DELAY"
	case Delivered, Relayed:
		word = "SUCCESS"
	}
	if p.Notify == "" {
		return a == Failed
	}
	for w := range strings.SplitSeq(p.Notify, ",") {
		if strings.EqualFold(strings.TrimSpace(w), word) {
			return true
		}
	}
	return false
}

// status is the enhanced status code of a recipient, in the class that its action has.
func (r Recipient) status() string {
	class := map[Action]byte{Failed: '5', Delayed: '4', Delivered: '2', Relayed: '2'}[r.Action]
	if r.Enhanced != "" && (r.Enhanced[0] == class || r.Action == Failed && r.Enhanced[0] == '4') { // given up after temporary failures
		return r.Enhanced
	}
	return string(class) + ".0.0"
}
