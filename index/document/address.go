package document

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// FoldAddress gives the form in which whole addresses are compared: NFC, lower case, no angle brackets, the domain as FoldDomain gives it.
// Accents count. What has no @ is folded as a local part.
func FoldAddress(addr string) string {
	addr = strings.TrimSpace(addr)
	if n := len(addr); n > 1 && addr[0] == '<' && addr[n-1] == '>' {
		addr = addr[1 : n-1]
	}
	local, domain := Split(strings.TrimRightFunc(strings.TrimSpace(addr), func(r rune) bool {
		return r == '@' || r == '.' || unicode.IsSpace(r)
	}))
	local = strings.ToLower(valid(local))
	if domain = FoldDomain(domain); domain == "" {
		return local
	}
	return local + "@" + domain
}

// FoldDomain gives the form in which domains are compared: lower case, NFC, without dots at the end, and a name in punycode (RFC 5891)
// as the letters that it stands for. What is not valid punycode stays as it is.
func FoldDomain(domain string) string {
	domain = strings.TrimRight(strings.ToLower(valid(domain)), ".")
	if strings.Contains(domain, "xn--") {
		if u, err := idna.Punycode.ToUnicode(domain); err == nil {
			if back, err := idna.Punycode.ToASCII(u); err == nil && back == domain {
				return strings.ToLower(norm.NFC.String(u))
			}
		}
	}
	return domain
}

func valid(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return norm.NFC.String(strings.ToValidUTF8(s, "\ufffd"))
		}
	}
	return s
}

// Split cuts an address at its last @. Without one all of it is the local part.
func Split(addr string) (local, domain string) {
	if i := strings.LastIndexByte(addr, '@'); i >= 0 {
		return addr[:i], addr[i+1:]
	}
	return addr, ""
}

// maxDomain is generous: a name of the DNS has at most 253 bytes (RFC 1035), as Unicode rarely more.
const maxDomain = 512

// Domains gives a folded domain and those it lies in, the longest first: mail.acme.com, acme.com, com. A domain literal lies in none, nor
// does what is longer than maxDomain.
func Domains(domain string) []string {
	if domain == "" {
		return nil
	}
	list := []string{domain}
	if domain[0] == '[' || len(domain) > maxDomain {
		return list
	}
	for {
		_, parent, ok := strings.Cut(domain, ".")
		if !ok || parent == "" {
			break
		}
		list = append(list, parent)
		domain = parent
	}
	return list
}

// FoldName gives the form in which the names of people are compared: all of s folded as words are (case, width, accents), with the
// characters between the words left in place. A query for a name (query.Name) has it as Value.
func FoldName(s string) string {
	var f folder
	dst := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf && (i+1 == len(s) || s[i+1] < utf8.RuneSelf) {
			dst = appendCaseFold(dst, rune(c))
			i++
			continue
		}
		n := clusterLen(s[i:])
		dst = append(dst, f.cluster(s[i:i+n])...)
		i += n
	}
	return string(dst)
}

// maxRun is the longest run of characters without spaces between them of which every part is a name of its own; MaxNameWords how many words
// of a display name can be asked for as they follow each other; maxNames bounds the names of one address.
const (
	maxRun       = 8
	MaxNameWords = 5
	maxNames     = 256
)

// FoldNames gives the form in which several words of a display name are compared: their tokens with one space between; and how many these
// are.
func FoldNames(s string) (string, int) {
	tokens := Tokens(nil, s)
	words := make([]string, len(tokens))
	for i, t := range tokens {
		words[i] = t.Text
	}
	return strings.Join(words, " "), len(words)
}

// NameTokens gives what query.Name compares of an address, each once: the local part, whole; the words of the display name, as Tokens
// makes them; what stands between spaces in it, whole (o'neil beside o and neil); of a name in Chinese, Japanese, Korean or Thai
// every part (小明 of 王小明); and up to MaxNameWords of its words that follow each other (claire dubois).
func NameTokens(a Address) []string {
	var list []string
	add := func(s string) {
		if s != "" && len(list) < maxNames && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	local, _ := Split(a.Address)
	add(FoldName(local))
	if a.Name == "" {
		return list
	}
	tokens := Tokens(nil, a.Name)
	if len(tokens) > maxNames { // nobody's name
		a.Name = a.Name[:tokens[maxNames].Start]
		tokens = tokens[:maxNames]
	}
	for _, t := range tokens {
		add(t.Text)
	}
	for word := range strings.FieldsSeq(FoldName(a.Name)) {
		add(strings.TrimFunc(word, func(r rune) bool { return classOf(r) == separator }))
	}
	for i := range tokens {
		part := ""
		for _, t := range tokens[i:min(i+maxRun, len(tokens))] {
			if r, n := utf8.DecodeRuneInString(t.Text); n != len(t.Text) || classOf(r) != single {
				break
			}
			part += t.Text
			add(part)
		}
	}
	for i := range tokens {
		run := tokens[i].Text
		for _, t := range tokens[i+1 : min(i+MaxNameWords, len(tokens))] {
			run += " " + t.Text
			add(run)
		}
	}
	return list
}
