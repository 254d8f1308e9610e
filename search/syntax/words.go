package syntax

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

const quoteIt = "put the text in quotes if it is meant as it stands"

// plainWord refuses the characters of a bare word that mean something, or would get lost: they are no part of any token. A * at the end is
// cut off and told.
func (p *parser) plainWord(v token) (text string, prefix bool, err error) {
	at := func(i, n int) span { return span{v.start + i, v.start + i + n} }
	text = v.text
	first, n := utf8.DecodeRuneInString(text)
	switch {
	case first == '+':
		return "", false, p.fail(at(0, 1), "the exact form of a word (+) is "+notYet, quoteIt)
	case first == '-':
		return "", false, p.fail(at(0, 1), "- before a value", "NOT and - stand before the field")
	case first == '!':
		return "", false, p.fail(at(0, 1), "! before a word", "NOT and - exclude; "+quoteIt)
	case first == '\'' || first == '‘':
		return "", false, p.fail(at(0, n), "a single quotation mark before a word", `phrases stand in double ones: "…"`)
	case unicode.Is(unicode.Pd, first) || first == '−':
		return "", false, p.fail(at(0, n), "a dash before a word", "NOT and - exclude; "+quoteIt)
	case strings.ContainsRune("=<>", first):
		return "", false, p.fail(at(0, n), fmt.Sprintf("%c before a value", first), quoteIt)
	}
	if strings.HasSuffix(text, "*") {
		text, prefix = text[:len(text)-1], true
	}
	for i, r := range text {
		if !query.Special(r) {
			continue
		}
		what, hint := "", quoteIt
		switch r {
		case '*':
			what, hint = "* other than at the end of a word is "+notYet, "word* finds words that begin so; "+quoteIt
		case '?':
			what = "? for one letter is " + notYet
		case '~':
			what = "~ (stemmed and similar words) is " + notYet
		case '{', '}':
			what, hint = "braces are "+notYet, "write (a OR b)"
		case '|':
			what, hint = "| is no operator", "write OR; "+quoteIt
		default:
			what, hint = fmt.Sprintf("%c is not the character of the keyboard", r), "write it as ASCII; "+quoteIt
		}
		return "", false, p.fail(at(i, utf8.RuneLen(r)), what, hint)
	}
	if text == "" {
		return "", false, p.fail(v.span, "* without a word", "the empty query finds everything")
	}
	return text, prefix, nil
}

func tokens(s string) []string {
	list := document.Tokens(nil, s)
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = t.Text
	}
	return out
}

// words reads a word or a phrase. A word that is several tokens is the phrase of these.
func (p *parser) words(field query.Field, v token) (query.Query, error) {
	q := query.Text{Field: field, Typed: v.text, Quoted: v.kind == tokenPhrase}
	if q.Quoted {
		if err := p.wildcardInPhrase(v); err != nil {
			return nil, err
		}
	} else {
		var err error
		if q.Typed, q.Prefix, err = p.plainWord(v); err != nil {
			return nil, err
		}
	}
	q.Tokens = tokens(q.Typed)
	switch {
	case len(q.Tokens) == 0:
		return nil, p.fail(v.span, fmt.Sprintf("no letter or digit in %s", v.text), "marks and spaces are not searched for")
	case q.Prefix && (len(q.Tokens) > 1 || document.Tokens(nil, q.Typed)[0].End != len(q.Typed)):
		return nil, p.fail(v.span, fmt.Sprintf("* behind %s, which is not one word", q.Typed), "a wildcard continues one word of letters and digits")
	}
	if !q.Quoted && !q.Prefix {
		p.wordHints(field, q.Typed)
	}
	return q, nil
}

// wildcardInPhrase refuses a * that continues a word in quotes: there it would be a mark like others, which hardly anybody means.
func (p *parser) wildcardInPhrase(v token) error {
	var before rune
	for i, r := range p.text[v.start:v.end] {
		if r == '*' && (unicode.IsLetter(before) || unicode.IsDigit(before)) {
			return p.fail(span{v.start + i, v.start + i + 1}, "a wildcard in a phrase is "+notYet, "")
		}
		before = r
	}
	return nil
}

var smallProximity = regexp.MustCompile(`(?i)^(w|pre)/\d+$`)

// wordHints tells of a word that looks like something else.
func (p *parser) wordHints(field query.Field, w string) {
	switch upper := strings.ToUpper(w); {
	case w == upper: // in capitals only a field's own value comes here
	case upper == "AND" || upper == "OR" || upper == "NOT" || upper == "NEAR":
		p.hint("%s was searched for as a word: operators are written in capitals, %s", w, upper)
	case smallProximity.MatchString(w):
		p.hint("%s was searched for as words: operators are written in capitals, %s", w, upper)
	}
	if field == query.Anywhere && strings.Contains(w, "@") {
		p.hint("%s was searched for in subject, text and attachment names: addresses are found by participants:%s", w, w)
	}
}
