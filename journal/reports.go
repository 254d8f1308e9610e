package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/report"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

// reports says whose journal reports count, and in which formats. Whoever is believed can name any sender and any recipient. The zero
// value believes nobody.
type reports struct {
	formats   []string
	networks  []netip.Prefix
	addresses []string // that a report must have been sent to, folded; none: to any
	log       *slog.Logger
}

// reportsRead counts what was looked at, of all listeners of the process.
var reportsRead = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "holdfast_journal_reports_total",
	Help: "Messages from sources whose journal reports count: read, partial, unreadable, or none where it was no report.",
}, []string{"listener", "outcome"})

// Metrics are this package's own; they are shared by all listeners.
func Metrics() []prometheus.Collector { return []prometheus.Collector{reportsRead} }

// newReports reads what was validated.
func newReports(cfg Config, log *slog.Logger) reports {
	r := reports{formats: cfg.ReportFormats, log: log}
	networks := cfg.ReportNetworks
	if len(networks) == 0 {
		networks = cfg.TrustedNetworks
	}
	for _, s := range networks {
		if p, err := reportNetwork(s); err == nil {
			r.networks = append(r.networks, p)
		}
	}
	for _, a := range cfg.ReportAddresses {
		r.addresses = append(r.addresses, strings.ToLower(a))
	}
	for _, o := range []report.Outcome{report.None, report.Read, report.Partial, report.Unreadable} {
		if len(r.formats) > 0 {
			reportsRead.WithLabelValues(cfg.Name, string(o))
		}
	}
	return r
}

// counts says whether a report in this transaction is to be believed.
func (r *reports) counts(s *smtpd.Session, rcpt []record.Path) bool {
	if len(r.formats) == 0 {
		return false
	}
	client, err := netip.ParseAddr(s.Client.Address)
	if err != nil || !slices.ContainsFunc(r.networks, func(p netip.Prefix) bool { return p.Contains(client.Unmap()) }) {
		return false
	}
	return len(r.addresses) == 0 || slices.ContainsFunc(rcpt, func(p record.Path) bool {
		local, domain, _ := strings.Cut(strings.ToLower(p.Address), "@")
		base, _, _ := strings.Cut(local, "+")
		return slices.Contains(r.addresses, base+"@"+domain) || slices.Contains(r.addresses, local+"@"+domain)
	})
}

// look has a message's bytes read as a journal report while they are read from body. finish, to be called with the envelope at the end,
// puts there what the report says.
func (r *reports) look(body io.Reader, session string) (tee io.Reader, finish func(*record.Envelope)) {
	reader := report.New(r.formats)
	return io.TeeReader(body, reader), func(env *record.Envelope) {
		outcome := reader.Finish(env)
		reportsRead.WithLabelValues(env.Listener, string(outcome)).Inc()
		if env.Report != nil && outcome != report.Read {
			r.log.Warn("journal report not read whole", "session", session, "record", env.ID, "format", env.Report.Format, "reason", env.Report.Problem)
		}
	}
}

// checkReports finds what is wrong with the keys about reports.
func (c Config) checkReports(fault func(key, format string, args ...any)) {
	for _, f := range c.ReportFormats {
		if !slices.Contains(report.Formats, f) {
			fault("report_formats", "%q is not one of %s", f, strings.Join(report.Formats, ", "))
		}
	}
	for _, s := range c.ReportNetworks {
		if p, err := reportNetwork(s); err != nil {
			fault("report_networks", "%v", err)
		} else if p.Bits() == 0 {
			fault("report_networks", "%q is everybody: anybody could name senders and recipients", s)
		}
	}
	for _, a := range c.ReportAddresses {
		if local, domain, ok := strings.Cut(a, "@"); !ok || local == "" || domain == "" {
			fault("report_addresses", "%q is not an address", a)
		}
	}
	switch mode := c.Config.WithDefaults().Mode; {
	case len(c.ReportFormats) == 0 && len(c.ReportNetworks) > 0:
		fault("report_networks", "no report_formats are named that would be read from there")
	case len(c.ReportFormats) == 0 && len(c.ReportAddresses) > 0:
		fault("report_addresses", "no report_formats are named that would be read there")
	case len(c.ReportFormats) > 0 && mode != record.ModeJournal:
		fault("report_formats", "reports are read in mode journal, not in mode %s, which has the envelope itself", mode)
	case len(c.ReportFormats) > 0 && len(c.ReportNetworks) == 0:
		for _, s := range c.TrustedNetworks {
			if p, err := reportNetwork(s); err == nil && p.Bits() == 0 {
				fault("report_networks", "empty, and trusted_networks has %q, which is everybody: anybody could name senders and recipients", s)
			}
		}
	}
}

// reportNetwork reads an IP address or a prefix, IPv4 mapped to IPv6 as IPv4.
func reportNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is not an IP address or network", s)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its prefix: %s is meant?", s, p.Masked())
	}
	return p, nil
}

// CheckReportFormats names the formats that there are not.
func CheckReportFormats(formats []string) error {
	var errs []error
	for _, f := range formats {
		if !slices.Contains(report.Formats, f) {
			errs = append(errs, fmt.Errorf("%q is no format of journal reports: %s", f, strings.Join(report.Formats, ", ")))
		}
	}
	return errors.Join(errs...)
}
