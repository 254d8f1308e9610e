package smtpd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// hardStop is how long Shutdown waits for Handlers once their connections are closed.
const hardStop = 5 * time.Second

// Server is one listener's SMTP server. Its methods are safe for concurrent use.
type Server struct {
	cfg      Config
	handler  Handler
	log      *slog.Logger
	trusted  []netip.Prefix
	tls      *tls.Config // nil: no STARTTLS
	greeting [2][]byte   // the reply to EHLO, without and with TLS
	smtp     *smtp.Server
	messages *prometheus.CounterVec
	open     prometheus.Gauge

	ctx    context.Context // ends all sessions
	cancel context.CancelFunc

	mu        sync.Mutex
	listeners []net.Listener     // guarded by mu, as are all that follow
	conns     map[*conn]struct{} // open
	clients   map[string]int     // connections by IP address
	stopping  bool
	gone      chan struct{} // closed when the last connection is, in a server that is stopping
}

// New makes a server; the error is that of Config.Validate. A nil log is none, a nil registry means no metrics. Servers may share a
// registry: their metrics are told apart by the label listener.
func New(cfg Config, handler Handler, log *slog.Logger, registry prometheus.Registerer) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, handler: handler, log: log.With("listener", cfg.Name),
		conns: map[*conn]struct{}{}, clients: map[string]int{}, gone: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, n := range cfg.TrustedNetworks {
		p, err := parseNetwork(n)
		if err != nil {
			return nil, err
		}
		s.trusted = append(s.trusted, p)
	}
	var err error
	if s.tls, err = cfg.TLS.load(); err != nil {
		return nil, err
	}
	s.greeting = [2][]byte{capabilities(cfg, s.tls != nil), capabilities(cfg, false)}
	if err := s.register(registry); err != nil {
		return nil, err
	}

	s.smtp = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return session{c.Conn().(*conn)}, nil
	}))
	s.smtp.Domain = cfg.Hostname
	s.smtp.MaxRecipients = cfg.MaxRecipients
	s.smtp.MaxMessageBytes = cfg.MaxMessageSize
	s.smtp.MaxLineLength = maxCommand
	s.smtp.ErrorLog = libraryLog{s.log}
	return s, nil
}

// capabilities is the reply to EHLO. All that it names is done in this package.
func capabilities(cfg Config, startTLS bool) []byte {
	lines := []string{
		cfg.Hostname, "PIPELINING", fmt.Sprintf("SIZE %d", cfg.MaxMessageSize), "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN",
		"CHUNKING", fmt.Sprintf("LIMITS RCPTMAX=%d", cfg.MaxRecipients),
	}
	if startTLS {
		lines = append(lines, "STARTTLS")
	}
	var b []byte
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		b = append(b, "250"+separator+line+"\r\n"...)
	}
	return b
}

func (s *Server) capabilities(overTLS bool) []byte {
	if overTLS {
		return s.greeting[1]
	}
	return s.greeting[0]
}

// Serve takes connections from l, which it closes in the end. It returns nil after Shutdown.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	defer l.Close()
	err := s.smtp.Serve(listener{l, s})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil
	}
	return fmt.Errorf("listener %q: %w", s.cfg.Name, err)
}

// Shutdown takes no more connections, tells idle sessions 421, and lets those with a message under way end it. When ctx ends, so do the
// connections and the contexts of the Handler; Shutdown still waits some seconds for the Handler to return, and then gives ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopping {
		s.stopping = true
		if len(s.conns) == 0 {
			close(s.gone)
		}
	}
	for _, l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.stop()
	}
	s.mu.Unlock()
	defer s.cancel()

	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		c.Conn.Close() // the network's, under the session
	}
	s.mu.Unlock()
	select {
	case <-s.gone:
	case <-time.After(hardStop):
		s.log.Error("sessions did not end", "after", hardStop)
	}
	return ctx.Err()
}

