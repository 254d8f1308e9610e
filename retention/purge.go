package retention

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Why nothing is destroyed. Nothing has changed then.
var (
	ErrNoPlan   = errors.New("no such plan")
	ErrStale    = errors.New("the plan has gone stale: policies, holds or records have changed since")
	ErrApproval = errors.New("the plan needs the approval of a second person")
	ErrApproved = errors.New("the plan is approved already")
	ErrNoPurge  = errors.New("no such purge")
)

// Rules is a digest of what is in force: policies, holds and erasures, but not the records that holds were applied to. A decision on a record,
// as it stands in its pack, is the same for as long as this is; it can only come to destroying by the days that pass.
func (s *State) Rules() record.Digest {
	type hold struct {
		Name, Query string
		Released    bool
	}
	v := struct {
		V        int
		Default  string
		Policies []PolicyDoc
		Holds    []hold
		Erasures []string
	}{V: record.Version, Default: s.PoliciesInForce().Default().Keep.String(), Erasures: s.granted()}
	for _, p := range s.PolicyDocs() {
		v.Policies = append(v.Policies, PolicyDoc{Name: p.Name, Query: p.Query, Keep: p.Keep, Start: p.Start})
	}
	for _, h := range s.HoldDocs() {
		v.Holds = append(v.Holds, hold{h.Name, h.Query, h.Released != nil})
	}
	text, err := json.Marshal(v)
	if err != nil { // strings and numbers: it can't
		panic(err)
	}
	return record.Sum(text)
}

// PlanDoc is what an act purge-plan says of a plan, by whom and when, and who approved it.
type PlanDoc struct {
	Plan    record.Digest `json:"plan"` // SHA-256 of the plan's text
	Log     string        `json:"log"`  // of the node whose packs it is about
	Rules   record.Digest `json:"rules"`
	Packs   int           `json:"packs"`
	Records uint64        `json:"records"` // to be destroyed
	Moved   uint64        `json:"moved"`   // to be put into other packs
	Bytes   int64         `json:"bytes"`   // of the messages to be destroyed

	By       record.Actor `json:"by,omitzero"`
	At       time.Time    `json:"at,omitzero"`
	Approved *Approval    `json:"approved,omitempty"`
}

// Approval says who approved a plan, and why.
type Approval struct {
	By     record.Actor `json:"by"`
	At     time.Time    `json:"at"`
	Reason string       `json:"reason"`
}

type planApproval struct {
	Plan   record.Digest `json:"plan"`
	Reason string        `json:"reason"`
}

// PackOrder names a pack that goes, and of its entries those whose records stay.
type PackOrder struct {
	Key    string        `json:"pack"`
	SHA256 record.Digest `json:"pack_sha256"`
	First  uint64        `json:"first"` // the entries of the log that name it
	Last   uint64        `json:"last"`
	Stay   [][2]uint64   `json:"stay,omitempty"` // runs of their numbers, first and last; none: the pack goes as a whole
}

// Stays says whether the record of an entry stays.
func (p *PackOrder) Stays(n uint64) bool {
	i, found := slices.BinarySearchFunc(p.Stay, n, func(run [2]uint64, n uint64) int {
		switch {
		case run[1] < n:
			return -1
		case run[0] > n:
			return 1
		}
		return 0
	})
	return found && p.Stay[i][0] <= n
}

// Staying counts the records that stay.
func (p *PackOrder) Staying() (n uint64) {
	for _, run := range p.Stay {
		n += run[1] - run[0] + 1
	}
	return n
}

// DestroyOrder is what an act destroying says: from here on these records are being destroyed.
type DestroyOrder struct {
	Plan  record.Digest `json:"plan"`
	Log   string        `json:"log"`
	Packs []PackOrder   `json:"packs"`
	IDs   record.IDs    `json:"ids"` // messages and acts
	Bytes int64         `json:"bytes"`
}

// Destroying is a DestroyOrder that is in force and not yet carried out.
type Destroying struct {
	DestroyOrder
	Act record.ID    `json:"act"`
	By  record.Actor `json:"by"`
	At  time.Time    `json:"at"`
}

