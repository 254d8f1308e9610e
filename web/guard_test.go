package web

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/search"
)

// routes are all that the handler answers, each with what a sound answer to it is.
func routes() map[string]int {
	id, gone := idOf(1).String(), idOf(99).String()
	return map[string]int{
		"/":                                  200,
		"/?q=merger":                         200,
		"/?q=%28":                            400,
		"/?q=(":                              400,
		"/message/" + id:                     200,
		"/message/" + gone:                   404,
		"/message/x":                         400,
		"/message/" + id + "/html":           200,
		"/message/" + gone + "/html":         404,
		"/message/" + id + "/attachment/2":   200,
		"/message/" + id + "/attachment/9":   404,
		"/message/" + id + "/attachment/a":   404,
		"/message/" + id + "/attachment/%2e": 404,
		"/static/style.css":                  200,
		"/static/keys.js":                    200,
		"/static/icon.svg":                   200,
		"/static/mail.css":                   404,
		"/static/":                           404,
		"/help":                              200,
		"/help/operate":                      200,
		"/help/x":                            404,
		"/metrics":                           200,
		"/healthz":                           200,
		"/nothing":                           404,
		"/favicon.ico":                       404,
		"/api/v1/search?q=merger":            200,
		"/api/v1/search?limit=x":             400,
		"/api/v1/records/" + id:              200,
		"/api/v1/records/" + gone:            404,
		"/api/v1/records/" + id + "/eml":     200,
		"/api/v1/records/" + id + "/text":    200,
		"/api/v1/records/" + id + "/proof":   200,
		"/api/v1/nothing":                    404,
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	f, h := site(t)
	f.add(1, simpleMail)
	for path, want := range routes() {
		for name, change := range map[string]func(*http.Request){
			"plain": func(*http.Request) {}, "foreign host": host("evil.example"), "post": method(http.MethodPost), "cross-origin": header("Sec-Fetch-Site", "cross-site"),
		} {
			w := ask(h, path, change)
			if name == "plain" && w.Code != want {
				t.Errorf("%s: %d, want %d: %s", path, w.Code, want, w.Body)
			}
			if name != "plain" && w.Code < 400 {
				t.Errorf("%s, %s: %d", path, name, w.Code)
			}
			csp := w.Header().Get("Content-Security-Policy")
			for _, must := range []string{"default-src 'none'", "base-uri 'none'", "form-action", "frame-ancestors"} {
				if !strings.Contains(csp, must) {
					t.Errorf("%s, %s: policy %q has no %s", path, name, csp, must)
				}
			}
			for _, never := range []string{"unsafe", "*", "data:", "blob:", "http:", "https:", "allow-"} {
				if strings.Contains(csp, never) {
					t.Errorf("%s, %s: policy %q has %s", path, name, csp, never)
				}
			}
			for k, v := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
				"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"} {
				if got := w.Header().Get(k); got != v {
					t.Errorf("%s, %s: %s is %q, not %q", path, name, k, got, v)
				}
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s, %s: may be kept: %q", path, name, w.Header().Get("Cache-Control"))
			}
			if typ := w.Header().Get("Content-Type"); strings.HasPrefix(typ, "text/html") && !strings.Contains(path, "/html") {
				page := w.Body.String()
				for _, never := range []string{"<style", "style=", "onclick=", "javascript:", "<script>"} {
					if strings.Contains(page, never) {
						t.Errorf("%s, %s: the page has %s", path, name, never)
					}
				}
			}
		}
	}
	if f.open != 0 {
		t.Errorf("%d bodies were left open", f.open)
	}
}

func TestForeignHostsAreRefused(t *testing.T) {
	f, h := site(t)
	f.add(1, simpleMail)
	for path := range routes() {
		for _, name := range []string{"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example:8080", "10.0.0.1", "0.0.0.0:8080",
			"[::2]:8080", "[::]", "", "localhost.", "2130706433", "0x7f.1", "127.1", "[::1%25lo]:80", "a@127.0.0.1:80", "127.0.0.1:80:80"} {
			if w := ask(h, path, host(name)); w.Code != http.StatusMisdirectedRequest {
				t.Errorf("%s, Host %q: %d, not 421", path, name, w.Code)
			}
		}
	}
	if len(f.acts) != 0 {
		t.Errorf("acts were written for foreign hosts: %q", f.acts)
	}
	for _, name := range []string{"127.0.0.1", "127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8080", "127.8.8.8:80"} {
		if w := ask(h, "/healthz", host(name)); w.Code != http.StatusOK {
			t.Errorf("Host %q: %d, not 200", name, w.Code)
		}
	}
}

