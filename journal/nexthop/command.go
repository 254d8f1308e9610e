package nexthop

import (
	"strconv"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Mail is the sender's side of a transaction, as MAIL gave it.
type Mail struct {
	From     record.Path
	Size     int64  // SIZE, bytes; 0: not declared
	Body     string // BODY: "", "7BIT", "8BITMIME"
	SMTPUTF8 bool
	Ret      string // RET: "", "FULL", "HDRS"
	EnvID    string // ENVID, decoded

	// BareNewlines: the body may hold CR or LF that are not part of CRLF, or not end in CRLF. It goes byte for byte by BDAT where CHUNKING
	// (RFC 3030) is offered; where it is not, such a body is ErrBareNewline.
	BareNewlines bool
}

// mailLine is the MAIL command with the parameters that the server knows. Errors: ErrPath, ErrNoSMTPUTF8, ErrTooBig.
func mailLine(m Mail, c caps) ([]byte, error) {
	if m.SMTPUTF8 && !c.smtpUTF8 {
		return nil, ErrNoSMTPUTF8
	}
	if c.size > 0 && m.Size > c.size {
		return nil, ErrTooBig
	}
	b, err := appendPath([]byte("MAIL FROM:"), m.From, m.SMTPUTF8)
	if err != nil {
		return nil, err
	}
	if c.hasSize && m.Size > 0 {
		b = strconv.AppendInt(append(b, " SIZE="...), m.Size, 10)
	}
	if c.eightBit && (m.Body == "7BIT" || m.Body == "8BITMIME") {
		b = append(append(b, " BODY="...), m.Body...)
	}
	if m.SMTPUTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if c.dsn && (m.Ret == "FULL" || m.Ret == "HDRS") {
		b = append(append(b, " RET="...), m.Ret...)
	}
	if c.dsn && m.EnvID != "" {
		b = appendXtext(append(b, " ENVID="...), m.EnvID)
	}
	return append(b, "\r\n"...), nil
}

// rcptLine is the RCPT command. Errors: ErrPath, ErrNoSMTPUTF8.
func rcptLine(to record.Path, m Mail, c caps) ([]byte, error) {
	if to.Address == "" {
		return nil, ErrPath
	}
	b, err := appendPath([]byte("RCPT TO:"), to, m.SMTPUTF8)
	if err != nil {
		return nil, err
	}
	if c.dsn && isNotify(to.Notify) {
		b = append(append(b, " NOTIFY="...), to.Notify...)
	}
	if kind, address, ok := strings.Cut(to.ORCPT, ";"); c.dsn && ok && isAtom(kind) && address != "" {
		b = append(append(append(b, " ORCPT="...), kind...), ';')
		if isXtext(address, m.SMTPUTF8) { // as it was given
			b = append(b, address...)
		} else {
			b = appendXtext(b, address)
		}
	}
	return append(b, "\r\n"...), nil
}

// isNotify says whether s is a value of NOTIFY (RFC 3461 section 4.1).
func isNotify(s string) bool {
	if s == "NEVER" {
		return true
	}
	for word := range strings.SplitSeq(s, ",") {
		if word != "SUCCESS" && word != "FAILURE" && word != "DELAY" {
			return false
		}
	}
	return true
}

func isAtom(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' {
			return false
		}
	}
	return s != ""
}
