package sweep_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// BenchmarkDecide plans a purge of mail of 22 kB on one core, with policies on header and text and a hold. MB/s are of raw mail.
func BenchmarkDecide(b *testing.B) {
	for _, text := range []bool{false, true} {
		b.Run(fmt.Sprintf("body=%t", text), func(b *testing.B) {
			w := newWorld(b, false, false)
			rnd := rand.New(rand.NewPCG(1, 2))
			vocabulary := make([]string, 4000)
			for i := range vocabulary {
				vocabulary[i] = fmt.Sprintf("%x", rnd.Uint32()>>(rnd.IntN(16)))
			}
			var items []*record.Item
			raw := int64(0)
			for range 2000 {
				var t strings.Builder
				for t.Len() < 22_000 {
					for range 12 {
						t.WriteString(vocabulary[rnd.IntN(len(vocabulary))])
						t.WriteByte(' ')
					}
					t.WriteString("\r\n")
				}
				it := w.message(fmt.Sprintf("a%d@x%d.example", rnd.IntN(100), rnd.IntN(10)), t.String())
				raw += it.Envelope.Size
				items = append(items, it)
			}
			w.reopen(items...)
			w.policy("news", "from:x1.example", "10d")
			w.policy("contracts", "subject:contract", "10y")
			w.hold("h", "from:x2.example")
			if text {
				w.policy("figures", "body:figures", "10y")
			}
			w.now = w.now.AddDate(1, 0, 0)
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			b.SetBytes(raw)
			for b.Loop() {
				p, err := w.sweep.Plan(b.Context(), ada)
				if err != nil || p.Records == 0 {
					b.Fatal(p, err)
				}
			}
			b.StopTimer()
			w.must(w.close())
		})
	}
}

// BenchmarkDestroy destroys a million records that were decided on, in whole packs, and counts the calls to the store.
func BenchmarkDestroy(b *testing.B) {
	const all, atOnce = 1_000_000, 100_000
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, false, false)
		for range all / atOnce {
			items := make([]*record.Item, atOnce)
			for i := range items {
				items[i] = w.message("a@x.example", "x")
			}
			w.reopen(items...)
			clear(w.bodies)
		}
		w.now = w.now.AddDate(1, 0, 0)
		plan, err := w.sweep.Plan(b.Context(), ada)
		if err != nil || plan.Records < all {
			b.Fatal(plan, err)
		}
		var calls atomic.Int64
		w.store.(*objecttest.Memory).SetFault(func(objecttest.Op, string) objecttest.Fault {
			calls.Add(1)
			return objecttest.Fault{}
		})
		b.StartTimer()
		if _, err := w.sweep.Purge(b.Context(), ada, ""); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(float64(calls.Load()), "calls")
		b.ReportMetric(float64(len(plan.Packs)), "packs")
		w.must(w.close())
		b.StartTimer()
	}
}
