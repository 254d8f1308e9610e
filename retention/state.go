package retention

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Why something is refused. Nothing has changed then.
var (
	ErrNoPolicy = errors.New("no such policy")
	ErrNoHold   = errors.New("no such hold")
	ErrTaken    = errors.New("the name is taken")
	ErrReason   = errors.New("a reason is missing")
	ErrReleased = errors.New("the hold was released already")
	ErrAnothers = errors.New("the hold was placed by somebody else")
	ErrSecond   = errors.New("a second person must confirm it, other than the one who asked")
	ErrNothing  = errors.New("nothing would change")
	ErrDeclared = errors.New("it is declared in the configuration")
)

// Parser reads the canonical form of a query.
type Parser func(canonical string) (query.Query, error)

// State is what the acts about policies and holds come to. It is an audit.Fold, and safe for concurrent use as that says; PoliciesInForce
// and HoldsInForce by themselves.
type State struct {
	parse    Parser
	base     *Policies
	def      *PolicyDoc            // what acts say of the default; nil: nothing, and that of base counts
	policies map[string]*PolicyDoc // by folded name
	holds    map[string]*HoldDoc   // by folded name; released ones too

	purge purgeState

	inForce atomic.Pointer[Policies]
	holding atomic.Pointer[[]Hold]
}

// NewState makes the state before the first act. base has the default.
func NewState(base *Policies, parse Parser) *State {
	s := &State{parse: parse, base: base}
	s.reset()
	return s
}

func (s *State) reset() {
	s.purge = newPurgeState()
	s.def, s.policies, s.holds = nil, map[string]*PolicyDoc{}, map[string]*HoldDoc{}
	s.inForce.Store(s.base)
	s.renewHolds()
}

// PolicyDoc is a policy as it was set: what an act policy-set says, and by whom and when.
type PolicyDoc struct {
	Name   string `json:"name"`
	Query  string `json:"query"` // canonical
	Keep   string `json:"keep"`
	Start  Start  `json:"start"`
	Reason string `json:"reason"`

	By   record.Actor `json:"by,omitzero"`
	At   time.Time    `json:"at,omitzero"`
	Node string       `json:"node,omitempty"` // where it was set
}

// nameOnly is what acts say that speak of something by its name.
type nameOnly struct {
	Name   string `json:"name"`
	Reason string `json:"reason,omitempty"`
}

// HoldOrder is what an act hold-place says.
type HoldOrder struct {
	Name       string   `json:"name"`
	Matter     string   `json:"matter"`
	Custodians []string `json:"custodians,omitempty"` // names, as the matter has them
	Typed      string   `json:"typed,omitempty"`      // the query of the person who placed it
	Query      string   `json:"query"`                // canonical: custodians and query together
	Reason     string   `json:"reason"`
}

// HoldDoc is a hold as it was placed, by whom and when, and what became of it.
type HoldDoc struct {
	HoldOrder
	By       record.Actor `json:"by"`
	At       time.Time    `json:"at"`
	Asked    *ReleaseDoc  `json:"release_asked,omitempty"` // by the first of two persons
	Released *ReleaseDoc  `json:"released,omitempty"`
	Records  int          `json:"records"`           // to which it was applied
	Members  record.IDs   `json:"members,omitempty"` // these
	parsed   query.Query
}

// ReleaseDoc says who released a hold, or asked for it, and why.
type ReleaseDoc struct {
	Reason string       `json:"reason"`
	By     record.Actor `json:"by"`
	At     time.Time    `json:"at"`
}

// holdApply is what an act hold-apply says.
type holdApply struct {
	Name string     `json:"name"`
	IDs  record.IDs `json:"ids"`
}

// Apply takes in one act.
func (s *State) Apply(act *record.Act) error {
	switch act.Kind {
	case record.ActPolicySet:
		p := &PolicyDoc{}
		if err := act.Into(p); err != nil {
			return err
		}
		p.By, p.At, p.Node = act.Actor, act.Time, act.Node
		if query.FoldSetName(p.Name) == DefaultName {
			s.def = p
			return s.renew()
		}
		s.policies[query.FoldSetName(p.Name)] = p
		return s.renew()
	case record.ActPolicyRemove:
		var d nameOnly
		if err := act.Into(&d); err != nil {
			return err
		}
		delete(s.policies, query.FoldSetName(d.Name))
		return s.renew()
	case record.ActHoldPlace:
		h := &HoldDoc{}
		if err := act.Into(h); err != nil {
			return err
		}
		h.By, h.At = act.Actor, act.Time
		return s.addHold(h)
	case record.ActHoldApply:
		var d holdApply
		if err := act.Into(&d); err != nil {
			return err
		}
		h, err := s.hold(d.Name)
		if err != nil {
			return err
		}
		s.change(h, func(h *HoldDoc) { h.Members = h.Members.Union(d.IDs) })
	case record.ActHoldReleaseAsk, record.ActHoldRelease:
		var d nameOnly
		if err := act.Into(&d); err != nil {
			return err
		}
		h, err := s.hold(d.Name)
		if err != nil {
			return err
		}
		r := &ReleaseDoc{Reason: d.Reason, By: act.Actor, At: act.Time}
		s.change(h, func(h *HoldDoc) {
			if act.Kind == record.ActHoldRelease {
				h.Released = r
			} else {
				h.Asked = r
			}
		})
	default:
		return s.applyPurge(act)
	}
	return nil
}

