package search

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
)

// ErrNoSet is returned for hold:, tag:, matter:, policy: and expires: where there is nothing of that name, or nobody knows it.
var ErrNoSet = errors.New("can't be asked")

// Sets knows what hold:, tag:, matter:, policy: and expires: stand for. Safe for concurrent use.
type Sets interface {
	// Set gives the records of a set, in ascending order. The list must not be changed. ErrNoSet where there is no such set.
	Set(ctx context.Context, q query.Set) ([]record.ID, error)
}

// sets gives what a query's sets stand for, as the index wants it.
func (s *Service) sets(ctx context.Context, q query.Query) (sets map[string][]record.ID, err error) {
	query.Walk(q, func(q query.Query) bool {
		set, is := q.(query.Set)
		if !is || err != nil || sets[set.String()] != nil {
			return err == nil
		}
		var ids []record.ID
		if ids, err = s.Sets.Set(ctx, set); err != nil {
			return false
		}
		if sets == nil {
			sets = map[string][]record.ID{}
		}
		sets[set.String()] = ids
		return true
	})
	return sets, err
}

// Ask parses a query of which all records are wanted, such as those to be tagged, and writes the act of the search; the request is then to
// be put to the index. what says in the act what it is for. Errors as Search's.
func (s *Service) Ask(ctx context.Context, by record.Actor, r Request, what string) (req index.Request, canonical string, err error) {
	parsed, err := s.parse(r.Query, r.Location)
	if err != nil {
		return index.Request{}, "", err
	}
	canonical = parsed.Query.String()
	if err := s.Audit.Do(ctx, record.ActSearch, by, map[string]any{"typed": r.Query, "canonical": canonical, "for": what}); err != nil {
		return index.Request{}, "", err
	}
	sets, err := s.sets(ctx, parsed.Query)
	if err != nil {
		return index.Request{}, "", fmt.Errorf("search: %w", err)
	}
	return index.Request{Query: parsed.Query, Sets: sets}, canonical, nil
}
