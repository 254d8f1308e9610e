package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

func entry(hop string, domains ...string) Route {
	return Route{Domain: domains, Config: nexthop.Config{NextHop: []string{hop}}}
}

// ours is 192.0.2.99 and 2001:db8::99.
func ours() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.99"), netip.MustParseAddr("2001:db8::99")}
}

func options(r Resolver) Options {
	return Options{Hello: "relay.ours.example", Names: []string{"Mail.Ours.Example."}, Own: ours, Resolver: r}
}

// addresses are those of the hosts: what is called by which name, and dialled where.
func addresses(r nexthop.Route) (all []string) {
	for _, h := range r.Hosts {
		if h.IP.IsValid() {
			all = append(all, h.Address+"="+h.IP.String())
		} else {
			all = append(all, h.Address)
		}
	}
	return all
}

func TestConfiguredRoutes(t *testing.T) {
	r := New(Routes{
		entry("10.0.0.5:25, 10.0.0.6:25", "corp.example", "Bücher.example"),
		entry("10.0.0.7:25", ".corp.example, .deep.corp.example"),
		entry("lmtp:unix:/run/lmtp", "lists.corp.example"),
		entry("lmtp:10.0.0.8:24", "[192.0.2.7]"),
		entry("smart.example:587", "*"),
	}, options(nil))
	for domain, want := range map[string]string{
		"corp.example":           "10.0.0.5:25 10.0.0.6:25",
		"CORP.example.":          "10.0.0.5:25 10.0.0.6:25",
		"bücher.example":         "10.0.0.5:25 10.0.0.6:25",
		"xn--bcher-kva.example":  "10.0.0.5:25 10.0.0.6:25",
		"a.corp.example":         "10.0.0.7:25",
		"deep.corp.example":      "10.0.0.7:25",
		"a.b.deep.corp.example":  "10.0.0.7:25",
		"lists.corp.example":     "unix:/run/lmtp",
		"x.lists.corp.example":   "10.0.0.7:25",
		"notcorp.example":        "smart.example:587",
		"example":                "smart.example:587",
		"[192.0.2.7]":            "10.0.0.8:24",
		"[192.0.2.8]":            "smart.example:587",
		"":                       "smart.example:587",
		"relay.ours.example":     "smart.example:587",
		"what is this?":          "smart.example:587",
		"..":                     "smart.example:587",
		strings.Repeat("a.", 99): "smart.example:587",
	} {
		got, err := r.Route(t.Context(), domain)
		if err != nil || strings.Join(addresses(got), " ") != want {
			t.Errorf("%q: %q %v, want %q", domain, addresses(got), err, want)
		}
		for _, h := range got.Hosts {
			if h.Hello != "relay.ours.example" || h.LMTP != (want[:4] == "unix" || want == "10.0.0.8:24") {
				t.Errorf("%q: %+v", domain, h)
			}
		}
		if got.Name == "" {
			t.Errorf("%q has no name", domain)
		}
	}
	r = New(Routes{entry("a:25", "corp.example")}, options(nil))
	if _, err := r.Route(t.Context(), "other.example"); !errors.Is(err, ErrNoRoute) {
		t.Errorf("%v", err)
	}
}

func TestRoutesConfig(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	auth := func(hop, policy string) Route {
		r := entry(hop, "a.example")
		r.TLS.Policy, r.Auth = nexthop.Policy(policy), nexthop.AuthConfig{User: "u", PasswordFile: secret}
		return r
	}
	implicit := entry("a:465", "a.example")
	implicit.TLS.Mode = "implicit"
	for _, tc := range []struct {
		routes Routes
		want   []string // none: valid
	}{
		{Routes{entry("mx", "*")}, nil},
		{Routes{entry("a:25,b:25", "a.example", ".a.example"), entry("lmtp:unix:/x", "b.example"), entry("lmtp:[::1]:24", "*")}, nil},
		{Routes{auth("a:25", "verified")}, nil},
		{nil, []string{"routes: empty"}},
		{Routes{{}}, []string{"routes[0].domain: empty", "routes[0].next_hop: empty"}},
		{Routes{entry("mx", "a.example"), entry("b", "A.example.", "-x", "*."), entry("mx, a:25", "b c")}, []string{
			`routes[1].domain: "A.example." stands in routes[0] already`, `routes[1].domain: "-x"`, `routes[1].domain: "*."`,
			`routes[1].next_hop: "b" is not host:port`, `routes[2].domain: "b c"`, `routes[2].next_hop: "mx" stands alone`,
		}},
		{Routes{entry("unix:/x", "*")}, []string{`"unix:/x": over a socket there is LMTP: lmtp:unix:/x`}},
		{Routes{entry("lmtp:unix:x", "*")}, []string{`"unix:x": not the path of a socket`}},
		{Routes{entry("a:25, a:25", "*")}, []string{`"a:25" stands there twice`}},
		{Routes{entry("127.0.0.1:2525", "*")}, []string{`"127.0.0.1:2525" is this listener itself`}},
		{Routes{auth("a:25", "")}, []string{`routes[0].next_hop_auth: needs next_hop_tls required or verified`}},
		{Routes{auth("mx", "verified")}, []string{`routes[0].next_hop_auth: a password is for hosts that are named`}},
		{Routes{implicit}, []string{`routes[0].next_hop_tls.mode: "implicit" needs policy required or verified`}},
	} {
		err := tc.routes.Validate("127.0.0.1:2525")
		if len(tc.want) == 0 && err != nil {
			t.Errorf("%+v: %v", tc.routes, err)
		}
		for _, want := range tc.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %q", tc.routes, err, want)
			}
		}
	}
}

