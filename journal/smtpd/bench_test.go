package smtpd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// discard is a Handler that costs next to nothing.
type discard struct{}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (d discard) Mail(context.Context, *Session, record.Path, Params) (Transaction, error) {
	return d, nil
}
func (discard) Rcpt(context.Context, record.Path) error { return nil }
func (discard) Replied(error)                           {}
func (discard) Abort()                                  {}

func (discard) Data(_ context.Context, body *Body) (*nexthop.Reply, error) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		if _, err := body.Read(buf[:]); err == io.EOF {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// BenchmarkSession is one message of 5.5 KB for each connection on the loopback, the client's work included.
func BenchmarkSession(b *testing.B) {
	address := listen(b, newServer(b, relayConfig(), discard{}))
	body := stuff(strings.Repeat(strings.Repeat("x", 68)+"\r\n", 5500/70))
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		r := bufio.NewReader(nil)
		for pb.Next() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			r.Reset(conn)
			for _, step := range []struct {
				send    string
				replies int
			}{
				{"", 1}, {"EHLO client.test\r\n", 1}, {"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@corp.test>\r\nDATA\r\n", 3}, {body, 1}, {"QUIT\r\n", 1},
			} {
				io.WriteString(conn, step.send)
				for range step.replies {
					if code, text, err := readReply(r); err != nil || code >= 400 {
						b.Errorf("%q: %s, %v", step.send, text, err)
						return
					}
				}
			}
			conn.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

// BenchmarkData is one message of 40 KB after the other on one connection of the loopback, the client's work included.
func BenchmarkData(b *testing.B) {
	address := listen(b, newServer(b, relayConfig(), discard{}))
	wire := stuff(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 40<<10/78))
	for name, send := range map[string][2]string{
		"DATA": {"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@corp.test>\r\nDATA\r\n", wire},
		"BDAT": {fmt.Sprintf("MAIL FROM:<a@client.test>\r\nRCPT TO:<b@corp.test>\r\nBDAT %d LAST\r\n%s", len(wire)-3, wire[:len(wire)-3]), ""},
	} {
		b.Run(name, func(b *testing.B) {
			c := dial(b, address)
			c.conn.SetDeadline(time.Time{})
			c.want(220)
			c.cmd("EHLO x", 250)
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				c.send(send[0])
				c.want(250)
				c.want(250)
				if send[1] != "" {
					c.want(354)
					c.send(send[1])
				}
				c.want(250)
			}
		})
	}
}
