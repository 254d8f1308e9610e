package message

import (
	"strings"
	"time"
)

// Header is the fields of a message, in their order. Every accessor is tolerant: it gives what can be read, and nothing where there is
// nothing. The zero Header has no fields.
type Header struct {
	fields  []Field
	charset string // of raw 8-bit text in fields: that of the body
}

// Field is one field as it was received.
type Field struct {
	Name string // as written
	Raw  string // all after the colon, folds included, without the last line end
}

// Fields gives all fields in their order. The slice is the header's own.
func (h Header) Fields() []Field { return h.fields }

// Raw gives the first field of a name, in any case, unfolded but not decoded.
func (h Header) Raw(name string) string {
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].Name, name) {
			return unfold(h.fields[i].Raw)
		}
	}
	return ""
}

// Get gives the first field of a name as text: unfolded, RFC 2047 decoded, in UTF-8.
func (h Header) Get(name string) string {
	return h.text(h.Raw(name))
}

// Values gives all fields of a name as Get gives the first.
func (h Header) Values(name string) []string {
	var list []string
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			list = append(list, h.text(unfold(f.Raw)))
		}
	}
	return list
}

// Text gives one field as Get does.
func (h Header) Text(f Field) string { return h.text(unfold(f.Raw)) }

// Subject is Get("Subject").
func (h Header) Subject() string { return h.Get("Subject") }

// Date gives the Date field in UTC; zero where it can't be read.
func (h Header) Date() time.Time { return parseDate(h.Raw("Date")) }

// MessageID gives the Message-ID without its angle brackets; of one that has none, all of it.
func (h Header) MessageID() string {
	raw := h.Raw("Message-ID")
	if ids := messageIDs(raw); len(ids) > 0 {
		return ids[0]
	}
	return strings.Trim(toUTF8(raw, h.charset), " \t<>")
}

// References gives the message ids of References and In-Reply-To, without angle brackets, each once, the oldest first.
func (h Header) References() []string {
	var list []string
	seen := map[string]bool{}
	for _, name := range []string{"References", "In-Reply-To"} {
		for _, f := range h.fields {
			if !strings.EqualFold(f.Name, name) {
				continue
			}
			for _, id := range messageIDs(unfold(f.Raw)) {
				if !seen[id] {
					seen[id] = true
					list = append(list, id)
				}
			}
		}
	}
	return list
}

// AddressList gives the addresses of all fields of a name.
func (h Header) AddressList(name string) []Address {
	var list []Address
	for _, f := range h.fields {
		if strings.EqualFold(f.Name, name) {
			list = appendAddresses(list, toUTF8(unfold(f.Raw), h.charset))
		}
	}
	return list
}

// text decodes an unfolded field.
func (h Header) text(raw string) string {
	return strings.TrimSpace(decodeWords(toUTF8(raw, h.charset)))
}

// hasAny says whether this looks like the header of a message or part at all.
func (h Header) hasAny() bool {
	for _, f := range h.fields {
		if isKnown([]byte(f.Name)) || strings.EqualFold(f.Name, "Received") || strings.EqualFold(f.Name, "MIME-Version") ||
			strings.EqualFold(f.Name, "Return-Path") || len(f.Name) > 8 && strings.EqualFold(f.Name[:8], "content-") {
			return true
		}
	}
	return false
}

// unfold takes line ends out of a field (RFC 5322, section 2.2.3), and NULs. A bare CR is a blank.
func unfold(raw string) string {
	if strings.IndexByte(raw, '\n') < 0 && strings.IndexByte(raw, '\r') < 0 && strings.IndexByte(raw, 0) < 0 {
		return strings.Trim(raw, " \t")
	}
	var b strings.Builder
	b.Grow(len(raw))
	for i := range len(raw) {
		switch c := raw[i]; c {
		case '\n', 0:
		case '\r':
			if i+1 < len(raw) && raw[i+1] != '\n' {
				b.WriteByte(' ')
			}
		default:
			b.WriteByte(c)
		}
	}
	return strings.Trim(b.String(), " \t")
}

// messageIDs gives what stands in angle brackets.
func messageIDs(s string) []string {
	var list []string
	for {
		_, rest, ok := strings.Cut(s, "<")
		if !ok {
			return list
		}
		id, after, ok := strings.Cut(rest, ">")
		if !ok {
			return list
		}
		if i := strings.LastIndexByte(id, '<'); i >= 0 {
			id = id[i+1:]
		}
		if id = strings.Join(strings.Fields(strings.ToValidUTF8(id, "\ufffd")), ""); id != "" {
			list = append(list, id)
		}
		s = after
	}
}
