package keeper

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/retention"
)

// shelf is a log with its packs in a store that locks, and an index of what is in them.
type shelf struct {
	t        *testing.T
	store    objecttest.Memory
	index    store
	entries  []record.Entry
	policies *retention.Policies
	holds    []retention.Hold
	path     string
	now      time.Time
	acts     []Longer
	fault    func(step string) error
	asked    atomic.Int64 // locks
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{t: t, path: filepath.Join(t.TempDir(), "locks.json"), now: time.Now().UTC().Truncate(time.Second), fault: func(string) error { return nil }}
	s.index.docs = map[record.ID]*document.Document{}
	base, err := retention.New(retention.Config{Default: "1y"})
	if err != nil {
		t.Fatal(err)
	}
	s.policies = base
	return s
}

// policy is a policy for messages with a word in them.
func policy(w, keep string) retention.Policy {
	p, err := retention.ParsePeriod(keep)
	if err != nil {
		panic(err)
	}
	return retention.Policy{Name: w + "-" + keep, Query: word(w), Keep: p, Start: retention.Receipt}
}

// pack stores one with messages of these texts, locked for a year as the default says.
func (s *shelf) pack(texts ...string) (key string, ids []record.ID) {
	s.t.Helper()
	key = fmt.Sprintf("packs/x/%d", len(s.entries))
	for _, text := range texts {
		d := &document.Document{ID: record.NewID(s.now), Received: s.now, Body: text, Partial: text == "encrypted"}
		s.index.docs[d.ID] = d
		ids = append(ids, d.ID)
		s.entries = append(s.entries, record.Entry{Kind: record.KindMessage, ID: d.ID, Time: s.now, Pack: key})
	}
	lock := object.Lock{Mode: object.LockCompliance, Until: s.now.AddDate(1, 0, 0)}
	if _, err := s.store.Create(s.t.Context(), key, strings.NewReader(key), lock); err != nil {
		s.t.Fatal(err)
	}
	return key, ids
}

