package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
)

// runNode opens a node and lets it run until stop.
func runNode(t *testing.T, cfg *config) (n *node, stop func()) {
	t.Helper()
	n, err := openNode(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.start()
	return n, func() {
		t.Helper()
		if err := n.stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// wholeIndex waits until nothing is missing, and counts.
func wholeIndex(t *testing.T, n *node) uint64 {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		res, err := n.index.Search(t.Context(), index.Request{Query: query.All{}})
		if err == nil && len(res.Missing) == 0 {
			return res.Total
		}
		if time.Now().After(end) {
			t.Fatalf("still missing: %+v, %v", res, err)
		}
	}
}

func importAll(t *testing.T, n *node, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := n.importMessage(t.Context(), "test", nil, strings.NewReader(fmt.Sprintf("Subject: m%d\r\n\r\ntext\r\n", i))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestADamagedShardComesAgain from the archive and from the spool, by itself, and the rest of the index stays as it is.
func TestADamagedShardComesAgain(t *testing.T) {
	cfg := testArchive(t)
	n, stop := runNode(t, cfg)
	importAll(t, n, 0, 40)
	stop() // all of it in the archive
	n, stop = runNode(t, cfg)
	importAll(t, n, 40, 60)
	if err := n.index.settle(t.Context()); err != nil { // these in the spool alone
		t.Fatal(err)
	}
	if got := wholeIndex(t, n); got != 60 {
		t.Fatalf("%d documents", got)
	}
	shards, _ := filepath.Glob(filepath.Join(cfg.Index.Dir, "1", "2*"))
	for _, shard := range shards {
		zaps, _ := filepath.Glob(filepath.Join(shard, "*.zap"))
		for _, zap := range zaps {
			info, err := os.Stat(zap)
			if err != nil {
				continue // merged away
			}
			f, err := os.OpenFile(zap, os.O_WRONLY, 0)
			if err != nil {
				continue
			}
			f.Write(make([]byte, info.Size()))
			f.Close()
		}
	}
	// The damage may have been seen before, and mended by now: what must not be is an answer that is short and says nothing.
	res, err := n.index.Search(t.Context(), index.Request{Query: query.All{}, Limit: 100})
	if err != nil || len(res.Hits) != 60 && len(res.Missing) == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if got := wholeIndex(t, n); got != 60 {
		t.Errorf("%d documents of 60 after the damage", got)
	}
	if dir, err := n.index.gens.Current(); err != nil || filepath.Base(dir) != "1" {
		t.Errorf("%s, %v: the whole index was built again", dir, err)
	}
	stop()
	n, stop = runNode(t, cfg)
	if got := wholeIndex(t, n); got != 60 {
		t.Errorf("%d documents of 60 after a restart", got)
	}
	stop()
}

// TestAnIndexOfALedgerThatWasSetBack: what the ledger has no more is not found any more, what it has is.
func TestAnIndexOfALedgerThatWasSetBack(t *testing.T) {
	cfg := testArchive(t)
	n, stop := runNode(t, cfg)
	importAll(t, n, 0, 10)
	stop()
	store := strings.TrimPrefix(cfg.Archive.Store, "file:")
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	n, stop = runNode(t, cfg)
	importAll(t, n, 10, 20)
	stop()
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(store, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	other := *cfg // a node without a past lets it grow again
	other.DataDir = t.TempDir()
	other.Spool.Dir, other.Index.Dir = filepath.Join(other.DataDir, "spool"), filepath.Join(other.DataDir, "index")
	n, stop = runNode(t, &other)
	importAll(t, n, 100, 130)
	stop()

	cfg.Spool.Dir = filepath.Join(t.TempDir(), "spool") // what was in custody there would be found too
	n, stop = runNode(t, cfg)
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.index.settle(ctx); err != nil {
		t.Fatal(err)
	}
	res, err := n.index.Search(t.Context(), index.Request{Query: query.All{}, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range res.Hits {
		got = append(got, h.Subject)
		if has, err := n.archive.Has(h.ID); err != nil || !has {
			t.Errorf("%s is in the index and not in the archive: %v", h.Subject, err)
		}
	}
	var want []string
	for i := range 130 {
		if i < 10 || i >= 100 {
			want = append(want, fmt.Sprintf("m%d", i))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found %v", got)
	}
}

// TestLargeTextsAreIndexedWhole: 20 MB of text in a body or in an attachment are found by their last word.
func TestLargeTextsAreIndexedWhole(t *testing.T) {
	n, stop := runNode(t, testArchive(t))
	text := strings.Repeat("communications departments nevertheless understanding\r\n", 20<<20/55)
	for _, head := range []string{
		"Subject: body\r\n\r\n",
		"Subject: attachment\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsmall\r\n--b\r\nContent-Type: text/plain\r\n" +
			"Content-Disposition: attachment; filename=large.txt\r\n\r\n",
	} {
		if _, err := n.importMessage(t.Context(), "test", nil, strings.NewReader(head+text+"zuletzt\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.index.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, field := range []query.Field{query.Body, query.AttachmentText} {
		res, err := n.index.Search(t.Context(), index.Request{Query: query.Text{Field: field, Tokens: []string{"understanding", "zuletzt"}}, Limit: 9})
		if err != nil || len(res.Hits) != 1 {
			t.Errorf("%s: %+v, %v", field, res, err)
		}
	}
	stop()
}
