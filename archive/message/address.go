package message

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Address is one address of a header. At least one of the two is not empty.
type Address struct {
	Name    string // display name, or the comment that serves as one; decoded
	Address string // local@domain as written, without angle brackets, route and quotes that mean nothing; no @: a name on the sender's system
}

// appendAddresses reads a list of addresses (RFC 5322, section 3.4, the obsolete forms too) in UTF-8. It refuses nothing: whatever a
// reader of the header would take for an address is one. Groups give their members. An address that stands only in a display name is not
// one, unless quotes or brackets don't close, so that nobody can say what belongs to what.
func appendAddresses(dst []Address, s string) []Address {
	p := addressParser{dst: dst, s: s, comments: true}
	p.list()
	if strings.Count(s, `"`)%2 == 0 {
		return p.dst
	}
	known := map[string]bool{}
	for _, a := range p.dst {
		known[a.Address] = true
	}
	for _, part := range strings.Split(s, "<")[1:] {
		addr, _, ok := strings.Cut(part, ">")
		if addr = cleanAddress(addr); ok && strings.IndexByte(addr, '@') > 0 && !known[addr] {
			known[addr] = true
			p.add("", addr)
		}
	}
	return p.dst
}

type addressParser struct {
	dst      []Address
	s        string
	i        int
	comments bool // a parenthesis still may close
	again    bool // this is the text of an encoded-word

	words   []word // of the mailbox being read
	comment []string
	angle   string
	inAngle bool // angle was seen
	named   int  // how many words came before it
}

// word is an atom or a quoted string, without its quotes. A quoted local part and its domain are one atom.
type word struct {
	text   string
	quoted bool
}

// hasAt says that w is, or may be part of, an address.
func (w word) hasAt() bool { return !w.quoted && strings.IndexByte(w.text, '@') >= 0 }

func (p *addressParser) list() {
	lastQuote := strings.LastIndexByte(p.s, '"')
	atom := p.i
	end := func() {
		if p.i > atom {
			p.words = append(p.words, word{text: p.s[atom:p.i]})
		}
	}
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == ',' || c == ';':
			end()
			p.mailbox()
			p.i++
		case c == ' ' || c == '\t':
			end()
			p.i++
		case c == '"' && p.i < lastQuote:
			if atom < p.i && p.s[atom] == '@' { // no quote begins within a domain
				p.i++
				continue
			}
			end()
			p.quoted()
		case c == '(' && p.comments:
			end()
			if !p.readComment() {
				p.comments = false
				atom = p.i
				p.i++
				continue
			}
		case c == '<':
			end()
			if p.inAngle { // a comma was forgotten: what stands between is the name of the next
				next := slices.Clone(p.words[p.named:])
				p.words = p.words[:p.named]
				p.mailbox()
				p.words = append(p.words, next...)
			}
			p.readAngle()
		case c == '>' && p.inAngle:
			end()
			p.i++
		case c == ':' && p.isGroup(p.s[atom:p.i]):
			p.words, p.comment = p.words[:0], p.comment[:0]
			p.i++
		case c == '\\' && p.i+1 < len(p.s):
			p.i += 2
			continue
		default:
			p.i++
			continue
		}
		atom = p.i
	}
	p.i = len(p.s)
	end()
	p.mailbox()
}

// isGroup says that a colon here, after atom, ends the name of a group (or is that of mailto:). One after a blank begins a smiley.
func (p *addressParser) isGroup(atom string) bool {
	if p.inAngle || p.i == 0 || p.s[p.i-1] == ' ' || strings.IndexByte(atom, '@') >= 0 || strings.IndexByte(atom, '[') >= 0 {
		return false
	}
	for _, w := range p.words {
		if w.hasAt() {
			return false
		}
	}
	return true
}

// quoted reads a quoted string. There is a quote after this one, though it may be a quoted one.
func (p *addressParser) quoted() {
	var b strings.Builder
	i := p.i + 1
	for ; i < len(p.s) && p.s[i] != '"'; i++ {
		if p.s[i] == '\\' && i+1 < len(p.s) {
			i++
		}
		b.WriteByte(p.s[i])
	}
	p.i = min(i+1, len(p.s))
	// "john smith"@example.com is one address.
	if p.i < len(p.s) && p.s[p.i] == '@' {
		start := p.i
		for p.i < len(p.s) && strings.IndexByte(" \t,;<>()\"", p.s[p.i]) < 0 {
			p.i++
		}
		p.words = append(p.words, word{text: quoteLocal(b.String()) + p.s[start:p.i]})
		return
	}
	if b.Len() > 0 {
		p.words = append(p.words, word{b.String(), true})
	}
}

