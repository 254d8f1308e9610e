package journal

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/nexthop/route"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

// Config is one entry of the section "listeners" of the configuration. A zero value stands for the default.
type Config struct {
	smtpd.Config `mapstructure:",squash"`
	Hop          nexthop.Config `mapstructure:",squash"`      // where mail goes; mode relay
	KeepRefused  KeepRefused    `mapstructure:"keep_refused"` // none, envelope (the default), full (the default of ack: archive); mode relay
	Ack          string         `mapstructure:"ack"`          // spool (the default), archive
	Routes       route.Routes   `mapstructure:"routes"`       // where mail goes by its recipients' domains; mode queue

	ReportFormats   []string `mapstructure:"report_formats"`   // of journal reports, report.Formats; none (the default): none is read; mode journal
	ReportNetworks  []string `mapstructure:"report_networks"`  // from where they count; none: from trusted_networks
	ReportAddresses []string `mapstructure:"report_addresses"` // that they must have been sent to; none: any
}

// KeepRefused says what is archived of a message that the next hop refused. The archive asks when it packs the record.
type KeepRefused string

// The values of KeepRefused. With ack: archive the message is in the archive before the next hop has answered, so all of it is kept whatever
// the setting; envelope then means: at least.
const (
	KeepNone     KeepRefused = "none"     // an entry that accounts for its sequence number
	KeepEnvelope KeepRefused = "envelope" // the envelope, and what the next hop said
	KeepFull     KeepRefused = "full"     // all of it, as if it had been delivered
)

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	c.Config = c.Config.WithDefaults()
	c.Ack = cmp.Or(c.Ack, AckSpool)
	if c.Ack == AckArchive {
		c.KeepRefused = cmp.Or(c.KeepRefused, KeepFull)
	}
	c.KeepRefused = cmp.Or(c.KeepRefused, KeepEnvelope)
	return c
}

// Validate names every fault at once: the listener, the key and its value.
func (c Config) Validate() error {
	mode := c.Config.WithDefaults().Mode
	relay := mode == record.ModeRelay
	errs := []error{c.Config.Validate()}
	fault := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("listener %q: %s: %s", c.Name, key, fmt.Sprintf(format, args...)))
	}
	switch {
	case relay:
		for _, err := range c.hopFaults() {
			fault("next_hop", "%v", err)
		}
		if err := c.Hop.ValidateTLS(); err != nil {
			for _, err := range split(err) {
				errs = append(errs, fmt.Errorf("listener %q: %w", c.Name, err))
			}
		}
	case mode == record.ModeQueue && !zeroHop(c.Hop):
		fault("next_hop", "mode queue has routes instead")
	case len(c.Hop.NextHop) > 0:
		fault("next_hop", "%q: nothing is forwarded in mode %s", strings.Join(c.Hop.NextHop, ","), c.Mode)
	case c.Hop.TLS != (nexthop.TLSConfig{}) || c.Hop.Auth != (nexthop.AuthConfig{}):
		fault("next_hop_tls, next_hop_auth", "nothing is forwarded in mode %s", c.Mode)
	}
	switch {
	case mode == record.ModeQueue:
		if err := c.Routes.Validate(c.Address); err != nil {
			for _, err := range split(err) {
				errs = append(errs, fmt.Errorf("listener %q: %w", c.Name, err))
			}
		}
	case len(c.Routes) > 0:
		fault("routes", "they are for mode queue, not %s", mode)
	}
	d := c.WithDefaults()
	switch d.KeepRefused {
	case KeepNone, KeepEnvelope, KeepFull:
	default:
		fault("keep_refused", "%q is neither none, envelope nor full", c.KeepRefused)
	}
	switch d.Ack {
	case AckSpool:
	case AckArchive:
		if d.KeepRefused == KeepNone {
			fault("keep_refused", "%q can't be with ack: archive, where a message is archived before it can be refused: envelope or full", c.KeepRefused)
		}
	default:
		fault("ack", "%q is neither spool nor archive", c.Ack)
	}
	c.checkReports(fault)
	return errors.Join(errs...)
}

// hopFaults is what is wrong with the hosts that mode relay passes on to.
func (c Config) hopFaults() (errs []error) {
	hops := c.Hop.Addresses()
	if len(hops) == 0 {
		return []error{errors.New("empty: mode relay needs the host:port to which mail goes on")}
	}
	seen := map[string]bool{}
	for _, hop := range hops {
		switch {
		case hop == "mx" || strings.HasPrefix(hop, "lmtp:") || strings.HasPrefix(hop, "unix:"):
			errs = append(errs, fmt.Errorf("%q needs mode queue: in mode relay the next hop's one reply is the client's", hop))
		case strings.ContainsAny(hop, " ;="):
			errs = append(errs, fmt.Errorf("%q: equivalent hosts are a list of host:port; several destinations need mode queue", hop))
		case seen[hop]:
			errs = append(errs, fmt.Errorf("%q stands there twice", hop))
		case strings.EqualFold(hop, c.Address):
			errs = append(errs, fmt.Errorf("%q is this listener itself", hop))
		default:
			if err := nexthop.CheckAddress(hop); err != nil {
				errs = append(errs, err)
			}
		}
		seen[hop] = true
	}
	return errs
}

func zeroHop(h nexthop.Config) bool {
	return len(h.NextHop) == 0 && h.TLS == (nexthop.TLSConfig{}) && h.Auth == (nexthop.AuthConfig{})
}

// Router is that of a listener in mode queue.
func (c Config) Router() *route.Router {
	return route.New(c.Routes, route.Options{Hello: c.WithDefaults().Hostname})
}

// split gives the errors of a join.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// KeepOf gives, for a record out of custody, how much of it is to be archived: by the setting of its listener where the next hop refused
// it, KeepFull otherwise. A listener that is not configured any more counts as one with the default.
func KeepOf(listeners []Config) func(*record.Item) KeepRefused {
	keep := map[string]KeepRefused{}
	for _, l := range listeners {
		keep[l.Name] = l.WithDefaults().KeepRefused
	}
	return func(it *record.Item) KeepRefused {
		if d := it.Delivery(); it.Kind != record.KindMessage || it.Envelope == nil || d == nil || d.Outcome != record.Refused || it.Envelope.Mode == record.ModeQueue {
			return KeepFull // also what was acknowledged, and was refused later
		}
		return cmp.Or(keep[it.Envelope.Listener], KeepEnvelope)
	}
}