// change puts a changed copy in the place of a hold: others may be reading the one that is there.
func (s *State) change(h *HoldDoc, how func(*HoldDoc)) {
	c := *h
	how(&c)
	c.Records = len(c.Members)
	s.holds[query.FoldSetName(c.Name)] = &c
	s.renewHolds()
}

func (s *State) addHold(h *HoldDoc) error {
	h.parsed = s.read(h.Query)
	h.Records = len(h.Members)
	s.holds[query.FoldSetName(h.Name)] = h
	s.renewHolds()
	return nil
}

// read gives the query of a text. What can't be read (it is of a later version) is nil, which keeps.
func (s *State) read(canonical string) query.Query {
	q, err := s.parse(canonical)
	if err != nil {
		return nil
	}
	return q
}

// renew makes the policies in force of what was set.
func (s *State) renew() error {
	var list []Policy
	for _, d := range s.policies {
		keep, err := ParsePeriod(d.Keep)
		if err != nil {
			return fmt.Errorf("policy %q: %w", d.Name, err)
		}
		start, err := ParseStart(string(d.Start))
		if err != nil {
			return fmt.Errorf("policy %q: %w", d.Name, err)
		}
		list = append(list, Policy{Name: d.Name, Query: s.read(d.Query), Keep: keep, Start: start})
	}
	base := s.base
	if s.def != nil {
		keep, err := ParsePeriod(s.def.Keep)
		if err != nil {
			return fmt.Errorf("policy %q: %w", DefaultName, err)
		}
		base = base.withDefault(keep)
	}
	s.inForce.Store(base.With(list))
	return nil
}

// saved is the state in a snapshot.
type saved struct {
	Default  *PolicyDoc   `json:"default,omitempty"`
	Policies []*PolicyDoc `json:"policies"`
	Holds    []*HoldDoc   `json:"holds"`
	Purge    purgeState   `json:"purge"`
}

// Save gives all of the state.
func (s *State) Save() (json.RawMessage, error) {
	return json.Marshal(saved{s.def, s.PolicyDocs(), s.HoldDocs(), s.purge})
}

// Load takes a state in again; nil is the one before the first act.
func (s *State) Load(state json.RawMessage) error {
	s.reset()
	if state == nil {
		return nil
	}
	var v saved
	if err := json.Unmarshal(state, &v); err != nil {
		return err
	}
	s.def = v.Default
	for _, p := range v.Policies {
		s.policies[query.FoldSetName(p.Name)] = p
	}
	s.purge = v.Purge
	s.purge.loaded()
	for _, h := range v.Holds {
		if err := s.addHold(h); err != nil {
			return err
		}
	}
	return s.renew()
}

// PoliciesInForce gives them as far as acts have been read.
func (s *State) PoliciesInForce() *Policies { return s.inForce.Load() }

// PolicyDocs gives what was set and not removed, by name.
func (s *State) PolicyDocs() []*PolicyDoc {
	return slices.SortedFunc(maps.Values(s.policies), func(a, b *PolicyDoc) int { return strings.Compare(a.Name, b.Name) })
}

// HoldDocs gives all holds, by name, released ones too.
func (s *State) HoldDocs() []*HoldDoc {
	return slices.SortedFunc(maps.Values(s.holds), func(a, b *HoldDoc) int { return strings.Compare(a.Name, b.Name) })
}

// Hold finds one by its name.
func (s *State) hold(name string) (*HoldDoc, error) {
	if h := s.holds[query.FoldSetName(name)]; h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("%q: %w", name, ErrNoHold)
}

// Standing gives the holds that are in force.
func (s *State) Standing() []Hold { return s.HoldsInForce() }

// HoldsInForce gives them as far as acts have been read. The list is not to be changed.
func (s *State) HoldsInForce() []Hold { return *s.holding.Load() }

func (s *State) renewHolds() {
	list := []Hold{}
	for _, h := range s.HoldDocs() {
		if h.Released == nil {
			list = append(list, Hold{Name: h.Name, Matter: h.Matter, Query: h.parsed, Members: h.Members})
		}
	}
	s.holding.Store(&list)
}

// Held gives the records to which a hold in force was applied; an error where there is no such hold. Of a released one there are none.
func (s *State) Held(name string) (record.IDs, error) {
	h, err := s.hold(name)
	if err != nil || h.Released != nil {
		return nil, err
	}
	return h.Members, nil
}
