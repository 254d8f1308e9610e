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
	for env, run := range map[string]func(string) error{crashEnv: indexUntilKilled, purgeEnv: purgeUntilKilled} {
		if dir := os.Getenv(env); dir != "" {
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
			batch.Documents = append(batch.Documents, numbered(n))
			n++
		}
		batch.Through = map[string]uint64{"log": n}
		if err := b.Apply(ctx, batch); err != nil {
			return err
		}
		fmt.Println(n) // told: from here on it must be there
	}
}

// TestKilled kills a process that indexes, again and again. What it said was applied is there, and so is everything below the cursor.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	for round := range 6 {
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
		for left := 3 + rand.IntN(25); lines.Scan(); left-- {
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
		cursor := through["log"]
		if cursor < told {
			t.Errorf("round %d: told %d, cursor %d", round, told, cursor)
		}
		there := map[string]bool{}
		for _, h := range find(t, b, index.Request{Query: query.Text{Tokens: []string{"few", "words"}}, Limit: 1 << 20}).Hits {
			there[h.Subject] = true
		}
		for n := range cursor {
			if !there[numbered(n).Subject] {
				t.Fatalf("round %d: document %d is not there, the cursor is %d", round, n, cursor)
			}
		}
		t.Logf("round %d: %d documents", round, cursor)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
