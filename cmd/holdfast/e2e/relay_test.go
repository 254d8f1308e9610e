package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// What the next hop says is what the client hears, to the letter; and the record knows it.
func TestRelayPassesRepliesOnWordForWord(t *testing.T) {
	for _, keep := range []string{"none", "envelope", "full"} {
		t.Run("keep_refused "+keep, func(t *testing.T) {
			t.Parallel()
			rng, hop := seeded(t), hoptest.New(t)
			replies := map[string]string{ // by the recipient that brings them about
				"unknown": "550 5.1.1 <unknown@dest.test>: Recipient address rejected: User unknown in virtual mailbox table",
				"quota":   "452-4.2.2 The mailbox is over its quota.\r\n452 4.2.2 See https://help.dest.test/quota",
				"nodata":  "554 5.7.1 No data today",
				"policy":  "554 5.7.1 Message contains a test",
				"later":   "451-4.7.1 Greylisted,\r\n451-4.7.1 see https://help.dest.test/grey,\r\n451 try again",
				"good":    "250 2.0.0 Ok: queued as 4ZXY",
			}
			var to atomic.Value
			hop.SetAnswer(func(_ int, verb, line string) string {
				who := strings.ToLower(line)
				switch {
				case verb == "RCPT" && strings.Contains(who, "<unknown@"):
					return replies["unknown"]
				case verb == "RCPT" && strings.Contains(who, "<quota@"):
					return replies["quota"]
				case verb == "DATA" && to.Load() == "nodata":
					return replies["nodata"]
				case verb == ".":
					return replies[to.Load().(string)]
				}
				return ""
			})
			h := relayTo(t, hop, settings{more: ", keep_refused: " + keep})
			h.start()
			c := h.dial()
			for _, who := range []string{"unknown", "quota"} {
				c.begin(t, "ada@origin.test")
				if got := c.must(t, "RCPT TO:<"+who+"@dest.test>\r\n", ""); got != replies[who]+"\r\n" {
					t.Errorf("RCPT %s: %q, the next hop said %q", who, got, replies[who])
				}
				c.must(t, "RSET\r\n", "250")
			}
			sent := map[string][]byte{}
			for _, who := range []string{"nodata", "policy", "later", "good"} {
				to.Store(who)
				sent[who] = letter(rng, "to "+who, 2000)
				c.begin(t, "ada@origin.test", who+"@dest.test")
				c.must(t, "RCPT TO:<unknown@dest.test>\r\n", "550")
				if got := c.data(t, sent[who]); got != replies[who]+"\r\n" {
					t.Errorf("message to %s: %q, the next hop said %q", who, got, replies[who])
				}
			}
			h.settle()
			for who, m := range sent {
				h.checkRefused(keep, who, m, replies)
			}
			if n := len(h.search("")); keep == "none" && n != 1 || keep != "none" && n != 4 {
				t.Errorf("%d records are found", n)
			}
			dropped := 0
			for _, e := range h.entries() {
				if e.Drop != nil && e.Drop.Reason == "refused by the next hop, not kept" {
					dropped += int(e.Drop.Last - e.Drop.First + 1)
				}
			}
			if keep == "none" && dropped != 3 || keep != "none" && dropped != 0 {
				t.Errorf("%d messages are accounted for as not kept", dropped)
			}
			h.mustVerify()
			h.stop()
			h.mustVerify()
		})
	}
}

var enhancedCode = regexp.MustCompile(`^[245]\.\d+\.\d+ `)

