package bleve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

func open(t testing.TB, dir string) *Backend {
	t.Helper()
	return openWith(t, dir, Options{})
}

func openWith(t testing.TB, dir string, o Options) *Backend {
	t.Helper()
	b, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil && !errors.Is(err, index.ErrClosed) {
			t.Error(err)
		}
	})
	return b
}

func apply(t testing.TB, b *Backend, batch index.Batch) {
	t.Helper()
	if err := b.Apply(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB, b *Backend, r index.Request) *index.Result {
	t.Helper()
	res, err := b.Search(context.Background(), r)
	if err != nil {
		t.Fatalf("%#v: %v", r.Query, err)
	}
	return res
}

var sorts = []index.Sort{index.ReceivedDesc, index.ReceivedAsc, index.SentDesc, index.SentAsc, index.SizeDesc, index.SizeAsc}

// TestAgreesWithModel asks index and model the same, in every order, page by page, while documents come, change and go.
func TestAgreesWithModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rand.Uint64())
	dir := t.TempDir()
	o := Options{ShardDocuments: pick(w, []uint64{0, 5, 40})}
	b := openWith(t, dir, o)
	m := model{}
	asked, found := 0, 0
	rounds := 8
	if testing.Short() {
		rounds = 5
	}
	for round := range rounds {
		batch := index.Batch{Through: map[string]uint64{"log": uint64(round + 1)}}
		for range w.IntN(80) {
			batch.Documents = append(batch.Documents, w.document())
		}
		for id := range m {
			switch w.IntN(10) {
			case 0:
				d := w.document()
				d.ID = id
				batch.Documents = append(batch.Documents, d)
			case 1:
				batch.Deletes = append(batch.Deletes, id)
			}
		}
		batch.Deletes = append(batch.Deletes, w.id(w.time()))
		apply(t, b, batch)
		m.apply(batch)
		for _, s := range b.open {
			if w.IntN(4) == 0 {
				if err := s.ix.ForceMerge(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		if w.IntN(4) == 0 {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = openWith(t, dir, o)
		}
		for range 30 {
			q, sort := w.query(m, 3), pick(w, sorts)
			verdicts := m.decide(q)
			want := m.search(verdicts, sort)
			req := index.Request{Query: q, Sort: sort, Limit: pick(w, []int{7, 20, 50, 1000}), Sets: m.sets()}
			if len(want) < 30 && w.IntN(4) == 0 {
				req.Limit = 1
			}
			got := pages(t, b, req, uint64(len(want)))
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, %#v by %s:\n got %v\nwant %v", round, q, sort, got, want)
			}
			req.IDs = true
			if ids := pages(t, b, req, uint64(len(want))); !slices.Equal(ids, want) {
				t.Fatalf("round %d, %#v by %s, ids alone:\n got %v\nwant %v", round, q, sort, ids, want)
			}
			req.Unknown, req.Limit, req.IDs = true, len(m)+1, false
			n := uint64(0)
			for _, v := range verdicts {
				if v == query.Unknown {
					n++
				}
			}
			if res := find(t, b, req); res.Unknown != n || uint64(len(res.Hits)) != n {
				t.Fatalf("round %d, %#v: %d unknown, %d shown, want %d", round, q, res.Unknown, len(res.Hits), n)
			}
			m.counts(t, b, index.CountRequest{Query: q, Facets: some(w, index.Facets, 6), Top: w.IntN(9), Sets: m.sets()}, verdicts)
			left := 20
			for id, d := range m {
				if got := query.Match(q, d); got != verdicts[id] && !hasSet(q) {
					t.Fatalf("round %d, %#v: %v of record %s, want %v\n%+v", round, q, got, id, verdicts[id], d)
				}
				if left--; left == 0 {
					break
				}
			}
			asked++
			found += len(want)
		}
	}
	t.Logf("%d queries, %d hits, %d documents", asked, found, len(m))
	if found < asked {
		t.Errorf("%d queries had only %d hits: they test too little", asked, found)
	}
}

func hasSet(q query.Query) (has bool) {
	query.Walk(q, func(q query.Query) bool {
		_, set := q.(query.Set)
		has = has || set
		return true
	})
	return has
}

// pages gives the hits of all pages.
func pages(t *testing.T, b *Backend, r index.Request, total uint64) (ids []record.ID) {
	t.Helper()
	for {
		res := find(t, b, r)
		if res.Total != total {
			t.Fatalf("%#v: total %d, want %d", r.Query, res.Total, total)
		}
		for _, h := range res.Hits {
			ids = append(ids, h.ID)
		}
		if len(res.Hits) < r.Limit {
			return ids
		}
		r.After = &res.Hits[len(res.Hits)-1].Cursor
	}
}

func TestHitShowsTheDocument(t *testing.T) {
	w := newWorld(t, rand.Uint64())
	b := open(t, t.TempDir())
	for range 50 {
		d := w.document()
		d.Received = d.Received.Add(123 * time.Nanosecond)
		apply(t, b, index.Batch{Documents: []*document.Document{d}})
		res := find(t, b, index.Request{Query: query.ID{ID: d.ID}, Sort: index.ReceivedDesc, Limit: 2})
		if res.Total != 1 || len(res.Hits) != 1 {
			t.Fatalf("total %d, %d hits", res.Total, len(res.Hits))
		}
		want := index.Hit{
			ID: d.ID, Received: d.Received, Sent: d.Sent, Size: d.Size, SHA256: d.SHA256, From: d.From, To: d.To, Cc: d.Cc, Subject: d.Subject,
			Partial: d.Partial,
			Cursor:  index.Cursor{Key: d.Received.UnixNano(), ID: d.ID},
		}
		if d.Report {
			want.Report, want.MessageID = true, d.MessageID
		}
		for _, a := range d.Rcpt {
			want.Rcpt = append(want.Rcpt, a.Address)
		}
		for _, a := range d.Attachments {
			want.Attachments = append(want.Attachments, a.Name)
		}
		if !reflect.DeepEqual(res.Hits[0], want) {
			t.Fatalf("got  %+v\nwant %+v", res.Hits[0], want)
		}
	}
}

func TestSearchWithoutLimitCounts(t *testing.T) {
	w := newWorld(t, 1)
	b := open(t, t.TempDir())
	if res := find(t, b, index.Request{Query: query.All{}}); res.Total != 0 || len(res.Hits) != 0 {
		t.Errorf("empty index: %+v", res)
	}
	apply(t, b, index.Batch{Documents: []*document.Document{w.document(), w.document()}})
	if res := find(t, b, index.Request{Query: query.All{}}); res.Total != 2 || len(res.Hits) != 0 {
		t.Errorf("%+v", res)
	}
}

func TestApplyAgainChangesNothing(t *testing.T) {
	w := newWorld(t, rand.Uint64())
	b := open(t, t.TempDir())
	batch := index.Batch{Through: map[string]uint64{"log": 7}}
	for range 100 {
		batch.Documents = append(batch.Documents, w.document())
	}
	m := model{}
	m.apply(batch)
	for range 3 {
		apply(t, b, batch)
		got, want := pages(t, b, index.Request{Query: query.All{}, Sort: index.SizeAsc, Limit: 33}, 100), m.search(m.decide(query.All{}), index.SizeAsc)
		if !slices.Equal(got, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	}
}

func TestCursorsAreKept(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	want := map[string]uint64{"node-a": 1 << 40, "spool/a": 3}
	apply(t, b, index.Batch{Through: map[string]uint64{"node-a": 1, "spool/a": 3}})
	apply(t, b, index.Batch{Through: map[string]uint64{"node-a": 1 << 40}})
	for range 2 {
		if got, err := b.Through(t.Context()); err != nil || !maps.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = open(t, dir)
	}
}

func TestShardsByMonth(t *testing.T) {
	w := newWorld(t, 3)
	dir := t.TempDir()
	b := open(t, dir)
	var docs []*document.Document
	for m := time.January; m <= time.April; m++ {
		d := w.document()
		d.Received = time.Date(2025, m, 15, 0, 0, 0, 0, time.UTC)
		d.ID = w.id(d.Received)
		docs = append(docs, d)
	}
	apply(t, b, index.Batch{Documents: docs})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir)
	q := query.Time{Field: query.Received, From: docs[1].Received, Before: docs[3].Received}
	none := query.Text{Field: query.Subject, Tokens: []string{"none"}}
	if res := find(t, b, index.Request{Query: query.And{q, query.Not{Query: none}}, Limit: 5}); res.Total != 2 {
		t.Errorf("total %d, want 2", res.Total)
	}
	if got := slices.Sorted(maps.Keys(b.open)); !slices.Equal(got, []string{"2025-02", "2025-03"}) {
		t.Errorf("opened %v for two months", got)
	}
}

func TestTooBroad(t *testing.T) {
	w := newWorld(t, 4)
	b := open(t, t.TempDir())
	var body strings.Builder
	for i := range maxExpansion + 1 {
		fmt.Fprintf(&body, "w%d ", i)
	}
	d := w.document()
	d.Body = body.String()
	apply(t, b, index.Batch{Documents: []*document.Document{d, w.document()}})
	q := query.Text{Tokens: []string{"w"}, Form: query.Prefix}
	_, err := b.Search(t.Context(), index.Request{Query: q, Limit: 1})
	if !errors.Is(err, index.ErrTooBroad) || !strings.Contains(err.Error(), fmt.Sprint("w* stands for ", maxExpansion+1, ",")) {
		t.Errorf("%v", err)
	}
	q.Tokens = []string{"w1"}
	if res := find(t, b, index.Request{Query: q, Limit: 1}); res.Total != 1 {
		t.Errorf("total %d", res.Total)
	}
}

// TestTooBroadTogether: each wildcard is narrow enough, but there are too many.
func TestTooBroadTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	b := open(t, t.TempDir())
	var body strings.Builder
	for i := range maxExpansion {
		fmt.Fprintf(&body, "w%d ", i)
	}
	d := w.document()
	d.Body = body.String()
	apply(t, b, index.Batch{Documents: []*document.Document{d}})
	var all query.Or
	for i := range maxTogether/maxExpansion + 1 {
		all = append(all, query.Text{Field: query.Body, Form: query.Pattern, Tokens: []string{"w" + strings.Repeat("*", i+1)}})
	}
	if _, err := b.Search(t.Context(), index.Request{Query: all, Limit: 1}); !errors.Is(err, index.ErrTooBroad) || !strings.Contains(err.Error(), "together") {
		t.Errorf("%v", err)
	}
	if res := find(t, b, index.Request{Query: all[:5], Limit: 1}); res.Total != 1 {
		t.Errorf("total %d", res.Total)
	}
}