func TestForeignPagesCannotWriteActs(t *testing.T) {
	f, h := site(t)
	f.add(1, simpleMail)
	for _, c := range []struct {
		site, mode, dest string
		want             int
	}{
		{"cross-site", "no-cors", "image", 403},
		{"cross-site", "no-cors", "script", 403},
		{"cross-site", "navigate", "iframe", 403},
		{"cross-site", "cors", "empty", 403},
		{"same-site", "no-cors", "image", 403}, // another port of this machine
		{"none", "navigate", "document", 200},
		{"same-origin", "navigate", "iframe", 200},
		{"cross-site", "navigate", "document", 200}, // a link that somebody follows
		{"", "", "", 200},                           // no browser
	} {
		f.acts = nil
		w := ask(h, "/?q=x", header("Sec-Fetch-Site", c.site), header("Sec-Fetch-Mode", c.mode), header("Sec-Fetch-Dest", c.dest))
		if w.Code != c.want || (len(f.acts) == 1) != (c.want == 200) {
			t.Errorf("%+v: %d, acts %q", c, w.Code, f.acts)
		}
	}
	for _, change := range []func(*http.Request){header("Origin", "https://evil.example"), header("Sec-Fetch-Site", "cross-site")} {
		if w := ask(h, "/api/v1/imports", method(http.MethodPost), change); w.Code != http.StatusForbidden {
			t.Errorf("foreign POST: %d, not 403", w.Code)
		}
	}
	if w := ask(h, "/api/v1/imports", method(http.MethodPost)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST from here: %d, not 405", w.Code)
	}
}

// Where the act can't be written nothing is shown, and nothing of the cause but a reference.
func TestNothingIsShownWithoutItsAct(t *testing.T) {
	for name, broken := range map[string]Searcher{
		"fake": &fakeSearch{t: t, broken: errDisk},
		"real": &search.Service{Audit: audit.New("main", fullDisk{})}, // anything after the act would panic
	} {
		var log bytes.Buffer
		if f, ok := broken.(*fakeSearch); ok {
			f.add(1, simpleMail)
		}
		s := Services{Search: broken, Log: slog.New(slog.NewTextHandler(&log, nil))}
		h := Handler(s, nil)
		id := idOf(1).String()
		for _, path := range []string{"/message/" + id, "/message/" + id + "/html", "/message/" + id + "/attachment/2", "/api/v1/records/" + id,
			"/api/v1/records/" + id + "/eml", "/api/v1/records/" + id + "/text", "/api/v1/records/" + id + "/proof"} {
			log.Reset()
			w := ask(h, path)
			body := w.Body.String()
			if w.Code != http.StatusServiceUnavailable {
				t.Errorf("%s, %s: %d, not 503", name, path, w.Code)
			}
			for _, secret := range []string{"Merger", "week of the 18th", "acme.example", "/var/lib", "no space", "alert(1)"} {
				if strings.Contains(body, secret) {
					t.Errorf("%s, %s: the answer has %q", name, path, secret)
				}
			}
			_, ref, _ := strings.Cut(log.String(), "ref=")
			if ref, _, _ = strings.Cut(ref, " "); len(ref) != 8 || !strings.Contains(body, ref) || !strings.Contains(log.String(), "no space left") {
				t.Errorf("%s, %s: reference %q, log %q", name, path, ref, log.String())
			}
		}
	}
}

type fullDisk struct{}

func (fullDisk) AppendAct(context.Context, record.Act) error { return errDisk }

func TestNobodyIsServedWithoutAName(t *testing.T) {
	f, _ := site(t)
	for _, local := range []bool{false, true} {
		w := ask(API(Services{Search: f}, local), "/api/v1/search")
		if w.Code != http.StatusForbidden || len(f.acts) != 0 {
			t.Errorf("local %v: %d, acts %q", local, w.Code, f.acts)
		}
	}
}

func TestStaticFilesAreKeptByVersion(t *testing.T) {
	_, h := site(t)
	page := ask(h, "/").Body.String()
	for name, a := range static {
		url := "/static/" + name + "?v=" + a.version
		if !strings.Contains(page, url) {
			t.Errorf("the page does not have %s", url)
		}
		if got := ask(h, url).Header().Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: %q", url, got)
		}
		if got := ask(h, "/static/"+name+"?v=old").Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s of an old version: %q", name, got)
		}
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8080": "", "localhost:0": "", "[::1]:1": "",
		"0.0.0.0:8080": "loopback", ":8080": "loopback", "example.com:80": "loopback", "127.0.0.1": "host:port", "127.0.0.1:x": "port", "127.0.0.1:70000": "port",
	} {
		err := Config{Address: address}.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
	if err := (Config{Address: "1.2.3.4:x"}).Validate(); err == nil || !strings.Contains(err.Error(), "loopback") || !strings.Contains(err.Error(), "port") {
		t.Errorf("two faults: %v", err)
	}
}
