package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/journal/nexthop/hoptest"
)

// way is one way for mail to go, and one meaning of an acknowledgement.
type way struct {
	name    string // mode/ack
	mode    string
	ack     string
	forward bool // there is a next hop
}

// ways are all of them.
func ways() (list []way) {
	for _, mode := range []string{"relay", "queue", "journal"} {
		for _, ack := range []string{"spool", "archive"} {
			list = append(list, way{name: mode + "/ack=" + ack, mode: mode, ack: ack, forward: mode != "journal"})
		}
	}
	return list
}

// besieged is an installation with its next hop.
type besieged struct {
	*holdfast
	way
	hop *hoptest.Hop // nil where nothing is forwarded
}

func (w way) install(t *testing.T, s settings) *besieged {
	t.Helper()
	b := &besieged{way: w}
	s.mode = w.mode
	s.more += ", ack: " + w.ack
	if w.forward {
		b.hop = hoptest.New(t)
		if w.mode == "queue" {
			s.more += fmt.Sprintf(`, routes: [{domain: "*", next_hop: %q}]`, b.hop.Addr())
			s.yaml += "queue: {first_retry: 1s, max_retry: 2s}\n"
		} else {
			s.nextHop = portOf(t, b.hop.Addr())
		}
	}
	b.holdfast = install(t, s)
	return b
}

// finish demands that all is as it must be once the siege is over and mail has stopped: everything acknowledged is archived, everything
// delivered is archived, and nothing is wrong with the archive; running, and stopped.
func (w *besieged) finish(t *testing.T, b *barrage) {
	t.Helper()
	w.settle()
	b.check(t, w.holdfast)
	w.delivered(t, b)
	w.mustVerify()
	w.stop()
	w.mustVerify()
}

// delivered demands that everything delivered is archived, and that what was acknowledged is delivered.
func (w *besieged) delivered(t *testing.T, b *barrage) {
	t.Helper()
	if !w.forward {
		return
	}
	archived := map[string]bool{}
	for _, hit := range w.search("subject:siege") {
		archived[hit.Subject] = true
	}
	there := func() map[string]int {
		subjects := map[string]int{}
		for _, m := range w.hop.Messages() {
			subjects[subjectOf(m.Data)]++
		}
		return subjects
	}
	missing := ""
	all := func() bool {
		got := there()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, subject := range b.acked {
			if got[subject] == 0 {
				missing = subject
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(30 * time.Second); !all(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("acknowledged and not delivered: %s", missing)
			break
		}
	}
	got, twice := there(), 0
	for subject, n := range got {
		if !archived[subject] {
			t.Errorf("delivered and not archived: %q", subject)
		}
		if n > 1 {
			twice++
		}
	}
	t.Logf("%d delivered, %d of them more than once", len(got), twice)
}
