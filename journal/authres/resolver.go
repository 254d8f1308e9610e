package authres

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// How a Resolver asks.
const (
	tryTime     = 2 * time.Second    // for one try at one server
	tries       = 2                  // of each server
	queryTime   = 5 * time.Second    // for all tries
	maxFlights  = 256                // questions under way at once
	maxTTL      = time.Hour          // an answer is kept no longer
	maxNegative = 15 * time.Minute   // nor that there is none
	minTTL      = time.Second        // and no shorter
	badTTL      = 5 * time.Second    // how long the same question is not asked again after it failed
	cacheBytes  = 8 << 20            // of answers kept
	answerCost  = 512                // bytes that an answer costs beside its records
	resolvConf  = "/etc/resolv.conf" // where servers come from that are not configured
	hereServer  = "127.0.0.1:53"     // where that names none (resolv.conf(5))
)

// Resolver asks recursive servers, one after the other, and remembers the answers as long as they are valid. It trusts its servers, as any
// stub does: put one on this machine. Safe for concurrent use.
type Resolver struct {
	servers []string
	cache   *cache[question, *answer]
	flights singleflight.Group // the same question at the same time is one query
	slots   chan struct{}

	cached, asked, failed atomic.Uint64
}

// NewResolver asks the servers given as IP:PORT; none: those of /etc/resolv.conf, as it is now.
func NewResolver(servers []string) *Resolver {
	if len(servers) == 0 {
		servers = systemServers(resolvConf)
	}
	return &Resolver{servers: servers, cache: newCache[question, *answer](cacheBytes), slots: make(chan struct{}, maxFlights)}
}

// Counts tells how many questions were answered from memory, how many were put to a server, and how many of those failed.
func (r *Resolver) Counts() (cached, asked, failed uint64) {
	return r.cached.Load(), r.asked.Load(), r.failed.Load()
}

// ServerAddress makes IP:PORT of an IP address with or without a port.
func ServerAddress(s string) (string, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, 53).String(), nil
	}
	addr, err := netip.ParseAddrPort(s)
	if err != nil || addr.Port() == 0 {
		return "", fmt.Errorf("%q is not the IP address of a DNS server, or IP:PORT", s)
	}
	return addr.String(), nil
}

func systemServers(file string) (list []string) {
	f, err := os.Open(file)
	if err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			words := strings.Fields(lines.Text())
			if len(words) < 2 || words[0] != "nameserver" {
				continue
			}
			if addr, err := ServerAddress(words[1]); err == nil && len(list) < 3 {
				list = append(list, addr)
			}
		}
	}
	if len(list) == 0 {
		list = []string{hereServer}
	}
	return list
}

// expect asks without waiting, if the answer is not known.
func (r *Resolver) expect(q question) {
	if a, ok := r.cache.get(q); !ok || !time.Now().Before(a.expires) {
		r.fly(q)
	}
}

// ask implements asker.
func (r *Resolver) ask(ctx context.Context, q question) *answer {
	if a, ok := r.cache.get(q); ok && time.Now().Before(a.expires) {
		r.cached.Add(1)
		return a
	}
	select {
	case res := <-r.fly(q):
		return res.Val.(*answer)
	case <-ctx.Done():
		return unanswered(q, "no answer in time")
	}
}

func (r *Resolver) fly(q question) <-chan singleflight.Result {
	return r.flights.DoChan(strconv.Itoa(int(q.typ))+q.name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), queryTime)
		defer cancel()
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return unanswered(q, "too many questions at once"), nil
		}
		defer func() { <-r.slots }()
		a := r.query(ctx, q)
		cost := answerCost
		for _, line := range a.Answer {
			cost += 2 * len(line)
		}
		r.cache.put(q, a, cost)
		return a, nil
	})
}

// query puts a question to the servers until one answers it. Of servers that all fail the last word counts.
func (r *Resolver) query(ctx context.Context, q question) *answer {
	r.asked.Add(1)
	var last *answer
	for i := 0; i < tries*len(r.servers) && ctx.Err() == nil; i++ {
		server := r.servers[i%len(r.servers)]
		rep, err := exchange(ctx, server, q)
		a := unanswered(q, "")
		a.Server = server
		if err != nil {
			a.Error = plainError(err)
		} else {
			a.Rcode, a.AD, a.rrs = rep.rcode, rep.ad, rep.rrs
			for j := range rep.rrs {
				a.Answer = append(a.Answer, rep.rrs[j].line())
			}
			a.expires = a.Time.Add(rep.validity())
		}
		if a.Rcode == "NOERROR" || a.Rcode == "NXDOMAIN" {
			return a
		}
		last = a
	}
	r.failed.Add(1)
	if last == nil {
		last = unanswered(q, "no answer in time")
	}
	last.expires = time.Now().Add(badTTL)
	return last
}

// unanswered is an answer that did not come.
func unanswered(q question, why string) *answer {
	return &answer{DNSAnswer: record.DNSAnswer{Name: q.name, Type: typeName(q.typ), Time: record.Now(), Error: why}}
}

// plainError says of an error what holds wherever it is read: no ports of ours, no numbers.
func plainError(err error) string {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, errTooLong):
		return errTooLong.Error()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return "no answer: " + op.Err.Error()
	}
	return "no answer: " + err.Error()
}

// validity is how long an answer holds.
func (rep *reply) validity() time.Duration {
	ttl, limit := time.Duration(0), maxTTL
	for i := range rep.rrs {
		if t := time.Duration(rep.rrs[i].ttl) * time.Second; i == 0 || t < ttl {
			ttl = t
		}
	}
	if len(rep.rrs) == 0 || rep.rcode != "NOERROR" {
		ttl, limit = rep.negative, maxNegative
	}
	return min(max(ttl, minTTL), limit)
}

// errTooLong is returned for an answer that is too long to be recorded.
var errTooLong = fmt.Errorf("the answer has more than %d bytes", maxAnswer)

// exchange asks one server, by UDP, and by TCP if the answer does not fit.
func exchange(ctx context.Context, server string, q question) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	id := uint16(rand.Uint32())
	msg, err := q.pack(id)
	if err != nil {
		return nil, err
	}
	rep, err := overUDP(ctx, server, q, id, msg)
	if err == nil && rep.truncated {
		rep, err = overTCP(ctx, server, q, id, msg)
	}
	return rep, err
}

func dial(ctx context.Context, network, server string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server)
	if err == nil {
		deadline, _ := ctx.Deadline()
		c.SetDeadline(deadline)
	}
	return c, err
}

// overUDP uses a socket of its own, and so a port that nobody can guess. What does not answer the question is not listened to.
func overUDP(ctx context.Context, server string, q question, id uint16, msg []byte) (*reply, error) {
	c, err := dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(msg); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		rep, err := q.unpack(id, buf[:n])
		if errors.Is(err, errNotOurs) {
			continue
		}
		return rep, err
	}
}

func overTCP(ctx context.Context, server string, q question, id uint16, msg []byte) (*reply, error) {
	c, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > maxAnswer {
		return nil, errTooLong
	}
	buf := make([]byte, n)
	if _, err := io.ReadFull(c, buf); err != nil {
		return nil, err
	}
	rep, err := q.unpack(id, buf)
	if err == nil && rep.truncated {
		err = errors.New("an answer by TCP is cut short")
	}
	return rep, err
}
