package bounce

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"mime"
	"net/mail"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// builder writes one notification.
type builder struct {
	Report
	back returned
	utf8 bool // the forms of RFC 6533
	out  bytes.Buffer
}

// needsUTF8 says that something is repeated that ASCII can't hold.
func (b *builder) needsUTF8() bool {
	if !isASCII(b.Original.MailFrom.Address) || !isASCII(b.back.headerText()) {
		return true
	}
	for _, r := range b.Recipients {
		if !isASCII(r.Path.Address) || !isASCII(r.Path.ORCPT) {
			return true
		}
	}
	return false
}

// headerText is the header of what goes back.
func (r returned) headerText() []byte {
	if head, _, found := bytes.Cut(r.text, []byte("\r\n\r\n")); found {
		return head
	}
	return r.text
}

func (b *builder) build() []byte {
	boundary := b.boundary()
	for _, line := range []string{
		"From: Mail delivery at " + b.Host + " <MAILER-DAEMON@" + b.Host + ">",
		"To: " + b.to(),
		"Subject: " + b.subject(),
		"Date: " + date(b.Time),
		"Message-ID: <" + b.ID.String() + "@" + b.Host + ">",
	} {
		b.out.WriteString(line + "\r\n")
	}
	if id := messageID(b.back.headerText()); id != "" {
		b.field("In-Reply-To", id)
		b.field("References", id)
	}
	b.out.WriteString("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"" + boundary + "\"\r\n\r\n")

	text := b.text()
	charset := "us-ascii"
	if !isASCII(text) {
		charset = "utf-8"
	}
	b.part(boundary, "text/plain; charset="+charset, "Notification", text)
	kind := "message/delivery-status"
	if b.utf8 {
		kind = "message/global-delivery-status"
	}
	b.part(boundary, kind, "Delivery report", b.status())
	if len(b.back.text) > 0 {
		kind, name := "text/rfc822-headers", "Header of the message"
		switch {
		case b.back.whole && b.utf8:
			kind, name = "message/global", "The message"
		case b.back.whole:
			kind, name = "message/rfc822", "The message"
		case b.utf8:
			kind = "message/global-headers"
		case !isASCII(b.back.text):
			kind += "; charset=utf-8"
		}
		b.part(boundary, kind, name, b.back.text)
	}
	b.out.WriteString("\r\n--" + boundary + "--\r\n")
	return b.out.Bytes()
}

// boundary is a line that does not occur in what goes back.
func (b *builder) boundary() string {
	for n := 0; ; n++ {
		s := fmt.Sprintf("=_%s.%d", b.ID, n)
		if !bytes.Contains(b.back.text, []byte(s)) {
			return s
		}
	}
}

func (b *builder) part(boundary, kind, name string, text []byte) {
	b.out.WriteString("\r\n--" + boundary + "\r\nContent-Type: " + kind + "\r\nContent-Description: " + name + "\r\n")
	if !isASCII(text) {
		b.out.WriteString("Content-Transfer-Encoding: 8bit\r\n")
	}
	b.out.WriteString("\r\n")
	b.out.Write(text)
}

// to is the field's value; an address that is too long for a line is in the envelope alone.
func (b *builder) to() string {
	if address := b.line(b.Original.MailFrom.Address); len(address) <= 900 {
		return "<" + address + ">"
	}
	return "undisclosed-recipients:;"
}

func (b *builder) action() Action { return b.Recipients[0].Action }

func (b *builder) subject() string {
	switch b.action() {
	case Delayed:
		return "Your message is late, and still being tried"
	case Delivered:
		return "Your message was delivered"
	case Relayed:
		return "Your message was handed on"
	}
	return "Your message could not be delivered"
}

// text is what a person reads first.
func (b *builder) text() []byte {
	var t bytes.Buffer
	say := func(format string, args ...any) { fmt.Fprintf(&t, format+"\r\n", args...) }
	say("This is the mail server %s.", b.Host)
	say("")
	about := "Your message of " + date(b.Original.Received)
	if s := b.subjectOfOriginal(); s != "" {
		say("%s,", about)
		about = "with the subject \"" + s + "\","
	}
	switch b.action() {
	case Failed:
		say("%s could not be delivered to the following recipients, and will not be tried again.", about)
	case Delayed:
		say("%s has not been delivered yet to the following recipients.", about)
		say("It is tried again until %s. You need not send it again.", date(b.Recipients[0].Until))
	case Delivered:
		say("%s was delivered to the following recipients.", about)
	case Relayed:
		say("%s was handed on for the following recipients, to a server that will not report what becomes of it.", about)
	}
	for _, r := range b.Recipients {
		say("")
		say("    %s", clip(b.line(r.Path.Address), 900))
		who := "        "
		if r.Remote != "" {
			who += clip(b.line(r.Remote), 255) + " said: "
		}
		reply := r.Text
		if r.Code != 0 {
			reply = strings.TrimSpace(strconv.Itoa(r.Code) + " " + strings.TrimSpace(r.Enhanced+" "+r.Text))
		}
		if reply == "" {
			continue
		}
		for line := range strings.SplitSeq(reply, "\n") {
			say("%s%s", who, clip(b.line(line), 900))
			who = "        "
		}
	}
	if b.action() == Failed {
		say("")
		say("The reasons given are those of the server named. The other parts of this message are for mail programs.")
	}
	if !b.back.whole && b.Original.Ret == "FULL" && b.action() == Failed {
		say("Only the header of the message is returned: the whole of it is too large, or can't stand in a report.")
	}
	say("")
	return t.Bytes()
}

