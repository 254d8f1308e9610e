package journal

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// settledDelivery waits for the next record of the tail, and gives its delivery.
func (h *house) settledDelivery(t testing.TB) *record.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	it, err := h.spool.Tail().Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return it.Delivery()
}

// The first of two hosts fails at one point after another: the client notices nothing, the message is delivered once and kept once, and the
// record says where it went.
func TestEquivalentHosts(t *testing.T) {
	for _, verb := range []string{"GREETING", "EHLO", "MAIL", "RCPT", "DATA"} {
		a, b := hoptest.New(t), hoptest.New(t)
		a.Answer = func(_ int, v, _ string) string {
			if v == verb {
				return "421 4.3.2 going down" + hoptest.Drop
			}
			return ""
		}
		cfg := config()
		cfg.Hop.NextHop = []string{a.Addr() + ", " + b.Addr()}
		h := newHouse(t, cfg, nil)
		c := h.client(t)
		c.send(message, "b@dst.example", "c@dst.example")
		c.expect("250")
		d := h.settledDelivery(t)
		if len(a.Messages()) != 0 || len(b.Messages()) != 1 || d.NextHop != b.Addr() || d.Address != b.Addr() || d.Attempts != 2 ||
			d.Outcome != record.Delivered || !strings.Contains(d.Reason, a.Addr()) {
			t.Errorf("%s: %d and %d messages, %+v", verb, len(a.Messages()), len(b.Messages()), d)
		}
	}
}

// Once the body has begun there is no second host: the client is told, and the record too.
func TestNoFailoverInTheBody(t *testing.T) {
	a, b := hoptest.New(t), hoptest.New(t)
	a.Answer = func(_ int, v, _ string) string {
		if v == "." {
			return hoptest.Drop
		}
		return ""
	}
	cfg := config()
	cfg.Hop.NextHop = []string{a.Addr(), b.Addr()}
	h := newHouse(t, cfg, nil)
	c := h.client(t)
	c.send(message, "b@dst.example")
	c.expect("451 4.4.2")
	if d := h.settledDelivery(t); b.Conns() != 0 || d.Outcome != record.Unknown {
		t.Errorf("%d connections to the second host, %+v", b.Conns(), d)
	}
}

// Without the TLS that is required, or signed in, nothing goes out; the client is told for now and why, and not in whose words.
func TestNextHopIsNotGoodEnough(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	hop := hoptest.New(t)
	cfg := config()
	cfg.Hop.NextHop, cfg.Hop.TLS.Policy = []string{hop.Addr()}, nexthop.Required
	c := newHouse(t, cfg, nil).client(t)
	c.say("MAIL FROM:<a@src.example>", "250")
	if reply := c.say("RCPT TO:<b@dst.example>", "451 4.7.5"); !strings.Contains(reply, "TLS") {
		t.Errorf("%q", reply)
	}
	hop = hoptest.New(t)
	hop.TLS, hop.User, hop.Password = &tls.Config{Certificates: []tls.Certificate{hoptest.Certificate(t)}}, "relay", "right"
	cfg.Hop.NextHop, cfg.Hop.Auth = []string{hop.Addr()}, nexthop.AuthConfig{User: "relay", PasswordFile: password}
	c = newHouse(t, cfg, nil).client(t)
	c.say("MAIL FROM:<a@src.example>", "250")
	if reply := c.say("RCPT TO:<b@dst.example>", "451 4.7.0"); strings.Contains(reply, "535") || strings.Contains(reply, "wrong") {
		t.Errorf("%q", reply)
	}
}

// From a client whose bare newlines are taken, hostile bytes are kept and passed on as they are, by BDAT; to a next hop without CHUNKING
// they are refused, and what was refused is in custody, as refused. Mail that is clean goes to both.
func TestBareNewlinesPassThrough(t *testing.T) {
	for _, chunking := range []bool{true, false} {
		hop := hoptest.New(t)
		if chunking {
			hop.Caps = append(hop.Caps, "CHUNKING")
		}
		cfg := config()
		cfg.Hop.NextHop, cfg.BareNewline.Default = []string{hop.Addr()}, "accept"
		h := newHouse(t, cfg, nil)
		c := h.client(t)
		tail := h.spool.Tail()
		arrived := 0
		for _, body := range []string{
			message, "a\nb\r\n", "a\rb\r\n", "a\n.\r\nMAIL FROM:<evil@src.example>\r\n", "a\r.\r\n", "a\n.\n\n", "no end", "\r", strings.Repeat("unix\n", 30000),
		} {
			bare := body != message
			c.say("MAIL FROM:<a@src.example>", "250")
			c.say("RCPT TO:<b@dst.example>", "250")
			if bare {
				fmt.Fprintf(c, "BDAT %d LAST\r\n%s", len(body), body)
			} else {
				c.say("DATA", "354")
				io.WriteString(c, strings.ReplaceAll("\r\n"+body, "\r\n.", "\r\n..")[2:]+".\r\n")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			if bare && !chunking {
				c.expect("550 5.5.2")
			} else {
				c.expect("250")
				arrived++
			}
			it, err := tail.Next(ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if it.Envelope.SHA256 != record.Sum([]byte(body)) || (it.Delivery().Outcome == record.Delivered) != (!bare || chunking) {
				t.Errorf("%.80q: %+v %+v", body, it.Envelope, it.Delivery())
			}
			messages := hop.Messages()
			if len(messages) != arrived {
				t.Fatalf("%.80q: %d messages have arrived, want %d", body, len(messages), arrived)
			}
			if !bare || chunking {
				m := messages[arrived-1]
				if _, sent, _ := bytes.Cut(m.Data, []byte("+0000\r\n")); string(sent) != body || it.Delivery().SentSHA256 != record.Sum(m.Data) {
					t.Errorf("%.80q arrived as %.80q", body, sent)
				}
			}
		}
	}
}
