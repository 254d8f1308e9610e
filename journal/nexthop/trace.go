package nexthop

import (
	"net/netip"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Trace is what goes into the Received line (RFC 5321 section 4.4) of the copy that is sent on.
type Trace struct {
	Client   record.Client
	TLS      bool // the client's connection was encrypted
	Auth     bool // the client authenticated
	SMTPUTF8 bool
	By       string // our host name
	ID       record.ID
	For      *record.Path // the recipient, where there is exactly one; nil otherwise, so that no other recipient is given away
	Time     time.Time
}

// maxFor keeps the line of a long recipient below 998 bytes (RFC 5322 section 2.1.1).
const maxFor = 512

// appendReceived appends the line, folded, with its last CRLF.
func (t Trace) appendReceived(b []byte) []byte {
	b = append(b, "Received: from "...)
	if isHelo(t.Client.Helo) {
		b = append(b, t.Client.Helo...)
	} else {
		b = append(b, "unknown"...)
	}
	if ip, err := netip.ParseAddr(t.Client.Address); err == nil {
		b = append(b, " (["...)
		if ip = ip.Unmap().WithZone(""); ip.Is6() {
			b = append(b, "IPv6:"...)
		}
		b = append(ip.AppendTo(b), "])"...)
	}
	b = append(append(b, "\r\n\tby "...), t.By...)
	b = append(append(b, " (Holdfast) with "...), t.protocol()...)
	b = append(append(b, " id "...), t.ID.String()...)
	if t.For != nil {
		if path, err := appendPath(nil, *t.For, t.SMTPUTF8); err == nil && len(path) <= maxFor {
			b = append(append(b, "\r\n\tfor "...), path...)
		}
	}
	b = append(b, ";\r\n\t"...)
	b = t.Time.UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 -0700")
	return append(b, "\r\n"...)
}

// protocol is the keyword of RFC 3848 and RFC 6531 section 4.3.
func (t Trace) protocol() string {
	var b strings.Builder
	switch {
	case t.SMTPUTF8:
		b.WriteString("UTF8SMTP")
	case t.Client.ESMTP || t.TLS || t.Auth:
		b.WriteString("ESMTP")
	default:
		return "SMTP"
	}
	if t.TLS {
		b.WriteByte('S')
	}
	if t.Auth {
		b.WriteByte('A')
	}
	return b.String()
}

// isHelo says whether a client's name for itself can stand in a header line: a domain or an address literal, nothing that opens a
// comment or ends the line.
func isHelo(s string) bool {
	return len(s) <= 255 && isASCII(s) && isDomain(s)
}
