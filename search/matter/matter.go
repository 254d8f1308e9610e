// Package matter knows the legal cases that people work on: who their custodians are, what is searched for, and what was said of messages:
// tags, notes and reviews.
//
// What it promises: all of it is what acts say (State is an audit.Fold), in the one order that these have; a message is never changed.
// Tags that are added and removed commute but for the same tag of the same message; a review names the value that it replaces, and is
// refused where another has come before it.
package matter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Why something is refused. Nothing has changed then.
var (
	ErrNoMatter    = errors.New("no such matter")
	ErrNoCustodian = errors.New("no such custodian")
	ErrNoTag       = errors.New("no such tag")
	ErrNoSearch    = errors.New("no such saved search")
	ErrTaken       = errors.New("the name is taken")
	ErrNotMember   = errors.New("not a member of the matter")
	ErrLastMember  = errors.New("a matter needs a member")
	ErrAddress     = errors.New("not an address")
	ErrReview      = errors.New("not a review: relevant, not-relevant, privileged, needs-a-look or none")
	ErrStale       = errors.New("somebody else has reviewed it meanwhile")
	ErrNothing     = errors.New("nothing would change")
	ErrText        = errors.New("a text is missing, or is too long")
	ErrTooMany     = errors.New("too many messages for one act")
)

// Review is what was found of a message.
type Review string

// The reviews.
const (
	None        Review = "none" // not looked at
	Relevant    Review = "relevant"
	NotRelevant Review = "not-relevant"
	Privileged  Review = "privileged"
	NeedsALook  Review = "needs-a-look"
)

var reviews = []Review{None, Relevant, NotRelevant, Privileged, NeedsALook}

// maxText bounds a note or a description, in bytes.
const maxText = 64 << 10

// Address is one address of a custodian, for the time that it was that person's. A zero time is open.
type Address struct {
	Address string    `json:"address"`
	From    time.Time `json:"from,omitzero"`
	Before  time.Time `json:"before,omitzero"`
}

// Custodian is a person: a set of addresses over time.
type Custodian struct {
	Name      string    `json:"name"`
	Addresses []Address `json:"addresses"`
}

// Query gives what matches the mail of a custodian: sent from or to one of the addresses, header and envelope, while it was that person's:
// by the time of receipt or the message's own Date, since the one may be an import's, and the other anybody's.
func (c *Custodian) Query() query.Query {
	var list []query.Query
	for _, a := range c.Addresses {
		is := query.Query(query.Address{Field: query.Participants, Part: query.Whole, Value: a.Address})
		if !a.From.IsZero() || !a.Before.IsZero() {
			is = query.NewAnd(is, query.NewOr(
				query.Time{Field: query.Received, From: a.From, Before: a.Before}, query.Time{Field: query.Sent, From: a.From, Before: a.Before}))
		}
		list = append(list, is)
	}
	return query.NewOr(list...)
}

// check folds the addresses of a custodian and refuses what is none: ErrAddress.
func (c *Custodian) check() error {
	if err := query.CheckSetName(c.Name); err != nil {
		return fmt.Errorf("custodian %w", err)
	}
	if len(c.Addresses) == 0 {
		return fmt.Errorf("custodian %q has none: %w", c.Name, ErrAddress)
	}
	for i := range c.Addresses {
		a := &c.Addresses[i]
		folded := document.FoldAddress(strings.TrimSpace(a.Address))
		local, domain := document.Split(folded)
		if local == "" || domain == "" || strings.ContainsAny(folded, " \t\r\n\"*<>") {
			return fmt.Errorf("%q: %w", a.Address, ErrAddress)
		}
		if !a.From.IsZero() && !a.Before.IsZero() && !a.From.Before(a.Before) {
			return fmt.Errorf("%q: %w: its time ends before it begins", a.Address, ErrAddress)
		}
		a.Address, a.From, a.Before = folded, a.From.UTC(), a.Before.UTC()
	}
	return nil
}

// SavedSearch is a query with a name.
type SavedSearch struct {
	Name  string `json:"name"`
	Query string `json:"query"` // as it was typed
}

// Note is what somebody wrote of a message.
type Note struct {
	Record record.ID    `json:"record"`
	Text   string       `json:"text"`
	By     record.Actor `json:"by"`
	At     time.Time    `json:"at"`
}

// Reviewed says who reviewed a message, and what was found.
type Reviewed struct {
	Record record.ID    `json:"record"`
	Review Review       `json:"review"`
	By     record.Actor `json:"by"`
	At     time.Time    `json:"at"`
}

// Matter is one case. What State gives of it is not changed afterwards.
type Matter struct {
	Name        string                `json:"name"`
	Description string                `json:"description,omitempty"`
	By          record.Actor          `json:"by"`
	At          time.Time             `json:"at"`
	Members     []string              `json:"members"` // ids of actors; who created it is the first
	Custodians  []Custodian           `json:"custodians"`
	Searches    []SavedSearch         `json:"searches"`
	Tags        map[string]record.IDs `json:"tags"` // by name
	Notes       []Note                `json:"notes"`
	Reviews     []Reviewed            `json:"reviews"` // by record, what is not None
}

// Custodian finds one by its name: ErrNoCustodian.
func (m *Matter) Custodian(name string) (*Custodian, error) {
	for i := range m.Custodians {
		if query.FoldSetName(m.Custodians[i].Name) == query.FoldSetName(name) {
			return &m.Custodians[i], nil
		}
	}
	return nil, fmt.Errorf("%q in matter %q: %w", name, m.Name, ErrNoCustodian)
}

// tag finds the name of a tag as it was first written.
func (m *Matter) tag(name string) (string, bool) {
	for have := range m.Tags {
		if query.FoldSetName(have) == query.FoldSetName(name) {
			return have, true
		}
	}
	return name, false
}

// review gives what was found of a message.
func (m *Matter) review(id record.ID) Review {
	if i, ok := slices.BinarySearchFunc(m.Reviews, id, func(r Reviewed, id record.ID) int { return r.Record.Compare(id) }); ok {
		return m.Reviews[i].Review
	}
	return None
}

// member refuses who is none: ErrNotMember.
func (m *Matter) member(by record.Actor) error {
	if !slices.Contains(m.Members, by.ID) {
		return fmt.Errorf("%s, %q: %w", by.ID, m.Name, ErrNotMember)
	}
	return nil
}
