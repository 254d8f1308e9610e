package matter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
)

// The functions of this file say what act a wish comes to, on what is in force: its kind and what it says. They change nothing. All but
// Create are for members of the matter only: ErrNoMatter, ErrNotMember.

// Create makes a matter. Who makes it is its first member.
func (s *State) Create(name, description string) (kind string, detail any, err error) {
	if err := query.CheckSetName(name); err != nil {
		return "", nil, err
	}
	if have, err := s.Matter(name); err == nil {
		return "", nil, fmt.Errorf("matter %q: %w", have.Name, ErrTaken)
	}
	if len(description) > maxText {
		return "", nil, fmt.Errorf("description: %w", ErrText)
	}
	return record.ActMatterCreate, createAct{name, strings.TrimSpace(description)}, nil
}

// SetMember adds or removes somebody who may see and change a matter.
func (s *State) SetMember(by record.Actor, matter, member string, remove bool) (kind string, detail any, err error) {
	m, err := s.For(matter, by)
	if err != nil {
		return "", nil, err
	}
	if member = strings.TrimSpace(member); member == "" || len(member) > 200 {
		return "", nil, fmt.Errorf("member %q: %w", member, ErrText)
	}
	is := slices.Contains(m.Members, member)
	switch {
	case is != remove:
		return "", nil, fmt.Errorf("member %q of matter %q: %w", member, m.Name, ErrNothing)
	case remove && len(m.Members) == 1:
		return "", nil, fmt.Errorf("%q: %w", m.Name, ErrLastMember)
	}
	return record.ActMatterMember, memberAct{m.Name, member, remove}, nil
}

// SetCustodian adds a person, or sets all of that person's addresses anew.
func (s *State) SetCustodian(by record.Actor, matter string, c Custodian) (kind string, detail any, err error) {
	m, err := s.For(matter, by)
	if err != nil {
		return "", nil, err
	}
	c.Addresses = slices.Clone(c.Addresses)
	if err := c.check(); err != nil {
		return "", nil, err
	}
	return record.ActMatterCustodian, custodianAct{Matter: m.Name, Custodian: c}, nil
}

// RemoveCustodian takes a person out of a matter. Holds that were placed on the addresses stay.
func (s *State) RemoveCustodian(by record.Actor, matter, name string) (kind string, detail any, err error) {
	m, err := s.For(matter, by)
	if err != nil {
		return "", nil, err
	}
	c, err := m.Custodian(name)
	if err != nil {
		return "", nil, err
	}
	return record.ActMatterCustodian, custodianAct{Matter: m.Name, Custodian: *c, Remove: true}, nil
}

// SaveSearch keeps a query under a name, or replaces the one of this name. It was parsed before.
func (s *State) SaveSearch(by record.Actor, matter string, search SavedSearch) (kind string, detail any, err error) {
	m, err := s.For(matter, by)
	if err != nil {
		return "", nil, err
	}
	if err := query.CheckSetName(search.Name); err != nil {
		return "", nil, err
	}
	return record.ActMatterSearch, searchAct{Matter: m.Name, SavedSearch: search}, nil
}

// RemoveSearch forgets a saved search.
func (s *State) RemoveSearch(by record.Actor, matter, name string) (kind string, detail any, err error) {
	m, err := s.For(matter, by)
	if err != nil {
		return "", nil, err
	}
	i := slices.IndexFunc(m.Searches, func(c SavedSearch) bool { return query.FoldSetName(c.Name) == query.FoldSetName(name) })
	if i < 0 {
		return "", nil, fmt.Errorf("%q in matter %q: %w", name, m.Name, ErrNoSearch)
	}
	return record.ActMatterSearch, searchAct{Matter: m.Name, SavedSearch: m.Searches[i], Remove: true}, nil
}

// Tag adds a tag to messages, or takes it from them: those of ids that have it not yet, or have it. found is the query that found them,
// empty where they were named. Errors: ErrNoTag, ErrNothing, ErrTooMany.
func (s *State) Tag(by record.Actor, matter, tag string, ids record.IDs, found string, remove bool) (kind string, detail any, err error) {
	m, err := s.For(matter, by)
	if err != nil {
		return "", nil, err
	}
	if err := query.CheckSetName(tag); err != nil {
		return "", nil, err
	}
	name, known := m.tag(tag)
	kind = record.ActTagAdd
	if remove {
		if !known {
			return "", nil, fmt.Errorf("%q in matter %q: %w", tag, m.Name, ErrNoTag)
		}
		kind, ids = record.ActTagRemove, ids.Minus(ids.Minus(m.Tags[name]))
	} else {
		ids = ids.Minus(m.Tags[name])
	}
	switch {
	case len(ids) == 0:
		return "", nil, fmt.Errorf("tag %q: %w", tag, ErrNothing)
	case len(ids) > record.MaxIDs:
		return "", nil, fmt.Errorf("%d: %w, at most %d", len(ids), ErrTooMany, record.MaxIDs)
	}
	return kind, tagAct{m.Name, name, found, ids}, nil
}

// AddNote says something of a message.
func (s *State) AddNote(by record.Actor, matter string, id record.ID, text string) (kind string, detail any, err error) {
	m, err := s.For(matter, by)
	if err != nil {
		return "", nil, err
	}
	if text = strings.TrimSpace(text); text == "" || len(text) > maxText {
		return "", nil, fmt.Errorf("note: %w", ErrText)
	}
	return record.ActNoteAdd, noteAct{m.Name, id, text}, nil
}

// SetReview says what was found of messages. was is what the one who reviews them has seen of each: where another is in force it is
// refused, ErrStale.
func (s *State) SetReview(by record.Actor, matter string, review, was Review, ids record.IDs) (kind string, detail any, err error) {
	m, err := s.For(matter, by)
	if err != nil {
		return "", nil, err
	}
	for _, r := range []Review{review, was} {
		if !slices.Contains(reviews, r) {
			return "", nil, fmt.Errorf("%q: %w", r, ErrReview)
		}
	}
	if len(ids) == 0 || review == was {
		return "", nil, fmt.Errorf("review %q: %w", review, ErrNothing)
	}
	for _, id := range ids {
		if have := m.review(id); have != was {
			return "", nil, fmt.Errorf("%s is %s, not %s: %w", id, have, was, ErrStale)
		}
	}
	return record.ActReview, reviewAct{m.Name, review, was, ids}, nil
}
