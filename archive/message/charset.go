package message

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"golang.org/x/text/encoding/charmap"
)

// toUTF8 gives text in UTF-8. The label is what the sender says; the text itself is believed where the two don't agree: mislabelled UTF-8
// is read as UTF-8, and bytes that nothing explains as windows-1252, so that no word is lost.
func toUTF8(s, label string) string {
	text, _ := decodeCharset(s, label)
	return text
}

// decodeCharset is toUTF8; problem says in words what was wrong with the label.
func decodeCharset(s, label string) (text, problem string) {
	label = strings.ToLower(strings.TrimSpace(label))
	ascii := isASCII(s)
	if ascii {
		switch {
		case strings.Contains(s, "\x1b$"), strings.Contains(s, "\x1b("):
			if !strings.HasPrefix(label, "iso-2022") {
				label = "iso-2022-jp" // the one that is sent without being declared
			}
		case !shifted(label):
			return s, ""
		}
	}
	switch label {
	case "", "us-ascii", "ascii", "ansi_x3.4-1968", "7bit", "8bit", "unknown-8bit", "x-unknown", "unknown", "default", "default_charset":
		if utf8.ValidString(s) {
			return s, ""
		}
		return sniff(s), "8-bit text without a charset"
	case "utf-8", "utf8", "unicode-1-1-utf-8", "utf-8-mac", "cp65001":
		if utf8.ValidString(s) {
			return strings.TrimPrefix(s, "\ufeff"), ""
		}
		return sniff(s), "not the UTF-8 that it says it is"
	case "utf-7", "unicode-1-1-utf-7", "x-unicode-2-0-utf-7":
		return decodeUTF7(s), ""
	}
	if !ascii && !wide(label) && utf8.ValidString(s) {
		return strings.TrimPrefix(s, "\ufeff"), "UTF-8 that says it is " + printable(label)
	}
	if better := standIns[label]; better != "" {
		label = better
	}
	r, err := charset.Reader(label, strings.NewReader(s))
	if err != nil {
		return sniff(s), "unknown charset " + printable(label)
	}
	b, err := io.ReadAll(r)
	if err != nil || len(b) <= len("\ufffd") && len(s) > 8 { // golang.org/x/text refuses some by giving one U+FFFD for all
		return sniff(s), "charset " + printable(label) + " can't be decoded"
	}
	text = strings.TrimPrefix(string(b), "\ufeff")
	if !ascii && strings.Contains(text, "\ufffd") {
		if utf8.ValidString(s) {
			return s, "UTF-8 that says it is " + printable(label)
		}
		problem = "not the " + printable(label) + " that it says it is"
	}
	return text, problem
}

// standIns are the charsets that mail means by the names of smaller ones (as the WHATWG Encoding Standard has it), and names that are not
// registered.
var standIns = map[string]string{
	"iso-8859-1": "windows-1252", "iso8859-1": "windows-1252", "latin1": "windows-1252", "iso_8859-1": "windows-1252", "l1": "windows-1252",
	"iso-8859-1-windows-3.1-latin-1": "windows-1252", "ansi": "windows-1252", "cp1252": "windows-1252",
	"iso-8859-9": "windows-1254", "iso-8859-11": "windows-874", "tis-620": "windows-874",
	"iso-8859-8-i": "iso-8859-8", "iso-8859-6-i": "iso-8859-6",
	"gb2312": "gb18030", "gbk": "gb18030", "gb_2312-80": "gb18030", "x-gbk": "gb18030", "gb2312_charset": "gb18030",
	"cp936": "gb18030", "hz": "hz-gb-2312",
	"ks_c_5601-1987": "euc-kr", "ks_c_5601": "euc-kr", "ksc5601": "euc-kr", "korean": "euc-kr", "cp949": "euc-kr", "uhc": "euc-kr",
	"windows-949": "euc-kr", "x-windows-949": "euc-kr",
	"cp932": "shift_jis", "ms932": "shift_jis", "windows-31j": "shift_jis", "x-sjis": "shift_jis", "sjis": "shift_jis", "shift-jis": "shift_jis",
	"iso-2022-jp-1": "iso-2022-jp", "iso-2022-jp-2": "iso-2022-jp", "iso-2022-jp-ms": "iso-2022-jp", "cp50220": "iso-2022-jp",
	"big5-hkscs": "big5", "chinesebig5": "big5", "cp950": "big5", "big-5": "big5", "x-x-big5": "big5",
	"cp1251": "windows-1251", "win-1251": "windows-1251", "koi8": "koi8-r", "koi8r": "koi8-r",
	"cp866": "ibm866", "cp850": "ibm850", "cp437": "ibm437",
	"cp1250": "windows-1250", "cp1253": "windows-1253", "cp1254": "windows-1254", "cp1255": "windows-1255", "cp1256": "windows-1256",
	"unicode": "utf-16", "utf16": "utf-16", "ucs-2": "utf-16", "iso-10646-ucs-2": "utf-16",
}

// shifted says that in this charset ASCII bytes may stand for something else.
func shifted(label string) bool {
	return strings.HasPrefix(label, "iso-2022-") || strings.HasPrefix(label, "hz") || strings.HasPrefix(label, "utf-7") ||
		strings.HasPrefix(label, "utf-16") || strings.HasPrefix(label, "utf-32") || strings.Contains(label, "utf-7") ||
		standIns[label] == "utf-16" || strings.Contains(label, "ebcdic")
}

// wide says that in this charset a character may have several bytes, so that short texts may look like UTF-8 by chance.
func wide(label string) bool {
	switch standIns[label] {
	case "gb18030", "euc-kr", "shift_jis", "big5":
		return true
	}
	return shifted(label) || strings.HasPrefix(label, "gb") || strings.HasPrefix(label, "euc-") || strings.HasPrefix(label, "big5") ||
		strings.Contains(label, "jis")
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// sniff reads what is UTF-8 as UTF-8, and every other byte as windows-1252.
func sniff(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/4)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			r = charmap.Windows1252.DecodeByte(s[0])
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// decodeUTF7 decodes RFC 2152, as far as it goes.
func decodeUTF7(s string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "+")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		n := 0
		for n < len(rest) && base64Value[rest[n]] >= 0 {
			n++
		}
		if n == 0 {
			b.WriteByte('+')
		}
		var bits uint32
		var have uint
		var high rune
		for _, c := range []byte(rest[:n]) {
			bits = bits<<6 | uint32(base64Value[c])
			if have += 6; have < 16 {
				continue
			}
			have -= 16
			switch u := rune(bits >> have & 0xffff); {
			case u >= 0xd800 && u < 0xdc00:
				high = u
			case u >= 0xdc00 && u < 0xe000:
				if high != 0 {
					b.WriteRune((high-0xd800)<<10 | (u - 0xdc00) + 0x10000)
				}
				high = 0
			default:
				b.WriteRune(u)
			}
		}
		s = strings.TrimPrefix(rest[n:], "-")
	}
}

// printable makes a label fit for a list of problems.
func printable(s string) string {
	if len(s) > 40 {
		s = s[:40]
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return -1
		}
		return r
	}, s)
}
