package message

import (
	"io"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Inner gives what is to be read of a record whose message.eml is body: the message that a journal report encloses, as its envelope says
// (record.Report.Message), otherwise all of body. An error is body's own; io.ErrUnexpectedEOF says that it is shorter than the envelope says.
func Inner(env *record.Envelope, body io.Reader) (io.Reader, error) {
	e := env.Report.Message()
	if e == nil {
		return body, nil
	}
	return Within(body, e.Offset, e.Length, e.Encoding)
}
