package web

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/bundle"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search"
)

// Searcher answers for people. Each method has the act in custody before it looks; on audit.ErrNotRecorded nothing was looked at.
// *search.Service is one. Safe for concurrent use.
type Searcher interface {
	Search(ctx context.Context, by record.Actor, r search.Request) (*search.Result, error)
	Facets(ctx context.Context, by record.Actor, r search.FacetRequest) (*search.Facets, error)
	Parse(query string, loc *time.Location) (query.Query, error)
	Highlight(ctx context.Context, by record.Actor, id record.ID, query string, loc *time.Location) (*search.Highlight, error)
	View(ctx context.Context, by record.Actor, id record.ID, what string) (*archive.Stored, error)
	Proof(ctx context.Context, by record.Actor, id record.ID) ([]byte, error)
}

// Services is what the pages and the API are made of. Fields that are nil answer 503: this process can't do that.
type Services struct {
	Search      Searcher
	BeginImport func(ctx context.Context, by record.Actor, paths, reports []string) error
	Import      func(ctx context.Context, origin string, reports []string, message io.Reader) (record.ID, error)
	Rebuild     func(ctx context.Context, by record.Actor, progress func(Progress)) error
	Export      func(ctx context.Context, by record.Actor, r search.ExportRequest) (*bundle.Result, error)
	Notices     func() []string // what whoever looks at the archive should know of its state; nil: nothing
	Care        func() any      // the same for programs, in full
	Log         *slog.Logger    // nil: none
}

// Progress is one line of a long answer: what is being done, how far it is, and of how much where that is known.
type Progress struct {
	Step  string `json:"step"`
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty"` // 0: not known
	Unit  string `json:"unit,omitempty"`  // "records", "bytes", "entries"
}

// Line is one line of an answer that streams (application/x-ndjson): any number with Progress, then one with Result or Error.
type Line struct {
	Progress *Progress `json:"progress,omitempty"`
	Result   any       `json:"result,omitempty"`
	Error    *Problem  `json:"error,omitempty"`
}

// RecordJSON is what `holdfast get --envelope` prints.
type RecordJSON struct {
	Log         string            `json:"log,omitempty"`
	Number      *uint64           `json:"number,omitempty"` // of the entry in its log
	Entry       *record.Entry     `json:"entry,omitempty"`
	Pending     bool              `json:"pending"`
	Envelope    json.RawMessage   `json:"envelope"`
	Supplements []json.RawMessage `json:"supplements"`
}

// API serves /api/v1 to whom WithActor names. Its routes change nothing but for those on local: they are for the node's own socket, not
// for a network.
func API(s Services, local bool) http.Handler { return newAPI(s, local).routes() }

