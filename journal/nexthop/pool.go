package nexthop

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Pool holds idle connections, the one used last on top. Safe for concurrent use.
type Pool struct {
	maxIdle  int
	idleAge  time.Duration
	maxAge   time.Duration
	timeouts Timeouts
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	log      *slog.Logger
	metrics  *metrics

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	goodbyes sync.WaitGroup // of the goroutines that QUIT, or probe

	mu       sync.Mutex
	hosts    map[Target]*host // all that a transaction was begun to, but for what forget dropped
	forgetAt int              // size of hosts
	timer    *time.Timer      // runs reap; nil while nothing is idle
	closed   bool
}

// New makes a pool. It opens no connection before one is needed.
func New(o Options) *Pool {
	p := &Pool{
		maxIdle: o.MaxIdle, idleAge: o.IdleAge, maxAge: o.MaxAge, timeouts: o.Timeouts.withDefaults(),
		dial: o.Dial, log: o.Log, metrics: newMetrics(o.Registry), hosts: map[Target]*host{}, forgetAt: manyHosts,
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if p.maxIdle <= 0 {
		p.maxIdle = DefaultMaxIdle
	}
	if p.idleAge <= 0 {
		p.idleAge = DefaultIdleAge
	}
	if p.maxAge <= 0 {
		p.maxAge = DefaultMaxAge
	}
	if p.dial == nil {
		p.dial = new(net.Dialer).DialContext
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	return p
}

// Close says goodbye on all idle connections and waits until that is done, at most Timeouts.Quit. Transactions under way are not
// disturbed; their connections are closed as they end.
func (p *Pool) Close() {
	p.cancel()
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	for _, h := range p.hosts {
		p.retire(h.idle)
		h.idle = nil
	}
	p.mu.Unlock()
	p.goodbyes.Wait()
}

// take gives the idle connection that was used last, or nil.
func (p *Pool) take(h *host) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(h.idle) == 0 {
		return nil
	}
	last := len(h.idle) - 1
	c := h.idle[last]
	h.idle[last] = nil
	h.idle = h.idle[:last]
	p.metrics.idle.Dec()
	c.reused = true
	return c
}

// put takes back a connection on which all is well. One that had an error is not put back but hung up.
func (p *Pool) put(c *conn) {
	if c.spoilt || c.r.Buffered() > 0 { // an answer that nobody asked for: from here on answers and questions don't match
		c.hangUp()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.idle = time.Now()
	h := p.host(c.host.target) // c.host may be forgotten
	if h.failures > 0 && c.served {
		h.failures = 0
	}
	if p.closed || len(h.idle) >= p.maxIdle || c.idle.Sub(c.born) > p.maxAge {
		go c.quit()
		return
	}
	h.idle = append(h.idle, c)
	p.metrics.idle.Inc()
	if p.timer == nil {
		p.timer = time.AfterFunc(p.idleAge, p.reap)
	}
}

// reap closes what has been idle for too long.
func (p *Pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil { // closed meanwhile
		return
	}
	now := time.Now()
	wait := time.Duration(-1) // until the next is due
	for _, h := range p.hosts {
		n := 0
		for n < len(h.idle) && now.Sub(h.idle[n].idle) >= p.idleAge {
			n++
		}
		p.retire(h.idle[:n])
		h.idle = append([]*conn(nil), h.idle[n:]...)
		if len(h.idle) == 0 {
			continue
		}
		if due := p.idleAge - now.Sub(h.idle[0].idle); wait < 0 || due < wait {
			wait = due
		}
	}
	if wait < 0 {
		p.timer = nil
		return
	}
	p.timer.Reset(wait)
}

// retire closes idle connections politely, in the background. The caller holds mu.
func (p *Pool) retire(conns []*conn) {
	for _, c := range conns {
		p.metrics.idle.Dec()
		p.goodbyes.Go(c.quit)
	}
}
