package search

import (
	"context"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Records whose messages are the same, byte for byte, are shown as one where that is asked for: in the place of the first of them in the
// order of the list, with the ids of the others, wherever in the list these would stand. None is left out: each is the one shown, or among
// the ids of one that is. A record of which the digest is not known is shown by itself.

// Bounds of folding: the records that are the same as those of one page, and the pages that are read for a full one.
const (
	maxFolded = 10_000
	maxRounds = 20
)

// hintFolded says that not all that could be folded is.
const hintFolded = "There are more records of the same messages than are folded here: some are shown by themselves."

// folded is a page of a list with what is the same folded.
type folded struct {
	hits  []index.Hit
	same  map[record.ID][]record.ID // of each hit, the others
	after *index.Cursor             // what the next page follows; nil: this was the last
	more  bool                      // hintFolded
}

// fold fills a page. found is its first part, as the index gave it.
func (s *Service) fold(ctx context.Context, req index.Request, found []index.Hit) (*folded, error) {
	f := &folded{same: map[record.ID][]record.ID{}}
	for round := 1; ; round++ {
		groups, err := s.sameAs(ctx, req, found, f)
		if err != nil {
			return nil, err
		}
		for i := range found {
			h := &found[i]
			if len(f.hits) == req.Limit {
				return f, nil
			}
			group := groups[h.SHA256]
			if len(group) == 0 || group[0] == h.ID {
				f.hits = append(f.hits, *h)
			}
			if len(group) > 1 && group[0] == h.ID {
				f.same[h.ID] = group[1:]
			}
			f.after = &h.Cursor
		}
		switch {
		case len(found) < req.Limit:
			f.after = nil
			return f, nil
		case len(f.hits) == req.Limit || round == maxRounds:
			return f, nil
		}
		req.After = f.after
		res, err := s.Index.Search(ctx, req)
		if err != nil {
			return nil, err
		}
		found = res.Hits
	}
}

// sameAs gives, by digest, all records of the list that are the same as one of hits, in the order of the list.
func (s *Service) sameAs(ctx context.Context, req index.Request, hits []index.Hit, f *folded) (map[record.Digest][]record.ID, error) {
	var digests []query.Query
	seen := map[record.Digest]bool{}
	for i := range hits {
		if d := hits[i].SHA256; !d.IsZero() && !seen[d] {
			seen[d] = true
			digests = append(digests, query.SHA256{Digest: d})
		}
	}
	groups := map[record.Digest][]record.ID{}
	if len(digests) == 0 {
		return groups, nil
	}
	req.Query, req.After, req.Limit, req.Page = query.NewAnd(req.Query, query.NewOr(digests...)), nil, maxFolded, false
	res, err := s.Index.Search(ctx, req)
	if err != nil {
		return nil, err
	}
	for i := range res.Hits {
		groups[res.Hits[i].SHA256] = append(groups[res.Hits[i].SHA256], res.Hits[i].ID)
	}
	f.more = f.more || len(res.Hits) == maxFolded
	return groups, nil
}
