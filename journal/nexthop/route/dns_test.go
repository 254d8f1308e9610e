package route

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dns is a small name server on loopback, over UDP and TCP.
type dns struct {
	t     *testing.T
	udp   net.PacketConn
	mu    sync.Mutex
	zone  map[string][]dnsmessage.Resource // by name, with a dot at the end
	rcode map[string]dnsmessage.RCode      // for all questions of a name, instead of an answer
	mute  map[string]bool                  // no answer at all
	asked []string
}

// newDNS starts one and gives a resolver that asks it.
func newDNS(t *testing.T) (*dns, *net.Resolver) {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	for range 20 { // the port may be taken for TCP
		var err error
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			break
		}
		udp.Close()
	}
	if tcp == nil {
		t.Fatal("no port that is free for UDP and TCP")
	}
	s := &dns{t: t, udp: udp, zone: map[string][]dnsmessage.Resource{}, rcode: map[string]dnsmessage.RCode{}, mute: map[string]bool{}}
	var wg sync.WaitGroup
	wg.Go(s.serveUDP)
	wg.Go(func() { s.serveTCP(tcp) })
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		wg.Wait()
	})
	return s, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, udp.LocalAddr().String())
	}}
}

// fail answers all questions of a name with a code, silence with nothing.
func (s *dns) fail(name string, code dnsmessage.RCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcode[name] = code
}

func (s *dns) silence(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute[name] = true
}

// questions are those asked so far, as "MX example.com.".
func (s *dns) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *dns) serveUDP() {
	b := make([]byte, 4096)
	for {
		n, from, err := s.udp.ReadFrom(b)
		if err != nil {
			return
		}
		if answer := s.answer(b[:n], 512); answer != nil {
			s.udp.WriteTo(answer, from)
		}
	}
}

func (s *dns) serveTCP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err == nil {
			b := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, b); err == nil {
				if answer := s.answer(b, 65535); answer != nil {
					c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
				}
			}
		}
		c.Close()
	}
}

// answer is what a recursive resolver says: CNAMEs are followed within the zone.
func (s *dns) answer(query []byte, limit int) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.ToLower(q.Name.String())
	s.asked = append(s.asked, strings.TrimPrefix(q.Type.String(), "Type")+" "+name)
	if s.mute[name] {
		return nil
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, RecursionAvailable: true, RecursionDesired: true},
		Questions: []dnsmessage.Question{q},
	}
	for range 8 {
		if code, ok := s.rcode[name]; ok {
			m.RCode = code
			break
		}
		records, ok := s.zone[name]
		if !ok {
			m.RCode = dnsmessage.RCodeNameError
			break
		}
		next := ""
		for _, r := range records {
			r.Header.Class, r.Header.TTL = dnsmessage.ClassINET, 60
			if c, isAlias := r.Body.(*dnsmessage.CNAMEResource); isAlias {
				next = c.CNAME.String()
			} else if r.Header.Type != q.Type {
				continue
			}
			m.Answers = append(m.Answers, r)
		}
		if next == "" {
			break
		}
		name = next
	}
	b, err := m.Pack()
	if err != nil {
		s.t.Errorf("pack: %v", err)
		return nil
	}
	if len(b) > limit {
		m.Answers, m.Truncated = nil, true
		b, _ = m.Pack()
	}
	return b
}

// add reads records as people write them: "example.com MX 10 mx.example.com", "A 192.0.2.1", "AAAA …", "CNAME …".
func (s *dns) add(lines ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range lines {
		f := strings.Fields(line)
		name := f[0] + "."
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name)}}
		switch f[1] {
		case "MX":
			var pref uint16
			for _, c := range f[2] {
				pref = pref*10 + uint16(c-'0')
			}
			host := f[3]
			if host != "." {
				host += "."
			}
			r.Header.Type, r.Body = dnsmessage.TypeMX, &dnsmessage.MXResource{Pref: pref, MX: dnsmessage.MustNewName(host)}
		case "A":
			r.Header.Type, r.Body = dnsmessage.TypeA, &dnsmessage.AResource{A: [4]byte(net.ParseIP(f[2]).To4())}
		case "AAAA":
			r.Header.Type, r.Body = dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: [16]byte(net.ParseIP(f[2]))}
		case "CNAME":
			r.Header.Type, r.Body = dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(f[2] + ".")}
		case "TXT":
			r.Header.Type, r.Body = dnsmessage.TypeTXT, &dnsmessage.TXTResource{TXT: f[2:]}
		default:
			s.t.Fatalf("what is %q?", line)
		}
		s.zone[name] = append(s.zone[name], r)
	}
}
