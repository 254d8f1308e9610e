package syntax

import (
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/net/publicsuffix"

	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// addressValue reads a value of from:, to: and so on: a whole address, a domain (it has a dot, or an @ before it), or a name (it has
// neither, or an @ behind it). In quotes a name may have several words, as they follow each other.
func (p *parser) addressValue(prop *property, v token) (query.Query, error) {
	q := query.Address{Field: query.Field(prop.name)}
	inner := v
	if n := len(v.text); n > 1 && v.text[0] == '<' && v.text[n-1] == '>' {
		if n == 2 && prop.name == string(query.EnvFrom) {
			return query.Address{Field: query.EnvFrom, Part: query.Null}, nil
		}
		if n == 2 {
			return nil, p.fail(v.span, "the null sender is of the envelope", "envfrom:<>")
		}
		inner.text = v.text[1 : n-1]
		inner.start++
	}
	text, named := strings.TrimSpace(inner.text), false
	if cut, ok := strings.CutSuffix(text, "@"); ok && cut != "" {
		text, named = cut, true
	}
	if v.kind == tokenWord {
		if domain, all := strings.CutPrefix(text, "*@"); all {
			return nil, p.fail(v.span, "* before a domain", "all of a domain is "+prop.name+":"+domain)
		}
		inner.text = text
		var err error
		if text, q.Prefix, err = p.plainWord(inner); err != nil {
			return nil, err
		}
	} else if strings.ContainsAny(text, "<>") {
		return nil, p.fail(v.span, "a display name with an address", "write the address alone: "+prop.name+":alice@example.com")
	}
	switch at := strings.LastIndexByte(text, '@'); {
	case at < 0 && strings.ContainsFunc(text, unicode.IsSpace):
		if strings.Contains(text, "*") {
			return nil, p.fail(v.span, "a wildcard in a name of several words", prop.name+":(alice smi*) finds both, be they of one address or of two")
		}
		var words int
		if q.Value, words = document.FoldNames(text); words > document.MaxNameWords {
			return nil, p.fail(v.span, fmt.Sprintf("a name of %d words", words), fmt.Sprintf("%d words that follow each other are the most", document.MaxNameWords))
		}
		q.Part = query.Name
	case named || at < 0 && !strings.Contains(text, "."):
		q.Part, q.Value = query.Name, document.FoldName(text)
	case at > 0:
		q.Part, q.Value = query.Whole, foldWhole(text[:at], text[at+1:], q.Prefix)
	default:
		q.Part, q.Value = query.Domain, foldDomain(strings.TrimLeft(text, "@."), q.Prefix)
		p.domainHint(prop, q, at < 0)
	}
	return q, p.checkAddress(prop, q, v)
}

// checkAddress refuses what no address has, and what can't be told apart from something else.
func (p *parser) checkAddress(prop *property, q query.Address, v token) error {
	hint := fmt.Sprintf("%s:alice@example.com, %s:example.com or %s:alice", prop.name, prop.name, prop.name)
	switch {
	case len(tokens(q.Value)) == 0:
		return p.fail(v.span, fmt.Sprintf("%s is no address, domain or name", v.text), hint)
	case q.Part == query.Domain && strings.ContainsFunc(q.Value, unicode.IsSpace):
		return p.fail(v.span, "a domain with a space", hint)
	case q.Prefix && !query.Plain(q.Value):
		return p.fail(v.span, "* behind "+q.Value, hint)
	}
	return nil
}

// foldDomain folds a domain, or the beginning of one: there a dot at the end counts.
func foldDomain(domain string, prefix bool) string {
	bare := strings.TrimRight(domain, ".")
	folded := document.FoldDomain(bare)
	if prefix && len(bare) < len(domain) && folded != "" {
		folded += "."
	}
	return folded
}

// foldWhole folds an address; without a domain it is none.
func foldWhole(local, domain string, prefix bool) string {
	if domain = foldDomain(domain, prefix); domain == "" {
		return ""
	}
	local, _ = document.Split(document.FoldAddress(local + "@x"))
	return local + "@" + domain
}

// domainHint tells of a name with a dot that was read as a domain. What ends as domains of the Internet do is beyond doubt.
func (p *parser) domainHint(prop *property, q query.Address, guessed bool) {
	if !guessed || q.Prefix {
		return
	}
	if suffix, icann := publicsuffix.PublicSuffix(q.Value); !icann && !strings.Contains(suffix, ".") {
		p.hint("%s was searched for as a domain: a name with a dot is written %s:%s@", q.Value, prop.name, q.Value)
	}
}
