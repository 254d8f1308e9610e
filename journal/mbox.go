package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// An mbox is messages one behind the other, each after a line that begins with "From ", with an empty line at its end. Several formats go
// by that name. Here
//
//   - a message ends before an empty line that "From " follows, or at the end of the file; the From line and that one empty line belong to
//     the file and not to the message;
//   - of a line that begins with one or more ">" and then "From ", one ">" is taken off, as mboxrd has it. Files of mboxo did not put one
//     there if there was one already, and such lines, which are rare, lose it;
//   - Content-Length (mboxcl) is not looked at, so a "From " after an empty line that the writer left as it is ends the message.
//
// All other bytes are those of the file; newlines are not converted.
const fromLine = "From "

// errPassed is returned for a message of an mbox that was to be read when the next one had been asked for.
var errPassed = errors.New("mbox: the message has been passed")

// inMbox gives the messages of an mbox. r stands at the first From line. false: enough.
func inMbox(path string, r *bufio.Reader, yield func(Message, error) bool) (more bool) {
	for n := 1; ; n++ {
		m := &mboxMessage{r: r, lineStart: true}
		err := m.skipLine()
		if err == nil {
			origin := fmt.Sprintf("%s#%d", path, n)
			more := yield(Message{Origin: origin, Open: func() (io.ReadCloser, error) { return m, m.err }}, nil)
			if !more {
				return false
			}
			_, err = io.Copy(io.Discard, m)
			m.err = errPassed
		}
		if err == nil {
			_, err = r.Peek(1)
		}
		switch {
		case err == io.EOF:
			return true
		case err != nil:
			return yield(Message{Origin: path}, fmt.Errorf("%s: %w", path, err))
		}
	}
}

// mboxMessage reads one message of an mbox.
type mboxMessage struct {
	r         *bufio.Reader
	lineStart bool   // r stands at the start of a line
	blank     bool   // the line before is empty
	held      []byte // that line, which belongs to the message if anything follows
	rest      []byte // of the piece that is being read
	err       error
}

// Close does nothing.
func (m *mboxMessage) Close() error { return nil }

func (m *mboxMessage) Read(p []byte) (int, error) {
	for len(m.rest) == 0 && m.err == nil {
		m.rest, m.err = m.next()
	}
	if len(m.rest) == 0 {
		return 0, m.err
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// skipLine passes over the From line.
func (m *mboxMessage) skipLine() error {
	for {
		_, err := m.r.ReadSlice('\n')
		if err != bufio.ErrBufferFull {
			if err == io.EOF { // an mbox of an empty message
				err = nil
			}
			return err
		}
	}
}

// next gives the next piece, a line or a part of a long one. It is valid until the next call.
func (m *mboxMessage) next() ([]byte, error) {
	if m.lineStart {
		head, err := m.r.Peek(len(fromLine))
		switch {
		case len(head) == 0:
			return nil, err // at the end of the file an empty line is held back for good
		case m.blank && string(head) == fromLine:
			return nil, io.EOF
		case m.held != nil:
			held := m.held
			m.held = nil
			return held, nil
		}
	}
	line, err := m.r.ReadSlice('\n')
	if len(line) == 0 || err != nil && err != bufio.ErrBufferFull && err != io.EOF {
		return nil, err
	}
	start := m.lineStart
	m.lineStart = line[len(line)-1] == '\n'
	m.blank = start && (string(line) == "\n" || string(line) == "\r\n")
	if m.blank {
		m.held = bytes.Clone(line)
		return nil, nil
	}
	if quoted := bytes.TrimLeft(line, ">"); start && len(quoted) < len(line) && bytes.HasPrefix(quoted, []byte(fromLine)) {
		line = line[1:]
	}
	return line, nil
}
