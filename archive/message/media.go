package message

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// mediaType is what the fields of an entity say of its body.
type mediaType struct {
	typ         string // lower case; always type/subtype
	charset     string
	boundary    string
	name        string // decoded; of Content-Disposition, else of Content-Type
	smime       string
	protocol    string // of multipart/signed and multipart/encrypted, lower case
	disposition string
	contentID   string
	encoding    string // as declared
	encoded     string // what the decoder calls it; empty: not encoded
	problems    []string
}

// readMedia reads the fields of RFC 2045 and 2183. standard is the type where none is declared.
func readMedia(h Header, standard string) mediaType {
	m := mediaType{typ: standard}
	var typ, disposition, encoding *Field
	for i := range h.fields {
		f := &h.fields[i]
		if len(f.Name) < len("Content-ID") || f.Name[0]|0x20 != 'c' {
			continue
		}
		first := func(p **Field) {
			if *p == nil {
				*p = f
			} else {
				m.problems = append(m.problems, "more than one "+strings.ToLower(f.Name))
			}
		}
		switch {
		case strings.EqualFold(f.Name, "Content-Type"):
			first(&typ)
		case strings.EqualFold(f.Name, "Content-Disposition"):
			first(&disposition)
		case strings.EqualFold(f.Name, "Content-Transfer-Encoding"):
			first(&encoding)
		case strings.EqualFold(f.Name, "Content-ID"):
			m.contentID = strings.ToValidUTF8(strings.Trim(unfold(f.Raw), "<> \t"), "\ufffd")
		}
	}
	var p params
	if typ != nil {
		var value string
		value, p = parseParams(unfold(typ.Raw))
		switch main, sub, ok := strings.Cut(value, "/"); {
		case ok && main != "" && sub != "":
			m.typ = value
		case value == "text":
			m.typ = "text/plain"
		case p.get("boundary") != "":
			m.typ = "multipart/mixed"
			m.problems = append(m.problems, "content-type can't be read")
		default:
			m.problems = append(m.problems, "content-type can't be read")
		}
		m.charset = strings.ToLower(strings.Trim(p.get("charset"), " '\""))
		m.boundary = p.raw("boundary")
		m.smime = strings.ToLower(p.get("smime-type"))
		m.protocol = strings.ToLower(p.get("protocol"))
		m.name = p.get("name")
	}
	if disposition != nil {
		m.disposition, p = parseParams(unfold(disposition.Raw))
		if name := p.get("filename"); name != "" {
			m.name = name
		}
	}
	m.name = strings.TrimSpace(m.name)
	if encoding != nil {
		m.encoding, _ = parseParams(unfold(encoding.Raw))
	}
	switch m.encoding {
	case "", "7bit", "8bit", "binary", "7-bit", "8-bit":
	case "base64", "quoted-printable":
		m.encoded = m.encoding
	case "uuencode", "x-uuencode", "x-uue", "uue":
		m.encoded = "uuencode"
	default:
		m.problems = append(m.problems, "unknown content-transfer-encoding")
	}
	return m
}

func (m *mediaType) isMessage() bool {
	switch m.typ {
	case "message/rfc822", "message/global", "message/news":
		return true
	}
	return false
}

// isText says that the body is something to read.
func (m *mediaType) isText() bool {
	switch m.typ {
	case "text/rtf", "text/richtext+rtf", "text/x-rtf":
		return false
	case "application/pgp", "application/xhtml+xml":
		return true
	}
	return strings.HasPrefix(m.typ, "text/") || strings.HasPrefix(m.typ, "message/")
}

func (m *mediaType) isHTML() bool {
	switch m.typ {
	case "text/html", "text/x-amp-html", "application/xhtml+xml", "text/enriched", "text/richtext":
		return true
	}
	return false
}

// describe gives the part that a leaf or nested message is.
func (n *node) describe() Part {
	m := &n.media
	return Part{
		Path: n.path, Type: m.typ, Charset: m.charset, Disposition: m.disposition, Name: m.name, ContentID: m.contentID,
		Encoding: m.encoding, Attachment: n.isAttachment(),
	}
}

