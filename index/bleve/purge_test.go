package bleve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	segment "github.com/blevesearch/scorch_segment_api/v2"
	zap "github.com/blevesearch/zapx/v17"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// secret is numbered with words in every field that no other document has: they all hold the number between two x.
func secret(n uint64) *document.Document {
	d := numbered(n)
	word := func(field string) string { return fmt.Sprintf("%sx%dx", field, n) }
	address := func(field string) []document.Address {
		return []document.Address{{Name: word(field), Address: word(field) + "@" + word(field) + ".example"}}
	}
	d.Subject, d.Body, d.AttachmentText, d.MessageID = word("subject"), "few words "+word("body"), word("text"), word("id")+"@example"
	d.From, d.To, d.Cc, d.Bcc, d.EnvFrom, d.Rcpt = address("from"), address("to"), address("cc"), address("bcc"), address("env"), address("rcpt")
	d.Attachments = []document.Attachment{{Name: word("file") + ".pdf"}}
	d.Facts = []document.Fact{{Field: document.Client, Value: word("client")}}
	return d
}

// scan looks for a document's words in every byte of every file, and in all that the segments hold when they are read.
func scan(t *testing.T, dir string, n uint64) (found []string) {
	t.Helper()
	needle := []byte(fmt.Sprintf("x%dx", n))
	id := numbered(n).ID
	look := func(where string, b []byte) {
		if bytes.Contains(b, needle) || bytes.Contains(b, id[:]) {
			found = append(found, where)
		}
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		look(path, b)
		if filepath.Ext(path) != ".zap" {
			return nil
		}
		seg, err := new(zap.ZapPlugin).Open(path)
		if err != nil {
			return err
		}
		defer seg.Close()
		for _, field := range fieldNames {
			dict, err := seg.Dictionary(field)
			if err != nil {
				return err
			}
			it := dict.AutomatonIterator(nil, nil, nil)
			for entry, err := it.Next(); entry != nil || err != nil; entry, err = it.Next() {
				if err != nil {
					return err
				}
				look(path+" "+field, []byte(entry.Term))
			}
		}
		for doc := range seg.Count() {
			if err := seg.VisitStoredFields(doc, func(field string, _ byte, value []byte, _ []uint64) bool {
				look(path+" stored "+field, value)
				return true
			}); err != nil {
				return err
			}
			if _, err := seg.(segment.DocValueVisitable).VisitDocValues(doc, fieldNames[:], func(field string, value []byte) {
				look(path+" values "+field, value)
			}, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// holds checks that the index has these documents and no others.
func holds(t *testing.T, b *Backend, want map[uint64]bool) {
	t.Helper()
	res := find(t, b, index.Request{Query: query.All{}, Limit: 1 << 20})
	if len(res.Hits) != len(want) || res.Missing != nil {
		t.Errorf("%d documents, want %d; missing %v", len(res.Hits), len(want), res.Missing)
	}
	for n := range want {
		for _, q := range []query.Query{
			query.Text{Field: query.Body, Tokens: []string{"words", fmt.Sprintf("bodyx%dx", n)}},
			query.Address{Field: query.Rcpt, Part: query.Domain, Value: fmt.Sprintf("rcptx%dx.example", n)},
		} {
			if res := find(t, b, index.Request{Query: q, Limit: 2}); len(res.Hits) != 1 || res.Hits[0].Subject != fmt.Sprintf("subjectx%dx", n) {
				t.Errorf("%s: %d hits", q, len(res.Hits))
			}
		}
	}
}

func TestPurgeLeavesNothing(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	o := Options{ShardDocuments: uint64(r.IntN(2) * 8)}
	b := openWith(t, dir, o)
	there := map[uint64]bool{}
	next := uint64(1000)
	for round := range 6 {
		for range 1 + r.IntN(12) {
			var batch index.Batch
			for range 1 + r.IntN(5) {
				batch.Documents = append(batch.Documents, secret(next))
				there[next] = true
				next++
			}
			for n := range there {
				switch r.IntN(20) {
				case 0:
					batch.Documents = append(batch.Documents, secret(n)) // again, as after a crash
				case 1:
					batch.Deletes = append(batch.Deletes, secret(n).ID)
					delete(there, n)
				}
			}
			apply(t, b, batch)
		}
		if r.IntN(3) == 0 { // all in one segment, the only one of its shard
			for _, s := range b.open {
				if err := s.ix.ForceMerge(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		var purge []uint64
		var ids []record.ID
		for n := range there {
			if r.IntN(5) == 0 || round == 5 { // the last time all of them
				purge, ids = append(purge, n), append(ids, secret(n).ID)
				delete(there, n)
			}
		}
		for range 2 {
			if err := b.Purge(t.Context(), ids); err != nil {
				t.Fatal(err)
			}
			for _, n := range purge {
				if found := scan(t, dir, n); found != nil {
					t.Fatalf("round %d: of document %d there is left %v", round, n, found)
				}
			}
			holds(t, b, there)
		}
		if r.IntN(2) == 0 {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = openWith(t, dir, o)
		}
	}
	if n := len(scan(t, dir, next)); n != 0 {
		t.Errorf("a document that was never there is found %d times", n)
	}
	apply(t, b, index.Batch{Documents: []*document.Document{secret(next)}})
	if found := scan(t, dir, next); len(found) < 12 { // the scan sees what there is
		t.Errorf("a document that is there is found in %v only", found)
	}
}

// TestPurgeWaitsForReaders: who began to read before may end, and only then is it done.
func TestPurgeWaitsForReaders(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	apply(t, b, index.Batch{Documents: []*document.Document{secret(1000), secret(1003)}})
	id := secret(1000).ID
	reader, err := b.acquire(shardName(id))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := b.Purge(ctx, []record.ID{id}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it is read: %v", err)
		}
		cancel()
		holds(t, b, map[uint64]bool{1003: true}) // the new one serves already
	}
	time.AfterFunc(100*time.Millisecond, func() { b.release(reader) })
	if err := b.Purge(t.Context(), []record.ID{id}); err != nil {
		t.Fatal(err)
	}
	if found := scan(t, dir, 1000); found != nil {
		t.Errorf("left in %v", found)
	}
	holds(t, b, map[uint64]bool{1003: true})
	if err := b.Purge(t.Context(), []record.ID{record.NewID(time.Now())}); err != nil {
		t.Errorf("of a month that nothing is of: %v", err)
	}
}

// A process that purges until it is killed: set to the folder.
const purgeEnv = "HOLDFAST_TEST_PURGE_UNTIL_KILLED"

const purged, purgeLeft = 30, 30 // documents 0, 3, 6 … of one month are purged, others stay

func purgeUntilKilled(dir string) error {
	b, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		if err := b.Purge(context.Background(), purgedIDs()); err != nil {
			return err
		}
	}
}

func purgedIDs() (ids []record.ID) {
	for n := range uint64(purged) {
		ids = append(ids, secret(n*3).ID)
	}
	return ids
}

// TestKilledWhilePurging kills a process that purges, at any step. To purge again leaves nothing, and nothing else is lost.
func TestKilledWhilePurging(t *testing.T) {
	t.Parallel()
	rounds := 10
	if testing.Short() {
		rounds = 5
	}
	before := t.TempDir()
	b := open(t, before)
	want := map[uint64]bool{}
	for from := uint64(0); from < purged+purgeLeft; from += 4 {
		var batch index.Batch
		for n := from; n < from+4; n++ {
			batch.Documents = append(batch.Documents, secret(n*3), secret(n*3+1))
			want[n*3+1] = true
			if n >= purged {
				want[n*3] = true
			}
		}
		apply(t, b, batch)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		dir := filepath.Join(t.TempDir(), "index")
		if err := os.CopyFS(dir, os.DirFS(before)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), purgeEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(60_000)) * time.Microsecond)
		cmd.Process.Kill()
		if err := cmd.Wait(); err == nil {
			t.Fatal("the process ended by itself")
		}
		left, _ := filepath.Glob(filepath.Join(dir, "*"))
		b = open(t, dir)
		if err := b.Purge(t.Context(), purgedIDs()); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(purged) {
			if found := scan(t, dir, n*3); found != nil {
				t.Fatalf("round %d: of document %d there is left %v", round, n*3, found)
			}
		}
		if round < 3 || round == rounds-1 {
			holds(t, b, want)
		} else if res := find(t, b, index.Request{Query: query.All{}}); int(res.Total) != len(want) {
			t.Errorf("round %d: %d documents, want %d", round, res.Total, len(want))
		}
		for i := range left {
			left[i] = filepath.Base(left[i])
		}
		t.Logf("round %d: killed with %s", round, strings.Join(left, " "))
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if shards := slices.Collect(maps.Keys(b.meta.list())); len(shards) != 2 {
			t.Errorf("shards %v", shards)
		}
	}
}
