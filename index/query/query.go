// Package query is the one query language as a tree: a search, a retention policy, a hold, a scope and an alert are all a Query.
// search/syntax turns what people type into one; index backends and (for a single document) this package evaluate it.
//
// Every text in a tree has been analysed already: its words are tokens as document.Tokens makes them, so that both evaluators compare
// like with like.
package query

import (
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Query is a node of the tree: All, And, Or, Not, Text, Address, Time, Size, Attached, MessageID, ID or SHA256. String gives the
// canonical form, which search/syntax parses back to the same tree. Queries are immutable and safe for concurrent use.
type Query interface {
	String() string
	query()
}

// All matches every record. It has no written form but the empty query.
type All struct{}

// And matches what all of its operands match. It has at least two; no operand is an And.
type And []Query

// Or matches what one of its operands matches. It has at least two; no operand is an Or.
type Or []Query

// Not matches what its operand does not.
type Not struct{ Query Query }

// Field names a text or address field.
type Field string

// Text fields. Anywhere is subject, body and attachment names together (and the text of attachments, once it is extracted).
const (
	Anywhere   Field = ""
	Subject    Field = "subject"
	Body       Field = "body"
	Attachment Field = "attachment" // names of attachments
)

// Address fields. From … Bcc are of the header; EnvFrom and Rcpt are the SMTP envelope.
const (
	From         Field = "from"
	To           Field = "to"
	Cc           Field = "cc"
	Bcc          Field = "bcc"
	EnvFrom      Field = "envfrom"
	Rcpt         Field = "rcpt"
	Recipients   Field = "recipients"   // To, Cc, Bcc, Rcpt
	Participants Field = "participants" // any address at all
)

// Text matches a word, a phrase (its tokens at consecutive positions of one field), or with Prefix a word that begins with the one token.
type Text struct {
	Field  Field
	Tokens []string // at least one; exactly one with Prefix
	Prefix bool
	Quoted bool   // typed in quotes
	Typed  string // as it was typed, without quotes: for String
}

// AddressPart says what of an address is compared.
type AddressPart int

// The parts.
const (
	Whole  AddressPart = iota // local@domain
	Domain                    // a domain and its sub-domains
	Name                      // a local part, or a word of a display name
)

// Address matches records with such an address in a field. Value is folded to lower case; a domain has no leading @ or dot.
type Address struct {
	Field  Field
	Part   AddressPart
	Value  string
	Prefix bool // Value is the beginning of it
}

// TimeField is a field with a moment in time.
type TimeField string

// The time fields.
const (
	Sent     TimeField = "sent"     // the Date header
	Received TimeField = "received" // time of receipt
)

// Time matches From ≤ t < Before, in UTC; a zero bound is open. A record without such a time (no readable Date) does not match.
type Time struct {
	Field        TimeField
	From, Before time.Time
}

// Size matches Min ≤ size of the message in bytes ≤ Max; Max < 0 is open.
type Size struct{ Min, Max int64 }

// Attached matches records with (or without) at least one attachment.
type Attached struct{ Has bool }

// MessageID matches the Message-ID header exactly, without its angle brackets.
type MessageID struct{ Value string }

// ID matches one record.
type ID struct{ ID record.ID }

// SHA256 matches the digest of the message's bytes.
type SHA256 struct{ Digest record.Digest }

func (All) query()       {}
func (And) query()       {}
func (Or) query()        {}
func (Not) query()       {}
func (Text) query()      {}
func (Address) query()   {}
func (Time) query()      {}
func (Size) query()      {}
func (Attached) query()  {}
func (MessageID) query() {}
func (ID) query()        {}
func (SHA256) query()    {}
