package web

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search"
)

// maxRows bounds the recipients that a page lists; the envelope has all of them.
const maxRows = 500

// reportView is what message.html shows of a journal report.
type reportView struct {
	*record.Report
	Name     string // of the format
	Rows     []reportRow
	More     int    // recipients that are not in Rows
	Enclosed []file // the messages in it
	Others   []otherReport
	Together []string // the recipients of all reports of the message, where there are others
	MoreOf   int      // of Together
	Unknown  bool     // others could not be looked for
}

// reportRow is a recipient, and what else the report says of him.
type reportRow struct {
	record.ReportRecipient
	ClassName string
}

// otherReport is another record of the same message.
type otherReport struct {
	search.Report
	URL  string
	More int // recipients that are not in Rcpt
}

// formatNames are the formats of reports for people.
var formatNames = map[string]string{
	"exchange": "Exchange, Microsoft 365", "exchange_2003": "Exchange 2003", "google": "Google Workspace", "zimbra": "Zimbra",
	"zimbra_intercept": "Zimbra, legal intercept", "domino": "Domino", "x_envelope": "X-Envelope fields", "encoded_address": "address of the copy",
}

var classNames = map[string]string{"to": "To", "cc": "Cc", "bcc": "Bcc", "recipient": "not verified"}

// reportOf shows what a report says. nil: the record is none.
func reportOf(id record.ID, r *record.Report) *reportView {
	if r == nil {
		return nil
	}
	v := &reportView{Report: r, Name: formatNames[r.Format]}
	for _, one := range r.Recipients[:min(len(r.Recipients), maxRows)] {
		v.Rows = append(v.Rows, reportRow{one, classNames[one.Class]})
	}
	v.More = max(r.Named, len(r.Recipients)) - len(v.Rows)
	for i := range r.Enclosed {
		e := &r.Enclosed[i]
		f := file{URL: fmt.Sprintf("/api/v1/records/%s/inner/%d", id, i+1), Name: "the message in it", Type: "message/rfc822", Size: e.Size}
		switch e.Role {
		case record.RoleEncrypted:
			f.Name = "the message as it was sent, encrypted"
		case record.RoleClear:
			f.Name = "the copy that the server decrypted"
		}
		if e == r.Message() && len(r.Enclosed) > 1 {
			f.Note = "shown here"
		}
		v.Enclosed = append(v.Enclosed, f)
	}
	return v
}

// findOthers looks for other reports of the same message. It is a search, and written down as one.
func (p *pages) findOthers(r *http.Request, v *reportView, id record.ID, messageID string) {
	if messageID == "" {
		return
	}
	res, err := p.Search.Search(r.Context(), actor(r), search.Request{Query: query.MessageID{Value: messageID}.String(), Limit: search.MaxLimit})
	if err != nil {
		p.Log.Warn("other reports of a message not found", "record", id, "err", err)
		v.Unknown = true
		return
	}
	for _, h := range res.Hits {
		mine := false
		for _, one := range h.Reports {
			mine = mine || one.ID == id
		}
		if !mine {
			continue
		}
		v.Together = h.Rcpt[:min(len(h.Rcpt), maxRows)]
		v.MoreOf = len(h.Rcpt) - len(v.Together)
		for _, one := range h.Reports {
			if one.ID != id {
				other := otherReport{Report: one, URL: "/message/" + one.ID.String()}
				other.Rcpt = one.Rcpt[:min(len(one.Rcpt), 10)]
				other.More = len(one.Rcpt) - len(other.Rcpt)
				v.Others = append(v.Others, other)
			}
		}
	}
}

// inner sends a message that a journal report encloses, as it lies there: the one that is shown, or by its number from 1.
func (a *api) inner(w http.ResponseWriter, r *http.Request) {
	s, ok := a.view(w, r, "inner")
	if !ok {
		return
	}
	body, err := openMessage(s)
	if err != nil {
		a.fail(w, err)
		return
	}
	defer body.Close()
	e := s.Item.Envelope.Report.Message()
	if number := r.PathValue("n"); number != "" && e != nil {
		n, err := strconv.Atoi(number)
		if list := s.Item.Envelope.Report.Enclosed; err != nil || n < 1 || n > len(list) {
			e = nil
		} else {
			e = &list[n-1]
		}
	}
	if e == nil {
		a.fail(w, fmt.Errorf("%s: %w", s.Item.ID, errNoInner))
		return
	}
	content, err := message.Within(body, e.Offset, e.Length, e.Encoding)
	if err != nil {
		a.fail(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "message/rfc822")
	h.Set("Content-Length", strconv.FormatInt(e.Size, 10))
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", s.Item.ID.String()+"-inner.eml"))
	a.send(w, r, content, body, "record", s.Item.ID, "inner", true)
}