// checkRefused demands of a message what keep_refused promises.
func (h *holdfast) checkRefused(keep, who string, message []byte, replies map[string]string) {
	h.t.Helper()
	ids := h.sums()[hash(message)]
	if who != "good" && keep == "none" {
		if len(ids) != 0 {
			h.t.Errorf("%s is archived", who)
		}
		return
	}
	if len(ids) != 1 {
		h.t.Errorf("%s is archived %d times", who, len(ids))
		return
	}
	k := h.record(ids[0])
	d := k.delivery(h.t)
	outcome, kind := record.Refused, record.KindMessage
	if who == "good" {
		outcome = record.Delivered
	} else if keep == "envelope" {
		kind = record.KindRefused
	}
	if d.Outcome != outcome || k.Entry == nil || k.Entry.Kind != kind {
		h.t.Errorf("%s: outcome %s, entry %+v", who, d.Outcome, k.Entry)
	}
	if kind == record.KindMessage {
		if !bytes.Equal(h.fetch(ids[0]), message) {
			h.t.Errorf("%s: other bytes come back", who)
		}
	} else if _, status := h.get("/api/v1/records/" + ids[0] + "/eml"); status != 404 {
		h.t.Errorf("%s: HTTP %d for bytes that were not to be kept", who, status)
	}
	if len(k.Envelope.Rcpt) != 1 || k.Envelope.Rcpt[0].Address != who+"@dest.test" || len(d.Recipients) != 2 {
		h.t.Fatalf("%s: envelope to %+v, delivery to %+v", who, k.Envelope.Rcpt, d.Recipients)
	}
	for _, r := range d.Recipients {
		name, _, _ := strings.Cut(r.Address, "@")
		var lines []string
		for line := range strings.SplitSeq(replies[name], "\r\n") {
			lines = append(lines, enhancedCode.ReplaceAllString(line[4:], "")) // it has a field of its own
		}
		if code := replies[name][:3]; fmt.Sprint(r.Code) != code || r.Text != strings.Join(lines, "\n") {
			h.t.Errorf("%s: the record has %d %q of recipient %s, the next hop said %q", who, r.Code, r.Text, name, replies[name])
		}
	}
}

// The next hop has the dot only when custody has the message: a kill at that very moment loses nothing.
func TestDotComesAfterCustody(t *testing.T) {
	t.Parallel()
	hop := hoptest.New(t)
	h := relayTo(t, hop, settings{})
	h.start()
	killed := make(chan struct{})
	hop.SetAnswer(func(_ int, verb, _ string) string {
		if verb != "." {
			return ""
		}
		h.kill()
		close(killed)
		return hoptest.Drop
	})
	m := letter(seeded(t), "killed at the dot", 300<<10) // more than is kept in memory
	c := h.dial()
	c.begin(t, "ada@origin.test", "bob@dest.test")
	c.must(t, "DATA\r\n", "354")
	if reply, err := c.say(string(m) + ".\r\n"); err == nil {
		t.Errorf("a server that was killed says %q", reply)
	}
	<-killed
	hop.SetAnswer(nil)
	h.start()
	h.settle()
	h.holdsExactly(m)
	d := h.record(h.sums()[hash(m)][0]).delivery(t)
	if d.Outcome != record.Unknown || d.Reason == "" {
		t.Errorf("the record says %s (%q), and nobody can know", d.Outcome, d.Reason)
	}
	h.stop()
	h.mustVerify()
}

func TestReplyThatTheClientDidNotHear(t *testing.T) {
	t.Parallel()
	hop := hoptest.New(t)
	arrived, answer := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(release)
	hop.SetAnswer(func(_ int, verb, _ string) string {
		if verb == "." {
			close(arrived)
			<-answer
		}
		return ""
	})
	h := relayTo(t, hop, settings{})
	h.start()
	m := letter(seeded(t), "nobody hears it", 2000)
	c := h.dial()
	c.begin(t, "ada@origin.test", "bob@dest.test")
	c.must(t, "DATA\r\n", "354")
	io.WriteString(c, string(m)+".\r\n")
	<-arrived
	c.Conn.(*net.TCPConn).SetLinger(0) // a reset: what the server writes then is an error there
	c.Close()
	until(t, 20*time.Second, "the connection is gone", func() bool { return !connected(t, h.smtp, c) })
	release()
	h.settle()
	h.holdsExactly(m)
	d := h.record(h.sums()[hash(m)][0]).delivery(t)
	if d.Outcome != record.Delivered || !d.ReplyLost {
		t.Errorf("the record says %s, reply lost: %v", d.Outcome, d.ReplyLost)
	}
	h.stop()
}

