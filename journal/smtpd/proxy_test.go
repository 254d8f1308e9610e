package smtpd

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// proxyHeader makes a header of version 2.
func proxyHeader(command, family byte, addresses []byte, fields ...[]byte) string {
	body := append(bytes.Clone(addresses), bytes.Join(fields, nil)...)
	h := append([]byte(proxyV2), command, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(body)))
	return string(append(h, body...))
}

func proxyField(kind byte, value string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

var (
	proxy4 = []byte{192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 25}
	proxy6 = append(append(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("::1").AsSlice()...), 0x12, 0x34, 0, 25)
)

// withSum adds a checksum to a header, whose last field it becomes.
func withSum(command, family byte, addresses []byte, wrong byte) string {
	h := []byte(proxyHeader(command, family, addresses, proxyField(0x03, "\x00\x00\x00\x00")))
	sum := crc32.Checksum(h, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(h[len(h)-4:], sum)
	h[len(h)-1] ^= wrong
	return string(h)
}

var proxyHeaders = map[string]struct {
	header string
	client string // "": whom nobody knows; "-": refused
}{
	"v1 TCP4":          {"PROXY TCP4 192.0.2.7 127.0.0.1 4660 25\r\n", "192.0.2.7:4660"},
	"v1 TCP6":          {"PROXY TCP6 2001:db8::7 ::1 4660 25\r\n", "[2001:db8::7]:4660"},
	"v1 TCP6 of IPv4":  {"PROXY TCP6 ::ffff:192.0.2.7 ::1 4660 25\r\n", "[::ffff:192.0.2.7]:4660"},
	"v1 UNKNOWN":       {"PROXY UNKNOWN\r\n", ""},
	"v1 UNKNOWN, more": {"PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 2\r\n", ""},
	"v1 longest":       {"PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", ""},
	"v1 too long":      {"PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", "-"},
	"v1 bare LF":       {"PROXY TCP4 192.0.2.7 127.0.0.1 4660 25\n", "-"},
	"v1 no end":        {"PROXY TCP4 " + strings.Repeat("1", 200), "-"},
	"v1 wrong family":  {"PROXY TCP4 2001:db8::7 ::1 4660 25\r\n", "-"},
	"v1 UDP":           {"PROXY UDP4 192.0.2.7 127.0.0.1 4660 25\r\n", "-"},
	"v1 port":          {"PROXY TCP4 192.0.2.7 127.0.0.1 65536 25\r\n", "-"},
	"v1 port 0x":       {"PROXY TCP4 192.0.2.7 127.0.0.1 0660 25\r\n", "-"},
	"v1 signed port":   {"PROXY TCP4 192.0.2.7 127.0.0.1 +660 25\r\n", "-"},
	"v1 two blanks":    {"PROXY TCP4  192.0.2.7 127.0.0.1 4660 25\r\n", "-"},
	"v1 more fields":   {"PROXY TCP4 192.0.2.7 127.0.0.1 4660 25 x\r\n", "-"},
	"v1 lower case":    {"proxy TCP4 192.0.2.7 127.0.0.1 4660 25\r\n", "-"},
	"v1 zone":          {"PROXY TCP6 fe80::1%eth0 ::1 4660 25\r\n", "-"},
	"v1 octal":         {"PROXY TCP4 192.0.02.7 127.0.0.1 4660 25\r\n", "-"},
	"v2 TCP4":          {proxyHeader(0x21, 0x11, proxy4), "192.0.2.7:4660"},
	"v2 TCP6":          {proxyHeader(0x21, 0x21, proxy6), "[2001:db8::7]:4660"},
	"v2 LOCAL":         {proxyHeader(0x20, 0x00, nil), ""},
	"v2 LOCAL, more":   {proxyHeader(0x20, 0x11, proxy4), ""},
	"v2 UNSPEC":        {proxyHeader(0x21, 0x00, []byte("what is this")), ""},
	"v2 unix":          {proxyHeader(0x21, 0x31, make([]byte, 216)), ""},
	"v2 fields":        {proxyHeader(0x21, 0x11, proxy4, proxyField(0x01, "h2"), proxyField(0x20, "\x01\x00\x00\x00\x00"), proxyField(0xEA, strings.Repeat("x", 2000))), "192.0.2.7:4660"},
	"v2 checksum":      {withSum(0x21, 0x11, proxy4, 0), "192.0.2.7:4660"},
	"v2 wrong sum":     {withSum(0x21, 0x11, proxy4, 1), "-"},
	"v2 short sum":     {proxyHeader(0x21, 0x11, proxy4, proxyField(0x03, "\x00")), "-"},
	"v2 half a field":  {proxyHeader(0x21, 0x11, proxy4, []byte{1, 0}), "-"},
	"v2 field too far": {proxyHeader(0x21, 0x11, proxy4, []byte{1, 0, 9, 'x'}), "-"},
	"v2 cut short":     {proxyHeader(0x21, 0x11, proxy4[:11]), "-"},
	"v2 UDP":           {proxyHeader(0x21, 0x12, proxy4), "-"},
	"v2 version 1":     {proxyHeader(0x11, 0x11, proxy4), "-"},
	"v2 command":       {proxyHeader(0x22, 0x11, proxy4), "-"},
	"v2 too long":      {proxyHeader(0x21, 0x11, proxy4, proxyField(0xEA, strings.Repeat("x", 5000))), "-"},
	"v2 bad signature": {"\r\n\r\n\x00\r\nQUIT\r", "-"},
	"none":             {"EHLO x\r\n", "-"},
	"TLS":              {"\x16\x03\x01\x02\x00", "-"},
}

func TestParseProxy(t *testing.T) {
	for name, tc := range proxyHeaders {
		const rest = "EHLO"
		whole := tc.header + rest
		for cut := 0; cut <= len(whole); cut++ {
			p, n, err := parseProxy([]byte(whole[:cut]))
			switch {
			case tc.client == "-":
				if n > 0 && err == nil {
					t.Fatalf("%s: taken as %v", name, p.client)
				}
				if cut == len(whole) && err == nil {
					t.Errorf("%s: more is waited for", name)
				}
				continue
			case cut < len(tc.header):
				if n != 0 || err != nil {
					t.Fatalf("%s: after %d bytes: %d, %v", name, cut, n, err)
				}
				continue
			}
			want := tc.client
			if want == "" {
				want = "invalid AddrPort"
			}
			if err != nil || n != len(tc.header) || p.client.String() != want {
				t.Errorf("%s: %v, %d, %v", name, p.client, n, err)
			}
		}
	}
}

// TestProxy: the client that the header names is the one that counts, and who must send one can't do without.
func TestProxy(t *testing.T) {
	for name, tc := range proxyHeaders {
		t.Run(name, func(t *testing.T) {
			cfg := relayConfig()
			cfg.ProxyNetworks = []string{"127.0.0.0/8"}
			cfg.TrustedNetworks = []string{"192.0.2.0/24", "2001:db8::/32", "127.0.0.0/8"}
			b := &backend{t: t}
			c := dial(t, listen(t, newServer(t, cfg, b)))
			for i := range tc.header { // byte by byte
				if i > 30 {
					io.WriteString(c.conn, tc.header[i:])
					break
				}
				if _, err := io.WriteString(c.conn, tc.header[i:i+1]); err != nil {
					break
				}
			}
			if tc.client == "-" {
				io.WriteString(c.conn, "\r\nEHLO x\r\n")
				if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
					t.Errorf("the server said %q", rest)
				}
				return
			}
			c.want(220)
			c.cmd("EHLO x", 250)
			if tc.client == "" { // the proxy's network is trusted, but this is not the proxy
				c.cmd("MAIL FROM:<a@x.test>", 554)
				return
			}
			c.cmd("MAIL FROM:<a@x.test>", 250)
			c.conn.Close()
			s := b.only().session
			want := netip.MustParseAddrPort(tc.client)
			if s.Client.Address != want.Addr().Unmap().String() || s.Client.Port != int(want.Port()) {
				t.Errorf("client %+v", s.Client)
			}
			if s.Proxy == nil || s.Proxy.Address != "127.0.0.1" || s.Proxy.By != "proxy" || s.Proxy.Port == 0 {
				t.Errorf("proxy %+v", s.Proxy)
			}
		})
	}
}

// TestProxyIsNotTheClient: a stranger is one behind a trusted proxy too, and who is no proxy can't say that he is one.
func TestProxyIsNotTheClient(t *testing.T) {
	cfg := relayConfig()
	cfg.ProxyNetworks = []string{"127.0.0.1"}
	c := dial(t, listen(t, newServer(t, cfg, &backend{t: t})))
	c.send("PROXY TCP4 198.51.100.1 127.0.0.1 1 25\r\n")
	c.want(220)
	c.cmd("EHLO x", 250)
	c.cmd("MAIL FROM:<a@x.test>", 554)

	cfg.ProxyNetworks = []string{"192.0.2.0/24"}
	c = dial(t, listen(t, newServer(t, cfg, &backend{t: t})))
	c.want(220)
	c.cmd("PROXY TCP4 192.0.2.1 127.0.0.1 1 25", 500)
	if text := c.cmd("EHLO x", 250); strings.Contains(text, "XCLIENT") {
		t.Error(text)
	}
}

func TestProxyBeforeTLS(t *testing.T) {
	for _, mode := range []string{"starttls", "implicit"} {
		cfg := relayConfig()
		cfg.ProxyNetworks, cfg.TrustedNetworks = []string{"127.0.0.0/8"}, []string{"192.0.2.0/24"}
		cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
		cfg.TLS.Mode = mode
		b := &backend{t: t}
		c := dial(t, listen(t, newServer(t, cfg, b)))
		if mode == "implicit" {
			// HAProxy sends its header and the client's first bytes in one go
			c.conn = &glued{Conn: c.conn, head: proxyHeader(0x21, 0x11, proxy4)}
			c.overTLS()
			c.want(220)
		} else {
			c.send(proxyHeader(0x21, 0x11, proxy4))
			c.want(220)
			c.cmd("EHLO x", 250)
			c.startTLS()
		}
		c.cmd("EHLO x", 250)
		c.data("x\r\n.\r\n", 250)
		if s := b.only().session; s.TLS == nil || s.Client.Address != "192.0.2.7" {
			t.Errorf("%+v", s)
		}
	}
}

func TestProxyTimeout(t *testing.T) {
	cfg := relayConfig()
	cfg.ProxyNetworks = []string{"127.0.0.0/8"}
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, cfg, &backend{t: t})
		c := pipe(t, srv)
		start := time.Now()
		c.send("PROXY ")
		c.closed()
		if d := time.Since(start); d != proxyTimeout {
			t.Errorf("closed after %v", d)
		}
		late := pipe(t, srv) // and one that is waiting when the server stops
		late.send("PROXY ")
		start = time.Now()
		stop(t, srv)
		if d := time.Since(start); d > time.Second {
			t.Errorf("stopped after %v", d)
		}
	})
}

