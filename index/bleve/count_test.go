package bleve

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// facetValues are those of one document, as plainly as can be.
func facetValues(f index.Facet, d *document.Document) (values []string) {
	add := func(s string) {
		if s != "" && !slices.Contains(values, s) {
			values = append(values, s)
		}
	}
	switch f {
	case index.BySender:
		for _, a := range d.From {
			add(a.Address)
		}
	case index.ByDomain:
		for _, a := range d.From {
			_, domain := document.Split(a.Address)
			add(domain)
		}
	case index.ByRecipient:
		for _, a := range slices.Concat(d.To, d.Cc, d.Bcc, d.Rcpt) {
			add(a.Address)
		}
	case index.ByMonth:
		add(d.Received.UTC().Format("2006-01"))
	case index.ByDay:
		add(d.Received.UTC().Format("2006-01-02"))
	default:
		for _, fact := range d.Facts {
			if string(fact.Field) == string(f) {
				add(fact.Value)
			}
		}
	}
	return values
}

// counts holds what the index counts against the records themselves, twice: the second time it may remember.
func (m model) counts(t *testing.T, b *Backend, r index.CountRequest, verdicts map[record.ID]query.Verdict) {
	t.Helper()
	want := &index.Counts{Facets: map[index.Facet]index.Spread{}}
	numbers := map[index.Facet]map[string]uint64{}
	for _, f := range r.Facets {
		numbers[f] = map[string]uint64{}
	}
	for id, v := range verdicts {
		if v == query.Unknown {
			want.Unknown++
		}
		if v != query.Yes {
			continue
		}
		want.Total++
		for f := range numbers {
			for _, value := range facetValues(f, m[id]) {
				numbers[f][value]++
			}
		}
	}
	for f, values := range numbers {
		var s index.Spread
		for v, n := range values {
			s.Values = append(s.Values, index.Count{Value: v, N: n})
		}
		slices.SortFunc(s.Values, func(x, y index.Count) int {
			if f.OfTime() {
				return cmp.Compare(x.Value, y.Value)
			}
			return cmp.Or(cmp.Compare(y.N, x.N), cmp.Compare(x.Value, y.Value))
		})
		if len(s.Values) > r.Top && !f.OfTime() {
			s.Values, s.More = s.Values[:r.Top], len(s.Values)-r.Top
		}
		want.Facets[f] = s
	}
	for range 2 {
		got, err := b.Count(context.Background(), r)
		if err != nil {
			t.Fatalf("%s by %v: %v", r.Query, r.Facets, err)
		}
		for f, s := range got.Facets {
			if len(s.Values) == 0 {
				s.Values = nil
			}
			if w := want.Facets[f]; len(w.Values) == 0 {
				w.Values = nil
				want.Facets[f] = w
			}
			got.Facets[f] = s
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s by %v, top %d:\n got %+v\nwant %+v", r.Query, r.Facets, r.Top, got, want)
		}
	}
}

// TestPageAlone: the first pages, and those at any depth, open only the shards that they lie in, and have what a search that counts has.
func TestPageAlone(t *testing.T) {
	w := newWorld(t, rand.Uint64())
	dir := t.TempDir()
	b := open(t, dir)
	const months, each = 10, 30
	var docs []*document.Document
	for i := range months * each {
		d := w.document()
		d.Received = time.Date(2020, time.Month(1+i/each), 3, 0, i%each, 0, 0, time.UTC)
		d.ID = w.id(d.Received)
		docs = append(docs, d)
	}
	apply(t, b, index.Batch{Documents: docs})
	for _, sort := range []index.Sort{index.ReceivedDesc, index.ReceivedAsc} {
		all := find(t, b, index.Request{Query: query.All{}, Sort: sort, Limit: months * each})
		if !all.Counted || all.Total != months*each {
			t.Fatalf("total %d, %v", all.Total, all.Counted)
		}
		for from := 0; from+7 < len(all.Hits); from += 29 {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = open(t, dir)
			r := index.Request{Query: query.All{}, Sort: sort, Limit: 7, Page: true}
			if from > 0 {
				r.After = &all.Hits[from-1].Cursor
			}
			res := find(t, b, r)
			if !reflect.DeepEqual(res.Hits, all.Hits[from:from+7]) || res.Counted {
				t.Fatalf("by %s from %d: counted %v, not the same page", sort, from, res.Counted)
			}
			if n := len(b.open); n > 2 {
				t.Errorf("by %s from %d: %d shards were opened for 7 hits", sort, from, n)
			}
		}
	}
	last := find(t, b, index.Request{Query: query.Size{Min: 1 << 40, Max: -1}, Limit: 7, Page: true})
	if !last.Counted || last.Total != 0 {
		t.Errorf("a search that had to look everywhere: %+v", last)
	}
}

func TestTalliesAreBounded(t *testing.T) {
	var m tallies
	sum := newTally()
	for day := range int64(maxRemembered / 4) {
		sum.days[day] = 1
	}
	keys := []tallyKey{{asked: "a"}, {asked: "b"}, {asked: "c"}, {asked: "d"}, {asked: "e"}}
	for _, key := range keys {
		m.put(key, &remembered{state: "x", tally: sum})
	}
	if m.get(keys[4], "x") == nil || m.get(keys[4], "y") != nil || m.get(keys[0], "x") != nil || m.size > maxRemembered || len(m.order) != len(m.known) {
		t.Errorf("%d remembered, %d numbers", len(m.known), m.size)
	}
	m.put(keys[4], &remembered{state: "y", tally: newTally()})
	if m.get(keys[4], "y") == nil || m.get(keys[4], "x") != nil {
		t.Error("a shard that has changed is remembered as it was")
	}
}

func TestCountRefuses(t *testing.T) {
	b := open(t, t.TempDir())
	if _, err := b.Count(t.Context(), index.CountRequest{Query: query.All{}, Facets: []index.Facet{"colour"}}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an unknown facet: %v", err)
	}
}
