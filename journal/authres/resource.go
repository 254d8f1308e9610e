package authres

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// The types that are asked for.
const (
	typeA     = dnsmessage.TypeA
	typeAAAA  = dnsmessage.TypeAAAA
	typeCNAME = dnsmessage.TypeCNAME
	typeMX    = dnsmessage.TypeMX
	typePTR   = dnsmessage.TypePTR
	typeTXT   = dnsmessage.TypeTXT
)

var typeNames = map[dnsmessage.Type]string{typeA: "A", typeAAAA: "AAAA", typeCNAME: "CNAME", typeMX: "MX", typePTR: "PTR", typeTXT: "TXT"}

func typeName(t dnsmessage.Type) string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return "TYPE" + strconv.Itoa(int(t)) // RFC 3597, section 5
}

// typeNamed is typeName backwards; 0: none.
func typeNamed(name string) dnsmessage.Type {
	for t, n := range typeNames {
		if n == name {
			return t
		}
	}
	if number, ok := strings.CutPrefix(name, "TYPE"); ok {
		n, _ := strconv.ParseUint(number, 10, 16)
		return dnsmessage.Type(n)
	}
	return 0
}

// resource is one record of an answer. Its line is its presentation format (RFC 1035, section 5; RFC 3597 for what is not known here), from
// which it can be read again without loss.
type resource struct {
	name string // with its last dot, as sent
	ttl  uint32
	typ  dnsmessage.Type
	ip   netip.Addr // A, AAAA
	pref uint16     // MX
	host string     // CNAME, MX, PTR
	text []string   // TXT
	raw  []byte     // all others
}

func (r *resource) line() string {
	b := make([]byte, 0, 128)
	b = appendName(b, r.name)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(r.ttl), 10)
	b = append(append(b, " IN "...), typeName(r.typ)...)
	switch r.typ {
	case typeA, typeAAAA:
		b = r.ip.AppendTo(append(b, ' '))
	case typeMX:
		b = strconv.AppendUint(append(b, ' '), uint64(r.pref), 10)
		b = appendName(append(b, ' '), r.host)
	case typeCNAME, typePTR:
		b = appendName(append(b, ' '), r.host)
	case typeTXT:
		for _, s := range r.text {
			b = append(b, ` "`...)
			b = appendEscaped(b, s, ' ', `"\`)
			b = append(b, '"')
		}
	default:
		b = fmt.Appendf(b, ` \# %d %x`, len(r.raw), r.raw)
	}
	return string(b)
}

func appendName(b []byte, name string) []byte { return appendEscaped(b, name, '!', `"\;()@$`) }

// appendEscaped writes what is below first, above ~ or special as \DDD.
func appendEscaped(b []byte, s string, first byte, special string) []byte {
	for i := range len(s) {
		if c := s[i]; c < first || c > '~' || strings.IndexByte(special, c) >= 0 {
			b = append(b, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		} else {
			b = append(b, c)
		}
	}
	return b
}

// errLine is returned for a line that is not the presentation of a record.
var errLine = errors.New("not a resource record in presentation format")

// parseLine reads what line writes.
func parseLine(line string) (r resource, err error) {
	words, err := splitLine(line)
	if err != nil || len(words) < 4 || words[0] == "" || words[2] != "IN" {
		return r, errLine
	}
	ttl, err := strconv.ParseUint(words[1], 10, 32)
	if err != nil {
		return r, errLine
	}
	r = resource{name: words[0], ttl: uint32(ttl), typ: typeNamed(words[3])}
	data := words[4:]
	switch {
	case r.typ == typeTXT:
		r.text = data
		return r, nil
	case (r.typ == typeA || r.typ == typeAAAA) && len(data) == 1:
		r.ip, err = netip.ParseAddr(data[0])
		if err != nil || r.ip.Is4() != (r.typ == typeA) || r.ip.Zone() != "" {
			return r, errLine
		}
		return r, nil
	case (r.typ == typeCNAME || r.typ == typePTR) && len(data) == 1 && data[0] != "":
		r.host = data[0]
		return r, nil
	case r.typ == typeMX && len(data) == 2 && data[1] != "":
		pref, err := strconv.ParseUint(data[0], 10, 16)
		if err != nil {
			return r, errLine
		}
		r.pref, r.host = uint16(pref), data[1]
		return r, nil
	case r.typ != 0 && len(data) >= 2 && len(data) <= 3 && data[0] == "#":
		if len(data) == 3 {
			r.raw, err = hex.DecodeString(data[2])
		}
		if err != nil || strconv.Itoa(len(r.raw)) != data[1] {
			return r, errLine
		}
		return r, nil
	}
	return r, errLine
}

// splitLine takes a line apart at its blanks, and its quotes and escapes away.
func splitLine(line string) (words []string, err error) {
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return words, nil
		}
		quoted := line[0] == '"'
		if quoted {
			line = line[1:]
		}
		var word []byte
		i, closed := 0, false
	word:
		for ; i < len(line); i++ {
			switch c := line[i]; {
			case c == '\\' && len(line) > i+3 && isDigit(line[i+1]) && isDigit(line[i+2]) && isDigit(line[i+3]):
				n := int(line[i+1]-'0')*100 + int(line[i+2]-'0')*10 + int(line[i+3]-'0')
				if n > 255 {
					return nil, errLine
				}
				word = append(word, byte(n))
				i += 3
			case c == '\\' && len(line) > i+1 && !isDigit(line[i+1]):
				i++
				word = append(word, line[i])
			case c == '\\':
				return nil, errLine
			case c == '"' && quoted:
				closed = true
				i++
				break word
			case (c == ' ' || c == '\t') && !quoted:
				break word
			default:
				word = append(word, c)
			}
		}
		if quoted && !closed {
			return nil, errLine
		}
		words, line = append(words, string(word)), line[i:]
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
