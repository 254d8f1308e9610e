// Package search answers questions about the archive for people: it authorises, writes the act down, and only then looks.
//
// Nothing is searched or shown whose act is not in custody first.
package search

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
)

// What callers tell apart with errors.Is; a query that can't be read is a *syntax.Error.
var (
	ErrCursor = errors.New("not a cursor of this search")
	ErrSort   = errors.New("unknown order")
)

// DefaultLimit and MaxLimit bound the hits of one page.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

// Timeout bounds one search.
const Timeout = 30 * time.Second

// Request is one search as a person put it.
type Request struct {
	Query    string         // in the query language; empty: everything
	Limit    int            // 0: DefaultLimit
	Sort     index.Sort     // empty: index.ReceivedDesc
	After    string         // Result.Next of the page before
	Count    bool           // no hits, the total only
	Page     bool           // the hits alone, as soon as they are known; Facets gives the totals
	Fold     bool           // records of the same message, byte for byte, as one
	Unsure   bool           // the records that could not be searched fully, of which the query can't say, instead of those that match
	Location *time.Location // of dates without a zone; nil: UTC
}

// Result is the answer. Its JSON is what `holdfast search --json` prints.
type Result struct {
	Query           string    `json:"query"`                        // canonical form: what the machine understood
	Total           uint64    `json:"total"`                        // records; of reports shown as one, each counts
	Uncounted       bool      `json:"uncounted,omitempty"`          // of a Page: there are no totals in it
	Missing         []string  `json:"missing,omitempty"`            // months (yyyy-mm) of receipt that are being indexed again after damage: more may match
	NotSearched     uint64    `json:"not_fully_searched,omitempty"` // records of which the query can't say: some of them could not be read
	CompleteThrough []Through `json:"complete_through"`
	Hints           []string  `json:"hints"`
	Hits            []Hit     `json:"hits"`
	Next            string    `json:"next,omitempty"` // cursor of the next page; empty: this was the last
}

// Through says how far the index had come when it was asked: the log's entries before Seq are in it, the last of them of this time.
type Through struct {
	Log  string    `json:"log"`
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time,omitzero"`
}

// Hit is one record found.
type Hit struct {
	ID          record.ID     `json:"id"`
	Received    time.Time     `json:"received"`
	Sent        time.Time     `json:"sent,omitzero"`
	From        []string      `json:"from"`
	To          []string      `json:"to"`
	Rcpt        []string      `json:"rcpt"`
	Subject     string        `json:"subject"`
	Size        int64         `json:"size"`
	SHA256      record.Digest `json:"sha256"`
	Attachments []string      `json:"attachments"`
	Pending     bool          `json:"pending"`           // in custody here, not yet committed to the archive
	Same        []record.ID   `json:"same,omitempty"`    // with Fold, the other records of the very same message
	Reports     []Report      `json:"reports,omitempty"` // where several journal reports are shown as one: each of them; Rcpt has the recipients of all
}

// Report is one of several journal reports of one message, a record of its own.
type Report struct {
	ID       record.ID `json:"id"`
	Received time.Time `json:"received"`
	Rcpt     []string  `json:"rcpt"`
}

// Index answers queries. An index.Backend is one.
type Index interface {
	Search(ctx context.Context, r index.Request) (*index.Result, error)
	Count(ctx context.Context, r index.CountRequest) (*index.Counts, error)
}

// Service searches and views for people. Safe for concurrent use.
type Service struct {
	Index    Index
	Archive  *archive.Archive
	Audit    *audit.Log
	Progress func(context.Context) []Through // how far the index has come; empty: not known
	Now      func() time.Time

	Sets       Sets // nil: hold:, tag:, matter:, policy: and expires: are refused
	Directions bool // own domains are configured: direction: is answered
}

