package sweep

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/retention"
)

// verdict is what was decided on one record.
type verdict struct {
	keep    bool
	until   time.Time // where no hold keeps it; zero: for ever
	held    bool
	erased  bool   // a request to erase it was granted, and no hold keeps it
	why     string // what keeps it, or by what its time is over: "policy NAME", "hold NAME", "erasure NAME", "act"
	follows bool   // a late supplement: it goes with its message
	size    int64  // of the message, bytes
}

// decided is a pack that is due, and what was decided on each of its records.
type decided struct {
	*archive.Packed
	verdicts []verdict
	early    bool      // its month has not come: only what is to be erased goes
	whole    time.Time // from then on it may go in part
	spare    string    // why it stays as a whole; nothing was decided then
	until    time.Time // of a lock that spares it
}

// decider decides by one set of rules.
type decider struct {
	*Sweep
	rules
	now     time.Time
	custody uint64 // Options.Custody
}

// simple says that no policy and no hold asks for more than who a record is.
func (d *decider) simple() bool { return len(d.policies.All()) == 0 && len(d.holds) == 0 }

// record decides on one record. Of a message no more is read than is needed to be sure.
func (d *decider) record(ctx context.Context, it *record.Item) (verdict, error) {
	switch {
	case it.Kind == record.KindSupplement:
		return verdict{follows: true}, nil
	case it.Act != nil:
		until := retention.ActPeriod.After(it.Act.Time)
		return verdict{keep: d.now.Before(until), until: until, why: "act"}, nil
	case it.Envelope == nil:
		return verdict{}, fmt.Errorf("%s %s has no envelope: %w", it.Kind, it.ID, archive.ErrAltered)
	}
	late, err := d.o.Archive.Late(it.ID)
	if err != nil {
		return verdict{}, err
	}
	if late > 0 { // with all that is known of it
		s, err := d.o.Archive.Fetch(ctx, it.ID)
		if err != nil {
			return verdict{}, err
		}
		full := *it
		full.Supplements = s.Item.Supplements
		it = &full
	}
	v := d.judge(it)
	v.size = it.Envelope.Size
	if name, ok := d.erase[it.ID]; ok && !v.held {
		v.erased = true
		if v.keep {
			v.keep, v.why = false, "erasure "+name
		}
	}
	return v, nil
}

// streamed is from which size on, in bytes, a message in a pack can be read once only.
const streamed = 1 << 20

func (d *decider) judge(it *record.Item) verdict {
	switch {
	case d.simple():
		bare := *it
		bare.Body = nil
		return d.of(d.policies.Decide(d.o.Header(&bare), nil, d.now))
	case it.Envelope.Size < streamed:
		if quick := d.policies.Decide(d.o.Header(it), d.holds, d.now); d.sure(&quick) {
			return d.of(quick)
		}
	}
	return d.of(d.policies.Decide(d.o.Document(it), d.holds, d.now))
}

// sure says that to read more of a record can't change whether it is kept now. By reading more, what counts unsurely comes to count surely or
// not at all; and the default, which counts unless another does surely, may fall away.
func (d *decider) sure(q *retention.Decision) bool {
	if !q.Keep {
		return true
	}
	unsure := false
	for _, h := range q.Holds {
		if !h.Unsure {
			return true
		}
		unsure = true
	}
	for _, p := range q.Policies {
		switch {
		case p.Unsure:
			unsure = true
		case query.FoldSetName(p.Name) != retention.DefaultName && (p.Forever || d.now.Before(p.Until)):
			return true
		}
	}
	return !unsure
}

// of is a decision as a verdict.
func (d *decider) of(q retention.Decision) verdict {
	v := verdict{keep: q.Keep, until: q.Until, held: len(q.Holds) > 0}
	switch {
	case v.held:
		v.why = "hold " + q.Holds[0].Name
	default:
		v.why = "policy " + q.Policies[0].Name
	}
	return v
}

// due decides on all packs of this node that may be due, and gives them in the order of the log. It ends at the first error. A pack that is
// not what the ledger says is spared.
func (d *decider) due(ctx context.Context, yield func(*decided) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		pack *decided
		err  error
	}
	workers := runtime.GOMAXPROCS(0)
	queue := make(chan chan result, workers)
	go func() {
		defer close(queue)
		slots := make(chan struct{}, workers)
		for p, err := range d.o.Archive.EachPack(ctx, 0) {
			out := make(chan result, 1)
			pack := &decided{Packed: p}
			if err == nil && !d.mayGo(pack) {
				continue
			}
			select {
			case queue <- out:
			case <-ctx.Done():
				return
			}
			if err != nil {
				out <- result{err: err}
				return
			}
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				out <- result{pack, d.pack(ctx, pack)}
			}()
		}
	}()
	for out := range queue {
		r := <-out
		if r.err != nil {
			return r.err
		}
		if err := yield(r.pack); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// mayGo says whether a pack is to be looked at: its month has come, or something in it is to be erased.
func (d *decider) mayGo(p *decided) bool {
	from, end, ok := p.Month()
	if !ok {
		return false // a key that is not ours
	}
	p.whole = end
	if !d.now.Before(from) {
		return true
	}
	p.early = true
	for i := range p.Entries {
		if _, ok := d.erase[p.Entries[i].Entry.ID]; ok {
			return true
		}
	}
	return false
}

// pack decides on the records of a pack.
func (d *decider) pack(ctx context.Context, p *decided) error {
	for i := range p.Entries {
		if p.Entries[i].Entry.Seq >= d.custody {
			p.spare = "custody"
			return nil
		}
	}
	if d.o.Locks {
		info, err := d.o.Store.Stat(ctx, p.Key)
		switch {
		case errors.Is(err, object.ErrNotFound):
			p.spare = "missing"
			return nil
		case err != nil:
			return err
		case info.Lock.Until.After(d.now):
			p.spare, p.until = "lock", info.Lock.Until
			return nil
		}
	}
	p.verdicts = make([]verdict, len(p.Entries))
	err := d.o.Archive.ReadPack(ctx, p.Packed, func(i int, it *record.Item) (err error) {
		p.verdicts[i], err = d.record(ctx, it)
		return err
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case archive.Damaged(err), errors.Is(err, object.ErrMismatch):
		d.o.Log.Error("a pack can't be read as the ledger has it: all of it is kept", "pack", p.Key, "err", err)
		p.spare, p.verdicts = "unreadable", nil
		return nil
	}
	return err
}
