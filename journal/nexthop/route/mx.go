package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// Bounds of what one message is offered to, so that nobody can have us knock at a thousand doors.
const (
	maxExchangers = 20 // mail servers of a domain that are looked up
	maxAddresses  = 10 // addresses that are tried
)

// exchangers gives the hosts of a domain by RFC 5321 section 5.1: by preference, equals in random order, each with all its addresses; the
// domain itself where it has no MX record; and none that is as preferred as we are, or less.
func (r *Router) exchangers(ctx context.Context, name string, route Route) ([]nexthop.Target, error) {
	if strings.HasPrefix(name, "[") {
		ip, ok := literal(name)
		switch {
		case !ok:
			return nil, ErrNoDomain
		case r.isOwn(ip):
			return nil, ErrLoop
		}
		return []nexthop.Target{r.target(route, ip.String(), ip)}, nil
	}
	if !isName(name) {
		return nil, ErrNoDomain
	}
	records, err := r.o.Resolver.LookupMX(ctx, name+".")
	switch {
	case err != nil && !notFound(err) && len(records) == 0:
		return nil, fmt.Errorf("%w: %w", ErrDNS, err)
	case len(records) == 1 && strings.TrimSuffix(records[0].Host, ".") == "":
		return nil, ErrNullMX
	case len(records) == 0:
		records = []*net.MX{{Host: name}} // implicit MX
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	slices.SortStableFunc(records, func(a, b *net.MX) int { return cmp.Compare(a.Pref, b.Pref) })
	return r.addresses(ctx, records[:min(len(records), maxExchangers)], route)
}

// addresses looks the hosts up, in their order, up to the first that is us, and from there on those that are preferred to it alone.
func (r *Router) addresses(ctx context.Context, records []*net.MX, route Route) ([]nexthop.Target, error) {
	type found struct {
		pref    uint16
		targets []nexthop.Target
	}
	var all []found
	var fault error
	own, n := -1, 0
	for _, record := range records {
		if r.names[canonical(record.Host)] {
			own = int(record.Pref)
			break
		}
	}
	for _, record := range records {
		if own >= 0 && int(record.Pref) >= own || n >= maxAddresses {
			break
		}
		host := canonical(record.Host)
		if !isName(host) || strings.HasPrefix(host, "[") {
			continue
		}
		if _, err := netip.ParseAddr(host); err == nil { // an address where a name belongs: there is no such name
			continue
		}
		ips, err := r.o.Resolver.LookupNetIP(ctx, "ip", host+".")
		if err != nil && !notFound(err) {
			fault = err
		}
		f := found{pref: record.Pref}
		for _, ip := range alternate(ips) {
			if ip = ip.Unmap(); r.isOwn(ip) {
				own = int(record.Pref)
			}
			f.targets = append(f.targets, r.target(route, host, ip))
		}
		n += len(f.targets)
		all = append(all, f)
	}
	var hosts []nexthop.Target
	for _, f := range all {
		if own < 0 || int(f.pref) < own {
			hosts = append(hosts, f.targets...)
		}
	}
	switch {
	case len(hosts) > 0:
		return hosts[:min(len(hosts), maxAddresses)], nil
	case fault != nil:
		return nil, fmt.Errorf("%w: %w", ErrDNS, fault)
	case own >= 0:
		return nil, ErrLoop
	}
	return nil, ErrNoDomain
}

// target is one address of a host.
func (r *Router) target(route Route, host string, ip netip.Addr) nexthop.Target {
	t := route.Target(net.JoinHostPort(host, strconv.Itoa(r.o.Port)), r.o.Hello)
	t.IP = ip
	return t
}

// isOwn says whether an address is ours, or no address of another host at all.
func (r *Router) isOwn(ip netip.Addr) bool {
	return ip.IsUnspecified() || slices.Contains(r.o.Own(), ip)
}

// alternate has IPv6 and IPv4 take turns, beginning with the one that the resolver put first: a bound on the number of addresses, or a
// network that does not work, then never leaves us with one kind alone.
func alternate(ips []netip.Addr) []netip.Addr {
	if len(ips) < 3 {
		return ips
	}
	var same, other, out []netip.Addr
	for _, ip := range ips {
		if ip.Unmap().Is4() == ips[0].Unmap().Is4() {
			same = append(same, ip)
		} else {
			other = append(other, ip)
		}
	}
	for i := range max(len(same), len(other)) {
		if i < len(same) {
			out = append(out, same[i])
		}
		if i < len(other) {
			out = append(out, other[i])
		}
	}
	return out
}

// literal reads an address literal (RFC 5321 section 4.1.3).
func literal(s string) (netip.Addr, bool) {
	inner, ok := strings.CutPrefix(s, "[")
	inner, ok2 := strings.CutSuffix(inner, "]")
	if !ok || !ok2 {
		return netip.Addr{}, false
	}
	v6, isV6 := strings.CutPrefix(inner, "ipv6:") // canonical made it lower case
	if isV6 {
		inner = v6
	}
	ip, err := netip.ParseAddr(inner)
	if err != nil || ip.Zone() != "" || ip.Is6() != isV6 {
		return netip.Addr{}, false
	}
	return ip.Unmap(), true
}

func notFound(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound && !e.IsTemporary && !e.IsTimeout
}
