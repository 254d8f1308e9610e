package queue

import (
	"container/heap"
	"io"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// entry is one message of the queue, in memory. It is small: what it takes to know when it is due and where to; the rest is on the disk.
type entry struct {
	id   record.ID
	size int64

	// work is held while the message's state is read, changed and written. Queue.mu may be taken inside it, never the other way round.
	work  sync.Mutex
	doc   *state                        // the state, while it is not (only) on the disk; nil: read it there. Guarded by work
	body  func() (io.ReadCloser, error) // in the spool; nil once the folder has the message. Guarded by work
	maybe bool                          // the folder may have an older state of a message that is in the spool. Guarded by work
	gone  bool                          // done with, and forgotten. Guarded by work

	unsaved bool // doc is newer than what the folder has. Guarded by work
	full    bool // … for want of space. Guarded by work
	pins    int  // deliveries under way, for which doc stays in memory. Guarded by work
	copied  bool // doc is what the folder has, and here for pins alone. Guarded by work

	// Guarded by Queue.mu:
	legs   []*leg
	born   time.Duration // when it was received, by Queue.now; may be before 0
	wake   time.Duration // when there is something to see to but deliveries: a notice, expiry, what failed
	place  int           // in Queue.wakes; -1: not there
	held   bool
	loaded bool // its legs are known
	spool  bool // it is in the spool, not yet in the folder
}

// filed is for a state that the folder has: it stays in memory as long as deliveries are under way. The caller holds work.
func (e *entry) filed(doc *state) {
	if e.copied = e.pins > 0; e.copied {
		e.doc = doc
	} else {
		e.doc = nil
	}
}

// leg is the delivery of one message to one destination. Guarded by Queue.mu.
type leg struct {
	entry    *entry
	dest     *destination
	due      time.Duration
	place    int // in Queue.waits; -1: not there
	attempts int
	state    legState
	tried    bool // since this process began
}

type legState uint8

const (
	legWaits   legState = iota // in Queue.waits, until it is due
	legReady                   // in destination.ready, until there is a place
	legRunning                 // being delivered
	legHeld                    // on hold
	legDone                    // nobody left there
)

// destination is what the deliveries to one place have in common. Guarded by Queue.mu.
type destination struct {
	key      string
	ready    []*leg // due, in order
	running  int
	window   int           // how many may run
	failures int           // in a row, of reaching it at all
	failed   time.Duration // when the last of them was counted
	until    time.Duration // while failures > 0: nothing but one probe, and that not before
	probed   bool          // since this process began it could not be reached at least once
	legs     int           // not done
	ringed   bool          // in Queue.ring
}

// initialWindow is how many deliveries begin before the first has gone well.
const initialWindow = 5

func (d *destination) down() bool { return d.failures > 0 }

// open says whether another delivery may begin now.
func (d *destination) open(now time.Duration) bool {
	if d.down() {
		return d.running == 0 && now >= d.until
	}
	return d.running < d.window
}

// dueHeap has legs by due.
type dueHeap []*leg

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}
func (h *dueHeap) Push(x any) {
	l := x.(*leg)
	l.place = len(*h)
	*h = append(*h, l)
}
func (h *dueHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	l.place = -1
	return l
}

// wakeHeap has entries by wake.
type wakeHeap []*entry

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].wake < h[j].wake }
func (h wakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}
func (h *wakeHeap) Push(x any) {
	e := x.(*entry)
	e.place = len(*h)
	*h = append(*h, e)
}
func (h *wakeHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.place = -1
	return e
}

// setWake has an entry seen to at a time. The caller holds mu.
func (q *Queue) setWake(e *entry, at time.Duration) {
	e.wake = at
	if e.place >= 0 {
		heap.Fix(&q.wakes, e.place)
	} else {
		heap.Push(&q.wakes, e)
	}
}

// noWake takes an entry out of wakes. The caller holds mu.
func (q *Queue) noWake(e *entry) {
	if e.place >= 0 {
		heap.Remove(&q.wakes, e.place)
	}
}

// setDue has a leg wait until a time. The caller holds mu; the leg is in no other list.
func (q *Queue) setDue(l *leg, at time.Duration) {
	l.due, l.state = at, legWaits
	if l.place >= 0 {
		heap.Fix(&q.waits, l.place)
	} else {
		heap.Push(&q.waits, l)
	}
}

// unlist takes a leg that waits out of its list. In destination.ready it stays as a stone that pop passes over. The caller holds mu and
// gives the leg its new state.
func (q *Queue) unlist(l *leg) {
	if l.place >= 0 {
		heap.Remove(&q.waits, l.place)
	}
}

// pop takes the first leg that is ready, or nil. The caller holds mu.
func (d *destination) pop() *leg {
	for len(d.ready) > 0 {
		l := d.ready[0]
		d.ready[0] = nil
		d.ready = d.ready[1:]
		if l.state == legReady {
			return l
		}
	}
	d.ready = nil
	return nil
}
