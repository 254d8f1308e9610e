package bleve

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// corpus gives the messages of the shared corpus of real mail as records, one every seven minutes: a month of them.
func corpus(tb testing.TB) (items []*record.Item, raw int64) {
	tb.Helper()
	shared := os.Getenv("HOLDFAST_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	f, err := os.Open(filepath.Join(shared, "corpus", "mail.tar.zst"))
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
		tb.Skip("no corpus of mail: set HOLDFAST_SHARED")
	} else if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	defer z.Close()
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			return items, raw
		}
		if err != nil {
			tb.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(t)
		if err != nil {
			tb.Fatal(err)
		}
		at = at.Add(7 * time.Minute)
		raw += int64(len(b))
		id := record.NewID(at)
		items = append(items, &record.Item{
			Kind: record.KindMessage, ID: id, Seq: uint64(len(items) + 1),
			Envelope: &record.Envelope{
				ID: id, Received: at, Size: int64(len(b)), SHA256: record.Sum(b),
				MailFrom: &record.Path{Address: "sender@example.org"}, Rcpt: []record.Path{{Address: "archive@example.com"}},
			},
			Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
		})
	}
}

func documents(tb testing.TB, items []*record.Item) (docs []*document.Document) {
	for _, it := range items {
		body, _ := it.Body()
		m, err := message.Parse(body, message.Limits{})
		if err != nil {
			tb.Fatal(err)
		}
		docs = append(docs, document.FromMessage(it.Envelope, m))
	}
	return docs
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func diskUsage(tb testing.TB, dir string) (n int64) {
	if err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	return n
}

// BenchmarkApply indexes what is parsed already, and merges it into one segment: both are in its figures.
func BenchmarkApply(b *testing.B) {
	items, raw := corpus(b)
	docs := documents(b, items)
	var spent time.Duration
	var size int64
	b.ResetTimer()
	b.SetBytes(raw)
	for b.Loop() {
		dir := b.TempDir()
		ix := open(b, dir)
		before := cpuTime()
		for from, n := 0, 0; from < len(docs); from = n {
			for text := 0; n < len(docs) && text < 4<<20; n++ {
				text += len(docs[n].Body)
			}
			apply(b, ix, index.Batch{Documents: docs[from:n]})
		}
		for _, s := range ix.open {
			if err := s.ix.ForceMerge(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
		}
		spent += cpuTime() - before
		if err := ix.Close(); err != nil {
			b.Fatal(err)
		}
		size = diskUsage(b, dir)
	}
	b.ReportMetric(float64(len(docs)*b.N)/spent.Seconds(), "docs/cpu-s")
	b.ReportMetric(100*float64(size)/float64(raw), "%-of-raw")
}

// replayed is a ledger that has everything.
type replayed []*record.Item

func (r replayed) Logs() []string     { return []string{"node-bench"} }
func (r replayed) Size(string) uint64 { return uint64(len(r)) }
func (r replayed) Fetch(context.Context, record.ID) (*archive.Stored, error) {
	return nil, errors.ErrUnsupported
}
func (r replayed) Replay(_ context.Context, _ string, from uint64, want func(*record.Entry) bool) iter.Seq2[archive.Replayed, error] {
	return func(yield func(archive.Replayed, error) bool) {
		for n := from; n < uint64(len(r)); n++ {
			out := archive.Replayed{N: n, Entry: record.Entry{Kind: record.KindMessage, Seq: r[n].Seq, ID: r[n].ID, Pack: fmt.Sprint(n / 500)}}
			if want(&out.Entry) {
				out.Item = r[n]
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// BenchmarkRebuild is all of a rebuild of 100,000 messages but for the reading of packs: parse, index. They are the corpus again and again, each
// time with other ids and times.
func BenchmarkRebuild(b *testing.B) {
	once, size := corpus(b)
	var items []*record.Item
	var raw int64
	at := once[0].Envelope.Received
	for len(items) < 100_000 {
		for _, it := range once {
			at = at.Add(3 * time.Minute)
			env, again := *it.Envelope, *it
			env.ID, env.Received = record.NewID(at), at
			again.ID, again.Envelope, again.Seq = env.ID, &env, uint64(len(items)+1)
			items = append(items, &again)
		}
		raw += size
	}
	var spent, took time.Duration
	b.ResetTimer()
	b.SetBytes(raw)
	for b.Loop() {
		ix := open(b, b.TempDir())
		before, began := cpuTime(), time.Now()
		f := index.New(index.Options{Node: "bench", Backend: ix, Ledger: replayed(items)})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			f.Run(ctx)
			close(done)
		}()
		if err := f.Settle(ctx); err != nil {
			b.Fatal(err)
		}
		cancel()
		<-done
		spent += cpuTime() - before
		took += time.Since(began)
		if err := ix.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(items)*b.N)/spent.Seconds(), "docs/cpu-s")
	b.ReportMetric(float64(len(items)*b.N)/took.Seconds(), "docs/s")
	b.ReportMetric(spent.Seconds()/took.Seconds(), "cores")
}

func BenchmarkSearch(b *testing.B) {
	items, _ := corpus(b)
	ix := open(b, b.TempDir())
	apply(b, ix, index.Batch{Documents: documents(b, items)})
	word := func(s ...string) query.Query { return query.Text{Tokens: s} }
	september := time.Date(2002, 9, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		q    query.Query
		sort index.Sort
	}{
		{"rare", word("merger"), index.ReceivedDesc},
		{"common", word("the"), index.ReceivedDesc},
		{"common by size", word("the"), index.SizeDesc},
		{"phrase", word("mailing", "list"), index.ReceivedDesc},
		{"common phrase", word("of", "the"), index.ReceivedDesc},
		{"prefix", query.Text{Tokens: []string{"secur"}, Form: query.Prefix}, index.ReceivedDesc},
		{"domain", query.Address{Field: query.Participants, Part: query.Domain, Value: "example.org"}, index.ReceivedDesc},
		{"not", query.Not{Query: word("the")}, index.ReceivedDesc},
		{"sent in a month", query.Time{Field: query.Sent, From: september, Before: september.AddDate(0, 1, 0)}, index.SentAsc},
	} {
		b.Run(c.name, func(b *testing.B) {
			var total uint64
			for b.Loop() {
				total = find(b, ix, index.Request{Query: c.q, Sort: c.sort, Limit: 50}).Total
			}
			b.ReportMetric(float64(total), "hits")
		})
	}
}
