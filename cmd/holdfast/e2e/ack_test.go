package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// acked is an installation whose listener acknowledges only what is in the bucket, with a load of real mail on it.
type acked struct {
	*holdfast
	t     *testing.T
	hop   *hoptest.Hop
	load  string
	mails string
	sums  string // file of what was acknowledged
	sent  int
}

func installAcked(t *testing.T, mode string, s settings) *acked {
	t.Helper()
	a := &acked{t: t, load: loader(t), mails: corpus(t, "mail"), sums: filepath.Join(t.TempDir(), "acked")}
	s.mode, s.more = mode, ", ack: archive"
	switch mode {
	case "relay":
		a.hop = hoptest.New(t)
		s.nextHop = portOf(t, a.hop.Addr())
	case "queue":
		a.hop = hoptest.New(t)
		s.more += fmt.Sprintf(`, routes: [{domain: "*", next_hop: %q}]`, a.hop.Addr())
	}
	a.holdfast = install(t, s)
	a.withoutRaceDetector() // the load is what is tested here
	return a
}

// begin has the next n messages sent from 20 sessions; with again what is refused for now is sent again.
func (a *acked) begin(n int, again bool) *exec.Cmd {
	a.t.Helper()
	cmd := exec.CommandContext(withTimeout(a.t, 4*time.Minute), a.load, "-addr", fmt.Sprintf("127.0.0.1:%d", a.smtp), "-dir", a.mails, "-c", "20",
		"-n", fmt.Sprint(n), "-offset", fmt.Sprint(a.sent), "-tag", "ack", "-acked", a.sums, "-per-conn", "20", fmt.Sprintf("-retry=%v", again))
	cmd.Stdout = new(strings.Builder)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.sent += n
	return cmd
}

// loseTheDisk takes everything but the bucket, the configuration and the keys.
func (a *acked) loseTheDisk() {
	a.t.Helper()
	if err := os.RemoveAll(filepath.Join(a.dir, "data")); err != nil {
		a.t.Fatal(err)
	}
}

// check demands that everything that was acknowledged or delivered is in the archive, and that the archive is whole. It gives how many of each.
func (a *acked) check() (acknowledged, delivered int) {
	a.t.Helper()
	archived := a.holdfast.sums()
	for sum := range ackedSums(a.t, a.sums) {
		acknowledged++
		if len(archived[sum]) == 0 {
			a.t.Errorf("acknowledged and not archived: %s", sum)
		}
	}
	if a.hop != nil {
		for _, m := range a.hop.Messages() {
			delivered++
			_, received, ok := bytes.Cut(m.Data, []byte("+0000\r\n")) // the end of our Received line
			if sum := hash(received); !ok || len(archived[sum]) == 0 {
				a.t.Errorf("delivered and not archived: %s", sum)
			}
		}
	}
	a.mustVerify()
	return acknowledged, delivered
}

// The node is killed under load and its disk is gone, again and again. With ack: archive whatever was acknowledged or delivered is in the
// bucket, and the node is made again from that and the keys.
func TestLostDisk(t *testing.T) {
	for _, mode := range []string{"relay", "queue", "journal"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			const rounds = 5
			rng := seeded(t)
			bucket := objecttest.StartS3(t)
			a := installAcked(t, mode, settings{store: bucket.URL, env: bucket.Env, init: []string{"--encrypt", "--no-escrow"}})
			for round := range rounds {
				a.start()
				load := a.begin(2000, false)
				until(t, time.Minute, "mail is acknowledged", func() bool { // so that each round has something to lose
					n, _ := a.metric("holdfast_archive_records_total")
					return n > 50
				})
				time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond) // the moment is what is random here
				a.kill()
				load.Wait() // the messages that it could not send are refused connections
				if round < rounds-1 {
					a.loseTheDisk()
				}
			}
			a.loseTheDisk()
			a.run("rebuild")
			a.start()
			a.settle()
			n, delivered := a.check()
			t.Logf("%d acknowledged, %d delivered", n, delivered)
			if n < rounds*10 || mode == "relay" && delivered < n {
				t.Errorf("%d messages were acknowledged, %d delivered", n, delivered)
			}
			a.stop()
			a.mustVerify()
		})
	}
}

// A store that answers errors and yet keeps the objects, one that is slow, and one that is away for a while: the sender is told 4xx and never
// 5xx, nothing is delivered that is not archived, and in the end everything is.
func TestAckArchiveOnABadStore(t *testing.T) {
	for _, mode := range []string{"relay", "journal"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			rng := seeded(t)
			bucket := objecttest.StartS3(t)
			proxy := objecttest.StartProxy(t, bucket.Endpoint)
			a := installAcked(t, mode, settings{store: bucket.URLAt(proxy.URL), env: bucket.Env})
			a.start()
			var mu sync.Mutex
			moody := func(r *http.Request) objecttest.ProxyFault {
				mu.Lock()
				defer mu.Unlock()
				return []objecttest.ProxyFault{
					objecttest.LoseAnswer, objecttest.LoseAnswer5, objecttest.Unavailable, objecttest.Unreachable, 0, 0, 0, 0, 0, 0,
				}[rng.IntN(10)]
			}
			for name, fault := range map[string]func(*http.Request) objecttest.ProxyFault{
				"moody": moody,
				"slow": func(r *http.Request) objecttest.ProxyFault {
					time.Sleep(200 * time.Millisecond)
					return objecttest.NoFault
				},
			} {
				proxy.SetFault(fault)
				a.finish(name, a.begin(300, true))
			}

			proxy.SetFault(func(*http.Request) objecttest.ProxyFault { return objecttest.Unreachable })
			load := a.begin(300, true)
			until(t, time.Minute, "MAIL is answered 451, and /readyz says why", func() bool {
				c := a.dial()
				defer c.Close()
				reply, err := c.say("MAIL FROM:<ada@origin.test>\r\n")
				if err != nil || reply[0] != '2' && !strings.HasPrefix(reply, "451 ") {
					t.Fatalf("%q, %v", reply, err)
				}
				_, status := a.get("/readyz")
				return reply[0] == '4' && status == http.StatusServiceUnavailable
			})
			delivered := 0
			if a.hop != nil {
				delivered = len(a.hop.Messages())
			}
			time.Sleep(3 * time.Second)
			if a.hop != nil && len(a.hop.Messages()) != delivered {
				t.Error("mail is delivered past the archive")
			}
			proxy.SetFault(nil)
			a.finish("away", load)
			a.settle()
			n, _ := a.check()
			if n != 900 {
				t.Errorf("%d of 900 messages were acknowledged", n)
			}
			a.stop()
			a.mustVerify()
		})
	}
}

// finish waits for a load that is sent again until it is acknowledged.
func (a *acked) finish(what string, load *exec.Cmd) {
	a.t.Helper()
	err := load.Wait()
	if out := fmt.Sprint(load.Stdout); err != nil || !strings.Contains(out, "refused 0 ") {
		a.t.Fatalf("%s: %v: %s\n%s", what, err, out, a.logTail())
	}
}

// ackedSums reads what the load generator wrote of acknowledged messages.
func ackedSums(t *testing.T, path string) map[string]bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sums := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		sum, _, _ := strings.Cut(s.Text(), " ")
		sums[sum] = true
	}
	return sums
}
