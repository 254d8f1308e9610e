package retention

import (
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Hold keeps the records that it was applied to, and those that its query matches, until it is released. It beats every policy.
type Hold struct {
	Name     string
	Matter   string
	Query    query.Query // what the custodians and the query of the person who placed it come to; nil: as in a Policy
	By       record.Actor
	Placed   time.Time
	Released time.Time // zero: it is in force
	// Members are the records that it was applied to. Each stays held, whatever a later reading of it says.
	Members record.IDs
}

// holds says whether a record is held, and why.
func (h *Hold) holds(m *query.Matcher, id record.ID) (Reason, bool) {
	r := Reason{Name: h.Name, Matter: h.Matter}
	switch {
	case !h.Released.IsZero():
		return r, false
	case h.Members.Has(id):
		return r, true
	}
	v := h.Match(m)
	r.Unsure = v == query.Unknown
	return r, v != query.No
}

// Match says whether the query of a hold matches a record.
func (h *Hold) Match(m *query.Matcher) query.Verdict {
	if h.Query == nil {
		return query.Unknown
	}
	return m.Match(h.Query)
}
