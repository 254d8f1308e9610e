package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/matter"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// holdOrder asks for a hold to be placed. Query is as it was typed; custodians are names, as the matter has them.
type holdOrder struct {
	Name       string   `json:"name"`
	Matter     string   `json:"matter"`
	Custodians []string `json:"custodians"`
	Query      string   `json:"query"`
	Reason     string   `json:"reason"`
}

// held is the answer to an act that is about records.
type held struct {
	done
	Records int `json:"records"`
	// Late are those of a hold that were being destroyed when it came.
	Late []record.ID `json:"being_destroyed,omitempty"`
}

func (a *governanceAPI) holds(r *http.Request, by record.Actor) (any, error) {
	if err := a.viewed(r, by, "holds", nil); err != nil {
		return nil, err
	}
	list := []retention.HoldDoc{}
	if err := a.book.Read(func() {
		for _, h := range a.rules.HoldDocs() {
			list = append(list, *h)
		}
	}); err != nil {
		return nil, err
	}
	for i := range list {
		h := &list[i]
		if h.Released == nil {
			ids, err := a.keeper.Held(h.Name)
			if err != nil {
				return nil, err
			}
			h.Records = len(ids) // with what has just arrived
		}
		h.Members = nil // ids are for the query language: hold:NAME
	}
	return list, nil
}

// placeHold places a hold, and applies it to what the index has.
func (a *governanceAPI) placeHold(r *http.Request, by record.Actor) (any, error) {
	var o holdOrder
	if err := body(r, &o); err != nil {
		return nil, err
	}
	if strings.TrimSpace(o.Query) == "" && len(o.Custodians) == 0 {
		return nil, fmt.Errorf("%w: a hold needs custodians or a query", errAsked)
	}
	asked, err := syntax.Parse(o.Query, syntax.Env{Now: time.Now(), Standing: true})
	if err != nil {
		return nil, err
	}
	var all query.Query
	if err := a.read(func() error { all, err = a.holdQuery(by, &o, asked.Query); return err }); err != nil {
		return nil, err
	}
	if _, err := a.index.Search(r.Context(), index.Request{Query: all, Within: search.Timeout}); err != nil { // one that can't be carried out is not placed
		return nil, err
	}
	act, err := a.book.Do(r.Context(), by, func() (string, any, error) {
		q, err := a.holdQuery(by, &o, asked.Query)
		if err != nil {
			return "", nil, err
		}
		return a.rules.PlaceHold(retention.HoldOrder{Name: o.Name, Matter: o.Matter, Custodians: o.Custodians, Typed: o.Query, Reason: o.Reason}, q)
	})
	if err != nil {
		return nil, err
	}
	if _, err := a.keeper.Apply(r.Context(), by, o.Name); err != nil {
		return nil, err
	}
	ids, err := a.keeper.Held(o.Name)
	if err != nil {
		return nil, err
	}
	out := held{done: done{act.ID, act.Kind, act.Time}, Records: len(ids)}
	err = a.book.Read(func() { out.Late = a.rules.BeingDestroyed(ids) })
	return out, err
}

// holdQuery is what the custodians of a hold and its query come to; the book is being read. It sets the matter's name as it is written there.
func (a *governanceAPI) holdQuery(by record.Actor, o *holdOrder, asked query.Query) (query.Query, error) {
	m, err := a.matters.For(o.Matter, by)
	if err != nil {
		return nil, err
	}
	o.Matter = m.Name
	if len(o.Custodians) == 0 {
		return asked, nil
	}
	var any []query.Query
	for _, name := range o.Custodians {
		c, err := m.Custodian(name)
		if err != nil {
			return nil, err
		}
		any = append(any, c.Query())
	}
	return query.NewAnd(query.NewOr(any...), asked), nil
}

func (a *governanceAPI) releaseHold(r *http.Request, by record.Actor) (any, error) {
	var o struct{ Name, Reason string }
	if err := body(r, &o); err != nil {
		return nil, err
	}
	return a.do(r, by, func() (string, any, error) {
		return a.rules.ReleaseHold(o.Name, by, o.Reason, a.cfg.Retention.FourEyes)
	})
}

// matterView is a matter as `holdfast matter show --json` prints it: of tags and reviews the numbers, for the records are found by query.
type matterView struct {
	*matter.Matter
	Tags    map[string]int        `json:"tags"`
	Reviews map[matter.Review]int `json:"reviews"`
	Holds   []string              `json:"holds"` // in force
}

func (a *governanceAPI) viewMatter(m *matter.Matter) matterView {
	v := matterView{Matter: m, Tags: map[string]int{}, Reviews: map[matter.Review]int{}, Holds: []string{}}
	for tag, ids := range m.Tags {
		v.Tags[tag] = len(ids)
	}
	for i := range m.Reviews {
		v.Reviews[m.Reviews[i].Review]++
	}
	for _, h := range a.rules.HoldDocs() {
		if h.Released == nil && query.FoldSetName(h.Matter) == query.FoldSetName(m.Name) {
			v.Holds = append(v.Holds, h.Name)
		}
	}
	return v
}

// listMatters gives the matters of which somebody is a member.
func (a *governanceAPI) listMatters(r *http.Request, by record.Actor) (any, error) {
	if err := a.viewed(r, by, "matters", nil); err != nil {
		return nil, err
	}
	list := []matterView{}
	err := a.book.Read(func() {
		for _, m := range a.matters.Matters() {
			if _, err := a.matters.For(m.Name, by); err == nil {
				list = append(list, a.viewMatter(m))
			}
		}
	})
	return list, err
}

