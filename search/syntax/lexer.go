package syntax

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/index/query"
)

// span is a part of the text, in bytes.
type span struct{ start, end int }

type tokenKind int

const (
	tokenEnd     tokenKind = iota
	tokenOpen              // (
	tokenClose             // )
	tokenBrace             // {
	tokenUnbrace           // }
	tokenAnd
	tokenOr
	tokenNot    // NOT, or the - before a term
	tokenNear   // proximity: near says which
	tokenField  // text is the name as typed, op what follows it
	tokenWord   // text as typed
	tokenPhrase // text without its quotes
)

type token struct {
	kind tokenKind
	span
	text string
	op   string
	near query.Near // without its operands
}

type lexer struct {
	text string
	pos  int
}

func (l *lexer) fail(at span, msg, hint string) *Error {
	pos := utf8.RuneCountInString(l.text[:at.start])
	return &Error{Pos: pos, Len: utf8.RuneCountInString(l.text[at.start:at.end]), Byte: at.start, Msg: msg, Hint: hint}
}

// next reads a token. Within field:( … ) in is the field, and a word may have the characters that elsewhere belong to fields.
func (l *lexer) next(in *property) (token, error) {
	for l.pos < len(l.text) {
		r, n := utf8.DecodeRuneInString(l.text[l.pos:])
		if !unicode.IsSpace(r) {
			break
		}
		l.pos += n
	}
	if l.pos == len(l.text) {
		return token{kind: tokenEnd, span: span{l.pos, l.pos}}, nil
	}
	switch t := l.single(); {
	case l.text[l.pos] == '(':
		t.kind = tokenOpen
		l.pos++
		return t, nil
	case l.text[l.pos] == ')':
		t.kind = tokenClose
		l.pos++
		return t, l.apart("parenthesis")
	case l.text[l.pos] == '{':
		t.kind = tokenBrace
		l.pos++
		return t, nil
	case l.text[l.pos] == '}':
		t.kind = tokenUnbrace
		l.pos++
		return t, l.apart("brace")
	case l.text[l.pos] == '-':
		if r, _ := utf8.DecodeRuneInString(l.text[l.pos+1:]); l.pos+1 == len(l.text) || unicode.IsSpace(r) || r == ')' || r == '}' {
			return t, l.fail(t.span, "- stands alone", "write it right before a term, or NOT")
		}
		t.kind = tokenNot
		l.pos++
		return t, nil
	case l.quoteAt(l.pos) > 0:
		return l.phrase()
	}
	w := l.word()
	if t, ok, err := l.nearOperator(w); ok || err != nil {
		return t, err
	}
	if t, ok, err := l.operator(w); ok || err != nil {
		return t, err
	}
	if t, ok, err := l.field(w, in); ok || err != nil {
		return t, err
	}
	return w, l.wordEnd(w)
}

// nextValue reads what stands right behind a field and its operator: anything up to a space, a phrase, or an opening parenthesis.
func (l *lexer) nextValue(prop *property) (token, error) {
	switch r, _ := utf8.DecodeRuneInString(l.text[l.pos:]); {
	case r == '{':
		return token{}, l.fail(span{l.pos, l.pos + 1}, "braces behind a field", "write "+prop.name+":(a OR b)")
	case l.pos == len(l.text), unicode.IsSpace(r), r == ')', r == '}':
		return token{}, l.fail(prop.span, "no value for "+prop.name, "it follows without a space: "+prop.name+prop.op+"value")
	case r == '(':
		t := l.single()
		t.kind = tokenOpen
		l.pos++
		return t, nil
	case l.quoteAt(l.pos) > 0:
		return l.phrase()
	}
	w := l.word()
	return w, l.wordEnd(w)
}

func (l *lexer) single() token {
	return token{span: span{l.pos, l.pos + 1}, text: l.text[l.pos : l.pos+1]}
}

// quoteAt gives the length of the quotation mark at i, or 0. Word processors write “ and ” (or „ and “) where " was typed.
func (l *lexer) quoteAt(i int) int {
	for _, q := range []string{`"`, "“", "”", "„"} {
		if strings.HasPrefix(l.text[i:], q) {
			return len(q)
		}
	}
	return 0
}

// phrase reads from one quotation mark to the next of its kind.
func (l *lexer) phrase() (token, error) {
	start := l.pos
	opening := l.quoteAt(start)
	l.pos += opening
	text := l.text[l.pos:]
	end := strings.IndexByte(text, '"')
	if opening > 1 {
		end = strings.IndexAny(text, "“”")
	}
	if end < 0 {
		return token{}, l.fail(span{start, start + opening}, "a quotation mark that is not closed", "")
	}
	l.pos += end
	l.pos += l.quoteAt(l.pos)
	t := token{kind: tokenPhrase, span: span{start, l.pos}, text: strings.ReplaceAll(text[:end], `"`, " ")}
	if rest := l.text[l.pos:]; rest != "" && strings.ContainsRune("*~?", rune(rest[0])) {
		return t, l.fail(span{l.pos, l.pos + 1}, rest[:1]+" behind a phrase", "it continues a single word, without quotes")
	}
	return t, l.apart("quotation mark")
}

// apart refuses what sticks to the end of a token.
func (l *lexer) apart(what string) error {
	r, n := utf8.DecodeRuneInString(l.text[l.pos:])
	if n == 0 || unicode.IsSpace(r) || r == ')' || r == '}' || r == '(' && what == "parenthesis" {
		return nil
	}
	return l.fail(span{l.pos, l.pos + n}, "no space behind the "+what, "put one, or AND or OR")
}

// word reads up to a space, a quotation mark, a parenthesis or a brace.
func (l *lexer) word() token {
	start := l.pos
	for l.pos < len(l.text) {
		r, n := utf8.DecodeRuneInString(l.text[l.pos:])
		if unicode.IsSpace(r) || strings.ContainsRune("(){}", r) || l.quoteAt(l.pos) > 0 {
			break
		}
		l.pos += n
	}
	return token{kind: tokenWord, span: span{start, l.pos}, text: l.text[start:l.pos]}
}

// wordEnd refuses what sticks to the end of a word.
func (l *lexer) wordEnd(w token) error {
	switch {
	case l.pos == len(l.text) || l.text[l.pos] == ')' || l.text[l.pos] == '}':
	case l.text[l.pos] == '{':
		return l.fail(span{l.pos, l.pos + 1}, "a brace right behind a word", "put a space between them, or the text in quotes")
	case l.text[l.pos] == '(':
		return l.fail(span{l.pos, l.pos + 1}, "a parenthesis right behind a word", "put a space between them")
	case l.quoteAt(l.pos) > 0:
		hint := "put a space between them"
		if w.text == "+" {
			hint = "the exact form is of single words"
		}
		return l.fail(span{l.pos, l.pos + l.quoteAt(l.pos)}, "a quotation mark right behind a word", hint)
	}
	return nil
}

// operator reads a word that is one.
func (l *lexer) operator(w token) (token, bool, error) {
	switch w.text {
	case "AND":
		w.kind = tokenAnd
		return w, true, nil
	case "OR":
		w.kind = tokenOr
		return w, true, nil
	case "NOT":
		w.kind = tokenNot
		return w, true, nil
	}
	return w, false, nil
}

var (
	fieldName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)
	fieldMarks = ":=<>"
)

// field reads name and operator of field:value.
func (l *lexer) field(w token, in *property) (token, bool, error) {
	mark := strings.IndexAny(w.text, fieldMarks)
	if mark < 0 {
		return w, false, nil
	}
	name := w.text[:mark]
	op := w.text[mark : mark+1]
	if op != ":" && op != "=" && strings.HasPrefix(w.text[mark+1:], "=") {
		op = w.text[mark : mark+2]
	}
	at := span{w.start, w.start + mark + len(op)}
	switch {
	case in != nil && fieldName.MatchString(name):
		return w, false, l.fail(at, fmt.Sprintf("a field (%s) among the values of %s", name, in.name), "put the text in quotes if it is none")
	case in != nil:
		return w, false, nil
	case !fieldName.MatchString(name):
		return w, false, l.fail(w.span, fmt.Sprintf("no field before %s", op), "put the text in quotes")
	}
	l.pos = at.end
	return token{kind: tokenField, span: at, text: name, op: op}, true, nil
}
