package route

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// Routes is the key routes of a listener in mode queue. Their order means nothing: the domain that fits best counts.
type Routes []Route

// Route says where the mail of some domains goes.
type Route struct {
	Domain         []string                 `mapstructure:"domain"` // a domain; ".example.com" for all below it; "*" for all others
	nexthop.Config `mapstructure:",squash"` // NextHop: "mx", or hosts: host:port, lmtp:host:port, lmtp:unix:/path
}

const (
	mx         = "mx"
	lmtpPrefix = "lmtp:"
)

// Validate names every fault at once: the route by its number from 0, the key and its value. own are the addresses that we listen on.
func (r Routes) Validate(own ...string) error {
	var errs []error
	seen := map[string]int{}
	for i, route := range r {
		fault := func(key, format string, args ...any) {
			errs = append(errs, fmt.Errorf("routes[%d].%s: %s", i, key, fmt.Sprintf(format, args...)))
		}
		if len(route.patterns()) == 0 {
			fault("domain", "empty: a domain, .domain for all below it, or * for all others")
		}
		for _, pattern := range route.patterns() {
			name := strings.TrimPrefix(pattern, ".")
			if pattern != "*" && !isName(canonical(name)) {
				fault("domain", "%q is not a domain, .domain or *", pattern)
			}
			key := pattern[:len(pattern)-len(name)] + canonical(name)
			if first, ok := seen[key]; ok {
				fault("domain", "%q stands in routes[%d] already", pattern, first)
			}
			seen[key] = i
		}
		for _, err := range route.faults(own) {
			fault("next_hop", "%v", err)
		}
		if route.byMX() && route.Auth != (nexthop.AuthConfig{}) {
			fault("next_hop_auth", "a password is for hosts that are named, not for whom the DNS names")
		}
		if err := route.ValidateTLS(); err != nil {
			for _, err := range split(err) {
				errs = append(errs, fmt.Errorf("routes[%d].%w", i, err))
			}
		}
	}
	if len(r) == 0 {
		errs = append(errs, errors.New("routes: empty: mode queue needs to know where mail goes"))
	}
	return errors.Join(errs...)
}

// split gives the errors of a join.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// faults is what is wrong with the hosts of a route.
func (r Route) faults(own []string) (errs []error) {
	hops := r.Addresses()
	if len(hops) == 0 {
		return []error{errors.New("empty: mx, or host:port")}
	}
	seen := map[string]bool{}
	for _, hop := range hops {
		address, lmtp := strings.CutPrefix(hop, lmtpPrefix)
		switch {
		case seen[hop]:
			errs = append(errs, fmt.Errorf("%q stands there twice", hop))
		case hop == mx && len(hops) > 1:
			errs = append(errs, fmt.Errorf("%q stands alone, or not at all", hop))
		case hop == mx:
		case strings.HasPrefix(address, "unix:") && !lmtp:
			errs = append(errs, fmt.Errorf("%q: over a socket there is LMTP: lmtp:%s", hop, hop))
		default:
			if err := nexthop.CheckAddress(address); err != nil {
				errs = append(errs, err)
			}
		}
		for _, o := range own {
			if strings.EqualFold(address, o) {
				errs = append(errs, fmt.Errorf("%q is this listener itself", hop))
			}
		}
		seen[hop] = true
	}
	return errs
}

func (r Route) patterns() (all []string) {
	for _, s := range r.Domain {
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				all = append(all, part)
			}
		}
	}
	return all
}

func (r Route) byMX() bool { return len(r.NextHop) == 1 && strings.TrimSpace(r.NextHop[0]) == mx }

// fixed is the way to the hosts that the configuration names.
func (r Route) fixed(hello string) nexthop.Route {
	hops := r.Addresses()
	hosts := make([]nexthop.Target, len(hops))
	for i, hop := range hops {
		address, lmtp := strings.CutPrefix(hop, lmtpPrefix)
		hosts[i] = r.Target(address, hello)
		hosts[i].LMTP = lmtp
	}
	return nexthop.Route{Name: strings.Join(hops, ","), Hosts: hosts}
}

// isName says whether s is a domain name or an address literal.
func isName(s string) bool {
	if strings.HasPrefix(s, "[") {
		_, ok := literal(s)
		return ok
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
