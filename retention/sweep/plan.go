package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/retention"
)

// Plan is what would be destroyed, and why. Its hash is the SHA-256 of its text, which is its JSON and a newline.
type Plan struct {
	V       int           `json:"v"`
	Node    string        `json:"node"`
	Log     string        `json:"log"`
	At      time.Time     `json:"at"`
	Rules   record.Digest `json:"rules"`   // what was in force: retention.State.Rules
	Entries uint64        `json:"entries"` // of the log, as far as was decided on
	Packs   []PackPlan    `json:"packs"`
	Records uint64        `json:"records"` // to be destroyed: messages, their supplements, acts
	Moved   uint64        `json:"moved"`   // that lie in the same packs and stay
	Bytes   int64         `json:"bytes"`   // of the messages to be destroyed
	Due     []Count       `json:"due"`     // by what their time is over
	Spared  []Count       `json:"spared"`  // what lies in packs that are due, and by what it is kept
}

// PackPlan is a pack that goes.
type PackPlan struct {
	retention.PackOrder
	Bytes int64 `json:"bytes"` // of its messages to be destroyed
}

// Count is how many records there are for one reason. By is "policy NAME", "hold NAME", "erasure NAME", "act"; what else spares: "lock" (of
// the store), "month" (of the pack, which goes in part only when it is over), "message" (of a supplement), "custody", "unreadable", "missing".
type Count struct {
	By      string    `json:"by"`
	Records uint64    `json:"records"`
	Packs   uint64    `json:"packs"`
	Until   time.Time `json:"until,omitzero"` // of locks, the last
}

// Hash is what an approval is bound to.
func (p *Plan) Hash() record.Digest { return record.Sum(p.text()) }

func (p *Plan) text() []byte {
	text, err := json.Marshal(p)
	if err != nil { // strings, numbers and times of this era: it can't
		panic(err)
	}
	return append(text, '\n')
}

// planner makes a plan of what was decided, pack by pack in the order of the log.
type planner struct {
	*decider
	plan   Plan
	going  map[record.ID]bool // messages that the plan destroys
	due    map[string]*Count
	spared map[string]*Count
}

// note counts one record of a pack for a reason.
func note(m map[string]*Count, why string, seen map[*Count]bool) {
	c := m[why]
	if c == nil {
		c = &Count{By: why}
		m[why] = c
	}
	c.Records++
	if !seen[c] {
		seen[c] = true
		c.Packs++
	}
}

func (p *planner) spare(d *decided) {
	seen := map[*Count]bool{}
	for range d.Entries {
		note(p.spared, d.spare, seen)
	}
	if c := p.spared[d.spare]; d.until.After(c.Until) {
		c.Until = d.until.UTC()
	}
}

// take plans for one pack.
func (p *planner) take(d *decided) error {
	if d.spare != "" {
		p.spare(d)
		return nil
	}
	goes := make([]bool, len(d.Entries))
	here := map[record.ID]bool{}
	erased := false
	for i := range d.verdicts {
		if v := &d.verdicts[i]; !v.follows {
			goes[i] = !v.keep && (!d.early || v.erased)
			if goes[i] {
				here[d.Entries[i].Entry.ID] = true
				erased = erased || v.erased
			}
		}
	}
	for i := range d.verdicts {
		v, id := &d.verdicts[i], d.Entries[i].Entry.ID
		if !v.follows {
			continue
		}
		gone, err := p.o.Archive.Gone(id)
		if err != nil {
			return err
		}
		if goes[i] = gone || here[id] || p.going[id]; !goes[i] {
			v.why = "message"
		} else {
			v.why = "its message"
			erased = erased || d.early
		}
	}
	p.settle(d, goes, erased)
	return nil
}

