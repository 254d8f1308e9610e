package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// A process that rebuilds the index of a node and kills itself in the midst: set to the configuration's file.
const rebuildEnv = "TEST_HOLDFAST_REBUILD_UNTIL_KILLED" // HOLDFAST_… would be of the configuration

// rebuildUntilKilled dies by kill -9 when the first batch is in the new index.
func rebuildUntilKilled(file string) error {
	ctx := context.Background()
	cfg, err := loadConfig(file)
	if err != nil {
		return err
	}
	n, err := openNode(ctx, cfg)
	if err != nil {
		return err
	}
	n.start()
	for n.index.current().fresh.Load() { // a rebuild would wait for it
		time.Sleep(20 * time.Millisecond)
	}
	n.index.arrive = func(_ []*document.Document, apply func() error) error {
		if err := apply(); err != nil {
			return err
		}
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return n.index.rebuild(ctx, func(uint64, uint64) {})
}

// TestAKilledRebuildGoesOn when the node starts, where it was.
func TestAKilledRebuildGoesOn(t *testing.T) {
	cfg := testArchive(t)
	n, stop := runNode(t, cfg)
	rng := rand.New(rand.NewPCG(1, 1))
	const messages = 14
	for i := range messages { // a batch takes seven of them
		var text strings.Builder
		for text.Len() < 600<<10 {
			fmt.Fprintf(&text, "w%d ", rng.IntN(3000))
		}
		if _, err := n.importMessage(t.Context(), "test", nil, strings.NewReader(fmt.Sprintf("Subject: m%d\r\n\r\n%s\r\n", i, text.String()))); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), rebuildEnv+"="+filepath.Join(filepath.Dir(cfg.DataDir), "holdfast.yaml"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("it was not killed: %v\n%s", err, &said)
	}
	next := filepath.Join(cfg.Index.Dir, "2")
	if _, err := os.Stat(next); err != nil {
		t.Fatal("the rebuild left nothing: ", err)
	}
	n, stop = runNode(t, cfg)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if n.index.current().dir == next {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the new index is not in force")
		}
	}
	if documents, _ := n.index.current().follower.Applied(); documents == 0 || documents >= messages {
		t.Errorf("%d documents of %d were indexed after the kill: it did not go on where it was", documents, messages)
	}
	if res, err := n.index.Search(t.Context(), index.Request{Query: query.All{}}); err != nil || res.Total != messages {
		t.Errorf("%+v, %v", res, err)
	}
	stop()
}

// TestAPurgeLeavesNoInterruptedRebuild, for what is purged may be in it.
func TestAPurgeLeavesNoInterruptedRebuild(t *testing.T) {
	cfg := testArchive(t)
	n, stop := runNode(t, cfg)
	importAll(t, n, 0, 5)
	for end := time.Now().Add(time.Minute); n.index.current().fresh.Load(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the index does not settle")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	n.index.arrive = func([]*document.Document, func() error) error {
		cancel()
		return errors.New("not now")
	}
	if err := n.index.rebuild(ctx, func(uint64, uint64) {}); err == nil || !n.index.gens.Begun() {
		t.Fatalf("not interrupted: %v", err)
	}
	if err := n.index.purge(t.Context(), []record.ID{record.NewID(time.Now())}); err != nil {
		t.Fatal(err)
	}
	if n.index.gens.Begun() {
		t.Error("what the rebuild left is still there")
	}
	stop()
}

// TestOtherOwnDomains: the index is built again when they change, also in the midst of a rebuild for others.
func TestOtherOwnDomains(t *testing.T) {
	cfg := testArchive(t)
	cfg.Index.OwnDomains = []string{"a.example"}
	n, stop := runNode(t, cfg)
	for _, from := range []string{"a.example", "b.example", "b.example"} {
		if _, err := n.importMessage(t.Context(), "test", nil, strings.NewReader("From: x@"+from+"\r\nTo: y@c.example\r\nSubject: s\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	outbound := query.Fact{Field: document.Direction, Op: "=", Value: "outbound"}
	count := func(n *node) uint64 {
		t.Helper()
		res, err := n.index.Search(t.Context(), index.Request{Query: outbound})
		if err != nil {
			t.Fatal(err)
		}
		return res.Total
	}
	if err := n.index.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := count(n); got != 1 {
		t.Errorf("%d outbound, want 1", got)
	}
	stop()
	if err := os.CopyFS(filepath.Join(cfg.Index.Dir, "2"), os.DirFS(filepath.Join(cfg.Index.Dir, "1"))); err != nil { // as a rebuild for a.example leaves it
		t.Fatal(err)
	}
	cfg.Index.OwnDomains = []string{"b.example"}
	n, stop = runNode(t, cfg)
	for end := time.Now().Add(time.Minute); count(n) != 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d outbound, want 2", count(n))
		}
	}
	stop()
	n, stop = runNode(t, cfg)
	if dir := n.index.current().dir; filepath.Base(dir) != "2" || n.index.current().outdated {
		t.Errorf("%s is in force, outdated: %v", dir, n.index.current().outdated)
	}
	stop()
}
