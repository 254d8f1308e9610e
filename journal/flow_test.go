package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
	"github.com/holdfast-archive/holdfast/journal/smtpd"
	"github.com/holdfast-archive/holdfast/journal/spool"
)

// spoolAlone is custody without an archive behind it.
type spoolAlone struct{ *spool.Spool }

func (spoolAlone) Await(context.Context, record.ID) error { return errors.New("there is no archive") }
func (spoolAlone) Failing() error                         { return errors.New("there is no archive") }

// house is session, spool and next hop, wired as in earnest.
type house struct {
	address string
	spool   *spool.Spool
	relay   *Relay
	server  *smtpd.Server
}

func newHouse(t testing.TB, cfg Config, change func(*Relay)) *house {
	t.Helper()
	s, err := spool.Open(spool.Config{Dir: t.TempDir() + "/spool"}, spool.Options{Node: "main"})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Address, cfg.Hostname = ln.Addr().String(), "relay.example"
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	pool := nexthop.New(nexthop.Options{})
	handler := New(cfg, spoolAlone{s}, pool, slog.New(slog.DiscardHandler))
	h := &house{address: ln.Addr().String(), spool: s}
	h.relay, _ = handler.(*Relay)
	if change != nil {
		change(h.relay)
	}
	if h.server, err = smtpd.New(cfg.Config, handler, nil, nil); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		pool.Close()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

// client speaks SMTP by hand.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (h *house) client(t testing.TB) *client {
	c, err := net.Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	cl := &client{t, c, bufio.NewReader(c)}
	cl.expect("220")
	cl.say("EHLO client.example", "250")
	return cl
}

// expect reads a reply, and gives all of it.
func (c *client) expect(code string) string {
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Errorf("after %q: %v", all.String(), err)
			return all.String()
		}
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	if !strings.HasPrefix(all.String(), code) {
		c.t.Errorf("%q, want %s", all.String(), code)
	}
	return all.String()
}

func (c *client) say(line, code string) string {
	fmt.Fprintf(c, "%s\r\n", line)
	return c.expect(code)
}

// send gives a message up to its final dot and does not wait for the reply.
func (c *client) send(body string, rcpt ...string) {
	c.say("MAIL FROM:<a@src.example>", "250")
	for _, to := range rcpt {
		c.say("RCPT TO:<"+to+">", "250")
	}
	c.say("DATA", "354")
	stuffed := strings.ReplaceAll("\r\n"+body, "\r\n.", "\r\n..")[2:]
	io.WriteString(c, stuffed+".\r\n")
}

// settled waits for the next n records of the tail, and gives them with their bodies.
func (h *house) settled(t testing.TB, n int) map[record.ID][]byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tail := h.spool.Tail()
	bodies := map[record.ID][]byte{}
	for len(bodies) < n {
		it, err := tail.Next(ctx)
		if err != nil {
			t.Fatalf("after %d records: %v", len(bodies), err)
		}
		r, err := it.Body()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil || record.Sum(b) != it.Envelope.SHA256 {
			t.Fatal("body and digest differ: ", err)
		}
		bodies[it.ID] = b
		if d := it.Delivery(); (d == nil) != (it.Envelope.Mode != record.ModeRelay) {
			t.Errorf("%v settled with %+v", it.ID, d)
		}
	}
	return bodies
}

// Many clients at once: what each sent is in custody, byte for byte, and at the next hop behind one line of ours.
func TestFlow(t *testing.T) {
	hop := hoptest.New(t)
	cfg := config()
	cfg.Hop.NextHop = []string{hop.Addr()}
	h := newHouse(t, cfg, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	lines := []string{".", "..x", "text", "", strings.Repeat("z", 900), "b\xfccher"}
	const clients, each = 6, 12
	var mu sync.Mutex
	sent := map[string]bool{}
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			c := h.client(t)
			for i := range each {
				var b strings.Builder
				fmt.Fprintf(&b, "Subject: %d of %d\r\n\r\n", i, n)
				for range rng.IntN(50) * (1 + 100*(i%4/3)) { // some of them large
					b.WriteString(lines[rng.IntN(len(lines))] + "\r\n")
				}
				body := b.String()
				c.send(body, "b@dst.example", "c@dst.example")
				if reply := c.expect("250"); !strings.Contains(reply, "queued as") {
					t.Errorf("not the next hop's words: %q", reply)
				}
				mu.Lock()
				sent[body] = true
				mu.Unlock()
			}
			c.say("QUIT", "221")
		})
	}
	wg.Wait()
	kept := h.settled(t, clients*each)
	for id, b := range kept {
		if !sent[string(b)] {
			t.Errorf("%v was never sent: %.200q", id, b)
		}
	}
	messages := hop.Messages()
	if len(sent) != clients*each || len(kept) != len(sent) || len(messages) != len(sent) {
		t.Fatalf("%d sent, %d in custody, %d delivered", len(sent), len(kept), len(messages))
	}
	for _, m := range messages {
		header, body, _ := bytes.Cut(m.Data, []byte("+0000\r\n"))
		_, id, _ := bytes.Cut(header, []byte(" id "))
		rid, err := record.ParseID(string(id[:26]))
		if err != nil || !bytes.Equal(kept[rid], body) {
			t.Errorf("what was delivered as %q is not what is in custody", header)
		}
	}
}

// A client that hangs up after the dot does not take the next hop's answer from the record: it is waited for, but not for ever.
func TestClientHangsUp(t *testing.T) {
	for name, patience := range map[string]time.Duration{"patient": time.Minute, "at an end": 10 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			hop := hoptest.New(t)
			dot, answer := make(chan struct{}), make(chan struct{})
			var once sync.Once
			release := func() { once.Do(func() { close(answer) }) }
			defer release()
			hop.Answer = func(n int, verb, line string) string {
				if verb == "." {
					close(dot)
					<-answer
				}
				return ""
			}
			cfg := config()
			cfg.Hop.NextHop = []string{hop.Addr()}
			c := &fakeCustody{t: t}
			h := newHouse(t, cfg, func(r *Relay) { r.custody, r.patience = c, patience })
			cl := h.client(t)
			cl.send(message, "b@dst.example")
			<-dot
			cl.Close()
			want := record.Unknown
			if patience == time.Minute {
				want = record.Delivered
				release()
			}
			waitFor(t, func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return len(c.supplements) == 1
			})
			if d := c.supplements[0].Delivery; d.Outcome != want || want == record.Unknown && !d.ReplyLost {
				t.Errorf("%+v", d)
			}
		})
	}
}

// Journal mode has no next hop, and keeps what a relay would refuse.
func TestJournalFlow(t *testing.T) {
	cfg := config()
	cfg.Mode, cfg.Hop.NextHop = record.ModeJournal, nil
	h := newHouse(t, cfg, func(*Relay) {})
	c := h.client(t)
	c.send("bare\nline\r\n", "journal@archive.example")
	c.expect("250")
	for _, b := range h.settled(t, 1) {
		if string(b) != "bare\nline\r\n" {
			t.Errorf("%q", b)
		}
	}
}
