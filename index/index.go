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
	// Apply adds documents, replaces those with the same id, deletes others, and moves the cursors: all of it or nothing, also across a
	// crash. When it returns nil the batch can be found; the cursors never run ahead of the documents on disk.
	Apply(ctx context.Context, b Batch) error
	// Through gives the cursors of the last batch that would survive a crash.
	Through(ctx context.Context) (map[string]uint64, error)
	// Search runs one query. Hits are unique by id.
	Search(ctx context.Context, r Request) (*Result, error)
	Close() error
}

// Batch is applied as one.
type Batch struct {
	Documents []*document.Document
	Deletes   []record.ID
	// Through sets cursors, by name: for a log the number of its entries that are in the index, from the first on without a gap.
	Through map[string]uint64
}

// Request is one search.
type Request struct {
	Query  query.Query
	Sort   Sort
	Limit  int     // hits wanted; 0: none, count only
	After  *Cursor // the page that follows this hit
	Within time.Duration
}

// Sort is an order of hits; ties go by id.
type Sort string

// The orders. The sign is the direction: - is newest, or largest, first.
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
	Key int64 // the sort key: Unix nanoseconds, or bytes
	ID  record.ID
}

// Result is what one search found.
type Result struct {
	Total uint64 // exact
	Hits  []Hit
}

// Hit has what a list of results shows. It is stored in the index, so that a page costs no read of the archive.
type Hit struct {
	ID          record.ID
	Received    time.Time
	Sent        time.Time // zero: no readable Date
	Size        int64
	SHA256      record.Digest
	From        []document.Address
	To          []document.Address
	Cc          []document.Address
	Rcpt        []string
	Subject     string
	Attachments []string // names
	Cursor      Cursor
}
