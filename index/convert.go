package index

import (
	"errors"
	"fmt"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
)

var (
	errBody  = errors.New("message can't be read")
	errParse = errors.New("message can't be parsed")
)

// textLimit is how much text of one message is indexed, in bytes. A message with more is marked Partial. Of messages with much text there is one
// under way at a time (Follower.document): each takes some five times its text until it is in the index.
const textLimit = 32 << 20

// documentOf makes the document of a message or of the envelope of one. There always is one: what could not be read or parsed is missing
// from it, it is marked Partial, and the error says why: errBody, errParse. own are our domains.
func documentOf(it *record.Item, own []string) (*document.Document, error) {
	if it.Envelope == nil {
		return &document.Document{ID: it.ID, Received: it.ID.Time(), Partial: true, HeaderPartial: true, Bare: true}, fmt.Errorf("%w: it has no envelope", errBody)
	}
	var m *message.Message
	var err error
	if it.Body != nil {
		m, err = parse(it)
	}
	d := document.FromMessage(it.Envelope, m)
	d.Direct(it.Envelope, own)
	d.Learn(it.Supplements)
	return d, err
}

func parse(it *record.Item) (m *message.Message, err error) {
	defer func() {
		if r := recover(); r != nil { // a fault of ours must not keep the mail that follows out of the index
			m, err = nil, fmt.Errorf("%w: %v", errParse, r)
		}
	}()
	body, err := it.Body()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	defer body.Close()
	content, err := message.Inner(it.Envelope, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	if m, err = message.Parse(content, message.Limits{TextBytes: textLimit}); err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	return m, nil
}
