package smtpd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// hardStop is how long Shutdown waits for Handlers once their connections are closed.
const hardStop = 5 * time.Second

// Server is one listener's SMTP server. Its methods are safe for concurrent use.
type Server struct {
	cfg      Config
	handler  Handler
	log      *slog.Logger
	policy   policy
	tls      *transport // nil: no TLS
	users    *users     // nil: no AUTH
	limiter  *limiter
	messages *prometheus.CounterVec
	open     prometheus.Gauge

	ctx    context.Context // ends all sessions
	cancel context.CancelFunc

	mu        sync.Mutex
	listeners []net.Listener     // guarded by mu, as are all that follow
	conns     map[*conn]struct{} // open
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
		cfg: cfg, handler: handler, log: log.With("listener", cfg.Name), limiter: newLimiter(cfg.Limits),
		conns: map[*conn]struct{}{}, gone: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var err error
	if s.policy, err = newPolicy(cfg); err != nil {
		return nil, err
	}
	if s.tls, err = newTransport(cfg); err != nil {
		return nil, err
	}
	if cfg.Auth.Users != "" {
		s.users = newUsers(cfg.Auth.Users, s.log)
		if _, err := s.users.list(); err != nil {
			return nil, err
		}
	}
	if err := s.register(registry); err != nil {
		return nil, err
	}
	return s, nil
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
	for pause := time.Duration(0); ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.take(c)
			continue
		case s.isStopping():
			return nil
		case !isTemporary(err):
			return fmt.Errorf("listener %q: %w", s.cfg.Name, err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.log.Error("connections can't be taken", "err", err, "again_in", pause)
		select {
		case <-s.ctx.Done():
		case <-time.After(pause):
		}
	}
}

// isTemporary says that another Accept may go better: where file descriptors are short, or a client was gone already.
func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
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
		c.net.Close()
	}
	s.mu.Unlock()
	select {
	case <-s.gone:
	case <-time.After(hardStop):
		s.log.Error("sessions did not end", "after", hardStop)
	}
	return ctx.Err()
}

// take makes a session of a connection, or closes it where there are too many.
func (s *Server) take(c net.Conn) {
	peer, port := identify(c.RemoteAddr())
	s.mu.Lock()
	var why *reply
	switch {
	case s.stopping:
		why = &reply{421, enhanced{4, 3, 2}, s.cfg.Hostname + " is stopping"}
	case len(s.conns) >= s.cfg.Limits.Connections:
		why = &reply{421, enhanced{4, 7, 0}, s.cfg.Hostname + " Error: too many connections"}
	}
	if why != nil {
		s.mu.Unlock()
		s.log.Warn("connection refused", "client", peer, "reply", why)
		if !s.cfg.TLS.implicit() {
			c.SetWriteDeadline(time.Now().Add(time.Second)) // fits into the socket's buffer
			c.Write(why.appendTo(nil))
		}
		c.Close()
		return
	}
	nc := newConn(s, c, peer, port)
	s.conns[nc] = struct{}{}
	s.mu.Unlock()
	s.open.Inc()
	go nc.serve()
}

// forget is the end of a connection.
func (s *Server) forget(c *conn) {
	s.open.Dec()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.stopping && len(s.conns) == 0 {
		close(s.gone)
	}
}

// identify says who is at the other end; the zero Addr where that is no IP address.
func identify(a net.Addr) (ip netip.Addr, port int) {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}, 0
	}
	return ap.Addr().Unmap().WithZone(""), int(ap.Port())
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
