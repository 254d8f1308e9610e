package bundle

import (
	"bytes"
	"io"
	"time"
)

// mboxWriter writes one message of an mbox as mboxrd has it: a > before each line that begins with any number of > and then "From ". The
// bytes of the message are otherwise as they were received, line ends too. end must be called.
type mboxWriter struct {
	w     io.Writer
	begun bool // within a line that was looked at
	held  []byte
	last  byte
}

var fromLine = []byte("From ")

func beginMbox(w io.Writer, received time.Time) (*mboxWriter, error) {
	_, err := io.WriteString(w, "From MAILER-DAEMON "+received.UTC().Format("Mon Jan _2 15:04:05 2006")+"\n")
	return &mboxWriter{w: w, last: '\n'}, err
}

func (m *mboxWriter) Write(p []byte) (int, error) {
	total := len(p)
	if total == 0 {
		return 0, nil
	}
	m.last = p[total-1]
	if len(m.held) > 0 {
		p = append(m.held, p...)
		m.held = nil
	}
	for len(p) > 0 {
		if !m.begun {
			quoted := bytes.TrimLeft(p, ">")
			if len(quoted) < len(fromLine) && bytes.HasPrefix(fromLine, quoted) {
				if len(p)-len(quoted) > maxQuotes { // nothing but this program's own limit: it is a line of > and is let go
					m.begun = true
					continue
				}
				m.held = bytes.Clone(p) // the next bytes tell
				return total, nil
			}
			if bytes.HasPrefix(quoted, fromLine) {
				if _, err := m.w.Write([]byte{'>'}); err != nil {
					return 0, err
				}
			}
			m.begun = true
		}
		n := len(p)
		// All up to where the next line may need a look goes out as one.
		for at := 0; ; {
			i := bytes.IndexByte(p[at:], '\n')
			if i < 0 {
				break
			}
			at += i + 1
			if at == len(p) || p[at] == '>' || p[at] == 'F' {
				n, m.begun = at, false
				break
			}
		}
		if _, err := m.w.Write(p[:n]); err != nil {
			return 0, err
		}
		p = p[n:]
	}
	return total, nil
}

// maxQuotes bounds what is held back.
const maxQuotes = 1 << 20

// end ends the message: its last line, where that has no end, and the empty line that follows each message.
func (m *mboxWriter) end() error {
	tail := m.held
	m.held = nil
	if m.last != '\n' {
		tail = append(tail, '\n')
	}
	_, err := m.w.Write(append(tail, '\n'))
	return err
}
