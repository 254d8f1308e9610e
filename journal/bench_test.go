package journal

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRelay sends messages of 20 KB through session, spool and next hop, as one client and as many; the clients and the destination
// are goroutines here, and counted too.
func BenchmarkRelay(b *testing.B) {
	for _, sessions := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("%d", sessions), func(b *testing.B) { benchmarkRelay(b, sessions) })
	}
}

func benchmarkRelay(b *testing.B, sessions int) {
	destination := benchmarkDestination(b)
	cfg := config()
	cfg.Hop.NextHop = []string{destination}
	cfg.Limits.ConnectionsPerClient = 1000
	h := newHouse(b, cfg, nil)
	go func() { // as the archive does
		tail := h.spool.Tail()
		for {
			if _, err := tail.Next(b.Context()); err != nil {
				return
			}
		}
	}()
	line := "The quick brown fox jumps over the lazy dog, again and again. 0123456\r\n"
	message := []byte("MAIL FROM:<a@src.example>\r\nRCPT TO:<b@dst.example>\r\nDATA\r\n")
	body := []byte("Subject: x\r\n\r\n" + strings.Repeat(line, 20000/len(line)) + ".\r\n")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime()
	var wg sync.WaitGroup
	for n := range sessions {
		wg.Go(func() {
			c := h.client(b)
			for range (b.N + sessions - 1 - n) / sessions {
				c.Write(message)
				c.expect("250")
				c.expect("250")
				c.expect("354")
				c.Write(body)
				c.expect("250")
			}
			c.Close()
		})
	}
	wg.Wait()
	b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchmarkDestination says yes to everything, with as little work as it can.
func benchmarkDestination(b *testing.B) (address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReaderSize(c, 64<<10)
				io.WriteString(c, "220 sink\r\n")
				for {
					line, err := r.ReadSlice('\n')
					if err != nil {
						return
					}
					switch {
					case bytes.HasPrefix(line, []byte("EHLO")):
						io.WriteString(c, "250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
					case bytes.HasPrefix(line, []byte("DATA")):
						io.WriteString(c, "354 go\r\n")
						for !bytes.Equal(line, []byte(".\r\n")) {
							if line, err = r.ReadSlice('\n'); err != nil {
								return
							}
						}
						io.WriteString(c, "250 2.0.0 ok\r\n")
					default:
						io.WriteString(c, "250 2.0.0 ok\r\n")
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}
