package bleve

import (
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

var manyDocuments = flag.Int("documents", 0, "run TestMany with an index of so many documents, of a year: 1,000,000 is what the figures are for")

// mill makes documents as an office has them: few people write much and many little, few words are frequent and many rare, messages answer
// each other, most are short and some long, and days have their hours.
type mill struct {
	*rand.Rand
	words  *rand.Zipf
	people *rand.Zipf
	names  []document.Address
	own    int // so many of the names are our own
}

func newMill(seed uint64) *mill {
	m := &mill{Rand: rand.New(rand.NewPCG(seed, 11)), own: 2000}
	m.words = rand.NewZipf(m.Rand, 1.07, 2, 400_000)
	m.people = rand.NewZipf(m.Rand, 1.2, 20, 59_999)
	for i := range 60_000 {
		domain := "acme.example"
		if i >= m.own {
			domain = fmt.Sprintf("%s%d.example", []string{"mail", "firm", "shop"}[i%3], int(m.Float64()*m.Float64()*8000))
		}
		m.names = append(m.names, document.Address{Name: fmt.Sprintf("First%d Last%d", i%700, i%5000), Address: fmt.Sprintf("p%d@%s", i, domain)})
	}
	return m
}

func (m *mill) text(n int) string {
	var b strings.Builder
	for range n {
		fmt.Fprintf(&b, "w%d ", m.words.Uint64())
	}
	return b.String()
}

func (m *mill) person() document.Address { return m.names[m.people.Uint64()] }

// document makes the i-th of n, all received within the year that begins at start.
func (m *mill) document(i, n int, start time.Time) *document.Document {
	at := start.Add(time.Duration(float64(i) / float64(n) * float64(365*24*time.Hour)))
	at = at.Add(time.Duration(m.NormFloat64() * float64(time.Hour)))
	var id record.ID
	binary.BigEndian.PutUint64(id[:], uint64(at.UnixMilli())<<16)
	binary.BigEndian.PutUint64(id[8:], m.Uint64())
	d := &document.Document{
		ID: id, Received: at, Sent: at.Add(-time.Duration(m.IntN(90)) * time.Second).Truncate(time.Second), MessageID: fmt.Sprintf("%d@acme.example", i),
		Subject: m.text(3 + m.IntN(6)), Body: m.text(20 + int(m.ExpFloat64()*90)), From: []document.Address{m.person()},
	}
	d.Size = int64(1500 + len(d.Body))
	d.SHA256 = record.Sum(id[:])
	for range 1 + int(m.ExpFloat64()*1.5) {
		d.To = append(d.To, m.person())
	}
	d.Rcpt = d.To
	d.EnvFrom = d.From
	if m.IntN(5) == 0 {
		kind := []string{"pdf", "docx", "xlsx", "png"}[m.IntN(4)]
		d.Attachments = []document.Attachment{{Name: m.text(1) + "." + kind, Type: "application/" + kind, Size: 70_000}}
		d.Facts = append(d.Facts, document.Fact{Field: document.FileType, Value: kind})
		d.Size += 70_000
	}
	env := &record.Envelope{Completeness: record.Full}
	d.Direct(env, []string{"acme.example"})
	d.Facts = append(d.Facts, document.Fact{Field: document.SPF, Value: []string{"pass", "pass", "pass", "none", "fail"}[m.IntN(5)]})
	if m.IntN(3) == 0 && i > 0 {
		d.Facts = append(d.Facts, document.Fact{Field: document.Thread, Value: fmt.Sprintf("%d@acme.example", max(0, i-1-m.IntN(500)))})
	}
	return d
}

// TestMany measures searches of a large index. It is run by hand: go test ./index/bleve -run TestMany -documents 1000000 -timeout 3h -v
func TestMany(t *testing.T) {
	if *manyDocuments == 0 {
		return // nothing is asserted: it prints figures
	}
	n := *manyDocuments
	m := newMill(1)
	b := open(t, t.TempDir())
	start := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	began := time.Now()
	for from := 0; from < n; from += 5000 {
		var batch index.Batch
		for i := from; i < min(n, from+5000); i++ {
			batch.Documents = append(batch.Documents, m.document(i, n, start))
		}
		apply(t, b, batch)
	}
	t.Logf("%d documents in %d shards, %.0f MB, made and indexed in %s", n, len(b.open), float64(diskUsage(t, b.dir))/1e6, time.Since(began).Round(time.Second))
	if err := b.Close(); err != nil { // what follows is what a server has that was started anew
		t.Fatal(err)
	}
	b = open(t, b.dir)
	debug.FreeOSMemory()
	w := func(i int) query.Query { return query.Text{Tokens: []string{fmt.Sprintf("w%d", i)}} }
	for _, c := range []struct {
		name string
		make func() query.Query
	}{
		{"term", func() query.Query { return w(m.IntN(2000)) }},
		{"phrase", func() query.Query {
			return query.Text{Tokens: []string{fmt.Sprintf("w%d", m.IntN(50)), fmt.Sprintf("w%d", m.IntN(50))}}
		}},
		{"boolean of five", func() query.Query {
			return query.And{w(m.IntN(30)), query.Or{w(m.IntN(300)), w(m.IntN(300))}, query.Not{Query: w(m.IntN(300))}, query.Attached{Has: m.IntN(2) == 0}}
		}},
		{"from:domain", func() query.Query {
			_, domain := document.Split(m.person().Address)
			return query.Address{Field: query.From, Part: query.Domain, Value: domain}
		}},
		{"date range", func() query.Query {
			from := start.AddDate(0, m.IntN(11), m.IntN(28))
			return query.Time{Field: query.Received, From: from, Before: from.AddDate(0, 0, 1+m.IntN(60))}
		}},
		{"W/5", func() query.Query { return query.Near{N: 5, A: w(m.IntN(100)), B: w(m.IntN(100))} }},
	} {
		b.measure(t, c.name+", first page", 100, func() {
			find(t, b, index.Request{Query: c.make(), Limit: 50, Page: true})
		})
		q := c.make()
		count := func() {
			if _, err := b.Count(t.Context(), index.CountRequest{Query: q, Facets: index.Facets, Top: 10}); err != nil {
				t.Fatal(err)
			}
		}
		b.measure(t, c.name+", totals, all facets, histogram, cold", 5, func() {
			q = c.make()
			count()
		})
		b.measure(t, c.name+", the same again", 20, count)
	}
	all := index.Request{Query: query.Time{Field: query.Received, Before: start.AddDate(0, 10, 20)}, Limit: 50, Page: true} // so that both are in large shards
	b.measure(t, "everything, page 1", 100, func() { find(t, b, all) })
	deep := find(t, b, index.Request{Query: all.Query, Limit: min(50*999, n/2)})
	all.After = &deep.Hits[len(deep.Hits)-1].Cursor
	b.measure(t, fmt.Sprintf("everything, page %d", len(deep.Hits)/50+1), 100, func() { find(t, b, all) })
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// measure prints how long something takes.
func (b *Backend) measure(t *testing.T, what string, times int, do func()) {
	t.Helper()
	var took []time.Duration
	for range times {
		began := time.Now()
		do()
		took = append(took, time.Since(began))
	}
	slices.SortFunc(took, func(x, y time.Duration) int { return cmp.Compare(x, y) })
	t.Logf("%-55s p50 %9s  p99 %9s", what, took[len(took)/2].Round(10*time.Microsecond), took[len(took)*99/100].Round(10*time.Microsecond))
}
