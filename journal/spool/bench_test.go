package spool

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// cpu is what this process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAccept writes to the disk that holds the temporary folder. cpu-µs/msg is of the whole process, kernel included.
func BenchmarkAccept(b *testing.B) {
	for _, size := range []int{5500, 20_000} {
		for _, writers := range []int{1, 10, 32, 100} {
			b.Run(fmt.Sprintf("size=%d/writers=%d", size, writers), func(b *testing.B) {
				s, err := Open(Config{Dir: filepath.Join(b.TempDir(), "spool"), MaxBytes: 1 << 40}, Options{Node: "bench"})
				if err != nil {
					b.Fatal(err)
				}
				body := mail(1, size)
				ctx, cancel := context.WithCancel(context.Background())
				drained := make(chan struct{})
				go func() { // so that the disk does not fill; it reads no bodies
					defer close(drained)
					for tail := s.Tail(); ; {
						it, err := tail.Next(ctx)
						if err != nil {
							return
						}
						s.Release(ctx, []*record.Item{it})
					}
				}()
				b.SetBytes(int64(size))
				b.ReportAllocs()
				work := make(chan struct{}, writers)
				var wg sync.WaitGroup
				for range writers {
					wg.Go(func() {
						for range work {
							if _, err := s.Accept(ctx, journaled(), bytes.NewReader(body), AcceptOptions{}); err != nil {
								b.Error(err)
							}
						}
					})
				}
				start, used := time.Now(), cpu()
				for b.Loop() {
					work <- struct{}{}
				}
				close(work)
				wg.Wait()
				b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "msgs/s")
				b.ReportMetric(float64((cpu()-used).Microseconds())/float64(b.N), "cpu-µs/msg")
				cancel()
				<-drained
				if err := s.Close(context.Background()); err != nil {
					b.Error(err)
				}
			})
		}
	}
}

// BenchmarkTail reads what is settled, bodies included.
func BenchmarkTail(b *testing.B) {
	s, err := Open(Config{Dir: filepath.Join(b.TempDir(), "spool")}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	const n, size = 1000, 10_000
	for range n {
		if _, err := s.Accept(b.Context(), journaled(), bytes.NewReader(mail(1, size)), AcceptOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(size)
	b.ReportAllocs()
	tail := s.Tail()
	for b.Loop() {
		it, err := tail.TryNext(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if it == nil {
			tail = s.Tail()
			continue
		}
		if _, err := bodyOf(it); err != nil {
			b.Fatal(err)
		}
	}
	s.Close(b.Context())
}

// BenchmarkOpen recovers a spool of 200,000 small messages.
func BenchmarkOpen(b *testing.B) {
	cfg := Config{Dir: filepath.Join(b.TempDir(), "spool")}
	s, err := Open(cfg, Options{})
	if err != nil {
		b.Fatal(err)
	}
	const n = 200_000
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range n / 100 {
				if _, err := s.Accept(context.Background(), journaled(), bytes.NewReader(mail(1, 500)), AcceptOptions{}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.Close(b.Context())
	for b.Loop() {
		s, err := Open(cfg, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if got, _ := s.Pending(); got != n {
			b.Fatal(got)
		}
		s.Close(b.Context())
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "µs/msg")
}
