package smtpd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// What EHLO says to those that may use Postfix's XCLIENT and XFORWARD.
const (
	xclientAttributes  = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
	xforwardAttributes = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
)

// attribute is a value of XCLIENT or XFORWARD.
type attribute struct {
	given bool
	text  string // decoded; empty: [UNAVAILABLE] or [TEMPUNAVAIL]
}

// parseAttributes reads what follows XCLIENT or XFORWARD. offered is that command's line of EHLO.
func parseAttributes(arg, offered string) (map[string]attribute, error) {
	known := strings.Split(offered, " ")[1:]
	found := map[string]attribute{}
	for field := range strings.SplitSeq(arg, " ") {
		name, value, ok := strings.Cut(field, "=")
		name = strings.ToUpper(name)
		if !ok || !slices.Contains(known, name) || found[name].given {
			return nil, fmt.Errorf("bad attribute %q", name)
		}
		a := attribute{given: true}
		if !strings.EqualFold(value, "[UNAVAILABLE]") && !strings.EqualFold(value, "[TEMPUNAVAIL]") {
			if a.text, ok = decodeXtext(value); !ok || len(a.text) > 255 || !validAttribute(name, a.text) {
				return nil, fmt.Errorf("bad value of %s", name)
			}
		}
		found[name] = a
	}
	return found, nil
}

func validAttribute(name, text string) bool {
	switch name {
	case "ADDR", "DESTADDR":
		return parseXAddr(text).IsValid()
	case "PORT", "DESTPORT":
		_, ok := parsePort(text)
		return ok
	case "PROTO":
		return strings.EqualFold(text, "SMTP") || strings.EqualFold(text, "ESMTP")
	case "SOURCE":
		return strings.EqualFold(text, "LOCAL") || strings.EqualFold(text, "REMOTE")
	case "NAME", "HELO":
		return !strings.ContainsAny(text, " <>\"\\(),;")
	}
	return true
}

// parseXAddr reads an IPv4 address, or an IPv6 address behind "IPV6:".
func parseXAddr(s string) netip.Addr {
	const v6 = "IPV6:"
	six := len(s) > len(v6) && strings.EqualFold(s[:len(v6)], v6)
	if six {
		s = s[len(v6):]
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Is6() != six || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}

// doXClient makes the session that of another client, which begins anew (Postfix's XCLIENT_README). Unlike with Postfix, the client can be
// named once: proxies such as nginx then hand on what it sends unread, and it must not be able to name another.
func (c *conn) doXClient(arg string) {
	a, ok := c.attributes("XCLIENT", arg, xclientAttributes)
	if !ok {
		return
	}
	c.abort()
	client := c.client
	if at := a["ADDR"]; at.given {
		client = parseXAddr(at.text)
		c.session.Client = record.Client{}
	}
	c.session.Proxy = &record.Proxy{Address: c.hop.String(), Port: c.hopPort, By: "xclient"}
	s := &c.session.Client
	s.Helo, s.ESMTP = "", false
	if a["PORT"].given {
		port, _ := parsePort(a["PORT"].text)
		s.Port = int(port)
	}
	if a["NAME"].given {
		s.Name = a["NAME"].text
	}
	if a["HELO"].given {
		s.Helo, s.ESMTP = a["HELO"].text, strings.EqualFold(a["PROTO"].text, "ESMTP")
	}
	c.uncount()
	c.client, c.certified, c.session.Auth, c.current = client, false, nil, nil
	if a["ADDR"].given {
		c.xclient = false
	}
	if !c.identified() {
		return
	}
	if login := a["LOGIN"].text; login != "" {
		c.session.Auth = &record.Auth{Mechanism: "XCLIENT", Identity: login}
	}
	c.greet()
}

// doXForward notes from whom the other server has the next message (Postfix's XFORWARD_README).
func (c *conn) doXForward(arg string) {
	a, ok := c.attributes("XFORWARD", arg, xforwardAttributes)
	if !ok {
		return
	}
	if c.forwarded == nil {
		c.forwarded = &forward{}
	}
	c.current = nil
	for name, to := range map[string]*string{
		"NAME": &c.forwarded.name, "ADDR": &c.forwarded.address, "PORT": &c.forwarded.port, "PROTO": &c.forwarded.protocol,
		"HELO": &c.forwarded.helo, "IDENT": &c.forwarded.ident,
	} {
		if a[name].given {
			*to = a[name].text
		}
	}
	c.answer(250, enhanced{2, 0, 0}, "OK")
}

// attributes reads the argument of a command that few may use, and answers where it can't be done.
func (c *conn) attributes(command, arg, offered string) (map[string]attribute, bool) {
	switch {
	case !c.xclient:
		c.fault(550, enhanced{5, 7, 0}, "Error: insufficient authorization")
		return nil, false
	case c.tx != nil:
		c.fault(503, enhanced{5, 5, 1}, "Error: MAIL transaction in progress")
		return nil, false
	}
	a, err := parseAttributes(arg, offered)
	if err != nil {
		c.fault(501, enhanced{5, 5, 4}, "Error: "+command+": "+err.Error())
		return nil, false
	}
	return a, true
}

// forward is what XFORWARD said of the client of the server that speaks to us. It informs, and authorises nobody.
type forward struct{ name, address, port, protocol, helo, ident string }

// apply has a session tell of that client, where its address is known, and of the server as the one that handed the message on.
func (f *forward) apply(s *Session) {
	ip := parseXAddr(f.address)
	if !ip.IsValid() {
		return
	}
	port, _ := parsePort(f.port)
	by := &record.Proxy{Address: s.Client.Address, Port: s.Client.Port, By: "xforward", Ident: f.ident}
	s.Client = record.Client{
		Address: ip.String(), Port: int(port), Name: f.name, Helo: f.helo, ESMTP: strings.EqualFold(f.protocol, "ESMTP"),
	}
	s.Proxy = by
}
