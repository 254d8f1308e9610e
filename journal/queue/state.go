package queue

import (
	"encoding/json"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// state is the document <id>.json: all that the queue knows of one message. FORMAT.md describes it; fields are only ever added.
type state struct {
	V           int               `json:"v"`
	ID          record.ID         `json:"id"`
	Written     time.Time         `json:"written"`           // by the wall clock
	AgeSeconds  int64             `json:"age_seconds"`       // at that time, by a clock that doesn't jump
	Supplements int               `json:"supplements"`       // how many delivery-<n> there are
	Owed        []json.RawMessage `json:"owed,omitempty"`    // supplements of which it is not known that they are in custody
	Hold        *hold             `json:"hold,omitempty"`    // nil: not held
	Recipients  []recipient       `json:"recipients"`        // as many as the envelope has, in its order
	History     []event           `json:"history"`           // the last attempts, oldest first
	Envelope    json.RawMessage   `json:"envelope"`          // as it came, byte for byte
	Dropped     string            `json:"dropped,omitempty"` // by whom, and why

	env *record.Envelope // Envelope, read
}

// Version is the V of the documents that this code writes.
const Version = 1

// fate is what became of a recipient.
type fate string

const (
	waiting   fate = "waiting"   // to be tried, again or for the first time
	delivered fate = "delivered" // a server took responsibility
	failed    fate = "failed"    // refused for good
	expired   fate = "expired"   // given up for its age
	dropped   fate = "dropped"   // by somebody's act
)

// recipient is what is known of one recipient.
type recipient struct {
	Fate     fate      `json:"fate"`
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"`      // waiting: the next attempt, by the wall clock
	Owes     string    `json:"owes,omitempty"`     // the notice that the sender is still to be sent: a bounce.Action
	Late     bool      `json:"late,omitempty"`     // the sender was told of the delay
	NextHop  string    `json:"next_hop,omitempty"` // of the last attempt, as configured or found
	Address  string    `json:"address,omitempty"`  // the IP address and port that answered
	Code     int       `json:"code,omitempty"`     // SMTP reply code; 0: none came
	Enhanced string    `json:"enhanced,omitempty"`
	Text     string    `json:"text,omitempty"`
	Unknown  bool      `json:"unknown,omitempty"` // the last attempt may have delivered it: no reply came
	Time     time.Time `json:"time,omitzero"`     // of the last attempt
}

// hold says that a message is not to be tried.
type hold struct {
	Time time.Time `json:"time"`
	By   string    `json:"by"` // an actor's id
}

// event is one attempt.
type event struct {
	Time    time.Time `json:"time"`
	NextHop string    `json:"next_hop,omitempty"`
	Address string    `json:"address,omitempty"`
	Outcome string    `json:"outcome"` // delivered, deferred, failed, unknown, expired, dropped, held, released
	Text    string    `json:"text,omitempty"`
}

// maxHistory bounds History.
const maxHistory = 30

func newState(it *record.Item) *state {
	s := &state{V: Version, ID: it.ID, Envelope: it.EnvelopeJSON, env: it.Envelope, Recipients: make([]recipient, len(it.Envelope.Rcpt))}
	for i := range s.Recipients {
		s.Recipients[i].Fate = waiting
	}
	return s
}

// waits says whether anybody is still to be tried.
func (s *state) waits() bool {
	for _, r := range s.Recipients {
		if r.Fate == waiting {
			return true
		}
	}
	return false
}

// owes says whether a notice is owed to the sender.
func (s *state) owes() bool {
	for _, r := range s.Recipients {
		if r.Owes != "" {
			return true
		}
	}
	return false
}

func (s *state) note(e event) {
	e.Time = record.Now()
	if len(e.Text) > 500 {
		e.Text = e.Text[:500]
	}
	s.History = append(s.History, e)
	if n := len(s.History) - maxHistory; n > 0 {
		s.History = append([]event(nil), s.History[n:]...)
	}
}

// next is when the message is tried again, by the wall clock; zero where nobody waits.
func (s *state) next(now time.Time) time.Time {
	var first time.Time
	for _, r := range s.Recipients {
		if r.Fate != waiting {
			continue
		}
		at := r.Next
		if at.IsZero() || at.Before(now) { // being tried, or about to be
			at = now
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}
