package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// openPatient opens an archive that seals nothing by itself, on a data folder of its own.
func (b *bench) openPatient(ctx context.Context, data string) (*archive.Archive, error) {
	cfg := config()
	cfg.SealAfter, cfg.SealSize = time.Hour, 1<<30
	return archive.Open(ctx, archive.Options{Config: cfg, Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, data), Now: time.Now,
		Log:    slog.New(slog.DiscardHandler),
		Expiry: func(it *record.Item) time.Time { return it.ID.Time().AddDate(1+int(it.Envelope.Size%2), 0, 0) }})
}

// run runs an archive until the test ends or stop is called.
func (b *bench) run(a *archive.Archive) (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx, b.custody, nil); ctx.Err() == nil {
			b.t.Error(err)
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done; a.Close(context.Background()) }) }
	b.t.Cleanup(stop)
	return stop
}

// add puts one message into custody.
func (b *bench) add(body string) record.ID {
	b.seq++
	m := message(b.seq, []byte(body))
	b.bodies[m.ID] = []byte(body)
	b.custody.put(m)
	return m.ID
}

// inBucket says whether an archive of which nothing but the store and the keys is left has a message.
func (b *bench) inBucket(ids ...record.ID) error {
	a, err := b.openPatient(context.Background(), fmt.Sprint("rebuilt", time.Now().UnixNano()))
	if err != nil {
		return err
	}
	defer a.Close(context.Background())
	for _, id := range ids {
		s, err := a.Fetch(context.Background(), id)
		if err != nil {
			return err
		}
		r, err := s.Item.Body()
		if err != nil {
			return err
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, b.bodies[id]) {
			return fmt.Errorf("%s: %d other bytes: %w", id, len(got), err)
		}
	}
	return nil
}

func (b *bench) commits() (n int) {
	for _, key := range b.store.Keys() {
		if strings.Contains(key, "/commit/") {
			n++
		}
	}
	return n
}

