package report

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// classRecipient is the class of a recipient whom the server could not verify.
const classRecipient = "recipient"

// exchange reads a report of Exchange: lines of a name and a value in its text, and the message itself as an attachment.
func (w *walk) exchange() *said {
	s := &said{report: record.Report{Format: w.format}, complete: record.Full}
	w.lines(s)
	s.report.Named += w.rest.recipients
	w.enclose(s)
	switch {
	case !w.haveText:
		s.problem("it has no text")
	case w.textOver:
		s.problem(fmt.Sprintf("its text is longer than %d bytes", maxText))
	case s.from == nil:
		s.problem("it names no sender")
	case len(s.rcpt) == 0:
		s.problem("it names no recipient")
	}
	return s
}

// enclose puts down what the report encloses, and what follows from its header.
func (w *walk) enclose(s *said) {
	s.report.Others = w.others
	rights := 0
	for i := range w.enclosed {
		e := &w.enclosed[i]
		s.report.Enclosed = append(s.report.Enclosed, e.Enclosed)
		if e.rights {
			rights++
		}
	}
	switch {
	case len(w.enclosed) == 0:
		s.problem("it encloses no message")
		return
	case w.cut:
		s.problem("it ends before its last boundary")
	case w.more > 0:
		s.problem(fmt.Sprintf("it encloses %d messages, %d are listed", len(w.enclosed)+w.more, len(w.enclosed)))
	case w.enclosed[0].nothing:
		s.problem("it encloses only the header of the message")
	}
	if len(w.enclosed) == 2 && rights == 1 { // rights-managed mail: as it was sent, and a copy that the server decrypted
		for i := range w.enclosed {
			s.report.Enclosed[i].Role = record.RoleClear
			if w.enclosed[i].rights {
				s.report.Enclosed[i].Role = record.RoleEncrypted
			}
		}
	}
	infer(s.report.Recipients, w.enclosed[0].header)
}

// lines reads the text of a report. Names are read in any case and order. What begins with a blank goes on with the line before, and in a
// report of Exchange 2003 is one of its recipients.
func (w *walk) lines(s *said) {
	text := w.text
	if w.html {
		text = []byte(message.HTMLText(message.DecodeText(text, w.charset)))
		w.charset = "utf-8"
	}
	seen := map[string]bool{}
	first := map[string]bool{}        // of what is said once, the first counts
	list := false                     // recipients follow, one a line
	pending, pendingList := "", false // a line, and whether a list of recipients begins with it
	finish := func() {
		line := strings.TrimSpace(pending)
		pending = ""
		if line == "" {
			return
		}
		name, value := cutName(line)
		if list && (name == "" || unknownName(name)) {
			if one := address(line); one != "" {
				s.recipient(record.ReportRecipient{Address: one, Class: classRecipient}, seen)
				return
			}
		}
		list = name == "recipients"
		if list && value == "" {
			return
		}
		if !w.said(s, name, value, seen, first) {
			if len(s.report.Lines) < maxKept {
				s.report.Lines = append(s.report.Lines, short(line))
			}
		}
	}
	for line := range strings.Lines(message.DecodeText(text, w.charset)) {
		line = strings.TrimRight(line, "\n")
		if line != "" && (line[0] == ' ' || line[0] == '\t') && !list && pending != "" && !pendingList {
			if len(pending) < maxValue {
				pending += " " + strings.TrimSpace(line)
			}
			continue
		}
		finish()
		name, _ := cutName(line)
		pending, pendingList = line, name == "recipients"
	}
	finish()
}

// cutName cuts a line at its colon. The name is in lower case, without blanks; empty: there is none.
func cutName(line string) (name, value string) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || len(name) > 40 {
		return "", line
	}
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), " ", "-"), strings.TrimSpace(value)
}

// unknownName says that a name means nothing in a report.
func unknownName(name string) bool {
	switch name {
	case "sender", "on-behalf-of", "subject", "message-id", "label", "mailbox", "sentutc", "receivedutc", "to", "cc", "bcc", classRecipient, "recipients":
		return false
	}
	return true
}