// Each case of RFC 5321 section 5.1 and RFC 7505, asked of a real name server through the system's resolver.
func TestMX(t *testing.T) {
	server, resolver := newDNS(t)
	server.add(
		"plain.example MX 10 mx1.plain.example", "plain.example MX 20 mx2.plain.example",
		"mx1.plain.example A 192.0.2.1", "mx2.plain.example A 192.0.2.2",
		"implicit.example A 192.0.2.3", "implicit.example AAAA 2001:db8::3",
		"six.example MX 0 mx.six.example", "mx.six.example AAAA 2001:db8::6",
		"null.example MX 0 .", "null.example A 192.0.2.4",
		"half-null.example MX 0 .", "half-null.example MX 10 mx1.plain.example",
		"alias.example CNAME plain.example", "mx-alias.example MX 10 a.mx-alias.example", "a.mx-alias.example CNAME mx1.plain.example",
		"dangling.example MX 10 nowhere.example", "bad-mx.example MX 10 192.0.2.5", "broken-mx.example MX 10 servfail.example",
		"one-works.example MX 10 servfail.example", "one-works.example MX 20 mx1.plain.example",
		"nothing.example TXT here",
		"ours-first.example MX 5 relay.ours.example", "ours-first.example MX 10 mx1.plain.example",
		"ours-second.example MX 5 mx1.plain.example", "ours-second.example MX 10 mail.ours.example", "ours-second.example MX 10 mx2.plain.example",
		"ours-second.example MX 20 mx2.plain.example", "ours-by-address.example MX 5 mx1.plain.example",
		"ours-by-address.example MX 10 other-name.example", "ours-by-address.example MX 20 mx2.plain.example", "other-name.example A 192.0.2.99",
		"ours-equal.example MX 10 other-name.example", "ours-equal.example MX 10 mx1.plain.example",
		"ours-implicit.example AAAA 2001:db8::99", "unspecified.example MX 10 zero.example", "zero.example A 0.0.0.0",
	)
	server.fail("servfail.example.", dnsmessage.RCodeServerFailure)
	server.fail("refused.example.", dnsmessage.RCodeRefused)
	r := New(Routes{entry("mx", "*")}, options(resolver))
	for _, tc := range []struct {
		domain string
		want   string // hosts, or "" with err
		err    error
	}{
		{"plain.example", "mx1.plain.example:25=192.0.2.1 mx2.plain.example:25=192.0.2.2", nil},
		{"PLAIN.Example.", "mx1.plain.example:25=192.0.2.1 mx2.plain.example:25=192.0.2.2", nil},
		{"six.example", "mx.six.example:25=2001:db8::6", nil},
		{"alias.example", "mx1.plain.example:25=192.0.2.1 mx2.plain.example:25=192.0.2.2", nil},
		{"mx-alias.example", "a.mx-alias.example:25=192.0.2.1", nil},
		{"half-null.example", "mx1.plain.example:25=192.0.2.1", nil},
		{"one-works.example", "mx1.plain.example:25=192.0.2.1", nil},
		{"ours-second.example", "mx1.plain.example:25=192.0.2.1", nil},
		{"ours-by-address.example", "mx1.plain.example:25=192.0.2.1", nil},
		{"[192.0.2.7]", "192.0.2.7:25=192.0.2.7", nil},
		{"[IPv6:2001:db8::7]", "[2001:db8::7]:25=2001:db8::7", nil},
		{"null.example", "", ErrNullMX},
		{"no-such.example", "", ErrNoDomain},
		{"nothing.example", "", ErrNoDomain},
		{"dangling.example", "", ErrNoDomain},
		{"bad-mx.example", "", ErrNoDomain},
		{"not a name", "", ErrNoDomain},
		{"192.0.2.7", "", ErrNoDomain},
		{"[192.0.2]", "", ErrNoDomain},
		{"[2001:db8::7]", "", ErrNoDomain},
		{"[ipv6:192.0.2.7]", "", ErrNoDomain},
		{"ours-first.example", "", ErrLoop},
		{"ours-equal.example", "", ErrLoop},
		{"ours-implicit.example", "", ErrLoop},
		{"unspecified.example", "", ErrLoop},
		{"[192.0.2.99]", "", ErrLoop},
		{"[127.0.0.1]", "127.0.0.1:25=127.0.0.1", nil}, // ours does not say that it is ours
		{"servfail.example", "", ErrDNS},
		{"refused.example", "", ErrDNS},
		{"broken-mx.example", "", ErrDNS},
	} {
		got, err := r.Route(t.Context(), tc.domain)
		if !errors.Is(err, tc.err) || tc.err == nil && err != nil || strings.Join(addresses(got), " ") != tc.want {
			t.Errorf("%s: %q %v, want %q %v", tc.domain, addresses(got), err, tc.want, tc.err)
		}
		if tc.err != nil && tc.err != ErrDNS && errors.Is(err, ErrDNS) {
			t.Errorf("%s: %v is temporary and permanent", tc.domain, err)
		}
		if err == nil && got.Name != canonical(tc.domain) {
			t.Errorf("%s: name %q", tc.domain, got.Name)
		}
	}
	got, err := r.Route(t.Context(), "implicit.example")
	all := addresses(got)
	slices.Sort(all)
	if err != nil || strings.Join(all, " ") != "implicit.example:25=192.0.2.3 implicit.example:25=2001:db8::3" {
		t.Errorf("%q %v", all, err)
	}
	for _, asked := range server.questions() { // no search list, and not the name that an MX record has no business with
		if !strings.HasSuffix(asked, ".example.") && asked != "MX 192.0.2.7." {
			t.Errorf("asked for %s", asked)
		}
	}
}