// Search parses, writes the act, and asks the index. Errors: *syntax.Error, ErrCursor, ErrSort, audit.ErrNotRecorded, index.ErrTooBroad, ErrNoSet.
func (s *Service) Search(ctx context.Context, by record.Actor, r Request) (*Result, error) {
	if r.Sort == "" {
		r.Sort = index.ReceivedDesc
	}
	switch r.Sort {
	case index.ReceivedDesc, index.ReceivedAsc, index.SentDesc, index.SentAsc, index.SizeDesc, index.SizeAsc:
	default:
		return nil, fmt.Errorf("sort %q: %w: received, sent or size, with - before it for the largest first", r.Sort, ErrSort)
	}
	if r.Limit <= 0 {
		r.Limit = DefaultLimit
	}
	if r.Location == nil {
		r.Location = time.UTC
	}
	after, err := parseCursor(r.After)
	if err != nil {
		return nil, err
	}
	parsed, err := s.parse(r.Query, r.Location)
	if err != nil {
		return nil, err
	}
	canonical := parsed.Query.String()
	if err := s.Audit.Do(ctx, record.ActSearch, by, map[string]any{
		"typed": r.Query, "canonical": canonical, "zone": r.Location.String(), "sort": r.Sort, "limit": r.Limit, "after": r.After, "count": r.Count,
		"not_fully_searched": r.Unsure, "fold": r.Fold,
	}); err != nil {
		return nil, err
	}
	req := index.Request{Query: parsed.Query, Sort: r.Sort, Limit: min(r.Limit, MaxLimit), After: after, Within: Timeout, Unknown: r.Unsure, Page: r.Page && !r.Count}
	if r.Count {
		req.Limit = 0
	}
	if req.Sets, err = s.sets(ctx, parsed.Query); err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	through := s.Progress(ctx) // before the search: what it says is then surely in the answer
	found, err := s.Index.Search(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("search: %w", err) // without the query, which no log shall have
	}
	res := &Result{Query: canonical, Total: found.Total, NotSearched: found.Unknown, Missing: found.Missing, CompleteThrough: through, Hints: append([]string{}, parsed.Hints...)}
	if req.Page && !found.Counted {
		res.Total, res.NotSearched, res.Uncounted = 0, 0, true
	}
	var same map[record.ID][]record.ID
	if n := len(found.Hits); r.Fold && n > 0 {
		f, err := s.fold(ctx, req, found.Hits)
		if err != nil {
			return nil, fmt.Errorf("search: %w", err)
		}
		if found.Hits, same = f.hits, f.same; f.after != nil {
			res.Next = formatCursor(*f.after)
		}
		if f.more {
			res.Hints = append(res.Hints, hintFolded)
		}
	} else if n > 0 && n == req.Limit {
		res.Next = formatCursor(found.Hits[n-1].Cursor)
	}
	groups, err := s.reports(ctx, res, found.Hits)
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	if err := s.show(res, found.Hits, groups); err != nil {
		return nil, err
	}
	for i := range res.Hits {
		res.Hits[i].Same = same[res.Hits[i].ID]
	}
	return res, nil
}

// show makes hits for people: those of one group as one, in the place of the first.
func (s *Service) show(res *Result, hits []index.Hit, groups map[group][]Report) error {
	res.Hits = make([]Hit, 0, len(hits))
	shown := map[group]bool{}
	for i := range hits {
		h := &hits[i]
		key := groupOf(h)
		reports := groups[key]
		if len(reports) > 1 && shown[key] {
			continue
		}
		shown[key] = true
		archived, err := s.Archive.Has(h.ID)
		if err != nil {
			return err
		}
		one := Hit{
			ID: h.ID, Received: h.Received, Sent: h.Sent, From: written(h.From), To: written(h.To), Rcpt: append([]string{}, h.Rcpt...),
			Subject: h.Subject, Size: h.Size, SHA256: h.SHA256, Attachments: append([]string{}, h.Attachments...), Pending: !archived,
		}
		if len(reports) > 1 {
			one.Reports, one.Rcpt = reports, recipients(reports)
		}
		res.Hits = append(res.Hits, one)
	}
	return nil
}

// written gives addresses as people write them.
func written(list []document.Address) []string {
	out := make([]string, len(list))
	for i, a := range list {
		switch {
		case a.Name == "":
			out[i] = a.Address
		case a.Address == "":
			out[i] = a.Name
		default:
			out[i] = a.Name + " <" + a.Address + ">"
		}
	}
	return out
}

// View writes the act and gives the record: from the archive, or from local custody where it is not committed yet. what names the part
// that is shown ("message", "eml", "envelope", "attachment 2"). Errors: audit.ErrNotRecorded, archive.ErrNotFound, archive.ErrAltered.
func (s *Service) View(ctx context.Context, by record.Actor, id record.ID, what string) (*archive.Stored, error) {
	if err := s.Audit.Do(ctx, record.ActView, by, map[string]any{"record": id.String(), "what": what}); err != nil {
		return nil, err
	}
	return s.Archive.Fetch(ctx, id)
}

// Proof writes the act and gives the C2SP tlog-proof of the record's entry. Errors as View's, and archive.ErrPending.
func (s *Service) Proof(ctx context.Context, by record.Actor, id record.ID) ([]byte, error) {
	if err := s.Audit.Do(ctx, record.ActProof, by, map[string]any{"record": id.String()}); err != nil {
		return nil, err
	}
	return s.Archive.Proof(ctx, id)
}

// A cursor is opaque to those who hold it: sort key and id.
func formatCursor(c index.Cursor) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(c.Key))
	return base64.RawURLEncoding.EncodeToString(append(b, c.ID[:]...))
}

func parseCursor(s string) (*index.Cursor, error) {
	if s == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 8+len(record.ID{}) {
		return nil, fmt.Errorf("%q: %w", s, ErrCursor)
	}
	return &index.Cursor{Key: int64(binary.BigEndian.Uint64(b)), ID: record.ID(b[8:])}, nil
}