func newAPI(s Services, local bool) *api {
	if s.Search == nil {
		s.Search = noSearch{}
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &api{Services: s, local: local}
}

type api struct {
	Services
	local   bool     // for the node's own people: errors are given whole
	imports sync.Map // by name, the formats of reports that count in it; a few bytes each, for as long as the process runs
}

func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/search", a.search)
	mux.HandleFunc("GET /api/v1/facets", a.facets)
	mux.HandleFunc("GET /api/v1/care", a.care)
	mux.HandleFunc("GET /api/v1/records/{id}", a.envelope)
	mux.HandleFunc("GET /api/v1/records/{id}/eml", a.eml)
	mux.HandleFunc("GET /api/v1/records/{id}/inner", a.inner)
	mux.HandleFunc("GET /api/v1/records/{id}/inner/{n}", a.inner)
	mux.HandleFunc("GET /api/v1/records/{id}/text", a.text)
	mux.HandleFunc("GET /api/v1/records/{id}/highlight", a.highlight)
	mux.HandleFunc("GET /api/v1/records/{id}/proof", a.proof)
	if a.local {
		mux.HandleFunc("POST /api/v1/imports", a.beginImport)
		mux.HandleFunc("POST /api/v1/imports/{id}", a.importMessage)
		mux.HandleFunc("POST /api/v1/rebuild", a.rebuild)
		mux.HandleFunc("POST /api/v1/exports", a.export)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { a.fail(w, noRoute(w, r)) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", dataPolicy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if actor(r).ID == "" {
			a.fail(w, errNobody)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// care says how the archive is looked after, and what was found.
func (a *api) care(w http.ResponseWriter, r *http.Request) {
	if a.Care == nil {
		a.fail(w, fmt.Errorf("care: %w", errUnavailable))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(a.Care())
}

// noRoute says what is wrong with a request that no route takes.
func noRoute(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return errMethod
	}
	return errNoRoute
}

// noSearch answers where there is no archive behind the pages.
type noSearch struct{}

func (noSearch) Search(context.Context, record.Actor, search.Request) (*search.Result, error) {
	return nil, fmt.Errorf("search: %w", errUnavailable)
}

func (noSearch) Facets(context.Context, record.Actor, search.FacetRequest) (*search.Facets, error) {
	return nil, fmt.Errorf("search: %w", errUnavailable)
}

func (noSearch) Parse(string, *time.Location) (query.Query, error) {
	return nil, fmt.Errorf("search: %w", errUnavailable)
}

func (noSearch) Highlight(context.Context, record.Actor, record.ID, string, *time.Location) (*search.Highlight, error) {
	return nil, fmt.Errorf("view: %w", errUnavailable)
}

func (noSearch) View(context.Context, record.Actor, record.ID, string) (*archive.Stored, error) {
	return nil, fmt.Errorf("view: %w", errUnavailable)
}

func (noSearch) Proof(context.Context, record.Actor, record.ID) ([]byte, error) {
	return nil, fmt.Errorf("proof: %w", errUnavailable)
}

type actorKey struct{}

// WithActor says on whose behalf a request is served. Without it requests are refused.
func WithActor(ctx context.Context, by record.Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, by)
}

func actor(r *http.Request) record.Actor {
	by, _ := r.Context().Value(actorKey{}).(record.Actor)
	return by
}

func (a *api) fail(w http.ResponseWriter, err error) {
	p := problem(err, a.local, a.Log)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

func (a *api) search(w http.ResponseWriter, r *http.Request) {
	req, err := searchRequest(r)
	if err != nil {
		a.fail(w, err)
		return
	}
	res, err := a.Search.Search(r.Context(), actor(r), req)
	if err != nil {
		a.fail(w, err)
		return
	}
	if res.CompleteThrough == nil {
		res.CompleteThrough = []search.Through{}
	}
	reply(w, res)
}

// facets reads q, tz, limit (values of each facet) and facet (repeated; none: all but the days) of the URL.
func (a *api) facets(w http.ResponseWriter, r *http.Request) {
	req, err := searchRequest(r)
	if err != nil {
		a.fail(w, err)
		return
	}
	ask := search.FacetRequest{Query: req.Query, Top: req.Limit, Location: req.Location}
	for _, f := range r.URL.Query()["facet"] {
		ask.Facets = append(ask.Facets, index.Facet(f))
	}
	res, err := a.Search.Facets(r.Context(), actor(r), ask)
	if err != nil {
		a.fail(w, err)
		return
	}
	reply(w, res)
}

// reply sends JSON.
func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// searchRequest reads q, limit, sort, after, count, page, fold, not_fully_searched and tz of a URL; pages and API share it.
func searchRequest(r *http.Request) (search.Request, error) {
	q := r.URL.Query()
	req := search.Request{
		Query: q.Get("q"), Sort: index.Sort(q.Get("sort")), After: q.Get("after"), Count: q.Get("count") == "1", Page: q.Get("page") == "1", Fold: q.Get("fold") == "1", Unsure: q.Get("not_fully_searched") == "1", Location: time.UTC,
	}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > search.MaxLimit {
			return req, fmt.Errorf("%w: limit %q is not between 1 and %d", errBadRequest, s, search.MaxLimit)
		}
		req.Limit = n
	}
	if s := q.Get("tz"); s != "" {
		loc, err := time.LoadLocation(s)
		if err != nil {
			return req, fmt.Errorf("%w: unknown time zone %q", errBadRequest, s)
		}
		req.Location = loc
	}
	return req, nil
}

// view writes the act and fetches the record that the URL names.
func (a *api) view(w http.ResponseWriter, r *http.Request, what string) (*archive.Stored, bool) {
	id, err := record.ParseID(r.PathValue("id"))
	if err != nil {
		a.fail(w, err)
		return nil, false
	}
	s, err := a.Search.View(r.Context(), actor(r), id, what)
	if err != nil {
		a.fail(w, err)
		return nil, false
	}
	return s, true
}

func (a *api) envelope(w http.ResponseWriter, r *http.Request) {
	s, ok := a.view(w, r, "envelope")
	if !ok {
		return
	}
	out := RecordJSON{Log: s.Log, Entry: s.Entry, Pending: s.Pending(), Envelope: s.Item.EnvelopeJSON, Supplements: []json.RawMessage{}}
	if s.Item.Act != nil {
		out.Envelope = s.Item.ActJSON
	}
	if s.Entry != nil {
		out.Number = &s.Number
	}
	for _, sup := range s.Item.Supplements {
		out.Supplements = append(out.Supplements, sup.JSON)
	}
	reply(w, out)
}

func (a *api) eml(w http.ResponseWriter, r *http.Request) {
	s, ok := a.view(w, r, "eml")
	if !ok {
		return
	}
	body, err := openMessage(s)
	if err != nil {
		a.fail(w, err)
		return
	}
	defer body.Close()
	h := w.Header()
	h.Set("Content-Type", "message/rfc822")
	h.Set("Content-Length", strconv.FormatInt(s.Item.Envelope.Size, 10))
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", s.Item.ID.String()+".eml"))
	a.send(w, r, body, body, "record", s.Item.ID)
}

func (a *api) text(w http.ResponseWriter, r *http.Request) {
	s, ok := a.view(w, r, "text")
	if !ok {
		return
	}
	text, err := plainText(s)
	if err != nil {
		a.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, text)
}

// highlight reads q and tz of the URL.
func (a *api) highlight(w http.ResponseWriter, r *http.Request) {
	id, err := record.ParseID(r.PathValue("id"))
	if err != nil {
		a.fail(w, err)
		return
	}
	req, err := searchRequest(r)
	if err != nil {
		a.fail(w, err)
		return
	}
	res, err := a.Search.Highlight(r.Context(), actor(r), id, req.Query, req.Location)
	if err != nil {
		a.fail(w, err)
		return
	}
	reply(w, res)
}

func (a *api) proof(w http.ResponseWriter, r *http.Request) {
	id, err := record.ParseID(r.PathValue("id"))
	if err != nil {
		a.fail(w, err)
		return
	}
	proof, err := a.Search.Proof(r.Context(), actor(r), id)
	if err != nil {
		a.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", id.String()+".tlog-proof"))
	w.Write(proof)
}

// beginImport writes the act of an import; its answer names it. The query parameter path, repeated, says what is imported; report, repeated,
// in which formats journal reports count in it.
func (a *api) beginImport(w http.ResponseWriter, r *http.Request) {
	if a.BeginImport == nil {
		a.fail(w, fmt.Errorf("import: %w", errUnavailable))
		return
	}
	q := r.URL.Query()
	if err := a.BeginImport(r.Context(), actor(r), q["path"], q["report"]); err != nil {
		a.fail(w, err)
		return
	}
	id := rand.Text()
	a.imports.Store(id, q["report"])
	reply(w, map[string]string{"import": id})
}

// importMessage takes one message of an import as the body; the query parameter origin says where it came from.
func (a *api) importMessage(w http.ResponseWriter, r *http.Request) {
	reports, begun := a.imports.Load(r.PathValue("id"))
	if !begun || a.Import == nil {
		a.fail(w, fmt.Errorf("%w: no such import was begun", errBadRequest))
		return
	}
	id, err := a.Import(r.Context(), r.URL.Query().Get("origin"), reports.([]string), r.Body)
	if err != nil {
		a.fail(w, err)
		return
	}
	reply(w, map[string]string{"id": id.String()})
}

func (a *api) rebuild(w http.ResponseWriter, r *http.Request) {
	if a.Rebuild == nil {
		a.fail(w, fmt.Errorf("rebuild: %w", errUnavailable))
		return
	}
	a.stream(w, func(progress func(Progress)) (any, error) {
		return map[string]bool{"ok": true}, a.Rebuild(r.Context(), actor(r), progress)
	})
}

// export writes a bundle. The query parameters are those of a search, and: to, the folder to be made; first, the first number; fold=1;
// bom=0; matter; custodian, repeated: "Name: address, address"; withhold, a file with a line "ID ground" for each record that is withheld.
func (a *api) export(w http.ResponseWriter, r *http.Request) {
	if a.Export == nil {
		a.fail(w, fmt.Errorf("export: %w", errUnavailable))
		return
	}
	req, err := exportRequest(r)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.stream(w, func(progress func(Progress)) (any, error) {
		var last time.Time
		req.Progress = func(done, total int64) {
			if now := time.Now(); now.Sub(last) > 200*time.Millisecond {
				last = now
				progress(Progress{Step: "export", Done: done, Total: total, Unit: "messages"})
			}
		}
		return a.Export(r.Context(), actor(r), *req)
	})
}

func exportRequest(r *http.Request) (*search.ExportRequest, error) {
	base, err := searchRequest(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	out := &search.ExportRequest{Query: base.Query, Location: base.Location, Place: q.Get("to")}
	if !filepath.IsAbs(out.Place) {
		return nil, fmt.Errorf("%w: to %q is not an absolute path", errBadRequest, out.Place)
	}
	out.Bundle = bundle.Request{Matter: q.Get("matter"), Numbering: bundle.DefaultNumbering, Fold: q.Get("fold") == "1", NoBOM: q.Get("bom") == "0"}
	if first := q.Get("first"); first != "" {
		if out.Bundle.Numbering, err = bundle.ParseNumbering(first); err != nil {
			return nil, fmt.Errorf("%w: %w", errBadRequest, err)
		}
	}
	for _, text := range q["custodian"] {
		person, err := bundle.ParsePerson(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadRequest, err)
		}
		out.Bundle.Custodian = append(out.Bundle.Custodian, person)
	}
	if path := q.Get("withhold"); path != "" {
		list, err := bundle.ReadPrivileged(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadRequest, err)
		}
		out.Review, out.Bundle.Withheld = list, list.Digest.String()
	}
	return out, nil
}

// stream answers with lines while the work goes on.
func (a *api) stream(w http.ResponseWriter, work func(func(Progress)) (any, error)) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	send := func(l Line) {
		enc.Encode(l)
		http.NewResponseController(w).Flush()
	}
	result, err := work(func(p Progress) { send(Line{Progress: &p}) })
	if err != nil {
		send(Line{Error: problem(err, a.local, a.Log)})
		return
	}
	send(Line{Result: result})
}
