package archive_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// BenchmarkVerify reads an archive of 40,000 messages of some 8 KB of text in a folder, with every record checked, and tells how many bytes
// of mail a second of CPU time verifies.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	store, err := object.MakeFile(filepath.Join(dir, "store"))
	if err != nil {
		b.Fatal(err)
	}
	cfg := config()
	cfg.SealAfter, cfg.SealSize = time.Minute, archive.DefaultSealSize
	_, keys, err := archive.Create(b.Context(), archive.InitOptions{Config: cfg, Store: store, KeysDir: filepath.Join(dir, "keys"), Now: time.Now()})
	if err != nil {
		b.Fatal(err)
	}
	a, err := archive.Open(b.Context(), archive.Options{Config: cfg, Store: store, Keys: keys, DataDir: filepath.Join(dir, "data"), Now: time.Now,
		Log: slog.New(slog.DiscardHandler), Expiry: func(*record.Item) time.Time { return time.Time{} }})
	if err != nil {
		b.Fatal(err)
	}
	c := newCustody(b)
	var raw int64
	rng := rand.New(rand.NewPCG(1, 2))
	for seq := range uint64(40_000) {
		body := mailText(rng)
		raw += int64(len(body))
		c.put(message(seq+1, body))
	}
	drain := make(chan struct{})
	close(drain)
	start, cpu := time.Now(), cpuTime(b)
	if err := a.Run(b.Context(), c, drain); err != nil {
		b.Fatal(err)
	}
	b.Logf("archived %d MB in %v, %.0f µs of CPU a message", raw/1e6, time.Since(start), float64((cpuTime(b)-cpu).Microseconds())/40_000)
	if err := a.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	c = nil
	runtime.GC()
	b.SetBytes(raw)
	cpu = cpuTime(b)
	n := 0
	for b.Loop() {
		n++
		r, err := archive.Verify(b.Context(), archive.VerifyOptions{Store: store, Keys: keys, Full: true})
		if err != nil || !r.OK || r.Records != 40_000 {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(float64(raw)*float64(n)/1e6/(cpuTime(b)-cpu).Seconds(), "MB/cpu-s")
}

// mailText makes a message of words as frequent as words are, so that it compresses as mail does.
func mailText(rng *rand.Rand) []byte {
	var m bytes.Buffer
	fmt.Fprintf(&m, "From: a%d@example.com\r\nSubject: %x\r\n\r\n", rng.IntN(100), rng.Uint64())
	for size := 2000 + rng.IntN(12000); m.Len() < size; {
		for range 12 {
			fmt.Fprintf(&m, "w%x ", int(rng.ExpFloat64()*400))
		}
		m.WriteString("\r\n")
	}
	return m.Bytes()
}

// cpuTime is the user and system time of this process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
