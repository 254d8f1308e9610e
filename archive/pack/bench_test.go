package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// corpus is real mail as records, each with a delivery. It stands beside the repository and is not part of it.
func corpus(b testing.TB) ([]*record.Item, int64) {
	dir := os.Getenv("HOLDFAST_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	messages, err := readCorpus(filepath.Join(dir, "corpus", "mail.tar.zst"))
	if err != nil {
		if os.Getenv("CI") != "" {
			b.Fatal(err)
		}
		b.Skipf("no corpus of mail: %v", err)
	}
	size := int64(0)
	items := make([]*record.Item, len(messages))
	for i, m := range messages {
		items[i] = newMessage(b, m, "delivery-1")
		size += int64(len(m))
	}
	return items, size
}

var corpusOnce struct {
	sync.Once
	messages [][]byte
	err      error
}

func readCorpus(path string) ([][]byte, error) {
	c := &corpusOnce
	c.Do(func() {
		var f *os.File
		if f, c.err = os.Open(path); c.err != nil {
			return
		}
		defer f.Close()
		dec, err := zstd.NewReader(f)
		if err != nil {
			c.err = err
			return
		}
		defer dec.Close()
		for tr := tar.NewReader(dec); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			var text []byte
			if err == nil {
				text, err = io.ReadAll(tr)
			}
			if err != nil {
				c.err = err
				return
			}
			if strings.HasSuffix(h.Name, ".eml") {
				c.messages = append(c.messages, text)
			}
		}
	})
	return c.messages, c.err
}

// TestCorpus sends real mail through: every third message of each kind, as the race detector makes it slow.
func TestCorpus(t *testing.T) {
	all, _ := corpus(t)
	var items []*record.Item
	size := int64(0)
	for i := 0; i < len(all); i += 3 {
		items = append(items, all[i])
		size += all[i].Envelope.Size
	}
	data, sum := write(t, items)
	n := 0
	if _, err := Scan(bytes.NewReader(data), nil, func(r *Record) error {
		seal, err := r.Seal()
		if want := sealOf(items[n]); seal != want {
			t.Errorf("record %d: seal %s, want %s", n, seal, want)
		}
		n++
		return err
	}); err != nil || n != len(items) {
		t.Fatalf("%d of %d: %v", n, len(items), err)
	}
	ratio := float64(size) / float64(sum.Size)
	t.Logf("%d messages, %d bytes of mail in %d: 1 : %.2f", n, size, sum.Size, ratio)
	if ratio < 3 {
		t.Errorf("compressed 1 : %.2f", ratio)
	}
}

func benchmarkRecipients(b *testing.B, f func(b *testing.B, recipients []age.Recipient, ids ...age.Identity)) {
	b.Run("plain", func(b *testing.B) { f(b, nil) })
	key := identity(b)
	b.Run("age", func(b *testing.B) { f(b, []age.Recipient{key.Recipient()}, key) })
}

// BenchmarkWriter packs mail. MB/s and ratio are of the mail alone, without envelopes and tar headers.
func BenchmarkWriter(b *testing.B) {
	items, size := corpus(b)
	benchmarkRecipients(b, func(b *testing.B, recipients []age.Recipient, _ ...age.Identity) {
		b.SetBytes(size)
		b.ReportAllocs()
		var sum *Summary
		for b.Loop() {
			w, err := NewWriter(io.Discard, Options{Recipients: recipients})
			for i := 0; err == nil && i < len(items); i++ {
				err = w.Add(items[i])
			}
			if err == nil {
				sum, err = w.Close()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(size)/float64(sum.Size), "ratio")
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(items)), "µs/message")
	})
}

// BenchmarkLevels is the choice of level: frames of 1 MiB of real mail and envelopes.
func BenchmarkLevels(b *testing.B) {
	items, size := corpus(b)
	data, _ := write(b, items)
	raw, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<30))
	if err != nil {
		b.Fatal(err)
	}
	joined, err := raw.DecodeAll(data, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, l := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression} {
		b.Run(l.String(), func(b *testing.B) {
			enc := must(zstd.NewWriter(nil, append(encoderOptions(), zstd.WithEncoderLevel(l))...))
			b.SetBytes(size)
			stored := 0
			for b.Loop() {
				stored = 0
				for rest := joined; len(rest) > 0; rest = rest[min(len(rest), frameSize):] {
					stored += len(enc.EncodeAll(rest[:min(len(rest), frameSize)], nil))
				}
			}
			b.ReportMetric(float64(size)/float64(stored), "ratio")
		})
	}
}

// BenchmarkScan reads packs through, as verify does. MB/s are of the mail alone.
func BenchmarkScan(b *testing.B) {
	items, size := corpus(b)
	for name, use := range map[string]func(*Record) error{
		"seal": func(r *Record) error { _, err := r.Seal(); return err },
		"item": func(r *Record) error { _, err := r.Item(); return err },
	} {
		b.Run(name, func(b *testing.B) {
			benchmarkRecipients(b, func(b *testing.B, recipients []age.Recipient, ids ...age.Identity) {
				data, _ := write(b, items, recipients...)
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Scan(bytes.NewReader(data), ids, use); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkRead reads single records, from packs that are open.
func BenchmarkRead(b *testing.B) {
	items, _ := corpus(b)
	benchmarkRecipients(b, func(b *testing.B, recipients []age.Recipient, ids ...age.Identity) {
		data, sum := write(b, items, recipients...)
		src := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data[off : off+n])), nil
		}
		p, err := Open(b.Context(), src, int64(len(data)), ids...)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i = (i + 997) % len(items) {
			if _, err := p.Read(b.Context(), sum.Records[i].Place, items[i].ID, ""); err != nil {
				b.Fatal(err)
			}
		}
	})
}
