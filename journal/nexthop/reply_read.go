package nexthop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Bounds of a reply. RFC 5321 section 4.5.3.1.5 gives a line 512 bytes; servers exceed that.
const (
	maxReplyLine  = 4096 // with CRLF; the size of a connection's read buffer
	maxReplyLines = 100
)

// errReply is returned for what is not an SMTP reply. After it the connection is of no use.
var errReply = errors.New("malformed reply")

// readReply reads one reply of one or more lines (RFC 5321 section 4.2). It is strict about the frame: CRLF, a code of 200 to 599,
// the same in all lines. Of the text it takes anything, but writes control characters as "?", so that it can be handed on safely.
func readReply(r *bufio.Reader) (*Reply, error) {
	reply := &Reply{Lines: make([]string, 0, 1)}
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("%w: line over %d bytes", errReply, maxReplyLine)
		case errors.Is(err, io.EOF) && (len(line) > 0 || len(reply.Lines) > 0):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case len(reply.Lines) == maxReplyLines:
			return nil, fmt.Errorf("%w: more than %d lines", errReply, maxReplyLines)
		}
		code, text, last, err := parseReplyLine(line)
		if err != nil {
			return nil, err
		}
		if len(reply.Lines) > 0 && code != reply.Code {
			return nil, fmt.Errorf("%w: line %d has code %d after %d", errReply, len(reply.Lines)+1, code, reply.Code)
		}
		reply.Code, reply.Lines = code, append(reply.Lines, text)
		if last {
			return reply, nil
		}
	}
}

func parseReplyLine(line []byte) (code int, text string, last bool, err error) {
	n := len(line) - 2
	if n < 3 || line[n] != '\r' {
		return 0, "", false, fmt.Errorf("%w: %.80q", errReply, line)
	}
	line = line[:n]
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, "", false, fmt.Errorf("%w: %.80q", errReply, line)
		}
		code = code*10 + int(c-'0')
	}
	if code < 200 || code > 599 || n > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, "", false, fmt.Errorf("%w: %.80q", errReply, line)
	}
	last = n == 3 || line[3] == ' '
	if n > 4 {
		text = printable(line[4:])
	}
	return code, text, last, nil
}

// printable is line as a string; control characters become "?". Tabs and bytes over 127 (RFC 6531 section 3.7.4.2) stay.
func printable(line []byte) string {
	for i, c := range line {
		if isControl(c) {
			clean := append([]byte(nil), line...)
			for j := i; j < len(clean); j++ {
				if isControl(clean[j]) {
					clean[j] = '?'
				}
			}
			return string(clean)
		}
	}
	return string(line)
}

func isControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }
