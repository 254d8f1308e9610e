package smtpd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// policy is whom a listener believes what, and for whom it takes mail. It does not change.
//
// What authorises a client to send to any recipient: its network, where it is the client's own (by TCP, the PROXY protocol or XCLIENT,
// never XFORWARD), AUTH, or a trusted client certificate. Everybody else may send to the recipient domains.
type policy struct {
	trusted     networks
	proxies     networks // who must begin with a PROXY header
	xclients    networks // who may say XCLIENT and XFORWARD
	bare        bool     // bare newlines are taken
	bareFrom    networks // from these they are
	domains     domains
	pinned      map[string]bool // SHA-256 fingerprints of certificates, hexadecimal
	subjects    map[string]bool // of certificates
	journal     bool
	takesOthers bool // mail of clients that are not authorised, for some recipients
}

func newPolicy(cfg Config) (p policy, err error) {
	p = policy{
		bare: cfg.BareNewline.Default == acceptBare, journal: cfg.Mode == record.ModeJournal,
		pinned: map[string]bool{}, subjects: map[string]bool{},
	}
	for _, n := range []struct {
		from []string
		to   *networks
	}{
		{cfg.TrustedNetworks, &p.trusted}, {cfg.ProxyNetworks, &p.proxies}, {cfg.XClientNetworks, &p.xclients},
		{cfg.BareNewline.Accept, &p.bareFrom},
	} {
		if *n.to, err = parseNetworks(n.from); err != nil {
			return p, err
		}
	}
	if p.domains, err = parseDomains(cfg.RecipientDomains); err != nil {
		return p, err
	}
	p.takesOthers = len(cfg.RecipientDomains) > 0
	for _, c := range cfg.TrustedCertificates {
		if f, ok := fingerprint(c); ok {
			p.pinned[f] = true
		} else {
			p.subjects[c] = true
		}
	}
	return p, nil
}

// takesBare says whether bare newlines are taken from a client.
func (p *policy) takesBare(ip netip.Addr) bool { return p.bare || p.bareFrom.contains(ip) }

// serves says whether mail for a recipient is taken from anybody. Where local parts hold what some server behind us may read as a route
// to elsewhere, it is not.
func (p *policy) serves(to record.Path) bool {
	at := strings.LastIndexByte(to.Address, '@')
	if at < 0 {
		return true // <postmaster>: RFC 5321 section 4.5.1
	}
	return !strings.ContainsAny(to.Address[:at], "@%!") && p.domains.has(to.Address[at+1:])
}

// domains are names in lower case, A-labels where they are international. Below a name in under all are meant, and not the name itself.
type domains struct {
	exact map[string]bool
	under map[string]bool
}

func parseDomains(list []string) (d domains, err error) {
	d = domains{exact: map[string]bool{}, under: map[string]bool{}}
	for _, s := range list {
		name, sub := strings.CutPrefix(s, ".")
		c, ok := canonicalDomain(name)
		if !ok {
			return d, fmt.Errorf("%q is not a domain, or .domain for all below it", s)
		}
		if sub {
			d.under[c] = true
		} else {
			d.exact[c] = true
		}
	}
	return d, nil
}

func (d domains) has(domain string) bool {
	c, ok := canonicalDomain(domain)
	if !ok {
		return false
	}
	if d.exact[c] {
		return true
	}
	for {
		_, rest, more := strings.Cut(c, ".")
		if !more {
			return false
		}
		if d.under[rest] {
			return true
		}
		c = rest
	}
}

// strictIDNA maps nothing: what is not written as it is registered is not the same name to everybody.
var strictIDNA = idna.New(idna.ValidateForRegistration(), idna.StrictDomainName(false))

// canonicalDomain is a domain name as names are compared. Address literals and what is not well formed are none.
func canonicalDomain(s string) (string, bool) {
	if !isDomain(s) || strings.HasPrefix(s, "[") {
		return "", false
	}
	if s = lowerASCII(s); isASCII(s) {
		return s, true
	}
	a, err := strictIDNA.ToASCII(s)
	return a, err == nil && isASCII(a)
}

// lowerASCII leaves other letters alone: the Kelvin sign is not a k.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// networks are IP prefixes, IPv4 mapped to IPv6 as IPv4.
type networks []netip.Prefix

func parseNetworks(list []string) (networks, error) {
	var n networks
	for _, s := range list {
		p, err := parseNetwork(s)
		if err != nil {
			return nil, err
		}
		n = append(n, p)
	}
	return n, nil
}

func (n networks) contains(ip netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// everybody says that the networks hold half or more of the addresses that there are on the Internet, however they are written.
func (n networks) everybody() bool {
	var v4, v6 float64
	for i, p := range n {
		if slices.ContainsFunc(n[:i], func(q netip.Prefix) bool { return q.Overlaps(p) && q.Bits() <= p.Bits() }) ||
			slices.ContainsFunc(n[i+1:], func(q netip.Prefix) bool { return q.Overlaps(p) && q.Bits() < p.Bits() }) {
			continue // within another
		}
		share := 1 / float64(uint64(1)<<min(p.Bits(), 63))
		switch {
		case p.Addr().Is4():
			v4 += share
		case p.Overlaps(globalUnicast):
			v6 += min(share*8, 1)
		}
	}
	return v4 >= 0.5 || v6 >= 0.5
}

// globalUnicast is an eighth of the IPv6 addresses, and all that are in use (RFC 4291 section 2.4).
var globalUnicast = netip.MustParsePrefix("2000::/3")

// parseNetwork reads an IP address or a prefix, IPv4 mapped to IPv6 as IPv4.
func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is not an IP address or network", s)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an IP address or network", s)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q is not an IP address or network", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its prefix: %s is meant?", s, p.Masked())
	}
	return p, nil
}
