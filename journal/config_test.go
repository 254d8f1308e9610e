package journal

import (
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

func config() Config {
	return Config{Hop: nexthop.Config{NextHop: []string{"127.0.0.1:2600"}}, Config: smtpd.Config{
		Name: "relay", Address: "127.0.0.1:2525", TrustedNetworks: []string{"127.0.0.0/8"},
	}}
}

func journalOf(c *Config, formats ...string) {
	c.Mode, c.Hop.NextHop, c.ReportFormats = record.ModeJournal, nil, formats
}

func TestConfig(t *testing.T) {
	for _, tc := range []struct {
		change func(*Config)
		want   []string // none: valid
	}{
		{func(c *Config) {}, nil},
		{func(c *Config) { c.Hop.NextHop = []string{"[::1]:25"} }, nil},
		{func(c *Config) { c.Mode, c.Hop.NextHop = record.ModeJournal, nil }, nil},
		{func(c *Config) { c.Hop.NextHop = nil }, []string{`listener "relay": next_hop: empty`}},
		{func(c *Config) { c.Hop.NextHop = []string{"mail.example"} }, []string{`next_hop: "mail.example" is not host:port`}},
		{func(c *Config) { c.Hop.NextHop = []string{"a:25, b:25"} }, nil},
		{func(c *Config) { c.Hop.NextHop = []string{"a:25", " b:25"} }, nil},
		{func(c *Config) { c.Hop.NextHop = []string{"a:25,a:25", "b"} }, []string{`next_hop: "a:25" stands there twice`, `"b" is not host:port`}},
		{func(c *Config) { c.Hop.NextHop = []string{"x.example=a:25; y.example=b:25"} }, []string{`several destinations need mode queue`}},
		{func(c *Config) { c.Hop.NextHop = []string{"mx"} }, []string{`next_hop: "mx" needs mode queue`}},
		{func(c *Config) { c.Hop.NextHop = []string{"lmtp:unix:/x"} }, []string{`next_hop: "lmtp:unix:/x" needs mode queue`}},
		{func(c *Config) { c.Hop.NextHop = []string{":25"} }, []string{`next_hop: ":25" is not host:port`}},
		{func(c *Config) { c.Hop.NextHop = []string{"a:0"} }, []string{`next_hop: "a:0": "0" is not a port`}},
		{func(c *Config) { c.Hop.NextHop = []string{c.Address} }, []string{`next_hop: "127.0.0.1:2525" is this listener itself`}},
		{func(c *Config) { c.Mode = record.ModeJournal }, []string{`next_hop: "127.0.0.1:2600": nothing is forwarded in mode journal`}},
		{func(c *Config) { c.Ack = AckArchive }, nil},
		{func(c *Config) { c.Ack, c.KeepRefused = AckArchive, KeepEnvelope }, nil},
		{func(c *Config) { c.Ack, c.KeepRefused = AckArchive, KeepNone }, []string{`keep_refused: "none" can't be with ack: archive`}},
		{func(c *Config) { c.Ack = "disk" }, []string{`ack: "disk" is neither spool nor archive`}},
		{func(c *Config) { journalOf(c, "exchange", "google") }, nil},
		{func(c *Config) { journalOf(c, "exchange"); c.ReportNetworks = []string{"10.1.2.3", "2001:db8::/32"} }, nil},
		{func(c *Config) { journalOf(c, "Exchange", "outlook") }, []string{`report_formats: "Exchange" is not one of exchange, google`, `report_formats: "outlook"`}},
		{func(c *Config) { c.ReportFormats = []string{"exchange"} }, []string{`report_formats: reports are read in mode journal, not in mode relay`}},
		{func(c *Config) { journalOf(c); c.ReportNetworks = []string{"10.0.0.0/8"} }, []string{"report_networks: no report_formats are named"}},
		{func(c *Config) { journalOf(c); c.ReportAddresses = []string{"j@a.example"} }, []string{"report_addresses: no report_formats are named"}},
		{func(c *Config) { journalOf(c, "exchange"); c.ReportAddresses = []string{"journal"} }, []string{`report_addresses: "journal" is not an address`}},
		{func(c *Config) { journalOf(c, "exchange"); c.ReportNetworks = []string{"10.1.2.3/8", "x", "::/0"} }, []string{
			`report_networks: "10.1.2.3/8" has bits beyond`, `report_networks: "x" is not an IP address`, `report_networks: "::/0" is everybody`,
		}},
		{func(c *Config) { journalOf(c, "exchange"); c.TrustedNetworks = []string{"0.0.0.0/0"} }, []string{`report_networks: empty, and trusted_networks has "0.0.0.0/0"`}},
		{func(c *Config) { c.Name, c.Hop.TLS.Policy, c.KeepRefused, c.Ack = "", "must", "some", "no" }, []string{
			"name:", `listener "": next_hop_tls.policy: "must"`, `keep_refused: "some"`, `ack: "no"`,
		}},
	} {
		c := config()
		tc.change(&c)
		err := c.Validate()
		if len(tc.want) == 0 {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		for _, want := range tc.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %q", c, err, want)
			}
		}
	}
}

func TestKeepOf(t *testing.T) {
	all, none, byDefault, early := config(), config(), config(), config()
	early.Name, early.Ack = "early", AckArchive
	all.Name, all.KeepRefused = "all", KeepFull
	none.Name, none.KeepRefused = "none", KeepNone
	keep := KeepOf([]Config{all, none, byDefault, early})
	item := func(listener string, outcome record.Outcome) *record.Item {
		it := &record.Item{Kind: record.KindMessage, Envelope: &record.Envelope{Listener: listener}}
		if outcome != "" {
			it.Supplements = []record.SupplementDoc{{Supplement: record.Supplement{Delivery: &record.Delivery{Outcome: outcome}}}}
		}
		return it
	}
	for _, tc := range []struct {
		listener string
		outcome  record.Outcome
		want     KeepRefused
	}{
		{"none", record.Refused, KeepNone}, {"all", record.Refused, KeepFull}, {"relay", record.Refused, KeepEnvelope}, {"early", record.Refused, KeepFull},
		{"gone", record.Refused, KeepEnvelope}, {"none", record.Delivered, KeepFull}, {"none", record.Unknown, KeepFull}, {"none", "", KeepFull},
	} {
		if got := keep(item(tc.listener, tc.outcome)); got != tc.want {
			t.Errorf("%s %s: %s, want %s", tc.listener, tc.outcome, got, tc.want)
		}
	}
	if got := keep(&record.Item{Kind: record.KindAct}); got != KeepFull {
		t.Errorf("an act: %s", got)
	}
}
