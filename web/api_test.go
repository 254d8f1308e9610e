package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/search"
)

func asJSON(t *testing.T, w *httptest.ResponseRecorder, want string) {
	t.Helper()
	if typ := w.Header().Get("Content-Type"); typ != "application/json" {
		t.Errorf("Content-Type %q", typ)
	}
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// Scripts rely on these: a test that fails here has found a broken promise.
func TestJSONKeepsItsForm(t *testing.T) {
	f, h := site(t)
	f.result = search.Result{Total: 2, Hits: someHits[:1], Hints: []string{}, Next: "CURSOR", CompleteThrough: []search.Through{{Log: "node-main", Seq: 9, Time: received}}}
	id := idOf(1).String()
	asJSON(t, ask(h, "/api/v1/search?q=merger"), `{"query":"merger","total":2,"complete_through":[{"log":"node-main","seq":9,"time":"2026-03-14T08:12:04.005Z"}],"hints":[],`+
		`"hits":[{"id":"`+id+`","received":"2026-03-14T08:12:04.005Z","sent":"2026-03-14T08:12:03.005Z","from":["Claire \u003cb\u003eDubois\u003c/b\u003e \u003cclaire@acme.example\u003e","x@acme.example"],`+
		`"to":["board@acme.example"],"rcpt":["board@acme.example","hidden@elsewhere.example"],"subject":"\u003cscript\u003ealert(\"s\")\u003c/script\u003e","size":84321,`+
		`"sha256":"`+strings.Repeat("0", 64)+`","attachments":["a.pdf","txt`+"\u202e"+`exe.b"],"pending":true}],"next":"CURSOR"}`)
	f.result = search.Result{Hits: []search.Hit{}, Hints: []string{}}
	asJSON(t, ask(h, "/api/v1/facets?q=merger&facet=sender&facet=month&limit=5"), `{"query":"merger","total":0,"complete_through":[],"hints":[],`+
		`"facets":{"sender":{"values":[{"value":"[sender month] 5","count":3}],"more":1}}}`)
	asJSON(t, ask(h, "/api/v1/records/"+id+"/highlight?q=merger"), `{"id":"`+id+`","query":"merger","matches":"yes",`+
		`"subject":[{"text":"\u003cb\u003e"},{"text":"merger","marked":true}],"body":[],"attachments":[]}`)
	asJSON(t, ask(h, "/api/v1/facets?facet=colour"), `{"status":400,"error":"\"colour\": unknown facet"}`)
	asJSON(t, ask(h, "/api/v1/search?count=1"), `{"query":"","total":0,"complete_through":[],"hints":[],"hits":[]}`)
	if !f.asked[1].Count {
		t.Error("count=1 is not handed on")
	}

	s := f.add(1, simpleMail)
	asJSON(t, ask(h, "/api/v1/records/"+id), `{"log":"node-main","number":48201,"entry":{"v":1,"kind":"message","time":"2026-03-14T08:12:04.005Z","id":"`+id+`","seq":7,`+
		`"pack":"packs/2033-04/2026/03/14/main-1-abc.tar.zst","frame":0},"pending":false,"envelope":{"v":1},"supplements":[{"v":1,"name":"delivery-1"}]}`)
	s.Entry, s.Log, s.Item.Supplements = nil, "", nil
	asJSON(t, ask(h, "/api/v1/records/"+id), `{"pending":true,"envelope":{"v":1},"supplements":[]}`)
}

func TestProblemsKeepTheirForm(t *testing.T) {
	f, h := site(t)
	pending := f.add(1, simpleMail)
	pending.Entry = nil
	refused := f.add(2, simpleMail)
	refused.Item.Body, refused.Item.Kind = nil, record.KindRefused
	for path, want := range map[string]string{
		"/api/v1/search?q=a+nofield:x":                     `{"status":400,"error":"unknown field nofield","pos":2,"len":7,"hint":"put the text in quotes if no field is meant"}`,
		"/api/v1/search?limit=x":                           `{"status":400,"error":"bad request: limit \"x\" is not between 1 and 1000"}`,
		"/api/v1/records/x":                                `{"status":400,"error":"\"x\": not a record id"}`,
		"/api/v1/records/" + idOf(99).String():             `{"status":404,"error":"no such record","hint":"the id may be of another archive, or the record was destroyed when its time had come"}`,
		"/api/v1/records/" + idOf(1).String() + "/proof":   `{"status":409,"error":"this record is in local custody and not yet in the archive","hint":"it is committed within archive.seal_after; then it has a proof"}`,
		"/api/v1/records/" + idOf(2).String() + "/eml":     `{"status":404,"error":"only the envelope of this message was kept","hint":"keep_refused: full keeps refused messages too"}`,
		"/api/v1/records/" + idOf(2).String() + "/text":    `{"status":404,"error":"only the envelope of this message was kept","hint":"keep_refused: full keeps refused messages too"}`,
		"/api/v1/nothing":                                  `{"status":404,"error":"there is nothing at this address"}`,
		"/api/v1/records/" + idOf(2).String() + "/nothing": `{"status":404,"error":"there is nothing at this address"}`,
	} {
		w := ask(h, path)
		asJSON(t, w, want)
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code {
			t.Errorf("%s: status %d in HTTP %d, %v", path, p.Status, w.Code, err)
		}
	}
	if w := ask(h, "/api/v1/search", method(http.MethodDelete)); w.Code != 405 || w.Header().Get("Allow") == "" {
		t.Errorf("DELETE: %d", w.Code)
	}
	if f.open != 0 {
		t.Errorf("%d bodies were left open", f.open)
	}
}

// Over TCP nobody learns paths, keys or causes; on the node's own socket errors are whole.
func TestProblemsTellStrangersNothing(t *testing.T) {
	secret := errors.New("open /etc/holdfast/keys/identity.txt: packs/2033-04/secret.tar.zst")
	for _, f := range faults {
		err := fmt.Errorf("%w: %w", f.is, secret)
		var log bytes.Buffer
		p := problem(err, false, slog.New(slog.NewTextHandler(&log, nil)))
		if text := p.Error + p.Hint; strings.Contains(text, "/etc/") || strings.Contains(text, "packs/") {
			t.Errorf("%v: a stranger is told %q", f.is, text)
		}
		if p.Status != f.status || (p.Status >= 500) != (p.Ref != "") || (p.Ref == "") != (log.Len() == 0) || !strings.Contains(log.String(), p.Ref) || p.Ref != "" && !strings.Contains(log.String(), "secret") {
			t.Errorf("%v: %+v, log %q", f.is, p, log.String())
		}
		log.Reset()
		if p := problem(err, true, slog.New(slog.NewTextHandler(&log, nil))); !strings.Contains(p.Error, "secret.tar.zst") || p.Ref != "" || log.Len() != 0 {
			t.Errorf("%v: on the socket %+v, log %q", f.is, p, log.String())
		}
	}
	if p := problem(fmt.Errorf("x in packs/y: %w", pack.ErrNoIdentity), false, slog.New(slog.DiscardHandler)); p.Status != 503 || !strings.Contains(p.Error, "encrypted") {
		t.Errorf("no identity: %+v", p)
	}
}

func TestDownloads(t *testing.T) {
	f, h := site(t)
	s := f.add(1, simpleMail)
	id := idOf(1).String()
	w := ask(h, "/api/v1/records/"+id+"/eml")
	if record.Sum(w.Body.Bytes()) != s.Item.Envelope.SHA256 {
		t.Error("the message is not the one received")
	}
	for k, want := range map[string]string{"Content-Type": "message/rfc822", "Content-Disposition": `attachment; filename="` + id + `.eml"`, "X-Content-Type-Options": "nosniff",
		"Content-Length": fmt.Sprint(s.Item.Envelope.Size), "Content-Security-Policy": dataPolicy} {
		if got := w.Header().Get(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	w = ask(h, "/api/v1/records/"+id+"/proof")
	if w.Body.String() != "c2sp.org/tlog-proof@v1\n" || !strings.Contains(w.Header().Get("Content-Disposition"), id+".tlog-proof") {
		t.Errorf("proof: %v %q", w.Header(), w.Body)
	}
	w = ask(h, "/api/v1/records/"+id+"/text")
	contains(t, w.Body.String(), "From: Claire Dubois", "Subject: Merger timetable", "Attachment: invoice.html (text/html, ", "\n\nThe plan")
	if w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("text is %s", w.Header().Get("Content-Type"))
	}
	if want := []string{"view " + id + " eml", "proof " + id, "view " + id + " text"}; fmt.Sprint(f.acts) != fmt.Sprint(want) {
		t.Errorf("acts %q, want %q", f.acts, want)
	}
}

// socket serves the API as the node's socket does.
func socket(s Services) http.Handler {
	api := API(s, true)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		api.ServeHTTP(w, r.WithContext(WithActor(r.Context(), record.Actor{ID: "uid:1000", Via: "socket"})))
	})
}

