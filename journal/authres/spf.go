package authres

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"blitiri.com.ar/go/spf"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// identity is one that SPF is asked about.
type identity struct {
	name   string // record.SPF…
	domain string // empty: there is none
	sender string
}

// identities are MAIL FROM, or the HELO name as postmaster where the sender is null (RFC 7208, section 2.4), and the HELO name by itself.
// Nobody publishes from where those who sign in may come, and an import has no client.
func (m *mail) identities() (list []identity) {
	if m.env.Auth != nil || m.env.MailFrom == nil {
		return nil
	}
	if _, ok := clientOf(m.env); !ok {
		return nil
	}
	helo := heloDomain(m.env.Client.Helo)
	sender := m.env.MailFrom.Address
	if sender == "" {
		return append(list, identity{record.SPFMailFrom, helo, "postmaster@" + helo})
	}
	local, domain := sender[:max(0, strings.LastIndexByte(sender, '@'))], domainOf(sender)
	// The library takes the first @ for the one before the domain.
	list = append(list, identity{record.SPFMailFrom, fullName(domain), strings.ReplaceAll(local, "@", "_") + "@" + domain})
	if helo != "" {
		list = append(list, identity{record.SPFHelo, helo, "postmaster@" + helo})
	}
	return list
}

// heloDomain is the argument of HELO where it is the name of a host: not an address, not a word.
func heloDomain(helo string) string {
	if _, err := netip.ParseAddr(helo); err == nil || strings.HasPrefix(helo, "[") {
		return ""
	}
	return fullName(helo)
}

// fullName gives a domain name of two labels at least; empty: it is none (RFC 7208, section 4.3).
func fullName(name string) string {
	if ascii, ok := dnsName(name); !ok || strings.Count(ascii, ".") < 2 {
		return ""
	}
	return name
}

// checkSPF evaluates SPF for each identity.
func (m *mail) checkSPF() (list []record.SPFVerdict) {
	ip, _ := clientOf(m.env)
	for _, id := range m.identities() {
		v := record.SPFVerdict{Identity: id.name, Domain: id.domain, Result: "none", Reason: "no domain name to ask about"}
		if id.domain != "" {
			v.Result, v.Reason = m.checkHost(ip, id)
		}
		list = append(list, v)
	}
	return list
}

func (m *mail) checkHost(ip netip.Addr, id identity) (result, reason string) {
	res, err := spf.CheckHostWithSender(ip.AsSlice(), m.env.Client.Helo, id.sender, spf.WithContext(m.ctx), spf.WithResolver(spfResolver{m.lookups, ip.Is6()}))
	if err != nil {
		reason = err.Error()
	}
	return string(res), reason
}

// spfResolver answers the library out of the lookups of one message. What it gives for not found and for now not answered are the errors
// of net.Resolver.
type spfResolver struct {
	*lookups
	six bool // the client has an IPv6 address: else nothing is asked for AAAA records, which could not match it
}

func (r spfResolver) LookupTXT(_ context.Context, name string) ([]string, error) { return r.txt(name) }

func (r spfResolver) LookupMX(_ context.Context, name string) (list []*net.MX, err error) {
	found, err := r.find(name, typeMX)
	for i := range found {
		list = append(list, &net.MX{Host: found[i].host, Pref: found[i].pref})
	}
	return list, err
}

// LookupIPAddr asks for AAAA records beside A records where the client has such an address: exists: looks at A records alone.
func (r spfResolver) LookupIPAddr(_ context.Context, name string) (list []net.IPAddr, err error) {
	found, err := r.find(name, typeA)
	if r.six && (err == nil || notFound(err)) {
		six, sixErr := r.find(name, typeAAAA)
		found = append(found, six...)
		if len(found) > 0 && notFound(sixErr) || sixErr == nil {
			err = nil
		} else {
			err = sixErr
		}
	}
	if err != nil {
		return nil, err
	}
	for i := range found {
		list = append(list, net.IPAddr{IP: found[i].ip.AsSlice()})
	}
	return list, nil
}

func (r spfResolver) LookupAddr(_ context.Context, addr string) (names []string, err error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, &net.DNSError{Err: "not an address", Name: addr, IsNotFound: true}
	}
	found, err := r.find(reverseName(ip), typePTR)
	for i := range found {
		names = append(names, found[i].host)
	}
	return names, err
}
