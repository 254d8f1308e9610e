package query

import (
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The canonical form has every field, operator and moment written out: AND between operands, times with their zone, sizes in bytes. Its parentheses
// are those that the tree needs, so that no reader has to know which operator binds tighter.

// String is empty: the empty query is how All is written.
func (All) String() string { return "" }

func (q And) String() string { return join(q, " AND ") }

func (q Or) String() string { return join(q, " OR ") }

func (q Not) String() string { return "NOT " + operand(q.Query) }

func join(list []Query, op string) string {
	var b strings.Builder
	for i, q := range list {
		if i > 0 {
			b.WriteString(op)
		}
		if _, ok := q.(Not); ok {
			b.WriteString(q.String())
		} else {
			b.WriteString(operand(q))
		}
	}
	return b.String()
}

// operand writes what stands beside an operator.
func operand(q Query) string {
	switch q := q.(type) {
	case And, Or, Not, All:
		return "(" + q.String() + ")"
	case Near:
		if q.Field == Anywhere {
			return "(" + q.String() + ")"
		}
	}
	return q.String()
}

func (q Text) String() string {
	if q.Field != Anywhere {
		return string(q.Field) + ":" + q.value(!q.Quoted && Plain(q.typed()))
	}
	return q.value(!q.Quoted && Plain(q.typed()) && !Operator(q.typed()) && !strings.ContainsAny(q.typed(), ":=<>"))
}

// bare is the text without its field, as it stands in parentheses behind one.
func (q Text) bare() string {
	return q.value(!q.Quoted && Plain(q.typed()) && !Operator(q.typed()) && !fieldLike.MatchString(q.typed()))
}

var fieldLike = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*[:=<>]`)

func (q Text) typed() string {
	if q.Typed == "" {
		return strings.Join(q.Tokens, " ")
	}
	return q.Typed
}

func (q Text) value(plain bool) string {
	typed := q.typed()
	switch q.Form {
	case Prefix:
		return typed + "*"
	case Pattern:
		return typed
	case Stem:
		return typed + "~" + q.Language
	case Fuzzy:
		return typed + "~1"
	case Exact:
		return "+" + typed
	}
	if !plain {
		return quote(typed)
	}
	return typed
}

// Operator is how it is written: W/n, PRE/n or NOT W/n. NEAR, ONEAR and AROUND are other ways to say these.
func (q Near) Operator() string {
	n := strconv.Itoa(q.N)
	switch {
	case q.Without:
		return "NOT W/" + n
	case q.Ordered:
		return "PRE/" + n
	}
	return "W/" + n
}

func (q Near) String() string {
	if q.Field != Anywhere {
		return string(q.Field) + ":(" + near(q) + ")"
	}
	return near(q)
}

// near writes proximity without its field.
func near(q Query) string {
	switch q := q.(type) {
	case Near:
		return nearOperand(q.A) + " " + q.Operator() + " " + nearOperand(q.B)
	case Or:
		list := make([]string, len(q))
		for i, o := range q {
			list[i] = nearOperand(o)
		}
		return strings.Join(list, " OR ")
	case Text:
		if q.Field == Anywhere {
			return q.String()
		}
		return q.bare()
	}
	return q.String()
}

func nearOperand(q Query) string {
	if _, ok := q.(Text); ok {
		return near(q)
	}
	return "(" + near(q) + ")"
}

// String writes a whole address and a domain with a dot as they are, another domain with an @ before it, a name with an @ behind it where
// it would be taken for one of these.
func (q Address) String() string {
	if q.Part == Null {
		return string(q.Field) + ":<>"
	}
	value, star, at := q.Value, "", ""
	switch {
	case q.Part == Domain && !strings.Contains(value, "."):
		value = "@" + value
	case q.Part == Name && strings.ContainsAny(value, ".@"):
		at = "@"
	}
	if q.Prefix {
		star = "*"
	}
	if Plain(value) || q.Prefix {
		return string(q.Field) + ":" + value + star + at
	}
	return string(q.Field) + ":" + quote(value+at)
}

func (q Time) String() string { return timeRange(string(q.Field), q.From, q.Before) }

// timeRange writes a range with its last second in it, as ranges are written, and the half-open ones with >= and <, all with their zone.
func timeRange(field string, from, before time.Time) string {
	switch {
	case before.IsZero():
		return field + ">=" + from.Format(time.RFC3339Nano)
	case from.IsZero():
		return field + "<" + before.Format(time.RFC3339Nano)
	case before.Nanosecond() == 0:
		return field + ":" + from.Format(time.RFC3339Nano) + ".." + before.Add(-time.Second).Format(time.RFC3339)
	default:
		return field + ":" + from.Format(time.RFC3339Nano) + ".." + before.Add(-1).Format("2006-01-02T15:04:05.000000000Z07:00")
	}
}

func (q Set) String() string {
	switch {
	case q.Field == Expires:
		return timeRange(string(q.Field), q.From, q.Before)
	case Plain(q.Name):
		return string(q.Field) + ":" + q.Name
	}
	return string(q.Field) + ":" + quote(q.Name)
}

func (q Size) String() string {
	low, high := strconv.FormatInt(q.Min, 10), strconv.FormatInt(q.Max, 10)
	switch {
	case q.Max < 0:
		return "size>=" + low
	case q.Min == q.Max:
		return "size=" + low
	case q.Min == 0:
		return "size<=" + high
	default:
		return "size:" + low + ".." + high
	}
}

func (q Attached) String() string { return "hasattachment:" + strconv.FormatBool(q.Has) }

func (q MessageID) String() string {
	switch {
	case q.Prefix:
		return "msgid:" + q.Value + "*"
	case Plain(q.Value):
		return "msgid:" + q.Value
	}
	return "msgid:" + quote(q.Value)
}

func (q Fact) String() string {
	op := q.Op
	if op == "=" {
		op = ":"
	}
	if Plain(q.Value) {
		return string(q.Field) + op + q.Value
	}
	return string(q.Field) + op + quote(q.Value)
}

func (q ID) String() string { return "id:" + q.ID.String() }

func (q SHA256) String() string { return "sha256:" + q.Digest.String() }

// quote has no way to write a quote: search/syntax never puts one into a tree, and to words it makes no difference.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, " ") + `"` }

// Plain says whether a value can be written without quotes: it has none of the characters that mean something in the language.
func Plain(s string) bool {
	if s == "" || strings.ContainsAny(s[:1], "-+!'<=>") {
		return false
	}
	for i, r := range s {
		if Special(r) || i == 0 && (unicode.Is(unicode.Pd, r) || r == '−' || r == '‘') {
			return false
		}
	}
	return true
}

// Special says whether a character means something in the language wherever it stands outside quotes, or is refused there.
func Special(r rune) bool {
	return unicode.IsSpace(r) || strings.ContainsRune(`"“”„(){}*?~|`, r) || strings.ContainsRune("：＝＜＞（）｛｝", r)
}

// Operator says whether a word is one of the language's operators, or looks like one.
func Operator(s string) bool {
	switch s {
	case "AND", "OR", "NOT", "NEAR", "ONEAR", "AROUND":
		return true
	}
	return strings.HasPrefix(s, "W/") || strings.HasPrefix(s, "PRE/")
}
