package web

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// fakeSearch is a Searcher over what it was given. It is stricter than the real one: it refuses whoever has no name, and a body must be
// closed.
type fakeSearch struct {
	t      testing.TB
	mu     sync.Mutex
	acts   []string // in custody, in order
	asked  []search.Request
	open   int // bodies that are not closed
	broken error
	fault  error // of what is looked at, once the act is written
	result search.Result
	stored map[record.ID]*archive.Stored
}

func (f *fakeSearch) act(by record.Actor, what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if by.ID == "" || by.Via == "" {
		f.t.Errorf("%s by nobody", what)
	}
	if f.broken != nil {
		return fmt.Errorf("%s by %s: %w: %w", what, by.ID, audit.ErrNotRecorded, f.broken)
	}
	f.acts = append(f.acts, what)
	return f.fault
}

func (f *fakeSearch) Search(_ context.Context, by record.Actor, r search.Request) (*search.Result, error) {
	if r.Sort != "" && !strings.Contains(" received -received sent -sent size -size ", " "+string(r.Sort)+" ") {
		return nil, fmt.Errorf("sort %q: %w", r.Sort, search.ErrSort)
	}
	if r.After == "bad" {
		return nil, fmt.Errorf("%q: %w", r.After, search.ErrCursor)
	}
	if _, err := syntax.Parse(r.Query, syntax.Env{Now: received, Location: r.Location}); err != nil {
		return nil, err
	}
	if err := f.act(by, "search "+r.Query); err != nil {
		return nil, err
	}
	f.asked = append(f.asked, r)
	res := f.result
	res.Query = r.Query
	if r.Count {
		res.Hits = []search.Hit{}
	}
	return &res, nil
}

func (f *fakeSearch) Facets(_ context.Context, by record.Actor, r search.FacetRequest) (*search.Facets, error) {
	if len(r.Facets) > 0 && r.Facets[0] == "colour" {
		return nil, fmt.Errorf("%q: %w", r.Facets[0], search.ErrFacet)
	}
	if err := f.act(by, "facets "+r.Query); err != nil {
		return nil, err
	}
	return &search.Facets{
		Query: r.Query, Total: f.result.Total, CompleteThrough: []search.Through{}, Hints: []string{},
		Facets: map[index.Facet]search.Spread{index.BySender: {Values: []search.Count{{Value: fmt.Sprint(r.Facets, r.Top), N: 3}}, More: 1}},
	}, nil
}

func (*fakeSearch) Parse(text string, loc *time.Location) (query.Query, error) {
	parsed, err := syntax.Parse(text, syntax.Env{Now: received, Location: loc})
	return parsed.Query, err
}

func (f *fakeSearch) Highlight(_ context.Context, by record.Actor, id record.ID, query string, _ *time.Location) (*search.Highlight, error) {
	if err := f.act(by, "view "+id.String()+" highlight"); err != nil {
		return nil, err
	}
	return &search.Highlight{ID: id, Query: query, Matches: "yes", Subject: []search.Piece{{Text: "<b>"}, {Text: "merger", Marked: true}}, Body: [][]search.Piece{}, Attachments: [][]search.Piece{}}, nil
}

func (f *fakeSearch) View(_ context.Context, by record.Actor, id record.ID, what string) (*archive.Stored, error) {
	if err := f.act(by, "view "+id.String()+" "+what); err != nil {
		return nil, err
	}
	s := f.stored[id]
	if s == nil {
		return nil, fmt.Errorf("%s: %w", id, archive.ErrNotFound)
	}
	return s, nil
}

func (f *fakeSearch) Proof(_ context.Context, by record.Actor, id record.ID) ([]byte, error) {
	if err := f.act(by, "proof "+id.String()); err != nil {
		return nil, err
	}
	switch s := f.stored[id]; {
	case s == nil:
		return nil, fmt.Errorf("%s: %w", id, archive.ErrNotFound)
	case s.Pending():
		return nil, fmt.Errorf("%s: %w", id, archive.ErrPending)
	}
	return []byte("c2sp.org/tlog-proof@v1\n"), nil
}

var received = time.Date(2026, 3, 14, 8, 12, 4, 5e6, time.UTC)

// idOf makes ids that are the same in every run.
func idOf(n byte) record.ID {
	id, err := record.ParseID("01KAT3Q0V5X8J2M4N6P7R9S100")
	if err != nil {
		panic(err)
	}
	id[15] = n
	return id
}