// xclientConfig is one where the loopback may say who its clients are, and is not trusted for anything else.
func xclientConfig() Config {
	cfg := relayConfig()
	cfg.XClientNetworks, cfg.TrustedNetworks = []string{"127.0.0.0/8"}, []string{"192.0.2.0/24", "2001:db8::/32"}
	return cfg
}

func TestXClient(t *testing.T) {
	b, c := start(t, xclientConfig())
	if text := c.cmd("EHLO front", 250); !strings.Contains(text, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\n") ||
		!strings.HasSuffix(text, " XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE") {
		t.Errorf("EHLO: %q", text)
	}
	c.cmd("MAIL FROM:<a@x.test>", 554) // it is not trusted itself
	c.cmd("XCLIENT PROTO=ESMTP HELO=spike", 220)
	c.cmd("XCLIENT NAME=spike.example.test addr=192.0.2.7 PORT=4660 PROTO=ESMTP HELO=spike DESTADDR=127.0.0.1 DESTPORT=25", 220)
	c.cmd("MAIL FROM:<a@x.test>", 250)
	c.conn.Close()
	s := b.only().session
	if s.Client != (record.Client{Address: "192.0.2.7", Port: 4660, Name: "spike.example.test", Helo: "spike", ESMTP: true}) || s.Peer != s.Client ||
		s.Proxy == nil || s.Proxy.By != "xclient" || s.Proxy.Address != "127.0.0.1" || s.Auth != nil {
		t.Errorf("%+v, proxy %+v", s, s.Proxy)
	}

	b, c = start(t, xclientConfig())
	c.cmd("XCLIENT ADDR=IPV6:2001:db8::7 PORT=[unavailable] NAME=[TEMPUNAVAIL] LOGIN=ann+2Bx@x.test", 220)
	c.cmd("MAIL FROM:<a@x.test>", 503) // no HELO was given
	c.cmd("EHLO six", 250)
	c.data("x\r\n.\r\n", 250)
	s = b.only().session
	if s.Client != (record.Client{Address: "2001:db8::7", Helo: "six", ESMTP: true}) || s.Auth == nil || s.Auth.Identity != "ann+x@x.test" {
		t.Errorf("%+v, auth %+v", s, s.Auth)
	}

	for _, stranger := range []string{"198.51.100.1", "[UNAVAILABLE]"} { // who has not signed in
		_, c = start(t, xclientConfig())
		c.cmd("XCLIENT HELO=[UNAVAILABLE] ADDR="+stranger, 220)
		if text := c.cmd("EHLO stranger", 250); strings.Contains(text, "XCLIENT") {
			t.Error(text)
		}
		c.cmd("MAIL FROM:<a@x.test>", 554)
		c.cmd("XCLIENT ADDR=192.0.2.1", 550) // and can't become another
		c.cmd("XCLIENT LOGIN=ann", 550)
		c.cmd("XFORWARD ADDR=192.0.2.1", 550)
		c.cmd("MAIL FROM:<a@x.test>", 554)
	}

	cfg := xclientConfig()
	cfg.TrustedNetworks = []string{"127.0.0.0/8"}
	_, c = start(t, cfg)
	c.cmd("MAIL FROM:<a@x.test>", 250)
	c.cmd("XCLIENT ADDR=192.0.2.8", 503)
	c.cmd("XFORWARD ADDR=192.0.2.8", 503)
}

func TestXForward(t *testing.T) {
	cfg := xclientConfig()
	_, c := start(t, cfg)
	c.cmd("XFORWARD NAME=a ADDR=192.0.2.7", 250)
	c.cmd("MAIL FROM:<a@x.test>", 554) // it informs, and authorises nobody

	cfg.TrustedNetworks = []string{"127.0.0.0/8"}
	b, c := start(t, cfg)
	c.cmd("XFORWARD NAME=spike.example.test ADDR=198.51.100.1 PORT=4660", 250)
	c.cmd("XFORWARD PROTO=ESMTP HELO=spike+20x IDENT=4ABC SOURCE=REMOTE", 501) // a blank in a name
	c.cmd("XFORWARD PROTO=ESMTP HELO=spike IDENT=4ABC SOURCE=REMOTE", 250)
	c.data("x\r\n.\r\n", 250)
	c.data("x\r\n.\r\n", 250) // it was for one message
	c.cmd("XFORWARD ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE] HELO=[UNAVAILABLE]", 250)
	c.data("x\r\n.\r\n", 250)
	c.cmd("XFORWARD ADDR=198.51.100.1", 250)
	c.cmd("RSET", 250)
	c.data("x\r\n.\r\n", 250)
	all := b.ended()
	s := all[0].session
	if s.Client != (record.Client{Address: "198.51.100.1", Port: 4660, Name: "spike.example.test", Helo: "spike", ESMTP: true}) ||
		s.Peer.Address != "127.0.0.1" || s.Peer.Helo != "client.test" ||
		s.Proxy == nil || s.Proxy.By != "xforward" || s.Proxy.Address != "127.0.0.1" || s.Proxy.Ident != "4ABC" {
		t.Errorf("%+v, proxy %+v", s, s.Proxy)
	}
	for _, m := range all[1:] {
		if m.session.Client.Address != "127.0.0.1" || m.session.Proxy != nil {
			t.Errorf("%+v, proxy %+v", m.session, m.session.Proxy)
		}
	}
}

func TestXClientSyntax(t *testing.T) {
	for _, command := range []string{"XCLIENT", "XFORWARD"} {
		cfg := xclientConfig()
		cfg.Limits.Errors = 100
		_, c := start(t, cfg)
		for _, arg := range []string{
			"", "ADDR", "ADDR=", "ADDR=localhost", "ADDR=2001:db8::1", "ADDR=IPV6:192.0.2.1", "ADDR=IPV6:fe80::1%25eth0", "ADDR=192.0.2.1 ADDR=192.0.2.1",
			"FOO=1", "PORT=99999", "PORT=-1", "PORT=07", "PROTO=LMTP", "NAME=a+0Ab", "NAME=a+", "NAME=a=b", "NAME=<x>", "ADDR=192.0.2.1  PORT=1",
			"NAME=" + strings.Repeat("x", 256), "HELO=\xc3\xa4",
		} {
			c.send(command + " " + arg + "\r\n")
			if code, text, err := readReply(c.r); err != nil || code != 501 {
				if code == 0 || code == 421 {
					t.Fatalf("%s %s: %q, %v", command, arg, text, err)
				}
				t.Errorf("%s %s: %q", command, arg, text)
			}
		}
	}
}

// TestXClientIsForFew: others are not told of it, and get no further with it.
func TestXClientIsForFew(t *testing.T) {
	cfg := relayConfig()
	cfg.XClientNetworks = []string{"192.0.2.0/24"}
	_, c := start(t, cfg)
	if text := c.cmd("EHLO x", 250); strings.Contains(text, "XCLIENT") || strings.Contains(text, "XFORWARD") {
		t.Error(text)
	}
	c.cmd("XCLIENT ADDR=192.0.2.1", 550)
	c.cmd("XFORWARD ADDR=192.0.2.1", 550)
}

// TestXClientAndCertificates: the certificate is the other server's, not the client's.
func TestXClientAndCertificates(t *testing.T) {
	cert := newAuthority(t)
	cfg := xclientConfig()
	cfg.TLS = writeCert(t, t.TempDir(), "mx.example.test")
	mine := cert.issue(t, pkix.Name{CommonName: "mta"}, x509.ExtKeyUsageClientAuth, time.Now().Add(time.Hour))
	cfg.TrustedCertificates = []string{sum(mine)}
	_, c := start(t, cfg)
	c.cmd("STARTTLS", 220)
	c.overTLS(mine)
	c.cmd("EHLO x", 250)
	c.cmd("MAIL FROM:<a@x.test>", 250)
	c.cmd("RSET", 250)
	c.cmd("XCLIENT ADDR=198.51.100.1 HELO=x", 220)
	c.cmd("MAIL FROM:<a@x.test>", 554)

	_, c = start(t, cfg) // in the other order too
	c.cmd("XCLIENT ADDR=198.51.100.1 HELO=x", 220)
	c.cmd("STARTTLS", 220)
	c.overTLS(mine)
	c.cmd("EHLO x", 250)
	c.cmd("MAIL FROM:<a@x.test>", 554)
}

// glued sends a header and the first bytes after it in one go.
type glued struct {
	net.Conn
	head string
}

func (g *glued) Write(p []byte) (int, error) {
	if g.head == "" {
		return g.Conn.Write(p)
	}
	_, err := g.Conn.Write(append([]byte(g.head), p...))
	g.head = ""
	return len(p), err
}
