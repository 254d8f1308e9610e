package search

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Highlight shows where in a record a query's words stand. Its texts are what mail says: whoever shows them escapes them.
type Highlight struct {
	ID          record.ID `json:"id"`
	Query       string    `json:"query"`       // canonical form
	Matches     string    `json:"matches"`     // yes, no or unknown: what the query says of the record
	Subject     []Piece   `json:"subject"`     // all of it
	Body        [][]Piece `json:"body"`        // snippets
	Attachments [][]Piece `json:"attachments"` // names in which there is something, and snippets of their text
}

// Piece is a part of a text. Marked is what was asked for.
type Piece struct {
	Text   string `json:"text"`
	Marked bool   `json:"marked,omitempty"`
}

// What a Highlight has at most.
const (
	maxSnippets   = 10
	snippetAround = 90   // bytes before and behind what is marked
	maxPieces     = 1000 // bytes of a snippet, or of a subject
)

// Highlight writes the act of a view, reads the record from archive or custody, and marks what the query asks for, by the analysis that the
// query is evaluated with. Errors as Search's and View's.
func (s *Service) Highlight(ctx context.Context, by record.Actor, id record.ID, text string, loc *time.Location) (*Highlight, error) {
	parsed, err := s.parse(text, loc)
	if err != nil {
		return nil, err
	}
	stored, err := s.View(ctx, by, id, "highlight")
	if err != nil {
		return nil, err
	}
	out := &Highlight{ID: id, Query: parsed.Query.String(), Body: [][]Piece{}, Attachments: [][]Piece{}}
	d := index.DocumentOf(stored.Item)
	m := query.NewMatcher(d)
	out.Matches = m.Match(parsed.Query).String()
	marks := m.Marks(parsed.Query)
	of := func(f query.Field) []query.Mark {
		if list := marks[f]; len(list) > 0 {
			return list[0]
		}
		return nil
	}
	subject := d.Subject[:before(d.Subject, min(len(d.Subject), maxPieces))]
	out.Subject = pieces(subject, 0, len(subject), of(query.Subject))
	out.Body = append(out.Body, snippets(d.Body, of(query.Body))...)
	for i, list := range marks[query.Attachment] {
		out.Attachments = append(out.Attachments, snippets(d.Attachments[i].Name, list)...)
	}
	out.Attachments = append(out.Attachments, snippets(d.AttachmentText, of(query.AttachmentText))...)
	if len(out.Attachments) > maxSnippets {
		out.Attachments = out.Attachments[:maxSnippets]
	}
	return out, nil
}

// Parse reads a query as Search does, and asks nothing.
func (s *Service) Parse(text string, loc *time.Location) (query.Query, error) {
	parsed, err := s.parse(text, loc)
	return parsed.Query, err
}

// Pieces cuts a text at its marks.
func Pieces(text string, marks []query.Mark) []Piece { return pieces(text, 0, len(text), marks) }

// snippets gives what stands around the first of the marks. Marks near each other share one.
func snippets(text string, marks []query.Mark) (list [][]Piece) {
	for len(marks) > 0 && len(list) < maxSnippets {
		from := before(text, max(0, marks[0].Start-snippetAround))
		n := 1
		for n < len(marks) && marks[n].Start-marks[n-1].End < 2*snippetAround && marks[n].End-from < maxPieces {
			n++
		}
		to := before(text, min(len(text), marks[n-1].End+snippetAround, from+maxPieces+snippetAround))
		list = append(list, pieces(text, from, to, marks[:n]))
		marks = marks[n:]
	}
	return list
}

// before gives the place of the character that i lies in.
func before(s string, i int) int {
	for i > 0 && i < len(s) && !utf8.RuneStart(s[i]) {
		i--
	}
	return i
}

// pieces cuts a part of a text at its marks.
func pieces(text string, from, to int, marks []query.Mark) []Piece {
	out := []Piece{}
	add := func(a, b int, marked bool) {
		if a < b {
			out = append(out, Piece{strings.ToValidUTF8(text[a:b], "\ufffd"), marked})
		}
	}
	for _, k := range marks {
		if k.Start >= to || k.End <= from {
			continue
		}
		add(from, k.Start, false)
		from = max(from, min(k.End, to))
		add(k.Start, from, true)
	}
	add(from, to, false)
	return out
}
