package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search"
)

// What a page shows at most; the text and the message itself have all of it.
const (
	maxText   = 512 << 10
	maxHeader = 64 << 10
)

// pageTimeout bounds reading a record for a page. Downloads last as long as the browser stays.
const pageTimeout = time.Minute

// messageView is what message.html shows.
type messageView struct {
	frame
	ID                record.ID
	Pending           bool
	EnvelopeOnly      bool // refused, and only the envelope kept
	Envelope          *record.Envelope
	Fields            []field // of the header, as a reader wants them
	Header            string  // as it came
	HeaderCut         bool
	Text              string
	TextCut           bool
	TitleMarked       []search.Piece // Title and Text, with what the list's query asks for marked
	TextMarked        []search.Piece
	Outside           string // text that mail programs don't show
	FrameClass        string // of the frame with the HTML; empty: there is none
	Signed, Encrypted bool
	Protected         []string // how, for people
	Partial           bool
	Problems          []string
	Files             []file
	Way               []step
	Report            *reportView // of a journal report
	Deliveries        []delivery
	Log               string
	Number            uint64
	Entry             *record.Entry
}

type field struct{ Name, Value, Note string }

// file is a part to be saved.
type file struct {
	URL, Name, Type, Note string
	Size                  int64
}

// readMessage parses the message of a record, of a journal report the one that it encloses. It reads the record to its end, which checks its bytes against the envelope: what was altered is not shown.
func readMessage(s *archive.Stored) (*message.Message, error) {
	body, err := openMessage(s)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	content, err := message.Inner(s.Item.Envelope, body)
	if err != nil {
		return nil, err
	}
	m, err := message.Parse(content, message.Limits{})
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, body) // what follows the message in a journal report
	return m, err
}

// shown are the fields of a header that a reader wants first.
var shown = []string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Date", "Message-ID"}

func readerFields(m *message.Message) (list []field) {
	for _, name := range shown {
		for _, value := range m.Header.Values(name) {
			f := field{Name: name, Value: value}
			if at := m.Header.Date(); name == "Date" && !at.IsZero() {
				f.Note = at.Format("2006-01-02 15:04:05") + " UTC"
			}
			list = append(list, f)
		}
	}
	return list
}

func (p *pages) messagePage(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	s, err := p.stored(r.WithContext(ctx), "message")
	if err != nil {
		p.failPage(w, r, err)
		return
	}
	if s.Item.Envelope == nil {
		p.failPage(w, r, fmt.Errorf("%s: %w", s.Item.ID, errNotMessage))
		return
	}
	v := messageView{
		frame: frameOf("Message, envelope only", r.URL.Query()), ID: s.Item.ID, Pending: s.Pending(), EnvelopeOnly: s.Item.Body == nil,
		Envelope: s.Item.Envelope, Way: wayOf(s), Log: s.Log, Number: s.Number, Entry: s.Entry,
	}
	v.Here = "message"
	var header message.Header
	if s.Item.Body != nil {
		m, err := readMessage(s)
		if err != nil {
			p.failPage(w, r, err)
			return
		}
		header = m.Header
		v.fill(m)
	}
	p.mark(&v, r)
	if v.Report = reportOf(s.Item.ID, v.Envelope.Report); v.Report != nil {
		p.findOthers(r.WithContext(ctx), v.Report, s.Item.ID, header.MessageID())
	}
	if v.Report == nil || len(v.Report.Rows) == 0 { // which are the recipients
		v.Deliveries = deliveriesOf(s, header)
	}
	p.render(w, http.StatusOK, "message.html", &v)
}

// mark marks what the query of the list asks for, by the analysis that it was evaluated with. Without a query, or with one that can't be read
// any more, nothing is marked.
func (p *pages) mark(v *messageView, r *http.Request) {
	marks := map[query.Field][][]query.Mark{}
	if req, err := searchRequest(r); err == nil && req.Query != "" {
		if q, err := p.Search.Parse(req.Query, req.Location); err == nil {
			marks = query.NewMatcher(&document.Document{Subject: v.Title, Body: v.Text}).Marks(q)
		}
	}
	of := func(f query.Field, text string) []search.Piece {
		if list := marks[f]; len(list) > 0 {
			return search.Pieces(text, list[0])
		}
		return search.Pieces(text, nil)
	}
	v.TitleMarked, v.TextMarked = of(query.Subject, v.Title), of(query.Body, v.Text)
}

// protections are what message.Protected has, for people.
var protections = map[string]string{
	message.SMIMESigned: "S/MIME signature", message.SMIMEEncrypted: "S/MIME encryption", message.PGPSigned: "OpenPGP signature",
	message.PGPEncrypted: "OpenPGP encryption", message.RightsManaged: "rights management",
}

