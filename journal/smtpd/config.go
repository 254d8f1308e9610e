package smtpd

import (
	"cmp"
	"os"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Config is one listener. A zero value stands for the default.
type Config struct {
	Name     string `mapstructure:"name"`
	Address  string `mapstructure:"address"`  // host:port to listen on
	Mode     string `mapstructure:"mode"`     // record.ModeRelay (the default), record.ModeQueue, record.ModeJournal
	Hostname string `mapstructure:"hostname"` // how we greet; the default is the system's name

	// Who may send mail to any recipient, and for whom everybody may. Networks are addresses and prefixes.
	TrustedNetworks     []string   `mapstructure:"trusted_networks"`
	TrustedCertificates []string   `mapstructure:"trusted_certificates"` // of clients: SHA-256 fingerprints, or subjects out of client_ca
	Auth                AuthConfig `mapstructure:"auth"`
	RecipientDomains    []string   `mapstructure:"recipient_domains"` // names; .name for all below it

	ProxyNetworks   []string `mapstructure:"proxy_networks"`   // who must begin with a PROXY header
	XClientNetworks []string `mapstructure:"xclient_networks"` // who may say XCLIENT and XFORWARD

	TLS      TLSConfig `mapstructure:"tls"`
	ClientCA string    `mapstructure:"client_ca"` // PEM file: asks for a client certificate; read again when it changes

	BareNewline BareNewline `mapstructure:"bare_newline"`
	Limits      Limits      `mapstructure:"limits"`

	// The same as in Limits, under older names.
	MaxMessageSize          int64 `mapstructure:"max_message_size"`
	MaxRecipients           int   `mapstructure:"max_recipients"`
	MaxConnections          int   `mapstructure:"max_connections"`
	MaxConnectionsPerClient int   `mapstructure:"max_connections_per_client"`

	CommandTimeout time.Duration `mapstructure:"command_timeout"` // for the next command, and for the client to take a reply
	DataTimeout    time.Duration `mapstructure:"data_timeout"`    // for the next bytes of a message, however few
	MinRate        int64         `mapstructure:"min_rate"`        // of a message's bytes a second, after half a minute; 0: none
}

// TLSConfig turns TLS on, where it is not empty.
type TLSConfig struct {
	Cert       string `mapstructure:"cert"` // PEM files; read again when they change
	Key        string `mapstructure:"key"`
	MinVersion string `mapstructure:"min_version"` // "1.2" (the default), "1.3"
	Mode       string `mapstructure:"mode"`        // "starttls" (the default), "implicit": from the first byte
	Required   bool   `mapstructure:"required"`    // no mail is taken in clear text
}

// Values of TLSConfig.Mode.
const (
	startTLS    = "starttls"
	implicitTLS = "implicit"
)

func (c TLSConfig) implicit() bool { return c.Mode == implicitTLS }

// AuthConfig turns AUTH on, within TLS.
type AuthConfig struct {
	Users string `mapstructure:"users"` // file of lines that UserLine makes; read again when it changes
}

// BareNewline says what is done with a message that holds a CR or LF that is not part of a CRLF, or does not end in CRLF.
type BareNewline struct {
	Default string   `mapstructure:"default"` // "refuse" (the default in modes relay and queue), "accept" (in mode journal)
	Accept  []string `mapstructure:"accept"`  // networks from which it is taken
}

// UnmarshalText reads the short form, which has the default alone.
func (b *BareNewline) UnmarshalText(text []byte) error {
	*b = BareNewline{Default: string(text)}
	return nil
}

// Values of BareNewline.Default.
const (
	refuseBare = "refuse"
	acceptBare = "accept"
)

// Limits bound what clients may do. A client is an IPv4 address, or an IPv6 network of 64 bits.
type Limits struct {
	Connections          int `mapstructure:"connections"`            // of all clients, at once
	ConnectionsPerClient int `mapstructure:"connections_per_client"` // of one, at once

	// Of one client in a minute; 0: any number.
	ConnectionRate  int `mapstructure:"connection_rate"`
	MessageRate     int `mapstructure:"message_rate"`
	RecipientRate   int `mapstructure:"recipient_rate"`
	AuthFailureRate int `mapstructure:"auth_failure_rate"` // 0: the default, since guessing must be slow

	Recipients   int   `mapstructure:"recipients"`    // of one message
	MessageSize  int64 `mapstructure:"message_size"`  // bytes
	Errors       int   `mapstructure:"errors"`        // wrong commands in a session
	JunkCommands int   `mapstructure:"junk_commands"` // that bring no message nearer; each further one is an error

	ExemptNetworks []string `mapstructure:"exempt_networks"` // whose clients no limit counts that is by client
}

// Defaults, where Config has zero.
const (
	DefaultMaxMessageSize          = 50 << 20
	DefaultMaxRecipients           = 1000
	DefaultMaxConnections          = 1000
	DefaultMaxConnectionsPerClient = 200
	DefaultAuthFailureRate         = 10
	DefaultErrors                  = 20
	DefaultJunkCommands            = 100
	DefaultCommandTimeout          = 5 * time.Minute
	DefaultDataTimeout             = 3 * time.Minute
)

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	c.Mode = cmp.Or(c.Mode, record.ModeRelay)
	l := &c.Limits
	l.MessageSize = cmp.Or(l.MessageSize, c.MaxMessageSize, DefaultMaxMessageSize)
	l.Recipients = cmp.Or(l.Recipients, c.MaxRecipients, DefaultMaxRecipients)
	l.Connections = cmp.Or(l.Connections, c.MaxConnections, DefaultMaxConnections)
	l.ConnectionsPerClient = cmp.Or(l.ConnectionsPerClient, c.MaxConnectionsPerClient, DefaultMaxConnectionsPerClient)
	l.AuthFailureRate = cmp.Or(l.AuthFailureRate, DefaultAuthFailureRate)
	l.Errors = cmp.Or(l.Errors, DefaultErrors)
	l.JunkCommands = cmp.Or(l.JunkCommands, DefaultJunkCommands)
	c.MaxMessageSize, c.MaxRecipients = l.MessageSize, l.Recipients
	c.MaxConnections, c.MaxConnectionsPerClient = l.Connections, l.ConnectionsPerClient
	c.CommandTimeout = cmp.Or(c.CommandTimeout, DefaultCommandTimeout)
	c.DataTimeout = cmp.Or(c.DataTimeout, DefaultDataTimeout)
	c.TLS.MinVersion = cmp.Or(c.TLS.MinVersion, "1.2")
	c.TLS.Mode = cmp.Or(c.TLS.Mode, startTLS)
	if c.BareNewline.Default == "" && c.Mode == record.ModeJournal {
		c.BareNewline.Default = acceptBare
	}
	c.BareNewline.Default = cmp.Or(c.BareNewline.Default, refuseBare)
	if c.Hostname == "" {
		if name, err := os.Hostname(); err == nil && hostname.MatchString(name) {
			c.Hostname = name
		} else {
			c.Hostname = "localhost"
		}
	}
	return c
}
