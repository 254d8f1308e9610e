package syntax

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/holdfast-archive/holdfast/index/query"
)

// defaultNear is how many words may stand between the operands of NEAR and ONEAR without a number, as in KQL.
const defaultNear = 8

var (
	slashed    = regexp.MustCompile(`^(W|PRE)/(.*)$`)
	inBrackets = regexp.MustCompile(`^\((?:n=)?(\d+)\)`)
	afterBlank = regexp.MustCompile(`^[\s\pZ]+\(?(\d+)\)?(?:[\s\pZ]|$)`)
	spaced     = regexp.MustCompile(`^[\s\pZ]+\((?:n=)?\d+\)(?:[\s\pZ]|$)`)
	notBefore  = regexp.MustCompile(`^[\s\pZ]+(W/|PRE/|(NEAR|ONEAR|AROUND)([\s\pZ(]|$))`)
)

// nearOperator reads an operator of proximity, with its number: W/5, NOT W/5, PRE/5, NEAR, NEAR(8), ONEAR, ONEAR(8), AROUND 5, AROUND(5).
func (l *lexer) nearOperator(w token) (token, bool, error) {
	start := w.start
	without := false
	if w.text == "NOT" {
		if !notBefore.MatchString(l.text[l.pos:]) {
			return w, false, nil
		}
		l.pos = len(l.text) - len(strings.TrimLeftFunc(l.text[l.pos:], unicode.IsSpace))
		w, without = l.word(), true
	}
	rest := l.text[l.pos:]
	digits, between := "", false // between: the number counts words between, not the distance
	switch w.text {
	case "NEAR", "ONEAR":
		digits, between = strconv.Itoa(defaultNear), true
		if m := inBrackets.FindStringSubmatch(rest); m != nil {
			digits = m[1]
			l.pos += len(m[0])
		} else if m := spaced.FindString(rest); m != "" {
			at := span{start, l.pos + len(strings.TrimRightFunc(m, unicode.IsSpace))}
			return w, false, l.fail(at, "a space between "+w.text+" and its number", "write "+w.text+"(8); a number that is searched for stands in quotes")
		}
	case "AROUND":
		m := inBrackets.FindStringSubmatch(rest)
		if m == nil {
			if m = afterBlank.FindStringSubmatch(rest); m != nil {
				m[0] = strings.TrimRightFunc(m[0], unicode.IsSpace)
			}
		}
		if m == nil {
			return w, false, l.fail(w.span, "AROUND without a number", `write AROUND 5; the word itself is written "around"`)
		}
		digits = m[1]
		l.pos += len(m[0])
	default:
		m := slashed.FindStringSubmatch(w.text)
		if m == nil {
			return w, false, nil
		}
		digits = m[2]
	}
	t := token{kind: tokenNear, span: span{start, l.pos}, text: l.text[start:l.pos]}
	n, err := strconv.Atoi(digits)
	if err == nil && between {
		n++
	}
	switch {
	case err != nil && strings.Trim(digits, "0123456789") != "" || digits == "":
		return t, false, l.fail(t.span, fmt.Sprintf("%q is no number", digits), "write "+strings.TrimSuffix(w.text, digits)+`5; the text itself is written in quotes`)
	case err != nil || n > query.MaxNear:
		return t, false, l.fail(t.span, fmt.Sprintf("too far apart: %d positions are the most", query.MaxNear), "AND finds both in any place")
	case n < 1:
		return t, false, l.fail(t.span, "two words are at least 1 apart", "neighbours are W/1")
	}
	t.near = query.Near{N: n, Without: without, Ordered: w.text == "ONEAR" || strings.HasPrefix(w.text, "PRE/")}
	if without && !strings.HasPrefix(w.text, "W/") {
		return t, false, l.fail(t.span, "NOT before "+w.text, fmt.Sprintf("write NOT W/%d", n))
	}
	return t, true, l.apart("operator")
}

// maxChain bounds how deep proximity is nested: each level pairs what the one below it found.
const maxChain = 8

