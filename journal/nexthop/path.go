package nexthop

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// maxPath bounds a path in bytes. RFC 5321 section 4.5.3.1.3 asks for 256; what a client got away with may be longer.
const maxPath = 1024

// appendPath appends p as <path>. It writes what the client wrote, where that is a path which means p.Address and nothing else, and
// the Address, quoted as needed, otherwise. So what is delivered is what the record says, and no server can find a second address
// or a parameter in it. utf8Mail allows non-ASCII (RFC 6531). The error is ErrPath; ErrNoSMTPUTF8 for non-ASCII without utf8Mail.
func appendPath(b []byte, p record.Path, utf8Mail bool) ([]byte, error) {
	if p.Address == "" {
		return append(b, "<>"...), nil
	}
	mailbox, err := canonical(p.Address)
	if err != nil {
		return nil, err
	}
	if raw, ok := strings.CutPrefix(p.Raw, "<"); ok {
		if raw, ok := strings.CutSuffix(raw, ">"); ok && sendable(raw) {
			if same, ok := strict(raw); ok && same == mailbox {
				mailbox = raw
			}
		}
	}
	if !sendable(mailbox) {
		return nil, fmt.Errorf("%w: %.80q", ErrPath, p.Address)
	}
	if !utf8Mail && !isASCII(mailbox) {
		return nil, fmt.Errorf("%w: %.80q", ErrNoSMTPUTF8, p.Address)
	}
	b = append(b, '<')
	b = append(b, mailbox...)
	return append(b, '>'), nil
}

// sendable says whether a mailbox may stand between angle brackets on a line: no control characters, and no angle brackets even where
// quotes would allow them, since there are servers that look for the first ">".
func sendable(s string) bool {
	if len(s) > maxPath || !utf8.ValidString(s) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f || c == '<' || c == '>' {
			return false
		}
	}
	return true
}

func isASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// strict reads a path as it stands between angle brackets, a source route (RFC 5321 appendix C) allowed, and gives the canonical
// address that it means. It refuses what some server may read in another way.
func strict(raw string) (address string, ok bool) {
	if route, mailbox, found := strings.Cut(raw, ":"); found && strings.HasPrefix(route, "@") {
		for hop := range strings.SplitSeq(route, ",") {
			if !strings.HasPrefix(hop, "@") || !isDomain(hop[1:]) {
				return "", false
			}
		}
		raw = mailbox
	}
	local, _, err := split(raw)
	if err != nil || !strings.HasPrefix(raw, `"`) && !isDotString(local) {
		return "", false
	}
	address, err = canonical(raw)
	return address, err == nil
}

// canonical is an address in its one canonical form: the local part quoted only where it has to be. A local part without a domain
// (postmaster) is allowed. The error is ErrPath.
func canonical(address string) (string, error) {
	local, domain, err := split(address)
	if err != nil {
		return "", err
	}
	if !isDotString(local) {
		local = quote(local)
	} else if address[0] != '"' { // as it is nearly always
		return address, nil
	}
	if domain == "" {
		return local, nil
	}
	return local + "@" + domain, nil
}

// split takes an address apart; the local part without its quotes.
func split(address string) (local, domain string, err error) {
	bad := func() error { return fmt.Errorf("%w: %.80q", ErrPath, address) }
	local, rest, quoted := unquote(address)
	if quoted {
		if rest == "" {
			return local, "", nil
		}
		if rest[0] != '@' {
			return "", "", bad()
		}
		domain = rest[1:]
	} else {
		at := strings.LastIndexByte(address, '@')
		if at < 0 {
			return address, "", nil
		}
		local, domain = address[:at], address[at+1:]
	}
	if local == "" && !quoted || !isDomain(domain) {
		return "", "", bad()
	}
	return local, domain, nil
}

// unquote reads a quoted string at the start of s.
func unquote(s string) (text, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", s, false
			}
			fallthrough
		default:
			b.WriteByte(s[i])
		}
	}
	return "", s, false
}

// quote makes a quoted string (RFC 5321 section 4.1.2).
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// isDotString says whether a local part needs no quotes. Dots at the ends and side by side are let through as they are: such
// addresses exist, and quoted they would be others to many servers.
func isDotString(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c < utf8.RuneSelf && strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isDomain takes names with underscores too, which are in use, and address literals.
func isDomain(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && !strings.ContainsFunc(inner, func(r rune) bool {
			return r <= ' ' || r >= 0x7f || strings.ContainsRune(`[]\`, r)
		})
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c < utf8.RuneSelf && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// appendXtext encodes s as xtext (RFC 3461 section 4).
func appendXtext(b []byte, s string) []byte {
	const hexDigits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; isXchar(c) {
			b = append(b, c)
		} else {
			b = append(b, '+', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}

func isXchar(c byte) bool { return c > ' ' && c < 0x7f && c != '+' && c != '=' }

// isXtext says whether s is xtext already; with utf8Mail, or the like with UTF-8 in it (RFC 6533 section 3).
func isXtext(s string, utf8Mail bool) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			if i+2 >= len(s) || !isUpperHex(s[i+1]) || !isUpperHex(s[i+2]) {
				return false
			}
			i += 2
		case !isXchar(s[i]) && (s[i] < utf8.RuneSelf || !utf8Mail):
			return false
		}
	}
	return true
}

func isUpperHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }
