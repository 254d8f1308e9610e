package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// The object store is away: mail goes on, up to the limit of the spool, and then the sender keeps it. When the store is back everything that
// was acknowledged gets there, and so it does where the node died meanwhile.
func TestStoreIsAwayUntilTheSpoolIsFull(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	bucket := objecttest.StartS3(t)
	proxy := objecttest.StartProxy(t, bucket.Endpoint)
	hop := hoptest.New(t)
	h := relayTo(t, hop, settings{
		store: bucket.URLAt(proxy.URL), env: append(bucket.Env, "HOLDFAST_LOG_LEVEL=info"), yaml: "spool: {max_bytes: 2MiB}\n",
	})
	var acked [][]byte
	send := func(params string) string {
		m := letter(rng, fmt.Sprintf("letter %d", len(acked)), 30<<10)
		c := h.dial()
		defer c.Close()
		if reply, err := c.say("MAIL FROM:<ada@origin.test>" + params + "\r\n"); err != nil || reply[0] != '2' {
			return reply
		}
		c.must(t, "RCPT TO:<bob@dest.test>\r\n", "250")
		reply := c.data(t, m)
		if reply[0] == '2' {
			acked = append(acked, m)
		}
		return reply
	}
	fill := func() {
		t.Helper()
		proxy.SetFault(func(*http.Request) objecttest.ProxyFault { return objecttest.Unreachable })
		before := len(acked)
		reply := "250"
		for reply[0] == '2' {
			reply = send("")
		}
		if !strings.HasPrefix(reply, "452 4.3.1 ") {
			t.Fatalf("with the spool full: %q", reply)
		}
		if n := len(acked) - before; n < 20 || n > 70 {
			t.Errorf("%d letters of 30 KiB went into a spool of 2 MiB", n)
		}
		if reply := send(" SIZE=400000"); !strings.HasPrefix(reply, "452 4.3.1 ") {
			t.Errorf("MAIL with a size for which there is no room: %q", reply)
		}
	}

	h.start()
	send("")
	h.settle()
	fill()
	until(t, time.Minute, "all that is in custody can be found, and the spool is so full that /readyz says so", func() bool {
		_, total := h.api("") // each search is an act, which goes in whatever the limit
		_, status := h.get("/readyz")
		return total == uint64(len(acked)) && status == http.StatusServiceUnavailable
	})
	if body, status := h.get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: HTTP %d %s", status, body)
	}
	until(t, time.Minute, "a metric counts what goes wrong with the store, and the log tells", func() bool {
		n, _ := h.metric("holdfast_object_errors_total")
		return n > 0 && h.logHas("step failed, trying again")
	})
	if n, _ := h.metric("holdfast_spool_pending_records"); n < 20 {
		t.Errorf("%v records are pending", n)
	}
	if n, _ := h.metric("holdfast_spool_bytes"); n < 1<<20 || n > 2<<20+256<<10 {
		t.Errorf("the spool of 2 MiB takes %v bytes", n)
	}
	if metrics, _ := h.get("/metrics"); !deferredMetric.Match(metrics) {
		t.Error("no metric counts what was deferred")
	}
	if !h.logHas("spool is full") {
		t.Error("the log does not say that the spool is full")
	}

	proxy.SetFault(nil)
	until(t, 2*time.Minute, "mail is taken again", func() bool { return send("")[0] == '2' })
	h.settle()

	fill()
	h.kill()
	proxy.SetFault(nil)
	h.start()
	send("")
	h.settle()
	h.holdsExactly(acked...)
	if n := hop.Dots(); n != len(acked) {
		t.Errorf("%d letters were acknowledged, %d delivered", len(acked), n)
	}
	h.mustVerify()
	h.stop()
	h.mustVerify()
}

// A store that fails now and then, and loses answers to what it has done: the node is not misled, least of all into taking itself for
// another writer; each message is archived once.
func TestStoreThatFailsNowAndThen(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	bucket := objecttest.StartS3(t)
	proxy := objecttest.StartProxy(t, bucket.Endpoint)
	h := install(t, settings{mode: "journal", store: bucket.URLAt(proxy.URL), env: append(bucket.Env, "HOLDFAST_ARCHIVE_SEAL_AFTER=50ms")})
	h.start()
	faults := []objecttest.ProxyFault{objecttest.Unreachable, objecttest.Unavailable, objecttest.LoseAnswer, objecttest.LoseAnswer5, objecttest.CutBody}
	var mu sync.Mutex // of rng
	var hit atomic.Int64
	proxy.SetFault(func(*http.Request) objecttest.ProxyFault {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(3) > 0 {
			return objecttest.NoFault
		}
		hit.Add(1)
		return faults[rng.IntN(len(faults))]
	})
	var acked [][]byte
	c := h.dial()
	for hit.Load() < 30 {
		mu.Lock()
		m := letter(rng, fmt.Sprintf("letter %d", len(acked)), 2000)
		mu.Unlock()
		c.begin(t, "ada@origin.test", "journal@archive.test")
		if reply := c.data(t, m); reply[0] != '2' {
			t.Fatal(reply)
		}
		acked = append(acked, m)
		until(t, 2*time.Minute, "it is archived in spite of all", func() bool {
			n, ok := h.metric("holdfast_spool_pending_records")
			return ok && n == 0
		})
	}
	proxy.SetFault(nil)
	h.settle()
	t.Logf("%d messages, %d faults", len(acked), hit.Load())
	h.holdsExactly(acked...)
	h.mustVerify()
	h.stop()
	h.mustVerify()
}

