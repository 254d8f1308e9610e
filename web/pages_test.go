package web

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// contains checks a page for texts that must be there, and with ! before them must not.
func contains(t *testing.T, page string, texts ...string) {
	t.Helper()
	page = strings.ReplaceAll(page, "&#43;", "+") // html/template escapes more than it must
	for _, text := range texts {
		if never, not := strings.CutPrefix(text, "!"); not {
			if strings.Contains(page, never) {
				t.Errorf("the page has %q", never)
			}
		} else if !strings.Contains(page, text) {
			t.Errorf("the page has no %q", text)
		}
	}
	if t.Failed() {
		t.Logf("%s", page)
	}
}

var someHits = []search.Hit{
	{ID: idOf(1), Received: received, Sent: received.Add(-time.Second), From: []string{"Claire <b>Dubois</b> <claire@acme.example>", "x@acme.example"}, To: []string{"board@acme.example"},
		Rcpt: []string{"board@acme.example", "hidden@elsewhere.example"}, Subject: `<script>alert("s")</script>`, Size: 84_321, Attachments: []string{"a.pdf", "txt\u202eexe.b"}, Pending: true},
	{ID: idOf(2), Received: received, From: []string{}, To: []string{}, Rcpt: []string{"only@rcpt.example"}, Size: 1},
}

func TestResults(t *testing.T) {
	f, h := site(t)
	f.result = search.Result{Total: 1284, Hits: someHits, Hints: []string{"and was searched for as a <word>"}, Next: "CURSOR",
		CompleteThrough: []search.Through{{Log: "node-main", Seq: 48201377, Time: received}}}
	page := ask(h, "/?q=merger+and+plan&sort=-size&limit=2&tz=Europe%2FParis").Body.String()
	contains(t, page, "1,284 found", "read as <code>merger and plan</code>", "complete through entry 48,201,377 of node-main",
		`title="2026-03-14 08:12:04.005 UTC"`, `datetime="2026-03-14T08:12:04.005Z"`, "Claire &lt;b&gt;Dubois&lt;/b&gt;", "claire@acme.example", "+1",
		`&lt;script&gt;alert(&#34;s&#34;)&lt;/script&gt;`, "!<script>alert", "a.pdf, txt‹U+202E›exe.b", "!\u202e", "pending", "84.3 kB", "84,321 bytes",
		"(no subject)", "only@rcpt.example", "hidden@elsewhere.example", "and was searched for as a &lt;word&gt;",
		`value="merger and plan"`, `<input type="hidden" name="sort" value="-size">`, `<input type="hidden" name="tz" value="Europe/Paris">`,
		`/message/`+idOf(1).String()+`?limit=2&amp;q=merger+and+plan&amp;sort=-size&amp;tz=Europe%2FParis`, `rel="next"`)
	if r := f.asked[0]; r.Query != "merger and plan" || r.Sort != index.SizeDesc || r.Limit != 2 || r.Location.String() != "Europe/Paris" || r.Count {
		t.Errorf("asked %+v", r)
	}
}

var links = regexp.MustCompile(`href="([^"]+)"([^>]*)>(Received|Size|First page|Next page)`)

// linksOf gives the queries of headings and page links.
func linksOf(t *testing.T, page string) map[string]url.Values {
	out := map[string]url.Values{}
	for _, m := range links.FindAllStringSubmatch(page, -1) {
		u, err := url.Parse(html.UnescapeString(m[1]))
		if err != nil || u.Path != "/" {
			t.Errorf("link %q: %v", m[1], err)
			continue
		}
		out[m[3]] = u.Query()
	}
	return out
}

