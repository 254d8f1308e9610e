package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/retention/sweep"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/matter"
	"github.com/holdfast-archive/holdfast/search/syntax"
	"github.com/holdfast-archive/holdfast/web"
)

// governanceAPI is the part of the node's own API that is for policies, holds and matters.
type governanceAPI struct{ *node }

func (a *governanceAPI) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/v1/replicate", governed(a.replicate))
	mux.HandleFunc("GET /api/v1/policies", governed(a.policies))
	mux.HandleFunc("POST /api/v1/policies", governed(a.setPolicy))
	mux.HandleFunc("POST /api/v1/policies/remove", governed(a.removePolicy))
	mux.HandleFunc("GET /api/v1/retention", governed(a.check))
	mux.HandleFunc("GET /api/v1/retention/locks", governed(a.locks))
	a.purgeRoutes(mux)
	mux.HandleFunc("GET /api/v1/holds", governed(a.holds))
	mux.HandleFunc("POST /api/v1/holds", governed(a.placeHold))
	mux.HandleFunc("POST /api/v1/holds/release", governed(a.releaseHold))
	mux.HandleFunc("GET /api/v1/matters", governed(a.listMatters))
	mux.HandleFunc("GET /api/v1/matters/{name}", governed(a.showMatter))
	mux.HandleFunc("POST /api/v1/matters", governed(a.createMatter))
	mux.HandleFunc("POST /api/v1/matters/{name}/{do}", governed(a.changeMatter))
}

type governor func(r *http.Request, by record.Actor) (answer any, err error)

func governed(h governor) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		by, _ := r.Context().Value(peerKey{}).(record.Actor)
		answer, err := h(r, by)
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			p := governanceProblem(err)
			w.WriteHeader(p.Status)
			answer = p
		}
		json.NewEncoder(w).Encode(answer)
	}
}

// errAsked is of requests that can't be read.
var errAsked = errors.New("bad request")

// asked are errors by what they say to the one who asks. Who asks is one of the node's own people: errors are given whole.
var asked = map[int][]error{
	http.StatusBadRequest: {matter.ErrAddress, matter.ErrReview, matter.ErrText, matter.ErrTooMany, index.ErrTooBroad, search.ErrNoSet, errAsked, record.ErrID, query.ErrSetName, retention.ErrPeriod, retention.ErrStart, retention.ErrReason, retention.ErrGround, search.ErrCursor},
	http.StatusNotFound:   {matter.ErrNoMatter, matter.ErrNoCustodian, matter.ErrNoTag, matter.ErrNoSearch, retention.ErrNoPolicy, retention.ErrNoHold, retention.ErrNoPlan, retention.ErrNoPurge, retention.ErrNoErasure, retention.ErrFound, archive.ErrNotFound},
	http.StatusConflict:   {matter.ErrTaken, matter.ErrNothing, matter.ErrStale, matter.ErrLastMember, retention.ErrTaken, retention.ErrNothing, retention.ErrReleased, retention.ErrStale, retention.ErrApproved, retention.ErrDecided, sweep.ErrNothing, sweep.ErrRunning, retention.ErrDeclared},
	http.StatusForbidden:  {matter.ErrNotMember, retention.ErrAnothers, retention.ErrSecond, retention.ErrApproval},

	http.StatusServiceUnavailable: {audit.ErrNotRecorded, audit.ErrOpen, sweep.ErrClock, errUndeclared},
}

func governanceProblem(err error) web.Problem {
	var fault *syntax.Error
	if errors.As(err, &fault) {
		return web.Problem{Status: http.StatusBadRequest, Error: err.Error(), Pos: &fault.Pos, Len: fault.Len}
	}
	for status, list := range asked {
		for _, is := range list {
			if errors.Is(err, is) {
				return web.Problem{Status: status, Error: err.Error()}
			}
		}
	}
	return web.Problem{Status: http.StatusInternalServerError, Error: err.Error()}
}

// maxAsked is how long the body of a request may be, in bytes.
const maxAsked = 1 << 20

// body reads a request.
func body(r *http.Request, v any) error {
	dec := json.NewDecoder(io.LimitReader(r.Body, maxAsked))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errAsked, err)
	}
	return nil
}

// viewed has it written down that somebody looked at what governs the archive.
func (a *governanceAPI) viewed(r *http.Request, by record.Actor, what string, more map[string]any) error {
	detail := map[string]any{"what": what}
	for k, v := range more {
		detail[k] = v
	}
	return a.audit.Do(r.Context(), record.ActGovernanceView, by, detail)
}

