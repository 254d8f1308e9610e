package smtpd

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-archive/holdfast/journal/nexthop"
)

// hello is a client in a synctest bubble that has said EHLO. Time passes when everybody waits.
func hello(t *testing.T, cfg Config, b *backend) (*Server, *client) {
	t.Helper()
	srv := newServer(t, cfg, b)
	c := pipe(t, srv)
	c.want(220)
	c.cmd("EHLO x", 250)
	return srv, c
}

func stop(t *testing.T, srv *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// TestSlowClient: a message may take for ever, if only its bytes keep coming.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		srv, c := hello(t, relayConfig(), b)
		c.envelope()
		c.cmd("DATA", 354)
		body := strings.Repeat("a line\r\n", 20)
		for _, b := range []byte(body) {
			time.Sleep(DefaultDataTimeout - time.Second)
			c.send(string(b))
		}
		c.send(".\r\n")
		c.want(250)
		c.conn.Close()
		if m := b.only(); string(m.body) != body {
			t.Errorf("%q", m.body)
		}
		stop(t, srv)
	})
}

func TestSilentClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			send string
			wait time.Duration
		}{
			{"NOO", DefaultCommandTimeout},
			{"MAIL FROM:<a@x.test>\r\n", DefaultCommandTimeout},
			{"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nbody\r\n", DefaultDataTimeout},
			{"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nBDAT 2 LAST\r\n\r", DefaultDataTimeout},
			{"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nBDAT 2\r\n\r\n", DefaultDataTimeout},
		} {
			b := &backend{t: t}
			srv, c := hello(t, relayConfig(), b)
			start := time.Now()
			go io.WriteString(c.conn, tc.send)
			all, err := io.ReadAll(c.r)
			if err != nil || !strings.Contains(string(all), "421 4.4.2 ") {
				t.Errorf("%q: %q, %v", tc.send, all, err)
			}
			if d := time.Since(start); d != tc.wait {
				t.Errorf("%q: closed after %v, want %v", tc.send, d, tc.wait)
			}
			for _, m := range b.ended() {
				if m.whole() {
					t.Errorf("%q: kept", tc.send)
				}
			}
			stop(t, srv)
		}
	})
}

// TestTrickle: a command has to be whole in time, however often a byte of it comes.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := hello(t, relayConfig(), &backend{t: t})
		for range 4 {
			c.send("N")
			time.Sleep(time.Minute)
		}
		start := time.Now()
		c.want(421)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("closed after %v more", d)
		}
		stop(t, srv)
	})
}

func TestMinRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := relayConfig()
		cfg.MinRate = 10
		b := &backend{t: t}
		srv, c := hello(t, cfg, b)
		c.envelope()
		c.cmd("DATA", 354)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := io.WriteString(c.conn, "x"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		c.want(421)
		c.conn.Close()
		<-done
		if m := b.only(); !errors.Is(m.bodyErr, ErrTooSlow) {
			t.Error(m.bodyErr)
		}
		stop(t, srv)
	})
}

