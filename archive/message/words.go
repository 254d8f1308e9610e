package message

import (
	"encoding/base64"
	"strings"
)

// decodeWords decodes the encoded-words (RFC 2047) in UTF-8 text. Neighbours of one charset are joined before they are decoded: many
// senders cut between the bytes of a character. What is no encoded-word stays as it is, and words need no blanks around them.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	var out strings.Builder
	out.Grow(len(s))
	var pending strings.Builder // bytes of a run of words
	charset := ""
	flush := func() {
		if pending.Len() > 0 {
			out.WriteString(toUTF8(pending.String(), charset))
			pending.Reset()
		}
	}
	run := false // the text before s was an encoded-word
	ends := strings.LastIndex(s, "?=")
	for {
		i := strings.Index(s, "=?")
		if i < 0 || i > ends { // no word can end after here
			flush()
			out.WriteString(s)
			return out.String()
		}
		label, text, rest, ok := cutWord(s[i:])
		if !ok {
			flush()
			out.WriteString(s[:i+2])
			s, run, ends = s[i+2:], false, ends-i-2
			continue
		}
		between := s[:i]
		if !run || strings.Trim(between, " \t") != "" {
			flush()
			out.WriteString(between)
		}
		if !strings.EqualFold(label, charset) {
			flush()
			charset = label
		}
		pending.WriteString(text)
		ends -= len(s) - len(rest)
		s, run = rest, true
	}
}

// cutWord cuts the encoded-word that s begins with: its charset and its bytes.
func cutWord(s string) (charset, text, rest string, ok bool) {
	s = s[2:]
	i := strings.IndexByte(s[:min(len(s), 64)], '?')
	if i <= 0 || len(s) < i+3 || s[i+2] != '?' {
		return "", "", "", false
	}
	charset, _, _ = strings.Cut(s[:i], "*") // RFC 2231, section 5: a language may follow
	encoding := s[i+1] | 0x20
	s = s[i+3:]
	end := strings.Index(s, "?=")
	if end < 0 {
		return "", "", "", false
	}
	text, rest = s[:end], s[end+2:]
	switch encoding {
	case 'q':
		return charset, decodeQ(text), rest, true
	case 'b':
		if strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 || r > ' ' && r != '=' && base64Value[r] < 0 }) {
			return "", "", "", false
		}
		return charset, decodeB(text), rest, true
	}
	return "", "", "", false
}

func decodeQ(s string) string {
	if !strings.ContainsAny(s, "=_") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			b = append(b, ' ')
		case c == '=' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0:
			b = append(b, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func decodeB(s string) string {
	if b, err := base64.StdEncoding.DecodeString(s); err == nil {
		return string(b)
	}
	var d decoder
	return string(d.loose([]byte(s)))
}
