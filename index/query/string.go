package query

import (
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The canonical form has every field, operator and moment written out: AND between operands, times in UTC, sizes in bytes. Its parentheses
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
	switch q.(type) {
	case And, Or, Not, All:
		return "(" + q.String() + ")"
	}
	return q.String()
}

func (q Text) String() string {
	typed := q.Typed
	if typed == "" {
		typed = strings.Join(q.Tokens, " ")
	}
	prefix := ""
	if q.Field != Anywhere {
		prefix = string(q.Field) + ":"
	}
	switch {
	case q.Prefix:
		return prefix + typed + "*"
	case q.Quoted || !Plain(typed) || q.Field == Anywhere && (Operator(typed) || strings.ContainsAny(typed, ":=<>")):
		return prefix + quote(typed)
	}
	return prefix + typed
}

// String writes a whole address and a domain with a dot as they are, another domain with an @ before it, a name with an @ behind it where
// it would be taken for one of these.
func (q Address) String() string {
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

// String writes a range with its last second in it, as ranges are written, and the half-open ones with >= and <.
func (q Time) String() string {
	field := string(q.Field)
	from, before := q.From.UTC(), q.Before.UTC()
	switch {
	case q.Before.IsZero():
		return field + ">=" + from.Format(time.RFC3339Nano)
	case q.From.IsZero():
		return field + "<" + before.Format(time.RFC3339Nano)
	case before.Nanosecond() == 0:
		return field + ":" + from.Format(time.RFC3339Nano) + ".." + before.Add(-time.Second).Format(time.RFC3339)
	default:
		return field + ":" + from.Format(time.RFC3339Nano) + ".." + before.Add(-1).Format("2006-01-02T15:04:05.000000000Z07:00")
	}
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
	if Plain(q.Value) {
		return "msgid:" + q.Value
	}
	return "msgid:" + quote(q.Value)
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

// Operator says whether a word is one of the language's operators, those that can't be answered yet included.
func Operator(s string) bool {
	switch s {
	case "AND", "OR", "NOT", "NEAR", "ONEAR", "AROUND":
		return true
	}
	return strings.HasPrefix(s, "W/") || strings.HasPrefix(s, "PRE/")
}
