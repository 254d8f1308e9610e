package bounce

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

// returned is what of a message goes back.
type returned struct {
	text  []byte // with CRLF at its end; nil: nothing
	whole bool   // all of the message, not its header alone
}

// returned reads what goes back: all of it where the sender asked for that (RET=FULL), it is small enough, something failed (RFC 3461
// section 4.3), and its lines can stand in a part; otherwise the header.
func (r *Report) returned() (returned, error) {
	if r.Message == nil {
		return returned{}, nil
	}
	full := r.Original.Ret == "FULL" && len(r.Recipients) > 0 && r.Recipients[0].Action == Failed && r.Original.Size <= r.Limit
	limit := int64(maxHeader)
	if full {
		limit = max(limit, r.Original.Size)
	}
	body, err := r.Message()
	if err != nil {
		return returned{}, fmt.Errorf("bounce: the message that it is about: %w", err)
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, limit))
	if err != nil {
		return returned{}, fmt.Errorf("bounce: the message that it is about: %w", err)
	}
	if full && fits(text) {
		return returned{text: endLine(text), whole: true}, nil
	}
	return returned{text: header(text)}, nil
}

// fits says whether text can be a part as it stands: lines of at most 998 bytes that end in CRLF, and no NUL (RFC 2045 section 2.8).
func fits(text []byte) bool {
	if bytes.IndexByte(text, 0) >= 0 {
		return false
	}
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\r\n"))
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n") {
			return false
		}
		text = rest
	}
	return true
}

func endLine(text []byte) []byte {
	if bytes.HasSuffix(text, []byte("\r\n")) {
		return text
	}
	return append(text, "\r\n"...)
}

// header gives the header, made to fit: at most maxHeader bytes of whole lines, each ended by CRLF and at most 998 bytes long.
func header(text []byte) []byte {
	out := make([]byte, 0, min(len(text), maxHeader)+2)
	cut := len(text) >= maxHeader
	for len(text) > 0 && len(out) < maxHeader {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		line = bytes.TrimRight(line, "\r")
		if len(line) == 0 || cut && !ended {
			break
		}
		for i, c := range line {
			if c == 0 || c == '\r' {
				line[i] = ' '
			}
		}
		if len(line) > 998 {
			n := 998
			for n > 990 && !utf8.RuneStart(line[n]) {
				n--
			}
			line = line[:n]
		}
		out = append(append(out, line...), "\r\n"...)
		text = rest
	}
	return out
}

func isASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