// The network interfaces' addresses are ours where nothing else is said.
func TestOwnAddresses(t *testing.T) {
	server, resolver := newDNS(t)
	server.add("looped.example MX 10 localhost.example", "localhost.example A 127.0.0.1")
	r := New(Routes{entry("mx", "*")}, Options{Hello: "relay.example", Resolver: resolver})
	if got, err := r.Route(t.Context(), "looped.example"); !errors.Is(err, ErrLoop) {
		t.Errorf("%q %v", addresses(got), err)
	}
}

// A name server that does not answer is a fault for now, and does not hold anybody longer than he wants.
func TestMuteDNS(t *testing.T) {
	server, resolver := newDNS(t)
	server.silence("mute.example.")
	r := New(Routes{entry("mx", "*")}, options(resolver))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Route(ctx, "mute.example"); !errors.Is(err, ErrDNS) {
		t.Errorf("%v", err)
	}
}

// An answer too large for UDP comes over TCP, and no domain has us try more hosts than the bound.
func TestManyHosts(t *testing.T) {
	server, resolver := newDNS(t)
	for i := range 60 {
		server.add(fmt.Sprintf("many.example MX %d mx-with-a-rather-long-name-%d.many.example", i, i),
			fmt.Sprintf("mx-with-a-rather-long-name-%d.many.example A 198.51.100.%d", i, i+1))
	}
	for i := range 40 {
		server.add(fmt.Sprintf("wide.example AAAA 2001:db8::1:%d", i+1), fmt.Sprintf("wide.example A 198.51.100.%d", i+1))
	}
	r := New(Routes{entry("mx", "*")}, options(resolver))
	got, err := r.Route(t.Context(), "many.example")
	if err != nil || len(got.Hosts) != maxAddresses || got.Hosts[9].Address != "mx-with-a-rather-long-name-9.many.example:25" {
		t.Errorf("%q %v", addresses(got), err)
	}
	if asked := len(server.questions()); asked > 2+2*maxAddresses {
		t.Errorf("%d questions: %q", asked, server.questions())
	}
	got, err = r.Route(t.Context(), "wide.example")
	kinds := map[bool]int{}
	for _, h := range got.Hosts {
		kinds[h.IP.Is4()]++
	}
	if err != nil || len(got.Hosts) != maxAddresses || kinds[true] != 5 || kinds[false] != 5 {
		t.Errorf("%q %v", addresses(got), err)
	}
}

// Hosts of one preference share the work, and never come before a preferred one.
func TestEqualsAreShuffled(t *testing.T) {
	f := fake{mx: map[string][]*net.MX{"d.example.": {{Host: "c.", Pref: 20}, {Host: "a.", Pref: 10}, {Host: "b.", Pref: 10}}}}
	f.ip = map[string][]netip.Addr{}
	for i, host := range []string{"a.", "b.", "c."} {
		f.ip[host] = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}
	}
	r := New(Routes{entry("mx", "*")}, options(f))
	first := map[string]int{}
	for range 200 {
		got, err := r.Route(t.Context(), "d.example")
		if err != nil || len(got.Hosts) != 3 || got.Hosts[2].Address != "c:25" {
			t.Fatalf("%q %v", addresses(got), err)
		}
		first[got.Hosts[0].Address]++
	}
	if first["a:25"] < 50 || first["b:25"] < 50 {
		t.Errorf("%v", first)
	}
}

// fake is a Resolver of maps. Like the real one it wants the dot, and says IsNotFound of what is not there.
type fake struct {
	mx map[string][]*net.MX
	ip map[string][]netip.Addr
}

func (f fake) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	if records, ok := f.mx[name]; ok {
		return records, nil
	}
	return nil, &net.DNSError{Name: name, Err: "no such host", IsNotFound: true}
}

func (f fake) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if ips, ok := f.ip[host]; ok {
		return ips, nil
	}
	return nil, &net.DNSError{Name: host, Err: "no such host", IsNotFound: true}
}
