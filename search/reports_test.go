package search_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search"
)

// reportIndex has hits by Message-ID, and answers every other query with those that the test wants found.
type reportIndex struct {
	all, found []index.Hit
	asked      []index.Request
}

func (x *reportIndex) Search(_ context.Context, r index.Request) (*index.Result, error) {
	x.asked = append(x.asked, r)
	var ids []query.Query
	switch q := r.Query.(type) {
	case query.MessageID:
		ids = []query.Query{q}
	case query.Or:
		ids = q
	default:
		return &index.Result{Total: uint64(len(x.found)), Hits: x.found}, nil
	}
	res := &index.Result{}
	for _, h := range x.all {
		for _, id := range ids {
			if id.(query.MessageID).Value == h.MessageID {
				res.Total++
				if len(res.Hits) < r.Limit {
					res.Hits = append(res.Hits, h)
				}
			}
		}
	}
	return res, nil
}

func (x *reportIndex) Count(context.Context, index.CountRequest) (*index.Counts, error) {
	return nil, errors.ErrUnsupported
}

func reportHit(n int, messageID, from, subject string, rcpt ...string) index.Hit {
	at := time.Date(2026, 11, 24, 8, 0, n, 0, time.UTC)
	return index.Hit{ID: record.NewID(at), Received: at, Sent: time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC), Report: true, MessageID: messageID,
		From: []document.Address{{Address: from}}, Subject: subject, Rcpt: rcpt}
}

// Several reports of one message are one hit with all recipients, wherever in the list they stand and whether they match or not; what only
// claims the same Message-ID is not.
func TestReportsOfOneMessageAreShownAsOne(t *testing.T) {
	s, _, _ := service(t)
	a1 := reportHit(1, "m1@corp", "anna@corp", "draft", "bob@p", "dora@corp")
	a2 := reportHit(2, "m1@corp", "anna@corp", "draft", "emil@corp", "bob@p")
	a3 := reportHit(3, "m1@corp", "anna@corp", "draft", "frank@corp")
	forged := reportHit(4, "m1@corp", "mallory@evil", "draft", "planted@evil")
	copied := reportHit(5, "m1@corp", "anna@corp", "draft", "x@corp")
	copied.Report = false
	b1 := reportHit(6, "m2@corp", "anna@corp", "other", "bob@p")
	none1, none2 := reportHit(7, "", "anna@corp", "draft", "y@corp"), reportHit(8, "", "anna@corp", "draft", "z@corp")
	x := &reportIndex{all: []index.Hit{a1, a2, a3, forged, b1}, found: []index.Hit{none2, none1, b1, copied, forged, a3, a1}}
	s.Index = x
	res, err := s.Search(t.Context(), reader, search.Request{Query: "draft"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range res.Hits {
		got = append(got, fmt.Sprintf("%s %d", strings.Join(h.Rcpt, "+"), len(h.Reports)))
	}
	if fmt.Sprint(got) != "[z@corp 0 y@corp 0 bob@p 0 x@corp 0 planted@evil 0 bob@p+dora@corp+emil@corp+frank@corp 3]" {
		t.Errorf("%q", got)
	}
	if h := res.Hits[5]; h.ID != a3.ID || h.Reports[0].ID != a1.ID || h.Reports[1].ID != a2.ID || h.Reports[2].Rcpt[0] != "frank@corp" {
		t.Errorf("%+v", h)
	}
	if res.Total != 7 || len(res.Hints) != 0 || len(x.asked) != 2 {
		t.Errorf("total %d, hints %q, asked %d", res.Total, res.Hints, len(x.asked))
	}
}

func TestTooManyReportsAreSaid(t *testing.T) {
	s, _, _ := service(t)
	x := &reportIndex{}
	for i := range 1100 {
		x.all = append(x.all, reportHit(i, "m@corp", "anna@corp", "draft", fmt.Sprintf("r%d@corp", i)))
	}
	x.found = x.all[:1]
	s.Index = x
	res, err := s.Search(t.Context(), reader, search.Request{Query: "draft"})
	if err != nil || len(res.Hits) != 1 || len(res.Hits[0].Reports) != 1000 || len(res.Hints) != 1 {
		t.Errorf("%d hits, hints %q, %v", len(res.Hits), res.Hints, err)
	}
}