func (s *shelf) lock(key string) object.Lock {
	s.t.Helper()
	info, err := s.store.Stat(s.t.Context(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	return info.Lock
}

func (s *shelf) open() *Lengthener {
	return NewLengthener(LockOptions{
		InForce: func() (*retention.Policies, []retention.Hold, error) { return s.policies, s.holds, s.fault("in force") },
		Search:  s.index.Search,
		Indexed: func(context.Context) (uint64, error) { return uint64(len(s.entries)), s.fault("indexed") },
		Entries: func(_ context.Context, from uint64) iter.Seq2[archive.Replayed, error] {
			return func(yield func(archive.Replayed, error) bool) {
				for n := from; n < uint64(len(s.entries)); n++ {
					if err := s.fault("entry"); err != nil {
						yield(archive.Replayed{}, err)
						return
					}
					if !yield(archive.Replayed{N: n, Entry: s.entries[n]}, nil) {
						return
					}
				}
			}
		},
		Lock: func(ctx context.Context, key string) (object.Lock, error) {
			s.asked.Add(1)
			info, err := s.store.Stat(ctx, key)
			return info.Lock, err
		},
		Extend: func(ctx context.Context, key string, until time.Time) error {
			if err := s.fault("extend"); err != nil {
				return err
			}
			return errors.Join(s.store.Extend(ctx, key, until), s.fault("extended"))
		},
		Say: func(_ context.Context, packs []Longer, _ record.IDs) error {
			s.acts = append(s.acts, packs...)
			return s.fault("say")
		},
		Path: s.path, Now: func() time.Time { return s.now }, Log: slog.New(slog.DiscardHandler),
	})
}

func (s *shelf) follow() LockState {
	s.t.Helper()
	l := s.open()
	if err := l.Follow(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return l.State()
}

func TestLocksFollowPolicies(t *testing.T) {
	s := newShelf(t)
	all, _ := s.pack("merger", "merger", "merger")
	most, _ := s.pack("merger", "merger", "lunch")
	few, _ := s.pack("merger", "lunch", "lunch")
	unsure, _ := s.pack("encrypted")
	none, _ := s.pack("lunch")
	year := func(n int) time.Time { return s.now.AddDate(n, 0, 0) }
	check := func(when string, want map[string]int) {
		t.Helper()
		for key, years := range want {
			if got := s.lock(key).Until; !got.Equal(year(years)) {
				t.Errorf("%s: %s is locked until %v, want %v", when, key, got, year(years))
			}
		}
	}
	if st := s.follow(); st.Extended != 0 || st.Packs != 5 || st.Entries != 11 || len(s.acts) != 0 {
		t.Errorf("nothing to do: %+v, %d acts", st, len(s.acts))
	}
	asked := s.asked.Load()
	if s.follow(); s.asked.Load() != asked {
		t.Errorf("what is done is asked for again")
	}
	s.policies = s.policies.With([]retention.Policy{policy("merger", "10y")})
	st := s.follow()
	check("lengthened", map[string]int{all: 10, most: 10, few: 1, unsure: 10, none: 1})
	if st.Extended != 3 || st.Alone != 1 || st.OverLocked != 1 || !st.Furthest.Equal(year(10)) || len(s.acts) != 3 {
		t.Errorf("lengthened: %+v, %d acts", st, len(s.acts))
	}
	// Shortening never beats a lock: it is shown as what is kept too long.
	s.policies = s.policies.With([]retention.Policy{policy("merger", "2y")})
	st = s.follow()
	check("shortened", map[string]int{all: 10, most: 10, few: 1, unsure: 10, none: 1})
	if st.Extended != 0 || st.Alone != 1 || st.OverLocked != 7 {
		t.Errorf("shortened: %+v", st)
	}
	// New packs are looked at as they are indexed.
	next, _ := s.pack("merger")
	if st = s.follow(); st.Packs != 6 {
		t.Errorf("followed: %+v", st)
	}
	check("followed", map[string]int{next: 2})
	// What is kept for ever is locked a year at a time, and again before that is over.
	s.policies = s.policies.With([]retention.Policy{policy("merger", "forever")})
	s.follow()
	check("for ever", map[string]int{all: 10})
	if got := s.lock(next).Until; !got.Equal(year(2)) {
		t.Errorf("for ever: %v", got)
	}
	s.now = s.now.AddDate(1, 8, 0)
	s.follow()
	if got := s.lock(next).Until; !got.Equal(s.now.Add(366 * 24 * time.Hour)) {
		t.Errorf("for ever, a year later: %v, want a year from %v", got, s.now)
	}
}

func TestFlagsThatNobodyAsksForAreCounted(t *testing.T) {
	s := newShelf(t)
	held, ids := s.pack("merger", "lunch")
	free, _ := s.pack("merger")
	for _, key := range []string{held, free} {
		if err := s.store.Hold(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	s.holds = []retention.Hold{{Name: "h", Members: record.NewIDs(ids[:1])}}
	if st := s.follow(); st.OverFlagged != 1 {
		t.Errorf("%+v, want 1 flag that no hold asks for", st)
	}
	s.holds = nil
	if st := s.follow(); st.OverFlagged != 2 {
		t.Errorf("after the release: %+v, want 2", st)
	}
}

// Whatever fails, wherever a run is cut off: the next one goes on, and all locks are what one run would have made of them. No lock is ever
// shortened.
func TestLengtheningGoesOn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	words := []string{"merger", "lunch", "trade", "encrypted"}
	keeps := []string{"1y", "2y", "5y", "10y", "forever", "90d"}
	for range 20 {
		s := newShelf(t)
		var keys []string
		for range 3 + rng.IntN(8) {
			var texts []string
			for range 1 + rng.IntN(6) {
				texts = append(texts, words[rng.IntN(len(words))])
			}
			key, _ := s.pack(texts...)
			keys = append(keys, key)
		}
		for range 3 {
			var list []retention.Policy
			for _, w := range words[:3] {
				if rng.IntN(2) == 0 {
					list = append(list, policy(w, keeps[rng.IntN(len(keeps))]))
				}
			}
			s.policies = s.policies.With(list)
			before := map[string]time.Time{}
			for _, key := range keys {
				before[key] = s.lock(key).Until
			}
			killed := errors.New("killed")
			calls := 0
			for at := 0; ; at++ {
				calls = 0
				s.fault = func(string) error {
					if calls++; calls > at {
						return killed
					}
					return nil
				}
				if err := s.open().Follow(t.Context()); err == nil {
					break
				} else if !errors.Is(err, killed) {
					t.Fatal(err)
				}
			}
			s.fault = func(string) error { return nil }
			for i, key := range keys {
				s.checkPack(keys[i], before[key])
			}
		}
	}
}

// checkPack holds the lock of a pack against a model: as far as half of its records need it, and never less than before.
func (s *shelf) checkPack(key string, before time.Time) {
	s.t.Helper()
	got := s.lock(key).Until
	if got.Before(before) {
		s.t.Errorf("%s was locked until %v, and is until %v", key, before, got)
	}
	records, short, long := 0, 0, 0
	for _, e := range s.entries {
		if e.Pack != key {
			continue
		}
		records++
		d := s.policies.Decide(s.index.docs[e.ID], nil, s.now)
		until := d.Until
		if d.Forever {
			until = s.now.Add(183 * 24 * time.Hour)
		}
		if got.Before(until) {
			short++
		}
		if !got.After(until) || d.Forever {
			long++
		}
	}
	if 2*short > records {
		s.t.Errorf("%s is locked until %v, and %d of its %d records are to be kept longer", key, got, short, records)
	}
	if got.After(before) && 2*long < records {
		s.t.Errorf("%s was extended from %v to %v, and only %d of its %d records need it", key, before, got, long, records)
	}
}
