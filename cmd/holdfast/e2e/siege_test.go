package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
)

// siege is one installation under attack: its data_dir lies on a disk (the inner one) whose own image lies on a second disk, its store is a
// real S3 server behind a proxy, and mail comes in all the time.
type siege struct {
	*besieged
	t            *testing.T // of the cell
	b            *barrage
	inner, outer *disk
	proxy        *objecttest.Proxy
}

// fault is one column of the matrix: strike does the damage and waits until it shows in the replies, where it must show; heal undoes it.
type fault struct {
	name   string
	strike func(s *siege) (heal func())
}

// The clock is not in this table: it can't be set for one process. It jumps in archive (TestClockJumps) and in journal/queue
// (TestClockJumpsNeitherExpireNorStorm); spool and session measure time by the monotonic clock alone. Faults at every single call of the disk are
// in journal/spool, and at every call of the store in archive.
var faults = []fault{
	{"disk full", func(s *siege) func() {
		free := s.inner.fill()
		s.b.deferredMore(s.t, 5, "while the disk is full")
		return free
	}},
	{"inodes full", func(s *siege) func() {
		free := s.inner.fillInodes()
		s.b.deferredMore(s.t, 5, "while there are no inodes")
		return free
	}},
	{"store down", func(s *siege) func() {
		var asked atomic.Int64
		s.proxy.SetFault(func(*http.Request) objecttest.ProxyFault { asked.Add(1); return objecttest.Unreachable })
		s.outage(&asked)
		return func() { s.proxy.SetFault(nil) }
	}},
	{"store slow", func(s *siege) func() {
		var asked atomic.Int64
		s.proxy.SetFault(func(*http.Request) objecttest.ProxyFault {
			asked.Add(1)
			time.Sleep(300 * time.Millisecond)
			return objecttest.NoFault
		})
		s.b.more(s.t, 30, "while the store is slow")
		s.asked(&asked, 10)
		return func() { s.proxy.SetFault(nil) }
	}},
	{"store that errs and yet keeps", func(s *siege) func() {
		var asked atomic.Int64
		s.proxy.SetFault(func(r *http.Request) objecttest.ProxyFault {
			switch n := asked.Add(1); {
			case r.Method != http.MethodPut:
				return objecttest.NoFault
			case n%3 == 0:
				return objecttest.NoFault
			case n%3 == 1:
				return objecttest.LoseAnswer5
			default:
				return objecttest.LoseAnswer
			}
		})
		s.b.more(s.t, 30, "while the store answers what is not true")
		s.asked(&asked, 10)
		return func() { s.proxy.SetFault(nil) }
	}},
	// After what follows the server is started again, as after a crash, and the file system is mounted anew.
	{"read-only remount", func(s *siege) func() {
		s.atRest(s.inner.abort)
		s.trouble("on a disk that is read-only")
		return s.replug(func() { s.inner.repair() })
	}},
	{"EIO on write", func(s *siege) func() {
		s.atRest(s.inner.cutPower) // every call is EIO from now on
		s.trouble("on a disk that answers EIO")
		return s.replug(func() { s.inner.again() })
	}},
	{"EIO on fsync", func(s *siege) func() {
		s.outer.cutPower() // what is written still goes into memory, and only its way to the disk fails
		s.trouble("on a disk that is gone below its file system")
		return s.replug(func() {
			s.inner.unmount()
			s.outer.again()
			s.inner.repair()
		})
	}},
}

// atRest does something while no letter is on its way. An fsync that is under way when ext4 aborts or is shut down may return 0 and have lost
// what it was for: that is Linux (6.18, a program that only appends and syncs: 17 of 110 times), and nothing that we could find out.
func (s *siege) atRest(do func()) {
	s.b.gate.Lock()
	defer s.b.gate.Unlock()
	do()
}

// asked waits until the store has been asked so often under a fault.
func (s *siege) asked(n *atomic.Int64, times int64) {
	s.t.Helper()
	until(s.t, time.Minute, "the store is asked", func() bool { return n.Load() >= times })
}

// outage is a time without a store: by ack: spool mail goes on, by ack: archive it is refused for now.
func (s *siege) outage(asked *atomic.Int64) {
	s.t.Helper()
	s.asked(asked, 3)
	if s.ack == "spool" {
		s.b.more(s.t, 30, "while the store is down")
	} else {
		s.b.deferredMore(s.t, 5, "while the store is down")
	}
}

// trouble waits until the server refuses mail or is gone: nothing is acknowledged on a disk that takes nothing.
func (s *siege) trouble(where string) {
	s.t.Helper()
	_, before := s.b.count()
	ended := false
	until(s.t, time.Minute, "mail is refused "+where, func() bool {
		_, now := s.b.count()
		select {
		case err := <-s.exited:
			s.exited <- err
			ended = true
		default:
		}
		return now >= before+3 || ended
	})
	acked, _ := s.b.count()
	time.Sleep(200 * time.Millisecond)
	if now, _ := s.b.count(); now > acked {
		s.t.Errorf("%d letters were acknowledged %s", now-acked, where)
	}
}

// replug gives what heals a disk that can't be used any more: end the server, see to the disk, start the server.
func (s *siege) replug(mend func()) func() {
	return func() {
		s.kill()
		mend()
		s.start()
	}
}

// Every fault against every way of mail. After each, mail is taken again, and nothing that was acknowledged, and nothing that was delivered, is
// missing in the archive, which is as it must be.
func TestSiege(t *testing.T) {
	for _, way := range ways() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := besiege(t, way)
			for _, f := range faults {
				t.Run(f.name, func(t *testing.T) {
					s.t = t
					started := time.Now()
					s.b.more(t, 10, "before it")
					s.b.now(f.name)
					heal := f.strike(s)
					struck := time.Since(started)
					s.b.now("after " + f.name)
					heal()
					s.b.more(t, 10, "after it")
					s.caughtUp()
					s.mustVerify()
					t.Logf("struck within %v, healed within %v", struck.Round(time.Millisecond), time.Since(started).Round(time.Millisecond))
				})
				if t.Failed() {
					return // what follows would only tell of it again
				}
			}
			s.b.stop()
			s.finish(t, s.b)
		})
	}
}

func besiege(t *testing.T, way way) *siege {
	t.Helper()
	rng := seeded(t)
	s := &siege{t: t}
	s.outer = newDisk(t, t.TempDir(), "ext4", 400, ext4Options)
	s.inner = newDisk(t, s.outer.dir, "ext4", 192, ext4Options, "-N", "4000", "-m", "0")
	bucket := objecttest.StartS3(t)
	s.proxy = objecttest.StartProxy(t, bucket.Endpoint)
	s.besieged = way.install(t, settings{store: bucket.URLAt(s.proxy.URL), env: bucket.Env, data: filepath.Join(s.inner.dir, "data")})
	s.withoutRaceDetector()
	s.setSealAfter("200ms")
	s.start()
	s.b = s.barrageOf(4, strings.ReplaceAll(fmt.Sprint(way.name), "/", " "), rng.Uint64())
	return s
}

// caughtUp waits until what has been acknowledged by now is archived, while mail goes on coming.
func (s *siege) caughtUp() {
	s.t.Helper()
	before, ok := s.metric("holdfast_archive_records_total")
	until(s.t, time.Minute, "the archive goes on", func() bool {
		now, ok2 := s.metric("holdfast_archive_records_total")
		return ok && ok2 && now > before+5
	})
}
