package index

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Of a journal report the message in it is what can be searched, with the recipients that the report names.
func TestDocumentOfAReport(t *testing.T) {
	before := "Subject: wrapper\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nBcc: carol@corp.example\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
	inner := "Subject: inner\r\nMessage-ID: <m@corp.example>\r\nFrom: anna@corp.example\r\n\r\nthe text\r\n"
	raw := before + inner + "\r\n--b--\r\n"
	env := &record.Envelope{ID: record.NewID(record.Now()), Size: int64(len(raw)), SHA256: record.Sum([]byte(raw)), Rcpt: []record.Path{{Address: "carol@corp.example"}},
		Report: &record.Report{Format: "exchange", Enclosed: []record.Enclosed{{Offset: int64(len(before)), Length: int64(len(inner)), Size: int64(len(inner))}}}}
	it := &record.Item{ID: env.ID, Envelope: env, Body: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(raw)), nil }}
	d, err := documentOf(it, nil)
	if err != nil || d.Subject != "inner" || d.MessageID != "m@corp.example" || !d.Report || d.Partial || strings.Contains(d.Body, "carol") || len(d.Attachments) != 0 ||
		d.Size != env.Size || d.SHA256 != env.SHA256 || d.Rcpt[0].Address != "carol@corp.example" {
		t.Errorf("%+v, %v", d, err)
	}
	env.Report.Others = 1 // something in the report that is not read
	if d, err = documentOf(it, nil); err != nil || !d.Partial {
		t.Errorf("%+v, %v", d, err)
	}
	env.Report.Enclosed[0].Offset = 1 << 40 // nonsense
	if d, err = documentOf(it, nil); !errors.Is(err, errBody) || !d.Partial || d.Rcpt[0].Address != "carol@corp.example" {
		t.Errorf("%+v, %v", d, err)
	}
}
