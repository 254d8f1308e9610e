package retention

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// model says of a record what its maker knows: which words its body and subject have, and what can't be read of it.
type model struct {
	doc              *document.Document
	body, subject    []string
	partial, headers bool
}

var words = []string{"merger", "invoice", "lunch"}

func randomRecord(rnd *rand.Rand, now time.Time) model {
	var m model
	some := func() (list []string) {
		for _, w := range words {
			if rnd.IntN(3) == 0 {
				list = append(list, w)
			}
		}
		return list
	}
	m.body, m.subject = some(), some()
	m.headers = rnd.IntN(6) == 0
	m.partial = m.headers || rnd.IntN(3) == 0
	received := now.Add(-time.Duration(rnd.Int64N(int64(12 * 365 * 24 * time.Hour)))).Truncate(time.Second)
	m.doc = &document.Document{ID: record.NewID(received), Received: received, Body: fmt.Sprint(m.body), Subject: fmt.Sprint(m.subject), Partial: m.partial, HeaderPartial: m.headers}
	switch rnd.IntN(4) {
	case 0:
		m.doc.Sent = received.Add(-time.Duration(rnd.Int64N(int64(3 * 365 * 24 * time.Hour)))).Truncate(time.Second)
	case 1:
		m.doc.Sent = received.AddDate(rnd.IntN(80), 0, 1) // of the future: somebody's clock, or a lie
	}
	return m
}

// rule is a policy, or the query of a hold, as the model knows it: one word, in the body or in the subject, or everything.
type rule struct {
	word    string // empty: everything
	subject bool
	unread  bool // the policy itself can't be read
}

func randomRule(rnd *rand.Rand) rule {
	return rule{word: append(words, "")[rnd.IntN(len(words)+1)], subject: rnd.IntN(2) == 0, unread: rnd.IntN(12) == 0}
}

func (r rule) query() query.Query {
	switch {
	case r.unread:
		return nil
	case r.word == "":
		return query.All{}
	case r.subject:
		return query.Text{Field: query.Subject, Tokens: []string{r.word}, Typed: r.word}
	}
	return query.Text{Field: query.Body, Tokens: []string{r.word}, Typed: r.word}
}

// says gives yes, or whether it may be that the record matches.
func (r rule) says(m model) (yes, maybe bool) {
	switch {
	case r.unread:
		return false, true
	case r.word == "":
		return true, false
	case r.subject:
		yes = slices.Contains(m.subject, r.word)
		return yes, !yes && m.headers
	}
	yes = slices.Contains(m.body, r.word)
	return yes, !yes && m.partial
}

// spans are periods as the model counts them.
var spans = []string{"1d", "90d", "18m", "3y", "7y", "10y", "forever"}