// quoteLocal gives a local part its quotes back where they mean something (RFC 5321, section 4.1.2).
func quoteLocal(s string) string {
	if s != "" && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..") &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>[]:;@\,"`, r) }) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// readComment reads a comment, nested ones with it; false: it does not close.
func (p *addressParser) readComment() bool {
	depth := 0
	for i := p.i; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				if text := strings.TrimSpace(p.s[p.i+1 : i]); text != "" {
					p.comment = append(p.comment, strings.ReplaceAll(text, `\`, ""))
				}
				p.i = i + 1
				return true
			}
		}
	}
	return false
}

// readAngle reads <address>; one that does not close ends where the next thing begins.
func (p *addressParser) readAngle() {
	for strings.HasPrefix(p.s[p.i+1:], "<") {
		p.i++
	}
	rest := p.s[p.i+1:]
	n, quoted := 0, false
	for n < len(rest) {
		c := rest[n]
		if c == '"' && (quoted || strings.IndexByte(rest[n+1:min(len(rest), n+300)], '"') >= 0) {
			quoted = !quoted
		} else if c == '\\' && quoted {
			n++
		} else if !quoted && (c == '>' || c == '<' || c == ';' || c == ',' && !strings.HasPrefix(rest, "@")) {
			break
		}
		n++
	}
	n = min(n, len(rest))
	p.angle, p.inAngle, p.named = cleanAddress(rest[:n]), true, len(p.words)
	p.i += 1 + n
	if n < len(rest) && rest[n] == '>' {
		p.i++
	}
}

// cleanAddress takes routes (RFC 5321, appendix C), mailto:, blanks and needless quotes off an address.
func cleanAddress(s string) string {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "@") {
		if i := strings.LastIndexByte(s, ':'); i >= 0 {
			s = s[i+1:]
		}
	}
	if len(s) > 7 && strings.EqualFold(s[:7], "mailto:") {
		s = s[7:]
	}
	s = decodeWords(s)
	if strings.HasPrefix(s, `"`) {
		if i := strings.LastIndex(s, `"`); i > 0 {
			local := strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(s[1:i])
			return quoteLocal(local) + strings.Join(strings.Fields(s[i+1:]), "")
		}
	}
	s = strings.Join(strings.Fields(s), "")
	if strings.HasPrefix(s, "'") && strings.HasSuffix(s, "'") {
		s = strings.Trim(s, "'")
	}
	return s
}

// mailbox ends the mailbox being read.
func (p *addressParser) mailbox() {
	defer func() {
		p.words, p.comment, p.angle, p.inAngle = p.words[:0], p.comment[:0], "", false
	}()
	if p.inAngle {
		name := p.name(p.words)
		if len(p.comment) > 0 {
			name = strings.TrimSpace(name + " (" + decodeWords(strings.Join(p.comment, " ")) + ")")
			if len(p.words) == 0 {
				name = name[1 : len(name)-1]
			}
		}
		p.add(name, p.angle)
		return
	}
	// A bare address, perhaps with blanks around @ and dots, perhaps with a name beside it, perhaps several.
	var words []word
	var addresses []string
	for _, w := range join(p.words) {
		if w.hasAt() && w.text != "@" {
			addresses = append(addresses, cleanAddress(strings.Trim(w.text, ">")))
		} else {
			words = append(words, w)
		}
	}
	comment := decodeWords(strings.Join(p.comment, " "))
	switch {
	case len(addresses) > 0:
		name := p.name(words)
		if name == "" {
			name = comment
		}
		for i, a := range addresses {
			if i > 0 {
				name = ""
			}
			p.add(name, a)
		}
	case len(words) == 0:
		p.add(comment, "")
	default:
		name := p.name(words)
		if strings.IndexByte(name, '@') >= 0 && !p.again { // all of it was one encoded-word or quoted string
			inner := addressParser{dst: p.dst, s: name, comments: true, again: true}
			inner.list()
			p.dst = inner.dst
			return
		}
		if len(words) == 1 && comment == "" && !words[0].quoted && !strings.Contains(words[0].text, "=?") {
			p.add("", name)
			return
		}
		p.add(strings.TrimSpace(name+" "+comment), "")
	}
}

// join puts "bob @ example . com" together.
func join(words []word) []word {
	var list []word
	for _, w := range words {
		if n := len(list); n > 0 && !w.quoted && !list[n-1].quoted && len(list[n-1].text) < 1000 {
			last := &list[n-1]
			dot := last.hasAt() && (w.text[0] == '.' || strings.HasSuffix(last.text, "."))
			if dot || w.text[0] == '@' || strings.HasSuffix(last.text, "@") {
				last.text += w.text
				continue
			}
		}
		list = append(list, w)
	}
	return list
}

func (p *addressParser) name(words []word) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return strings.Join(strings.Fields(decodeWords(b.String())), " ")
}

func (p *addressParser) add(name, address string) {
	if name == "" && address == "" {
		return
	}
	if !utf8.ValidString(address) {
		address = strings.ToValidUTF8(address, "\ufffd")
	}
	p.dst = append(p.dst, Address{strings.ToValidUTF8(name, "\ufffd"), address})
}