func TestLinksSortAndTurnPages(t *testing.T) {
	f, h := site(t)
	f.result = search.Result{Total: 9, Hits: someHits, Next: "NEXT"}
	for _, c := range []struct {
		asked          string
		received, size string // the orders that the headings ask for
		aria           string
		first          bool
	}{
		{"/?q=a+b", "received", "-size", `aria-sort="descending"`, false},
		{"/?q=a+b&sort=-received", "received", "-size", `aria-sort="descending"`, false},
		{"/?q=a+b&sort=received", "-received", "-size", `aria-sort="ascending"`, false},
		{"/?q=a+b&sort=-size&after=HERE", "-received", "size", `aria-sort="descending"`, true},
		{"/?q=a+b&sort=size&after=HERE&evil=1", "-received", "-size", `aria-sort="ascending"`, true},
		{"/?q=a+b&sort=-sent", "-received", "-size", "", false},
	} {
		page := ask(h, c.asked).Body.String()
		l := linksOf(t, page)
		if l["Received"].Get("sort") != c.received || l["Size"].Get("sort") != c.size {
			t.Errorf("%s: headings ask for %v and %v", c.asked, l["Received"], l["Size"])
		}
		if strings.Count(page, "aria-sort") != strings.Count(c.aria, "aria-sort") || !strings.Contains(page, c.aria) {
			t.Errorf("%s: not marked %q", c.asked, c.aria)
		}
		if l["Next page"].Get("after") != "NEXT" || (l["First page"] != nil) != c.first || l["First page"].Get("after") != "" {
			t.Errorf("%s: next %v, first %v", c.asked, l["Next page"], l["First page"])
		}
		for name, q := range l {
			if q.Get("q") != "a b" || q.Has("evil") || name != "Next page" && q.Has("after") {
				t.Errorf("%s: %s leads to %v", c.asked, name, q)
			}
		}
	}
}

// What could not be searched fully is said beside the results, and is a list of its own.
func TestNotFullySearched(t *testing.T) {
	f, h := site(t)
	f.result = search.Result{Total: 9, NotSearched: 3, Hits: someHits}
	contains(t, ask(h, "/?q=a&after=HERE").Body.String(), `href="/?not_fully_searched=1&amp;q=a"`, "3 not fully searched")
	contains(t, ask(h, "/?q=a&not_fully_searched=1").Body.String(), `href="/?q=a"`, "Back to what was found")
	if !f.asked[1].Unsure || f.asked[0].Unsure {
		t.Error("not_fully_searched is not handed on")
	}
	f.result.NotSearched = 0
	contains(t, ask(h, "/?q=a").Body.String(), "!not fully searched", "!Not everything was searched")
	f.result.Missing = []string{"2025-03", "2025-04"}
	contains(t, ask(h, "/?q=a").Body.String(), "Not everything was searched", "2025-03, 2025-04")
}

func TestFaultsOfQueriesAreUnderlined(t *testing.T) {
	_, h := site(t)
	for q, want := range map[string]string{
		"merger OR":       `merger <mark>OR</mark>`,
		"ж nofield:x":     `ж <mark>nofield</mark>:x`,
		`a "open <b>`:     `a <mark>&#34;</mark>open &lt;b&gt;`,
		"sent:2026-99 ok": `sent:<mark>2026-99</mark> ok`,
		"dmarc:maybe":     `dmarc:<mark>maybe</mark>`,
	} {
		w := ask(h, "/?q="+url.QueryEscape(q))
		if w.Code != 400 {
			t.Errorf("%s: %d", q, w.Code)
		}
		contains(t, w.Body.String(), want, `role="alert"`, `value="`+html.EscapeString(q)+`"`)
	}
	for path, want := range map[string]string{"/?limit=0": "not between 1 and 1000", "/?limit=1001": "not between", "/?tz=Nowhere": "unknown time zone",
		"/?sort=subject": "unknown order", "/?after=bad": "not a cursor", "/?tz=../../etc/passwd": "unknown time zone"} {
		w := ask(h, path)
		if w.Code != 400 {
			t.Errorf("%s: %d", path, w.Code)
		}
		contains(t, w.Body.String(), want, `role="alert"`, "!<mark>")
	}
}

func TestEmptyStatesSayWhatToDo(t *testing.T) {
	f, h := site(t)
	contains(t, ask(h, "/").Body.String(), "No mail yet", "holdfast import", "/help/operate", "!Nothing matches")
	contains(t, ask(h, "/?q=zebra").Body.String(), "Nothing matches", "contract*", "0 found", "the index has not said")
	f.result.Total = 60
	contains(t, ask(h, "/?q=zebra&after=x").Body.String(), "Nothing more on this page", "first page", "!Nothing matches")
	contains(t, ask(h, "/?q=zebra&count=1").Body.String(), "60 found", "!Nothing")
}

