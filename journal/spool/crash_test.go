package spool

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

const childEnv = "HOLDFAST_SPOOL_CHILD"

// TestMain runs the test binary as the process that TestKill kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child puts messages in as fast as it can and prints the id and the digest of each that is in custody, and what it has released.
func child(dir string) {
	s, err := Open(testConfig(dir), Options{Node: "child", idleDelay: 20 * time.Millisecond})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	var out sync.Mutex
	say := func(word string, id record.ID, rest any) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(word, id, rest)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(w)))
			for {
				body := mail(rng.Uint64(), 20+rng.IntN(8000))
				env := journaled()
				if rng.IntN(2) == 0 {
					env = relayed()
				}
				id, err := s.Accept(context.Background(), env, bytes.NewReader(body), AcceptOptions{})
				if err != nil {
					say("error", id, err)
					return
				}
				say("custody", id, record.Sum(body))
				if env.Mode == record.ModeRelay && s.AppendSoon(delivered(id)) != nil {
					return
				}
			}
		})
	}
	wg.Go(func() {
		for tail := s.Tail(); ; {
			it, err := tail.Next(context.Background())
			if err != nil {
				return
			}
			if it.Seq%3 != 0 || it.Drop != nil {
				continue
			}
			say("released", it.ID, it.Seq)
			if err := s.Release(context.Background(), []*record.Item{it}); err != nil {
				say("error", it.ID, err)
			}
		}
	})
	wg.Wait()
}

// A process is killed under load, again and again, each time in the folder that the last one left.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	const rounds = 10
	custody, released := map[string]string{}, map[string]bool{}
	seqs := map[string]uint64{} // of what was seen released
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killAfter := 50 + round*37
		lines := bufio.NewScanner(pipe)
		for n := 0; lines.Scan(); n++ {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			id, value, whole := strings.Cut(rest, " ")
			switch {
			case word == "error":
				t.Error(lines.Text())
			case word == "custody" && whole && len(value) == 64:
				custody[id] = value
			case word == "released":
				released[id] = true
				if seq, _ := strconv.ParseUint(value, 10, 64); seq != 0 {
					seqs[id] = seq
				}
			}
			if n == killAfter {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()

		opt, alarms := simOptions(osFS{})
		s := mustOpen(t, testConfig(dir), opt)
		have := map[string]bool{}
		items := all(t, s)
		for _, it := range items {
			if err := checkItem(it); err != nil {
				t.Error(err)
			}
			if it.Drop != nil {
				t.Errorf("round %d: dropped: %+v", round, it.Drop)
			}
			if it.Kind != record.KindMessage {
				continue
			}
			if want := custody[it.ID.String()]; want != "" && want != it.Envelope.SHA256.String() {
				t.Errorf("%s is another", it.ID)
			}
			have[it.ID.String()] = true
		}
		numbered := slices.Clone(items)
		for id, seq := range seqs {
			if !have[id] {
				numbered = append(numbered, &record.Item{Kind: record.KindMessage, Seq: seq})
			}
		}
		if err := checkNumbers(numbered, 1, s.Newest()); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		for id := range custody {
			if !have[id] && !released[id] {
				t.Errorf("round %d: %s was in custody and is lost", round, id)
			}
		}
		// What is not released stays; every other time the rest goes too.
		if round%2 == 1 {
			for _, it := range items {
				released[it.ID.String()] = true
				if it.Seq != 0 {
					seqs[it.ID.String()] = it.Seq
				}
			}
			if err := s.Release(t.Context(), items); err != nil {
				t.Error(err)
			}
		}
		mustClose(t, s)
		if a := alarms.all(); len(a) > 0 {
			t.Errorf("round %d: %q", round, a)
		}
	}
	if len(custody) < rounds*10 {
		t.Errorf("%d messages in %d rounds", len(custody), rounds)
	}
}

// Every power cut on a spool that many use at once: what was acknowledged by then is there.
func TestPowerCutUnderLoad(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 7))
		fs := newSimFS()
		at := 20 + rng.IntN(300)
		fs.fault = func(n int, _, _ string) fault { return fault{crash: n == at} }
		opt, _ := simOptions(fs)
		s, err := Open(testConfig("/s"), opt)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		j := newJob()
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for i := range 100 {
					body := mail(seed<<20|uint64(w*1000+i), 20+(w*977+i*131)%6000)
					env := journaled()
					if i%2 == 0 {
						env = relayed()
					}
					id, err := s.Accept(context.Background(), env, bytes.NewReader(body), AcceptOptions{})
					if err != nil {
						return
					}
					mu.Lock()
					j.acked[id] = record.Sum(body)
					mu.Unlock()
					if env.Mode == record.ModeRelay {
						s.AppendSoon(delivered(id))
					}
				}
			})
		}
		wg.Wait()
		if err := s.Close(context.Background()); err == nil || !errors.Is(err, errCrashed) {
			t.Fatalf("seed %d: %v after %d calls", seed, err, fs.calls)
		}
		for torn := range uint64(3) {
			cut := fs.after(nil)
			if torn > 0 {
				cut = fs.after(rand.New(rand.NewPCG(seed, torn)))
			}
			if err := j.check(cut, false); err != nil {
				t.Fatalf("seed %d, %d: %v", seed, torn, err)
			}
		}
	}
}
