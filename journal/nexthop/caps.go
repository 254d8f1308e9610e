package nexthop

import (
	"strconv"
	"strings"
)

// caps is what a server offered in its reply to EHLO.
type caps struct {
	pipelining bool // RFC 2920
	eightBit   bool // 8BITMIME, RFC 6152
	smtpUTF8   bool // RFC 6531
	dsn        bool // RFC 3461
	startTLS   bool // RFC 3207
	chunking   bool // RFC 3030
	enhanced   bool // ENHANCEDSTATUSCODES, RFC 2034
	authPlain  bool // AUTH, RFC 4954
	authLogin  bool
	hasSize    bool  // SIZE, RFC 1870
	size       int64 // the limit in bytes; 0: none told
}

// parseCaps reads the lines of a reply to EHLO; the first is the server's greeting. What it does not know it passes over.
func parseCaps(lines []string) caps {
	var c caps
	for _, line := range lines[min(1, len(lines)):] {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(word) {
		case "PIPELINING":
			c.pipelining = true
		case "8BITMIME":
			c.eightBit = true
		case "SMTPUTF8":
			c.smtpUTF8 = true
		case "DSN":
			c.dsn = true
		case "STARTTLS":
			c.startTLS = true
		case "CHUNKING":
			c.chunking = true
		case "ENHANCEDSTATUSCODES":
			c.enhanced = true
		case "AUTH":
			for mechanism := range strings.FieldsSeq(strings.ToUpper(rest)) {
				c.authPlain = c.authPlain || mechanism == "PLAIN"
				c.authLogin = c.authLogin || mechanism == "LOGIN"
			}
		case "SIZE":
			c.hasSize = true
			if n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err == nil && n > 0 {
				c.size = n
			}
		}
	}
	return c
}