// Those who wait share packs and commits, nobody waits for seal_after, and what they were told is true without the node's disk.
func TestAwait(t *testing.T) {
	b := newBench(t, true)
	b.store.SetFault(func(op objecttest.Op, _ string) objecttest.Fault {
		if op == objecttest.OpCreate {
			time.Sleep(5 * time.Millisecond) // so that others gather
		}
		return objecttest.Fault{}
	})
	a, err := b.openPatient(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	b.run(a)
	alone := b.add("of odd size, so of another month.")
	const sessions, each = 20, 10
	var mu sync.Mutex
	var wg sync.WaitGroup
	before := b.commits()
	for w := range sessions {
		wg.Go(func() {
			for i := range each {
				mu.Lock()
				id := b.add(fmt.Sprintf("message %04d", w*100+i))
				mu.Unlock()
				if err := a.Await(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := b.commits() - before; n > sessions*each/2 {
		t.Errorf("%d commits for %d messages of %d at once", n, sessions*each, sessions)
	}
	for end := time.Now().Add(10 * time.Second); b.custody.left() != 1 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		// who waits is told first, then custody
	}
	if n := b.custody.left(); n != 1 {
		t.Errorf("%d left in custody", n)
	}
	if ok, err := a.Has(alone); ok || err != nil {
		t.Error("a pack was sealed that nobody waited for", err)
	}
	var all []record.ID
	for id := range b.bodies {
		if id == alone {
			continue
		}
		if err := a.Await(t.Context(), id); err != nil { // long since there
			t.Error(err)
		}
		all = append(all, id)
	}
	if err := b.inBucket(all...); err != nil {
		t.Fatal(err)
	}
	if err := a.Failing(); err != nil {
		t.Error(err)
	}
	if r := b.verify(); !r.OK {
		t.Fatalf("%+v", r)
	}
}

// A store that is down or slow: who waits is told that it is not known, and the archive knows that more would wait in vain. The records are
// archived when it is back.
func TestAwaitAStoreThatIsDown(t *testing.T) {
	b := newBench(t, false)
	a, err := b.openPatient(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	stop := b.run(a)
	for name, fault := range map[string]objecttest.Fault{
		"down":                       {Before: objecttest.ErrFault},
		"slow":                       {Wait: make(chan struct{}), Before: objecttest.ErrFault},
		"an error, and kept it":      {After: objecttest.ErrFault},
		"an error at some times":     {},
		"an error for ledger's part": {Before: objecttest.ErrFault},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			release := make(chan struct{})
			if fault.Wait != nil {
				fault.Wait = release
			}
			var mu sync.Mutex
			b.store.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
				mu.Lock()
				defer mu.Unlock()
				calls++
				switch {
				case name == "an error at some times" && calls%2 == 0:
					return objecttest.Fault{Before: objecttest.ErrFault}
				case name == "an error for ledger's part" && strings.HasPrefix(key, "packs/"):
					return objecttest.Fault{}
				}
				return fault
			})
			id := b.add(name)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := a.Await(ctx, id)
			if name == "an error at some times" {
				if err != nil {
					t.Error(err)
				}
			} else {
				if !errors.Is(err, archive.ErrPending) || !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if err := a.Failing(); !errors.Is(err, archive.ErrPending) {
					t.Error(err)
				}
			}
			b.store.SetFault(nil)
			close(release)
			if err := a.Await(t.Context(), id); err != nil {
				t.Error(err)
			}
			if err := a.Failing(); err != nil {
				t.Error(err)
			}
			if err := b.inBucket(id); err != nil {
				t.Error(err)
			}
		})
	}
	stop()
	if err := a.Await(t.Context(), record.NewID(time.Now())); !errors.Is(err, archive.ErrPending) {
		t.Error("after the end:", err)
	}
	b.check()
}

// Who waits when Run ends is told; what can't be read is told of at once.
func TestAwaitEnds(t *testing.T) {
	b := newBench(t, false)
	a, err := b.openPatient(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	stop := b.run(a)
	m := message(1, []byte("x"))
	m.Body = func() (io.ReadCloser, error) { return nil, objecttest.ErrFault }
	told := make(chan error, 2)
	go func() { told <- a.Await(t.Context(), m.ID) }()
	time.Sleep(10 * time.Millisecond) // mostly it waits by now; if not it is told all the same, by the end
	b.custody.put(m)
	go func() {
		time.Sleep(100 * time.Millisecond)
		stop()
	}()
	if err := <-told; !errors.Is(err, archive.ErrPending) {
		t.Error(err)
	}
	go func() { told <- a.Await(t.Context(), record.NewID(time.Now())) }()
	if err := <-told; !errors.Is(err, archive.ErrPending) {
		t.Error(err)
	}
	stop()
}

// The node dies, disk and all, at each step of the store, while many wait. Whoever was told nil has his message in the bucket.
func TestADiskLostAtAnyStep(t *testing.T) {
	for _, lost := range []bool{false, true} { // the last call: not done, or done and not answered
		for n := 0; ; n++ {
			b := newBench(t, n%2 == 0)
			ctx, cancel := context.WithCancel(t.Context())
			var mu sync.Mutex
			calls, crashed := 0, false
			b.store.SetFault(func(op objecttest.Op, _ string) objecttest.Fault {
				mu.Lock()
				defer mu.Unlock()
				calls++
				if calls <= n {
					return objecttest.Fault{}
				}
				crashed = true
				cancel()
				if lost && calls == n+1 {
					return objecttest.Fault{After: objecttest.ErrFault}
				}
				return objecttest.Fault{Before: objecttest.ErrFault}
			})
			var told []record.ID
			if a, err := b.openPatient(ctx, "data"); err == nil {
				ran := make(chan struct{})
				go func() {
					defer close(ran)
					a.Run(ctx, b.custody, nil)
				}()
				var wg sync.WaitGroup
				var ids sync.Mutex
				for range 4 {
					wg.Go(func() {
						for range 3 {
							ids.Lock()
							id := b.add(fmt.Sprint("message ", b.seq))
							ids.Unlock()
							if a.Await(ctx, id) != nil {
								return
							}
							ids.Lock()
							told = append(told, id)
							ids.Unlock()
						}
					})
				}
				wg.Wait()
				mu.Lock()
				ended := !crashed
				mu.Unlock()
				cancel()
				<-ran
				a.Close(context.Background())
				if ended {
					if len(told) != 12 || n < 6 {
						t.Fatalf("%d told after %d calls", len(told), n)
					}
					break
				}
			}
			cancel()
			b.store.SetFault(nil)
			if err := b.inBucket(told...); err != nil {
				t.Fatalf("stopped at call %d (%v), %d told: %v", n, lost, len(told), err)
			}
			if r := b.verify(); !r.OK {
				t.Fatalf("stopped at call %d: %+v", n, r)
			}
		}
	}
}
