package smtpd

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLimits: what a client hears that does too much, in Postfix's words; and that a minute later it may again.
func TestLimits(t *testing.T) {
	for name, tc := range map[string]struct {
		set   func(*Limits)
		do    func(t *testing.T, dial func() *client)
		again func(t *testing.T, dial func() *client)
	}{
		"connections": {func(l *Limits) { l.ConnectionsPerClient = 2 }, func(t *testing.T, dial func() *client) {
			one, two, three := dial(), dial(), dial()
			one.want(220)
			two.want(220)
			if text := three.want(421); text != "421 4.7.0 mx.example.test Error: too many connections from 127.0.0.1" {
				t.Error(text)
			}
			three.closed()
			one.conn.Close()
			synctest.Wait()
			dial().want(220)
		}, nil},
		"connections of all": {func(l *Limits) { l.Connections = 1 }, func(t *testing.T, dial func() *client) {
			dial().want(220)
			if text := dial().want(421); text != "421 4.7.0 mx.example.test Error: too many connections" {
				t.Error(text)
			}
		}, nil},
		"connection rate": {func(l *Limits) { l.ConnectionRate = 2 }, func(t *testing.T, dial func() *client) {
			for range 2 {
				c := dial()
				c.want(220)
				c.cmd("QUIT", 221)
			}
			dial().want(421)
		}, func(t *testing.T, dial func() *client) { dial().want(220) }},
		"message rate": {func(l *Limits) { l.MessageRate = 2 }, func(t *testing.T, dial func() *client) {
			for i := range 2 { // it is the client that counts, not the connection
				c := hello2(dial())
				c.cmd("MAIL FROM:<a@x.test>", 250)
				if i == 1 {
					c.cmd("RSET", 250)
					if text := c.cmd("MAIL FROM:<a@x.test>", 450); text != "450 4.7.1 Error: too much mail from 127.0.0.1" {
						t.Error(text)
					}
				}
			}
		}, func(t *testing.T, dial func() *client) { hello2(dial()).cmd("MAIL FROM:<a@x.test>", 250) }},
		"recipient rate": {func(l *Limits) { l.RecipientRate = 3 }, func(t *testing.T, dial func() *client) {
			c := hello2(dial())
			c.cmd("MAIL FROM:<a@x.test>", 250)
			for range 3 {
				c.cmd("RCPT TO:<b@x.test>", 250)
			}
			if text := c.cmd("RCPT TO:<b@x.test>", 450); text != "450 4.7.1 Error: too many recipients from 127.0.0.1" {
				t.Error(text)
			}
			c.cmd("DATA", 354) // for those that were taken
			c.send(".\r\n")
			c.want(250)
		}, func(t *testing.T, dial func() *client) {
			c := hello2(dial())
			c.cmd("MAIL FROM:<a@x.test>", 250)
			c.cmd("RCPT TO:<b@x.test>", 250)
		}},
		"recipients": {func(l *Limits) { l.Recipients = 100 }, func(t *testing.T, dial func() *client) {
			c := hello2(dial())
			c.cmd("MAIL FROM:<a@x.test>", 250)
			for range 100 {
				c.cmd("RCPT TO:<b@x.test>", 250)
			}
			if text := c.cmd("RCPT TO:<b@x.test>", 452); text != "452 4.5.3 Error: too many recipients" {
				t.Error(text)
			}
		}, nil},
		"errors": {func(l *Limits) { l.Errors = 3 }, func(t *testing.T, dial func() *client) {
			c := hello2(dial())
			c.cmd("NONSENSE", 500)
			c.cmd("RCPT TO:<b@x.test>", 503)
			c.cmd("MAIL FROM:<x>", 501)
			if text := c.want(421); text != "421 4.7.0 mx.example.test Error: too many errors" {
				t.Error(text)
			}
			c.closed()
		}, nil},
		"junk": {func(l *Limits) { l.JunkCommands, l.Errors = 5, 2 }, func(t *testing.T, dial func() *client) {
			c := hello2(dial()) // EHLO is one
			for _, cmd := range []string{"NOOP", "RSET", "VRFY x"} {
				c.send(cmd + "\r\n")
				if code, text, err := readReply(c.r); code/100 != 2 {
					t.Error(text, err)
				}
			}
			c.data(".\r\n", 250) // and a message is a fresh start
			for range 7 {
				c.cmd("NOOP", 250)
			}
			c.want(421)
			c.closed()
		}, nil},
		"exempt": {func(l *Limits) {
			l.ConnectionsPerClient, l.MessageRate, l.RecipientRate, l.ConnectionRate = 1, 1, 1, 1
			l.ExemptNetworks = []string{"127.0.0.0/8"}
		}, func(t *testing.T, dial func() *client) {
			for range 3 {
				c := hello2(dial())
				c.envelope()
				c.cmd("RCPT TO:<b@x.test>", 250)
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := relayConfig()
				tc.set(&cfg.Limits)
				srv := newServer(t, cfg, &backend{t: t})
				var all []*client
				dial := func() *client {
					synctest.Wait() // what was closed before is forgotten
					c := pipe(t, srv)
					all = append(all, c)
					return c
				}
				tc.do(t, dial)
				if tc.again != nil {
					time.Sleep(rateWindow)
					tc.again(t, dial)
				}
				for _, c := range all {
					c.conn.Close()
				}
				synctest.Wait()
				stop(t, srv)
				srv.limiter.mu.Lock()
				defer srv.limiter.mu.Unlock()
				for key, u := range srv.limiter.clients {
					if u.open != 0 {
						t.Errorf("%v: %d connections are open", key, u.open)
					}
				}
			})
		})
	}
}

