package nexthop

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// Config says where mail goes and how: a part of a listener, and of a route. A zero value stands for the default.
type Config struct {
	NextHop []string   `mapstructure:"next_hop"` // equivalent hosts, the preferred one first: host:port
	TLS     TLSConfig  `mapstructure:"next_hop_tls"`
	Auth    AuthConfig `mapstructure:"next_hop_auth"`
}

// TLSConfig is how TLS is used. In the configuration a word alone is the policy.
type TLSConfig struct {
	Policy Policy `mapstructure:"policy"` // none, opportunistic (the default), required, verified
	Name   string `mapstructure:"name"`   // that the certificate must have, where it is not the host's
	CA     string `mapstructure:"ca"`     // file of roots in PEM; the default is the system's
	Mode   string `mapstructure:"mode"`   // starttls (the default), implicit
}

// UnmarshalText reads the short form, the policy alone.
func (c *TLSConfig) UnmarshalText(text []byte) error {
	*c = TLSConfig{Policy: Policy(text)}
	return nil
}

// AuthConfig is how we sign in.
type AuthConfig struct {
	User         string `mapstructure:"user"` // a password is safe with policy verified alone: under required it goes to whoever answers
	PasswordFile string `mapstructure:"password_file"`
}

// The values of TLSConfig.Mode.
const (
	startTLSMode = "starttls"
	implicitMode = "implicit"
)

// Resolve makes the names of files absolute, by abs.
func (c *Config) Resolve(abs func(string) string) {
	for _, file := range []*string{&c.TLS.CA, &c.Auth.PasswordFile} {
		if *file != "" {
			*file = abs(*file)
		}
	}
}

// ValidateTLS names every fault of next_hop_tls and next_hop_auth at once, each with its key and value. It reads the files that are named.
// Which hosts next_hop may name differs by who asks: see CheckAddress.
func (c Config) ValidateTLS() error {
	var errs []error
	fault := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	policy := c.target().policy()
	switch c.TLS.Policy {
	case "", None, Opportunistic, Required, Verified:
	default:
		fault("next_hop_tls.policy", "%q is neither none, opportunistic, required nor verified", c.TLS.Policy)
	}
	switch c.TLS.Mode {
	case "", startTLSMode:
	case implicitMode:
		if !policy.forced() {
			fault("next_hop_tls.mode", "%q needs policy required or verified, not %s", c.TLS.Mode, policy)
		}
	default:
		fault("next_hop_tls.mode", "%q is neither starttls nor implicit", c.TLS.Mode)
	}
	if c.TLS.Name != "" && !isDomain(c.TLS.Name) && net.ParseIP(c.TLS.Name) == nil {
		fault("next_hop_tls.name", "%q is not a host name", c.TLS.Name)
	}
	if c.TLS.CA != "" && policy != Verified {
		fault("next_hop_tls.ca", "%q is of no use with policy %s", c.TLS.CA, policy)
	} else if _, err := roots(c.TLS.CA); err != nil {
		fault("next_hop_tls.ca", "%v", err)
	}
	if c.Auth != (AuthConfig{}) {
		if c.Auth.User == "" {
			fault("next_hop_auth.user", "empty")
		}
		if !policy.forced() {
			fault("next_hop_auth", "needs next_hop_tls required or verified: a password never goes in clear text")
		}
		if c.Auth.PasswordFile == "" {
			fault("next_hop_auth.password_file", "empty")
		} else if _, err := c.target().Credentials.password(); err != nil {
			fault("next_hop_auth.password_file", "%v", err)
		}
	}
	return errors.Join(errs...)
}

// Addresses gives what stands in next_hop, one by one.
func (c Config) Addresses() []string {
	var all []string
	for _, s := range c.NextHop {
		for part := range strings.SplitSeq(s, ",") {
			all = append(all, strings.TrimSpace(part))
		}
	}
	return all
}

// target is a Target but for its Address.
func (c Config) target() Target {
	return Target{
		TLS: c.TLS.Policy, Implicit: c.TLS.Mode == implicitMode, VerifyName: c.TLS.Name, CAFile: c.TLS.CA,
		Credentials: Credentials{User: c.Auth.User, PasswordFile: c.Auth.PasswordFile},
	}
}

// Target is the Target of one host; hello is the name that we give.
func (c Config) Target(address, hello string) Target {
	t := c.target()
	t.Address, t.Hello = address, hello
	return t
}

// Route is that of all hosts.
func (c Config) Route(hello string) Route {
	var hosts []Target
	for _, address := range c.Addresses() {
		hosts = append(hosts, c.Target(address, hello))
	}
	return To(hosts...)
}

// CheckAddress says what is wrong with a host:port or unix:/path.
func CheckAddress(s string) error {
	if path, ok := strings.CutPrefix(s, unixPrefix); ok {
		if !filepath.IsAbs(path) || len(path) > 100 {
			return fmt.Errorf("%q: not the path of a socket", s)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || net.ParseIP(host) == nil && !isDomain(host) {
		return fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: %q is not a port", s, port)
	}
	return nil
}
