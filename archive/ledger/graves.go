package ledger

import (
	"context"
	"sync"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Graves knows which packs the tombstones of a log name. It reads the log once, and what has come since when it is asked for a pack that it does
// not know. Safe for concurrent use.
type Graves struct {
	reader *Reader

	mu    sync.Mutex
	next  uint64                   // guarded by mu: the entry that was not read yet
	packs map[string]record.Digest // guarded by mu
}

// NewGraves does no I/O.
func NewGraves(r *Reader) *Graves { return &Graves{reader: r, packs: map[string]record.Digest{}} }

// Gone says whether a pack was destroyed by an act.
func (g *Graves) Gone(ctx context.Context, key string, sum record.Digest) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if have, ok := g.packs[key]; ok {
		return have == sum, nil
	}
	_, err := g.read(ctx)
	return g.packs[key] == sum, err
}

// Fresh gives the tombstones that no Fresh or Gone has read before.
func (g *Graves) Fresh(ctx context.Context) ([]record.Gone, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.read(ctx)
}

func (g *Graves) read(ctx context.Context) (fresh []record.Gone, err error) {
	for c, err := range g.reader.Commits(ctx, g.next) {
		if err != nil {
			return fresh, err
		}
		for i := range c.Entries {
			if e := &c.Entries[i]; e.N >= g.next && e.Entry.Gone != nil {
				fresh = append(fresh, *e.Entry.Gone)
				g.packs[e.Entry.Gone.Pack] = e.Entry.Gone.PackSHA256
			}
		}
		g.next = c.end()
	}
	return fresh, nil
}
