package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// job is a run of work on a spool that may fail at any call, and what it was told.
type job struct {
	acked    map[record.ID]record.Digest // messages in custody
	acts     map[record.ID]bool          // acts in custody
	outcomes map[record.ID]bool          // outcomes handed to AppendSoon
	released map[record.ID]bool
	early    map[record.ID]bool  // given to the archive before their outcome; true: that was handed to AppendSoon
	queued   map[record.ID]ended // in queue mode
	seen     []*record.Item      // everything that came from the tail
	failures int
}

// ended is how the forwarding of a message ended.
type ended int

const (
	isOpen   ended = iota
	isFinal        // its last supplement was handed to AppendSoon
	isLetOff       // End
)

func newJob() *job {
	return &job{
		acked: map[record.ID]record.Digest{}, acts: map[record.ID]bool{}, outcomes: map[record.ID]bool{}, released: map[record.ID]bool{},
		early: map[record.ID]bool{}, queued: map[record.ID]ended{},
	}
}

// work takes everything through the spool that can go through it: small and large, journaled and relayed, acts, outcomes, releases. It
// meets several segments.
func (j *job) work(s *Spool, rounds int) {
	tail := s.Tail()
	for i := range rounds {
		for k, n := range []int{50, 3000, 6000, 30_000} {
			env := journaled()
			if k%2 == 0 {
				env = relayed()
			}
			body := mail(uint64(i*10+k), n)
			id, err := s.Accept(context.Background(), env, bytes.NewReader(body), AcceptOptions{})
			if err != nil {
				j.failures++
				continue
			}
			j.acked[id] = record.Sum(body)
			if env.Mode == record.ModeRelay && i != rounds-1 && s.AppendSoon(delivered(id)) == nil {
				j.outcomes[id] = true
			}
		}
		j.more(s, i, i == rounds-1)
		act := &record.Item{Kind: record.KindAct, Act: &record.Act{Kind: record.ActSearch}}
		if err := s.Append(context.Background(), act); err != nil {
			j.failures++
		} else {
			j.acts[act.ID] = true
		}
		items, _ := drain(tail)
		j.seen = append(j.seen, items...)
		if i%2 == 1 {
			s.Release(context.Background(), j.seen)
			for _, it := range j.seen {
				j.released[it.ID] = true
			}
		}
	}
	items, _ := drain(tail)
	j.seen = append(j.seen, items...)
}

// more takes through what waits for something other than an outcome: messages in queue mode, some of which are deferred, some delivered and
// some let off; early ones; and verdicts that come before the outcome, after it, too late and never.
func (j *job) more(s *Spool, round int, last bool) {
	take := func(k int, env record.Envelope, opt AcceptOptions) (record.ID, bool) {
		body := mail(uint64(round*10+k), 50+k*1200)
		id, err := s.Accept(context.Background(), env, bytes.NewReader(body), opt)
		if err != nil {
			j.failures++
			return id, false
		}
		j.acked[id] = record.Sum(body)
		return id, true
	}
	soon := func(it *record.Item) bool { return s.AppendSoon(it) == nil }
	for k := range 4 {
		id, ok := take(k, queued(), AcceptOptions{Verdict: k == 3})
		if !ok {
			continue
		}
		j.queued[id] = isOpen
		soon(deferred(id))
		switch {
		case k%2 == 1 && soon(delivered(id)):
			j.queued[id] = isFinal
		case k == 2:
			s.End(id)
			j.queued[id] = isLetOff
		}
		if k == 3 {
			soon(verdict(id))
		}
	}
	for k := range 2 {
		if id, ok := take(4, relayedEarly(), AcceptOptions{Early: true}); ok {
			j.early[id] = (k == 0 || !last) && soon(delivered(id))
		}
	}
	opt := AcceptOptions{Verdict: true}
	if id, ok := take(0, journaled(), opt); ok {
		s.Waive(id)
		soon(verdict(id)) // too late, or just not
	}
	if id, ok := take(1, journaled(), opt); ok && !last {
		soon(verdict(id))
	}
	if id, ok := take(0, relayed(), opt); ok && soon(delivered(id)) {
		j.outcomes[id] = true
		soon(verdict(id))
	}
	if id, ok := take(1, relayed(), opt); ok && soon(verdict(id)) && soon(delivered(id)) {
		j.outcomes[id] = true
	}
	if id, ok := take(1, relayed(), opt); ok && soon(delivered(id)) {
		j.outcomes[id] = true
		s.Waive(id)
		soon(verdict(id))
	}
}

