package search_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// acts is a custody of acts that can fail.
type acts struct {
	err  error
	list []record.Act
}

func (a *acts) AppendAct(_ context.Context, act record.Act) error {
	if a.err == nil {
		a.list = append(a.list, act)
	}
	return a.err
}

// pages is an index that answers with a hit, and remembers what it was asked after which acts.
type pages struct {
	t     *testing.T
	acts  *acts
	asked []index.Request

	counted []index.CountRequest
}

func (p *pages) Search(_ context.Context, r index.Request) (*index.Result, error) {
	if len(p.acts.list) != len(p.asked)+1 {
		p.t.Errorf("asked with %d acts in custody, after %d searches", len(p.acts.list), len(p.asked))
	}
	p.asked = append(p.asked, r)
	res := &index.Result{Total: 7}
	for range r.Limit {
		id := record.NewID(time.Now())
		res.Hits = append(res.Hits, index.Hit{ID: id, Subject: "s", From: []document.Address{{Name: "N", Address: "a@x.test"}, {Address: "b@x.test"}}, Cursor: index.Cursor{Key: -5, ID: id}})
	}
	return res, nil
}

func (p *pages) Count(_ context.Context, r index.CountRequest) (*index.Counts, error) {
	if len(p.acts.list) != len(p.counted)+1 {
		p.t.Errorf("counted with %d acts in custody, after %d", len(p.acts.list), len(p.counted))
	}
	p.counted = append(p.counted, r)
	return &index.Counts{Total: 7, Unknown: 2, Facets: map[index.Facet]index.Spread{
		index.BySender: {Values: []index.Count{{Value: "a@x.test", N: 4}}, More: 1}, index.ByMonth: {},
	}}, nil
}

func service(t *testing.T) (*search.Service, *acts, *pages) {
	t.Helper()
	dir, store := t.TempDir(), new(objecttest.Memory)
	cfg := archive.Config{Node: "n1", Config: object.Config{Store: "file:/nowhere"}, SealAfter: time.Second, SealSize: 1 << 20}
	_, keys, err := archive.Create(t.Context(), archive.InitOptions{Config: cfg, Store: store, KeysDir: filepath.Join(dir, "keys"), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(t.Context(), archive.Options{Config: cfg, Store: store, Keys: keys, DataDir: filepath.Join(dir, "data"), Now: time.Now,
		Log: slog.New(slog.DiscardHandler), Expiry: func(*record.Item) time.Time { return time.Time{} }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(context.Background()) })
	custody := &acts{}
	found := &pages{t: t, acts: custody}
	return &search.Service{Index: found, Archive: a, Audit: audit.New("n1", custody), Now: time.Now,
		Progress: func(context.Context) []search.Through { return []search.Through{{Log: "node-n1", Seq: 1}} }}, custody, found
}

var reader = record.Actor{ID: "uid:7", Via: "cli"}

func TestNothingIsSearchedOrShownThatIsNotWrittenDown(t *testing.T) {
	s, custody, found := service(t)
	custody.err = errors.New("disk full")
	if _, err := s.Search(t.Context(), reader, search.Request{Query: "merger"}); !errors.Is(err, audit.ErrNotRecorded) {
		t.Errorf("search: %v", err)
	}
	id := record.NewID(time.Now())
	if _, err := s.View(t.Context(), reader, id, "message"); !errors.Is(err, audit.ErrNotRecorded) {
		t.Errorf("view: %v", err)
	}
	if _, err := s.Proof(t.Context(), reader, id); !errors.Is(err, audit.ErrNotRecorded) {
		t.Errorf("proof: %v", err)
	}
	if len(found.asked) != 0 {
		t.Error("the index was asked all the same")
	}
}

func TestTheActSaysWhatWasTypedAndUnderstood(t *testing.T) {
	s, custody, _ := service(t)
	zone, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.Search(t.Context(), reader, search.Request{Query: "merger  plan sent:2026-03", Location: zone, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	act := custody.list[0]
	if act.Kind != record.ActSearch || act.Actor != reader || act.Detail["typed"] != "merger  plan sent:2026-03" || act.Detail["canonical"] != res.Query || act.Detail["zone"] != "Europe/Paris" {
		t.Errorf("%+v", act)
	}
	if !strings.Contains(res.Query, "merger AND plan AND") {
		t.Errorf("canonical form %q", res.Query)
	}
	if _, err := s.View(t.Context(), reader, record.NewID(time.Now()), "eml"); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("a record that is not there: %v", err)
	}
	if act := custody.list[1]; act.Kind != record.ActView || act.Detail["what"] != "eml" {
		t.Errorf("%+v", act)
	}
}

func TestWhatCannotBeAskedIsRefusedBeforeItIsAnAct(t *testing.T) {
	s, custody, found := service(t)
	var syn *syntax.Error
	if _, err := s.Search(t.Context(), reader, search.Request{Query: "a NEAR"}); !errors.As(err, &syn) || syn.Pos != 2 {
		t.Errorf("%v", err)
	}
	if _, err := s.Search(t.Context(), reader, search.Request{Sort: "colour"}); !errors.Is(err, search.ErrSort) {
		t.Errorf("%v", err)
	}
	for _, cursor := range []string{"?", "AAAA", strings.Repeat("A", 1000)} {
		if _, err := s.Search(t.Context(), reader, search.Request{After: cursor}); !errors.Is(err, search.ErrCursor) {
			t.Errorf("cursor %.10q: %v", cursor, err)
		}
	}
	if len(custody.list)+len(found.asked) != 0 {
		t.Errorf("%d acts, %d searches", len(custody.list), len(found.asked))
	}
}

func TestPagesGoOnWhereTheyEnded(t *testing.T) {
	s, _, found := service(t)
	res, err := s.Search(t.Context(), reader, search.Request{Limit: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Hits) != 3 || res.Total != 7 || res.Next == "" || len(res.CompleteThrough) != 1 {
		t.Fatalf("%+v", res)
	}
	if h := res.Hits[0]; !h.Pending || h.From[0] != "N <a@x.test>" || h.From[1] != "b@x.test" {
		t.Errorf("%+v", h)
	}
	if _, err := s.Search(t.Context(), reader, search.Request{Limit: 3, After: res.Next}); err != nil {
		t.Fatal(err)
	}
	after := found.asked[1].After
	if after == nil || after.Key != -5 || after.ID != res.Hits[2].ID {
		t.Errorf("the second page is asked for after %+v", after)
	}
	if _, ok := found.asked[0].Query.(query.All); !ok || found.asked[0].Sort != index.ReceivedDesc {
		t.Errorf("an empty query is asked as %+v", found.asked[0])
	}
	res, err = s.Search(t.Context(), reader, search.Request{Count: true})
	if err != nil || len(res.Hits) != 0 || res.Next != "" || found.asked[2].Limit != 0 {
		t.Errorf("counting: %+v, %v", res, err)
	}
	if _, err := s.Search(t.Context(), reader, search.Request{Limit: 1 << 30}); err != nil || found.asked[3].Limit != search.MaxLimit {
		t.Errorf("a limit over the limit: %d, %v", found.asked[3].Limit, err)
	}
}
