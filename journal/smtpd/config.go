package smtpd

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Config is one listener. A zero value stands for the default.
type Config struct {
	Name            string   `mapstructure:"name"`
	Address         string   `mapstructure:"address"`          // host:port to listen on
	Mode            string   `mapstructure:"mode"`             // record.ModeRelay (the default), record.ModeJournal
	TrustedNetworks []string `mapstructure:"trusted_networks"` // who may send mail: addresses and prefixes
	Hostname        string   `mapstructure:"hostname"`         // how we greet; the default is the system's name

	TLS TLSConfig `mapstructure:"tls"`

	MaxMessageSize          int64  `mapstructure:"max_message_size"` // bytes
	BareNewline             string `mapstructure:"bare_newline"`     // "refuse" in relay mode, "accept" in journal mode
	MaxRecipients           int    `mapstructure:"max_recipients"`   // of one message
	MaxConnections          int    `mapstructure:"max_connections"`
	MaxConnectionsPerClient int    `mapstructure:"max_connections_per_client"` // of one IP address

	CommandTimeout time.Duration `mapstructure:"command_timeout"` // for the next command, and for the client to take a reply
	DataTimeout    time.Duration `mapstructure:"data_timeout"`    // for the next bytes of a message, however few
	MinRate        int64         `mapstructure:"min_rate"`        // of a message's bytes a second, after half a minute; 0: none
}

// TLSConfig turns STARTTLS on, where it is not empty.
type TLSConfig struct {
	Cert       string `mapstructure:"cert"` // PEM files; read again when they change
	Key        string `mapstructure:"key"`
	MinVersion string `mapstructure:"min_version"` // "1.2" (the default), "1.3"
}

// Defaults, where Config has zero.
const (
	DefaultMaxMessageSize          = 50 << 20
	DefaultMaxRecipients           = 1000
	DefaultMaxConnections          = 1000
	DefaultMaxConnectionsPerClient = 200
	DefaultCommandTimeout          = 5 * time.Minute
	DefaultDataTimeout             = 3 * time.Minute
)

// Values of Config.BareNewline.
const (
	refuseBare = "refuse"
	acceptBare = "accept"
)

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	c.Mode = cmp.Or(c.Mode, record.ModeRelay)
	c.MaxMessageSize = cmp.Or(c.MaxMessageSize, DefaultMaxMessageSize)
	c.MaxRecipients = cmp.Or(c.MaxRecipients, DefaultMaxRecipients)
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultMaxConnections)
	c.MaxConnectionsPerClient = cmp.Or(c.MaxConnectionsPerClient, DefaultMaxConnectionsPerClient)
	c.CommandTimeout = cmp.Or(c.CommandTimeout, DefaultCommandTimeout)
	c.DataTimeout = cmp.Or(c.DataTimeout, DefaultDataTimeout)
	c.TLS.MinVersion = cmp.Or(c.TLS.MinVersion, "1.2")
	if c.BareNewline == "" && c.Mode == record.ModeJournal {
		c.BareNewline = acceptBare
	}
	c.BareNewline = cmp.Or(c.BareNewline, refuseBare)
	if c.Hostname == "" {
		if name, err := os.Hostname(); err == nil && hostname.MatchString(name) {
			c.Hostname = name
		} else {
			c.Hostname = "localhost"
		}
	}
	return c
}

var (
	listenerName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
	hostname     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$`)
)

// Validate names every fault at once: the listener, the key and its value. It reads the certificate, but does not listen.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	fault := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("listener %q: %s: %s", c.Name, key, fmt.Sprintf(format, args...)))
	}
	if !listenerName.MatchString(c.Name) {
		fault("name", "%q is not a name of letters, digits, dots, _ and -, at most 63 long", c.Name)
	}
	if err := checkAddress(c.Address); err != nil {
		fault("address", "%v", err)
	}
	switch c.Mode {
	case record.ModeRelay, record.ModeJournal:
	case record.ModeQueue:
		fault("mode", "%q is not available yet: relay or journal", c.Mode)
	default:
		fault("mode", "%q is not a mode: relay or journal", c.Mode)
	}
	if len(c.TrustedNetworks) == 0 {
		fault("trusted_networks", "empty: nobody could send mail")
	}
	for _, s := range c.TrustedNetworks {
		if p, err := parseNetwork(s); err != nil {
			fault("trusted_networks", "%v", err)
		} else if p.Bits() == 0 && c.Mode != record.ModeJournal {
			fault("trusted_networks", "%q is everybody: an open relay", s)
		}
	}
	if !hostname.MatchString(c.Hostname) {
		fault("hostname", "%q is not a host name", c.Hostname)
	}
	if _, err := c.TLS.load(); err != nil {
		fault("tls", "%v", err)
	}
	if c.MaxMessageSize < 64<<10 {
		fault("max_message_size", "%d bytes is under 64 KiB (RFC 5321 section 4.5.3.1.7)", c.MaxMessageSize)
	}
	switch {
	case c.BareNewline != refuseBare && c.BareNewline != acceptBare:
		fault("bare_newline", "%q is neither refuse nor accept", c.BareNewline)
	case c.BareNewline == acceptBare && c.Mode == record.ModeRelay:
		fault("bare_newline", "%q is not available yet in mode relay", c.BareNewline)
	case c.BareNewline == refuseBare && c.Mode == record.ModeJournal:
		fault("bare_newline", "%q can't be in mode journal, which keeps what it is given", c.BareNewline)
	}
	if c.MaxRecipients < 100 {
		fault("max_recipients", "%d is under 100 (RFC 5321 section 4.5.3.1.8)", c.MaxRecipients)
	}
	if c.MaxConnections < 1 {
		fault("max_connections", "%d is not a number of connections", c.MaxConnections)
	}
	if c.MaxConnectionsPerClient < 1 {
		fault("max_connections_per_client", "%d is not a number of connections", c.MaxConnectionsPerClient)
	}
	if c.CommandTimeout < time.Second {
		fault("command_timeout", "%v is under a second", c.CommandTimeout)
	}
	if c.DataTimeout < time.Second {
		fault("data_timeout", "%v is under a second", c.DataTimeout)
	}
	if c.MinRate < 0 {
		fault("min_rate", "%d is negative", c.MinRate)
	}
	return errors.Join(errs...)
}

func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: %q is not a port", s, port)
	}
	return nil
}

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

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// load is what the certificate and the other values make; nil, nil where there is no TLS.
func (c TLSConfig) load() (*tls.Config, error) {
	version, ok := tlsVersions[c.MinVersion]
	if !ok {
		return nil, fmt.Errorf("min_version: %q is neither 1.2 nor 1.3", c.MinVersion)
	}
	if c.Cert == "" && c.Key == "" {
		return nil, nil
	}
	if c.Cert == "" || c.Key == "" {
		return nil, fmt.Errorf("cert %q, key %q: one is no use without the other", c.Cert, c.Key)
	}
	source := &certificate{certFile: c.Cert, keyFile: c.Key}
	if _, err := source.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: version, GetCertificate: source.get}, nil
}
