package bleve

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// samples are the messages of the project's own demonstration.
func samples(t *testing.T) (docs []*document.Document) {
	paths, err := filepath.Glob("../../cmd/holdfast/samples/*.eml")
	if err != nil || len(paths) < 10 {
		t.Fatal(paths, err)
	}
	at := time.Date(2026, 3, 14, 9, 0, 0, 0, time.UTC)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := message.Parse(strings.NewReader(string(b)), message.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		at = at.Add(31 * time.Hour)
		env := &record.Envelope{
			ID: record.NewID(at), Received: at, Size: int64(len(b)), SHA256: record.Sum(b),
			MailFrom: &record.Path{Address: "bounce@acme.example"}, Rcpt: []record.Path{{Address: "board@acme.example"}, {Address: "counsel@kanzlei.example"}},
		}
		docs = append(docs, document.FromMessage(env, m))
	}
	return docs
}

func TestEvaluatorsAgreeOnSamples(t *testing.T) {
	t.Parallel()
	agree(t, samples(t), 400)
}

// TestEvaluatorsAgreeOnMail is of real mail, which is not in this repository.
func TestEvaluatorsAgreeOnMail(t *testing.T) {
	t.Parallel()
	items, _ := corpus(t)
	w := newWorld(t, rand.Uint64())
	w.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	agree(t, documents(t, items[:250]), 250)
}

// agree asks index and query.Match the same of real documents, with words and addresses that are in them. Of some of them something is
// missing.
func agree(t *testing.T, docs []*document.Document, queries int) {
	w := newWorld(t, rand.Uint64())
	w.start, w.days = docs[0].Received.AddDate(0, 0, -7), 60
	m := model{}
	for _, d := range docs {
		m[d.ID] = d
		w.telemetry(d)
		switch w.IntN(12) {
		case 0:
			d.Partial = true
		case 1:
			d.Partial, d.HeaderPartial = true, true
		}
		w.people = slices.Concat(w.people, d.From, d.To, d.Cc)
		for _, text := range []string{d.Subject, d.Body, d.AttachmentText} {
			tokens := document.Tokens(nil, text)
			for range min(len(tokens), 40) {
				tok := tokens[w.IntN(len(tokens))]
				w.vocabulary = append(w.vocabulary, text[tok.Start:tok.End])
			}
		}
	}
	b := open(t, t.TempDir())
	for part := range slices.Chunk(docs, 1+len(docs)/3) {
		apply(t, b, index.Batch{Documents: part})
	}
	matchers := map[record.ID]*query.Matcher{}
	for id, d := range m {
		matchers[id] = query.NewMatcher(d)
	}
	hits, unknown, near := 0, 0, 0
	for range queries {
		q := w.query(m, 2)
		if hasSet(q) {
			continue
		}
		for _, blank := range []bool{false, true} {
			res, err := b.Search(context.Background(), index.Request{Query: q, Limit: len(docs), Sort: index.ReceivedAsc, Unknown: blank})
			if err != nil {
				t.Fatalf("%s: %v", q, err)
			}
			want := query.Yes
			if blank {
				want = query.Unknown
			}
			got := map[record.ID]bool{}
			for _, h := range res.Hits {
				got[h.ID] = true
			}
			for id, matcher := range matchers {
				if v := matcher.Match(q); (v == want) != got[id] {
					t.Fatalf("%s\n%#v:\nthe record %s (%q) is %v; the index has it: %v, as %v", q, q, id, m[id].Subject, v, got[id], want)
				}
			}
			if blank {
				unknown += len(got)
			} else if hits += len(got); len(got) > 0 && strings.Contains(q.String(), "W/") {
				near++
			}
		}
	}
	t.Logf("%d queries of %d documents: %d hits, %d unknown; %d with proximity found something", queries, len(docs), hits, unknown, near)
	if hits < queries || near == 0 {
		t.Error("they test too little")
	}
}

// TestTooManySpans: where a proximity within a proximity stands at more places than are kept, nobody says yes or no.
func TestTooManySpans(t *testing.T) {
	w := newWorld(t, 21)
	crowded, plain := w.document(), w.document()
	crowded.Body, plain.Body = strings.Repeat("aa bb ", 400)+"cc", "aa bb x cc"
	for _, d := range []*document.Document{crowded, plain} {
		d.Subject, d.AttachmentText, d.Attachments, d.Partial, d.HeaderPartial = "", "", nil, false, false
	}
	b := open(t, t.TempDir())
	apply(t, b, index.Batch{Documents: []*document.Document{crowded, plain}})
	word := func(s string) query.Query { return query.Text{Tokens: []string{s}} }
	pair := query.Near{N: query.MaxNear, A: word("aa"), B: word("bb")}
	for _, c := range []struct {
		q    query.Query
		want [2]query.Verdict // of crowded, of plain
	}{
		{pair, [2]query.Verdict{query.Yes, query.Yes}},
		{query.Near{N: 2, A: pair, B: word("cc")}, [2]query.Verdict{query.Unknown, query.Yes}},
		{query.Not{Query: query.Near{N: 2, A: pair, B: word("cc")}}, [2]query.Verdict{query.Unknown, query.No}},
		{query.Near{N: 1, A: pair, B: word("cc")}, [2]query.Verdict{query.Unknown, query.No}},
		{query.Near{N: 2, A: pair, B: word("absent")}, [2]query.Verdict{query.No, query.No}},
		{query.Near{N: 2, Without: true, A: word("cc"), B: pair}, [2]query.Verdict{query.Unknown, query.No}},
		{query.Near{N: 2, A: query.Near{N: 3, A: word("aa"), B: word("bb")}, B: word("cc")}, [2]query.Verdict{query.Yes, query.Yes}},
	} {
		res := find(t, b, index.Request{Query: c.q, Limit: 9})
		blank := find(t, b, index.Request{Query: c.q, Limit: 9, Unknown: true})
		for i, d := range []*document.Document{crowded, plain} {
			got := query.No
			has := func(h index.Hit) bool { return h.ID == d.ID }
			if slices.ContainsFunc(res.Hits, has) {
				got = query.Yes
			} else if slices.ContainsFunc(blank.Hits, has) {
				got = query.Unknown
			}
			if m := query.Match(c.q, d); got != c.want[i] || m != c.want[i] {
				t.Errorf("%s of document %d: index %v, record %v, want %v", c.q, i, got, m, c.want[i])
			}
		}
	}
}