// check opens what is left and compares it with what was acknowledged.
func (j *job) check(fs *simFS, closed bool) error {
	opt, alarms := simOptions(fs)
	var first string
	for round := range 2 { // the second recovery has nothing to do
		s, err := Open(testConfig("/s"), opt)
		if err != nil {
			return fmt.Errorf("open %d: %w", round, err)
		}
		items, err := drain(s.Tail())
		newest := s.Newest()
		pending, _ := s.Pending()
		listing := fs.listing()
		err = errors.Join(err, j.forwarding(s, closed), s.Close(context.Background()))
		if err != nil {
			return err
		}
		if pending != len(items) {
			return fmt.Errorf("%d items, %d pending", len(items), pending)
		}
		if err := j.compare(items, newest, closed); err != nil {
			return err
		}
		if a := alarms.all(); len(a) > 0 {
			return fmt.Errorf("alarms: %q", a)
		}
		if got := inOrder(digest(items)); round == 0 {
			first = got
		} else if got != first {
			return fmt.Errorf("the second recovery gives\n%s\nthe first gave\n%s", got, first)
		}
		if round == 1 && fs.listing() != listing {
			return fmt.Errorf("the second recovery wrote: before\n%s\nafter\n%s", listing, fs.listing())
		}
	}
	return nil
}

// inOrder sorts lines: a message that a verdict was owed to may come at another place after a restart.
func inOrder(lines string) string {
	return strings.Join(slices.Sorted(strings.SplitSeq(lines, "\n")), "\n")
}

// forwarding says whether all that has to be forwarded still is.
func (j *job) forwarding(s *Spool, closed bool) error {
	given := map[record.ID]bool{}
	for f, last := s.Forwarding(), uint64(0); ; {
		it, err := f.TryNext(context.Background())
		if err != nil {
			return err
		}
		if it == nil {
			break
		}
		if given[it.ID] || it.Seq <= last || it.Envelope.Mode != record.ModeQueue {
			return fmt.Errorf("message %s, %d after %d, is given for forwarding: %+v", it.ID, it.Seq, last, it.Envelope)
		}
		given[it.ID], last = true, it.Seq
		if err := checkItem(it); err != nil {
			return err
		}
		r, err := s.Open(it.ID)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || record.Sum(b) != it.Envelope.SHA256 {
			return fmt.Errorf("message %s, opened: %d bytes, %v", it.ID, len(b), err)
		}
	}
	for id, how := range j.queued {
		if how == isOpen && !given[id] {
			return fmt.Errorf("message %s is not forwarded any more", id)
		}
		if how == isFinal && closed && given[id] {
			return fmt.Errorf("message %s is forwarded again", id)
		}
	}
	return nil
}

// together says whether a message has the supplements that it came with before: the archive may have them by that, and by that alone.
func (j *job) together(have map[record.ID]*record.Item) error {
	names := func(it *record.Item) (list []string) {
		for _, doc := range it.Supplements {
			list = append(list, doc.Name)
		}
		return list
	}
	for _, it := range j.seen {
		if now := have[it.ID]; it.Kind == record.KindMessage && now != nil && !slices.Equal(names(it), names(now)) {
			return fmt.Errorf("message %s came with %q, and now comes with %q", it.ID, names(it), names(now))
		}
	}
	return nil
}

