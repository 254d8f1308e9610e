package syntax

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

const quoteIt = "put the text in quotes if it is meant as it stands"

// plainWord refuses the characters of a bare word that mean something, or would get lost: they are no part of any token. A * at the end is
// cut off and told. What has a form of its own (wo?d, word~, +word) was taken apart before.
func (p *parser) plainWord(v token) (text string, prefix bool, err error) {
	at := func(i, n int) span { return span{v.start + i, v.start + i + n} }
	text = v.text
	first, n := utf8.DecodeRuneInString(text)
	switch {
	case first == '+':
		return "", false, p.fail(at(0, 1), "+ before this value", "the exact form is of words: +café; "+quoteIt)
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
			what, hint = "* other than at the end of this value", quoteIt
		case '?', '~':
			what, hint = fmt.Sprintf("%c in this value", r), "it is of words: wo?d, word~, word~1; "+quoteIt
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

// words reads a word in one of its forms, or a phrase. A word that is several tokens is the phrase of these.
func (p *parser) words(field query.Field, v token) (query.Query, error) {
	q := query.Text{Field: field, Typed: v.text, Quoted: v.kind == tokenPhrase}
	switch {
	case q.Quoted:
		if err := p.wildcardInPhrase(v); err != nil {
			return nil, err
		}
	case strings.HasPrefix(v.text, "+"):
		return p.exact(q, v)
	case strings.Contains(v.text, "~"):
		return p.similar(q, v)
	case strings.ContainsAny(strings.TrimSuffix(v.text, "*"), "?*") && v.text != "**":
		return p.pattern(q, v)
	default:
		text, prefix, err := p.plainWord(v)
		if err != nil {
			return nil, err
		}
		if q.Typed = text; prefix {
			q.Form = query.Prefix
		}
	}
	q.Tokens = tokens(q.Typed)
	switch {
	case len(q.Tokens) == 0:
		return nil, p.fail(v.span, fmt.Sprintf("no letter or digit in %s", v.text), "marks and spaces are not searched for")
	case q.Form == query.Prefix && !oneWord(q.Typed):
		return nil, p.fail(v.span, fmt.Sprintf("* behind %s, which is not one word", q.Typed), "a wildcard continues one word of letters and digits")
	}
	if !q.Quoted && q.Form == query.Words {
		p.wordHints(field, q.Typed)
	}
	return q, nil
}

// oneWord says that all of a text is one token.
func oneWord(s string) bool {
	list := document.Tokens(nil, s)
	return len(list) == 1 && list[0].Start == 0 && list[0].End == len(s)
}

// joins says that a text is one token, to which what follows it would belong. In Chinese, Japanese, Korean and Thai nothing does.
func joins(s string) bool { return oneWord(s) && len(document.Tokens(nil, s+"x")) == 1 }

// exact reads +word.
func (p *parser) exact(q query.Text, v token) (query.Query, error) {
	rest := token{kind: v.kind, span: span{v.start + 1, v.end}, text: v.text[1:]}
	if rest.text == "" {
		return nil, p.fail(v.span, "+ stands alone", "write it right before a word")
	}
	if i := strings.IndexAny(rest.text, "*?~"); i >= 0 {
		return nil, p.fail(span{rest.start + i, rest.start + i + 1}, "+ and "+rest.text[i:i+1]+" on one word", "+ asks for the exact form of a whole word")
	}
	var err error
	if q.Typed, _, err = p.plainWord(rest); err != nil {
		return nil, err
	}
	q.Form = query.Exact
	for _, t := range document.Tokens(nil, q.Typed) {
		form := ""
		if t.Marked {
			form = document.Exact(q.Typed[t.Start:t.End])
		}
		q.Tokens, q.Exact = append(q.Tokens, t.Text), append(q.Exact, form)
	}
	if len(q.Tokens) == 0 {
		return nil, p.fail(v.span, fmt.Sprintf("no letter or digit in %s", v.text), "marks and spaces are not searched for")
	}
	return q, nil
}

// similar reads word~, word~de and word~1.
func (p *parser) similar(q query.Text, v token) (query.Query, error) {
	i := strings.IndexByte(v.text, '~')
	how := strings.ToLower(v.text[i+1:])
	at := span{v.start + i, v.end}
	word, star, err := p.plainWord(token{kind: v.kind, span: span{v.start, v.start + i}, text: v.text[:i]})
	switch {
	case i == 0:
		return nil, p.fail(v.span, "~ without a word", "write it right behind one: word~ or word~1")
	case err != nil:
		return nil, err
	case star:
		return nil, p.fail(span{v.start + i - 1, v.start + i}, "* and ~ on one word", "word* or word~")
	case !oneWord(word):
		return nil, p.fail(v.span, fmt.Sprintf("~ behind %s, which is not one word", word), "")
	}
	q.Typed, q.Tokens = word, tokens(word)
	switch {
	case how == "1":
		if utf8.RuneCountInString(q.Tokens[0]) < minFuzzy {
			return nil, p.fail(v.span, fmt.Sprintf("%s is too short for ~1", word), fmt.Sprintf("a word of %d letters or more", minFuzzy))
		}
		q.Form = query.Fuzzy
	case strings.Trim(how, "0123456789") == "" && how != "":
		return nil, p.fail(at, "~"+how+": more than one letter that differs", "word~1 is the most")
	default:
		if how == "" {
			how = languageOf(q.Tokens[0])
		}
		if !slices.Contains(query.Languages(), how) {
			return nil, p.fail(at, fmt.Sprintf("no language %q", how), "word~en, or one of "+strings.Join(query.Languages(), ", "))
		}
		q.Form, q.Language = query.Stem, how
	}
	return q, nil
}

// minFuzzy is how long a word must be to be looked for with a letter that differs: shorter ones are all alike.
const minFuzzy = 3

// languageOf is the language of word~: Russian of what is written in Cyrillic, otherwise English.
func languageOf(word string) string {
	for _, r := range word {
		if unicode.Is(unicode.Cyrillic, r) {
			return "ru"
		}
	}
	return "en"
}

// minLead is how many letters a word with ? or with a * inside begins with.
const minLead = 2

// pattern reads wo?d, w?rd* and wo*d.
func (p *parser) pattern(q query.Text, v token) (query.Query, error) {
	if at := strings.IndexAny(v.text, "?*"); utf8.RuneCountInString(v.text[:at]) < minLead {
		hint := quoteIt
		if kind, ok := strings.CutPrefix(v.text, "*."); ok && query.Plain(kind) {
			hint = "files of a kind are found by filetype:" + kind
		}
		return nil, p.fail(span{v.start + at, v.start + at + 1}, v.text[at:at+1]+" before the third letter", "a wildcard needs two letters before it; "+hint)
	}
	var b strings.Builder
	for i := 0; i < len(v.text); {
		if c := v.text[i]; c == '?' || c == '*' {
			if c == '?' || !strings.HasSuffix(b.String(), "*") {
				b.WriteByte(c)
			}
			i++
			continue
		}
		n := strings.IndexAny(v.text[i:]+"?", "?*")
		part := token{kind: v.kind, span: span{v.start + i, v.start + i + n}, text: v.text[i : i+n]}
		if i == 0 {
			if _, _, err := p.plainWord(part); err != nil {
				return nil, err
			}
		}
		if !joins(part.text) {
			return nil, p.fail(v.span, v.text+" is not one word", "a wildcard stands for letters within one word of letters and digits; "+quoteIt)
		}
		b.WriteString(tokens(part.text)[0])
		i += n
		if lead := b.String(); i == n && utf8.RuneCountInString(lead) < minLead {
			return nil, p.fail(v.span, v.text+" has not two letters before its wildcard", "")
		}
	}
	pattern := b.String()
	if len(pattern) > document.MaxToken {
		return nil, p.fail(v.span, "a wildcard too long for any word", "")
	}
	if strings.HasSuffix(v.text, "?") {
		p.hint("%s: a ? stands for exactly one letter; a question mark is never searched for", v.text)
	}
	q.Form, q.Typed, q.Tokens = query.Pattern, v.text, []string{pattern}
	return q, nil
}

// wildcardInPhrase refuses a * that continues a word in quotes: there it would be a mark like others, which hardly anybody means.
func (p *parser) wildcardInPhrase(v token) error {
	var before rune
	for i, r := range p.text[v.start:v.end] {
		if r == '*' && (unicode.IsLetter(before) || unicode.IsDigit(before)) {
			return p.fail(span{v.start + i, v.start + i + 1}, "a wildcard in a phrase", "words side by side are written with PRE/1: inv* PRE/1 report")
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
	case upper == "AND" || upper == "OR" || upper == "NOT" || upper == "NEAR" || upper == "ONEAR":
		p.hint("%s was searched for as a word: operators are written in capitals, %s", w, upper)
	case smallProximity.MatchString(w):
		p.hint("%s was searched for as words: operators are written in capitals, %s", w, upper)
	}
	if field == query.Anywhere && strings.Contains(w, "@") {
		p.hint("%s was searched for in subject, text and attachment names: addresses are found by participants:%s", w, w)
	}
}
