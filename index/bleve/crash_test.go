package bleve

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// A process that indexes until it is killed: set to the folder.
const crashEnv = "HOLDFAST_TEST_INDEX_UNTIL_KILLED"

func TestMain(m *testing.M) {
	for env, run := range map[string]func(string) error{crashEnv: indexUntilKilled, purgeEnv: purgeUntilKilled, faultEnv: indexWithAFault} {
		if dir := os.Getenv(env); dir != "" {
			selfTest = func() error { return nil } // which takes seconds under the race detector, each time
			if err := run(dir); err != nil {
				fmt.Println("error:", err)
			}
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// numbered is the nth of an endless row of documents over three months.
func numbered(n uint64) *document.Document {
	at := time.Date(2025, time.Month(1+n%3), 1, 0, 0, int(n%1e6), 0, time.UTC)
	d := &document.Document{Received: at, Size: int64(n), Subject: fmt.Sprintf("n%d", n), Body: "a few words for each document"}
	d.ID = record.ID(record.NewID(at))
	binary.BigEndian.PutUint64(d.ID[8:], n)
	d.ID[6], d.ID[7] = 0, 0
	return d
}

func indexUntilKilled(dir string) error {
	b, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	through, err := b.Through(ctx)
	if err != nil {
		return err
	}
	for n := through["log"]; ; {
		var batch index.Batch
		for range 1 + rand.IntN(40) {
			batch.Documents = append(batch.Documents, secret(n))
			n++
		}
		batch.Through = map[string]uint64{"log": n}
		if err := b.Apply(ctx, batch); err != nil {
			return err
		}
		fmt.Println(n) // told: from here on it must be there
	}
}

// TestKilled kills a process that indexes, fifty times (with -short ten times). What it said was applied is there, and so is everything below the cursor; in the end
// the index is what one is that was never interrupted.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	cursor := uint64(0)
	t.Parallel()
	rounds := 50
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var told uint64
		lines := bufio.NewScanner(out)
		for left := rand.IntN(8); lines.Scan(); left-- {
			if _, err := fmt.Sscan(lines.Text(), &told); err != nil {
				t.Errorf("the process says %q", lines.Text())
			}
			if left == 0 {
				time.AfterFunc(time.Duration(rand.IntN(8000))*time.Microsecond, func() { cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the process ended by itself")
		}

		b := open(t, dir)
		through, err := b.Through(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cursor = through["log"]
		if cursor < told {
			t.Errorf("round %d: told %d, cursor %d", round, told, cursor)
		}
		there := map[string]bool{}
		for _, h := range find(t, b, index.Request{Query: query.Text{Tokens: []string{"few", "words"}}, Limit: 1 << 20}).Hits {
			there[h.Subject] = true
		}
		for n := range cursor {
			if !there[secret(n).Subject] {
				t.Fatalf("round %d: document %d is not there, the cursor is %d", round, n, cursor)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b, fresh := open(t, dir), open(t, t.TempDir())
	var all index.Batch
	for n := range cursor + 40 { // what was applied in part at the end, as it comes again
		d := secret(n)
		all.Documents = append(all.Documents, d)
	}
	apply(t, fresh, all)
	all.Documents = all.Documents[cursor:]
	apply(t, b, all)
	got, want := contents(t, b), contents(t, fresh)
	t.Logf("%d documents, %d entries", cursor+40, len(want))
	for entry := range want {
		if !got[entry] {
			t.Fatalf("not there: %q", entry)
		}
	}
	for entry := range got {
		if !want[entry] {
			t.Fatalf("too much: %q", entry)
		}
	}
}

// contents is all that an index holds: each term of each document with its positions, and what is stored.
func contents(t *testing.T, b *Backend) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	put := func(format string, args ...any) {
		entry := fmt.Sprintf(format, args...)
		if all[entry] {
			t.Fatalf("twice: %q", entry)
		}
		all[entry] = true
	}
	for name := range b.meta.list() {
		s, err := b.acquire(name)
		if err != nil {
			t.Fatal(err)
		}
		snap := s.snapshot()
		for _, part := range snap.Segments() {
			seg, gone := part.Segment(), part.Deleted()
			ids := make([]string, seg.Count())
			for n := range ids {
				id, err := seg.DocID(uint64(n))
				if err != nil {
					t.Fatal(err)
				}
				ids[n] = string(id)
				if gone != nil && gone.Contains(uint32(n)) {
					continue
				}
				if err := seg.VisitStoredFields(uint64(n), func(field string, _ byte, value []byte, _ []uint64) bool {
					put("%s %x stored %s %x", name, id, field, value)
					return true
				}); err != nil {
					t.Fatal(err)
				}
			}
			for _, field := range fieldNames {
				dict, err := seg.Dictionary(field)
				if err != nil {
					t.Fatal(err)
				}
				it := dict.AutomatonIterator(nil, nil, nil)
				for entry, err := it.Next(); entry != nil || err != nil; entry, err = it.Next() {
					if err != nil {
						t.Fatal(err)
					}
					list, err := dict.PostingsList([]byte(entry.Term), gone, nil)
					if err != nil {
						t.Fatal(err)
					}
					hits := list.Iterator(true, true, true, nil)
					for p, err := hits.Next(); p != nil || err != nil; p, err = hits.Next() {
						if err != nil {
							t.Fatal(err)
						}
						var at []any
						for _, l := range p.Locations() {
							at = append(at, l.Pos(), fmt.Sprint(l.ArrayPositions()))
						}
						put("%s %x %s %q %v", name, ids[p.Number()], field, entry.Term, at)
					}
				}
			}
		}
		snap.Close()
		b.release(s)
	}
	return all
}