func TestMessagePage(t *testing.T) {
	f, h := site(t)
	f.add(1, simpleMail)
	id := idOf(1).String()
	page := ask(h, "/message/"+id+"?q=merger&sort=-size&evil=1").Body.String()
	contains(t, page, "<h1><bdi><mark>Merger</mark> timetable, second draft</bdi></h1>", "Claire Dubois &lt;claire.dubois@acme.example&gt;",
		"Sat, 14 Mar 2026 09:12:03 +0100", "2026-03-14 08:12:03 UTC", "2026-03-14 08:12:04.005 UTC",
		"The plan &lt;b&gt;moves&lt;/b&gt; to the week", "!<b>moves", `<iframe class="html short" src="/message/`+id+`/html" sandbox=""`,
		`href="/message/`+id+`/attachment/2" download`, "invoice.html", `href="/api/v1/records/`+id+`/eml"`, `href="/api/v1/records/`+id+`/proof"`,
		"mail.acme.example", "10.0.0.8 port 4711", "TLS 1.3", "Holdfast, node main", "mx.kanzlei.example:25", "clear text",
		"250 2.0.0 queued as 4Tx", "550 5.1.1 no &lt;such&gt; user", "not in header", "entry 48,201 of <code>node-main</code>", "sequence 7", "packs/2033-04/",
		"in the archive", "!pending", `<a class="back" href="/?q=merger&amp;sort=-size">Results</a>`, "!evil", `value="merger"`, "Header as it came")
	if strings.Count(page, "not in header") != 1 {
		t.Error("not exactly one recipient is marked as not in the header")
	}
	if len(f.acts) != 1 || f.acts[0] != "view "+id+" message" || f.open != 0 {
		t.Errorf("acts %q, open %d", f.acts, f.open)
	}
	page = ask(h, "/message/"+id+"?q="+url.QueryEscape(`moves "second draft" -timetable`)).Body.String()
	contains(t, page, "<h1><bdi>Merger timetable, <mark>second draft</mark></bdi></h1>", "The plan &lt;b&gt;<mark>moves</mark>&lt;/b&gt; to the week")
	contains(t, ask(h, "/message/"+id+"?q=(").Body.String(), "<h1><bdi>Merger timetable, second draft</bdi></h1>", "The plan &lt;b&gt;moves&lt;/b&gt; to the week")
	if f.result.Hits = someHits; !strings.Contains(ask(h, "/message/"+id).Body.String(), `<a class="back" href="/">All mail</a>`) {
		t.Error("a message opened alone has no way to all mail")
	}
}

func TestHostileHeadersAreEscaped(t *testing.T) {
	f, h := site(t)
	f.add(1, "From: \"<img src=x onerror=alert(1)>\" <a@x.example>\nTo: \u202eevil@x.example\nSubject: </title><script>alert(1)</script>\u202e\nDate: <b>never</b>\n"+
		"Message-ID: <x\"onclick=alert(1)@x>\nContent-Type: text/plain; name=\"<i>.txt\"\n\n</pre><script>alert(1)</script>\x00\x1b[2J\n")
	page := ask(h, "/message/"+idOf(1).String()).Body.String()
	contains(t, page, "!<img", "!<script>alert", "!<b>never", "!</pre><script", "!\x00", "!<i>", "‹U+202E›", "&lt;script&gt;alert(1)")
	text := ask(h, "/api/v1/records/"+idOf(1).String()+"/text").Body.String()
	contains(t, text, "!\x1b", "!\u202e", "‹U+001B›[2J")
}