func (n *node) isAttachment() bool {
	m := &n.media
	parent := ""
	if n.parent != nil {
		parent = n.parent.media.typ
	}
	switch {
	case m.disposition == "attachment", m.isMessage():
		return true
	case parent == "multipart/signed" && n.parent.parts > 1, parent == "multipart/encrypted" && n.parent.parts == 1:
		return false // the signature, the version
	case n.kind == plainText || n.kind == htmlText || n.kind == rawText:
		return m.name != "" || n.attached
	case m.contentID != "" || m.disposition == "inline":
		for p := n.parent; p != nil && p.kind != nested; p = p.parent {
			if p.media.typ == "multipart/related" {
				return false // a picture in the text
			}
		}
	}
	return !m.isText() || m.name != ""
}

// params are the parameters of a field, in their order.
type params []param

type param struct {
	name    string // lower case, without what RFC 2231 adds
	value   string
	segment int  // RFC 2231, section 3; -1: it is whole
	escaped bool // RFC 2231, section 4
}

// parseParams reads value *(";" name "=" value), quoted or not, with comments. What can't be read is passed over. The value is in lower
// case.
func parseParams(s string) (value string, list params) {
	first, rest := cutParam(s)
	first, _, _ = strings.Cut(first, "(")
	fields := strings.Fields(strings.ToValidUTF8(first, ""))
	if len(fields) > 1 && strings.Contains(fields[0], "/") && strings.Contains(fields[1], "=") { // a semicolon was forgotten
		rest = strings.Join(fields[1:], " ") + ";" + rest
		fields = fields[:1]
	}
	value = strings.ToLower(strings.Join(fields, ""))
	for rest != "" {
		first, rest = cutParam(rest)
		name, v, ok := strings.Cut(first, "=")
		if !ok {
			continue
		}
		p := param{name: strings.ToLower(strings.TrimSpace(name)), value: unquote(strings.TrimSpace(v)), segment: -1}
		if i := strings.IndexByte(p.name, '*'); i >= 0 {
			seg := p.name[i+1:]
			p.name = p.name[:i]
			if seg == "" {
				p.escaped = true
			} else {
				seg, p.escaped = strings.CutSuffix(seg, "*")
				n, err := strconv.Atoi(seg)
				if err != nil || n < 0 {
					continue
				}
				p.segment = n
			}
		}
		list = append(list, p)
	}
	return value, list
}

// cutParam cuts s at its first semicolon outside of quotes.
func cutParam(s string) (first, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"' && (quoted || strings.IndexByte(s[i+1:], '"') >= 0): // one that is never closed quotes nothing
			quoted = !quoted
		case c == ';' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// unquote takes the quotes off a value, and a comment after it.
func unquote(s string) string {
	if s == "" || s[0] != '"' {
		return strings.Trim(s, `"`)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String()
		case '\\':
			// A backslash before a letter is no quoting but a path of Windows, unquoted.
			if i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\') {
				i++
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// raw gives the first parameter of a name as it stands.
func (list params) raw(name string) string {
	for i := range list {
		if list[i].name == name && list[i].segment < 0 {
			return list[i].value
		}
	}
	return list.get(name)
}

// get gives a parameter as text: RFC 2231, RFC 2047 (which has no place here, and is what most senders use) or raw. The extended form goes
// first, then the first of the others.
func (list params) get(name string) string {
	var segments params
	plain := -1
	for i := range list {
		p := &list[i]
		switch {
		case p.name != name:
		case p.segment >= 0:
			segments = append(segments, *p)
		case p.escaped:
			charset, value := cutCharset(p.value)
			return cleanName(toUTF8(unescape(value), charset))
		case plain < 0:
			plain = i
		}
	}
	if len(segments) == 0 {
		if plain < 0 {
			return ""
		}
		return cleanName(decodeWords(toUTF8(list[plain].value, "")))
	}
	slices.SortStableFunc(segments, func(a, b param) int { return cmp.Compare(a.segment, b.segment) })
	var b strings.Builder
	charset, escaped := "", false
	for i, p := range segments {
		if p.escaped {
			escaped = true
			if i == 0 {
				charset, p.value = cutCharset(p.value)
			}
			p.value = unescape(p.value)
		}
		b.WriteString(p.value)
	}
	if text := toUTF8(b.String(), charset); escaped {
		return cleanName(text)
	} else {
		return cleanName(decodeWords(text))
	}
}

// cutCharset cuts charset'language' off an extended value.
func cutCharset(s string) (charset, value string) {
	charset, rest, ok := strings.Cut(s, "'")
	if !ok {
		return "", s
	}
	if _, value, ok = strings.Cut(rest, "'"); !ok {
		return "", s
	}
	return charset, value
}

func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0 {
			b = append(b, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func cleanName(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
