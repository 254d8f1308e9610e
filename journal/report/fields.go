package report

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Of a field that a server adds the topmost counts: it stands above what the sender of the message may have written himself.

// topmost gives the value of the first field of a name, in any case.
func topmost(h message.Header, name string) (string, bool) {
	for _, f := range h.Fields() {
		if strings.EqualFold(f.Name, name) {
			return h.Get(name), true
		}
	}
	return "", false
}

// google reads X-Gm-Original-To: the one recipient that this copy was made for.
func google(h message.Header, env *record.Envelope) *said {
	value, ok := topmost(h, "X-Gm-Original-To")
	if !ok {
		return nil
	}
	s := &said{report: record.Report{Format: Google}, from: env.MailFrom, complete: record.Partial}
	s.list(value, h)
	if len(s.rcpt) == 0 {
		s.from = nil
		s.problem("X-Gm-Original-To names no address")
	}
	return s
}

// hasEnvelope says that the header has the fields of amavisd, or those of others by these names.
func hasEnvelope(h message.Header) bool {
	_, ok := topmost(h, "X-Envelope-To")
	return ok
}

// envelope reads X-Envelope-From and X-Envelope-To.
func envelope(h message.Header, format string) *said {
	s := &said{report: record.Report{Format: format}, complete: record.Full}
	if from, ok := topmost(h, "X-Envelope-From"); ok {
		if addr := address(from); addr != "" || strings.Trim(from, "<> ") == "" {
			s.from, s.report.Sender = &record.Path{Address: addr}, addr
		}
	}
	to, _ := topmost(h, "X-Envelope-To")
	s.list(to, h)
	switch {
	case s.from == nil:
		s.problem("it has no X-Envelope-From")
	case len(s.rcpt) == 0:
		s.problem("X-Envelope-To names no address")
	}
	return s
}

// list adds the recipients of a list of addresses.
func (s *said) list(value string, h message.Header) {
	seen := map[string]bool{}
	for _, a := range message.Addresses(value) {
		if addr := address(a.Address); addr != "" {
			s.recipient(record.ReportRecipient{Address: addr}, seen)
		}
	}
	infer(s.report.Recipients, h)
}

// notesItem gives an item of a Notes document, where it came through SMTP: as a field of its name, or in X-Notes-Item with the name as a
// parameter. An item whose name ends in _n is several, which count from 1.
func notesItem(h message.Header, name string) (values []string) {
	for _, f := range h.Fields() {
		switch {
		case strings.EqualFold(f.Name, name), numbered(f.Name, name):
			values = append(values, message.DecodeText([]byte(strings.TrimSpace(unfold(f.Raw))), ""))
		case strings.EqualFold(f.Name, "X-Notes-Item"):
			value, params, _ := strings.Cut(unfold(f.Raw), ";")
			for p := range strings.SplitSeq(params, ";") {
				key, v, _ := strings.Cut(p, "=")
				v = strings.Trim(v, " \t\"")
				if strings.EqualFold(strings.TrimSpace(key), "name") && (strings.EqualFold(v, name) || numbered(v, name)) {
					values = append(values, message.DecodeText([]byte(strings.TrimSpace(value)), ""))
				}
			}
		}
	}
	return values
}

func unfold(s string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(s) }

// numbered says that a field is name_1, name_2 …
func numbered(field, name string) bool {
	if len(field) <= len(name)+1 || !strings.EqualFold(field[:len(name)], name) || field[len(name)] != '_' {
		return false
	}
	_, err := strconv.ParseUint(field[len(name)+1:], 10, 16)
	return err == nil
}

func hasDomino(h message.Header) bool {
	return len(notesItem(h, "$JournalRecipients")) > 0 || len(notesItem(h, "$JournalRecipientsExpanded")) > 0
}

// domino reads the items that Domino's recipient journaling adds: whom the message was for, whom its groups were expanded to, and who sent
// it. Names of Notes (CN=…/O=…) stay as they are.
func domino(h message.Header) *said {
	s := &said{report: record.Report{Format: Domino}, complete: record.Full}
	if from := notesItem(h, "$JournalSender"); len(from) > 0 {
		if addr := address(from[0]); addr != "" {
			s.from, s.report.Sender = &record.Path{Address: addr}, addr
		}
	}
	seen := map[string]bool{}
	for _, item := range []string{"$JournalRecipients", "$JournalRecipientsExpanded"} {
		for _, value := range notesItem(h, item) {
			for name := range strings.SplitSeq(value, ",") {
				if addr := address(name); addr != "" {
					s.recipient(record.ReportRecipient{Address: addr}, seen)
				}
				if strings.IndexByte(name, '@') < 0 {
					s.complete = record.Partial
				}
			}
		}
	}
	infer(s.report.Recipients, h)
	switch {
	case len(s.rcpt) == 0:
		s.problem("$JournalRecipients names nobody")
	case s.from == nil:
		s.problem("it names no sender")
	}
	return s
}

// encoded reads the recipients out of the addresses that the copy was sent to: journal+user=domain@archive.example, and several joined by
// a plus. nil: none of the addresses is of this kind.
func encoded(env *record.Envelope) *said {
	s := &said{report: record.Report{Format: Encoded}, from: env.MailFrom, complete: record.Full}
	seen := map[string]bool{}
	for _, p := range env.Rcpt {
		list := decodeAddress(p.Address)
		if len(list) == 0 {
			s.complete = record.Partial
		}
		for _, addr := range list {
			s.recipient(record.ReportRecipient{Address: addr}, seen)
		}
	}
	if len(s.rcpt) == 0 {
		return nil
	}
	return s
}

// decodeAddress gives the addresses that a journal's address holds. A plus within one is no end of it: what follows must be user=domain.
func decodeAddress(addr string) (list []string) {
	i := strings.LastIndexByte(addr, '@')
	if i < 0 || !utf8.ValidString(addr) || strings.ContainsFunc(addr, unicode.IsControl) {
		return nil
	}
	_, rest, ok := strings.Cut(addr[:i], "+")
	if !ok {
		return nil
	}
	user := ""
	for token := range strings.SplitSeq(rest, "+") {
		user += token
		eq := strings.LastIndexByte(user, '=')
		if eq <= 0 || !isDomain(user[eq+1:]) {
			user += "+"
			continue
		}
		list = append(list, user[:eq]+"@"+user[eq+1:])
		user = ""
	}
	if user != "" { // something that is no address: then nothing here is sure
		return nil
	}
	return list
}

func isDomain(s string) bool {
	if s == "" || s[0] == '.' || s[0] == '-' || s[len(s)-1] == '.' {
		return false
	}
	for _, c := range s {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '-' || c >= 0x80) {
			return false
		}
	}
	return true
}