// settle adds a pack to the plan, or spares it: it goes in part only once its month is over, unless for an erasure.
func (p *planner) settle(d *decided, goes []bool, erased bool) {
	count := 0
	for _, g := range goes {
		if g {
			count++
		}
	}
	partly := count < len(goes)
	wait := count > 0 && partly && !erased && !d.whole.IsZero() && p.now.Before(d.whole)
	seen := map[*Count]bool{}
	one := PackPlan{PackOrder: retention.PackOrder{Key: d.Key, SHA256: d.SHA256, First: d.First(), Last: d.Last()}}
	for i, g := range goes {
		v, n := &d.verdicts[i], d.Entries[i].N
		switch {
		case g && !wait:
			note(p.due, v.why, seen)
			one.Bytes += v.size
			if !v.follows {
				p.going[d.Entries[i].Entry.ID] = true
			}
			continue
		case g || !v.keep && !v.follows:
			note(p.spared, "month", seen)
		default:
			note(p.spared, v.why, seen)
		}
		if k := len(one.Stay) - 1; k >= 0 && one.Stay[k][1]+1 == n {
			one.Stay[k][1] = n
		} else {
			one.Stay = append(one.Stay, [2]uint64{n, n})
		}
	}
	if count == 0 || wait {
		return
	}
	p.plan.Packs = append(p.plan.Packs, one)
	p.plan.Records += uint64(count)
	p.plan.Moved += one.Staying()
	p.plan.Bytes += one.Bytes
}

func counts(m map[string]*Count) []Count {
	list := []Count{}
	for _, c := range m {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Count) int { return strings.Compare(a.By, b.By) })
	return list
}

// decide makes a plan. Nothing is written.
func (s *Sweep) decide(ctx context.Context) (*Plan, error) {
	now := s.o.Now().UTC()
	in, err := s.rules()
	if err != nil {
		return nil, err
	}
	d := &decider{Sweep: s, rules: in, now: now, custody: math.MaxUint64}
	if s.o.Custody != nil {
		d.custody = s.o.Custody()
	}
	log := s.o.Archive.Log()
	p := &planner{decider: d, going: map[record.ID]bool{}, due: map[string]*Count{}, spared: map[string]*Count{}, plan: Plan{
		V: record.Version, Node: s.o.Node, Log: log, At: now, Rules: in.digest, Entries: s.o.Archive.Size(log), Packs: []PackPlan{},
	}}
	if err := d.due(ctx, p.take); err != nil {
		return nil, fmt.Errorf("decide: %w", err)
	}
	p.plan.Due, p.plan.Spared = counts(p.due), counts(p.spared)
	return &p.plan, nil
}

// Plan decides, keeps the plan here and has it written down, on behalf of somebody. Errors: ErrClock, retention.ErrStale (what is in force
// changed meanwhile), those of reading and of acts.
func (s *Sweep) Plan(ctx context.Context, by record.Actor) (*Plan, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.makePlan(ctx, by)
}

func (s *Sweep) makePlan(ctx context.Context, by record.Actor) (*Plan, error) {
	if _, err := s.checkClock(ctx); err != nil {
		return nil, err
	}
	plan, err := s.decide(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.save(plan); err != nil {
		return nil, err
	}
	doc := retention.PlanDoc{Plan: plan.Hash(), Log: plan.Log, Rules: plan.Rules, Packs: len(plan.Packs), Records: plan.Records, Moved: plan.Moved, Bytes: plan.Bytes}
	if _, err := s.o.Book.Do(ctx, by, func() (string, any, error) { return s.o.Rules.AnnouncePlan(doc) }); err != nil {
		return nil, err
	}
	return plan, nil
}

// Approve approves the plan of this hash. Errors as retention.State.ApprovePlan's.
func (s *Sweep) Approve(ctx context.Context, by record.Actor, hash, reason string) (*record.Act, error) {
	return s.o.Book.Do(ctx, by, func() (string, any, error) { return s.o.Rules.ApprovePlan(hash, by, reason) })
}

func (s *Sweep) planFile(hash record.Digest) string {
	return filepath.Join(s.o.Dir, "plan-"+hash.String()[:16]+".json")
}

// save keeps a plan until it is carried out. Those that came before it go.
func (s *Sweep) save(p *Plan) error {
	if err := os.MkdirAll(s.o.Dir, 0o700); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(s.o.Dir, "plan-*.json"))
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	path := s.planFile(p.Hash())
	if err := writeFile(path, p.text()); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	for _, name := range old {
		if name != path {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("plan: %w", err)
			}
		}
	}
	return nil
}

// load reads a plan that is kept here. retention.ErrNoPlan where it is not, or not as it was.
func (s *Sweep) load(hash record.Digest) (*Plan, error) {
	text, err := os.ReadFile(s.planFile(hash))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if err != nil || record.Sum(text) != hash {
		return nil, fmt.Errorf("plan %s is not kept on this node: %w", hash, retention.ErrNoPlan)
	}
	p := &Plan{}
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("plan %s: %w", hash, err)
	}
	return p, nil
}

// writeFile writes a whole file: write, fsync, rename, fsync folder.
func writeFile(path string, text []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
