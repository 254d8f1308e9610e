package index_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
)

// TestHeaderDocument: it has what the header says and nothing of the text, and says what it does not have.
func TestHeaderDocument(t *testing.T) {
	const header = "From: Ada <ada@acme.example>\r\nSubject: The merger\r\nContent-Type: multipart/mixed; boundary=x\r\n"
	for name, c := range map[string]struct {
		text    string
		partial bool
	}{
		"a message":       {header + "\r\n--x\r\n\r\nsecret\r\n--x--\r\n", false},
		"a header alone":  {header, false},
		"lines end in LF": {strings.ReplaceAll(header, "\r\n", "\n") + "\nsecret\n", false},
		"a huge header":   {header + "X-Long: " + strings.Repeat("a", 300<<10) + "\r\n\r\nsecret\r\n", true},
	} {
		env := &record.Envelope{ID: record.NewID(time.Now()), Received: time.Now(), Size: int64(len(c.text)), Rcpt: []record.Path{{Address: "bob@dest.example"}}}
		it := &record.Item{Kind: record.KindMessage, ID: env.ID, Envelope: env, Body: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader([]byte(c.text))), nil
		}}
		d := index.HeaderDocument(it)
		if d.Subject != "The merger" || len(d.From) != 1 || len(d.Rcpt) != 1 || d.Size != int64(len(c.text)) || strings.Contains(d.Body, "secret") {
			t.Errorf("%s: %+v", name, d)
		}
		if !d.Partial || d.HeaderPartial != c.partial || !d.OutcomeOpen {
			t.Errorf("%s: partial %v, header %v", name, d.Partial, d.HeaderPartial)
		}
	}
	env := &record.Envelope{ID: record.NewID(time.Now()), Received: time.Now()}
	unread := &record.Item{Kind: record.KindMessage, ID: env.ID, Envelope: env, Body: func() (io.ReadCloser, error) { return nil, io.ErrUnexpectedEOF }}
	if d := index.HeaderDocument(unread); !d.HeaderPartial {
		t.Errorf("a message that can't be read: %+v", d)
	}
	if index.HeaderDocument(&record.Item{Kind: record.KindAct}) != nil {
		t.Error("an act has a document")
	}
}