func (j *job) compare(items []*record.Item, newest uint64, closed bool) error {
	have := map[record.ID]*record.Item{}
	var numbered []*record.Item
	for _, it := range items {
		if it.Kind == record.KindMessage || it.Kind == record.KindAct {
			if have[it.ID] != nil {
				return fmt.Errorf("%s came twice", it.ID)
			}
			have[it.ID] = it
		}
		numbered = append(numbered, it)
	}
	for id, sum := range j.acked {
		it := have[id]
		switch {
		case it == nil && !j.released[id]:
			return fmt.Errorf("message %s was acknowledged and is lost", id)
		case it == nil:
		case it.Envelope.SHA256 != sum:
			return fmt.Errorf("message %s is another", id)
		case closed && j.outcomes[id] && it.Delivery().Outcome != record.Delivered:
			return fmt.Errorf("the outcome of message %s is lost", id)
		}
	}
	if err := j.together(have); err != nil {
		return err
	}
	outcome := map[record.ID]record.Outcome{}
	for _, it := range items {
		if it.Kind == record.KindSupplement && it.Supplement.Delivery != nil {
			outcome[it.ID] = it.Supplement.Delivery.Outcome
		}
	}
	for id, handed := range j.early {
		if _, acked := j.acked[id]; acked && !handed && outcome[id] != record.Unknown {
			return fmt.Errorf("message %s was archived early, and its outcome is %q", id, outcome[id])
		}
	}
	for id := range j.acts {
		if have[id] == nil && !j.released[id] {
			return fmt.Errorf("act %s was acknowledged and is lost", id)
		}
	}
	drops := map[record.Drop]bool{}
	for _, it := range items {
		if it.Drop != nil {
			drops[*it.Drop] = true
		}
	}
	for _, it := range j.seen { // what is deleted by now was seen before
		if it.Drop != nil && drops[*it.Drop] {
			continue
		}
		if have[it.ID] == nil && it.Kind != record.KindSupplement {
			numbered = append(numbered, it)
		}
	}
	return checkNumbers(numbered, 1, newest)
}

// run does a whole job on a file system, from the first start to the end.
func run(fs *simFS, rounds int) (j *job, closeErr error) {
	j = newJob()
	opt, _ := simOptions(fs)
	s, err := Open(testConfig("/s"), opt)
	if err != nil {
		return j, err
	}
	j.work(s, rounds)
	for _, it := range j.seen {
		if it.Kind == record.KindMessage && it.Envelope.Mode == record.ModeRelay && it.Envelope.Listener != "early" && it.Delivery() == nil {
			return j, fmt.Errorf("%s settled without an outcome", it.ID)
		}
	}
	return j, s.Close(context.Background())
}

// step is by how much the tests that fail each call go on: 1 but for short runs.
func step() int {
	if testing.Short() {
		return 7
	}
	return 1
}

// Every call that changes something fails once, in every way; and each in the middle of a run of failures.
func TestFaultAtEachCall(t *testing.T) {
	kinds := map[string]fault{
		"EIO":                  {err: syscall.EIO},
		"EIO, but it happened": {err: syscall.EIO, persist: true},
		"ENOSPC":               {err: syscall.ENOSPC},
		"ENOSPC, half written": {err: syscall.ENOSPC, short: true},
		"EROFS":                {err: syscall.EROFS},
	}
	const rounds = 3
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		for _, length := range []int{1, 5, 1 << 30} {
			t.Run(fmt.Sprintf("%s/%d", name, min(length, 99)), func(t *testing.T) {
				t.Parallel()
				for k := 1; ; k += step() {
					fs := newSimFS()
					fired := 0
					fs.fault = func(n int, _, _ string) fault {
						if n >= k && n < k+length {
							fired++
							return kinds[name]
						}
						return fault{}
					}
					j, err := run(fs, rounds)
					if fired == 0 {
						if err != nil || j.failures > 0 {
							t.Fatal("without a fault:", err, j.failures)
						}
						break
					}
					if length == 1 && j.failures > 2 {
						t.Errorf("call %d: one fault, %d failures", k, j.failures)
					}
					fs.fault = nil
					for what, next := range map[string]*simFS{
						"restart": fs.copyFS(), "power cut": fs.after(nil), "torn power cut": fs.after(rand.New(rand.NewPCG(uint64(k), 1))),
					} {
						if err := j.check(next, err == nil); err != nil {
							t.Fatalf("fault at call %d, then %s: %v", k, what, err)
						}
					}
				}
			})
		}
	}
}

