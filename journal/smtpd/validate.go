package smtpd

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/holdfast-archive/holdfast/archive/record"
)

var (
	listenerName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
	hostname     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$`)
)

// faults collects what is wrong with one listener.
type faults struct {
	name string
	errs []error
}

func (f *faults) add(key, format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf("listener %q: %s: %s", f.name, key, fmt.Sprintf(format, args...)))
}

// Validate names every fault at once: the listener, the key and its value. It reads the files that are named, but does not listen. A
// listener that would relay for everybody is a fault.
func (c Config) Validate() error {
	f := &faults{name: c.Name}
	c.checkTwice(f)
	c = c.WithDefaults()
	c.checkBasics(f)
	c.checkSenders(f)
	c.checkTLS(f)
	c.checkBareNewline(f)
	c.checkLimits(f)
	return errors.Join(f.errs...)
}

// checkTwice finds limits that are set under both of their names, to different values.
func (c Config) checkTwice(f *faults) {
	for _, l := range []struct {
		key        string
		old, value int64
	}{
		{"message_size", c.MaxMessageSize, c.Limits.MessageSize},
		{"recipients", int64(c.MaxRecipients), int64(c.Limits.Recipients)},
		{"connections", int64(c.MaxConnections), int64(c.Limits.Connections)},
		{"connections_per_client", int64(c.MaxConnectionsPerClient), int64(c.Limits.ConnectionsPerClient)},
	} {
		if l.old != 0 && l.value != 0 && l.old != l.value {
			f.add("limits."+l.key, "%d, and max_%s says %d", l.value, l.key, l.old)
		}
	}
}

func (c Config) checkBasics(f *faults) {
	if !listenerName.MatchString(c.Name) {
		f.add("name", "%q is not a name of letters, digits, dots, _ and -, at most 63 long", c.Name)
	}
	if err := checkAddress(c.Address); err != nil {
		f.add("address", "%v", err)
	}
	switch c.Mode {
	case record.ModeRelay, record.ModeQueue, record.ModeJournal:
	default:
		f.add("mode", "%q is not a mode: relay, queue or journal", c.Mode)
	}
	if !hostname.MatchString(c.Hostname) {
		f.add("hostname", "%q is not a host name", c.Hostname)
	}
	if c.CommandTimeout < time.Second {
		f.add("command_timeout", "%v is under a second", c.CommandTimeout)
	}
	if c.DataTimeout < time.Second {
		f.add("data_timeout", "%v is under a second", c.DataTimeout)
	}
	if c.MinRate < 0 {
		f.add("min_rate", "%d is negative", c.MinRate)
	}
}

// checkSenders looks at who may send, and that this is not everybody to everybody.
func (c Config) checkSenders(f *faults) {
	if len(c.TrustedNetworks) == 0 && len(c.TrustedCertificates) == 0 && c.Auth.Users == "" && len(c.RecipientDomains) == 0 {
		f.add("trusted_networks", "empty, as are recipient_domains, auth and trusted_certificates: nobody could send mail")
	}
	if n := c.networks(f, "trusted_networks", c.TrustedNetworks); n.everybody() && c.Mode != record.ModeJournal {
		f.add("trusted_networks", "%q is everybody: an open relay", strings.Join(c.TrustedNetworks, ", "))
	}
	for _, l := range []struct {
		key  string
		list []string
	}{{"proxy_networks", c.ProxyNetworks}, {"xclient_networks", c.XClientNetworks}} {
		if n := c.networks(f, l.key, l.list); n.everybody() {
			f.add(l.key, "%q is everybody, and anybody could say that he is somebody else", strings.Join(l.list, ", "))
		}
	}
	for _, d := range c.RecipientDomains {
		if _, err := parseDomains([]string{d}); err != nil {
			f.add("recipient_domains", "%v", err)
			continue
		}
		name, _ := canonicalDomain(strings.TrimPrefix(d, "."))
		if suffix, icann := publicsuffix.PublicSuffix(name); icann && suffix == name && strings.HasPrefix(d, ".") {
			f.add("recipient_domains", "%q is a part of the Internet: an open relay", d)
		}
	}
}

// networks reads a list, its faults told.
func (c Config) networks(f *faults, key string, list []string) (n networks) {
	for _, s := range list {
		p, err := parseNetwork(s)
		if err != nil {
			f.add(key, "%v", err)
			continue
		}
		n = append(n, p)
	}
	return n
}

func (c Config) checkTLS(f *faults) {
	ours := c
	ours.ClientCA = ""
	t, err := newTransport(ours)
	if err != nil {
		f.add("tls", "%v", err)
	}
	if c.TLS.Mode != startTLS && c.TLS.Mode != implicitTLS {
		f.add("tls", "mode: %q is neither starttls nor implicit", c.TLS.Mode)
	}
	missing := t == nil && err == nil
	if missing && (c.TLS.Required || c.TLS.implicit()) {
		f.add("tls", "there is no cert")
	}
	if c.ClientCA != "" {
		if _, err := readPool(c.ClientCA); err != nil {
			f.add("client_ca", "%v", err)
		} else if missing {
			f.add("client_ca", "%s: there is no tls", c.ClientCA)
		}
	}
	if len(c.TrustedCertificates) > 0 && missing {
		f.add("trusted_certificates", "there is no tls")
	}
	for _, s := range c.TrustedCertificates {
		if _, ok := fingerprint(s); ok {
			continue
		}
		switch {
		case !strings.Contains(s, "="):
			f.add("trusted_certificates", "%q is neither a SHA-256 fingerprint nor a subject such as CN=mail.example.com,O=Example", s)
		case c.ClientCA == "":
			f.add("trusted_certificates", "%q: anybody can make a certificate of that subject; it needs client_ca", s)
		}
	}
	if c.Auth.Users != "" {
		if _, err := readUsers(c.Auth.Users); err != nil {
			f.add("auth", "users: %v", err)
		} else if missing {
			f.add("auth", "there is no tls, and passwords are not taken in clear text")
		}
	}
}

func (c Config) checkBareNewline(f *faults) {
	n := c.networks(f, "bare_newline", c.BareNewline.Accept)
	switch b := c.BareNewline.Default; {
	case b != refuseBare && b != acceptBare:
		f.add("bare_newline", "%q is neither refuse nor accept", b)
	case b == refuseBare && c.Mode == record.ModeJournal:
		f.add("bare_newline", "%q can't be in mode journal, which keeps what it is given", b)
	case b == acceptBare && len(n) > 0:
		f.add("bare_newline", "accept: %q: it is taken from everybody", strings.Join(c.BareNewline.Accept, ", "))
	}
}

func (c Config) checkLimits(f *faults) {
	l := c.Limits
	if l.MessageSize < 64<<10 {
		f.add("max_message_size", "%d bytes is under 64 KiB (RFC 5321 section 4.5.3.1.7)", l.MessageSize)
	}
	if l.Recipients < 100 {
		f.add("max_recipients", "%d is under 100 (RFC 5321 section 4.5.3.1.8)", l.Recipients)
	}
	for _, n := range []struct {
		key   string
		value int
	}{
		{"max_connections", l.Connections}, {"max_connections_per_client", l.ConnectionsPerClient},
		{"limits.errors", l.Errors}, {"limits.junk_commands", l.JunkCommands}, {"limits.auth_failure_rate", l.AuthFailureRate},
	} {
		if n.value < 1 {
			f.add(n.key, "%d is no number to allow", n.value)
		}
	}
	for _, n := range []struct {
		key   string
		value int
	}{
		{"limits.connection_rate", l.ConnectionRate}, {"limits.message_rate", l.MessageRate}, {"limits.recipient_rate", l.RecipientRate},
	} {
		if n.value < 0 {
			f.add(n.key, "%d is negative", n.value)
		}
	}
	c.networks(f, "limits.exempt_networks", l.ExemptNetworks)
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
