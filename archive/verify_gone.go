package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// What was destroyed is accounted for like what is there. A pack that is absent must have a tombstone that names it by key, SHA-256 and
// entries; each of these entries' records was either moved, by an entry of its own, or destroyed, and the tombstone says how many were; and the
// act that it names must stand in the log of acts.

// absent is a pack that entries name and that is not there.
type absent struct {
	log, key    string
	sum         record.Digest
	first, last uint64
}

// goneness is what the logs say of packs that are gone. It is for the goroutine that reads the logs.
type goneness struct {
	acts   map[record.ID]bool // of kind record.ActDestroy, in the log of acts
	seen   map[string]uint64  // by log: how many of its entries have been read
	graves map[string]map[string]*grave
	moved  map[string]*roaring64.Bitmap // by log: numbers of the entries whose records were moved
}

// grave is the tombstone of one pack.
type grave struct {
	n     uint64
	entry record.Entry
}

func (g *goneness) take(log string, c *ledger.Commit) {
	if g.acts == nil {
		g.acts, g.seen = map[record.ID]bool{}, map[string]uint64{}
		g.graves, g.moved = map[string]map[string]*grave{}, map[string]*roaring64.Bitmap{}
	}
	for i := range c.Entries {
		e := &c.Entries[i].Entry
		switch {
		case log == LogActs && e.Kind == record.KindAct && e.Name == record.ActDestroy:
			g.acts[e.ID] = true
		case e.Gone != nil:
			if g.graves[log] == nil {
				g.graves[log] = map[string]*grave{}
			}
			g.graves[log][e.Gone.Pack] = &grave{c.Entries[i].N, *e}
		case e.Moved != nil:
			if g.moved[log] == nil {
				g.moved[log] = roaring64.New()
			}
			g.moved[log].Add(e.Moved.Entry)
		}
	}
	g.seen[log] = c.Header.First + uint64(len(c.Entries))
}

// movedOf counts the entries of a tombstone whose records were moved.
func (g *goneness) movedOf(log string, t *record.Gone) uint64 {
	m := g.moved[log]
	if m == nil || t.First > t.Last {
		return 0
	}
	n := m.Rank(t.Last)
	if t.First > 0 {
		n -= m.Rank(t.First - 1)
	}
	return n
}

// accountForGone looks at what is absent and at what is said to be gone, once all packs have been read. What was committed meanwhile, by a
// node that destroys beside us, counts too.
func (v *verification) accountForGone(ctx context.Context) error {
	if v.unexplained() {
		for _, log := range v.logs {
			if err := v.readOn(ctx, log); err != nil {
				return err
			}
		}
	}
	gone := map[string]bool{}
	for _, a := range v.absent {
		grave := v.gone.graves[a.log][a.key]
		if grave == nil {
			v.missing(a.key, fmt.Errorf("entries %d to %d of %s name it", a.first, a.last, a.log))
			continue
		}
		gone[a.key] = true
		if t := grave.entry.Gone; t.PackSHA256 != a.sum || t.First > a.first || t.Last < a.last {
			v.add(&v.report.Unaccounted, a.key, fmt.Errorf("entries %d to %d of %s name it with SHA-256 %s; tombstone %d is of entries %d to %d and %s",
				a.first, a.last, a.log, a.sum, grave.n, t.First, t.Last, t.PackSHA256))
		}
	}
	for log, graves := range v.gone.graves {
		for key, grave := range graves {
			t := grave.entry.Gone
			moved := v.gone.movedOf(log, t)
			v.report.Purged += t.Destroyed
			v.report.Moved += moved
			switch {
			case t.First > t.Last || moved+t.Destroyed != t.Last-t.First+1:
				v.add(&v.report.Unaccounted, key, fmt.Errorf("of the entries %d to %d of %s, %d were destroyed and %d moved, by tombstone %d",
					t.First, t.Last, log, t.Destroyed, moved, grave.n))
			case !v.gone.acts[grave.entry.ID]:
				v.add(&v.report.Unaccounted, key, fmt.Errorf("tombstone %d of %s names act %s, and there is no such act", grave.n, log, grave.entry.ID))
			case !gone[key]:
				v.add(&v.report.Behind, key, errors.New("it has a tombstone and is not gone yet: the next purge goes on"))
			}
		}
	}
	return nil
}

// unexplained says that something is to be looked up in what was committed since.
func (v *verification) unexplained() bool {
	for _, a := range v.absent {
		if v.gone.graves[a.log][a.key] == nil {
			return true
		}
	}
	for _, graves := range v.gone.graves {
		for _, grave := range graves {
			if !v.gone.acts[grave.entry.ID] {
				return true
			}
		}
	}
	return false
}

// readOn takes in what a log has grown by.
func (v *verification) readOn(ctx context.Context, log string) error {
	r, err := ledger.NewReader(ledger.Config{Store: v.Store, Log: log, Archive: v.archive, Verifier: v.Keys.verifierKey})
	if err != nil {
		return nil // it was found wanting already
	}
	for c, err := range r.Commits(ctx, v.gone.seen[log]) {
		if isFault(err) {
			return nil // likewise, or the next verification tells
		}
		if err != nil {
			return err
		}
		v.gone.take(log, c)
	}
	return nil
}
