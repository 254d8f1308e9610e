package archive

import (
	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Two processes that both believe they are one node count the same sequences. The ledger is spared by its commits: one of them wins, the
// other stops. But in the spool of the loser there are records whose numbers the ledger has given to others by the time it starts again.
// They are mail like any other, so they are archived; a number that another record bears they can't have, so their entries have none.
// What a sequence is for, to show that nothing was lost between spool and ledger, is answered for them by their being there.

// findForeign remembers which sequences the ledger accounts for at this start, and takes them from the entries of packs that were sealed
// before it and have not been committed.
func (a *Archive) findForeign() (err error) {
	a.atStart = a.log.Head().Size
	if a.taken, err = a.catalog.sequences(a.log.Name()); err != nil {
		return err
	}
	for _, s := range a.former {
		if known, err := a.committed(s); err != nil {
			return err
		} else if known {
			continue
		}
		count := 0
		for i := range s.Entries {
			if e := &s.Entries[i]; e.Seq > 0 && a.taken.Contains(e.Seq) {
				e.Seq = 0
				count++
			}
		}
		if count > 0 {
			a.alarmForeign("pack", s.Key, "records", count)
		}
	}
	return nil
}

// Foreign says whether an item out of custody bears a sequence that the ledger, when this node started, had given to another record: what
// is known by that sequence is not this item.
func (a *Archive) Foreign(it *record.Item) (bool, error) {
	if d := it.Drop; d != nil {
		if d.First > d.Last || d.Last == 0 {
			return false, nil
		}
		r := roaring64.New()
		r.AddRange(d.First, d.Last+1)
		if !r.Intersects(a.taken) {
			return false, nil
		}
		known, err := a.catalog.has(a.log.Name(), it)
		return !known, err
	}
	if it.Seq == 0 || !a.taken.Contains(it.Seq) {
		return false, nil
	}
	if known, err := a.catalog.has(a.log.Name(), droppedFrom(it)); known || err != nil {
		return false, err
	}
	p, ok, err := a.catalog.find(it.ID, "")
	return err == nil && !(ok && p.Number < a.atStart), err
}

// withoutSequence is a foreign item as it is archived.
func (a *Archive) withoutSequence(it *record.Item) *record.Item {
	if it.Drop != nil {
		return it // it accounts for what is accounted for: no harm
	}
	a.alarmForeign("record", it.ID, "sequence", it.Seq)
	other := *it
	other.Seq = 0
	return &other
}

func (a *Archive) alarmForeign(args ...any) {
	a.slog.Error("another process has written the log of this node and used sequences of this spool: is there a second node of this name? "+
		"The mail is archived without them", append(args, "log", a.log.Name())...)
}
