// Package route finds the way to a recipient's domain: by the configuration first, and where that says so by the domain's MX records.
//
// What it promises: the hosts that RFC 5321 section 5.1 names, in the order in which it wants them tried, and none that leads back to us;
// and an error that says whether the mail can never go there (ErrNoRoute, ErrNoDomain, ErrNullMX, ErrLoop) or the DNS could not tell today
// (ErrDNS). Nothing is remembered between two calls: who sends mail has a resolver beside him that caches, and which hosts are down is
// the pool's to know.
package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// What callers tell apart with errors.Is. All but ErrDNS are permanent.
var (
	ErrNoRoute  = errors.New("the configuration has no route for the domain")
	ErrNoDomain = errors.New("no such domain, or it has neither mail servers nor an address")
	ErrNullMX   = errors.New("domain takes no mail: null MX (RFC 7505)")
	ErrLoop     = errors.New("mail would come back to us: we are the best mail server of the domain")
	ErrDNS      = errors.New("the DNS gave no answer")
)

// Resolver asks the DNS. *net.Resolver is one. Names are given with a dot at their end. A name or type that is not there is a
// *net.DNSError with IsNotFound.
type Resolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options are what a Router is made with.
type Options struct {
	Hello    string              // the name that we give in EHLO, and where mail for a path without a domain goes (<postmaster>)
	Names    []string            // other names by which an MX record may mean us
	Own      func() []netip.Addr // our addresses; nil: those of the network interfaces
	Port     int                 // of hosts found by MX; 0: 25
	Resolver Resolver            // nil: net.Resolver
}

// Router is made of Routes. Safe for concurrent use.
type Router struct {
	exact map[string]Route // by domain
	below map[string]Route // by the domain behind the dot
	rest  *Route
	o     Options
	names map[string]bool // ours, as canonical has them
}

// New makes a Router of routes that have been validated.
func New(routes Routes, o Options) *Router {
	r := &Router{exact: map[string]Route{}, below: map[string]Route{}, names: map[string]bool{}, o: o}
	if r.o.Resolver == nil {
		r.o.Resolver = &net.Resolver{PreferGo: true}
	}
	if r.o.Own == nil {
		r.o.Own = interfaceAddresses
	}
	if r.o.Port == 0 {
		r.o.Port = 25
	}
	for _, name := range append([]string{o.Hello}, o.Names...) {
		r.names[canonical(name)] = true
	}
	for _, route := range routes {
		for _, pattern := range route.patterns() {
			switch {
			case pattern == "*":
				r.rest = &route
			case pattern[0] == '.':
				r.below[canonical(pattern[1:])] = route
			default:
				r.exact[canonical(pattern)] = route
			}
		}
	}
	return r
}

// patience bounds the questions for one domain. What was not answered by then is ErrDNS.
const patience = 30 * time.Second

// Route gives the hosts for a recipient's domain: a name, an address literal, or "" for a path without one. It takes 30 seconds at most.
func (r *Router) Route(ctx context.Context, domain string) (nexthop.Route, error) {
	if domain == "" {
		domain = r.o.Hello
	}
	name := canonical(domain)
	route, ok := r.find(name)
	if !ok {
		return nexthop.Route{}, fmt.Errorf("%w: %s", ErrNoRoute, domain)
	}
	if !route.byMX() {
		return route.fixed(r.o.Hello), nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	hosts, err := r.exchangers(ctx, name, route)
	if err != nil {
		return nexthop.Route{}, fmt.Errorf("%w: %s", err, domain)
	}
	return nexthop.Route{Name: name, Hosts: hosts}, nil
}

// Destination names what the mail of a domain shares with that of others, without asking the DNS: the hosts that the configuration names,
// or the domain itself. Where there is no route it is the domain.
func (r *Router) Destination(domain string) string {
	if domain == "" {
		domain = r.o.Hello
	}
	name := canonical(domain)
	if route, ok := r.find(name); ok && !route.byMX() {
		return strings.Join(route.Addresses(), ",")
	}
	return name
}

// Knows says whether the configuration has a route for a domain.
func (r *Router) Knows(domain string) bool {
	if domain == "" {
		domain = r.o.Hello
	}
	_, ok := r.find(canonical(domain))
	return ok
}

// find gives the route of a domain: its own, then that of the nearest domain above it, then "*".
func (r *Router) find(name string) (Route, bool) {
	if route, ok := r.exact[name]; ok {
		return route, true
	}
	if !strings.HasPrefix(name, "[") {
		for rest := name; ; {
			_, above, ok := strings.Cut(rest, ".")
			if !ok {
				break
			}
			if route, ok := r.below[above]; ok {
				return route, true
			}
			rest = above
		}
	}
	if r.rest != nil {
		return *r.rest, true
	}
	return Route{}, false
}

// canonical is a domain as it is compared and looked up: lower case, A-labels, no dot at the end. What is not a name stays as it is.
func canonical(domain string) string {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	for i := range len(domain) {
		if domain[i] >= 0x80 {
			if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
				return ascii
			}
			break
		}
	}
	return domain
}

func interfaceAddresses() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var own []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap())
		}
	}
	return own
}