func post(h http.Handler, path, body string) *httptest.ResponseRecorder {
	return ask(h, path, method(http.MethodPost), func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(body)) })
}

func TestImport(t *testing.T) {
	var began [][]string
	var messages []string
	h := socket(Services{
		BeginImport: func(_ context.Context, by record.Actor, paths, reports []string) error {
			began = append(began, slices.Concat(paths, reports, []string{by.ID}))
			return nil
		},
		Import: func(_ context.Context, origin string, reports []string, r io.Reader) (record.ID, error) {
			b, err := io.ReadAll(r)
			messages = append(messages, origin+" "+strings.Join(reports, "+")+" "+string(b))
			return idOf(1), err
		},
	})
	if w := post(h, "/api/v1/imports/unknown", "x"); w.Code != 400 || len(messages) != 0 {
		t.Errorf("an import that was not begun: %d %s", w.Code, w.Body)
	}
	var begun struct{ Import string }
	if err := json.Unmarshal(post(h, "/api/v1/imports?path=a.mbox&path=b&report=exchange&report=google", "").Body.Bytes(), &begun); err != nil || begun.Import == "" {
		t.Fatalf("%+v, %v", begun, err)
	}
	asJSON(t, post(h, "/api/v1/imports/"+begun.Import+"?origin=a.mbox:1", "mail"), `{"id":"`+idOf(1).String()+`"}`)
	if fmt.Sprint(began, messages) != "[[a.mbox b exchange google uid:1000]] [a.mbox:1 exchange+google mail]" {
		t.Errorf("began %q, messages %q", began, messages)
	}
}

