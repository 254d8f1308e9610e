package nexthop

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// script is a server that says what it was given, whatever it is told, and remembers that.
type script struct {
	net.Conn // nil: what is not below is not asked for
	says     *strings.Reader
	told     bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)       { return s.says.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.told.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25} }

// FuzzServer has servers say anything. Nothing of it ends in a panic; a delivery was told the end of the message, and a recipient is only
// delivered to with a 2xx behind that; and what is put down is whole.
func FuzzServer(f *testing.F) {
	const ok = "220 hop\r\n250-hop\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n250 ok\r\n"
	for _, policy := range []Policy{None, Opportunistic, Required} {
		for kind := range 4 {
			f.Add(ok, string(policy), kind)
			f.Add("220 hop\r\n250 hop\r\n250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n250 ok\r\n", string(policy), kind)
			f.Add("220 hop\r\n502 what\r\n250 hop\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n421 bye\r\n", string(policy), kind)
		}
	}
	f.Fuzz(func(t *testing.T, says, policy string, kind int) {
		var conns []*script
		p := New(Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			if len(conns) == 4 {
				return nil, io.ErrClosedPipe
			}
			conns = append(conns, &script{says: strings.NewReader(says)})
			return conns[len(conns)-1], nil
		}})
		defer p.Close()
		target := Target{Address: "hop.test:25", TLS: Policy(policy), Hello: "relay.example", LMTP: kind&1 != 0}
		second := target
		second.Address = "hip.test:25"
		body := "Subject: x\r\n\r\n.text\r\n"
		s := sendTo(t.Context(), p, To(target, second), Mail{From: from, BareNewlines: kind&2 != 0}, []record.Path{to, other}, body)
		if s.d == nil {
			return
		}
		ended := 0
		for _, c := range conns {
			if told := c.told.String(); strings.Contains(told, "\r\n.\r\n") || strings.Contains(told, " LAST\r\n") {
				ended++
			}
		}
		if ended > 1 || ended == 0 && s.d.Outcome != record.Refused {
			t.Errorf("%s, and the end of the message was told %d times", s.d.Outcome, ended)
		}
		if s.err == nil && s.reply == nil || len(s.d.Recipients) != 2 {
			t.Errorf("%v %v %+v", s.reply, s.err, s.d)
		}
		for _, r := range s.d.Recipients {
			if (r.Outcome == record.Delivered) != (r.Code/100 == 2) || r.Outcome == record.Delivered && s.d.Outcome != record.Delivered || r.Time.IsZero() {
				t.Errorf("%+v of %+v", r, s.d)
			}
		}
	})
}
