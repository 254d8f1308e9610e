package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// DefaultTop and MaxTop bound the values of one facet.
const (
	DefaultTop = 10
	MaxTop     = 1000
)

// ErrFacet is returned for a facet that there is not.
var ErrFacet = errors.New("unknown facet")

// FacetRequest asks how the records that a query finds spread.
type FacetRequest struct {
	Query    string
	Facets   []index.Facet  // empty: all but the days
	Top      int            // values of each; 0: DefaultTop
	Location *time.Location // as in Request
}

// Facets is the answer. Its JSON is what `holdfast search --facets --json` prints.
type Facets struct {
	Query           string                 `json:"query"`
	Total           uint64                 `json:"total"`
	NotSearched     uint64                 `json:"not_fully_searched,omitempty"`
	Missing         []string               `json:"missing,omitempty"` // as Result's
	CompleteThrough []Through              `json:"complete_through"`
	Hints           []string               `json:"hints"`
	Facets          map[index.Facet]Spread `json:"facets"`
}

// Spread is how the records spread over the values of one facet.
type Spread struct {
	Values []Count `json:"values"` // most records first; times in their order
	More   int     `json:"more"`   // different values beside these
}

// Count is how many records have a value.
type Count struct {
	Value string `json:"value"`
	N     uint64 `json:"count"`
}

// Facets parses, writes the act, and asks the index. Errors as Search's, and ErrFacet.
func (s *Service) Facets(ctx context.Context, by record.Actor, r FacetRequest) (*Facets, error) {
	if len(r.Facets) == 0 {
		r.Facets = slices.DeleteFunc(slices.Clone(index.Facets), func(f index.Facet) bool { return f == index.ByDay })
	}
	for _, f := range r.Facets {
		if !slices.Contains(index.Facets, f) {
			return nil, fmt.Errorf("%q: %w: there are %v", f, ErrFacet, index.Facets)
		}
	}
	if r.Location == nil {
		r.Location = time.UTC
	}
	parsed, err := s.parse(r.Query, r.Location)
	if err != nil {
		return nil, err
	}
	canonical := parsed.Query.String()
	if err := s.Audit.Do(ctx, record.ActSearch, by, map[string]any{
		"typed": r.Query, "canonical": canonical, "zone": r.Location.String(), "facets": r.Facets,
	}); err != nil {
		return nil, err
	}
	through := s.Progress(ctx)
	sets, err := s.sets(ctx, parsed.Query)
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	found, err := s.Index.Count(ctx, index.CountRequest{
		Query: parsed.Query, Facets: r.Facets, Top: min(cmp.Or(r.Top, DefaultTop), MaxTop), Within: Timeout, Sets: sets,
	})
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	res := &Facets{
		Query: canonical, Missing: found.Missing, Total: found.Total, NotSearched: found.Unknown, CompleteThrough: append([]Through{}, through...),
		Hints: append([]string{}, parsed.Hints...), Facets: map[index.Facet]Spread{},
	}
	for f, spread := range found.Facets {
		out := Spread{Values: []Count{}, More: spread.More}
		for _, c := range spread.Values {
			out.Values = append(out.Values, Count(c))
		}
		res.Facets[f] = out
	}
	return res, nil
}

func (s *Service) parse(text string, loc *time.Location) (syntax.Parsed, error) {
	return syntax.Parse(text, syntax.Env{Now: s.Now(), Location: loc, Directions: s.Directions, Joins: s.Sets != nil})
}