// The machine stops at every call, and then again at every call of the recovery. What survives of what was not synced is random.
func TestPowerCutAtEachCall(t *testing.T) {
	const rounds = 3
	stopAt := func(fs *simFS, k int) *bool {
		stopped := false
		fs.calls = 0
		fs.fault = func(n int, _, _ string) fault {
			stopped = stopped || n == k
			return fault{crash: n == k}
		}
		return &stopped
	}
	for k := 1; ; k += step() {
		fs := newSimFS()
		stopped := stopAt(fs, k)
		j, _ := run(fs, rounds)
		if !*stopped {
			break
		}
		for seed := range uint64(4) {
			cut := func() *simFS {
				if seed == 0 {
					return fs.after(nil)
				}
				return fs.after(rand.New(rand.NewPCG(uint64(k), seed)))
			}
			if err := j.check(cut(), false); err != nil {
				t.Fatalf("power cut at call %d, seed %d: %v", k, seed, err)
			}
			for r := 1 + k%5; ; r += 5 {
				again := cut()
				stopped := stopAt(again, r)
				opt, _ := simOptions(again)
				if s, err := Open(testConfig("/s"), opt); err == nil {
					s.Close(context.Background())
				}
				if !*stopped {
					break
				}
				if err := j.check(again.after(rand.New(rand.NewPCG(uint64(k), seed))), false); err != nil {
					t.Fatalf("power cut at call %d, seed %d, and at call %d of the recovery: %v", k, seed, r, err)
				}
			}
		}
	}
}

// A disk that fails for good is not tried for each message, and is taken again when it has come back.
func TestFailingDisk(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	id := accept(t, s, relayed(), mail(1, 10))
	fs.fault = func(int, string, string) fault { return fault{err: syscall.EIO} }
	for i := range failuresInARow {
		if err := s.Ready(0); err != nil {
			t.Errorf("after %d failures: %v", i, err)
		}
		_, err := s.Accept(t.Context(), journaled(), bytes.NewReader(mail(1, 10)), AcceptOptions{})
		if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) || !bytes.Contains([]byte(err.Error()), []byte("/s/")) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := s.AppendSoon(delivered(id)); err != nil {
		t.Error(err)
	}
	fs.mu.Lock()
	before := fs.calls
	fs.mu.Unlock()
	if err := s.Ready(0); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	s.health.mu.Lock()
	s.health.next = time.Time{}
	s.health.mu.Unlock()
	if err := s.Ready(0); !errors.Is(err, ErrFailed) {
		t.Error("a probe that fails:", err)
	}
	if fs.calls == before {
		t.Error("there was no probe")
	}
	if s.health.backoff <= firstBackoff {
		t.Error("the next probe comes as soon as this one")
	}
	fs.mu.Lock()
	fs.fault = nil
	fs.mu.Unlock()
	s.health.mu.Lock()
	s.health.next = time.Time{}
	s.health.mu.Unlock()
	if err := s.Ready(0); err != nil {
		t.Error("a probe that succeeds:", err)
	}
	accept(t, s, journaled(), mail(1, 10))
	eventually(t, "the outcome is durable", func() bool {
		items := all(t, s)
		return slices.ContainsFunc(items, func(it *record.Item) bool { return it.ID == id && it.Delivery().Outcome == record.Delivered })
	})
	if err := checkNumbers(all(t, s), 1, s.Newest()); err != nil {
		t.Error(err)
	}
	mustClose(t, s)
}

// On a full disk messages are refused; acts and outcomes take the reserve.
func TestFullDiskTakesActs(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	id := accept(t, s, relayed(), mail(1, 10))
	full := true
	fs.fault = func(_ int, op, path string) fault {
		if op == "remove" && path == "/s/reserve" {
			full = false
		}
		if full && (op == "write" || op == "create") {
			return fault{err: syscall.ENOSPC}
		}
		return fault{}
	}
	if _, err := s.Accept(t.Context(), journaled(), bytes.NewReader(mail(1, 10)), AcceptOptions{}); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	if !full {
		t.Error("the reserve was given up for a message")
	}
	if err := s.AppendAct(t.Context(), record.Act{Kind: record.ActView}); err != nil {
		t.Error(err)
	}
	if full {
		t.Error("the reserve is still there")
	}
	if err := s.AppendSoon(delivered(id)); err != nil {
		t.Error(err)
	}
	it, err := s.Tail().Next(t.Context())
	for tail := s.Tail(); err == nil && it.ID != id; {
		it, err = tail.Next(t.Context())
	}
	if err != nil || it.Delivery().Outcome != record.Delivered {
		t.Error(it, err)
	}
	if err := s.Ready(10); err != nil { // there is space again: the reserve is made anew
		t.Error(err)
	}
	if !s.reserve.there {
		t.Error("there is no reserve")
	}
	mustClose(t, s)
}

