// Package syntax is the language that people type: it turns text into a query.Query.
//
// What it promises: nothing is reinterpreted in silence. What can't be answered exactly is refused, with its place in the text and a hint;
// what could have been meant otherwise comes back with a hint beside the answer. The canonical form of a query (its String) parses back to
// the same tree, in any time zone.
package syntax

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/index/query"
)

const (
	// MaxLength is how long a query may be, in characters.
	MaxLength = 10_000
	// MaxDepth is how deep parentheses and braces may be nested.
	MaxDepth = 64

	// The canonical form of what was typed within these limits: it names the field at each value, and may need parentheses of its own.
	maxCanonicalLength = 64 * MaxLength
	maxCanonicalDepth  = 2*MaxDepth + 2*maxChain
)

// Env is what a query's meaning depends on beside its text.
type Env struct {
	Now      time.Time      // of today, yesterday, older_than and newer_than
	Location *time.Location // of dates without a zone; nil: UTC
	// Joins says that whoever asks has the sets of hold, matter, tag, policy and expires (query.Set); otherwise these are refused.
	Joins bool
	// Directions says that our own domains are known, which direction: asks; otherwise it is refused.
	Directions bool
	// Standing is of policies, holds, scopes and alerts, which mean the same whenever they are asked: nothing relative to the time of asking,
	// and no Joins.
	Standing bool
	// Canonical says that the text is the String of a query, which may be longer and deeper than what is typed.
	Canonical bool
}

// Parsed is a query that was understood.
type Parsed struct {
	Query query.Query
	Hints []string // what may have been meant otherwise, for the person who typed it
}

// Error says why a query is refused, and where. Positions and lengths are in characters (runes), from 0; Byte is the same place in bytes.
type Error struct {
	Pos, Len int
	Byte     int
	Msg      string
	Hint     string // what to write instead; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("column %d: %s", e.Pos+1, e.Msg)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Parse reads a query; every error is an *Error. The empty query is query.All. It takes time linear in the text, but for the analysis of
// words. Safe for concurrent use.
func Parse(text string, env Env) (Parsed, error) {
	if env.Location == nil {
		env.Location = time.UTC
	}
	p := &parser{lexer: lexer{text: text}, env: env}
	q, err := p.parse()
	if err != nil {
		return Parsed{}, err
	}
	return Parsed{Query: q, Hints: p.hints}, nil
}

type parser struct {
	lexer
	env   Env
	depth int
	tok   token // the one at hand
	last  int   // where the one before it ended
	hints []string
}

func (p *parser) parse() (query.Query, error) {
	if err := p.checkText(); err != nil {
		return nil, err
	}
	if err := p.advance(nil); err != nil {
		return nil, err
	}
	if p.tok.kind == tokenEnd {
		return query.All{}, nil
	}
	q, err := p.expression(nil)
	if err != nil {
		return nil, err
	}
	switch p.tok.kind {
	case tokenClose:
		return nil, p.fail(p.tok.span, "a closing parenthesis without an opening one", "")
	case tokenUnbrace:
		return nil, p.fail(p.tok.span, "a closing brace without an opening one", "")
	}
	return q, nil
}

// checkText refuses what no query may have.
func (p *parser) checkText() error {
	n, most := 0, MaxLength
	if p.env.Canonical {
		most = maxCanonicalLength
	}
	for i := range p.text {
		if n++; n > most {
			return p.fail(span{i, len(p.text)}, fmt.Sprintf("too long: %d characters are allowed", most), "")
		}
	}
	for i, r := range p.text {
		at := span{i, i + utf8.RuneLen(r)}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(p.text[i:], "\ufffd"):
			return p.fail(span{i, i + 1}, "not UTF-8", "")
		case unicode.IsControl(r) && !unicode.IsSpace(r):
			return p.fail(at, fmt.Sprintf("a control character, U+%04X", r), "remove it")
		case strings.ContainsRune("\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", r):
			return p.fail(at, fmt.Sprintf("an invisible character, U+%04X", r), "remove it")
		}
	}
	return nil
}

// advance moves to the next token. Inside field:( … ) bare words are values of the field.
func (p *parser) advance(in *property) (err error) {
	p.last = p.tok.end
	p.tok, err = p.next(in)
	return err
}

// part is an operand of a level, and the operator before it.
type part struct {
	span
	query.Query
	op   string // "AND", "OR"; empty: first
	at   span   // of the operator, or of the operand where AND is implied
	said bool   // AND was written
}

// expression reads operands up to a closing parenthesis or the end.
func (p *parser) expression(in *property) (query.Query, error) {
	var parts []part
	op, at, said := "", span{}, false
	for {
		start := p.tok.start
		q, err := p.operand(in)
		if err != nil {
			return nil, err
		}
		if op == "AND" && !said {
			at = span{start, p.last}
		}
		parts = append(parts, part{span{start, p.last}, q, op, at, said})
		switch p.tok.kind {
		case tokenEnd, tokenClose, tokenUnbrace:
			return p.join(parts)
		case tokenAnd, tokenOr:
			op, at, said = p.tok.text, p.tok.span, true
			if err := p.advance(in); err != nil {
				return nil, err
			}
			if p.tok.kind == tokenEnd || p.tok.kind == tokenClose || p.tok.kind == tokenUnbrace {
				return nil, p.fail(at, "nothing after "+op, `the word itself is written "`+strings.ToLower(op)+`"`)
			}
		default:
			op, said = "AND", false
		}
	}
}

