package search

import (
	"context"
	"slices"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
)

// A message to many comes as several journal reports, each with some of the recipients. They stay several records, and are shown as one
// with the recipients of all. What makes them one is the Message-ID, sender, date and subject of the message in them: its bytes may
// differ by what servers wrote on its way, and a Message-ID alone is what anybody can use again.
//
// Folding goes by the page: a message whose reports lie on two pages of a list is shown on each, with all of its reports.

// group is what reports of one message have in common. The zero group is no group.
type group struct {
	messageID, from, subject string
	sent                     int64
}

// groupOf gives the group of a hit; zero for what is no journal report, or has no Message-ID.
func groupOf(h *index.Hit) group {
	if !h.Report || h.MessageID == "" {
		return group{}
	}
	g := group{messageID: h.MessageID, subject: h.Subject, sent: h.Sent.Unix()}
	if len(h.From) > 0 {
		g.from = h.From[0].Address
	}
	return g
}

// maxReports bounds the reports that are looked for beside those of one page.
const maxReports = 1000

// hintReports says that there are more reports than are shown.
const hintReports = "Some of these messages have more journal reports than are listed here: search for their Message-ID (msgid:)."

// reports finds, for the reports among hits, all others of the same messages, whether they match the query or not, by group and in the
// order of receipt.
func (s *Service) reports(ctx context.Context, res *Result, hits []index.Hit) (map[group][]Report, error) {
	var ids query.Or
	wanted := map[group]bool{}
	for i := range hits {
		if g := groupOf(&hits[i]); g != (group{}) && !wanted[g] {
			wanted[g] = true
			if id := (query.MessageID{Value: g.messageID}); !slices.Contains(ids, query.Query(id)) {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var q query.Query = ids
	if len(ids) == 1 {
		q = ids[0]
	}
	found, err := s.Index.Search(ctx, index.Request{Query: q, Sort: index.ReceivedAsc, Limit: maxReports, Within: Timeout})
	if err != nil {
		return nil, err
	}
	if found.Total > uint64(len(found.Hits)) {
		res.Hints = append(res.Hints, hintReports)
	}
	groups := map[group][]Report{}
	for i := range found.Hits {
		h := &found.Hits[i]
		if g := groupOf(h); wanted[g] {
			groups[g] = append(groups[g], Report{ID: h.ID, Received: h.Received, Rcpt: append([]string{}, h.Rcpt...)})
		}
	}
	return groups, nil
}

// recipients joins those of several reports, each once, in their order.
func recipients(reports []Report) []string {
	all := []string{}
	seen := map[string]bool{}
	for i := range reports {
		for _, r := range reports[i].Rcpt {
			if !seen[r] {
				seen[r] = true
				all = append(all, r)
			}
		}
	}
	return all
}
