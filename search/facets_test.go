package search_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

func TestFacets(t *testing.T) {
	s, acts, ix := service(t)
	who := record.Actor{ID: "uid:1", Via: "cli"}
	res, err := s.Facets(t.Context(), who, search.FacetRequest{Query: "merger"})
	if err != nil || res.Query != "merger" || res.Total != 7 || res.NotSearched != 2 || res.Facets[index.BySender].More != 1 || res.Facets[index.ByMonth].Values == nil {
		t.Fatalf("%+v, %v", res, err)
	}
	if r := ix.counted[0]; r.Top != search.DefaultTop || slices.Contains(r.Facets, index.ByDay) || len(r.Facets) != len(index.Facets)-1 || r.Within != search.Timeout {
		t.Errorf("asked %+v", r)
	}
	if acts.list[0].Detail["typed"] != "merger" || acts.list[0].Kind != record.ActSearch || acts.list[0].Detail["facets"] == nil {
		t.Errorf("act %+v", acts.list[0])
	}
	var syn *syntax.Error
	if _, err := s.Facets(t.Context(), who, search.FacetRequest{Query: "("}); !errors.As(err, &syn) {
		t.Errorf("a query that can't be read: %v", err)
	}
	if _, err := s.Facets(t.Context(), who, search.FacetRequest{Facets: []index.Facet{"colour"}}); !errors.Is(err, search.ErrFacet) {
		t.Errorf("a facet that there is not: %v", err)
	}
	acts.err = errors.New("disk full")
	if _, err := s.Facets(t.Context(), who, search.FacetRequest{}); err == nil || len(ix.counted) != 1 {
		t.Errorf("without the act: %v, %d counted", err, len(ix.counted))
	}
}
