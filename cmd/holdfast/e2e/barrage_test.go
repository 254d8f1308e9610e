package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// barrage sends letters to a server without end, from several sessions, whatever becomes of the server, and remembers what was acknowledged.
type barrage struct {
	t    testing.TB
	port int
	tag  string
	done chan struct{}
	wg   sync.WaitGroup
	gate sync.RWMutex // held for reading while a letter is on its way

	mu      sync.Mutex
	phase   string            // what is going on, for the messages of failures
	during  map[string]string // by subject: the phase in which it was acknowledged
	pause   time.Duration     // between the letters of a session
	acked   map[string]string // SHA-256 of what was acknowledged → its subject
	refused map[string]int    // the first four characters of other replies → how often
	broken  int               // sessions that ended without a reply
	odd     []string          // replies that no server in trouble gives
}

// barrageOf begins one with so many sessions.
func (h *holdfast) barrageOf(sessions int, tag string, seed uint64) *barrage {
	b := &barrage{t: h.t, port: h.smtp, tag: tag, done: make(chan struct{}), pause: 20 * time.Millisecond, acked: map[string]string{}, during: map[string]string{}, refused: map[string]int{}}
	for i := range sessions {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		b.wg.Go(func() {
			for n := 0; ; {
				select {
				case <-b.done:
					return
				default:
				}
				n = b.session(rng, i, n)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	h.t.Cleanup(b.stop)
	return b
}

// session sends letters until something goes wrong, and gives the number of the next.
func (b *barrage) session(rng *rand.Rand, worker, n int) int {
	c, err := dialSMTP(b.port)
	if err != nil {
		return n
	}
	defer c.Close()
	for range 50 {
		select {
		case <-b.done:
			return n
		default:
		}
		n++
		subject := fmt.Sprintf("siege %s %d %d", b.tag, worker, n)
		size := 300 + rng.IntN(6000)
		if rng.IntN(40) == 0 {
			size = 200_000
		}
		m := letter(rng, subject, size)
		b.gate.RLock()
		reply, err := c.send("ada@origin.test", []string{"bob@dest.test"}, m)
		b.gate.RUnlock()
		b.mu.Lock()
		pause := b.pause
		switch {
		case err != nil:
			b.broken++
		case reply[0] == '2':
			b.acked[hash(m)] = subject
			b.during[subject] = b.phase + time.Now().Format(", 15:04:05.000")
		default:
			b.refused[reply[:min(len(reply), 4)]]++
			if reply[0] != '4' {
				b.odd = append(b.odd, reply)
			}
		}
		b.mu.Unlock()
		if err != nil || reply[0] != '2' {
			return n
		}
		time.Sleep(pause)
	}
	return n
}

func (b *barrage) stop() {
	select {
	case <-b.done:
	default:
		close(b.done)
	}
	b.wg.Wait()
}

// count gives how many letters were acknowledged, and how many refused for now.
func (b *barrage) count() (acked, deferred int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for reply, n := range b.refused {
		if reply[0] == '4' {
			deferred += n
		}
	}
	return len(b.acked), deferred
}

// more waits until so many further letters are acknowledged.
func (b *barrage) more(t testing.TB, n int, when string) {
	t.Helper()
	before, _ := b.count()
	until(t, time.Minute, fmt.Sprintf("%d more letters are acknowledged %s", n, when), func() bool {
		now, _ := b.count()
		return now >= before+n
	})
}

// deferredMore waits until so many further letters are refused for now.
func (b *barrage) deferredMore(t testing.TB, n int, when string) {
	t.Helper()
	_, before := b.count()
	until(t, time.Minute, fmt.Sprintf("%d more letters are refused for now %s", n, when), func() bool {
		_, now := b.count()
		return now >= before+n
	})
}

// now names what is going on from now on.
func (b *barrage) now(phase string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.phase = phase
}

// check demands that everything that was acknowledged is archived, and that what was not was refused for now.
func (b *barrage) check(t testing.TB, h *holdfast) {
	t.Helper()
	hits := h.search("subject:siege")
	archived, subjects := make(map[string]bool, len(hits)), make(map[string]bool, len(hits))
	for _, hit := range hits {
		archived[hit.SHA256] = true
		subjects[hit.Subject] = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	lost := 0
	for sum, subject := range b.acked {
		if !archived[sum] {
			if lost++; lost < 5 {
				t.Errorf("acknowledged and not found: %s %s, during: %s", subject, sum, b.during[subject])
			}
		}
	}
	if lost > 0 {
		h.run("rebuild")
		h.settle()
		archived = map[string]bool{}
		for _, hit := range h.search("subject:siege") {
			archived[hit.SHA256] = true
		}
		for sum, subject := range b.acked {
			if !archived[sum] {
				t.Errorf("nor when the index was made again: %s", subject)
			}
		}
	}
	if len(b.odd) > 0 {
		t.Errorf("%d replies such as %q", len(b.odd), b.odd[0])
	}
	t.Logf("%d acknowledged, %d archived, refused for now %v, %d sessions broken", len(b.acked), len(hits), b.refused, b.broken)
}

// subjectOf finds the subject of a letter of a barrage in a message as a next hop has it.
func subjectOf(message []byte) string {
	_, after, ok := strings.Cut(string(message[:min(len(message), 4000)]), "\r\nSubject: ")
	if !ok {
		return ""
	}
	subject, _, _ := strings.Cut(after, "\r\n")
	return subject
}
