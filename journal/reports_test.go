package journal

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

// fixture gives a report of package report's tests as it comes over SMTP.
func fixture(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("report/testdata/" + name + ".eml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(raw), "\n", "\r\n")
}

// keep sends a message to a journal listener and gives the record that is in custody then.
func keep(t *testing.T, cfg Config, body string, rcpt ...string) *record.Item {
	t.Helper()
	h := newHouse(t, cfg, nil)
	c := h.client(t)
	c.send(body, rcpt...)
	c.expect("250")
	c.say("QUIT", "221")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	it, err := h.spool.Tail().Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func journalConfig(formats ...string) Config {
	c := config()
	c.Name = "journal"
	journalOf(&c, formats...)
	return c
}

// What a report says is in the envelope that custody has: nothing is added later.
func TestKeeperReadsReports(t *testing.T) {
	before := testutil.ToFloat64(reportsRead.WithLabelValues("journal", "read"))
	body := fixture(t, "exchange-in-ndr")
	env := keep(t, journalConfig("exchange"), body, "journal@archive.example").Envelope
	if env.Report == nil || env.Completeness != record.Full || env.MailFrom.Address != "anna@corp.example" || len(env.Rcpt) != 2 {
		t.Fatalf("%+v", env)
	}
	if tr := env.Transport; tr == nil || tr.MailFrom.Address != "a@src.example" || tr.Rcpt[0].Address != "journal@archive.example" {
		t.Errorf("the transaction: %+v", tr)
	}
	if env.SHA256 != record.Sum([]byte(body)) || env.Report.Message().MessageID != "draft-8@corp.example" {
		t.Errorf("%+v", env.Report)
	}
	if n := testutil.ToFloat64(reportsRead.WithLabelValues("journal", "read")); n != before+1 {
		t.Errorf("counted %v, before %v", n, before)
	}
}

// A report that can't be read is kept like any message, marked and counted.
func TestKeeperKeepsUnreadableReports(t *testing.T) {
	before := testutil.ToFloat64(reportsRead.WithLabelValues("journal", "unreadable"))
	env := keep(t, journalConfig("exchange"), "X-MS-Journal-Report:\r\n\r\nnothing of use\r\n", "journal@archive.example").Envelope
	if env.Report == nil || env.Report.Problem == "" || env.Completeness != record.Partial || env.Rcpt[0].Address != "journal@archive.example" {
		t.Errorf("%+v", env)
	}
	if n := testutil.ToFloat64(reportsRead.WithLabelValues("journal", "unreadable")); n != before+1 {
		t.Errorf("counted %v, before %v", n, before)
	}
}

// Forged reports from whom nobody named change nothing.
func TestReportsCountFromTheirSourcesOnly(t *testing.T) {
	body := fixture(t, "exchange-expanded")
	for name, change := range map[string]func(*Config){
		"no formats":      func(c *Config) { c.ReportFormats = nil },
		"another format":  func(c *Config) { c.ReportFormats = []string{"google", "domino"} },
		"another network": func(c *Config) { c.ReportNetworks = []string{"192.0.2.0/24", "::1"} },
		"another address": func(c *Config) { c.ReportAddresses = []string{"j-4711@archive.example"} },
		"a relay": func(c *Config) {
			*c = config()
			c.Mode = record.ModeJournal
			c.Hop.NextHop = nil
		},
	} {
		cfg := journalConfig("exchange")
		change(&cfg)
		env := keep(t, cfg, body, "journal@archive.example").Envelope
		if env.Report != nil || env.Transport != nil || len(env.Rcpt) != 1 || env.MailFrom.Address != "a@src.example" || env.Completeness != record.Partial {
			t.Errorf("%s: %+v", name, env)
		}
	}
	for name, change := range map[string]func(*Config){
		"its network": func(c *Config) { c.ReportNetworks = []string{"127.0.0.1"} },
		"its address": func(c *Config) { c.ReportAddresses = []string{"Journal@Archive.example"} },
	} {
		cfg := journalConfig("exchange")
		change(&cfg)
		if env := keep(t, cfg, body, "journal@archive.example").Envelope; env.Report == nil || len(env.Rcpt) != 5 {
			t.Errorf("%s: %+v", name, env)
		}
	}
}

func TestEncodedAddressesCount(t *testing.T) {
	cfg := journalConfig("encoded_address", "exchange")
	cfg.ReportAddresses = []string{"journal@archive.example"}
	// A report that the sender wrote himself is in the copy: the addresses are the mail server's word.
	env := keep(t, cfg, fixture(t, "exchange-expanded"), "journal+maria=corp.example@archive.example", "journal+li=partner.example@archive.example").Envelope
	if env.Report == nil || env.Report.Format != "encoded_address" || len(env.Rcpt) != 2 || env.Rcpt[0].Address != "maria@corp.example" ||
		env.MailFrom.Address != "a@src.example" || env.Completeness != record.Full {
		t.Errorf("%+v", env)
	}
}

func TestReportNetworks(t *testing.T) {
	r := newReports(Config{Config: smtpd.Config{Name: "x"}, ReportFormats: []string{"exchange"}, ReportNetworks: []string{"10.0.0.0/8", "2001:db8::1"}}, nil)
	for client, want := range map[string]bool{"10.2.3.4": true, "::ffff:10.2.3.4": true, "11.0.0.1": false, "2001:db8::1": true, "2001:db8::2": false, "": false} {
		s := &smtpd.Session{Client: record.Client{Address: client}}
		if got := r.counts(s, nil); got != want {
			t.Errorf("%q: %v", client, got)
		}
	}
}
