package index

import (
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Facet is what the records that a query finds are told apart by.
type Facet string

// The facets. A record counts once for each different value that it has.
const (
	BySender    Facet = "sender"    // addresses of From
	ByDomain    Facet = "domain"    // domains of these
	ByRecipient Facet = "recipient" // addresses of To, Cc and Bcc, and of the SMTP envelope
	ByMonth     Facet = "month"     // of receipt, UTC, as 2026-03
	ByDay       Facet = "day"       // likewise, as 2026-03-14
	ByDirection Facet = "direction"
	ByFileType  Facet = "filetype" // of attachments
	BySPF       Facet = "spf"
	ByDKIM      Facet = "dkim"
	ByDMARC     Facet = "dmarc"
)

// Facets are all of them, in the order in which people are shown them.
var Facets = []Facet{BySender, ByDomain, ByRecipient, ByMonth, ByDay, ByDirection, ByFileType, BySPF, ByDKIM, ByDMARC}

// OfTime says that the values of a facet are times: all are given, in their order.
func (f Facet) OfTime() bool { return f == ByMonth || f == ByDay }

// CountRequest asks how many records match, and how they spread.
type CountRequest struct {
	Query  query.Query
	Facets []Facet
	Top    int           // values of each facet wanted, those that most records have first; of times all are given
	Within time.Duration // the longest it may take; 0: as long as ctx

	Sets map[string][]record.ID // as in Request
}

// Counts are what a CountRequest found.
type Counts struct {
	Total   uint64 // exact
	Unknown uint64 // records of which the query can't say: they are not among the Total
	Facets  map[Facet]Spread
	Missing []string // as Result's
}

// Spread is how records spread over the values of a facet. Those with the same number go by value.
type Spread struct {
	Values []Count
	More   int // different values beside these
}

// Count is how many records have a value.
type Count struct {
	Value string
	N     uint64
}
