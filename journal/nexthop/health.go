package nexthop

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"time"
)

// How long a host that failed is left alone: for firstPause, twice as long after each further failure, at most maxPause, and each time a
// quarter more or less, so that not everybody comes back at once.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// manyHosts is how many hosts are remembered before those are forgotten of which there is nothing to remember.
const manyHosts = 1024

// host is what the pool knows of one Target. All but target and sessions is guarded by Pool.mu.
type host struct {
	target   Target
	sessions tls.ClientSessionCache // for resumption; each Target its own, since what was verified differs

	idle     []*conn // the oldest first
	down     bool    // it failed, and no connection was made since
	failures int     // since a message, or a refusal of one, went well
	until    time.Time
	probing  bool
	denied   *denied // the last sign-in, where it was refused
}

// host gives what is known of a Target. The caller holds mu.
func (p *Pool) host(t Target) *host {
	h := p.hosts[t]
	if h == nil {
		if len(p.hosts) >= p.forgetAt {
			p.forget()
		}
		h = &host{target: t, sessions: tls.NewLRUClientSessionCache(4)}
		p.hosts[t] = h
		p.metrics.health(h)
	}
	return h
}

// forget drops hosts found by name of which nothing need be known. The caller holds mu.
func (p *Pool) forget() {
	long := time.Now().Add(-10 * maxPause)
	for t, h := range p.hosts {
		if t.IP.IsValid() && len(h.idle) == 0 && !h.probing && h.until.Before(long) {
			delete(p.hosts, t)
		}
	}
	p.forgetAt = max(manyHosts, 2*len(p.hosts))
}

// choose appends the hosts of a route in the order in which they are to be tried: those that are down come last, the one first that is
// due first. A host that is passed over and due is looked at in the background, so that no message waits for a host that is dead.
func (p *Pool) choose(r Route, order []*host) []*host {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(r.Hosts) == 1 {
		return append(order, p.host(r.Hosts[0]))
	}
	var down []*host
	for _, t := range r.Hosts {
		if h := p.host(t); h.down {
			down = append(down, h)
		} else {
			order = append(order, h)
		}
	}
	now := time.Now()
	passedOver := len(order) > 0
	for i, h := range down {
		if passedOver && !h.probing && !p.closed && now.After(h.until) {
			h.probing = true
			p.goodbyes.Go(func() { p.probe(h) })
		}
		for j := i; j > 0 && down[j].until.Before(down[j-1].until); j-- {
			down[j], down[j-1] = down[j-1], down[j]
		}
	}
	return append(order, down...)
}

// probe tries whether a host that is down can be reached again. The connection is kept for the next message.
func (p *Pool) probe(h *host) {
	ctx, cancel := context.WithTimeout(p.ctx, p.timeouts.Connect+p.timeouts.Hello)
	defer cancel()
	c, err := p.connect(ctx, h)
	p.mu.Lock()
	h.probing = false
	p.mu.Unlock()
	if err != nil {
		if p.ctx.Err() == nil {
			p.failed(h, err)
		}
		return
	}
	p.put(c)
}

// reached notes that a connection was made.
func (p *Pool) reached(h *host) {
	p.mu.Lock()
	changed := h.down
	if changed {
		h.down = false
		p.metrics.health(h)
	}
	p.mu.Unlock()
	if changed {
		p.log.Info("next hop is up again", "next_hop", h.target.Address)
	}
}

// failed notes that a host could not be reached, or broke off.
func (p *Pool) failed(h *host, err error) {
	if errors.As(err, new(heldBack)) {
		return // nothing new
	}
	p.mu.Lock()
	var no denied
	if h.denied = nil; errors.As(err, &no) {
		h.denied = &no
	}
	pause := min(maxPause, firstPause<<min(h.failures, 10))
	pause += time.Duration((rand.Float64() - 0.5) / 2 * float64(pause))
	h.failures++
	h.until = time.Now().Add(pause)
	changed := !h.down
	if changed {
		h.down = true
		p.metrics.health(h)
	}
	p.mu.Unlock()
	if changed {
		p.log.Warn("next hop is down", "next_hop", h.target.Address, "err", err)
	}
}
