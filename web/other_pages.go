package web

import (
	"html"
	"net/http"
	"strings"
)

func escape(s string) string { return html.EscapeString(s) }

// errorView is what error.html shows.
type errorView struct {
	frame
	Problem
	Path string // what was asked for
}

// failPage says what went wrong, what it is about, and what to do.
func (p *pages) failPage(w http.ResponseWriter, r *http.Request, err error) {
	pr := problem(err, false, p.Log)
	v := errorView{frame: frameOf(pr.Error, r.URL.Query()), Problem: *pr, Path: r.URL.Path}
	p.render(w, pr.Status, "error.html", &v)
}

// nothingHere answers where no page is.
func (p *pages) nothingHere(w http.ResponseWriter, r *http.Request) { p.failPage(w, r, noRoute(w, r)) }

// manual are the pages of help, in the order of reading. They are written to be read as they stand.
var manual = func() (list []manualPage) {
	for _, name := range []string{"search", "retention", "holds", "purge", "compliance", "operate", "queue", "journaling", "bundles"} {
		text := string(mustRead("help/" + name + ".md"))
		title, _, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
		list = append(list, manualPage{name, title, text})
	}
	return list
}()

type manualPage struct{ Name, Title, Text string }

// helpView is what help.html shows.
type helpView struct {
	frame
	Page  manualPage
	Pages []manualPage
}

func (p *pages) helpPage(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("page")
	for _, page := range manual {
		if name == page.Name || name == "" {
			v := helpView{frame: frameOf(page.Title, nil), Page: page, Pages: manual}
			v.Here = "help"
			p.render(w, http.StatusOK, "help.html", &v)
			return
		}
	}
	p.nothingHere(w, r)
}
