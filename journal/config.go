package journal

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

// Config is one entry of the section "listeners" of the configuration. A zero value stands for the default.
type Config struct {
	smtpd.Config `mapstructure:",squash"`
	NextHop      string         `mapstructure:"next_hop"`     // host:port; mode relay
	NextHopTLS   nexthop.Policy `mapstructure:"next_hop_tls"` // opportunistic (the default), none
	KeepRefused  KeepRefused    `mapstructure:"keep_refused"` // none, envelope (the default), full; mode relay
	Ack          string         `mapstructure:"ack"`          // spool (the default)
}

// KeepRefused says what is archived of a message that the next hop refused. The archive asks when it packs the record.
type KeepRefused string

// The values of KeepRefused.
const (
	KeepNone     KeepRefused = "none"     // an entry that accounts for its sequence number
	KeepEnvelope KeepRefused = "envelope" // the envelope, and what the next hop said
	KeepFull     KeepRefused = "full"     // all of it, as if it had been delivered
)

// AckSpool is the value of ack by which custody is the local disk.
const AckSpool = "spool"

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	c.Config = c.Config.WithDefaults()
	c.NextHopTLS = cmp.Or(c.NextHopTLS, nexthop.Opportunistic)
	c.KeepRefused = cmp.Or(c.KeepRefused, KeepEnvelope)
	c.Ack = cmp.Or(c.Ack, AckSpool)
	return c
}

// Validate names every fault at once: the listener, the key and its value.
func (c Config) Validate() error {
	relay := c.Config.WithDefaults().Mode == record.ModeRelay
	errs := []error{c.Config.Validate()}
	fault := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("listener %q: %s: %s", c.Name, key, fmt.Sprintf(format, args...)))
	}
	switch {
	case relay:
		if err := checkNextHop(c.NextHop, c.Address); err != nil {
			fault("next_hop", "%v", err)
		}
	case c.NextHop != "":
		fault("next_hop", "%q: nothing is forwarded in mode %s", c.NextHop, c.Mode)
	}
	d := c.WithDefaults()
	if d.NextHopTLS != nexthop.Opportunistic && d.NextHopTLS != nexthop.None {
		fault("next_hop_tls", "%q is neither opportunistic nor none", c.NextHopTLS)
	}
	switch d.KeepRefused {
	case KeepNone, KeepEnvelope, KeepFull:
	default:
		fault("keep_refused", "%q is neither none, envelope nor full", c.KeepRefused)
	}
	switch d.Ack {
	case AckSpool:
	case "archive":
		fault("ack", "%q is not available yet: spool", c.Ack)
	default:
		fault("ack", "%q is not spool", c.Ack)
	}
	return errors.Join(errs...)
}

func checkNextHop(hop, own string) error {
	if hop == "" {
		return errors.New("empty: mode relay needs the host:port to which mail goes on")
	}
	if strings.ContainsAny(hop, ", ;") {
		return fmt.Errorf("%q: one host:port; several destinations need mode queue, which is not available yet", hop)
	}
	host, port, err := net.SplitHostPort(hop)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port", hop)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: %q is not a port", hop, port)
	}
	if strings.EqualFold(hop, own) {
		return fmt.Errorf("%q is this listener itself", hop)
	}
	return nil
}

// KeepOf gives, for a record out of custody, how much of it is to be archived: by the setting of its listener where the next hop refused
// it, KeepFull otherwise. A listener that is not configured any more counts as one with the default.
func KeepOf(listeners []Config) func(*record.Item) KeepRefused {
	keep := map[string]KeepRefused{}
	for _, l := range listeners {
		keep[l.Name] = l.WithDefaults().KeepRefused
	}
	return func(it *record.Item) KeepRefused {
		if d := it.Delivery(); it.Kind != record.KindMessage || it.Envelope == nil || d == nil || d.Outcome != record.Refused {
			return KeepFull
		}
		return cmp.Or(keep[it.Envelope.Listener], KeepEnvelope)
	}
}