// DestroyedDoc is what an act destroyed says, once an act destroying is carried out: the certificate rests on it.
type DestroyedDoc struct {
	Act     record.ID     `json:"act"` // destroying
	Plan    record.Digest `json:"plan"`
	Log     string        `json:"log"`
	Packs   []PackOrder   `json:"packs"`
	Records uint64        `json:"records"` // destroyed
	Moved   uint64        `json:"moved"`
	Bytes   int64         `json:"bytes"`
	Began   time.Time     `json:"began"`
	By      record.Actor  `json:"by"` // who had it destroyed
	Planned record.Actor  `json:"planned_by"`

	Approved *Approval `json:"approved,omitempty"`
	Ended    time.Time `json:"ended,omitzero"`
}

// purgeState is what the acts about destroying come to.
type purgeState struct {
	Plans      []*PlanDoc                `json:"plans"`      // the last of each log, and those that are being carried out
	Destroying map[string]*Destroying    `json:"destroying"` // by act
	Destroyed  []*DestroyedDoc           `json:"destroyed"`  // the newest last
	Erasures   map[string]*ErasureDoc    `json:"erasures"`   // by folded name
	granted    map[record.ID]*ErasureDoc // by record
}

func newPurgeState() purgeState {
	return purgeState{Destroying: map[string]*Destroying{}, Erasures: map[string]*ErasureDoc{}, granted: map[record.ID]*ErasureDoc{}}
}

// loaded makes again what is not in a snapshot.
func (p *purgeState) loaded() {
	fresh := newPurgeState()
	if p.Destroying == nil {
		p.Destroying = fresh.Destroying
	}
	if p.Erasures == nil {
		p.Erasures = fresh.Erasures
	}
	p.granted = fresh.granted
	for _, e := range p.Erasures {
		p.grant(e)
	}
}

// planned is how many plans are remembered; certified how many certificates are.
const planned, certified = 20, 1000

// applyPurge takes in an act about destroying.
func (s *State) applyPurge(act *record.Act) error {
	p := &s.purge
	switch act.Kind {
	case record.ActPurgePlan:
		d := &PlanDoc{}
		if err := act.Into(d); err != nil {
			return err
		}
		d.By, d.At, d.Approved = act.Actor, act.Time, nil
		p.Plans = append(p.Plans, d)
		if len(p.Plans) > planned {
			p.Plans = slices.Delete(p.Plans, 0, len(p.Plans)-planned)
		}
	case record.ActPurgeApprove:
		var d planApproval
		if err := act.Into(&d); err != nil {
			return err
		}
		for i, have := range p.Plans {
			if have.Plan == d.Plan {
				c := *have
				c.Approved = &Approval{By: act.Actor, At: act.Time, Reason: d.Reason}
				p.Plans[i] = &c
			}
		}
	case record.ActDestroy:
		d := &Destroying{Act: act.ID, By: act.Actor, At: act.Time}
		if err := act.Into(&d.DestroyOrder); err != nil {
			return err
		}
		p.Destroying[act.ID.String()] = d
	case record.ActDestroyed:
		d := &DestroyedDoc{}
		if err := act.Into(d); err != nil {
			return err
		}
		d.Ended = act.Time
		delete(p.Destroying, d.Act.String())
		if p.Destroyed = append(p.Destroyed, d); len(p.Destroyed) > certified {
			p.Destroyed = slices.Delete(p.Destroyed, 0, len(p.Destroyed)-certified)
		}
	default:
		return s.applyErasure(act)
	}
	return nil
}

