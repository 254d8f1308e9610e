package search_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search"
)

// one knows one set.
type one struct{ ids []record.ID }

func (o one) Set(_ context.Context, q query.Set) ([]record.ID, error) {
	if q.Field != query.Tag || q.Name != "hot" {
		return nil, fmt.Errorf("%s %w", q, search.ErrNoSet)
	}
	return o.ids, nil
}

// TestSetsComeWithTheRequest: what hold, tag, matter and policy stand for is looked up once for each, and one that is not there is refused.
func TestSetsComeWithTheRequest(t *testing.T) {
	s, custody, found := service(t)
	if _, err := s.Search(t.Context(), reader, search.Request{Query: "tag:hot"}); err == nil {
		t.Error("a set without anybody who knows it")
	}
	want := []record.ID{{15: 1}, {15: 2}}
	s.Sets = one{want}
	if _, err := s.Search(t.Context(), reader, search.Request{Query: "merger (tag:Hot OR NOT tag:hot)"}); err != nil {
		t.Fatal(err)
	}
	if got := found.asked[0].Sets; len(got) != 1 || !slices.Equal(got["tag:hot"], want) {
		t.Errorf("%v", got)
	}
	req, canonical, err := s.Ask(t.Context(), reader, search.Request{Query: "tag:hot merger"}, "tag cold")
	if err != nil || canonical != "tag:hot AND merger" || len(req.Sets) != 1 {
		t.Errorf("%+v, %q, %v", req, canonical, err)
	}
	if last := custody.list[len(custody.list)-1]; last.Kind != record.ActSearch || last.Detail["for"] != "tag cold" {
		t.Errorf("%+v", last)
	}
	if _, err := s.Search(t.Context(), reader, search.Request{Query: "hold:x"}); !errors.Is(err, search.ErrNoSet) {
		t.Errorf("%v", err)
	}
	custody.err = errors.New("disk full")
	if _, _, err := s.Ask(t.Context(), reader, search.Request{Query: "merger"}, "x"); !errors.Is(err, audit.ErrNotRecorded) {
		t.Errorf("%v", err)
	}
}