func modelUntil(span string, start Start, doc *document.Document) time.Time {
	from := doc.Received
	if start == Date && !doc.Sent.IsZero() && doc.Sent.Before(doc.Received) {
		from = doc.Sent
	}
	if start == YearEnd {
		from = time.Date(doc.Received.Year()+1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	var until time.Time
	switch span {
	case "1d":
		until = from.AddDate(0, 0, 1)
	case "90d":
		until = from.AddDate(0, 0, 90)
	case "18m":
		until = from.AddDate(0, 18, 0)
	case "3y":
		until = from.AddDate(3, 0, 0)
	case "7y":
		until = from.AddDate(7, 0, 0)
	case "10y":
		until = from.AddDate(10, 0, 0)
	default:
		return endless
	}
	if day := doc.Received.Add(24 * time.Hour); until.Before(day) {
		return day
	}
	return until
}

var endless = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// TestDecideIsTheModel: a record is kept as long as any reading of what could not be read would keep it, and never longer.
func TestDecideIsTheModel(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for range 4000 {
		m := randomRecord(rnd, now)
		base, err := New(Config{Default: spans[rnd.IntN(len(spans))]})
		if err != nil {
			t.Fatal(err)
		}
		type policy struct {
			rule
			span  string
			start Start
		}
		var list []Policy
		var known []policy
		for n := range rnd.IntN(5) {
			p := policy{randomRule(rnd), spans[rnd.IntN(len(spans))], []Start{Receipt, Date, YearEnd}[rnd.IntN(3)]}
			keep, err := ParsePeriod(p.span)
			if err != nil || keep.String() != p.span {
				t.Fatal(p.span, keep, err)
			}
			known = append(known, p)
			list = append(list, Policy{Name: fmt.Sprint("p", n), Query: p.query(), Keep: keep, Start: p.start})
		}
		p := base.With(list)

		var open []int
		for n := range known {
			if _, maybe := known[n].says(m); maybe {
				open = append(open, n)
			}
		}
		want, least := time.Time{}, endless
		for reading := range 1 << len(open) {
			longest, any := time.Time{}, false
			for n := range known {
				yes, _ := known[n].says(m)
				if at := slices.Index(open, n); yes || at >= 0 && reading>>at&1 == 1 {
					any = true
					if until := modelUntil(known[n].span, known[n].start, m.doc); until.After(longest) {
						longest = until
					}
				}
			}
			if !any {
				longest = modelUntil(base.Default().Keep.String(), Receipt, m.doc)
			}
			if longest.After(want) {
				want = longest
			}
			if longest.Before(least) {
				least = longest
			}
		}

		var holds []Hold
		held := false
		for n := range rnd.IntN(3) {
			r := randomRule(rnd)
			h := Hold{Name: fmt.Sprint("h", n), Query: r.query()}
			yes, maybe := r.says(m)
			if rnd.IntN(4) == 0 {
				h.Members = record.IDs{m.doc.ID}
				yes = true
			}
			if rnd.IntN(3) == 0 {
				h.Released = now
			}
			held = held || (yes || maybe) && h.Released.IsZero()
			holds = append(holds, h)
		}

		d := p.Decide(m.doc, holds, now)
		got := d.Until
		if d.Forever {
			got = endless
		}
		if !got.Equal(want) {
			t.Fatalf("kept until %v, want %v (seed %d): %+v", got, want, seed, d)
		}
		if keep := held || now.Before(want); d.Keep != keep || len(d.Holds) > 0 != held {
			t.Fatalf("keep %v, want %v; held %v (seed %d): %+v", d.Keep, keep, held, seed, d)
		}
		if len(d.Policies) == 0 || len(open) == 0 && !least.Equal(want) {
			t.Fatalf("no reason, or two readings of a whole record: %+v", d)
		}
		if again := p.Decide(m.doc, holds, now); fmt.Sprint(again) != fmt.Sprint(d) {
			t.Fatalf("the same again gives %+v, not %+v", again, d)
		}
	}
}

// TestExpiryByHeader: at ingest the header decides; what waits for the text does not lengthen, unless the header could not be read.
func TestExpiryByHeader(t *testing.T) {
	received := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	env := &record.Envelope{ID: record.NewID(received), Received: received}
	item := &record.Item{Kind: record.KindMessage, ID: env.ID, Envelope: env}
	base, err := New(Config{Default: "1y"})
	if err != nil {
		t.Fatal(err)
	}
	p := base.With([]Policy{
		{Name: "subject", Query: rule{word: "merger", subject: true}.query(), Keep: Period{Years: 5}, Start: Receipt},
		{Name: "body", Query: rule{word: "merger"}.query(), Keep: Period{Years: 9}, Start: Receipt},
		{Name: "short", Query: rule{word: "lunch", subject: true}.query(), Keep: Period{Days: 30}, Start: YearEnd},
	})
	for _, c := range []struct {
		subject string
		headers bool
		want    time.Time
	}{
		{"nothing", false, received.AddDate(1, 0, 0)},
		{"merger", false, received.AddDate(5, 0, 0)},
		{"lunch", false, time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)},
		{"nothing", true, received.AddDate(9, 0, 0)},
	} {
		doc := &document.Document{ID: env.ID, Received: received, Subject: c.subject, Partial: true, HeaderPartial: c.headers}
		if got := p.Expiry(item, doc, received); !got.Equal(c.want) {
			t.Errorf("%q: %v, want %v", c.subject, got, c.want)
		}
	}
	if got := p.Expiry(item, nil, received); !got.Equal(received.AddDate(1, 0, 0)) {
		t.Errorf("without a header: %v", got)
	}
	unread := base.With([]Policy{{Name: "of a later version", Keep: Period{Forever: true}, Start: Receipt}})
	if got := unread.Expiry(item, &document.Document{Received: received, Partial: true}, received); !got.IsZero() {
		t.Errorf("a policy that can't be read: %v", got)
	}
}

func TestStartsAndTemplates(t *testing.T) {
	for _, bad := range []string{"now", "Receipt", "year"} {
		if _, err := ParseStart(bad); err == nil {
			t.Errorf("%q is a start", bad)
		}
	}
	for _, tpl := range Templates() {
		if p, err := ParsePeriod(tpl.Keep); err != nil || p.String() != tpl.Name {
			t.Errorf("%+v: %v", tpl, err)
		}
		if _, err := ParseStart(string(tpl.Start)); err != nil {
			t.Error(err)
		}
	}
}
