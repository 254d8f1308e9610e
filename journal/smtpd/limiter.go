package smtpd

import (
	"net/netip"
	"sync"
	"time"
)

const (
	rateWindow = time.Minute // what rates are counted over, from a client's first event on
	maxTracked = 1 << 16     // clients that are remembered at most, beside those that are connected
)

// event is what the limiter counts of a client.
type event int

const (
	newConnection event = iota
	newMessage
	newRecipient
	authFailure
	events
)

// limiter counts what each client does, by IPv4 address or IPv6 network of 64 bits. Its memory is bounded: where more clients come in a
// minute than it remembers, it forgets some and so lets them do more. Safe for concurrent use.
type limiter struct {
	open   int         // connections of one client
	rates  [events]int // a minute; 0: any number
	exempt networks

	mu      sync.Mutex
	clients map[netip.Prefix]*usage // guarded by mu
	swept   time.Time               // guarded by mu
}

// usage is what one client does. It is guarded by limiter.mu.
type usage struct {
	open  int
	since time.Time // when the window began
	count [events]int
}

func newLimiter(l Limits) *limiter {
	exempt, _ := parseNetworks(l.ExemptNetworks) // was validated
	return &limiter{
		open: l.ConnectionsPerClient, rates: [events]int{l.ConnectionRate, l.MessageRate, l.RecipientRate, l.AuthFailureRate},
		exempt: exempt, clients: map[netip.Prefix]*usage{},
	}
}

// trackedBy is what a client counts as: with IPv6 whoever has one address has 2^64 of them.
func trackedBy(ip netip.Addr) netip.Prefix {
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // the zero Addr has the zero Prefix
	return p
}

// connect counts a connection, which disconnect takes back; false: the client has too many, or makes them too fast, and nothing is to be
// taken back.
func (l *limiter) connect(ip netip.Addr) bool {
	if l.exempt.contains(ip) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.usage(ip)
	if !l.within(u, newConnection) || u.open >= l.open {
		return false
	}
	u.open++
	return true
}

func (l *limiter) disconnect(ip netip.Addr) {
	if l.exempt.contains(ip) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := trackedBy(ip)
	if u := l.clients[key]; u != nil {
		if u.open--; u.idle() {
			delete(l.clients, key)
		}
	}
}

// allow counts one event and says whether the client may still do it.
func (l *limiter) allow(ip netip.Addr, e event) bool {
	if l.rates[e] == 0 || l.exempt.contains(ip) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.within(l.usage(ip), e)
}

// exceeded says whether the client has reached a limit, and counts nothing.
func (l *limiter) exceeded(ip netip.Addr, e event) bool {
	if l.rates[e] == 0 || l.exempt.contains(ip) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.usage(ip)
	return u.count[e] >= l.rates[e]
}

// within counts an event. l.mu is held.
func (l *limiter) within(u *usage, e event) bool {
	if l.rates[e] == 0 {
		return true
	}
	u.count[e] = min(u.count[e]+1, l.rates[e]+1)
	return u.count[e] <= l.rates[e]
}

// usage is the client's record, its window begun anew where the last one is over. l.mu is held.
func (l *limiter) usage(ip netip.Addr) *usage {
	now := time.Now()
	key := trackedBy(ip)
	u := l.clients[key]
	if u == nil {
		l.sweep(now)
		u = &usage{since: now}
		l.clients[key] = u
	}
	if now.Sub(u.since) >= rateWindow {
		u.since, u.count = now, [events]int{}
	}
	return u
}

// sweep forgets clients that are gone and have nothing counted of late, once a minute, and others where there are too many. l.mu is held.
func (l *limiter) sweep(now time.Time) {
	full := len(l.clients) >= maxTracked
	if !full && now.Sub(l.swept) < rateWindow {
		return
	}
	l.swept = now
	for key, u := range l.clients { // in no order, so that nobody can choose who is forgotten
		if u.open == 0 && (now.Sub(u.since) >= rateWindow || full && len(l.clients) > maxTracked/2) {
			delete(l.clients, key)
		}
	}
}

// idle says that nothing is known of the client.
func (u *usage) idle() bool { return u.open <= 0 && u.count == [events]int{} }