// said takes one line. false: nobody knows what it means.
func (w *walk) said(s *said, name, value string, seen, first map[string]bool) bool {
	r := &s.report
	once := func(to *string) bool {
		if first[name] {
			return false
		}
		first[name] = true
		*to = short(value)
		return true
	}
	switch name {
	case "sender":
		if first[name] {
			return false
		}
		first[name] = true
		if r.Sender = address(value); r.Sender == "" && strings.Trim(value, "<> ") != "" {
			return false
		}
		s.from = &record.Path{Address: r.Sender}
		return true
	case "on-behalf-of":
		return once(&r.OnBehalfOf)
	case "subject":
		return once(&r.Subject)
	case "message-id":
		value = strings.Trim(value, "<> ")
		return once(&r.MessageID)
	case "label":
		return once(&r.Label)
	case "mailbox":
		return once(&r.Mailbox)
	case "sentutc":
		return once(&r.SentUTC)
	case "receivedutc":
		return once(&r.ReceivedUTC)
	case "to", "cc", "bcc", classRecipient, "recipients":
		if name == "recipients" {
			name = classRecipient
		}
		one, ok := recipientOf(name, value)
		if ok {
			s.recipient(one, seen)
		}
		return ok
	}
	return false
}

// recipientOf reads addr[, (Expanded|Forwarded): original].
func recipientOf(class, value string) (record.ReportRecipient, bool) {
	one := record.ReportRecipient{Class: class}
	if len(value) > maxValue {
		return one, false
	}
	for range 4 { // no server writes more
		before, kind, origin := cutOrigin(value)
		if kind == "" {
			break
		}
		if origin = address(origin); kind == "expanded" {
			one.Expanded = origin
		} else {
			one.Forwarded = origin
		}
		value = before
	}
	one.Address = address(value)
	return one, one.Address != ""
}

// cutOrigin cuts the last ", Expanded: address" or ", Forwarded: address" off a value.
func cutOrigin(value string) (before, kind, origin string) {
	lower := strings.ToLower(value)
	if len(lower) != len(value) { // letters outside of ASCII may change their length
		lower = value
	}
	at := -1
	for _, k := range []string{"expanded", "forwarded"} {
		i := strings.LastIndex(lower, k)
		if i <= at || i < 0 {
			continue
		}
		rest := strings.TrimLeft(value[i+len(k):], " \t")
		head := strings.TrimRight(value[:i], " \t")
		if !strings.HasPrefix(rest, ":") || !strings.HasSuffix(head, ",") {
			continue
		}
		at, kind, before, origin = i, k, head[:len(head)-1], rest[1:]
	}
	return before, kind, origin
}

// address reads one address as servers write them: bare, in angle brackets behind a name, with a type before it. Empty: there is none.
func address(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.LastIndexByte(s, '<'); i >= 0 {
		if in, _, ok := strings.Cut(s[i+1:], ">"); ok {
			s = strings.TrimSpace(in)
		}
	}
	if len(s) > 5 && strings.EqualFold(s[:5], "smtp:") {
		s = s[5:]
	}
	s = strings.Trim(s, " \t,;'")
	if len(s) > 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	if s == "" || len(s) > maxAddress || strings.ContainsAny(s, "\x00\r\n") || strings.IndexByte(s, '@') < 0 && !strings.ContainsAny(s, "/=") {
		return ""
	}
	return s
}

// maxAddress is the longest address that is taken for one, bytes. RFC 5321 has 254; names of other systems are longer.
const maxAddress = 1000

// fold gives the form in which addresses are compared here.
func fold(addr string) string { return strings.ToLower(addr) }

// short cuts a value.
func short(s string) string {
	if len(s) > maxValue {
		s = strings.ToValidUTF8(s[:maxValue], "")
	}
	return s
}

// counter counts the lines that name a recipient, and keeps nothing.
type counter struct {
	line       []byte
	recipients int
}

func (c *counter) write(p []byte) {
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n') + 1
		whole := n > 0
		if !whole {
			n = len(p)
		}
		if room := 1024 - len(c.line); room > 0 {
			c.line = append(c.line, p[:min(n, room)]...)
		}
		if whole {
			switch name, value := cutName(strings.TrimSpace(string(c.line))); name {
			case "to", "cc", "bcc", classRecipient:
				if value != "" {
					c.recipients++
				}
			}
			c.line = c.line[:0]
		}
		p = p[n:]
	}
}
