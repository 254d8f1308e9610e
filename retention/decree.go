package retention

import (
	"fmt"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
)

// The functions of this file say what act a wish comes to, on what is in force: its kind and what it says. They change nothing.

// SetPolicy adds a policy or changes the one of this name. Errors: query.ErrSetName, ErrPeriod, ErrStart, ErrReason, ErrNothing.
func (s *State) SetPolicy(name string, q query.Query, keep, start, reason string) (kind string, detail any, err error) {
	if err := query.CheckSetName(name); err != nil {
		return "", nil, err
	}
	if query.FoldSetName(name) == DefaultName {
		return "", nil, fmt.Errorf("%q: %w: the default is set by retention.default in the configuration", name, ErrTaken)
	}
	period, err := ParsePeriod(keep)
	if err != nil {
		return "", nil, err
	}
	from, err := ParseStart(start)
	if err != nil {
		return "", nil, err
	}
	if reason = strings.TrimSpace(reason); reason == "" {
		return "", nil, fmt.Errorf("policy %q: %w", name, ErrReason)
	}
	d := PolicyDoc{Name: name, Query: q.String(), Keep: period.String(), Start: from, Reason: reason}
	if have := s.policies[query.FoldSetName(name)]; have != nil && have.Query == d.Query && have.Keep == d.Keep && have.Start == d.Start {
		return "", nil, fmt.Errorf("policy %q: %w", name, ErrNothing)
	}
	return record.ActPolicySet, d, nil
}

// DefaultReason is the reason of acts that the configuration is the author of, where it gives none.
const DefaultReason = "declared in the configuration"

// FirstDefault is the default of an archive of whose default no act speaks.
const FirstDefault = "7y"

// SetDefault says what counts for records that no policy matches. Errors: ErrPeriod, ErrNothing.
func (s *State) SetDefault(keep string) (kind string, detail any, err error) {
	period, err := ParsePeriod(keep)
	if err != nil {
		return "", nil, err
	}
	before := FirstDefault
	if s.def != nil {
		before = s.def.Keep
	}
	if before == period.String() {
		return "", nil, fmt.Errorf("policy %q: %w", DefaultName, ErrNothing)
	}
	return record.ActPolicySet, PolicyDoc{Name: DefaultName, Keep: period.String(), Start: Receipt, Reason: DefaultReason}, nil
}

// Author is who declares policies: the configuration of a node.
var Author = record.Actor{ID: "configuration"}

// CheckDeclared is ErrDeclared for a policy that a configuration declares: people change it there.
func (s *State) CheckDeclared(name string) error {
	if have := s.policies[query.FoldSetName(name)]; have != nil && have.By.ID == Author.ID {
		return fmt.Errorf("policy %q: %w of node %s", have.Name, ErrDeclared, have.Node)
	}
	return nil
}

// Undeclared names the policies that this node's configuration once declared and does not any more.
func (s *State) Undeclared(node string, declared []Declared) (names []string) {
	still := map[string]bool{}
	for _, d := range declared {
		still[query.FoldSetName(d.Name)] = true
	}
	for _, p := range s.PolicyDocs() {
		if p.By.ID == Author.ID && p.Node == node && !still[query.FoldSetName(p.Name)] {
			names = append(names, p.Name)
		}
	}
	return names
}

// RemovePolicy takes a policy out of force. Errors: ErrNoPolicy, ErrReason.
func (s *State) RemovePolicy(name, reason string) (kind string, detail any, err error) {
	have := s.policies[query.FoldSetName(name)]
	if have == nil {
		return "", nil, fmt.Errorf("%q: %w", name, ErrNoPolicy)
	}
	if reason = strings.TrimSpace(reason); reason == "" {
		return "", nil, fmt.Errorf("policy %q: %w", name, ErrReason)
	}
	return record.ActPolicyRemove, nameOnly{have.Name, reason}, nil
}

// PlaceHold places a hold. q is what its custodians and its query come to; h has the rest, as it was asked for. Errors: query.ErrSetName, ErrTaken,
// ErrReason. A name that was once a hold's is never another's.
func (s *State) PlaceHold(h HoldOrder, q query.Query) (kind string, detail any, err error) {
	if err := query.CheckSetName(h.Name); err != nil {
		return "", nil, err
	}
	if have := s.holds[query.FoldSetName(h.Name)]; have != nil {
		return "", nil, fmt.Errorf("hold %q of matter %q: %w", have.Name, have.Matter, ErrTaken)
	}
	if h.Reason = strings.TrimSpace(h.Reason); h.Reason == "" {
		return "", nil, fmt.Errorf("hold %q: %w", h.Name, ErrReason)
	}
	h.Query = q.String()
	return record.ActHoldPlace, h, nil
}

// ApplyHold adds records to a hold in force, those that are not in it yet. Errors: ErrNoHold, ErrReleased, ErrNothing.
func (s *State) ApplyHold(name string, ids record.IDs) (kind string, detail any, err error) {
	h, err := s.hold(name)
	if err != nil {
		return "", nil, err
	}
	if h.Released != nil {
		return "", nil, fmt.Errorf("%q: %w", h.Name, ErrReleased)
	}
	if ids = ids.Minus(h.Members); len(ids) == 0 {
		return "", nil, fmt.Errorf("hold %q: %w", h.Name, ErrNothing)
	}
	return record.ActHoldApply, holdApply{h.Name, ids}, nil
}

// ReleaseHold ends a hold. Who placed it may release it. With fourEyes it takes two, whoever placed it: the first asks, and the second, who
// is somebody else, confirms. Errors: ErrNoHold, ErrReleased, ErrReason, ErrAnothers, ErrSecond.
func (s *State) ReleaseHold(name string, by record.Actor, reason string, fourEyes bool) (kind string, detail any, err error) {
	h, err := s.hold(name)
	if err != nil {
		return "", nil, err
	}
	reason = strings.TrimSpace(reason)
	switch {
	case h.Released != nil:
		return "", nil, fmt.Errorf("%q: %w", h.Name, ErrReleased)
	case reason == "":
		return "", nil, fmt.Errorf("release of hold %q: %w", h.Name, ErrReason)
	case !fourEyes && h.By.ID != by.ID:
		return "", nil, fmt.Errorf("hold %q: %w, %s", h.Name, ErrAnothers, h.By.ID)
	case fourEyes && h.Asked == nil:
		return record.ActHoldReleaseAsk, nameOnly{h.Name, reason}, nil
	case fourEyes && h.Asked.By.ID == by.ID:
		return "", nil, fmt.Errorf("release of hold %q: %w", h.Name, ErrSecond)
	}
	return record.ActHoldRelease, nameOnly{h.Name, reason}, nil
}