// join builds one level. AND and OR in one level have two readings, and neither is chosen.
func (p *parser) join(parts []part) (query.Query, error) {
	list := make([]query.Query, len(parts))
	op := ""
	for i, o := range parts {
		list[i] = o.Query
		switch {
		case i == 0:
		case op == "" || op == o.op:
			op = o.op
		default:
			return nil, p.fail(o.at, "AND and OR side by side", p.readings(parts))
		}
	}
	if op == "OR" {
		return query.NewOr(list...), nil
	}
	return query.NewAnd(list...), nil
}

// maxReadings is up to how many characters the two readings are spelt out.
const maxReadings = 400

func (p *parser) readings(parts []part) string {
	if parts[len(parts)-1].end-parts[0].start > maxReadings {
		return "put parentheses around the operands that belong together"
	}
	return "write " + p.reading(parts, "AND") + " or " + p.reading(parts, "OR")
}

// reading spells a level out with parentheses around the runs of one operator.
func (p *parser) reading(parts []part, tight string) string {
	var b strings.Builder
	for i := 0; i < len(parts); {
		end := i + 1
		for end < len(parts) && parts[end].op == tight {
			end++
		}
		if i > 0 {
			b.WriteString(parts[i].joint())
		}
		run := p.text[parts[i].start:parts[i].end]
		for _, o := range parts[i+1 : end] {
			run += o.joint() + p.text[o.start:o.end]
		}
		if end-i > 1 && end-i < len(parts) {
			run = "(" + run + ")"
		}
		b.WriteString(run)
		i = end
	}
	return b.String()
}

func (o *part) joint() string {
	if o.op == "AND" && !o.said {
		return " "
	}
	return " " + o.op + " "
}

// operand reads [NOT] and what it stands before.
func (p *parser) operand(in *property) (query.Query, error) {
	if p.tok.kind != tokenNot {
		return p.proximity(in)
	}
	not := p.tok
	if err := p.advance(in); err != nil {
		return nil, err
	}
	switch p.tok.kind {
	case tokenNot:
		return nil, p.fail(p.tok.span, "NOT twice", "")
	case tokenEnd, tokenClose, tokenUnbrace:
		return nil, p.fail(not.span, "nothing after "+not.text, "")
	}
	q, err := p.proximity(in)
	if err != nil {
		return nil, err
	}
	return query.Not{Query: q}, nil
}

func (p *parser) primary(in *property) (query.Query, error) {
	t := p.tok
	switch t.kind {
	case tokenOpen:
		return p.parentheses(in, in)
	case tokenBrace:
		return p.braces(in)
	case tokenUnbrace:
		return nil, p.fail(t.span, "a closing brace without an opening one", "")
	case tokenNear:
		return nil, p.fail(t.span, "nothing before "+t.text, "the text itself is written in quotes")
	case tokenAnd, tokenOr:
		return nil, p.fail(t.span, "nothing before "+t.text, `the word itself is written "`+strings.ToLower(t.text)+`"`)
	case tokenField:
		return p.property(t)
	}
	// What is left is a word or a phrase.
	var q query.Query
	var err error
	if in != nil {
		q, err = p.value(in, t)
	} else {
		q, err = p.words(query.Anywhere, t)
	}
	if err != nil {
		return nil, err
	}
	return q, p.advance(in)
}

// parentheses reads from the opening one to behind the closing one. Its words are values of a field where in is one; what follows is read
// as outside says.
func (p *parser) parentheses(in, outside *property) (query.Query, error) {
	open := p.tok.span
	if err := p.deeper(open); err != nil {
		return nil, err
	}
	if err := p.advance(in); err != nil {
		return nil, err
	}
	if p.tok.kind == tokenClose {
		return nil, p.fail(span{open.start, p.tok.end}, "empty parentheses", "")
	}
	if p.tok.kind == tokenEnd {
		return nil, p.fail(open, "a parenthesis that is not closed", "")
	}
	q, err := p.expression(in)
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenClose {
		return nil, p.fail(open, "a parenthesis that is not closed", "")
	}
	p.depth--
	return q, p.advance(outside)
}

// property reads field:value or field:( … ).
func (p *parser) property(t token) (query.Query, error) {
	prop, err := p.known(t)
	if err != nil {
		return nil, err
	}
	p.last = p.tok.end
	if p.tok, err = p.nextValue(prop); err != nil {
		return nil, err
	}
	if p.tok.kind == tokenOpen {
		if prop.op != ":" && prop.op != "=" {
			return nil, p.fail(prop.span, "parentheses after "+prop.op, "one value only")
		}
		return p.parentheses(prop, nil)
	}
	q, err := p.value(prop, p.tok)
	if err != nil {
		return nil, err
	}
	return q, p.advance(nil)
}

// maxHints bounds what a person is asked to read.
const maxHints = 10

func (p *parser) hint(format string, args ...any) {
	h := fmt.Sprintf(format, args...)
	for _, have := range p.hints {
		if have == h {
			return
		}
	}
	if len(p.hints) < maxHints {
		p.hints = append(p.hints, h)
	}
}
