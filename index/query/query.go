// Package query is the one query language as a tree: a search, a retention policy, a hold, a scope and an alert are all a Query.
// search/syntax turns what people type into one; index backends and (for a single document) this package evaluate it.
//
// Every text in a tree has been analysed already: its words are tokens as document.Tokens makes them, so that both evaluators compare
// like with like.
package query

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
)

// Query is a node of the tree: All, And, Or, Not, Text, Near, Address, Time, Size, Attached, MessageID, Fact, ID, SHA256 or Set. String gives the
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

// Text fields. Anywhere is subject, body, attachment names and attachment text together.
const (
	Anywhere       Field = ""
	Subject        Field = "subject"
	Body           Field = "body"
	Attachment     Field = "attachment" // names of attachments
	AttachmentText Field = "attachmenttext"
)

// headerField is what the text fields of the header begin with.
const headerField = "header."

// HeaderField gives the text field of all fields of a name in the header. Subject has one of its own.
func HeaderField(name string) Field {
	if name = strings.ToLower(name); name == string(Subject) {
		return Subject
	}
	return Field(headerField + name)
}

// Header gives the name of the header's fields that a text field stands for, in lower case; false: for none.
func (f Field) Header() (name string, ok bool) { return strings.CutPrefix(string(f), headerField) }

// Address fields. From … Bcc are of the header; EnvFrom and Rcpt are the SMTP envelope.
const (
	From         Field = "from"
	To           Field = "to"
	Cc           Field = "cc"
	Bcc          Field = "bcc"
	EnvFrom      Field = "envfrom"
	Rcpt         Field = "rcpt"
	Recipients   Field = "recipients"   // To, Cc, Bcc, Rcpt
	Participants Field = "participants" // any address at all: of these, Sender, Reply-To and the Resent- fields too
)

// Form says how the words of a Text are compared.
type Form int

// The forms. All but Words and Exact have one token, and are one word.
const (
	Words   Form = iota // as they are, folded: a word or a phrase
	Prefix              // word*: what begins so
	Pattern             // wo?d, w?rd*: a ? in the token stands for one character, a * for any number
	Stem                // word~en: what has the same stem in that language
	Fuzzy               // word~1: what differs by one letter more, less or other, or by two that changed places
	Exact               // +word: with its accents, or without any
)

// Text matches a word, or a phrase: its tokens at consecutive positions of one field.
type Text struct {
	Field    Field
	Form     Form
	Tokens   []string // at least one
	Exact    []string // of form Exact: the exact form of each token that is marked, "" for one that is not
	Language string   // of form Stem: one of Languages
	Quoted   bool     // typed in quotes
	Typed    string   // as it was typed, without quotes and the signs of its form: for String
}

// Near matches where two operands stand near each other in one field: spans that do not overlap, with the last position of the first and
// the first position of the second at most N apart (neighbours are 1 apart).
type Near struct {
	Field   Field
	N       int   // from 1 to MaxNear
	Ordered bool  // A stands before B
	Without bool  // an A with no B so near on either side; not together with Ordered
	A, B    Query // each a Text, a Near or an Or of these, all of the same Field
}

// MaxNear is how far apart the operands of Near can be: no further than one name of an attachment is from the next.
const MaxNear = 1000

// AddressPart says what of an address is compared.
type AddressPart int

// The parts.
const (
	Whole  AddressPart = iota // local@domain
	Domain                    // a domain and its sub-domains
	Name                      // a local part, or a word of a display name
	Null                      // the null sender, of EnvFrom only
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

// Time matches From ≤ t < Before; a zero bound is open. The bounds have the zone in which they were meant, as Zone gives it. A record without such a time (no readable Date) does not match.
type Time struct {
	Field        TimeField
	From, Before time.Time
}

// Size matches Min ≤ size of the message in bytes ≤ Max; Max < 0 is open.
type Size struct{ Min, Max int64 }

// Attached matches records with (or without) at least one attachment.
type Attached struct{ Has bool }

// Fact matches records with a fact in a range: see Bounds. Op is =, <, <=, > or >=; all but = are of TLS only.
type Fact struct {
	Field document.FactField
	Op    string
	Value string // in its canonical form, as search/syntax makes it
}

// MessageID matches the Message-ID header exactly, without its angle brackets, or with Prefix its beginning.
type MessageID struct {
	Value  string
	Prefix bool
}

// ID matches one record.
type ID struct{ ID record.ID }

// SHA256 matches the digest of the message's bytes.
type SHA256 struct{ Digest record.Digest }

// SetField is a field whose answer is not in the record: a request brings the sets of records that it stands for.
type SetField string

// The fields joined by sets.
const (
	Hold    SetField = "hold"
	Matter  SetField = "matter"
	Tag     SetField = "tag"
	Policy  SetField = "policy"
	Expires SetField = "expires"
)

// Set matches the records of a set that the request brings. Name is what it is called, or for Expires empty; then From and Before are as
// in Time. Its String is the key of the set.
type Set struct {
	Field        SetField
	Name         string // folded by FoldSetName
	From, Before time.Time
}

// FoldSetName gives the form in which the names of holds, matters, tags and policies are compared: NFKC, folded case, single blanks.
func FoldSetName(name string) string {
	return strings.Join(strings.Fields(document.Exact(name)), " ")
}

// ErrSetName is returned for text that can't be such a name.
var ErrSetName = errors.New("not a name: 1 to 64 letters, digits, blanks and . _ - +, beginning with a letter or digit")

// CheckSetName refuses what can't be the name of a hold, matter, tag or policy: ErrSetName.
func CheckSetName(name string) error {
	n := 0
	for i, r := range name {
		n++
		letter := unicode.IsLetter(r) || unicode.IsDigit(r) || i > 0 && unicode.IsMark(r)
		if !letter && (i == 0 || !strings.ContainsRune(" ._-+", r)) {
			return fmt.Errorf("%q: %w", name, ErrSetName)
		}
	}
	if n == 0 || n > 64 || strings.TrimSpace(name) != name || FoldSetName(name) == "" {
		return fmt.Errorf("%q: %w", name, ErrSetName)
	}
	return nil
}

// Zone gives t in the zone of its offset, the same for the same offset, so that trees can be compared. It is UTC where the offset is not of
// whole minutes, as before the time of time zones: that can't be written.
func Zone(t time.Time) time.Time {
	_, offset := t.Zone()
	if offset%60 != 0 || offset == 0 {
		return t.UTC()
	}
	return t.In(time.FixedZone("", offset))
}

func (All) query()       {}
func (And) query()       {}
func (Or) query()        {}
func (Not) query()       {}
func (Text) query()      {}
func (Near) query()      {}
func (Set) query()       {}
func (Address) query()   {}
func (Time) query()      {}
func (Size) query()      {}
func (Attached) query()  {}
func (MessageID) query() {}
func (Fact) query()      {}
func (ID) query()        {}
func (SHA256) query()    {}
