package index

import (
	"bytes"
	"errors"
	"io"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
)

// headerLimit is how much of a message is read for its header, in bytes.
const headerLimit = 256 << 10

// HeaderDocument makes the document of what envelope and header of a message say; the rest of it is not read, so that the document is
// Partial. It is for decisions at ingest, which can't wait for the text. nil where there is no envelope.
func HeaderDocument(it *record.Item) *document.Document {
	if it.Envelope == nil {
		return nil
	}
	var m *message.Message
	if it.Body != nil {
		m, _ = parseHeader(it) // what could not be read is marked in it
	}
	d := document.FromMessage(it.Envelope, m)
	d.Learn(it.Supplements)
	d.Partial, d.OutcomeOpen = true, true
	return d
}

func parseHeader(it *record.Item) (m *message.Message, err error) {
	defer func() {
		if recover() != nil { // as in parse
			m, err = nil, errParse
		}
	}()
	body, err := it.Body()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	content, err := message.Inner(it.Envelope, body)
	if err != nil {
		return nil, err
	}
	head, err := io.ReadAll(io.LimitReader(content, headerLimit))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	end, whole := headerEnd(head)
	m, err = message.Parse(bytes.NewReader(head[:end]), message.Limits{})
	if m != nil && !whole && len(head) == headerLimit {
		m.HeaderPartial = true
	}
	return m, err
}

// headerEnd gives where the first empty line is, the end of a header. whole is false where there is none.
func headerEnd(text []byte) (end int, whole bool) {
	for at := 0; at < len(text); {
		n := bytes.IndexByte(text[at:], '\n')
		if n < 0 {
			break
		}
		if line := text[at : at+n]; len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			return at + n + 1, true
		}
		at += n + 1
	}
	return len(text), false
}

// DocumentOf makes the document of a record read whole, as the index has it: for decisions on the record itself. What could not be read is
// marked in it. It has no direction: those who decide may not ask for one.
func DocumentOf(it *record.Item) *document.Document {
	d, _ := documentOf(it, nil)
	return d
}