// What the client has not ended is not a message: nobody keeps it and nobody is sent it.
func TestMessageCutShort(t *testing.T) {
	t.Parallel()
	hop := hoptest.New(t)
	h := relayTo(t, hop, settings{})
	h.start()
	rng := seeded(t)
	m, big := letter(rng, "cut short", 20<<10), letter(rng, "cut short and large", 600<<10)
	for name, write := range map[string]func(c *client){
		"DATA without a dot":         func(c *client) { c.must(t, "DATA\r\n", "354"); c.Write(m) },
		"a large DATA without a dot": func(c *client) { c.must(t, "DATA\r\n", "354"); c.Write(big) },
		"DATA that ends in CRLF dot": func(c *client) { c.must(t, "DATA\r\n", "354"); c.Write(append(m, '.')) },
		"the last BDAT is short":     func(c *client) { fmt.Fprintf(c, "BDAT %d LAST\r\n%s", len(m), m[:len(m)-1]) },
		"a large last BDAT is short": func(c *client) { fmt.Fprintf(c, "BDAT %d LAST\r\n%s", len(big), big[:len(big)-1]) },
		"BDAT without LAST":          func(c *client) { c.must(t, fmt.Sprintf("BDAT %d\r\n%s", len(m), m), "250") },
		"BDAT without LAST, and RSET": func(c *client) {
			c.must(t, fmt.Sprintf("BDAT %d\r\n%s", len(m), m), "250")
			c.must(t, "RSET\r\n", "250")
		},
		"BDAT without LAST, and QUIT": func(c *client) {
			c.must(t, fmt.Sprintf("BDAT %d\r\n%s", len(m), m), "250")
			c.must(t, "QUIT\r\n", "221")
		},
	} {
		t.Log(name)
		c := h.dial()
		c.begin(t, "ada@origin.test", "bob@dest.test")
		write(c)
		c.Close()
	}
	until(t, 20*time.Second, "the sessions have ended", func() bool {
		n, ok := h.metric("holdfast_smtp_connections")
		return ok && n == 0
	})
	whole := letter(rng, "whole", 2000)
	c := h.dial()
	c.begin(t, "ada@origin.test", "bob@dest.test")
	if reply := c.data(t, whole); reply[0] != '2' {
		t.Fatal(reply)
	}
	h.settle()
	h.holdsExactly(whole)
	if got := hop.Messages(); hop.Dots() != 1 || len(got) != 1 || !bytes.HasSuffix(got[0].Data, whole) {
		t.Errorf("the next hop has %d messages", len(got))
	}
	h.mustVerify()
	h.stop()
}