func (v *messageView) fill(m *message.Message) {
	v.Title = m.Header.Subject()
	if strings.TrimSpace(v.Title) == "" {
		v.Title = "(no subject)"
	}
	var header strings.Builder
	for _, f := range m.Header.Fields() {
		header.WriteString(f.Name + ":" + f.Raw + "\n")
	}
	v.Header, v.HeaderCut = shorten(header.String(), maxHeader)
	v.Text, v.TextCut = shorten(m.Text, maxText)
	v.Outside, _ = shorten(m.Outside, maxHeader)
	v.Fields, v.Partial, v.Problems, v.Signed, v.Encrypted = readerFields(m), m.Partial, m.Problems, m.Signed, m.Encrypted
	for _, kind := range m.Protected {
		v.Protected = append(v.Protected, protections[kind])
	}
	if _, _, ok := m.HTMLBody(); ok {
		v.FrameClass = frameClass(m.Text)
	}
	for _, part := range m.Parts {
		f := file{"/message/" + v.ID.String() + "/attachment/" + part.Path, part.Name, part.Type, "", part.Size}
		switch {
		case part.Attachment:
		case strings.HasPrefix(part.Type, "text/"):
			continue // it is the text
		case part.Type == "application/ms-tnef" || strings.EqualFold(part.Name, "winmail.dat"):
			f.Note = "unpacked: its files are listed too"
		default:
			f.Note = "in the text"
		}
		if f.Name == "" {
			f.Name = "part " + part.Path
		}
		v.Files = append(v.Files, f)
	}
}

// frameClass guesses from the text how high the frame with the HTML must be: nothing in the frame can tell, and the page must not jump.
func frameClass(text string) string {
	switch lines := strings.Count(text, "\n") + len(text)/100; {
	case lines < 8:
		return "short"
	case lines < 24:
		return "middle"
	}
	return "long"
}

// shorten cuts a text for a page, and makes it valid UTF-8 without NULs.
func shorten(s string, limit int) (string, bool) {
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd"), cut
}

// stored writes the act of a view and gives the record that the URL names.
func (p *pages) stored(r *http.Request, what string) (*archive.Stored, error) {
	id, err := record.ParseID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return p.Search.View(r.Context(), actor(r), id, what)
}

// htmlFrame serves the HTML of a message for the sandboxed frame.
func (p *pages) htmlFrame(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	s, err := p.stored(r.WithContext(ctx), "html")
	if err != nil {
		p.failFrame(w, err)
		return
	}
	m, err := readMessage(s)
	if err != nil {
		p.failFrame(w, err)
		return
	}
	body, _, ok := m.HTMLBody()
	if !ok {
		p.failFrame(w, fmt.Errorf("%s: %w", s.Item.ID, errNoHTML))
		return
	}
	writeFrame(w, http.StatusOK, safeHTML(body))
}

// failFrame says what went wrong within the frame.
func (p *pages) failFrame(w http.ResponseWriter, err error) {
	pr := problem(err, false, p.Log)
	text := pr.Error
	if pr.Ref != "" {
		text += " (reference " + pr.Ref + ")"
	}
	writeFrame(w, pr.Status, "<p>"+escape(text)+"</p>")
}

func writeFrame(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	h.Set("Content-Security-Policy", framePolicy)
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, "<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>Message</title><style>"+frameStyle+"</style></head><body>\n"+body)
}

// plainText is a record as `get --text` prints it. What could move a terminal's cursor is made visible.
func plainText(s *archive.Stored) (string, error) {
	m, err := readMessage(s)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, f := range append(readerFields(m), field{Name: "Subject", Value: m.Header.Subject()}) {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, plain(f.Value))
	}
	for _, a := range m.Attachments() {
		fmt.Fprintf(&b, "Attachment: %s (%s, %d bytes)\n", plain(a.Name), plain(a.Type), a.Size)
	}
	b.WriteString("\n")
	for line := range strings.Lines(m.Text) {
		line, end := strings.CutSuffix(line, "\n")
		b.WriteString(plain(line))
		if end {
			b.WriteString("\n")
		}
	}
	return b.String(), nil
}

// listQuery are the parameters of a list that a message page hands on, for the way back.
var listQuery = []string{"q", "sort", "after", "limit", "tz", "not_fully_searched", "fold"}

// listOf is the query of the list that a URL came from.
func listOf(q url.Values) url.Values {
	list := url.Values{}
	for _, key := range listQuery {
		if v := q.Get(key); v != "" {
			list.Set(key, v)
		}
	}
	return list
}