// proximity reads operands of proximity, one after the other. The operators bind from left to right, and tighter than all others.
func (p *parser) proximity(in *property) (query.Query, error) {
	start := p.tok.start
	q, err := p.primary(in)
	if err != nil {
		return nil, err
	}
	left := span{start, p.last}
	for chain := 0; p.tok.kind == tokenNear; chain++ {
		op := p.tok
		if chain == 1 {
			p.hint("several operators of proximity are read from left to right: (a W/5 b) W/3 c")
		}
		if err := p.advance(in); err != nil {
			return nil, err
		}
		right := span{start: p.tok.start}
		switch p.tok.kind {
		case tokenEnd, tokenClose, tokenUnbrace, tokenAnd, tokenOr, tokenNear:
			return nil, p.fail(op.span, "nothing after "+op.text, "the text itself is written in quotes")
		case tokenNot:
			return nil, p.fail(p.tok.span, "NOT after "+op.text, "a NOT W/5 b finds an a with no b so near")
		}
		b, err := p.primary(in)
		if err != nil {
			return nil, err
		}
		right.end = p.last
		n := op.near
		n.A, n.B = q, b
		if n.Field, err = p.nearField(q, left, in, op); err != nil {
			return nil, err
		}
		if other, err := p.nearField(b, right, in, op); err != nil {
			return nil, err
		} else if other != n.Field {
			return nil, p.fail(right, fmt.Sprintf("%s and %s: proximity is of one field", named(n.Field), named(other)), "write subject:(a W/5 b)")
		}
		if nearDepth(n) > maxChain {
			return nil, p.fail(op.span, fmt.Sprintf("too deep: proximity within proximity, %d are allowed", maxChain), "")
		}
		q, left.end = n, p.last
	}
	return q, nil
}

func named(f query.Field) string {
	if f == query.Anywhere {
		return "no field"
	}
	return string(f)
}

// nearField gives the one field of an operand, or refuses it.
func (p *parser) nearField(q query.Query, at span, in *property, op token) (query.Field, error) {
	switch q := q.(type) {
	case query.Text:
		return q.Field, nil
	case query.Near:
		return q.Field, nil
	case query.Or:
		first, err := p.nearField(q[0], at, in, op)
		for _, o := range q[1:] {
			f, err := p.nearField(o, at, in, op)
			if err != nil {
				return f, err
			}
			if f != first {
				return f, p.fail(at, fmt.Sprintf("%s and %s: proximity is of one field", named(first), named(f)), "write subject:(a W/5 b)")
			}
		}
		return first, err
	}
	if in != nil {
		if _, ok := fields[in.name]; ok && !textField(in.name) {
			return "", p.fail(op.span, op.text+" between values of "+in.name, "proximity is of words: in subject, body, attachment, attachmenttext, header.NAME or in no field")
		}
	}
	return "", p.fail(at, "no operand of "+op.text, "beside it stands a word, a phrase, a wildcard, or several with OR in parentheses")
}

func textField(name string) bool {
	if _, ok := query.Field(name).Header(); ok {
		return true
	}
	switch query.Field(name) {
	case query.Subject, query.Body, query.Attachment, query.AttachmentText:
		return true
	}
	return false
}

func nearDepth(q query.Query) (n int) {
	switch q := q.(type) {
	case query.Near:
		return 1 + max(nearDepth(q.A), nearDepth(q.B))
	case query.Or:
		for _, o := range q {
			n = max(n, nearDepth(o))
		}
	}
	return n
}

// braces reads {a b}: one of them is enough.
func (p *parser) braces(in *property) (query.Query, error) {
	open := p.tok.span
	if err := p.deeper(open); err != nil {
		return nil, err
	}
	if err := p.advance(in); err != nil {
		return nil, err
	}
	var list []query.Query
	for p.tok.kind != tokenUnbrace {
		switch t := p.tok; t.kind {
		case tokenEnd, tokenClose:
			return nil, p.fail(open, "a brace that is not closed", "")
		case tokenAnd, tokenOr, tokenNot, tokenNear:
			return nil, p.fail(t.span, t.text+" in braces", "in braces one of all the terms is enough; parentheses take operators")
		}
		q, err := p.primary(in)
		if err != nil {
			return nil, err
		}
		list = append(list, q)
	}
	if len(list) == 0 {
		return nil, p.fail(span{open.start, p.tok.end}, "empty braces", "")
	}
	p.depth--
	return query.NewOr(list...), p.advance(in)
}

// deeper counts a parenthesis or brace within others.
func (p *parser) deeper(open span) error {
	most := MaxDepth
	if p.env.Canonical {
		most = maxCanonicalDepth
	}
	if p.depth++; p.depth > most {
		return p.fail(open, fmt.Sprintf("too deep: parentheses in parentheses, %d are allowed", most), "")
	}
	return nil
}