// Plan finds one by its hash, or by a beginning of it that only one has.
func (s *State) Plan(hash string) (*PlanDoc, error) {
	var found *PlanDoc
	for _, p := range slices.Backward(s.purge.Plans) {
		if hash != "" && strings.HasPrefix(p.Plan.String(), strings.ToLower(hash)) {
			if found != nil && found.Plan != p.Plan {
				return nil, fmt.Errorf("%q: %w: more than one begin so", hash, ErrNoPlan)
			}
			if found == nil {
				found = p
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%q: %w", hash, ErrNoPlan)
	}
	return found, nil
}

// AnnouncePlan has it written down that a plan was made.
func (s *State) AnnouncePlan(d PlanDoc) (kind string, detail any, err error) {
	if d.Rules != s.Rules() {
		return "", nil, fmt.Errorf("plan %s: %w", d.Plan, ErrStale)
	}
	return record.ActPurgePlan, d, nil
}

// ApprovePlan approves the plan of this hash. Errors: ErrNoPlan, ErrStale, ErrSecond (by the one who made it), ErrApproved, ErrReason.
func (s *State) ApprovePlan(hash string, by record.Actor, reason string) (kind string, detail any, err error) {
	p, err := s.Plan(hash)
	if err != nil {
		return "", nil, err
	}
	reason = strings.TrimSpace(reason)
	switch {
	case p.Rules != s.Rules():
		return "", nil, fmt.Errorf("plan %s: %w", p.Plan, ErrStale)
	case p.By.ID == by.ID:
		return "", nil, fmt.Errorf("plan %s: %w", p.Plan, ErrSecond)
	case p.Approved != nil:
		return "", nil, fmt.Errorf("plan %s: %w, by %s", p.Plan, ErrApproved, p.Approved.By.ID)
	case reason == "":
		return "", nil, fmt.Errorf("approval of plan %s: %w", p.Plan, ErrReason)
	}
	return record.ActPurgeApprove, planApproval{p.Plan, reason}, nil
}

// Destroy says that the records of an order are being destroyed from here on. Errors: ErrNoPlan, ErrStale, ErrApproval.
func (s *State) Destroy(o DestroyOrder, fourEyes bool) (kind string, detail any, err error) {
	p, err := s.Plan(o.Plan.String())
	if err != nil {
		return "", nil, err
	}
	switch {
	case p.Rules != s.Rules() || p.Log != o.Log:
		return "", nil, fmt.Errorf("plan %s: %w", p.Plan, ErrStale)
	case fourEyes && p.Approved == nil:
		return "", nil, fmt.Errorf("plan %s: %w", p.Plan, ErrApproval)
	}
	for _, h := range s.Standing() {
		if n := len(o.IDs) - len(o.IDs.Minus(h.Members)); n > 0 {
			return "", nil, fmt.Errorf("plan %s: hold %q of matter %q was applied to %d of its records: %w", p.Plan, h.Name, h.Matter, n, ErrStale)
		}
	}
	return record.ActDestroy, o, nil
}

// Finish says that an order has been carried out. ErrNoPurge where that is said already.
func (s *State) Finish(act record.ID) (kind string, detail any, err error) {
	d := s.purge.Destroying[act.String()]
	if d == nil {
		return "", nil, fmt.Errorf("%s: %w", act, ErrNoPurge)
	}
	out := DestroyedDoc{Act: act, Plan: d.Plan, Log: d.Log, Packs: d.Packs, Bytes: d.Bytes, Began: d.At, By: d.By}
	for i := range d.Packs {
		p := &d.Packs[i]
		out.Moved += p.Staying()
		out.Records += p.Last - p.First + 1 - p.Staying()
	}
	if p, err := s.Plan(d.Plan.String()); err == nil {
		out.Planned, out.Approved = p.By, p.Approved
	}
	return record.ActDestroyed, out, nil
}

// Plans gives the plans of which there is word, the newest last.
func (s *State) Plans() []*PlanDoc { return slices.Clone(s.purge.Plans) }

// Destroying gives what is being destroyed, in the order of the acts.
func (s *State) Destroying() []*Destroying {
	return slices.SortedFunc(maps.Values(s.purge.Destroying), func(a, b *Destroying) int { return a.Act.Compare(b.Act) })
}

// BeingDestroyed gives those of these records that are being destroyed, or were just before: a hold comes too late for them.
func (s *State) BeingDestroyed(ids record.IDs) (late record.IDs) {
	for _, d := range s.purge.Destroying {
		late = late.Union(ids.Minus(ids.Minus(d.IDs)))
	}
	return late
}

// Destroyed gives what was destroyed, by act, the newest last.
func (s *State) Destroyed() []*DestroyedDoc { return slices.Clone(s.purge.Destroyed) }

// Certificate gives what was destroyed by an act: destroying. ErrNoPurge.
func (s *State) Certificate(act record.ID) (*DestroyedDoc, error) {
	for _, d := range s.purge.Destroyed {
		if d.Act == act {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", act, ErrNoPurge)
}

// ErasureDoc is a request to erase (GDPR 17), as it was recorded: what was found, and what was decided.
type ErasureDoc struct {
	ErasureOrder
	By      record.Actor     `json:"by"`
	At      time.Time        `json:"at"`
	Decided *ErasureDecision `json:"decided,omitempty"`
}

// ErasureOrder is what an act erase-ask says.
type ErasureOrder struct {
	Name   string     `json:"name"`
	Typed  string     `json:"typed"` // the query
	Query  string     `json:"query"` // canonical
	IDs    record.IDs `json:"ids"`   // what it found
	Reason string     `json:"reason"`
}

// ErasureDecision says what was decided, on what ground.
type ErasureDecision struct {
	Grant  bool         `json:"grant"`
	Ground string       `json:"ground"`
	By     record.Actor `json:"by"`
	At     time.Time    `json:"at"`
}

type erasureDecide struct {
	Name   string `json:"name"`
	Grant  bool   `json:"grant"`
	Ground string `json:"ground"`
}

// Why a request to erase is refused, or a decision on it. Nothing has changed then.
var (
	ErrNoErasure = errors.New("no such request to erase")
	ErrGround    = errors.New("a ground is missing")
	ErrDecided   = errors.New("it was decided already")
	ErrFound     = errors.New("nothing was found to erase")
)

// applyErasure takes in an act about a request to erase.
func (s *State) applyErasure(act *record.Act) error {
	switch act.Kind {
	case record.ActEraseAsk:
		e := &ErasureDoc{By: act.Actor, At: act.Time}
		if err := act.Into(&e.ErasureOrder); err != nil {
			return err
		}
		s.purge.Erasures[query.FoldSetName(e.Name)] = e
	case record.ActEraseDecide:
		var d erasureDecide
		if err := act.Into(&d); err != nil {
			return err
		}
		have := s.purge.Erasures[query.FoldSetName(d.Name)]
		if have == nil {
			return fmt.Errorf("%q: %w", d.Name, ErrNoErasure)
		}
		e := *have
		e.Decided = &ErasureDecision{Grant: d.Grant, Ground: d.Ground, By: act.Actor, At: act.Time}
		s.purge.Erasures[query.FoldSetName(e.Name)] = &e
		s.purge.grant(&e)
	}
	return nil
}

func (p *purgeState) grant(e *ErasureDoc) {
	if e.Decided == nil || !e.Decided.Grant {
		return
	}
	for _, id := range e.IDs {
		p.granted[id] = e
	}
}

// granted names the requests that were granted, in order.
func (s *State) granted() (names []string) {
	for _, e := range s.Erasures() {
		if e.Decided != nil && e.Decided.Grant {
			names = append(names, e.Name)
		}
	}
	return names
}

// Erasures gives all requests to erase, by name.
func (s *State) Erasures() []*ErasureDoc {
	return slices.SortedFunc(maps.Values(s.purge.Erasures), func(a, b *ErasureDoc) int { return strings.Compare(a.Name, b.Name) })
}

// ToErase gives what was granted, by record. It is a copy.
func (s *State) ToErase() map[record.ID]string {
	out := make(map[record.ID]string, len(s.purge.granted))
	for id, e := range s.purge.granted {
		out[id] = e.Name
	}
	return out
}

// AskErasure records a request. Errors: query.ErrSetName, ErrTaken, ErrReason, ErrFound.
func (s *State) AskErasure(o ErasureOrder) (kind string, detail any, err error) {
	if err := query.CheckSetName(o.Name); err != nil {
		return "", nil, err
	}
	if have := s.purge.Erasures[query.FoldSetName(o.Name)]; have != nil {
		return "", nil, fmt.Errorf("request %q: %w", have.Name, ErrTaken)
	}
	if o.Reason = strings.TrimSpace(o.Reason); o.Reason == "" {
		return "", nil, fmt.Errorf("request %q: %w", o.Name, ErrReason)
	}
	if len(o.IDs) == 0 {
		return "", nil, fmt.Errorf("request %q: %w", o.Name, ErrFound)
	}
	return record.ActEraseAsk, o, nil
}

// DecideErasure grants or refuses a request, on a ground. With fourEyes somebody else decides than who recorded it. Errors: ErrNoErasure,
// ErrDecided, ErrGround, ErrSecond.
func (s *State) DecideErasure(name string, by record.Actor, grant bool, ground string, fourEyes bool) (kind string, detail any, err error) {
	e := s.purge.Erasures[query.FoldSetName(name)]
	ground = strings.TrimSpace(ground)
	switch {
	case e == nil:
		return "", nil, fmt.Errorf("%q: %w", name, ErrNoErasure)
	case e.Decided != nil:
		return "", nil, fmt.Errorf("request %q: %w, by %s", e.Name, ErrDecided, e.Decided.By.ID)
	case ground == "":
		return "", nil, fmt.Errorf("request %q: %w", e.Name, ErrGround)
	case fourEyes && e.By.ID == by.ID:
		return "", nil, fmt.Errorf("request %q: %w", e.Name, ErrSecond)
	}
	return record.ActEraseDecide, erasureDecide{e.Name, grant, ground}, nil
}
