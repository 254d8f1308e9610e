package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/search"
)

type pages struct{ *api }

// frame is what every page has around its own.
type frame struct {
	Title string
	Typed string   // the query in the box
	Keep  []hidden // parameters that a new query keeps
	Back  string   // URL of the list that this page was reached from
	Here  string   // "list", "message", "help": what page this is
}

type hidden struct{ Name, Value string }

func frameOf(title string, q url.Values) frame {
	list := listOf(q)
	f := frame{Title: title, Typed: q.Get("q"), Back: "/"}
	if len(list) > 0 {
		f.Back = "/?" + list.Encode()
	}
	for _, name := range []string{"sort", "tz", "limit"} {
		if v := list.Get(name); v != "" {
			f.Keep = append(f.Keep, hidden{name, v})
		}
	}
	return f
}

// searchView is what search.html shows.
type searchView struct {
	frame
	Notices     []string // of the state of the archive
	Result      *search.Result
	Fault       *fault
	Rows        []row
	CountOnly   bool
	Columns     []column
	First, Next string // URLs
	Unsure      bool   // the list is of what could not be searched fully
	Other       string // URL of the list of these, or of the hits where the list is of these
}

// row is a hit as the list shows it.
type row struct {
	*search.Hit
	URL          string
	From, ToWhom people
	ToTitle      string // with the recipients of the envelope
	Attached     string
	ReportTitle  string // of several journal reports shown as one: when each was received
}

// people are the first of a list, and how many there are beside him. The name is as he gave it; the address must not hide behind it.
type people struct {
	Name, Address string
	More          int
}

// column is a heading that may sort.
type column struct{ Name, Class, URL, Aria string }

// fault is an error with the place in the query that it is about.
type fault struct {
	Problem
	Before, Marked, After string
}

func (p *pages) searchPage(w http.ResponseWriter, r *http.Request) {
	v := searchView{frame: frameOf("Search", r.URL.Query())}
	v.Here = "list"
	if p.Notices != nil {
		v.Notices = p.Notices()
	}
	if v.Typed != "" {
		v.Title = shortTitle(v.Typed) + " · Search"
	}
	status := http.StatusOK
	req, err := searchRequest(r)
	if err == nil {
		v.Result, err = p.Search.Search(r.Context(), actor(r), req)
	}
	if err != nil {
		pr := problem(err, false, p.Log)
		v.Fault, status = mark(pr, v.Typed), pr.Status
	} else {
		v.CountOnly = req.Count
		v.links(r.URL, req)
		v.rows(listOf(r.URL.Query()))
	}
	p.render(w, status, "search.html", &v)
}

func shortTitle(s string) string {
	if runes := []rune(s); len(runes) > 60 {
		return string(runes[:59]) + "…"
	}
	return s
}

// mark cuts a query at the place of its fault.
func mark(pr *Problem, typed string) *fault {
	f := &fault{Problem: *pr}
	if pr.Pos == nil {
		return f
	}
	runes := []rune(typed)
	from := min(max(*pr.Pos, 0), len(runes))
	to := min(from+max(pr.Len, 1), len(runes))
	f.Before, f.Marked, f.After = string(runes[:from]), string(runes[from:to]), string(runes[to:])
	if f.Marked == "" { // at the end
		f.Marked = "…"
	}
	return f
}

func (v *searchView) rows(list url.Values) {
	v.Rows = make([]row, len(v.Result.Hits))
	for i := range v.Result.Hits {
		h := &v.Result.Hits[i]
		one := row{
			Hit: h, URL: "/message/" + h.ID.String(), From: peopleOf(h.From), ToWhom: peopleOf(h.To), Attached: strings.Join(h.Attachments, ", "),
		}
		if len(list) > 0 {
			one.URL += "?" + list.Encode()
		}
		one.ToTitle = "To: " + strings.Join(h.To, ", ")
		if len(h.Rcpt) > 0 {
			one.ToTitle += "\nEnvelope: " + strings.Join(h.Rcpt, ", ")
		}
		if len(h.To) == 0 {
			one.ToWhom = peopleOf(h.Rcpt)
		}
		for i := range h.Reports[:min(len(h.Reports), 20)] {
			one.ReportTitle += h.Reports[i].ID.String() + ", received " + exact(h.Reports[i].Received) + "\n"
		}
		v.Rows[i] = one
	}
}

// peopleOf reads what search.Hit writes: "Name <address>", a name, or an address.
func peopleOf(list []string) people {
	if len(list) == 0 {
		return people{}
	}
	s := list[0]
	if i := strings.LastIndex(s, " <"); i > 0 && strings.HasSuffix(s, ">") {
		return people{s[:i], s[i+2 : len(s)-1], len(list) - 1}
	}
	return people{Name: s, More: len(list) - 1}
}

// links are the URLs of headings and pages: a search is a GET, and its URL is what one cites.
func (v *searchView) links(u *url.URL, req search.Request) {
	with := func(key, value string, drop ...string) string {
		q := listOf(u.Query())
		for _, d := range append(drop, key) {
			q.Del(d)
		}
		if value != "" {
			q.Set(key, value)
		}
		return "/?" + q.Encode()
	}
	sort := req.Sort
	if sort == "" {
		sort = index.ReceivedDesc
	}
	heading := func(name, class string, down, up index.Sort) column {
		c := column{Name: name, Class: class}
		switch sort {
		case down:
			c.Aria, c.URL = "descending", with("sort", string(up), "after")
		case up:
			c.Aria, c.URL = "ascending", with("sort", string(down), "after")
		default:
			c.URL = with("sort", string(down), "after")
		}
		return c
	}
	v.Columns = []column{
		heading("Received", "date", index.ReceivedDesc, index.ReceivedAsc), {Name: "From", Class: "from"}, {Name: "To", Class: "to"},
		{Name: "Subject", Class: "subject"}, heading("Size", "size", index.SizeDesc, index.SizeAsc),
	}
	v.Unsure = req.Unsure
	if req.Unsure {
		v.Other = with("not_fully_searched", "", "after")
	} else if v.Result.NotSearched > 0 {
		v.Other = with("not_fully_searched", "1", "after")
	}
	if req.After != "" {
		v.First = with("after", "")
	}
	if v.Result.Next != "" {
		v.Next = with("after", v.Result.Next)
	}
}
