package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The benchmarks run the program as it is released, without the race detector:
//
//	go test ./cmd/holdfast/e2e -run '^$' -bench . -benchtime 1x
func release(b *testing.B) {
	b.Helper()
	dir := b.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "holdfast"), "..")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v: %s", err, out)
	}
	before := binary
	binary = filepath.Join(dir, "holdfast")
	b.Cleanup(func() { binary = before })
}

// diskUse adds up what a folder takes, in bytes.
func diskUse(b *testing.B, dir string) (n int64) {
	b.Helper()
	if err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkCorpus sends all of the real mail at 20 sessions with packs sealed as by default, and tells what is stored and indexed of a
// byte of mail, and what rebuilding the index costs.
func BenchmarkCorpus(b *testing.B) {
	release(b)
	mails, load := corpus(b, "mail"), loader(b)
	for b.Loop() {
		sink := startSink(b)
		h := install(b, settings{mode: "relay", nextHop: sink.port})
		h.setSealAfter("1m")
		h.start()
		out, err := exec.Command(load, "-addr", fmt.Sprintf("127.0.0.1:%d", h.smtp), "-dir", mails, "-c", "20", "-tag", "bench", "-per-conn", "0").CombinedOutput()
		if err != nil {
			b.Fatalf("load: %v: %s", err, out)
		}
		until(b, 5*time.Minute, "all is indexed", func() bool {
			lag, ok := h.metric("holdfast_index_lag_entries")
			return ok && lag == 0
		})
		h.stop()
		n := float64(len(files(b, mails)))
		archive := filepath.Join(h.dir, "data", "archive")
		b.ReportMetric(float64(diskUse(b, filepath.Join(archive, "ledger")))/n, "ledger-B/msg")
		report, _ := h.verify()
		if !report.OK {
			b.Fatalf("verify: %+v", report)
		}
		b.ReportMetric(float64(report.Raw)/float64(diskUse(b, archive)), "raw/stored")
		b.ReportMetric(100*float64(diskUse(b, filepath.Join(h.dir, "data", "index")))/float64(report.Raw), "index-%")
		if err := os.RemoveAll(filepath.Join(h.dir, "data", "index")); err != nil {
			b.Fatal(err)
		}
		rebuild := h.command("rebuild")
		if out, err := rebuild.CombinedOutput(); err != nil {
			b.Fatalf("rebuild: %v: %s", err, out)
		}
		b.ReportMetric(n/cpuSeconds(rebuild), "rebuild-docs/cpu-s")
	}
}

func cpuSeconds(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}

// BenchmarkFreshness tells how long it takes from the acknowledgement until a message is found, with little mail and with much.
func BenchmarkFreshness(b *testing.B) {
	release(b)
	for _, rate := range []int{1, 200} {
		b.Run(fmt.Sprintf("%dmsg-s", rate), func(b *testing.B) {
			for b.Loop() {
				sink := startSink(b)
				h := install(b, settings{mode: "relay", nextHop: sink.port})
				h.start()
				waits := measureFreshness(b, h, rate, 10*time.Second)
				h.stop()
				slices.Sort(waits)
				b.ReportMetric(waits[len(waits)/2].Seconds(), "p50-s")
				b.ReportMetric(waits[len(waits)-1].Seconds(), "max-s")
			}
		})
	}
}

// measureFreshness sends at a steady rate and looks for one message a second until it is found.
func measureFreshness(b *testing.B, h *holdfast, rate int, d time.Duration) (waits []time.Duration) {
	b.Helper()
	c, err := dialSMTP(h.smtp)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var mu sync.Mutex
	var wg sync.WaitGroup
	body := strings.Repeat("the quick brown fox jumps over the lazy dog, again and again\r\n", 80)
	ticks := time.NewTicker(time.Second / time.Duration(rate))
	defer ticks.Stop()
	for i := range rate * int(d/time.Second) {
		<-ticks.C
		m := fmt.Appendf(nil, "From: a@client.test\r\nTo: b@dest.test\r\nSubject: number %d\r\nMessage-ID: <%d@bench.test>\r\n\r\n%s", i, i, body)
		reply, err := c.send("a@client.test", []string{"b@dest.test"}, m)
		if err != nil || reply[0] != '2' {
			b.Fatalf("send: %q, %v", reply, err)
		}
		if i%rate != 0 {
			continue
		}
		acked := time.Now()
		sum := sha256.Sum256(m)
		wg.Go(func() {
			until(b, 30*time.Second, "a message is found", func() bool {
				_, total := h.api("sha256:" + hex.EncodeToString(sum[:]))
				if total == 0 {
					time.Sleep(100 * time.Millisecond) // each search is an act: not too many
				}
				return total == 1
			})
			mu.Lock()
			waits = append(waits, time.Since(acked))
			mu.Unlock()
		})
	}
	wg.Wait()
	return waits
}

// BenchmarkSessions tells the most memory that the relay takes while 100 sessions send 25 MB each.
func BenchmarkSessions(b *testing.B) {
	release(b)
	big := append([]byte("Subject: big\r\n\r\n"), bytes.Repeat([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"), 25<<20/64)...)
	for b.Loop() {
		sink := startSink(b)
		h := install(b, settings{mode: "relay", nextHop: sink.port})
		h.start()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				c, err := dialSMTP(h.smtp)
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(5 * time.Minute))
				if reply, err := c.send("a@client.test", []string{"b@dest.test"}, big); err != nil || reply[0] != '2' {
					b.Errorf("send: %q, %v", reply, err)
				}
			})
		}
		wg.Wait()
		h.settle()
		b.ReportMetric(float64(h.peakMemory())/1e6, "peak-RSS-MB")
		h.stop()
	}
}

// peakMemory is the most resident memory that the server has had, in bytes (proc(5), VmHWM).
func (h *holdfast) peakMemory() int64 {
	h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.proc.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kb int64
			fmt.Sscan(rest, &kb)
			return kb << 10
		}
	}
	h.t.Fatal("no VmHWM")
	return 0
}