// add stores a message as delivered and committed, and gives the record for more.
func (f *fakeSearch) add(n byte, raw string) *archive.Stored {
	id := idOf(n)
	body := []byte(strings.ReplaceAll(strings.ReplaceAll(raw, "\r\n", "\n"), "\n", "\r\n"))
	e := &record.Envelope{V: 1, ID: id, Received: received, Node: "main", Source: record.SourceSMTP, Listener: "relay", Mode: record.ModeRelay, Session: "s1",
		Client: &record.Client{Address: "10.0.0.8", Port: 4711, Helo: "mail.acme.example", ESMTP: true}, TLS: &record.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
		Completeness: record.Full, MailFrom: &record.Path{Address: "claire.dubois@acme.example"},
		Rcpt: []record.Path{{Address: "board@acme.example"}, {Address: "j.weiss@kanzlei.example"}}, Size: int64(len(body)), SHA256: record.Sum(body)}
	s := &archive.Stored{Log: "node-main", Number: 48201, Entry: &record.Entry{V: 1, Kind: record.KindMessage, Time: received, ID: id, Seq: 7, Pack: "packs/2033-04/2026/03/14/main-1-abc.tar.zst"},
		Item: &record.Item{Kind: record.KindMessage, ID: id, Envelope: e, EnvelopeJSON: []byte(`{"v":1}`)}}
	s.Item.Body = func() (io.ReadCloser, error) {
		f.open++
		return &provenBody{f: f, r: strings.NewReader(string(body)), sum: sha256.New(), want: e.SHA256}, nil
	}
	s.Item.Supplements = []record.SupplementDoc{{JSON: []byte(`{"v":1,"name":"delivery-1"}`), Supplement: record.Supplement{V: 1, ID: id, Name: "delivery-1", Time: received.Add(time.Second),
		Delivery: &record.Delivery{Outcome: record.Delivered, NextHop: "mx.kanzlei.example:25", Address: "192.0.2.7:25", Attempts: 1, SentSize: 1234, Recipients: []record.RecipientDelivery{
			{Address: "board@acme.example", Outcome: record.Delivered, Code: 250, Enhanced: "2.0.0", Text: "queued as 4Tx", Time: received.Add(time.Second)},
			{Address: "j.weiss@kanzlei.example", Outcome: record.Refused, Code: 550, Enhanced: "5.1.1", Text: "no <such> user", Time: received.Add(time.Second)},
		}}}}}
	if f.stored == nil {
		f.stored = map[record.ID]*archive.Stored{}
	}
	f.stored[id] = s
	return s
}

// provenBody gives archive.ErrAltered at its end where the bytes are others, as the archive's own does.
type provenBody struct {
	f    *fakeSearch
	r    io.Reader
	sum  hash.Hash
	want record.Digest
}

func (b *provenBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.sum.Write(p[:n])
	if err == io.EOF && record.Digest(b.sum.Sum(nil)) != b.want {
		return n, fmt.Errorf("message in packs/secret: %w", archive.ErrAltered)
	}
	return n, err
}

func (b *provenBody) Close() error { b.f.open--; return nil }

var errDisk = errors.New("write /var/lib/holdfast/spool/000012: no space left on device")

const simpleMail = `From: Claire Dubois <claire.dubois@acme.example>
To: Board <board@acme.example>
Subject: Merger timetable, second draft
Date: Sat, 14 Mar 2026 09:12:03 +0100
Message-ID: <merger-timetable@acme.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: multipart/alternative; boundary=a

--a
Content-Type: text/plain; charset=utf-8

The plan <b>moves</b> to the week of the 18th.
--a
Content-Type: text/html; charset=utf-8

<p onclick="x()">The plan <b>moves</b> to the week of the 18th.</p><img src="http://tracker.example/p.gif" alt="logo">
--a--
--b
Content-Type: text/html; name="invoice.html"
Content-Disposition: attachment; filename="invoice.html"

<script>alert(1)</script>
--b--
`

// site is a handler over fakes.
func site(t testing.TB) (*fakeSearch, http.Handler) {
	f := &fakeSearch{t: t, result: search.Result{CompleteThrough: []search.Through{}, Hints: []string{}, Hits: []search.Hit{}}}
	return f, Handler(Services{Search: f, Log: slog.New(slog.DiscardHandler)}, map[string]http.Handler{
		"GET /metrics": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metric 1\n") }),
		"GET /healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "alive\n") }),
	})
}

// ask sends one request to a handler, as a program on this machine would, and changes it before.
func ask(h http.Handler, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "127.0.0.1:8080"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if e := recover(); e != nil {
				if e != http.ErrAbortHandler {
					panic(e)
				}
				w.Code = 0 // the connection was cut
			}
		}()
		h.ServeHTTP(w, r)
	}()
	return w
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func method(name string) func(*http.Request) { return func(r *http.Request) { r.Method = name } }
