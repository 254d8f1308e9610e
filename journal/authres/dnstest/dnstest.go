// Package dnstest is a small DNS server for tests: it answers from what a test sets, by UDP and TCP, and can be slow, wrong or silent.
package dnstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Server answers on a loopback address. Safe for concurrent use.
type Server struct {
	Addr string // IP:PORT

	udp net.PacketConn
	tcp net.Listener

	mu      sync.Mutex
	records map[key][]string
	rcodes  map[string]dnsmessage.RCode
	silent  map[string]bool
	asked   map[string]int
	delay   time.Duration
	garble  func(answer []byte) [][]byte
	ttl     uint32
}

type key struct {
	name string // lower case, with its last dot
	typ  dnsmessage.Type
}

var types = map[string]dnsmessage.Type{
	"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "CNAME": dnsmessage.TypeCNAME, "MX": dnsmessage.TypeMX, "PTR": dnsmessage.TypePTR, "TXT": dnsmessage.TypeTXT,
}

// New starts a server that the test ends.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{records: map[key][]string{}, rcodes: map[string]dnsmessage.RCode{}, silent: map[string]bool{}, asked: map[string]int{}, ttl: 300}
	var err error
	for range 20 { // until a port is free for both
		if s.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		s.Addr = s.udp.LocalAddr().String()
		if s.tcp, err = net.Listen("tcp", s.Addr); err == nil {
			break
		}
		s.udp.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.udp.Close()
		s.tcp.Close()
	})
	go s.serveUDP()
	go s.serveTCP()
	return s
}

// Set gives a name records of a type, as in a zone file without quotes: "10 mx.example.". A TXT value is cut into strings of 255 bytes.
func (s *Server) Set(name, typ string, values ...string) {
	if types[typ] == 0 {
		panic("dnstest: type " + typ)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[key{canonical(name), types[typ]}] = values
}

// Clear takes away everything that was set.
func (s *Server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.records)
	clear(s.rcodes)
	clear(s.silent)
}

// Fail answers questions for a name with SERVFAIL.
func (s *Server) Fail(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcodes[canonical(name)] = dnsmessage.RCodeServerFailure
}

// Silence does not answer questions for a name; for "." any.
func (s *Server) Silence(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent[canonical(name)] = true
}

// Delay has every answer wait.
func (s *Server) Delay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// Garble has each answer by UDP replaced by the datagrams that f makes of it.
func (s *Server) Garble(f func(answer []byte) [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.garble = f
}

// Asked is how often a name was asked for; for "." how often anything.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[canonical(name)]
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }

func (s *Server) serveUDP() {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		query := append([]byte(nil), buf[:n]...)
		go func() {
			answer, err := s.answer(query, true)
			if err != nil || answer == nil {
				return
			}
			s.mu.Lock()
			garble := s.garble
			s.mu.Unlock()
			list := [][]byte{answer}
			if garble != nil {
				list = garble(answer)
			}
			for _, b := range list {
				s.udp.WriteTo(b, from)
			}
		}()
	}
}

func (s *Server) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, query); err != nil {
				return
			}
			if answer, err := s.answer(query, false); err == nil && answer != nil {
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}()
	}
}

// answer makes the answer to a query; nil: none is given.
func (s *Server) answer(query []byte, udp bool) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil, errors.Join(err, errors.New("not a query"))
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	p.SkipAllQuestions()
	p.SkipAllAnswers()
	p.SkipAllAuthorities()
	limit := 512
	if opt, err := p.AdditionalHeader(); err == nil && opt.Type == dnsmessage.TypeOPT {
		limit = int(opt.Class)
	}
	name := canonical(q.Name.String())
	s.mu.Lock()
	s.asked[name]++
	s.asked["."]++
	delay, silent, rcode := s.delay, s.silent[name] || s.silent["."], s.rcodes[name]
	s.mu.Unlock()
	time.Sleep(delay)
	if silent {
		return nil, nil
	}
	msg := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: h.ID, Response: true, RecursionDesired: true, RecursionAvailable: true, AuthenticData: h.AuthenticData, RCode: rcode},
		Questions: []dnsmessage.Question{q},
	}
	if rcode == 0 {
		if err := s.fill(&msg, name, q.Type); err != nil {
			return nil, err
		}
	}
	b, err := msg.Pack()
	if err == nil && udp && len(b) > limit {
		msg.Truncated, msg.Answers = true, nil
		b, err = msg.Pack()
	}
	return b, err
}

// fill puts the records in, aliases first.
func (s *Server) fill(msg *dnsmessage.Message, name string, typ dnsmessage.Type) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 10 {
		known := false
		for k := range s.records {
			known = known || k.name == name
		}
		if !known {
			msg.RCode = dnsmessage.RCodeNameError
			return nil
		}
		alias := s.records[key{name, dnsmessage.TypeCNAME}]
		list, as := s.records[key{name, typ}], typ
		if len(list) == 0 {
			list, as = alias, dnsmessage.TypeCNAME
		}
		for _, value := range list {
			owner, err := dnsmessage.NewName(name)
			if err != nil {
				return err
			}
			body, err := resource(as, value)
			if err != nil {
				return fmt.Errorf("%s %s: %w", name, value, err)
			}
			msg.Answers = append(msg.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: owner, Type: as, Class: dnsmessage.ClassINET, TTL: s.ttl}, Body: body,
			})
		}
		if as == typ || len(alias) == 0 {
			return nil
		}
		name = canonical(alias[0])
	}
	msg.RCode, msg.Answers = dnsmessage.RCodeServerFailure, nil
	return nil
}

func resource(typ dnsmessage.Type, value string) (dnsmessage.ResourceBody, error) {
	switch typ {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		ip, err := netip.ParseAddr(value)
		if err != nil {
			return nil, err
		}
		if typ == dnsmessage.TypeA {
			return &dnsmessage.AResource{A: ip.As4()}, nil
		}
		return &dnsmessage.AAAAResource{AAAA: ip.As16()}, nil
	case dnsmessage.TypeTXT:
		var list []string
		for len(value) > 255 {
			list, value = append(list, value[:255]), value[255:]
		}
		return &dnsmessage.TXTResource{TXT: append(list, value)}, nil
	}
	pref := uint16(0)
	if typ == dnsmessage.TypeMX {
		number, host, _ := strings.Cut(value, " ")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return nil, err
		}
		pref, value = uint16(n), host
	}
	host, err := dnsmessage.NewName(strings.TrimSuffix(value, ".") + ".")
	if err != nil {
		return nil, err
	}
	switch typ {
	case dnsmessage.TypeMX:
		return &dnsmessage.MXResource{Pref: pref, MX: host}, nil
	case dnsmessage.TypePTR:
		return &dnsmessage.PTRResource{PTR: host}, nil
	}
	return &dnsmessage.CNAMEResource{CNAME: host}, nil
}
