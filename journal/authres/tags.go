package authres

import (
	"bytes"
	"errors"
)

// tag is one name=value of a list (RFC 6376, section 3.2). The value is without the white space around it; start and end say where it
// stands in the list, white space included.
type tag struct {
	name, value []byte
	start, end  int
}

type tags []tag

// errTags is returned for what is not a list of tags.
var errTags = errors.New("not a list of tags")

// maxTags is more than any list has.
const maxTags = 50

// parseTags is strict: names are letters, digits and underscores, no name comes twice, and nothing but one semicolon stands between two.
func parseTags(b []byte) (list tags, err error) {
	for at := 0; at < len(b); {
		end := bytes.IndexByte(b[at:], ';')
		if end < 0 {
			end = len(b)
		} else {
			end += at
		}
		spec := b[at:end]
		eq := bytes.IndexByte(spec, '=')
		if eq < 0 {
			if end == len(b) && len(trimSpace(spec)) == 0 && len(list) > 0 {
				return list, nil // after a semicolon at the end
			}
			return nil, errTags
		}
		t := tag{name: trimSpace(spec[:eq]), value: trimSpace(spec[eq+1:]), start: at + eq + 1, end: end}
		if !isTagName(t.name) || list.has(string(t.name)) || len(list) == maxTags {
			return nil, errTags
		}
		list = append(list, t)
		at = end + 1
	}
	if len(list) == 0 {
		return nil, errTags
	}
	return list, nil
}

func isTagName(name []byte) bool {
	for i, c := range name {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && !isDigit(c)) {
			return false
		}
	}
	return len(name) > 0
}

func (l tags) find(name string) *tag {
	for i := range l {
		if string(l[i].name) == name {
			return &l[i]
		}
	}
	return nil
}

func (l tags) has(name string) bool { return l.find(name) != nil }

// get is the value of a tag; empty where there is none.
func (l tags) get(name string) string {
	if t := l.find(name); t != nil {
		return string(t.value)
	}
	return ""
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func trimSpace(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

// compact takes all white space out.
func compact(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if !isSpace(c) {
			out = append(out, c)
		}
	}
	return out
}

// words splits a list at its colons. White space around a word is not part of it.
func words(b []byte) (list []string) {
	for w := range bytes.SplitSeq(b, []byte(":")) {
		list = append(list, string(trimSpace(w)))
	}
	return list
}