func TestMessageStates(t *testing.T) {
	f, h := site(t)
	id := idOf(1).String()
	show := func(change func(*archive.Stored)) string {
		change(f.add(1, simpleMail))
		return ask(h, "/message/"+id).Body.String()
	}
	contains(t, show(func(s *archive.Stored) { s.Entry = nil }), "pending: in custody here", "Not committed yet", "!/proof", "!In the archive")
	contains(t, show(func(s *archive.Stored) { s.Item.Body = nil; s.Item.Kind = record.KindRefused }),
		"Message, envelope only", "No message is kept", "refused: only the envelope", "!/eml", "!<iframe", "mx.kanzlei.example:25")
	contains(t, show(func(s *archive.Stored) { s.Item.Supplements = nil }), "not known yet", "no outcome is recorded", "board@acme.example")
	contains(t, show(func(s *archive.Stored) { s.Item.Supplements = nil; s.Item.Envelope.Mode = record.ModeJournal }), "Not sent on")
	contains(t, show(func(s *archive.Stored) {
		s.Item.Supplements, s.Item.Envelope.Client, s.Item.Envelope.Source = nil, nil, record.SourceImport
		s.Item.Envelope.Origin, s.Item.Envelope.MailFrom, s.Item.Envelope.Rcpt = "old.mbox:17", nil, nil
	}), "Import", "old.mbox:17", "not known", "!Next hop")
	contains(t, show(func(s *archive.Stored) {
		d := s.Item.Supplements[0].Delivery
		d.Outcome, d.ReplyLost, d.Reason, d.EightBitSentAnyway = record.Unknown, true, "connection <reset>", true
		s.Item.Envelope.MailFrom.Address = ""
	}), "unknown", "the client had gone", "connection &lt;reset&gt;", "8BITMIME", "(a bounce)")
	contains(t, show(func(s *archive.Stored) {
		s.Item.Supplements = append(s.Item.Supplements, record.SupplementDoc{Supplement: record.Supplement{Name: record.SupplementAuth, Auth: &record.Verdicts{
			SPF:   []record.SPFVerdict{{Identity: record.SPFMailFrom, Domain: "acme.example", Result: "pass"}, {Identity: record.SPFHelo, Domain: "<x>", Result: "none"}},
			DKIM:  []record.DKIMVerdict{{Domain: "acme.example", Result: "fail", Reason: "the body is not the one that was signed"}},
			DMARC: &record.DMARCVerdict{Result: "pass", From: "acme.example", Policy: "reject"}, ARC: &record.ARCVerdict{Result: "pass", Sealed: []string{"a.example", "b.example"}},
		}}})
	}), "SPF pass for MAIL FROM acme.example", "SPF none for HELO &lt;x&gt;", "DKIM fail for acme.example: the body is not the one that was signed",
		"DMARC pass for acme.example, whose policy is reject", "ARC pass, sealed by a.example, b.example", "mx.kanzlei.example:25")
	contains(t, show(func(s *archive.Stored) { s.Item.Envelope.BareLF = 3 }), "0 bare CR, 3 bare LF")
}

func TestLongTextsAreCutAndToldSo(t *testing.T) {
	f, h := site(t)
	f.add(1, "From: a@x.example\nSubject: long\nX-Long: "+strings.Repeat("h", 80<<10)+"\n\n"+strings.Repeat("слово ", 200_000))
	w := ask(h, "/message/"+idOf(1).String())
	contains(t, w.Body.String()[w.Body.Len()-maxHeader-9000:], "Cut here:", "the message itself has all of it")
	if !strings.Contains(w.Body.String(), "whole text</a> is longer") || w.Body.Len() > maxText+maxHeader+20_000 {
		t.Errorf("%d bytes", w.Body.Len())
	}
	if got := ask(h, "/api/v1/records/"+idOf(1).String()+"/text").Body.Len(); got < 2_000_000 {
		t.Errorf("the text alone has %d bytes", got)
	}
}

func TestFrame(t *testing.T) {
	f, h := site(t)
	f.add(1, simpleMail)
	f.add(2, "From: a@x.example\nSubject: text\n\nonly text\n")
	w := ask(h, "/message/"+idOf(1).String()+"/html")
	contains(t, w.Body.String(), "<p>The plan <b>moves</b> to the week of the 18th.</p>", "[logo]", "!tracker", "!onclick", "<style>"+frameStyle+"</style>")
	csp := w.Header().Get("Content-Security-Policy")
	contains(t, csp, "default-src 'none'", "; sandbox;", "frame-ancestors 'self'", "style-src 'sha256-", "!unsafe", "!allow", "!'self' ", "!script-src", "!img-src")
	if f.acts[0] != "view "+idOf(1).String()+" html" {
		t.Errorf("acts %q", f.acts)
	}
	if w := ask(h, "/message/"+idOf(2).String()+"/html"); w.Code != 404 || w.Header().Get("Content-Security-Policy") != csp {
		t.Errorf("without HTML: %d", w.Code)
	}
	contains(t, ask(h, "/message/"+idOf(2).String()).Body.String(), "!<iframe", "only text")
}

