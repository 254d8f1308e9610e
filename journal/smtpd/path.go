package smtpd

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// errPath is for text that is not a path in angle brackets.
var (
	errPath  = errors.New("not a path (RFC 5321 section 4.1.2)")
	errRoute = errors.New("source routes are not taken (RFC 5321 section 3.3)")
)

// cutPath reads the path in angle brackets that s begins with, and returns what follows it. The grammar is that of RFC 5321, with U-labels
// and UTF-8 of RFC 6531; the dots of a local part may stand anywhere, as they do in addresses that are in use. The brackets have to be
// there, so that nothing within quotes can be taken for the end of the path or for a parameter by a reader that looks less closely.
//
// Address is quoted where it has to be, and there only; Raw, brackets included, is kept where it differs.
func cutPath(s string) (p record.Path, rest string, err error) {
	local, rest, err := cutLocal(s)
	if err != nil {
		return p, "", err
	}
	domain := ""
	if strings.HasPrefix(rest, "@") {
		end := strings.IndexByte(rest, '>')
		if end < 0 || !isDomain(rest[1:end]) {
			return p, "", errPath
		}
		domain, rest = rest[:end], rest[end:]
	} else if !strings.EqualFold(local, "postmaster") && local != "" {
		return p, "", errPath
	}
	rest, ok := strings.CutPrefix(rest, ">")
	if !ok || rest != "" && rest[0] != ' ' {
		return p, "", errPath
	}
	p.Address = local + domain
	if raw := s[:len(s)-len(rest)]; len(raw) != len(p.Address)+2 || raw[1:len(raw)-1] != p.Address {
		p.Raw = raw
	}
	return p, rest, nil
}

// cutLocal reads the opening bracket and the local part, which it returns quoted where that is needed; empty for "<>".
func cutLocal(s string) (local, rest string, err error) {
	s, ok := strings.CutPrefix(s, "<")
	if !ok {
		return "", "", errPath
	}
	switch {
	case strings.HasPrefix(s, ">"):
		return "", s, nil
	case strings.HasPrefix(s, "@"):
		return "", "", errRoute
	case strings.HasPrefix(s, `"`):
		text, rest, ok := unquote(s)
		if !ok || !strings.HasPrefix(rest, "@") {
			return "", "", errPath
		}
		if !isDotString(text) {
			text = quote(text)
		}
		return text, rest, nil
	}
	end := strings.IndexAny(s, "@>")
	if end < 0 || !isDotString(s[:end]) {
		return "", "", errPath
	}
	return s[:end], s[end:], nil
}

// unquote reads the quoted string that s begins with.
func unquote(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) || s[i] >= utf8.RuneSelf {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// isDotString says whether a local part needs no quotes.
func isDotString(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c < utf8.RuneSelf && strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isDomain takes names of letters, digits, - and _, U-labels, and address literals.
func isDomain(s string) bool {
	if literal, ok := strings.CutPrefix(s, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		v6 := len(literal) > 5 && strings.EqualFold(literal[:5], "IPv6:")
		if v6 {
			literal = literal[5:]
		}
		a, err := netip.ParseAddr(literal)
		return ok && err == nil && a.Is6() == v6 && a.Zone() == ""
	}
	if len(s) > 255 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 && isASCII(label) || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c < utf8.RuneSelf && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
