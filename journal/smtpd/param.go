package smtpd

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func syntaxError(text string) *reply {
	return &reply{501, enhanced{5, 5, 4}, text}
}

// parseMail reads what follows "MAIL "; auth says that the parameter of RFC 4954 is known. It is not believed, and so not kept.
func parseMail(arg string, auth bool) (from record.Path, p Params, err *reply) {
	from, rest, err := argPath(arg, "FROM:", enhanced{5, 1, 7})
	if err != nil {
		return from, p, err
	}
	if from.Address != "" && !strings.Contains(from.Address, "@") {
		return from, p, badPath(errPath, enhanced{5, 1, 7})
	}
	err = eachParam(rest, func(key, value string, given bool) *reply {
		var ok bool
		switch key {
		case "AUTH":
			if !auth {
				return unknownParam("MAIL")
			}
			_, ok = decodeXtext(value)
		case "SIZE":
			p.Size, ok = parseSize(value)
		case "BODY":
			p.Body = strings.ToUpper(value)
			ok = p.Body == "7BIT" || p.Body == "8BITMIME"
		case "SMTPUTF8":
			p.SMTPUTF8, ok = true, !given
		case "RET":
			p.Ret = strings.ToUpper(value)
			ok = p.Ret == "FULL" || p.Ret == "HDRS"
		case "ENVID":
			p.EnvID, ok = decodeXtext(value)
			ok = ok && len(p.EnvID) <= 100
		default:
			return unknownParam("MAIL")
		}
		if !ok {
			return syntaxError("Bad value of " + key)
		}
		return nil
	})
	if err == nil && !p.SMTPUTF8 && !isASCII(from.Address) {
		err = errNeedUTF8
	}
	return from, p, err
}

var errNeedUTF8 = &reply{553, enhanced{5, 6, 7}, "Address needs SMTPUTF8"}

// parseRcpt reads what follows "RCPT "; utf8 says that MAIL had SMTPUTF8.
func parseRcpt(arg string, utf8 bool) (record.Path, *reply) {
	to, rest, err := argPath(arg, "TO:", enhanced{5, 1, 3})
	if err != nil {
		return to, err
	}
	if to.Address == "" {
		return to, badPath(errPath, enhanced{5, 1, 3})
	}
	err = eachParam(rest, func(key, value string, _ bool) *reply {
		var ok bool
		switch key {
		case "NOTIFY":
			to.Notify = strings.ToUpper(value)
			ok = isNotify(to.Notify)
		case "ORCPT":
			to.ORCPT = value
			ok = isORCPT(value, utf8)
		default:
			return unknownParam("RCPT")
		}
		if !ok {
			return syntaxError("Bad value of " + key)
		}
		return nil
	})
	if err == nil && !utf8 && !isASCII(to.Address) {
		err = errNeedUTF8
	}
	return to, err
}

// argPath reads "FROM:<path>"; blanks after the colon, which many clients send, are let through.
func argPath(arg, prefix string, enh enhanced) (p record.Path, rest string, bad *reply) {
	if len(arg) < len(prefix) || !strings.EqualFold(arg[:len(prefix)], prefix) {
		return p, "", syntaxError("Expected " + prefix + "<path>")
	}
	p, rest, err := cutPath(strings.TrimLeft(arg[len(prefix):], " "))
	if err != nil {
		return p, "", badPath(err, enh)
	}
	return p, rest, nil
}

func badPath(err error, enh enhanced) *reply {
	if errors.Is(err, errRoute) {
		return &reply{553, enh, "Source routes are not taken"}
	}
	return &reply{501, enh, "Bad address syntax"}
}

func unknownParam(command string) *reply {
	return &reply{555, enhanced{5, 5, 4}, command + " parameter not known"}
}

// eachParam calls f for each parameter, keys in upper case; given tells "key=" from "key".
func eachParam(s string, f func(key, value string, given bool) *reply) *reply {
	seen := make(map[string]bool, 4)
	for param := range strings.SplitSeq(s, " ") {
		if param == "" {
			continue
		}
		key, value, given := strings.Cut(param, "=")
		key = strings.ToUpper(key)
		if seen[key] {
			return syntaxError("Parameter given twice")
		}
		seen[key] = true
		if err := f(key, value, given); err != nil {
			return err
		}
	}
	return nil
}

// parseSize reads up to 20 digits (RFC 1870); what no int64 holds is the largest one.
func parseSize(s string) (int64, bool) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

// isNotify: NEVER, or any of the others once (RFC 3461 section 4.1). s is in upper case.
func isNotify(s string) bool {
	if s == "NEVER" {
		return true
	}
	seen := map[string]bool{}
	for word := range strings.SplitSeq(s, ",") {
		if word != "SUCCESS" && word != "FAILURE" && word != "DELAY" || seen[word] {
			return false
		}
		seen[word] = true
	}
	return true
}

// isORCPT: type;address, the address in xtext (RFC 3461 section 4.2), or in one of the forms of RFC 6533 section 3.
func isORCPT(s string, utf8 bool) bool {
	kind, address, ok := strings.Cut(s, ";")
	if !ok || kind == "" || address == "" || len(s) > 500 {
		return false
	}
	if strings.ContainsFunc(kind, func(r rune) bool { return r >= 0x80 || !isAlnum(byte(r)) && r != '-' && r != '.' }) {
		return false
	}
	if strings.EqualFold(kind, "utf-8") {
		return utf8 || isASCII(address)
	}
	_, ok = decodeXtext(address)
	return ok
}

// decodeXtext decodes xtext (RFC 3461 section 4) that stands for printable ASCII, and is not empty.
func decodeXtext(s string) (string, bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) {
				return "", false
			}
			v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			c = byte(v)
			i += 2
		} else if c == '=' {
			return "", false
		}
		if c < ' ' || c > '~' {
			return "", false
		}
		out = append(out, c)
	}
	return string(out), len(out) > 0
}
