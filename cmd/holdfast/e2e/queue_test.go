package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// queueing installs a node in mode queue. routes has the destination of each domain.
func queueing(t *testing.T, routes map[string]string, more string) *holdfast {
	t.Helper()
	var list []string
	for domain, hop := range routes {
		list = append(list, fmt.Sprintf(`{domain: %q, next_hop: %q}`, domain, hop))
	}
	return install(t, settings{
		mode: "queue", more: ", hostname: relay.test, routes: [" + strings.Join(list, ", ") + "]" + more,
		yaml: "queue: {first_retry: 1s, max_retry: 2s}\n",
	})
}

// queued gives what waits.
func (h *holdfast) queued() (list []queuedMessage) {
	h.t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(h.run("queue", "list", "--json")), "\n") {
		if line == "" {
			continue
		}
		var m queuedMessage
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			h.t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

type queuedMessage struct {
	ID, State  string
	Recipients []struct{ Address, Text string }
}

// emptied waits until nothing is left in the queue.
func (h *holdfast) emptied(limit time.Duration) {
	h.t.Helper()
	until(h.t, limit, "the queue is empty", func() bool {
		n, ok := h.metric("holdfast_queue_messages")
		pending, ok2 := h.metric("holdfast_spool_pending_records")
		return ok && ok2 && n == 0 && pending == 0
	})
}

// postbox is a Dovecot that takes mail by LMTP over a socket, for any recipient.
type postbox struct{ socket, mail string }

func startPostbox(t *testing.T) *postbox {
	t.Helper()
	needRoot(t)
	program := need(t, "dovecot", "dovecot-core")
	if _, err := os.Stat("/usr/lib/dovecot/lmtp"); err != nil {
		need(t, "lmtp of Dovecot", "dovecot-lmtpd")
	}
	dir, err := os.MkdirTemp("", "holdfast-box-") // a short path: a socket's has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	b := &postbox{socket: filepath.Join(dir, "lmtp"), mail: filepath.Join(dir, "mail")}
	if err := os.Mkdir(b.mail, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(b.mail, 0o777)
	conf := strings.ReplaceAll(`base_dir = $D/run
state_dir = $D/state
log_path = $D/log
protocols = lmtp
ssl = no
mail_location = maildir:$D/mail/%n
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=$D/mail/%n
}
service lmtp {
  unix_listener $D/lmtp {
    mode = 0666
  }
}
`, "$D", dir)
	if err := os.WriteFile(filepath.Join(dir, "dovecot.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-F", "-c", filepath.Join(dir, "dovecot.conf"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	until(t, 30*time.Second, "Dovecot listens", func() bool { _, err := os.Stat(b.socket); return err == nil })
	return b
}

// count gives how many messages in a folder hold a text.
func count(t *testing.T, dir, text string) (n int) {
	t.Helper()
	for _, f := range files(t, dir) {
		if strings.HasPrefix(filepath.Base(f), "dovecot") { // its indexes
			continue
		}
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(text)) {
			n++
		}
	}
	return n
}

// A real Postfix hands mail for several destinations to a node in mode queue: smtp-sink, Dovecot by LMTP, a host that is down for a while,
// one that says 451 at first, one that refuses for good. The report of that comes to the sender, through another real Postfix.
func TestQueueBetweenRealServers(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	one, home, box := startSink(t), startSink(t), startPostbox(t)
	back := startPostfix(t, home.port, "")
	var busy atomic.Bool
	busy.Store(true)
	later, never := hoptest.New(t), hoptest.New(t)
	later.Answer = func(_ int, verb, _ string) string {
		if verb == "RCPT" && busy.Load() {
			return "451 4.7.1 come back later"
		}
		return ""
	}
	never.Answer = func(_ int, verb, _ string) string {
		if verb == "RCPT" {
			return "550 5.1.1 nobody of that name"
		}
		return ""
	}
	down := freePort(t)
	at := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	h := queueing(t, map[string]string{
		"one.test": at(one.port), ".origin.test": at(back.port), "origin.test": at(back.port), "box.test": "lmtp:unix:" + box.socket,
		"down.test": at(down), "later.test": later.Addr(), "never.test": never.Addr(),
	}, "")
	h.start()
	front := startPostfix(t, h.smtp, "")
	c, err := dialSMTP(front.port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const each = 10
	for i := range each {
		to := []string{"bob@one.test", "bob@box.test", "bob@down.test", "bob@later.test", "bob@never.test"}
		if reply, err := c.send("ada@origin.test", to, letter(rng, fmt.Sprintf("letter %d", i), 2000+i*3000)); err != nil || reply[0] != '2' {
			t.Fatalf("%q, %v", reply, err)
		}
	}
	front.drained(t, time.Minute)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%d by SMTP, %d by LMTP, %d reports; waiting: %+v", count(t, one.dir, "Subject: letter"), count(t, box.mail, "Subject: letter"),
				count(t, home.dir, "nobody of that name"), h.queued())
		}
	})
	until(t, time.Minute, "what can be delivered is, and the sender knows what can't be", func() bool {
		return count(t, one.dir, "Subject: letter") == each && count(t, box.mail, "Subject: letter") == each &&
			count(t, home.dir, "nobody of that name") == each
	})
	waiting := h.queued()
	if len(waiting) == 0 {
		t.Error("nothing waits")
	}
	for _, m := range waiting {
		for _, r := range m.Recipients {
			if r.Address != "bob@down.test" && r.Address != "bob@later.test" {
				t.Errorf("%s waits for %s", m.ID, r.Address)
			}
		}
	}
	busy.Store(false)
	up := startSinkOn(t, down)
	h.emptied(2 * time.Minute)
	if n := count(t, up.dir, "Subject: letter"); n != each {
		t.Errorf("%d of %d letters came where it was down", n, each)
	}
	if n := len(later.Messages()); n != each {
		t.Errorf("%d of %d letters came where it was busy", n, each)
	}
	if n := len(never.Messages()); n != 0 {
		t.Errorf("%d letters came where they were refused", n)
	}
	back.drained(t, time.Minute)
	if n := count(t, home.dir, "Content-Type: multipart/report"); n != each {
		t.Errorf("%d reports came home", n)
	}
	h.settle()
	letters, reports := h.search("subject:letter"), h.search(`subject:"could not be delivered"`)
	if len(letters) != each || len(reports) != each { // Postfix makes one message of one with five recipients
		t.Errorf("%d letters and %d reports are archived", len(letters), len(reports))
	}
	for query, want := range map[string]int{"outcome:refused": each, "outcome:delivered": each, "outcome:5xx": each, "NOT outcome:refused": 0} { // of the last supplement
		if found := h.search("subject:letter (" + query + ")"); len(found) != want {
			t.Errorf("%s: %d letters of %d", query, len(found), want)
		}
	}
	for _, l := range letters {
		k := h.record(l.ID)
		last := 0
		for _, s := range k.Supplements {
			if s.Delivery == nil || !s.Delivery.Next.IsZero() {
				continue
			}
			last++
			fates := map[string]record.Outcome{}
			for _, r := range s.Delivery.Recipients {
				fates[r.Address] = r.Outcome
			}
			if len(fates) != len(k.Envelope.Rcpt) || fates["bob@never.test"] != record.Refused || fates["bob@down.test"] != record.Delivered || fates["bob@box.test"] != record.Delivered {
				t.Errorf("%s: the last supplement says %v", l.ID, fates)
			}
		}
		if last != 1 {
			t.Errorf("%s: %d last supplements of %d", l.ID, last, len(k.Supplements))
		}
	}
	for _, r := range reports {
		if env := h.record(r.ID).Envelope; env.Source != record.SourceBounce || env.MailFrom.Address != "" || env.Origin == "" {
			t.Errorf("the record of a report: %+v", env)
		}
	}
	h.mustVerify()
	h.stop()
	h.mustVerify()
}

// A node in mode queue is killed again and again under load. What was acknowledged is delivered at least once, or its sender has a report;
// and it is archived.
func TestKillTwentyTimesWithAQueue(t *testing.T) {
	const rounds = 20
	rng := seeded(t)
	one, home := startSink(t), startSink(t)
	flaky, never := hoptest.New(t), hoptest.New(t)
	flaky.Answer = func(_ int, verb, line string) string {
		if verb == "RCPT" && rand.IntN(3) == 0 {
			return "450 4.2.0 greylisted"
		}
		return ""
	}
	never.Answer = func(_ int, verb, _ string) string {
		if verb == "RCPT" {
			return "550 5.1.1 nobody of that name"
		}
		return ""
	}
	h := queueing(t, map[string]string{
		"one.test": fmt.Sprintf("127.0.0.1:%d", one.port), "origin.test": fmt.Sprintf("127.0.0.1:%d", home.port),
		"flaky.test": flaky.Addr(), "never.test": never.Addr(),
	}, "")
	h.setSealAfter("100ms")
	var mu sync.Mutex
	acked := map[string][]byte{} // by token
	for round := range rounds {
		h.start()
		var wg sync.WaitGroup
		for client := range 8 {
			seed := rng.Uint64()
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, 1))
				c, err := dialSMTP(h.smtp)
				if err != nil {
					return
				}
				defer c.Close()
				for i := range 200 {
					token := fmt.Sprintf("token%dx%dx%dx", round, client, i)
					to := []string{"a@one.test"}
					switch rng.IntN(4) {
					case 0:
						to = append(to, "b@flaky.test")
					case 1:
						to = []string{"c@never.test", "b@flaky.test"}
					}
					message := letter(rng, token, 500+rng.IntN(3000))
					if reply, err := c.send("ada@origin.test", to, message); err != nil || reply[0] != '2' {
						return
					}
					mu.Lock()
					acked[token] = message
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(100+rng.IntN(900)) * time.Millisecond) // the moment is what is random here
		h.kill()
		wg.Wait()
	}
	h.start()
	h.emptied(5 * time.Minute)
	h.settle()
	var all []byte // of what arrived
	for _, s := range []*sink{one, home} {
		for _, m := range s.messages(t) {
			all = append(all, m...)
		}
	}
	for _, m := range flaky.Messages() {
		all = append(all, m.Data...)
	}
	sums, lost := h.sums(), 0
	for token, message := range acked {
		if !bytes.Contains(all, []byte(token)) {
			t.Errorf("%s was acknowledged, and neither delivered nor reported", token)
			if lost++; lost > 10 {
				break
			}
		}
		if len(sums[hash(message)]) == 0 {
			t.Errorf("%s was acknowledged, and is not archived", token)
		}
	}
	t.Logf("%d messages acknowledged in %d rounds", len(acked), rounds)
	if len(acked) < rounds {
		t.Fatalf("only %d messages were acknowledged", len(acked))
	}
	if aside := files(t, filepath.Join(h.dir, "data", "queue")); len(aside) != 0 {
		t.Errorf("left in the queue's folder: %v", aside)
	}
	h.mustVerify()
	h.stop()
	h.mustVerify()
}

