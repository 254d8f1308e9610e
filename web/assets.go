package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

//go:embed static templates help
var files embed.FS

// static are our own files. The version in a page's URL is of the content, so that a browser may keep them.
var static = func() map[string]asset {
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	m := map[string]asset{}
	for _, name := range []string{"style.css", "keys.js", "icon.svg"} {
		body := mustRead("static/" + name)
		sum := sha256.Sum256(body)
		m[name] = asset{body, types[path.Ext(name)], hex.EncodeToString(sum[:6])}
	}
	return m
}()

type asset struct {
	body    []byte
	typ     string
	version string
}

func mustRead(name string) []byte {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return b
}

// frameStyle is the one style in the HTML of a message. It stands in the page itself, and the policy names its digest, so that the frame
// needs no right to load anything.
var frameStyle = string(mustRead("static/mail.css"))

// framePolicy is the Content-Security-Policy of the HTML of a message: it may show itself inside a page of ours and do nothing else.
var framePolicy = func() string {
	sum := sha256.Sum256([]byte(frameStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; sandbox; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
}()

func (p *pages) staticFile(w http.ResponseWriter, r *http.Request) {
	a, ok := static[r.PathValue("file")]
	if !ok {
		p.nothingHere(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.typ)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if r.URL.Query().Get("v") == a.version {
		h.Set("Cache-Control", "max-age=31536000, immutable")
	}
	w.Write(a.body)
}

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"static": func(name string) string { return "/static/" + name + "?v=" + static[name].version },
	"day":    func(t time.Time) string { return t.UTC().Format("2006-01-02") },
	"clock":  func(t time.Time) string { return t.UTC().Format("15:04") },
	"second": func(t time.Time) string { return t.UTC().Format("15:04:05") },
	"exact":  exact,
	"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"join":   func(list []string) string { return strings.Join(list, ", ") },
	"plain":  plain,
	"lines": func(s string) string { // more than one
		list := strings.Split(s, "\n")
		for i := range list {
			list[i] = plain(list[i])
		}
		return strings.Join(list, "\n")
	},
	"known": func(c record.Completeness) string {
		switch c {
		case record.Full:
			return "in full"
		case record.Partial:
			return "in part"
		case record.HeaderOnly:
			return "not: the header is all there is"
		}
		return string(c)
	},
	"size":  size,
	"bytes": func(n int64) string { return count(uint64(max(n, 0))) + " bytes" },
	"count": count,
}).ParseFS(files, "templates/*.html"))

// render sends a page whole or, where its template fails, none of it.
func (p *pages) render(w http.ResponseWriter, status int, name string, data any) {
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, data); err != nil {
		p.Log.Error("page not made", "template", name, "err", err)
		http.Error(w, "internal error; the log has the cause", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(page.Bytes())
}

// exact writes a time to the millisecond, with its zone.
func exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") + " UTC" }

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 999_950:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 999_950_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// count writes a number in groups of three.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plain makes one line of what a sender wrote: marks that turn the direction of writing (which make "txt.exe" of "exe.txt") and control
// characters are spelt out, so that they can be seen and do nothing.
func plain(s string) string {
	if !strings.ContainsFunc(s, misleads) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if misleads(r) {
			fmt.Fprintf(&b, "‹U+%04X›", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func misleads(r rune) bool {
	return r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}
