package ledger

import (
	"fmt"
	"testing"
)

// BenchmarkAppend commits batches of realistic entries.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 300, 3000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b)
			l := w.log()
			batch := makeEntries(n, w.clock.Now())
			for b.Loop() {
				if _, err := l.Append(b.Context(), batch, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(l.last.Size)/float64(n), "B/entry")
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkVerify verifies a log of 30,000 entries.
func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	l := w.log()
	const commits, each = 30, 1000
	for range commits {
		w.append(l, each)
	}
	check(b, l.Close(b.Context()))
	for b.Loop() {
		w.clean()
	}
	b.ReportMetric(float64(b.N*commits*each)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkProof proves entries of a log of 30,000.
func BenchmarkProof(b *testing.B) {
	w := newWorld(b)
	l := w.log()
	for range 30 {
		w.append(l, 1000)
	}
	check(b, l.Close(b.Context()))
	r := w.reader()
	n := uint64(0)
	for b.Loop() {
		if _, err := r.Proof(b.Context(), n%30_000); err != nil {
			b.Fatal(err)
		}
		n += 7919
	}
}
