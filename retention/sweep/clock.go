package sweep

import (
	"context"
	"fmt"
	"time"
)

// most is by how much two clocks may differ that agree: a store tells its time to the second, and an answer takes its time.
const most = 2 * time.Minute

// clockKey is the object by which a store tells its time. It is written anew before anything is destroyed.
func clockKey(node string) string { return "state/clock-" + node }

// checkClock gives the time, once it is known that this node's clock can be trusted with destroying: it was not set since the process began, it
// is not before the newest entry of the ledger, and it agrees with the clock of the store. ErrClock. A store in a folder has this machine's
// own clock, unless the folder is another machine's.
func (s *Sweep) checkClock(ctx context.Context) (time.Time, error) {
	now := s.o.Now()
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrClock}, args...)...)
	}
	if wall, ran := now.Round(0).Sub(s.started.Round(0)), now.Sub(s.started); (wall - ran).Abs() > most {
		return now, refuse("it was set by %s since this process began; where it is right now, start the node again", (wall - ran).Round(time.Second))
	}
	for what, newest := range map[string]time.Time{"entry of the ledger": s.o.Archive.Newest(), "act": s.newestAct()} {
		if now.Before(newest.Add(-most)) {
			return now, refuse("it says %s, and the newest %s is of %s", now.UTC().Format(time.RFC3339), what, newest.UTC().Format(time.RFC3339))
		}
	}
	if err := s.o.Store.Replace(ctx, clockKey(s.o.Node), []byte(now.UTC().Format(time.RFC3339Nano)+"\n")); err != nil {
		return now, fmt.Errorf("ask the store for its time: %w", err)
	}
	info, err := s.o.Store.Stat(ctx, clockKey(s.o.Node))
	if err != nil {
		return now, fmt.Errorf("ask the store for its time: %w", err)
	}
	if off := info.Time.Sub(now); off.Abs() > most {
		return now, refuse("it says %s, and the store %s", now.UTC().Format(time.RFC3339), info.Time.UTC().Format(time.RFC3339))
	}
	return now, nil
}

// newestAct is the time of the newest thing that was planned, being destroyed or destroyed.
func (s *Sweep) newestAct() (newest time.Time) {
	later := func(t time.Time) {
		if t.After(newest) {
			newest = t
		}
	}
	s.o.Book.Read(func() { // what can't be read stops a purge elsewhere
		for _, p := range s.o.Rules.Plans() {
			later(p.At)
		}
		for _, h := range s.o.Rules.HoldDocs() {
			later(h.At)
		}
		for _, p := range s.o.Rules.PolicyDocs() {
			later(p.At)
		}
	})
	return newest
}