func TestRebuildStreams(t *testing.T) {
	fail := errors.New("store gone")
	var err error
	h := socket(Services{Rebuild: func(_ context.Context, _ record.Actor, progress func(Progress)) error {
		progress(Progress{Step: "index", Done: 1, Total: 2, Unit: "entries"})
		return err
	}})
	const first = `{"progress":{"step":"index","done":1,"total":2,"unit":"entries"}}` + "\n"
	if got := post(h, "/api/v1/rebuild", "").Body.String(); got != first+`{"result":{"ok":true}}`+"\n" {
		t.Errorf("%s", got)
	}
	err = fail
	if got := post(h, "/api/v1/rebuild", "").Body.String(); got != first+`{"error":{"status":500,"error":"store gone"}}`+"\n" {
		t.Errorf("%s", got)
	}
}

func TestWhatThisProcessCannotDo(t *testing.T) {
	h := socket(Services{})
	for _, w := range []*httptest.ResponseRecorder{ask(h, "/api/v1/search"), ask(h, "/api/v1/records/"+idOf(1).String()), ask(h, "/api/v1/records/"+idOf(1).String()+"/proof"),
		post(h, "/api/v1/imports", ""), post(h, "/api/v1/rebuild", "")} {
		if w.Code != 503 || !strings.Contains(w.Body.String(), "not available in this process") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if w := ask(Handler(Services{}, nil), "/"); w.Code != 503 {
		t.Errorf("page: %d", w.Code)
	}
	var _ Searcher = (*search.Service)(nil)
}