// A write that never ends: messages are refused before they are received.
func TestSilentDisk(t *testing.T) {
	opt, _ := simOptions(newSimFS())
	s := mustOpen(t, testConfig("/s"), opt)
	s.committer.started.Store(1)
	s.born = time.Now().Add(-2 * maxSilence)
	if err := s.Ready(0); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	s.committer.started.Store(0)
	mustClose(t, s)
}

// A write that fails though it did happen, and then nothing happens any more: what it wrote is whole.
func TestFailedButPersisted(t *testing.T) {
	fs := newSimFS()
	opt, _ := simOptions(fs)
	s := mustOpen(t, testConfig("/s"), opt)
	accept(t, s, journaled(), mail(1, 10))
	broken := false
	fs.fault = func(_ int, op, path string) fault {
		if !broken && op == "fsync" && strings.HasSuffix(path, segmentSuffix+tempSuffix) { // the segment, by the name that it was opened with
			broken = true
			return fault{err: syscall.EIO, persist: true}
		}
		if broken && op != "remove" {
			return fault{err: syscall.EIO}
		}
		return fault{}
	}
	if _, err := s.Accept(t.Context(), journaled(), bytes.NewReader(mail(2, 9000)), AcceptOptions{}); !errors.Is(err, ErrFailed) || !broken {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err == nil {
		t.Error("closed in good order")
	}
	fs = fs.copyFS()
	opt, alarms := simOptions(fs)
	s = mustOpen(t, testConfig("/s"), opt)
	items := all(t, s)
	for _, it := range items {
		if err := checkItem(it); err != nil {
			t.Error(err)
		}
	}
	if err := checkNumbers(items, 1, s.Newest()); err != nil || len(items) != 2 || len(alarms.all()) > 0 {
		t.Error(err, digest(items), alarms.all())
	}
	mustClose(t, s)
}

// A segment that could not be made may stand there after all. It never becomes the oldest, wherever the power is cut.
func TestLeftoverThenPowerCut(t *testing.T) {
	for k := 1; ; k++ {
		fs := newSimFS()
		opt, _ := simOptions(fs)
		opt.idleDelay = time.Nanosecond
		s := mustOpen(t, testConfig("/s"), opt)
		j := newJob()
		j.acked[accept(t, s, journaled(), mail(1, 10))] = record.Sum(mail(1, 10))
		j.seen = all(t, s)
		j.released[j.seen[0].ID] = true

		failed, after := false, 0
		fs.mu.Lock()
		fs.fault = func(_ int, op, path string) fault {
			if !failed && op == "syncdir" && path == "/s" {
				failed = true
				return fault{err: syscall.EIO, persist: true}
			}
			if failed {
				after++
			}
			return fault{crash: after == k}
		}
		fs.mu.Unlock()
		locked := func(ok func() bool) func() bool {
			return func() bool {
				fs.mu.Lock()
				defer fs.mu.Unlock()
				return ok()
			}
		}
		s.Release(t.Context(), j.seen) // the segment has nothing left in it: the next one is made
		eventually(t, "the next segment fails", locked(func() bool { return failed }))
		s.Release(t.Context(), j.seen)
		eventually(t, "one segment is left", locked(func() bool {
			left := 0
			for name := range fs.dirs["/s"].now {
				if strings.HasSuffix(name, segmentSuffix) {
					left++
				}
			}
			return fs.dead || after > 3 && left == 1
		}))
		s.Close(context.Background())
		if !fs.dead {
			if k < 5 {
				t.Errorf("%d calls", k)
			}
			return
		}
		for seed := range uint64(50) {
			if err := j.check(fs.after(rand.New(rand.NewPCG(seed, uint64(k)))), false); err != nil {
				t.Fatalf("power cut %d calls after the failure, seed %d: %v", k, seed, err)
			}
		}
	}
}
