package nexthop

import (
	"net"
	"net/netip"
	"strings"
)

// Policy says how TLS is used towards a next hop.
type Policy string

// The policies.
const (
	// None never uses TLS.
	None Policy = "none"
	// Opportunistic takes TLS where STARTTLS (RFC 3207) is offered. The certificate is recorded, not verified. Where the handshake
	// fails the message goes in clear text over a new connection, and the delivery says so. Over a unix socket it is None.
	Opportunistic Policy = "opportunistic"
	// Required sends nothing in clear text: a host that does not offer TLS, or fails the handshake, is unavailable (ErrTLS). The
	// certificate is recorded, not verified.
	Required Policy = "required"
	// Verified is Required with a certificate that is valid now, goes back to a trusted root, and bears the name of Target.Name.
	Verified Policy = "verified"
)

// Target is one host and how it is spoken to. Connections are shared between equal Targets only. It is comparable; files are named, not
// held, and read anew for each connection, so that a new password or root is taken without a restart.
type Target struct {
	Address     string      // host:port, [IPv6]:port, or unix:/path
	IP          netip.Addr  // where valid: what the host of Address was resolved to; it is dialled in its stead
	LMTP        bool        // RFC 2033 instead of SMTP
	TLS         Policy      // "" is Opportunistic
	Implicit    bool        // TLS from the first byte (RFC 8314 section 3.3) instead of STARTTLS; with Required or Verified
	VerifyName  string      // the name that is asked for (SNI) and under Verified must be in the certificate; "": the host of Address
	CAFile      string      // PEM: the roots for Verified; "": the system's
	Credentials Credentials // zero: no AUTH
	Hello       string      // the name that we give in EHLO
}

// Credentials are for AUTH (RFC 4954), by PLAIN or LOGIN, and over TLS only.
type Credentials struct {
	User         string
	PasswordFile string // its first line
}

// Name is the host's name as TLS has it; "" for a unix socket without VerifyName.
func (t Target) Name() string {
	if t.VerifyName != "" {
		return t.VerifyName
	}
	host, _, _ := net.SplitHostPort(t.Address)
	return host
}

// dialled gives what a Dialer is told.
func (t Target) dialled() (network, address string) {
	if path, ok := strings.CutPrefix(t.Address, unixPrefix); ok {
		return "unix", path
	}
	if t.IP.IsValid() {
		_, port, _ := net.SplitHostPort(t.Address)
		return "tcp", net.JoinHostPort(t.IP.String(), port)
	}
	return "tcp", t.Address
}

const unixPrefix = "unix:"

// policy is TLS as it is meant.
func (t Target) policy() Policy {
	switch {
	case t.TLS != "" && t.TLS != Opportunistic:
		return t.TLS
	case strings.HasPrefix(t.Address, unixPrefix):
		return None
	}
	return Opportunistic
}

// forced says that nothing may be said in clear text.
func (p Policy) forced() bool { return p == Required || p == Verified }

// Route is a destination: hosts that serve equally, the preferred one first. Who may fail over within a Route is Pool's business.
type Route struct {
	Name  string   // of the destination, for logs, and for who counts by destination
	Hosts []Target // at least one
}

// To is the Route of one or more hosts, named by their addresses.
func To(hosts ...Target) Route {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Address
	}
	return Route{Name: strings.Join(names, ","), Hosts: hosts}
}