func hello2(c *client) *client {
	c.t.Helper()
	c.want(220)
	c.cmd("EHLO x", 250)
	return c
}

// TestLimitsUnderTwoNames: the older keys go on working, and say the same.
func TestLimitsUnderTwoNames(t *testing.T) {
	old := Config{MaxMessageSize: 1 << 20, MaxRecipients: 200, MaxConnections: 7, MaxConnectionsPerClient: 3}.WithDefaults()
	newer := Config{Limits: Limits{MessageSize: 1 << 20, Recipients: 200, Connections: 7, ConnectionsPerClient: 3}}.WithDefaults()
	if fmt.Sprint(old) != fmt.Sprint(newer) {
		t.Errorf("%+v\n%+v", old, newer)
	}
	both := relayConfig()
	both.MaxRecipients, both.Limits.Recipients = 200, 300
	if err := both.Validate(); err == nil || !strings.Contains(err.Error(), "limits.recipients: 300, and max_recipients says 200") {
		t.Error(err)
	}
}

// TestLimiterMemory: a client can have any number of IPv6 addresses, and a botnet many networks; what is remembered of them is bounded,
// and those that are connected are not forgotten.
func TestLimiterMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Limits{ConnectionsPerClient: 2, MessageRate: 2})
		address := func(network, host int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(network >> 24), byte(network >> 16), byte(network >> 8), byte(network), 15: byte(host)})
		}
		for host := range 5 { // one network is one client
			if l.allow(address(0, host), newMessage) != (host < 2) {
				t.Errorf("host %d", host)
			}
		}
		for host := range 3 {
			if l.connect(address(1, host)) != (host < 2) {
				t.Errorf("host %d", host)
			}
		}
		for network := range 3 * maxTracked {
			l.allow(address(2+network, 0), newMessage)
			if n := len(l.clients); n > maxTracked {
				t.Fatalf("%d clients are remembered", n)
			}
		}
		if l.connect(address(1, 9)) {
			t.Error("who is connected was forgotten")
		}
		time.Sleep(rateWindow)
		l.allow(address(0, 0), newMessage)
		if n := len(l.clients); n > 2 {
			t.Errorf("%d clients are remembered a minute later", n)
		}
		l.disconnect(address(1, 0))
		l.disconnect(address(1, 1))
		if !l.connect(address(1, 0)) {
			t.Error("not again")
		}
	})
}
