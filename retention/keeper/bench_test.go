package keeper

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/bleve"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/retention"
)

var benchRecords = flag.Int("records", 50_000, "messages in the index of BenchmarkPlaceHold; a tenth of them is held")

// BenchmarkPlaceHold places a hold that matches a tenth of the messages in a real index, while mail is being indexed:
//
//	go test ./retention/keeper -run - -bench PlaceHold -benchtime 3x -records 1000000 -timeout 2h
func BenchmarkPlaceHold(b *testing.B) {
	backend, err := bleve.Open(filepath.Join(b.TempDir(), "index"), bleve.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	k := newBench(b, Options{Search: backend.Search})
	rng := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	message := func(i int) *document.Document {
		at = at.Add(30 * time.Second)
		var body strings.Builder
		for range 60 {
			fmt.Fprintf(&body, "w%d ", rng.IntN(20_000))
		}
		if i%10 == 0 {
			body.WriteString("needle")
		}
		return &document.Document{ID: record.NewID(at), Received: at, Subject: fmt.Sprint("letter ", i), Body: body.String(),
			From: []document.Address{{Address: "a@b.test"}}}
	}
	put := func(first, n int) {
		docs := make([]*document.Document, n)
		for i := range docs {
			docs[i] = message(first + i)
		}
		if err := k.Arrive(docs, func() error { return backend.Apply(b.Context(), index.Batch{Documents: docs}) }); err != nil {
			b.Error(err)
		}
	}
	for i := 0; i < *benchRecords; i += 5000 {
		put(i, 5000)
	}
	var arrived atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // mail
		defer close(done)
		for i := *benchRecords; ; i += 50 {
			select {
			case <-stop:
				return
			default:
				put(i, 50)
				arrived.Add(50)
				time.Sleep(50 * time.Millisecond)
			}
		}
	}()
	before := arrived.Load()
	held := 0
	for n := 0; b.Loop(); n++ {
		name := fmt.Sprint("h", n)
		if _, err := k.o.Book.Do(b.Context(), k.by, func() (string, any, error) {
			return k.o.Rules.PlaceHold(retention.HoldOrder{Name: name, Matter: "m", Reason: "r"}, word("needle"))
		}); err != nil {
			b.Fatal(err)
		}
		if held, err = k.Apply(b.Context(), k.by, name); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(held), "held")
	b.ReportMetric(float64(arrived.Load()-before)/b.Elapsed().Seconds(), "arriving/s")
	close(stop)
	<-done
	if held < *benchRecords/10 {
		b.Errorf("%d of %d are held", held, *benchRecords/10)
	}
}
