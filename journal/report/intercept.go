package report

import (
	"strings"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// interceptOf reads the subject, or a line of the text, of the wrapper that Zimbra's legal intercept makes by its standard template:
// "Intercept message for account …". rest is what follows the account.
func interceptOf(text string) (account, rest string) {
	text = strings.TrimSpace(text)
	for _, begin := range []string{"intercept message for ", "intercepted message for "} {
		if len(text) > len(begin) && strings.EqualFold(text[:len(begin)], begin) {
			word, rest, _ := strings.Cut(strings.TrimSpace(text[len(begin):]), " ")
			if i := strings.IndexByte(word, '>'); i >= 0 { // <account>.Operation=…
				word, rest = word[:i+1], word[i+1:]+" "+rest
			}
			if account = strings.Trim(address(strings.TrimRight(word, ".,:")), "<>"); strings.IndexByte(account, '@') > 0 {
				return account, rest
			}
		}
	}
	return "", ""
}

// intercept reads such a wrapper. It names one account and what that did; of the others the header of the message has to tell.
func (w *walk) intercept() *said {
	s := &said{report: record.Report{Format: formatIntercept}, complete: record.Partial}
	account, _ := interceptOf(w.header.Subject())
	text := message.DecodeText(w.text, w.charset)
	for line := range strings.Lines(text) {
		if inText, _ := interceptOf(line); inText != "" {
			account = inText
		}
		lower := strings.ToLower(line)
		if i := strings.Index(lower, "operation="); i >= 0 && s.report.Operation == "" && len(lower) == len(line) {
			value, _, _ := strings.Cut(line[i+len("operation="):], ",")
			s.report.Operation = short(strings.TrimSpace(value))
		}
	}
	s.report.Mailbox = account
	switch op := strings.ToLower(s.report.Operation); {
	case strings.HasPrefix(op, "send"), strings.HasPrefix(op, "save"):
		s.from, s.report.Sender = &record.Path{Address: account}, account
	default:
		s.recipient(record.ReportRecipient{Address: account}, map[string]bool{})
	}
	w.enclose(s)
	return s
}
