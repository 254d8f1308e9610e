package matter

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
)

// State is what the acts about matters come to.
type State struct{ matters map[string]*Matter } // by folded name

// NewState makes the state before the first act.
func NewState() *State { return &State{map[string]*Matter{}} }

// What acts say, by kind; RECORD.md in archive/record has it too.
type (
	createAct struct {
		Name        string `json:"name"`
		Description string `json:"description,omitempty"`
	}
	memberAct struct {
		Matter string `json:"matter"`
		Member string `json:"member"`
		Remove bool   `json:"remove,omitempty"`
	}
	custodianAct struct {
		Matter string `json:"matter"`
		Custodian
		Remove bool `json:"remove,omitempty"`
	}
	searchAct struct {
		Matter string `json:"matter"`
		SavedSearch
		Remove bool `json:"remove,omitempty"`
	}
	tagAct struct {
		Matter string     `json:"matter"`
		Tag    string     `json:"tag"`
		Query  string     `json:"query,omitempty"` // that found them, canonical
		IDs    record.IDs `json:"ids"`
	}
	noteAct struct {
		Matter string    `json:"matter"`
		Record record.ID `json:"record"`
		Text   string    `json:"text"`
	}
	reviewAct struct {
		Matter string     `json:"matter"`
		Review Review     `json:"review"`
		Was    Review     `json:"was"`
		IDs    record.IDs `json:"ids"`
	}
)

// Apply takes in one act.
func (s *State) Apply(act *record.Act) error {
	switch act.Kind {
	case record.ActMatterCreate:
		var d createAct
		if err := act.Into(&d); err != nil {
			return err
		}
		s.matters[query.FoldSetName(d.Name)] = &Matter{Name: d.Name, Description: d.Description, By: act.Actor, At: act.Time, Members: []string{act.Actor.ID}, Tags: map[string]record.IDs{}}
		return nil
	case record.ActMatterMember:
		return apply(s, act, func(d memberAct) string { return d.Matter }, func(m *Matter, d memberAct) {
			m.Members = slices.DeleteFunc(slices.Clone(m.Members), func(id string) bool { return id == d.Member })
			if !d.Remove {
				m.Members = append(m.Members, d.Member)
			}
		})
	case record.ActMatterCustodian:
		return apply(s, act, func(d custodianAct) string { return d.Matter }, func(m *Matter, d custodianAct) {
			m.Custodians = named(m.Custodians, d.Custodian, d.Remove, func(c Custodian) string { return c.Name })
		})
	case record.ActMatterSearch:
		return apply(s, act, func(d searchAct) string { return d.Matter }, func(m *Matter, d searchAct) {
			m.Searches = named(m.Searches, d.SavedSearch, d.Remove, func(c SavedSearch) string { return c.Name })
		})
	case record.ActTagAdd, record.ActTagRemove:
		return apply(s, act, func(d tagAct) string { return d.Matter }, func(m *Matter, d tagAct) {
			m.Tags = maps.Clone(m.Tags)
			name, _ := m.tag(d.Tag)
			if act.Kind == record.ActTagAdd {
				m.Tags[name] = m.Tags[name].Union(d.IDs)
			} else {
				m.Tags[name] = m.Tags[name].Minus(d.IDs)
			}
		})
	case record.ActNoteAdd:
		return apply(s, act, func(d noteAct) string { return d.Matter }, func(m *Matter, d noteAct) {
			m.Notes = append(slices.Clip(m.Notes), Note{d.Record, d.Text, act.Actor, act.Time})
		})
	case record.ActReview:
		return apply(s, act, func(d reviewAct) string { return d.Matter }, func(m *Matter, d reviewAct) {
			m.Reviews = reviewed(m.Reviews, d, act)
		})
	}
	return nil
}

// apply puts a changed copy in the place of a matter: others may be reading the one that is there.
func apply[T any](s *State, act *record.Act, name func(T) string, change func(*Matter, T)) error {
	var d T
	if err := act.Into(&d); err != nil {
		return err
	}
	m, err := s.Matter(name(d))
	if err != nil {
		return err
	}
	c := *m
	change(&c, d)
	s.matters[query.FoldSetName(c.Name)] = &c
	return nil
}

// named sets or removes one of a list, which stays in the order of names.
func named[T any](list []T, one T, remove bool, name func(T) string) []T {
	key := query.FoldSetName(name(one))
	list = slices.DeleteFunc(slices.Clone(list), func(have T) bool { return query.FoldSetName(name(have)) == key })
	if !remove {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	return list
}

// reviewed gives the reviews with those of an act, in one pass: there may be a million.
func reviewed(list []Reviewed, d reviewAct, act *record.Act) []Reviewed {
	out := make([]Reviewed, 0, len(list)+len(d.IDs))
	ids := d.IDs
	put := func(id record.ID) {
		if d.Review != None {
			out = append(out, Reviewed{id, d.Review, act.Actor, act.Time})
		}
	}
	for i := range list {
		for len(ids) > 0 && ids[0].Compare(list[i].Record) < 0 {
			put(ids[0])
			ids = ids[1:]
		}
		if len(ids) > 0 && ids[0] == list[i].Record {
			put(ids[0])
			ids = ids[1:]
			continue
		}
		out = append(out, list[i])
	}
	for _, id := range ids {
		put(id)
	}
	return out
}

// Save gives all of the state.
func (s *State) Save() (json.RawMessage, error) { return json.Marshal(s.Matters()) }

// Load takes a state in again; nil is the one before the first act.
func (s *State) Load(state json.RawMessage) error {
	s.matters = map[string]*Matter{}
	if state == nil {
		return nil
	}
	var list []*Matter
	if err := json.Unmarshal(state, &list); err != nil {
		return err
	}
	for _, m := range list {
		s.matters[query.FoldSetName(m.Name)] = m
	}
	return nil
}

// Matters gives all matters, by name.
func (s *State) Matters() []*Matter {
	return slices.SortedFunc(maps.Values(s.matters), func(a, b *Matter) int { return strings.Compare(a.Name, b.Name) })
}

// Matter finds one by its name: ErrNoMatter.
func (s *State) Matter(name string) (*Matter, error) {
	if m := s.matters[query.FoldSetName(name)]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("%q: %w", name, ErrNoMatter)
}

// For gives a matter to one of its members: ErrNoMatter, ErrNotMember.
func (s *State) For(name string, by record.Actor) (*Matter, error) {
	m, err := s.Matter(name)
	if err == nil {
		err = m.member(by)
	}
	return m, err
}

// Tagged gives the messages that have a tag in any matter. ErrNoTag where no matter has it.
func (s *State) Tagged(tag string) (ids record.IDs, err error) {
	err = fmt.Errorf("%q: %w", tag, ErrNoTag)
	for _, m := range s.matters {
		if name, ok := m.tag(tag); ok {
			ids, err = ids.Union(m.Tags[name]), nil
		}
	}
	return ids, err
}

// Records gives the messages of which somebody said something in a matter: tagged, noted or reviewed.
func (m *Matter) Records() (ids record.IDs) {
	for _, list := range m.Tags {
		ids = ids.Union(list)
	}
	noted := make([]record.ID, len(m.Notes))
	for i := range m.Notes {
		noted[i] = m.Notes[i].Record
	}
	looked := make(record.IDs, len(m.Reviews))
	for i := range m.Reviews {
		looked[i] = m.Reviews[i].Record
	}
	return ids.Union(record.NewIDs(noted)).Union(looked)
}
