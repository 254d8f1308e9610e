package web

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/search"
)

// reportMail is a journal report with a rights-managed pair of messages.
func reportMail() (raw string, rep *record.Report) {
	encrypted := "From: claire.dubois@acme.example\nSubject: sealed\nMessage-ID: <merger-timetable@acme.example>\n\nopen elsewhere\n"
	parts := []string{
		"Subject: Journal report\nContent-Type: multipart/mixed; boundary=j\n\n--j\n\nSender: claire.dubois@acme.example\n--j\nContent-Type: message/rfc822\n\n",
		encrypted, "\n--j\nContent-Type: message/rfc822\n\n", simpleMail, "\n--j--\n",
	}
	for i := range parts { // as it is stored
		parts[i] = strings.ReplaceAll(parts[i], "\n", "\r\n")
	}
	enclosed := func(role string, i int) record.Enclosed {
		return record.Enclosed{Role: role, Offset: int64(len(strings.Join(parts[:i], ""))), Length: int64(len(parts[i])), Size: int64(len(parts[i])),
			SHA256: record.Sum([]byte(parts[i])), MessageID: "merger-timetable@acme.example"}
	}
	return strings.Join(parts, ""), &record.Report{
		Format: "exchange", Sender: "claire.dubois@acme.example", OnBehalfOf: "chair@acme.example", Label: "<b>Secret</b>", Lines: []string{"x-class: 1"},
		Recipients: []record.ReportRecipient{
			{Address: "board@acme.example", Class: "to"}, {Address: "dora@acme.example", Class: "to", Expanded: "board@acme.example"},
			{Address: "<script>@acme.example", Class: "recipient", Inferred: record.BccOrList},
		},
		Named: 7, Enclosed: []record.Enclosed{enclosed(record.RoleEncrypted, 1), enclosed(record.RoleClear, 3)},
	}
}

func TestReportPage(t *testing.T) {
	f, h := site(t)
	raw, rep := reportMail()
	s := f.add(1, raw)
	e := s.Item.Envelope
	e.Mode, e.Report, e.Completeness = record.ModeJournal, rep, record.Partial
	e.Transport = &record.Transport{MailFrom: &record.Path{}, Rcpt: []record.Path{{Address: "journal@archive.example"}}}
	e.MailFrom, e.Rcpt = &record.Path{Address: "claire.dubois@acme.example"}, []record.Path{{Address: "board@acme.example"}, {Address: "dora@acme.example"}}
	f.result = search.Result{Hits: []search.Hit{
		{ID: idOf(9), Rcpt: []string{"other@acme.example"}, Reports: []search.Report{{ID: idOf(8)}, {ID: idOf(9)}}},
		{ID: idOf(1), Rcpt: []string{"board@acme.example", "dora@acme.example", "late@acme.example"},
			Reports: []search.Report{{ID: idOf(1)}, {ID: idOf(2), Received: received, Rcpt: []string{"late@acme.example"}}}},
	}}
	page := ask(h, "/message/"+idOf(1).String()).Body.String()
	contains(t, page, "Merger timetable, second draft", "The plan &lt;b&gt;moves&lt;/b&gt;", "from a journal report", "Exchange, Microsoft 365", "chair@acme.example",
		"&lt;b&gt;Secret&lt;/b&gt;", "x-class: 1", "member of <bdi>board@acme.example</bdi>", "BCC or list (inferred)", "not verified", "and 4 more",
		"!<script>@acme", "as a journal report from &lt;&gt; to journal@archive.example", "/message/"+idOf(2).String(), "late@acme.example", "!other@acme.example",
		"/api/v1/records/"+idOf(1).String()+"/inner/2", "as it was sent, encrypted", "the copy that the server decrypted", "invoice.html", "!open elsewhere")
	if q := f.asked[0]; q.Query != `msgid:merger-timetable@acme.example` && q.Query != `msgid:"merger-timetable@acme.example"` {
		t.Errorf("asked %q", q.Query)
	}
	if f.open != 0 {
		t.Errorf("%d bodies left open", f.open)
	}
	if w := ask(h, "/message/"+idOf(1).String()+"/attachment/2"); w.Code != http.StatusOK || w.Body.String() != "<script>alert(1)</script>" {
		t.Errorf("attachment: %d %q", w.Code, w.Body)
	}
	mail := strings.ReplaceAll(simpleMail, "\n", "\r\n")
	for path, want := range map[string]string{"/inner": mail, "/inner/2": mail, "/inner/1": raw[rep.Enclosed[0].Offset:][:rep.Enclosed[0].Length]} {
		if w := ask(h, "/api/v1/records/"+idOf(1).String()+path); w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	f.add(3, simpleMail)
	for _, path := range []string{idOf(1).String() + "/inner/0", idOf(1).String() + "/inner/3", idOf(1).String() + "/inner/x", idOf(3).String() + "/inner"} {
		if w := ask(h, "/api/v1/records/"+path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if text := ask(h, "/api/v1/records/"+idOf(1).String()+"/text").Body.String(); !strings.Contains(text, "Subject: Merger timetable") || strings.Contains(text, "Sender:") {
		t.Errorf("text %q", text)
	}
}

// A page is made also where other reports can't be looked for, and says so.
func TestReportPageWithoutIndex(t *testing.T) {
	f, _ := site(t)
	raw, rep := reportMail()
	f.add(1, raw).Item.Envelope.Report = rep
	broken := &noIndex{f}
	h := Handler(Services{Search: broken}, nil)
	contains(t, ask(h, "/message/"+idOf(1).String()).Body.String(), "Merger timetable", "could not be found out")
}

type noIndex struct{ *fakeSearch }

func (noIndex) Search(_ context.Context, by record.Actor, r search.Request) (*search.Result, error) {
	return nil, errors.New("index is closed")
}

func TestFoldedReportsInResults(t *testing.T) {
	f, h := site(t)
	f.result = search.Result{Total: 2, Hits: []search.Hit{{ID: idOf(1), Received: received, Subject: "s", To: []string{"list@acme.example"},
		Rcpt: []string{"a@acme.example", "b@acme.example"}, Reports: []search.Report{{ID: idOf(1), Received: received}, {ID: idOf(2), Received: received}}}}}
	contains(t, ask(h, "/?q=s").Body.String(), "2 reports", idOf(2).String()+", received", "Envelope: a@acme.example, b@acme.example")
}

// Files out of winmail.dat are listed and can be saved; what is signed says how.
func TestMessageWithTNEF(t *testing.T) {
	raw, err := os.ReadFile("../archive/message/tnef/testdata/winmail.dat")
	if err != nil {
		t.Fatal(err)
	}
	f, h := site(t)
	f.add(1, "Subject: tnef\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: application/ms-tnef; name=winmail.dat\n"+
		"Content-Transfer-Encoding: base64\n\n"+base64.StdEncoding.EncodeToString(raw)+"\n--b--\n")
	contains(t, ask(h, "/message/"+idOf(1).String()).Body.String(), "Zweiter Entwurf, überarbeitet.docx", "unpacked", "inner.msg", "/attachment/2.4", "deep.txt", "привет")
	if w := ask(h, "/message/"+idOf(1).String()+"/attachment/2.4"); w.Code != 200 || w.Body.String() != "the bytes of a file" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	f.add(2, "Subject: signed\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\n\n--b\n\nhello\n--b--\n")
	contains(t, ask(h, "/message/"+idOf(2).String()).Body.String(), "S/MIME signature", "signature not checked")
}