// subjectOfOriginal is the subject as a person reads it, for the text; empty where there is none.
func (b *builder) subjectOfOriginal() string {
	raw := headerField(b.back.headerText(), "Subject")
	text, err := new(mime.WordDecoder).DecodeHeader(raw)
	if err != nil {
		text = raw
	}
	return clip(strings.TrimSpace(one(strings.ToValidUTF8(text, "?"))), 200)
}

// status is the part for programs (RFC 3464 section 2).
func (b *builder) status() []byte {
	var t bytes.Buffer
	field := func(name, value string) { writeField(&t, name, value) }
	if id := b.Original.EnvID; id != "" {
		field("Original-Envelope-Id", b.line(id))
	}
	field("Reporting-MTA", "dns; "+b.Host)
	if c := b.Original.Client; c != nil && c.Helo != "" {
		field("Received-From-MTA", "dns; "+b.line(c.Helo))
	}
	field("Arrival-Date", date(b.Original.Received))
	for _, r := range b.Recipients {
		t.WriteString("\r\n")
		if orcpt := b.originalRecipient(r.Path.ORCPT); orcpt != "" {
			field("Original-Recipient", orcpt)
		}
		field("Final-Recipient", b.addressType(r.Path.Address))
		field("Action", string(r.Action))
		field("Status", r.status())
		if r.Remote != "" {
			field("Remote-MTA", "dns; "+remoteName(b.line(r.Remote)))
		}
		switch {
		case r.Code != 0:
			field("Diagnostic-Code", "smtp; "+b.line(strings.TrimSpace(strconv.Itoa(r.Code)+" "+strings.TrimSpace(r.Enhanced+" "+r.Text))))
		case r.Text != "":
			field("Diagnostic-Code", "x-holdfast; "+b.line(r.Text))
		}
		if !r.Last.IsZero() {
			field("Last-Attempt-Date", date(r.Last))
		}
		if r.Action == Delayed && !r.Until.IsZero() {
			field("Will-Retry-Until", date(r.Until))
		}
	}
	return t.Bytes()
}

// remoteName is how a server is named: address literals in brackets, without the port.
func remoteName(s string) string {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return "[" + ap.Addr().String() + "]"
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return "[" + ip.String() + "]"
	}
	if host, port, found := strings.Cut(s, ":"); found {
		if _, err := strconv.Atoi(port); err == nil {
			return host
		}
	}
	return s
}

// addressType is an address with its type (RFC 3464 section 2.1.2, RFC 6533 section 3).
func (b *builder) addressType(address string) string {
	switch {
	case isASCII(address):
		return "rfc822; " + b.line(address)
	case b.utf8:
		return "utf-8; " + b.line(address)
	}
	return "utf-8; " + utf8Xtext(address)
}

// originalRecipient is an ORCPT (RFC 3461 section 4.2) with its xtext decoded, where it is one; that of type utf-8 has an encoding of its
// own, which stays.
func (b *builder) originalRecipient(orcpt string) string {
	kind, address, found := strings.Cut(orcpt, ";")
	if !found || kind == "" || !isASCII(kind) || strings.ContainsAny(kind, " \t\r\n") {
		return ""
	}
	if !strings.EqualFold(kind, "utf-8") {
		address = decodeXtext(address)
	}
	return kind + "; " + b.line(address)
}

// decodeXtext gives s as it is where it is no xtext.
func decodeXtext(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			out.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return s
		}
		c, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return s
		}
		out.Write(c)
		i += 2
	}
	return out.String()
}

// utf8Xtext is utf-8-addr-xtext (RFC 6533 section 3): for a report that has to be ASCII.
func utf8Xtext(s string) string {
	var out strings.Builder
	for _, c := range s {
		if c > ' ' && c < 0x7f && c != '+' && c != '=' && c != '\\' {
			out.WriteRune(c)
		} else {
			fmt.Fprintf(&out, `\x{%X}`, c)
		}
	}
	return out.String()
}

// line makes s safe to stand on a line: no control characters, and ASCII only where the report is.
func (b *builder) line(s string) string {
	s = one(strings.ToValidUTF8(s, "?"))
	if b.utf8 || isASCII(s) {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c >= utf8.RuneSelf {
			return '?'
		}
		return c
	}, s)
}

// one puts blanks in the place of what ends a line or is otherwise no text.
func one(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == 0x2028 || c == 0x2029 {
			return ' '
		}
		return c
	}, s)
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "..."
}

func date(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700") }

func (b *builder) field(name, value string) { writeField(&b.out, name, value) }

// writeField writes a field, folded at blanks near column 78 and at the latest before 990 bytes.
func writeField(w *bytes.Buffer, name, value string) {
	line := name + ":"
	for word := range strings.FieldsSeq(value) {
		if len(line)+1+len(word) > 78 && strings.TrimSpace(line) != "" && line != name+":" {
			w.WriteString(line + "\r\n")
			line = ""
		}
		line += " " + clip(word, 900)
	}
	w.WriteString(line + "\r\n")
}

// headerField finds a field of a header, unfolded.
func headerField(head []byte, name string) string {
	m, err := mail.ReadMessage(bytes.NewReader(append(bytes.Clone(head), "\r\n\r\n"...)))
	if err != nil {
		return ""
	}
	return m.Header.Get(name)
}

// messageID is the Message-ID of a header, where it is one that can be repeated.
func messageID(head []byte) string {
	id := strings.TrimSpace(headerField(head, "Message-ID"))
	if len(id) < 3 || len(id) > 250 || id[0] != '<' || strings.IndexByte(id, '>') != len(id)-1 || strings.ContainsAny(id, " \t") || !isASCII(id) || one(id) != id {
		return ""
	}
	return id
}
