package nexthop

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// BenchmarkRelay sends messages of 5.5 KB over loopback to a server in a goroutine, which is counted too.
func BenchmarkRelay(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go plainServer(c)
		}
	}()
	line := "The quick brown fox jumps over the lazy dog, again and again. 0123456\r\n"
	body := []byte("Subject: x\r\n\r\n" + strings.Repeat(line, 5500/len(line)))
	p := newPool(b, Options{})
	target := To(Target{Address: ln.Addr().String(), TLS: Opportunistic, Hello: "relay.example"})
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		tx := p.Begin(target, Mail{From: from})
		if err := tx.Rcpt(b.Context(), to); err != nil {
			b.Fatal(err)
		}
		tx.Data(b.Context(), trace)
		tx.Write(body)
		if reply, err := tx.Finish(b.Context()); err != nil || !reply.ok() {
			b.Fatal(reply, err)
		}
		if tx.Delivery().Outcome != record.Delivered {
			b.Fatal("not delivered")
		}
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// cpu is the processor time of this process so far.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// plainServer says yes to everything, with as little work as it can.
func plainServer(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	say := func(s string) { c.Write([]byte(s)) }
	say("220 sink\r\n")
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(line, []byte("EHLO")):
			say("250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		case bytes.HasPrefix(line, []byte("DATA")):
			say("354 go\r\n")
			for !bytes.Equal(line, []byte(".\r\n")) {
				if line, err = r.ReadSlice('\n'); err != nil {
					return
				}
			}
			say("250 2.0.0 ok\r\n")
		default:
			say("250 2.0.0 ok\r\n")
		}
	}
}
