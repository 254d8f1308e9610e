package spool

import (
	"hash/crc32"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// maxGroup is about the most that one write takes, bytes: enough that the fsync is a small part of it.
const maxGroup = 4 << 20

// request is one frame on its way to the disk.
type request struct {
	frame frame // all but seq, off and durable
	meta  []byte
	body  []byte     // what stands in the segment
	big   string     // path of the body's own file
	lazy  bool       // nobody waits; tried until it is durable
	done  chan error // capacity 1; nil when lazy
}

func newRequest(f frame, meta, body []byte) *request {
	f.metaLen, f.metaCRC = int64(len(meta)), crc32.Checksum(meta, castagnoli)
	if f.flags&flagBig == 0 {
		f.bodyLen, f.bodyCRC = int64(len(body)), crc32.Checksum(body, castagnoli)
	}
	return &request{frame: f, meta: meta, body: body}
}

// inbox is the queue before the committer.
type inbox struct {
	mu     sync.Mutex
	list   []*request
	urgent bool      // somebody waits
	due    time.Time // when the lazy ones have waited long enough
	rested bool      // the newest segment holds nothing but released records
	waived []record.ID
	closed bool
	wake   chan struct{} // capacity 1
}

func (in *inbox) put(r *request, lazyDelay time.Duration) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return ErrClosed
	}
	if !r.lazy {
		in.urgent = true
	} else if len(in.list) == 0 {
		in.due = time.Now().Add(lazyDelay)
	}
	in.list = append(in.list, r)
	in.signal()
	return nil
}

// withdraw takes a request back that the committer has not taken yet.
func (in *inbox) withdraw(r *request) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	i := slices.Index(in.list, r)
	if i < 0 {
		return false
	}
	in.list = slices.Delete(in.list, i, i+1)
	return true
}

// giveBack puts lazy requests that failed before all others, for another try after delay.
func (in *inbox) giveBack(list []*request, delay time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.list = append(slices.Clone(list), in.list...)
	in.due = time.Now().Add(delay)
}

func (in *inbox) setRested() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.rested = true
	in.signal()
}

// waive leaves word that no verdict is owed to a message any more.
func (in *inbox) waive(id record.ID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return
	}
	in.waived = append(in.waived, id)
	in.signal()
}

// takeWaived gives what waive was told since the last call.
func (in *inbox) takeWaived() []record.ID {
	in.mu.Lock()
	defer in.mu.Unlock()
	ids := in.waived
	in.waived = nil
	return ids
}

func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.signal()
}

func (in *inbox) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// take gives the next group, oldest first. Where there is none to write now it tells how long to wait, or that it is all over.
func (in *inbox) take(group []*request) (_ []*request, rested bool, wait time.Duration, over bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	wait = time.Hour
	if n := len(in.list); n > 0 && !in.urgent && !in.closed {
		wait = time.Until(in.due)
	}
	if len(in.list) == 0 || (!in.urgent && !in.closed && wait > 0) {
		in.urgent = in.urgent && len(in.list) > 0
		rested, in.rested = in.rested, false
		return nil, rested, wait, in.closed && len(in.list) == 0
	}
	n, size := 0, int64(0)
	for n < len(in.list) && (n == 0 || size+in.list[n].frame.size() <= maxGroup) {
		size += in.list[n].frame.size()
		n++
	}
	group = append(group, in.list[:n]...)
	in.list = slices.Delete(in.list, 0, n)
	if len(in.list) == 0 {
		in.urgent = false
	}
	return group, false, 0, false
}

func (in *inbox) isClosed() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.closed
}
