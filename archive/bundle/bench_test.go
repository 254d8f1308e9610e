package bundle_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/bundle"
)

// BenchmarkExport says how many MB of raw mail a second of CPU time exports, all formats on, and how much memory the export needs beside
// what the archive under it (here in memory) has.
func BenchmarkExport(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var bodies []string
	var raw int64
	for i := range 5000 {
		var text strings.Builder
		for size := 2000 + rng.IntN(12000); text.Len() < size; {
			for range 12 {
				fmt.Fprintf(&text, "w%x ", int(rng.ExpFloat64()*400))
			}
			text.WriteString("\r\n")
		}
		body := strings.Replace(mail(i, "a.csv"), "From here on", text.String()+"From here on", 1)
		if i%3 == 0 { // as much of real mail is attachments
			file := make([]byte, rng.IntN(60_000))
			for j := range file {
				file[j] = byte(rng.Uint32())
			}
			body = strings.Replace(body, "YSxiCjEsMgo=", lines(base64.StdEncoding.EncodeToString(file)), 1)
		}
		bodies, raw = append(bodies, body), raw+int64(len(body))
	}
	a, _, _ := open(b, bodies...)
	b.SetBytes(raw)
	dir, n := b.TempDir(), 0
	runtime.GC()
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak uint64
	cpu := cpuTime(b)
	for b.Loop() {
		n++
		export(b, a, filepath.Join(dir, fmt.Sprint(n)), bundle.Request{Fold: true}, bundle.Options{Progress: func(done, _, _ int64) {
			if done%500 == 0 {
				runtime.ReadMemStats(&during)
				peak = max(peak, during.HeapInuse)
			}
		}})
	}
	b.ReportMetric(float64(raw)*float64(n)/1e6/(cpuTime(b)-cpu).Seconds(), "MB/cpu-s")
	b.ReportMetric(float64(peak-min(peak, before.HeapInuse))/1e6, "MB-more-heap")
}

func lines(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return b.String() + s
}

// cpuTime is what this process has used.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