// What can't be passed on unaltered is refused for good, and neither sent nor kept.
func TestRelayRefuses(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	hop := hoptest.New(t)
	hop.Caps = []string{"PIPELINING", "SIZE 100000"} // neither SMTPUTF8 nor 8BITMIME
	h := relayTo(t, hop, settings{more: ", max_message_size: 128KiB"})
	h.start()
	head := "From: a@origin.test\r\nSubject: x\r\n"
	for _, test := range []struct{ name, mail, data, reply string }{
		{"bare CR", "MAIL FROM:<a@origin.test>", head + "\r\none\rtwo\r\n", "550 5.5.2 "},
		{"bare LF", "MAIL FROM:<a@origin.test>", head + "\r\none\ntwo\r\n", "550 5.5.2 "},
		{"smuggling by a bare LF", "MAIL FROM:<a@origin.test>", head + "\r\none\r\n.\nMAIL FROM:<x@y.test>\r\n", "550 5.5.2 "},
		{"smuggling by a bare CR", "MAIL FROM:<a@origin.test>", head + "\r\none\r.\r\nMAIL FROM:<x@y.test>\r\n", "550 5.5.2 "},
		{"51 Received lines", "MAIL FROM:<a@origin.test>", strings.Repeat("Received: from x by y; z\r\n", 51) + head + "\r\none\r\n", "554 5.4.6 "},
		{"over our limit", "MAIL FROM:<a@origin.test>", string(letter(rng, "large", 140<<10)), "552 5.3.4 "},
	} {
		for _, how := range []string{"DATA", "BDAT"} {
			c := h.dial()
			c.must(t, test.mail+"\r\n", "250")
			c.must(t, "RCPT TO:<bob@dest.test>\r\n", "250")
			reply := ""
			if how == "DATA" {
				reply = c.data(t, []byte(test.data))
			} else {
				reply = c.bdat(t, rng, []byte(test.data))
			}
			if !strings.HasPrefix(reply, test.reply) {
				t.Errorf("%s by %s: %q, expected %q", test.name, how, reply, test.reply)
			}
			c.Close()
		}
	}
	c := h.dial()
	c.must(t, "MAIL FROM:<a@origin.test> SIZE=131073\r\n", "552 5.3.4 ")
	c.must(t, "MAIL FROM:<a@origin.test> SIZE=120000\r\n", "250")      // below our limit,
	c.must(t, "RCPT TO:<bob@dest.test>\r\n", "552 5.3.4 ")             // above that of the next hop
	c.must(t, "RSET\r\n", "250")                                       //
	c.must(t, "MAIL FROM:<grüße@origin.test> SMTPUTF8\r\n", "250")     // the next hop is asked at RCPT
	c.must(t, "RCPT TO:<bob@dest.test>\r\n", "553 5.6.7 ")             //
	c.must(t, "RSET\r\n", "250")                                       //
	c.must(t, "MAIL FROM:<ada@origin.test> BODY=8BITMIME\r\n", "250 ") // we take it, and say so in the record
	c.must(t, "RCPT TO:<bob@dest.test>\r\n", "250 ")
	eight := []byte(head + "\r\nGr\xfc\xdfe\r\n")
	if reply := c.data(t, eight); reply[0] != '2' {
		t.Fatal(reply)
	}
	h.settle()
	h.holdsExactly(eight)
	k := h.record(h.sums()[hash(eight)][0])
	if k.Envelope.Body != "8BITMIME" || !k.delivery(t).EightBitSentAnyway {
		t.Errorf("BODY=%q, sent to a next hop without 8BITMIME: %v", k.Envelope.Body, k.delivery(t).EightBitSentAnyway)
	}
	if hop.Dots() != 1 || !bytes.HasSuffix(hop.Messages()[0].Data, eight) {
		t.Errorf("%d messages were sent on", hop.Dots())
	}
	h.mustVerify()
	h.stop()
}

// A journal listener never answers 5xx after MAIL: oversize is 452, counted and logged.
func TestJournalDefersWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	h := install(t, settings{mode: "journal", more: ", max_message_size: 64KiB"})
	h.start()
	large := letter(rng, "large", 70<<10)
	c := h.dial()
	c.must(t, "MAIL FROM:<a@origin.test> SIZE=65537\r\n", "452 4.3.1 ")
	c.begin(t, "a@origin.test", "journal@archive.test")
	if reply := c.data(t, large); !strings.HasPrefix(reply, "452 4.3.1 ") {
		t.Errorf("by DATA: %q", reply)
	}
	c.begin(t, "a@origin.test", "journal@archive.test")
	if reply := c.bdat(t, rng, large); !strings.HasPrefix(reply, "452 4.3.1 ") {
		t.Errorf("by BDAT: %q", reply)
	}
	c = h.dial()
	c.begin(t, "a@origin.test", "journal@archive.test")
	exact := append(bytes.Repeat([]byte("x"), 64<<10-2), "\r\n"...)
	if reply := c.data(t, exact); reply[0] != '2' {
		t.Errorf("a message of exactly the limit: %q", reply)
	}
	h.settle()
	h.holdsExactly(exact)
	if !h.logHas("over max_message_size") {
		t.Error("the log says nothing of it")
	}
	body, _ := h.get("/metrics")
	if !strings.Contains(string(body), `holdfast_smtp_messages_total{listener="in",outcome="oversize"} 3`) {
		t.Errorf("not counted:\n%s", body)
	}
	h.mustVerify()
	h.stop()
}