// TestTooManyWords: what a document has beyond is left out, and that is said.
func TestTooManyWords(t *testing.T) {
	t.Parallel()
	var body strings.Builder
	for i := range document.MaxWords + 1 {
		fmt.Fprintf(&body, "%x ", i)
	}
	w := newWorld(t, 13)
	d := w.document()
	d.Body, d.Partial = body.String(), false
	b := open(t, t.TempDir())
	apply(t, b, index.Batch{Documents: []*document.Document{d}})
	for word, want := range map[string]uint64{"0": 1, fmt.Sprintf("%x", document.MaxWords-1): 1, fmt.Sprintf("%x", document.MaxWords): 0} {
		res := find(t, b, index.Request{Query: query.Text{Field: query.Body, Tokens: []string{word}}, Limit: 1})
		if res.Total != want || want == 1 && !res.Hits[0].Partial {
			t.Errorf("%s: total %d, want %d; %+v", word, res.Total, want, res.Hits)
		}
	}
}

func TestContextsEndASearch(t *testing.T) {
	w := newWorld(t, 5)
	b := open(t, t.TempDir())
	apply(t, b, index.Batch{Documents: []*document.Document{w.document()}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Search(ctx, index.Request{Query: query.All{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := b.Search(t.Context(), index.Request{Query: query.All{}, Within: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("within a nanosecond: %v", err)
	}
	if err := b.Apply(ctx, index.Batch{}); !errors.Is(err, context.Canceled) {
		t.Errorf("apply: %v", err)
	}
}

func TestClosed(t *testing.T) {
	b := open(t, t.TempDir())
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	_, through := b.Through(t.Context())
	_, find := b.Search(t.Context(), index.Request{Query: query.All{}})
	for what, err := range map[string]error{"apply": b.Apply(t.Context(), index.Batch{}), "through": through, "search": find, "close": b.Close()} {
		if !errors.Is(err, index.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if b, err := Open(dir, Options{}); err == nil || errors.Is(err, index.ErrCorrupt) {
		t.Errorf("opened twice: %v, %v", b, err)
	}
}

func TestOtherFormatIsTold(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if err := b.meta.db.Update(putFormat(format + 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, index.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func putFormat(n uint64) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, number(n)) }
}