// TestGone: a client that hangs up while the Handler makes it wait is noticed, and one that says something meanwhile is heard afterwards.
func TestGone(t *testing.T) {
	dir := t.TempDir()
	for framing, overTLS := range map[string]bool{"DATA\r\n|x\r\n.\r\n": false, "BDAT 3 LAST\r\n|x\r\n": false, "DATA\r\n|tls\r\n.\r\n": true} {
		synctest.Test(t, func(t *testing.T) {
			b := &backend{t: t}
			b.data = func(ctx context.Context, m *message, body *Body) (*nexthop.Reply, error) {
				if err := m.keep(body); err != nil {
					return nil, err
				}
				select {
				case <-m.session.Gone():
					return nil, ctx.Err() // nil: the end of the client is not the end of the Handler
				case <-time.After(10 * time.Minute):
					return &nexthop.Reply{Code: 250, Lines: []string{"2.0.0 at last"}}, nil
				}
			}
			cfg := relayConfig()
			cfg.TLS = writeCert(t, dir, "mx.example.test")
			srv, c := hello(t, cfg, b)
			if overTLS {
				c.startTLS()
				c.cmd("EHLO x", 250)
			}
			head, body, _ := strings.Cut(framing, "|")
			say := func() {
				c.envelope()
				c.send(head)
				if strings.HasPrefix(head, "DATA") {
					c.want(354)
				}
				c.send(body)
			}

			start := time.Now()
			say()
			go func() {
				time.Sleep(time.Minute)
				io.WriteString(c.conn, "NOOP\r\nNO")
				time.Sleep(time.Minute)
				io.WriteString(c.conn, "OP\r\n")
			}()
			if text := c.want(250); text != "250 2.0.0 at last" || time.Since(start) != 10*time.Minute {
				t.Errorf("%q after %v", text, time.Since(start))
			}
			c.want(250)
			c.want(250)
			c.cmd("NOOP", 250)

			start = time.Now()
			say()
			time.Sleep(30 * time.Second)
			c.conn.Close()
			all := b.ended()
			if d := time.Since(start); d != 30*time.Second {
				t.Errorf("noticed after %v", d)
			}
			if m := all[0]; m.replied[0] != nil {
				t.Errorf("the first: Replied(%v)", m.replied[0])
			}
			if m := all[1]; !m.whole() || !errors.Is(m.replied[0], ErrClientGone) {
				t.Errorf("the second: Replied(%v)", m.replied[0])
			}
			stop(t, srv)
		})
	}
}

// TestPanicWhileWatched: a Handler that panics after a while leaves nobody reading.
func TestPanicWhileWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		b.data = func(_ context.Context, m *message, body *Body) (*nexthop.Reply, error) {
			m.keep(body)
			time.Sleep(time.Minute)
			panic("test")
		}
		srv, c := hello(t, relayConfig(), b)
		c.envelope()
		c.cmd("DATA", 354)
		c.send("x\r\n.\r\n")
		c.want(421)
		c.closed()
		if m := b.only(); len(m.replied) != 1 {
			t.Error("Replied was not called")
		}
		stop(t, srv)
	})
}

// TestShutdown: idle sessions end at once, and those in a message when it has been answered.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		srv := newServer(t, relayConfig(), b)
		idle, busy, chunked, between := pipe(t, srv), pipe(t, srv), pipe(t, srv), pipe(t, srv)
		for _, c := range []*client{idle, busy, chunked, between} {
			c.want(220)
			c.cmd("EHLO x", 250)
		}
		busy.envelope()
		busy.cmd("DATA", 354)
		chunked.envelope()
		chunked.send("BDAT 3\r\nabc")
		chunked.want(250)
		between.envelope()

		synctest.Wait()
		ended := make(chan error, 1)
		start := time.Now()
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			ended <- srv.Shutdown(ctx)
		}()
		idle.want(421)
		idle.closed()
		between.want(421)
		between.closed()
		if d := time.Since(start); d != 0 {
			t.Errorf("idle sessions ended after %v", d)
		}
		time.Sleep(9 * time.Second)
		chunked.send("BDAT 2 LAST\r\n\r\n")
		chunked.want(250)
		chunked.want(421)
		busy.send("x\r\n.\r\nNOOP\r\n")
		busy.want(250)
		busy.want(421)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if late := newSome(); srv.Serve(late) != nil {
			t.Error("Serve after Shutdown")
		}
	})
}

// TestShutdownForced: what has not ended by then is cut off, and the Handler's context with it.
func TestShutdownForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		inBody, waiting := make(chan error, 1), make(chan error, 1)
		b.data = func(ctx context.Context, m *message, body *Body) (*nexthop.Reply, error) {
			if err := m.keep(body); err != nil {
				inBody <- errors.Join(err, ctx.Err())
				return nil, err
			}
			<-ctx.Done()
			waiting <- ctx.Err()
			return nil, ctx.Err()
		}
		srv := newServer(t, relayConfig(), b)
		one, two := pipe(t, srv), pipe(t, srv)
		for _, c := range []*client{one, two} {
			c.want(220)
			c.cmd("EHLO x", 250)
			c.envelope()
			c.cmd("DATA", 354)
		}
		two.send("x\r\n.\r\n")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("after %v", d)
		}
		if err := <-inBody; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		all := b.ended()
		if all[0].whole() || !all[1].whole() || all[1].replied[0] == nil {
			t.Error("a message cut off was whole, or its reply written")
		}
	})
}
