// Package bundle writes evidence bundles, and verifies them offline.
//
// What it promises: a bundle holds each message byte for byte as it was received, what the archive saw of it, and a proof that it stood in
// the ledger; and every file of it is under a signature of the archive's key. Who has the bundle and that key can find every file that is
// missing, altered or was added (Verify), with this package or with sha256sum and any library for transparency logs. A folder under the
// name of a bundle is a whole one: until then it is called NAME.part, and there a run that was cut off goes on. Memory does not grow with
// the bundle. The same export again gives the same bytes, but for the files that BUNDLE.md, beside this file, calls dated.
package bundle

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Version is the v of the documents in a bundle.
const Version = 1

// What callers tell apart with errors.Is.
var (
	ErrExists  = errors.New("there is something already")
	ErrOther   = errors.New("another export was begun there")
	ErrRequest = errors.New("export can't be made as asked")
	ErrState   = errors.New("what an earlier run left can't be gone on with")
)

// Request is what is to be exported, and how. It stands in the bundle as data/export.json, but for Review, which shows in the decisions.
type Request struct {
	Query     string    `json:"query"`              // canonical; empty: everything
	Typed     string    `json:"typed"`              // as a person put it
	Zone      string    `json:"zone"`               // of dates in it
	Matter    string    `json:"matter,omitempty"`   // the case's name
	Index     []Through `json:"index"`              // how far the index had come when it was asked
	Unsure    uint64    `json:"not_fully_searched"` // records of which the query could not say, and that are not here
	Pending   uint64    `json:"pending"`            // records found that were not in the archive yet, and are not here
	Numbering Numbering `json:"numbering"`          // of the documents
	Fold      bool      `json:"fold_duplicates"`    // messages of the same bytes as one before are named and not given again
	NoBOM     bool      `json:"no_bom,omitempty"`   // the load file without a byte order mark
	Custodian []Person  `json:"custodians,omitempty"`
	Withheld  string    `json:"withheld,omitempty"` // SHA-256 of the list of what is withheld, where a list was given
}

// Through says how far an index had come: the log's entries before Seq are in it.
type Through struct {
	Log string `json:"log"`
	Seq uint64 `json:"seq"`
}

// Person is a custodian: a name, and his addresses.
type Person struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
}

// Numbering is how documents are numbered: Prefix, then the number in Width digits or more, from Start on.
type Numbering struct {
	Prefix string `json:"prefix"`
	Start  int64  `json:"start"`
	Width  int    `json:"width"`
}

// DefaultNumbering begins at HF00000001.
var DefaultNumbering = Numbering{Prefix: "HF", Start: 1, Width: 8}

// ParseNumbering reads the first number as people write it: "ACME-000001".
func ParseNumbering(first string) (Numbering, error) {
	m := firstNumber.FindStringSubmatch(first)
	if m == nil {
		return Numbering{}, fmt.Errorf("first number %q: not letters, digits, - and _, then 1 to 15 digits: %w", first, ErrRequest)
	}
	n := Numbering{Prefix: m[1], Width: len(m[2])}
	for _, c := range m[2] {
		n.Start = n.Start*10 + int64(c-'0')
	}
	return n, nil
}

// A prefix is part of names of files, so it has nothing that could lead out of a folder, and does not end in a digit.
var firstNumber = regexp.MustCompile(`^((?:[A-Za-z0-9_-]{0,31}[A-Za-z_-])?)([0-9]{1,15})$`)

func (n Numbering) name(i int64) string { return fmt.Sprintf("%s%0*d", n.Prefix, n.Width, i) }

func (r *Request) validate() error {
	var errs []error
	n := r.Numbering
	if again, err := ParseNumbering(n.name(n.Start)); err != nil || again.Prefix != n.Prefix || n.Start < 0 || n.Width < 1 {
		errs = append(errs, fmt.Errorf("numbering %q, %d, %d: %w", n.Prefix, n.Start, n.Width, ErrRequest))
	}
	for _, p := range r.Custodian {
		if p.Name == "" || len(p.Addresses) == 0 {
			errs = append(errs, fmt.Errorf("custodian %q: a name and an address are needed: %w", p.Name, ErrRequest))
		}
	}
	if strings.ContainsFunc(r.Matter, func(c rune) bool { return c < ' ' || c == 0x7f }) || len(r.Matter) > 200 {
		errs = append(errs, fmt.Errorf("matter %q: %w", r.Matter, ErrRequest))
	}
	return errors.Join(errs...)
}

// Review is what those who reviewed the hits decided. It must answer the same for as long as an export takes, over restarts too.
type Review interface {
	// Withhold says whether a record is withheld as privileged, and on what ground.
	Withhold(id record.ID) (ground string, withheld bool)
}

// Selection is what is exported: entries of a log as it was after a commit.
type Selection struct {
	Log     string
	Commit  uint64
	Numbers *roaring64.Bitmap
}

// Decision is what became of one hit.
type Decision string

// The decisions.
const (
	Produced   Decision = "produced"
	Duplicate  Decision = "duplicate"  // the same bytes as the document that is named
	Withheld   Decision = "withheld"   // privileged: the log of these says on what ground
	Envelope   Decision = "envelope"   // refused mail of which the archive has the envelope alone
	Unreadable Decision = "unreadable" // the record can't be read, or is not what the ledger says it was
)

// Counts are the counts of a bundle.
type Counts struct {
	Hits       int64 `json:"hits"`
	Produced   int64 `json:"produced"`  // messages
	Documents  int64 `json:"documents"` // messages and attachments, and numbers of what is withheld
	Duplicates int64 `json:"duplicates"`
	Withheld   int64 `json:"withheld"`
	Envelopes  int64 `json:"envelopes"`
	Unreadable int64 `json:"unreadable"`
	Exceptions int64 `json:"exceptions"` // documents that could not be read in full
	Bytes      int64 `json:"bytes"`      // of mail, of what was produced
}

func (c *Counts) add(d Decision) {
	c.Hits++
	switch d {
	case Produced:
		c.Produced++
	case Duplicate:
		c.Duplicates++
	case Withheld:
		c.Withheld++
	case Envelope:
		c.Envelopes++
	case Unreadable:
		c.Unreadable++
	}
}

// Result is what came of an export.
type Result struct {
	Bundle  string        `json:"bundle"` // where it is
	Counts  Counts        `json:"counts"`
	Pending uint64        `json:"pending"` // found and not in it, since not archived yet
	Unsure  uint64        `json:"not_fully_searched"`
	First   string        `json:"first,omitempty"` // numbers
	Last    string        `json:"last,omitempty"`
	SHA256  record.Digest `json:"tagmanifest_sha256"` // of tagmanifest-sha256.txt, which stands for all of it
	Resumed bool          `json:"resumed,omitempty"`
}
