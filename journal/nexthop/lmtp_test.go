package nexthop

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

func lmtpTarget(h *hoptest.Hop) Target {
	t := target(h)
	t.LMTP = true
	return t
}

// finished is how a transaction with replies for each recipient went.
type finished struct {
	reply   *Reply
	err     error
	replies []*Reply
	d       *record.Delivery
}

func sendLMTP(t *testing.T, p *Pool, target Target, m Mail, body string, rcpts ...record.Path) finished {
	t.Helper()
	tx := p.Begin(To(target), m)
	defer tx.Close()
	for _, to := range rcpts {
		tx.Rcpt(t.Context(), to) // refusals show in the delivery
	}
	tx.Data(t.Context(), trace)
	tx.Write([]byte(body))
	var f finished
	f.reply, f.err = tx.Finish(t.Context())
	f.replies, f.d = tx.Replies(), tx.Delivery()
	return f
}

// Each recipient has a reply of its own, by DATA and by BDAT, over TCP and over a socket.
func TestLMTP(t *testing.T) {
	third := record.Path{Address: "d@dst.example"}
	for _, tc := range []struct {
		network string
		bdat    bool
	}{{"tcp", false}, {"tcp", true}, {"unix", false}, {"unix", true}} {
		t.Run(fmt.Sprintf("%s bdat=%v", tc.network, tc.bdat), func(t *testing.T) {
			address := "127.0.0.1:0"
			if tc.network == "unix" {
				address = filepath.Join(t.TempDir(), "lmtp")
			}
			h := hoptest.Listen(t, tc.network, address)
			h.LMTP = true
			h.Caps = append(h.Caps, "CHUNKING")
			h.Answer = func(_ int, verb, line string) string {
				switch {
				case verb == "RCPT" && strings.Contains(line, "<c@"):
					return "550 5.1.1 who?"
				case verb == "." && strings.Contains(line, "<d@"):
					return "452 4.2.2 over quota"
				}
				return ""
			}
			p := newPool(t, Options{})
			for range 2 {
				f := sendLMTP(t, p, lmtpTarget(h), Mail{From: from, BareNewlines: tc.bdat}, "x\r\n", to, other, third)
				if f.err != nil || !f.reply.ok() {
					t.Fatal(f.reply, f.err)
				}
				if tc.bdat {
					if len(f.replies) != 2 || !f.replies[0].ok() || !f.replies[1].ok() {
						t.Errorf("%v", f.replies)
					}
					continue
				}
				if len(f.replies) != 2 || !f.replies[0].ok() || f.replies[1].Code != 452 {
					t.Errorf("%v", f.replies)
				}
				r := f.d.Recipients
				if f.d.Outcome != record.Delivered || r[0].Outcome != record.Delivered || r[1].Code != 550 || r[2].Outcome != record.Refused ||
					r[2].Code != 452 || r[2].Enhanced != "4.2.2" || f.d.SentSize == 0 || f.d.Address != h.Addr() {
					t.Errorf("%+v", f.d)
				}
			}
			if len(h.Messages()) != 2 || h.Conns() != 1 {
				t.Errorf("%d messages in %d connections", len(h.Messages()), h.Conns())
			}
		})
	}
}

// The server breaks off between its replies: what it said stands, and of the others nobody knows.
func TestLMTPBrokenOff(t *testing.T) {
	h := hoptest.New(t)
	h.LMTP = true
	h.Answer = func(_ int, verb, line string) string {
		if verb == "." && strings.Contains(line, "<c@") {
			return hoptest.Drop
		}
		return ""
	}
	f := sendLMTP(t, newPool(t, Options{}), lmtpTarget(h), Mail{From: from}, "x\r\n", to, other)
	if !errors.Is(f.err, ErrUnknown) || !f.replies[0].ok() || f.replies[1] != nil {
		t.Errorf("%v %v", f.err, f.replies)
	}
	if r := f.d.Recipients; f.d.Outcome != record.Delivered || r[0].Outcome != record.Delivered || r[1].Outcome != record.Unknown || f.d.Reason == "" {
		t.Errorf("%+v", f.d)
	}
}

// Before the dot there is one answer for all.
func TestLMTPRefused(t *testing.T) {
	for verb, answer := range map[string]string{"DATA": "451 4.3.0 later", "MAIL": "550 5.7.1 no", "LHLO": "550 no"} {
		h := hoptest.New(t)
		h.LMTP = true
		h.Answer = answering(verb, answer)
		f := sendLMTP(t, newPool(t, Options{}), lmtpTarget(h), Mail{From: from}, "x\r\n", to, other)
		if f.d.Outcome != record.Refused || f.d.Recipients[1].Outcome != record.Refused || h.Dots() > 0 {
			t.Errorf("%s: %+v", verb, f.d)
		}
		if verb == "DATA" && (len(f.replies) != 2 || f.replies[0].Code != 451 || f.replies[1].Code != 451) {
			t.Errorf("%v", f.replies)
		}
		if verb == "LHLO" && !errors.Is(f.err, ErrUnavailable) {
			t.Errorf("%v", f.err)
		}
	}
}

// With SMTP each recipient's reply is the one that there is.
func TestRepliesBySMTP(t *testing.T) {
	h := hoptest.New(t)
	f := sendLMTP(t, newPool(t, Options{}), target(h), Mail{From: from}, "x\r\n", to, other)
	if len(f.replies) != 2 || f.replies[0] != f.reply || f.replies[1] != f.reply {
		t.Errorf("%v %v", f.reply, f.replies)
	}
}
