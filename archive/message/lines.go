package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
)

const lineBuffer = 32 << 10

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, lineBuffer) }}

// lines cuts a message into lines. They end with LF, with or without CR; in a message that has no LF in its first 32 KiB, with CR.
type lines struct {
	src   io.Reader
	err   error // of src, for good: bufio forgets it
	r     *bufio.Reader
	delim byte
	mid   bool // the last one given was cut
}

func newLines(r io.Reader) *lines {
	l := &lines{src: r, r: readers.Get().(*bufio.Reader)}
	l.r.Reset((*lineSource)(l))
	return l
}

type lineSource lines

func (s *lineSource) Read(p []byte) (n int, err error) {
	if s.err == nil {
		n, s.err = s.src.Read(p)
	}
	return n, s.err
}

func (l *lines) free() {
	l.r.Reset(nil)
	readers.Put(l.r)
	l.r = nil
}

// next gives a line with its end, valid until the next call. A line longer than the buffer comes in pieces; start says that this is the
// first one. The error comes alone.
func (l *lines) next() (line []byte, start bool, err error) {
	if l.delim == 0 {
		l.delim = '\n'
		if head, _ := l.r.Peek(lineBuffer); bytes.IndexByte(head, '\n') < 0 && bytes.IndexByte(head, '\r') >= 0 {
			l.delim = '\r'
		}
	}
	line, err = l.r.ReadSlice(l.delim)
	if len(line) == 0 {
		return nil, false, err
	}
	start = !l.mid
	l.mid = errors.Is(err, bufio.ErrBufferFull)
	return line, start, nil
}

// cutEnd takes the end off a line: CR LF, LF or, where all lines end so, CR.
func cutEnd(line []byte) (text, end []byte) {
	n := len(line)
	if n > 0 && line[n-1] == '\n' {
		n--
	} else if n == 0 || line[n-1] != '\r' {
		return line, nil
	}
	if n > 0 && line[n-1] == '\r' {
		n--
	}
	return line[:n], line[n:]
}