var deferredMetric = regexp.MustCompile(`(?m)^holdfast_smtp_messages_total\{listener="in",outcome="deferred"\} [1-9]`)

// twin makes a second installation on the same store with copies of the same keys and the same node name: what must not be.
func (h *holdfast) twin() *holdfast {
	h.t.Helper()
	two := &holdfast{t: h.t, dir: h.t.TempDir(), smtp: freePort(h.t), web: freePort(h.t), env: h.env}
	two.config = filepath.Join(two.dir, "holdfast.yaml")
	text, err := os.ReadFile(h.config)
	if err == nil {
		moved := strings.NewReplacer(fmt.Sprint(":", h.smtp, `"`), fmt.Sprint(":", two.smtp, `"`), fmt.Sprint(":", h.web, `"`), fmt.Sprint(":", two.web, `"`))
		err = os.WriteFile(two.config, []byte(moved.Replace(string(text))), 0o600)
	}
	if err == nil {
		err = os.CopyFS(filepath.Join(two.dir, "keys"), os.DirFS(filepath.Join(h.dir, "keys")))
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return two
}

// Two processes believe that they own one log. One of them goes on; the other stops, says why, and keeps what it has acknowledged until it
// is started again.
func TestTwoNodesOnOneLog(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	one := install(t, settings{mode: "journal", store: "file:" + filepath.Join(t.TempDir(), "archive"), init: nil})
	two := one.twin()
	nodes := []*holdfast{one, two}
	var stopped atomic.Bool
	acked := make([][][]byte, len(nodes))
	for _, h := range nodes {
		h.start()
	}
	done := make(chan struct{}, len(nodes))
	for i, h := range nodes {
		messages := make([][]byte, 2000)
		for k := range messages {
			messages[k] = letter(rng, fmt.Sprintf("letter %d to node %d", k, i), 1000)
		}
		go func() {
			defer func() { done <- struct{}{} }()
			for _, m := range messages {
				c, err := dialSMTP(h.smtp)
				if err != nil {
					break // it has stopped
				}
				if reply, err := c.send("ada@origin.test", []string{"journal@archive.test"}, m); err == nil && reply[0] == '2' {
					acked[i] = append(acked[i], m)
				}
				c.Close()
				if stopped.Load() {
					return
				}
			}
			stopped.Store(true)
		}()
	}
	<-done
	<-done

	winner, loser := 0, 1
	select {
	case err := <-one.exited:
		one.exited <- err
		winner, loser = 1, 0
	case err := <-two.exited:
		two.exited <- err
	case <-time.After(time.Minute):
		t.Fatal("both go on")
	}
	if code := nodes[loser].ended(time.Minute); code != 2 {
		t.Errorf("the loser's exit code is %d", code)
	}
	if !nodes[loser].logHas("another process writes this log") {
		t.Errorf("the loser does not say why it stopped:\n%s", nodes[loser].logTail())
	}
	nodes[winner].settle()
	archived := nodes[winner].sums()
	for _, m := range acked[winner] {
		if len(archived[hash(m)]) != 1 {
			t.Errorf("acknowledged by the winner and archived %d times: %.200q", len(archived[hash(m)]), m)
		}
	}
	waiting := 0
	var spool []byte
	for _, path := range files(t, filepath.Join(nodes[loser].dir, "data", "spool")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		spool = append(spool, text...)
	}
	for _, m := range acked[loser] {
		switch {
		case len(archived[hash(m)]) > 0:
		case strings.Contains(string(spool), string(m)):
			waiting++
		default:
			t.Errorf("acknowledged by the loser and lost: %.200q", m)
		}
	}
	t.Logf("the winner acknowledged %d, the loser %d, of which %d wait in its spool", len(acked[winner]), len(acked[loser]), waiting)
	if len(acked[winner]) == 0 || len(acked[loser]) == 0 {
		t.Error("one of the two took nothing")
	}
	nodes[winner].mustVerify()
	nodes[winner].stop()
	nodes[winner].mustVerify()

	// Alone now, the loser archives what it holds when it is started again, and finds it and what the other has archived.
	again := nodes[loser]
	again.start()
	again.settle()
	archived = again.sums()
	for i, letters := range acked {
		for _, m := range letters {
			if len(archived[hash(m)]) != 1 {
				t.Errorf("acknowledged by node %d and archived %d times in the end: %.200q", i, len(archived[hash(m)]), m)
			}
		}
	}
	again.mustVerify()
	again.stop()
	again.mustVerify()
}
