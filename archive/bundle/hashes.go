package bundle

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// mih is the EDRM Message Identification Hash 1.0: MD5, in lower-case hexadecimal digits, of the value of Message-ID, up to and including
// the first >. Empty where there is none.
func mih(h message.Header) string {
	value := h.Raw("Message-ID")
	if i := strings.IndexByte(value, '>'); i >= 0 {
		value = value[:i+1]
	}
	if value == "" {
		return ""
	}
	sum := md5.Sum([]byte(value))
	return hex.EncodeToString(sum[:])
}

// dedupe is the hash that copies of one message have in common, whichever way they came; BUNDLE.md says what is hashed.
func dedupe(m *message.Message, attachments []record.Digest) record.Digest {
	h := sha256.New()
	line := func(s string) { h.Write([]byte(s)); h.Write([]byte{'\n'}) }
	line("holdfast-dedupe-1")
	line(m.Header.MessageID())
	date := ""
	if t := m.Header.Date(); !t.IsZero() {
		date = t.UTC().Format(time.RFC3339)
	}
	line(date)
	for _, name := range []string{"From", "To", "Cc", "Bcc"} {
		var list []string
		for _, a := range m.Header.AddressList(name) {
			if a.Address != "" {
				list = append(list, strings.ToLower(a.Address))
			}
		}
		slices.Sort(list)
		line(strings.Join(slices.Compact(list), ","))
	}
	line(strings.Join(strings.Fields(m.Header.Subject()), " "))
	text := sha256.New()
	start := -1
	for i, r := range m.Text { // without blanks of any kind
		blank := unicode.IsSpace(r)
		if blank && start >= 0 {
			text.Write([]byte(m.Text[start:i]))
			start = -1
		} else if !blank && start < 0 {
			start = i
		}
	}
	if start >= 0 {
		text.Write([]byte(m.Text[start:]))
	}
	line(hex.EncodeToString(text.Sum(nil)))
	sums := make([]string, len(attachments))
	for i, d := range attachments {
		sums[i] = d.String()
	}
	slices.Sort(sums)
	for _, s := range sums {
		line(s)
	}
	return record.Digest(h.Sum(nil))
}