// listener gives go-smtp's server our conn in place of the network's.
type listener struct {
	net.Listener
	srv *Server
}

func (l listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if nc := l.srv.admit(c); nc != nil {
			return nc, nil
		}
	}
}

// admit makes a session of a connection, or closes it where there are too many.
func (s *Server) admit(c net.Conn) *conn {
	client, trusted := s.identify(c.RemoteAddr())
	s.mu.Lock()
	why := ""
	switch {
	case s.stopping:
		why = "4.3.2 " + s.cfg.Hostname + " is stopping"
	case len(s.conns) >= s.cfg.MaxConnections:
		why = "4.7.0 Too many connections"
	case s.clients[client.Address] >= s.cfg.MaxConnectionsPerClient:
		why = "4.7.0 Too many connections from your address"
	}
	if why != "" {
		s.mu.Unlock()
		s.log.Warn("connection refused", "client", client.Address, "reply", why)
		c.SetWriteDeadline(time.Now().Add(time.Second)) // fits into the socket's buffer
		io.WriteString(c, "421 "+why+"\r\n")
		c.Close()
		return nil
	}
	nc := newConn(s, c, client, trusted)
	s.conns[nc] = struct{}{}
	s.clients[client.Address]++
	s.mu.Unlock()
	s.open.Inc()
	nc.log.Debug("connected", "port", client.Port)
	return nc
}

// forget is the end of a connection.
func (s *Server) forget(c *conn) {
	s.open.Dec()
	c.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	address := c.session.Client.Address
	if s.clients[address]--; s.clients[address] == 0 {
		delete(s.clients, address)
	}
	if s.stopping && len(s.conns) == 0 {
		close(s.gone)
	}
}

// identify says who a client is, and whether it may send mail.
func (s *Server) identify(a net.Addr) (client record.Client, trusted bool) {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return record.Client{Address: a.String()}, false
	}
	ip := ap.Addr().Unmap().WithZone("")
	for _, p := range s.trusted {
		trusted = trusted || p.Contains(ip)
	}
	return record.Client{Address: ip.String(), Port: int(ap.Port())}, trusted
}

// outcomes of holdfast_smtp_messages_total: "oversize" is a report that a journal listener could not take, and calls for somebody.
var outcomes = []string{"delivered", "kept", "refused", "deferred", "aborted", "oversize"}

func (s *Server) register(registry prometheus.Registerer) error {
	messages, err1 := shared(registry, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_smtp_messages_total", Help: "Messages by DATA or BDAT, by how they were answered.",
	}, []string{"listener", "outcome"}))
	open, err2 := shared(registry, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "holdfast_smtp_connections", Help: "Connections of clients.",
	}, []string{"listener"}))
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("listener %q: metrics: %w", s.cfg.Name, err)
	}
	s.open = open.WithLabelValues(s.cfg.Name)
	s.messages = messages.MustCurryWith(prometheus.Labels{"listener": s.cfg.Name})
	for _, o := range outcomes {
		s.messages.WithLabelValues(o)
	}
	return nil
}

// shared registers c, or returns what another listener has registered in its place.
func shared[C prometheus.Collector](registry prometheus.Registerer, c C) (C, error) {
	if registry == nil {
		return c, nil
	}
	err := registry.Register(c)
	if are, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := are.ExistingCollector.(C); ok {
			return same, nil
		}
	}
	return c, err
}

func (s *Server) count(outcome string) { s.messages.WithLabelValues(outcome).Inc() }

func newSessionID() string { return strings.ToLower(rand.Text()[:10]) } // 50 bits

// libraryLog is go-smtp's log: chatter, but for the stack of a panic.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(format string, v ...any) {
	level := slog.LevelDebug
	if strings.HasPrefix(format, "panic") {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "go-smtp", "text", fmt.Sprintf(format, v...))
}

func (l libraryLog) Println(v ...any) { l.log.Debug("go-smtp", "text", fmt.Sprint(v...)) }
