package nexthop

import (
	"strconv"
	"strings"
)

// Reply is an SMTP reply as it came: Lines without the code and its separator, each with its own enhanced status code
// if it had one, so that a reply can be handed on word for word. A *Reply is an error for those who got one instead of a 2xx.
type Reply struct {
	Code  int
	Lines []string
}

// Error is the reply on one line.
func (r *Reply) Error() string {
	return strconv.Itoa(r.Code) + " " + strings.Join(r.Lines, " / ")
}

// Temporary reports whether the reply is a transient negative one (4xx).
func (r *Reply) Temporary() bool { return r.Code/100 == 4 }

func (r *Reply) ok() bool { return r.Code/100 == 2 }

// Enhanced is the enhanced status code (RFC 3463) that the first line begins with, or "" where it has none that
// fits the class of the reply.
func (r *Reply) Enhanced() string {
	if len(r.Lines) == 0 {
		return ""
	}
	code, _ := splitEnhanced(r.Code, r.Lines[0])
	return code
}

// Text is the text of the reply without codes, its lines joined by "\n".
func (r *Reply) Text() string {
	var b strings.Builder
	for i, line := range r.Lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		_, text := splitEnhanced(r.Code, line)
		b.WriteString(text)
	}
	return b.String()
}

// splitEnhanced splits "2.1.5 text" into "2.1.5" and "text". The class has to be that of the basic code (RFC 2034 §4).
func splitEnhanced(code int, line string) (enhanced, text string) {
	word, rest, _ := strings.Cut(line, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 || parts[0] != strconv.Itoa(code/100) {
		return "", line
	}
	for _, p := range parts[1:] {
		if len(p) < 1 || len(p) > 3 {
			return "", line
		}
		for i := range len(p) {
			if p[i] < '0' || p[i] > '9' {
				return "", line
			}
		}
	}
	return word, rest
}