// With ack: archive a node may lose its disk: what it had acknowledged and not delivered is found in the archive, and goes back into the queue.
func TestLostNodeWithAQueue(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	down := freePort(t)
	one := startSink(t)
	h := queueing(t, map[string]string{"down.test": fmt.Sprintf("127.0.0.1:%d", down), "one.test": fmt.Sprintf("127.0.0.1:%d", one.port)}, ", ack: archive")
	h.start()
	c := h.dial()
	const each = 5
	for i := range each {
		to := []string{"bob@down.test"}
		if i%2 == 0 {
			to = append(to, "bob@one.test")
		}
		if reply, err := c.send("ada@origin.test", to, letter(rng, fmt.Sprintf("letter %d", i), 3000)); err != nil || reply[0] != '2' {
			t.Fatalf("%q, %v", reply, err)
		}
	}
	until(t, time.Minute, "the others are delivered", func() bool { return count(t, one.dir, "Subject: letter") == 3 })
	h.kill()
	entries, err := os.ReadDir(filepath.Join(h.dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "archive" { // the store, which is elsewhere
			if err := os.RemoveAll(filepath.Join(h.dir, "data", e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.run("rebuild")
	h.start()
	if got := h.run("queue", "recover"); !strings.Contains(got, fmt.Sprintf("\n%d to be recovered\n", each)) {
		t.Errorf("%s", got)
	}
	up := startSinkOn(t, down)
	h.run("queue", "recover", "--again", "--all")
	h.emptied(time.Minute)
	if n := count(t, up.dir, "Subject: letter"); n != each {
		t.Errorf("%d of %d letters came", n, each)
	}
	h.settle()
	if got := h.run("queue", "recover"); !strings.Contains(got, "0 to be recovered") {
		t.Errorf("%s", got)
	}
	h.mustVerify()
}
