package extract

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"regexp"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/message"
)

// iCalendar (RFC 5545) and vCard (2.1, RFC 2426, RFC 6350). Both are lines of NAME;PARAMETER=value:value, long ones folded.

var calendarFormat = format{
	name:  "calendar",
	is:    func(p *probe) bool { return begins(p.head, "BEGIN:VCALENDAR") },
	types: []string{"text/calendar", "application/ics", "text/x-vcalendar"}, ends: []string{".ics", ".ical", ".ifb", ".vcs"},
	extract: extractLines,
}

var cardFormat = format{
	name:  "card",
	is:    func(p *probe) bool { return begins(p.head, "BEGIN:VCARD") },
	types: []string{"text/vcard", "text/x-vcard", "text/directory"}, ends: []string{".vcf", ".vcard"},
	extract: extractLines,
}

// begins says whether a file begins with a word, in any case and behind blanks and the mark of UTF-8.
func begins(head []byte, word string) bool {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	return len(head) >= len(word) && strings.EqualFold(string(head[:len(word)]), word)
}

// silent are properties that say nothing to people.
var silent = map[string]bool{
	"BEGIN": true, "END": true, "VERSION": true, "PRODID": true, "CALSCALE": true, "SEQUENCE": true, "TRANSP": true, "CLASS": true, "DTSTAMP": true,
	"PRIORITY": true, "REV": true, "PHOTO": true, "LOGO": true, "SOUND": true, "KEY": true, "TRIGGER": true, "ACTION": true, "RRULE": true, "TZID": true,
	"METHOD": true, "X-MICROSOFT-CDO-BUSYSTATUS": true,
}

func extractLines(_ context.Context, in Input, out *Output) error {
	b, err := in.Bytes()
	if err != nil {
		return err
	}
	zone := 0 // open descriptions of time zones
	for len(b) > 0 {
		var line []byte
		line, b = unfold(b)
		p, ok := parseProperty(line)
		if !ok {
			if err := out.Text(message.DecodeText(line, "")); err != nil {
				return err
			}
			continue
		}
		if strings.EqualFold(p.value, "VTIMEZONE") {
			switch p.name {
			case "BEGIN":
				zone++
			case "END":
				zone = max(0, zone-1)
			}
		}
		if zone > 0 || silent[p.name] {
			continue
		}
		if err := p.write(out); err != nil {
			return err
		}
	}
	return nil
}

// unfold takes a line, and those that go on with it, off b (RFC 5545, section 3.1). A line of quoted-printable that ends in = goes on too.
func unfold(b []byte) (line, rest []byte) {
	first := true
	for len(b) > 0 {
		n := bytes.IndexByte(b, '\n') + 1
		if n == 0 {
			n = len(b)
		}
		text := bytes.TrimRight(b[:n], "\r\n")
		soft := !first && bytes.HasSuffix(line, []byte("=")) && quoted(line)
		switch {
		case first:
			line = text[:len(text):len(text)]
		case soft:
			line = append(line[:len(line)-1], bytes.TrimLeft(text, " \t")...)
		case len(text) == 0 || text[0] != ' ' && text[0] != '\t':
			return line, b
		default:
			line = append(line, text[1:]...)
		}
		first = false
		b = b[n:]
	}
	return line, nil
}

// quoted says that the value of a line is quoted-printable, by its parameters.
func quoted(line []byte) bool {
	params, _, ok := bytes.Cut(line[:min(len(line), 200)], []byte(":"))
	return ok && bytes.Contains(bytes.ToUpper(params), []byte("QUOTED-PRINTABLE"))
}

// property is one line.
type property struct {
	name   string // in capitals, without a group
	params map[string]string
	value  string // as it stands there, in UTF-8
}

var propertyName = regexp.MustCompile(`^[A-Za-z0-9.-]+$`)

func parseProperty(line []byte) (p property, ok bool) {
	colon, inQuotes := -1, false
	for i, c := range line {
		if c == '"' {
			inQuotes = !inQuotes
		}
		if c == ':' && !inQuotes {
			colon = i
			break
		}
	}
	if colon < 0 {
		return p, len(bytes.TrimSpace(line)) == 0
	}
	parts := splitUnquoted(string(line[:colon]), ';')
	p.params = map[string]string{}
	for _, part := range parts[1:] {
		name, value, ok := strings.Cut(part, "=")
		if !ok { // vCard 2.1
			name, value = "ENCODING", part
		}
		p.params[strings.ToUpper(name)] = strings.Trim(value, `"`)
	}
	p.name = strings.ToUpper(parts[0][strings.LastIndexByte(parts[0], '.')+1:])
	if !propertyName.MatchString(parts[0]) {
		return p, false
	}
	value := line[colon+1:]
	if strings.EqualFold(p.params["ENCODING"], "QUOTED-PRINTABLE") {
		if b, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(value))); err == nil {
			value = b
		}
	}
	p.value = message.DecodeText(value, p.params["CHARSET"])
	return p, true
}

func splitUnquoted(s string, at byte) (list []string) {
	inQuotes, from := false, 0
	for i := range len(s) {
		switch {
		case s[i] == '"':
			inQuotes = !inQuotes
		case s[i] == at && !inQuotes:
			list = append(list, s[from:i])
			from = i + 1
		}
	}
	return append(list, s[from:])
}

// unescape undoes the escapes of texts, and sets the pieces of a structured value apart.
var unescape = strings.NewReplacer(`\n`, "\n", `\N`, "\n", `\,`, ",", `\;`, ";", `\\`, `\`, `;`, " ")

var (
	moment     = regexp.MustCompile(`^(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?Z?)?$`)
	base64Name = regexp.MustCompile(`(?i)^(BASE64|B)$`)
)

func (p property) write(out *Output) error {
	if base64Name.MatchString(p.params["ENCODING"]) {
		if p.name != "ATTACH" {
			return nil
		}
		name := p.params["FILENAME"]
		if name == "" {
			name = p.params["X-FILENAME"]
		}
		return out.Nested(name, strings.ToLower(p.params["FMTTYPE"]), base64.NewDecoder(base64.StdEncoding, strings.NewReader(p.value)))
	}
	value := p.value
	switch m := moment.FindStringSubmatch(value); {
	case m != nil:
		value = m[1] + "-" + m[2] + "-" + m[3]
		if m[4] != "" {
			value += " " + m[4] + ":" + m[5]
		}
	case strings.Contains(p.name, "HTML") || strings.EqualFold(p.params["FMTTYPE"], "text/html"):
		value = message.HTMLText(unescape.Replace(value))
	case len(value) > 7 && strings.EqualFold(value[:7], "mailto:"):
		value = value[7:]
	case strings.HasPrefix(value, "data:"):
		return nil
	default:
		value = unescape.Replace(value)
	}
	if name := p.params["CN"]; name != "" {
		value = name + " " + value
	}
	return out.Text(strings.TrimSpace(value))
}
