package smtpd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func TestConfigDefaults(t *testing.T) {
	c := Config{}.WithDefaults()
	if c.Mode != record.ModeRelay || c.MaxMessageSize != 50<<20 || c.MaxRecipients != 1000 || c.MaxConnections == 0 ||
		c.MaxConnectionsPerClient == 0 || c.CommandTimeout != 5*time.Minute || c.DataTimeout != 3*time.Minute || c.BareNewline.Default != "refuse" ||
		c.Hostname == "" || c.TLS.MinVersion != "1.2" {
		t.Errorf("%+v", c)
	}
	if c := (Config{Mode: record.ModeJournal}).WithDefaults(); c.BareNewline.Default != "accept" {
		t.Errorf("journal: %+v", c)
	}
	for _, c := range []Config{relayConfig(), journalConfig()} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	dir := t.TempDir()
	notACert := filepath.Join(dir, "cert.pem")
	if err := os.WriteFile(notACert, []byte("no"), 0o600); err != nil {
		t.Fatal(err)
	}
	for key, set := range map[string][]func(*Config){
		"name":    {func(c *Config) { c.Name = "" }, func(c *Config) { c.Name = "a b" }},
		"address": {func(c *Config) { c.Address = "" }, func(c *Config) { c.Address = "host" }, func(c *Config) { c.Address = "h:smtp" }},
		"mode":    {func(c *Config) { c.Mode = "x" }},
		"trusted_networks": {
			func(c *Config) { c.TrustedNetworks = nil }, func(c *Config) { c.TrustedNetworks = []string{"localhost"} },
			func(c *Config) { c.TrustedNetworks = []string{"0.0.0.0/0"} }, func(c *Config) { c.TrustedNetworks = []string{"::/0"} },
			func(c *Config) { c.TrustedNetworks = []string{"10.1.2.3/8"} },
			func(c *Config) { c.TrustedNetworks = []string{"::ffff:0.0.0.0/96"} },
		},
		"hostname": {func(c *Config) { c.Hostname = "a b" }},
		"tls": {
			func(c *Config) { c.TLS.Cert = "cert.pem" }, func(c *Config) { c.TLS = TLSConfig{Cert: notACert, Key: notACert} },
			func(c *Config) { c.TLS.MinVersion = "1.1" },
		},
		"max_message_size": {func(c *Config) { c.MaxMessageSize = 1 }, func(c *Config) { c.MaxMessageSize = -1 }},
		"bare_newline": {func(c *Config) { c.BareNewline.Default = "x" }, func(c *Config) { c.BareNewline.Accept = []string{"x"} },
			func(c *Config) { c.BareNewline = BareNewline{"accept", []string{"127.0.0.1"}} },
			func(c *Config) { c.Mode, c.BareNewline.Default = "journal", "refuse" }},
		"max_recipients":             {func(c *Config) { c.MaxRecipients = 99 }},
		"max_connections":            {func(c *Config) { c.MaxConnections = -1 }},
		"max_connections_per_client": {func(c *Config) { c.MaxConnectionsPerClient = -1 }},
		"command_timeout":            {func(c *Config) { c.CommandTimeout = 1 }},
		"data_timeout":               {func(c *Config) { c.DataTimeout = -time.Second }},
		"min_rate":                   {func(c *Config) { c.MinRate = -1 }},
	} {
		for i, f := range set {
			c := relayConfig()
			f(&c)
			err := c.Validate()
			if err == nil {
				t.Errorf("%s %d: taken", key, i)
				continue
			}
			if lines := strings.Split(err.Error(), "\n"); len(lines) != 1 || !strings.Contains(lines[0], "listener ") ||
				!strings.Contains(lines[0], ": "+key+": ") {
				t.Errorf("%s %d: %v", key, i, err)
			}
			if _, err := New(c, nil, nil, nil); err == nil {
				t.Errorf("%s %d: New took it", key, i)
			}
		}
	}
	if err := (Config{Mode: "x", MaxRecipients: 1}).Validate(); strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("not all faults at once: %v", err)
	}
	everybody := journalConfig()
	everybody.TrustedNetworks = []string{"0.0.0.0/0", "::/0"}
	if err := everybody.Validate(); err != nil {
		t.Errorf("a journal listener may be open: %v", err)
	}
}

func TestConnectionLimits(t *testing.T) {
	for _, set := range []func(*Config){func(c *Config) { c.MaxConnections = 2 }, func(c *Config) { c.MaxConnectionsPerClient = 2 }} {
		cfg := relayConfig()
		set(&cfg)
		address := listen(t, newServer(t, cfg, &backend{t: t}))
		one, two := dial(t, address), dial(t, address)
		one.want(220)
		two.want(220)
		three := dial(t, address)
		three.want(421)
		three.closed()
		one.cmd("QUIT", 221)
		one.closed() // its place is free a moment later
		for deadline := time.Now().Add(10 * time.Second); ; {
			four := dial(t, address)
			code, text, err := readReply(four.r)
			if err != nil {
				t.Fatal(err)
			}
			if code == 220 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(text)
			}
		}
	}
}

// TestMetrics: listeners share a registry.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	other := journalConfig()
	other.Name = "other"
	for _, cfg := range []Config{relayConfig(), other} {
		b := &backend{t: t}
		srv, err := New(cfg, b, nil, reg)
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, listen(t, srv))
		c.want(220)
		c.cmd("EHLO x", 250)
		c.data(".\r\n", 250)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for key, want := range map[string]float64{
		"holdfast_smtp_messages_total test kept": 1, "holdfast_smtp_messages_total other kept": 1, "holdfast_smtp_messages_total test aborted": 0,
		"holdfast_smtp_connections test": 1, "holdfast_smtp_connections other": 1,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s: %v, want %v (%v)", key, v, want, got)
		}
	}
}
