package smtpd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Of the PROXY protocol, versions 1 and 2, as HAProxy's proxy-protocol.txt has it.
const (
	proxyTimeout   = 10 * time.Second
	maxProxyLine   = 107     // of version 1, with its CRLF, bytes
	maxProxyHeader = 4 << 10 // of version 2, after its first 16 bytes
	proxyV2        = "\r\n\r\n\x00\r\nQUIT\n"
)

var errProxy = errors.New("not a PROXY header")

// proxied is what a PROXY header says of a client; the zero client where it does not say.
type proxied struct{ client netip.AddrPort }

// readProxy reads the header that has to come before everything else. What follows it may have been read too.
func (c *conn) readProxy() error {
	var said proxied
	err := c.opening(proxyTimeout, func() error {
		for {
			p, n, err := parseProxy(c.in[c.r:c.w])
			if err != nil || n > 0 {
				c.r += n
				said = p
				return err
			}
			if err := c.read(); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	c.client = said.client.Addr().Unmap()
	if !c.client.IsValid() { // a health check of the proxy, or what has no IP address: the proxy's network is not trusted for it
		return nil
	}
	c.session.Client.Port = int(said.client.Port())
	c.session.Proxy = &record.Proxy{Address: c.hop.String(), Port: c.hopPort, By: "proxy"}
	return nil
}

// parseProxy reads the header that b begins with, and says how long it is; 0 and no error: more of it has to come.
func parseProxy(b []byte) (p proxied, n int, err error) {
	if v2 := b[:min(len(b), len(proxyV2))]; len(b) > 0 && bytes.HasPrefix([]byte(proxyV2), v2) {
		return parseProxyV2(b)
	}
	const v1 = "PROXY "
	if !strings.HasPrefix(v1, string(b[:min(len(b), len(v1))])) {
		return p, 0, errProxy
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) >= maxProxyLine {
			err = errProxy
		}
		return p, 0, err
	}
	line, ok := bytes.CutSuffix(b[:end+1], []byte("\r\n"))
	if !ok || end >= maxProxyLine {
		return p, 0, errProxy
	}
	p.client, err = parseProxyLine(string(line))
	return p, end + 1, err
}

func parseProxyLine(line string) (client netip.AddrPort, err error) {
	f := strings.Split(line, " ")
	if f[1] == "UNKNOWN" {
		return client, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return client, fmt.Errorf("%w: %q", errProxy, line)
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		a, err := netip.ParseAddr(f[2+i])
		port, ok := parsePort(f[4+i])
		if err != nil || !ok || a.Is4() != (f[1] == "TCP4") || a.Zone() != "" {
			return client, fmt.Errorf("%w: %q", errProxy, line)
		}
		ends[i] = netip.AddrPortFrom(a, port)
	}
	return ends[0], nil
}

// parsePort reads a decimal port without a sign or leading zeros.
func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && strconv.FormatUint(n, 10) == s
}

func parseProxyV2(b []byte) (p proxied, n int, err error) {
	const fixed = 16
	if len(b) < fixed {
		return p, 0, nil
	}
	rest := int(binary.BigEndian.Uint16(b[14:]))
	if rest > maxProxyHeader {
		return p, 0, fmt.Errorf("%w: %d bytes long", errProxy, rest)
	}
	command, family := b[12], b[13]
	if command != 0x20 && command != 0x21 {
		return p, 0, fmt.Errorf("%w: version and command %#x", errProxy, command)
	}
	if n = fixed + rest; len(b) < n {
		return p, 0, nil
	}
	header := b[:n]
	addresses := 0
	switch family {
	case 0x11:
		addresses = 12
	case 0x21:
		addresses = 36
	case 0x31, 0x32:
		addresses = 216
	case 0x00:
	default:
		return p, 0, fmt.Errorf("%w: family and protocol %#x", errProxy, family)
	}
	if rest < addresses {
		return p, 0, fmt.Errorf("%w: cut short", errProxy)
	}
	if family != 0x00 { // of the unspecified one nobody knows how long the addresses are
		if err := checkProxyFields(header, fixed+addresses); err != nil {
			return p, 0, err
		}
	}
	if command == 0x20 { // LOCAL: the proxy itself
		return p, n, nil
	}
	a := header[fixed:]
	switch family {
	case 0x11:
		ip, _ := netip.AddrFromSlice(a[:4])
		p.client = netip.AddrPortFrom(ip, binary.BigEndian.Uint16(a[8:]))
	case 0x21:
		ip, _ := netip.AddrFromSlice(a[:16])
		p.client = netip.AddrPortFrom(ip, binary.BigEndian.Uint16(a[32:]))
	}
	return p, n, nil
}

// checkProxyFields looks whether the fields after the addresses are whole, and at the checksum where there is one. None of them is used.
func checkProxyFields(header []byte, from int) error {
	for at := from; at < len(header); {
		if at+3 > len(header) {
			return fmt.Errorf("%w: half a field", errProxy)
		}
		end := at + 3 + int(binary.BigEndian.Uint16(header[at+1:]))
		if end > len(header) {
			return fmt.Errorf("%w: half a field", errProxy)
		}
		if header[at] == 0x03 {
			if end-at != 3+4 {
				return fmt.Errorf("%w: a checksum of %d bytes", errProxy, end-at-3)
			}
			whole := bytes.Clone(header)
			clear(whole[at+3 : end])
			if crc32.Checksum(whole, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(header[at+3:]) {
				return fmt.Errorf("%w: wrong checksum", errProxy)
			}
		}
		at = end
	}
	return nil
}

// resumed is a connection of which some bytes were read already.
type resumed struct {
	net.Conn
	head []byte
}

func (b *resumed) Read(p []byte) (int, error) {
	if len(b.head) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.head)
	b.head = b.head[n:]
	return n, nil
}
