// Package index keeps a searchable copy of what the archive holds. It is derived: whatever happens to it, it can be built again from the
// archive, and nothing is destroyed on its word.
//
// A Backend holds the documents. The Follower feeds it, from the ledger and from the tail of the spool, so that new mail can be found
// within seconds, before it is in the archive.
package index

import (
	"context"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// What callers tell apart with errors.Is.
var (
	ErrTooBroad = errors.New("query matches too many different words") // a wildcard past the limit; the text says how many
	ErrCorrupt  = errors.New("index is damaged")                       // build it again
	ErrClosed   = errors.New("index is closed")
)

// Backend is a full-text index. Safe for concurrent use.
type Backend interface {
	// Apply adds documents, replaces those with the same id, deletes others, and then moves the cursors. When it returns nil all of it can
	// be found and is on disk. After an error or a crash some of the documents may be there already, but the cursors have not moved: they
	// never run ahead of the documents. To apply the same batch again is always safe. Errors: ErrClosed, ErrCorrupt, that of ctx before
	// it has begun; anything else may pass, and the caller tries again.
	Apply(ctx context.Context, b Batch) error
	// Through gives the cursors of what would survive a crash.
	Through(ctx context.Context) (map[string]uint64, error)
	// Trees gives the trees that were applied last, by log: with the cursors, of what would survive a crash.
	Trees() map[string]tlog.Tree
	// Search runs one query. Hits are unique by id, the total is exact. What it sees of a batch that is being applied is open. Errors:
	// ErrTooBroad, ErrClosed, ErrCorrupt, that of ctx, and context.DeadlineExceeded after Request.Within.
	Search(ctx context.Context, r Request) (*Result, error)
	// Count gives how many records match a query, and how they spread. Errors as Search's.
	Count(ctx context.Context, r CountRequest) (*Counts, error)
	// Purge deletes documents so that nothing is left of them: when it returns nil, no file of the index holds a word that only they had, and
	// that is on disk. Searches go on meanwhile; it waits for those that began before. After an error or a crash it is to be called again
	// with the same ids. Errors as of Apply.
	Purge(ctx context.Context, ids []record.ID) error
	// Lost tells what is not whole. Who feeds the index brings it again, and says so by Batch.Restored.
	Lost() []Loss
	// Close waits for calls that are under way. A second one is ErrClosed.
	Close() error
}

// Batch is applied as one. An id that is both added and deleted is deleted; of two documents with one id the last counts.
type Batch struct {
	Documents []*document.Document
	Deletes   []record.ID
	// Through sets cursors, by name: for a log the number of its entries that are in the index, from the first on without a gap.
	Through map[string]uint64
	// Trees are of logs whose cursor is set: the log as it was at the end of the commit that has the last entry done.
	Trees map[string]tlog.Tree
	// Restored are losses that are whole again with this batch.
	Restored []Loss
}

// Loss is a month (yyyy-mm, UTC, by the time of the record's id) of which documents were lost.
type Loss struct {
	Month string
	No    uint64 // tells it from other losses of the same month
}

// Month is the month that a record belongs to in a Loss, and in Result.Missing.
func Month(id record.ID) string { return id.Time().Format("2006-01") }

// Request is one search.
type Request struct {
	Query  query.Query
	Sort   Sort          // empty: ReceivedDesc
	Limit  int           // hits wanted; 0: none, count only
	After  *Cursor       // the page that follows this hit; nil: the first
	Within time.Duration // the longest it may take; 0: as long as ctx
	IDs    bool          // hits have ID and Cursor, and nothing else is read: for lists of a million

	// Page asks for the hits alone: the search may end once the page is full, and then Result has no totals.
	Page bool
	// Unknown asks for the records of which the query can't say, since some of them could not be read, instead of those that match.
	Unknown bool
	// Sets has the records that each query.Set of the query stands for, by its String, in ascending order.
	Sets map[string][]record.ID
}

// Sort is an order of hits. Ties go by id, in the same direction.
type Sort string

// The orders. The sign is the direction: - is newest, or largest, first. A record without a readable Date sorts before all others by sent.
const (
	ReceivedDesc Sort = "-received"
	ReceivedAsc  Sort = "received"
	SentDesc     Sort = "-sent"
	SentAsc      Sort = "sent"
	SizeDesc     Sort = "-size"
	SizeAsc      Sort = "size"
)

// Cursor is the place of a hit in its order.
type Cursor struct {
	Key int64 // the sort key, as the Backend made it
	ID  record.ID
}

// Result is what one search found.
type Result struct {
	Total   uint64 // exact
	Unknown uint64 // records of which the query can't say: they are not among the Total
	Counted bool   // false, only with Request.Page: Total and Unknown are of some of the records, and mean nothing
	Hits    []Hit

	// Missing are the months (yyyy-mm, UTC, by the time of the record's id) that the query reaches into and that are not whole: what was
	// indexed of them was damaged and comes again from the archive. Some of their records are in neither number above.
	Missing []string
}

// Hit has what a list of results shows. It is stored in the index, so that a page costs no read of the archive.
type Hit struct {
	ID          record.ID
	Received    time.Time // UTC
	Sent        time.Time // UTC; zero: no readable Date
	Size        int64     // bytes of the message
	SHA256      record.Digest
	From        []document.Address
	To          []document.Address
	Cc          []document.Address
	Rcpt        []string // of the SMTP envelope
	Subject     string
	Attachments []string // names
	Partial     bool     // some text of the message is not in the index
	Report      bool     // it is a journal report: there may be others of the same message
	MessageID   string   // of a journal report, the enclosed message's; empty for other records
	Cursor      Cursor
}