func (a *governanceAPI) showMatter(r *http.Request, by record.Actor) (any, error) {
	name := r.PathValue("name")
	if err := a.viewed(r, by, "matter", map[string]any{"name": name}); err != nil {
		return nil, err
	}
	var v matterView
	err := a.read(func() error {
		m, err := a.matters.For(name, by)
		if err == nil {
			v = a.viewMatter(m)
		}
		return err
	})
	return v, err
}

func (a *governanceAPI) createMatter(r *http.Request, by record.Actor) (any, error) {
	var o struct{ Name, Description string }
	if err := body(r, &o); err != nil {
		return nil, err
	}
	return a.do(r, by, func() (string, any, error) { return a.matters.Create(o.Name, o.Description) })
}

// matterOrder asks for a change of a matter. Which fields count is said by what is to be done.
type matterOrder struct {
	Name      string           `json:"name,omitempty"` // of a custodian, a search, a tag, a member
	Addresses []matter.Address `json:"addresses,omitempty"`
	Query     string           `json:"query,omitempty"`
	Zone      string           `json:"zone,omitempty"` // of dates in Query
	IDs       []record.ID      `json:"ids,omitempty"`
	Text      string           `json:"text,omitempty"`
	Review    matter.Review    `json:"review,omitempty"`
	Was       matter.Review    `json:"was,omitempty"`
	Remove    bool             `json:"remove,omitempty"`
}

func (a *governanceAPI) changeMatter(r *http.Request, by record.Actor) (any, error) {
	var o matterOrder
	if err := body(r, &o); err != nil {
		return nil, err
	}
	name, s := r.PathValue("name"), a.matters
	switch r.PathValue("do") {
	case "member":
		return a.do(r, by, func() (string, any, error) { return s.SetMember(by, name, o.Name, o.Remove) })
	case "custodian":
		if o.Remove {
			return a.do(r, by, func() (string, any, error) { return s.RemoveCustodian(by, name, o.Name) })
		}
		return a.do(r, by, func() (string, any, error) {
			return s.SetCustodian(by, name, matter.Custodian{Name: o.Name, Addresses: o.Addresses})
		})
	case "search":
		if o.Remove {
			return a.do(r, by, func() (string, any, error) { return s.RemoveSearch(by, name, o.Name) })
		}
		if _, err := syntax.Parse(o.Query, syntax.Env{Now: time.Now(), Joins: true, Directions: a.search.Directions}); err != nil {
			return nil, err
		}
		return a.do(r, by, func() (string, any, error) {
			return s.SaveSearch(by, name, matter.SavedSearch{Name: o.Name, Query: o.Query})
		})
	case "tag":
		return a.tag(r, by, name, &o)
	case "note":
		ids, err := a.exist(r, o.IDs)
		if err == nil && len(ids) != 1 {
			err = fmt.Errorf("%w: a note is on one message", errAsked)
		}
		if err != nil {
			return nil, err
		}
		return a.do(r, by, func() (string, any, error) { return s.AddNote(by, name, ids[0], o.Text) })
	case "review":
		ids, err := a.exist(r, o.IDs)
		if err != nil {
			return nil, err
		}
		return a.do(r, by, func() (string, any, error) { return s.SetReview(by, name, o.Review, o.Was, ids) })
	}
	return nil, fmt.Errorf("%w: a matter has no %s", errAsked, r.PathValue("do"))
}

// tag adds a tag to messages, or takes it away: those that are named, or all that a query finds.
func (a *governanceAPI) tag(r *http.Request, by record.Actor, name string, o *matterOrder) (any, error) {
	if err := a.read(func() error { _, err := a.matters.For(name, by); return err }); err != nil {
		return nil, err // before anything is looked for
	}
	ids, err := a.exist(r, o.IDs)
	found := ""
	if err == nil && len(o.IDs) == 0 {
		ids, found, err = a.find(r, by, o)
	}
	if err != nil {
		return nil, err
	}
	act, err := a.book.Do(r.Context(), by, func() (string, any, error) { return a.matters.Tag(by, name, o.Name, ids, found, o.Remove) })
	if err != nil {
		return nil, err
	}
	var said struct{ IDs record.IDs }
	err = act.Into(&said)
	return held{done: done{act.ID, act.Kind, act.Time}, Records: len(said.IDs)}, err
}

func (a *governanceAPI) find(r *http.Request, by record.Actor, o *matterOrder) (record.IDs, string, error) {
	zone, err := time.LoadLocation(o.Zone)
	if err != nil {
		return nil, "", fmt.Errorf("%w: unknown time zone %q", errAsked, o.Zone)
	}
	req, canonical, err := a.search.Ask(r.Context(), by, search.Request{Query: o.Query, Location: zone}, "tag "+o.Name)
	if err != nil {
		return nil, "", err
	}
	ids, err := a.keeper.Find(r.Context(), req, false)
	return ids, canonical, err
}

// exist refuses ids of which neither the archive nor local custody has a record: archive.ErrNotFound.
func (a *governanceAPI) exist(r *http.Request, list []record.ID) (record.IDs, error) {
	for _, id := range list {
		known, err := a.archive.Has(id)
		if err == nil && !known {
			_, err = a.archive.Fetch(r.Context(), id)
		}
		if err != nil {
			return nil, err
		}
	}
	return record.NewIDs(list), nil
}