func TestErrorPages(t *testing.T) {
	f, h := site(t)
	act := f.add(3, simpleMail)
	act.Item.Envelope, act.Item.Body, act.Item.Kind, act.Item.Act = nil, nil, record.KindAct, &record.Act{}
	for _, c := range []struct {
		path  string
		fault error
		code  int
		want  []string
	}{
		{"/message/" + idOf(99).String() + "?q=x", nil, 404, []string{"no such record", idOf(99).String(), `class="back" href="/?q=x"`}},
		{"/message/nonsense", nil, 400, []string{"not a record id"}},
		{"/message/" + idOf(3).String(), nil, 404, []string{"an act, not a message"}},
		{"/nothing/here%3Cb%3E", nil, 404, []string{"nothing at this address", "/nothing/here&lt;b&gt;"}},
		{"/help/nothing", nil, 404, []string{"nothing at this address"}},
		{"/message/" + idOf(1).String(), fmt.Errorf("x in packs/2033: %w", archive.ErrAltered), 502, []string{"not what the ledger says", "verify --full", "Reference", "!packs/2033"}},
		{"/?q=x", fmt.Errorf("shard /var/lib/x: %w", index.ErrCorrupt), 503, []string{"index is damaged", "holdfast rebuild", "under <code>", "!/var/lib"}},
		{"/?q=x*", fmt.Errorf("search: %w: x* has 70,000", index.ErrTooBroad), 400, []string{"70,000", "more letters"}},
		{"/?q=x", context.DeadlineExceeded, 504, []string{"took too long"}},
		{"/?q=x", errors.New("open /var/lib/holdfast/secret: denied"), 500, []string{"internal error", "!/var/lib", "under <code>"}},
	} {
		f.fault = c.fault
		w := ask(h, c.path)
		if w.Code != c.code {
			t.Errorf("%s, %v: %d, not %d", c.path, c.fault, w.Code, c.code)
		}
		contains(t, w.Body.String(), append(c.want, `role="alert"`, `class="query"`, "<!doctype html>")...)
	}
}

func TestManual(t *testing.T) {
	_, h := site(t)
	for path, want := range map[string]string{"/help": "Searching", "/help/search": "envfrom:", "/help/operate": "holdfast_spool_pending_records",
		"/help/journaling": "report_formats"} {
		contains(t, ask(h, path).Body.String(), want, `aria-current="page"`, `href="/help/operate"`)
	}
	for _, page := range manual {
		for n, line := range strings.Split(page.Text, "\n") {
			if len([]rune(line)) > 88 {
				t.Errorf("help/%s.md:%d: longer than 88 columns", page.Name, n+1)
			}
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 84_321: "84.3 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 2_100_000: "2.1 MB", 999_950_000: "1.0 GB", 5e9: "5.0 GB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 48201377: "48,201,377"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %s, want %s", n, got, want)
		}
	}
}

// The manual's examples are understood.
func TestExamplesOfTheManual(t *testing.T) {
	_, text, _ := strings.Cut(manual[0].Text, "## Words")
	text, _, _ = strings.Cut(text, "## What is refused")
	n := 0
	for line := range strings.Lines(text) {
		example, ok := strings.CutPrefix(line, "    ")
		example, _, _ = strings.Cut(example, "  ")
		example = strings.TrimSpace(example)
		if !ok || example == "" || strings.HasSuffix(example, ":") || strings.Contains(example, "…") {
			continue
		}
		n++
		if _, err := syntax.Parse(example, syntax.Env{Now: received, Location: time.UTC, Joins: true, Directions: true}); err != nil {
			t.Errorf("%s: %v", example, err)
		}
	}
	if n < 20 {
		t.Errorf("only %d examples were found", n)
	}
}