// policyList is what `holdfast retention policy list --json` prints.
type policyList struct {
	Default   string                 `json:"default"`
	Policies  []*retention.PolicyDoc `json:"policies"`
	Templates []retention.Template   `json:"templates"`
}

func (a *governanceAPI) policies(r *http.Request, by record.Actor) (any, error) {
	if err := a.viewed(r, by, "policies", nil); err != nil {
		return nil, err
	}
	out := policyList{Templates: retention.Templates()}
	err := a.book.Read(func() {
		out.Default, out.Policies = a.rules.PoliciesInForce().Default().Keep.String(), a.rules.PolicyDocs()
	})
	if out.Policies == nil {
		out.Policies = []*retention.PolicyDoc{}
	}
	return out, err
}

// policyOrder asks for a policy to be set.
type policyOrder struct {
	Name   string `json:"name"`
	Query  string `json:"query"`
	Keep   string `json:"keep"`
	Start  string `json:"start"`
	Reason string `json:"reason"`
}

// done names the act that was done.
type done struct {
	Act  record.ID `json:"act"`
	Kind string    `json:"kind"`
	Time time.Time `json:"time"`
}

func (a *governanceAPI) do(r *http.Request, by record.Actor, decide func() (string, any, error)) (any, error) {
	act, err := a.book.Do(r.Context(), by, decide)
	if err != nil {
		return nil, err
	}
	return done{act.ID, act.Kind, act.Time}, nil
}

func (a *governanceAPI) setPolicy(r *http.Request, by record.Actor) (any, error) {
	var o policyOrder
	if err := body(r, &o); err != nil {
		return nil, err
	}
	q, err := parsePolicy(o.Query)
	if err != nil {
		return nil, err
	}
	return a.do(r, by, func() (string, any, error) {
		if err := a.rules.CheckDeclared(o.Name); err != nil {
			return "", nil, err
		}
		return a.rules.SetPolicy(o.Name, q, o.Keep, o.Start, o.Reason)
	})
}

func (a *governanceAPI) removePolicy(r *http.Request, by record.Actor) (any, error) {
	var o struct{ Name, Reason string }
	if err := body(r, &o); err != nil {
		return nil, err
	}
	return a.do(r, by, func() (string, any, error) {
		if err := a.rules.CheckDeclared(o.Name); err != nil {
			return "", nil, err
		}
		return a.rules.RemovePolicy(o.Name, o.Reason)
	})
}

// checked is the decision on one record, as `holdfast retention check --json` prints it, one a line of "records".
type checked struct {
	ID       record.ID `json:"id"`
	Received time.Time `json:"received"`
	Subject  string    `json:"subject,omitempty"`
	retention.Decision
	Error string `json:"error,omitempty"` // the record could not be read: it is kept
}

// checks are the decisions on what a query finds, or on one record.
type checks struct {
	Total   uint64    `json:"total"` // found; the first of them are shown
	Records []checked `json:"records"`
}

// check explains what would become of records today. The search is an act, and so is what is read of each record.
func (a *governanceAPI) check(r *http.Request, by record.Actor) (any, error) {
	v := r.URL.Query()
	out := checks{Records: []checked{}}
	var ids []record.ID
	if id, err := record.ParseID(v.Get("q")); err == nil {
		ids, out.Total = []record.ID{id}, 1
	} else {
		found, err := a.search.Search(r.Context(), by, search.Request{Query: v.Get("q")})
		if err != nil {
			return nil, err
		}
		out.Total = found.Total
		for _, h := range found.Hits {
			ids = append(ids, h.ID)
		}
	}
	var holds []retention.Hold
	if err := a.book.Read(func() { holds = a.rules.Standing() }); err != nil {
		return nil, err
	}
	if err := a.viewed(r, by, "retention", map[string]any{"records": ids}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		c, err := a.decide(r, id, holds)
		if err != nil {
			return nil, err
		}
		out.Records = append(out.Records, c)
	}
	return out, nil
}

// decide reads a record and decides on it.
func (a *governanceAPI) decide(r *http.Request, id record.ID, holds []retention.Hold) (checked, error) {
	c := checked{ID: id}
	s, err := a.archive.Fetch(r.Context(), id)
	switch {
	case errors.Is(err, archive.ErrNotFound), r.Context().Err() != nil:
		return c, err
	case err != nil: // unreadable: what can't be read is kept
		c.Error, c.Keep = err.Error(), true
		return c, nil
	case s.Item.Envelope == nil:
		return c, fmt.Errorf("%w: %s is no message", errAsked, id)
	}
	doc := index.DocumentOf(s.Item)
	c.Received, c.Subject = doc.Received, doc.Subject
	c.Decision = a.rules.PoliciesInForce().Decide(doc, holds, time.Now())
	return c, nil
}
