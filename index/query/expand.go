package query

import (
	"strings"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/index/document"
)

// Expansion says which words a wildcard, a stemmed or a fuzzy word stands for.
type Expansion struct {
	Lead  string // what all of them begin with; may be empty
	Fuzzy string // of a fuzzy word, that word: the others differ from it by one
	match func(word string) bool
}

// Match says whether a word is one of them.
func (x *Expansion) Match(word string) bool {
	return strings.HasPrefix(word, x.Lead) && !document.IsVariant(word) && x.match(word)
}

// Expansion gives what the text's one word stands for; false where it is no more than itself.
func (q Text) Expansion() (Expansion, bool) {
	word := ""
	if len(q.Tokens) == 1 {
		word = q.Tokens[0]
	}
	switch q.Form {
	case Prefix:
		return Expansion{Lead: word, match: func(string) bool { return true }}, true
	case Pattern:
		return Expansion{Lead: word[:strings.IndexAny(word+"?", "?*")], match: func(s string) bool { return glob(word, s) }}, true
	case Stem:
		stem := stemmer(q.Language)
		own := stem(word)
		return Expansion{Lead: stemLead(word), match: func(s string) bool { return stem(s) == own }}, true
	case Fuzzy:
		return Expansion{Fuzzy: word, match: func(s string) bool { return oneApart(word, s) }}, true
	}
	return Expansion{}, false
}

// glob says whether all of s is as the pattern says: ? is one character, * any number of them. It takes time in proportion to the product
// of their lengths.
func glob(pattern, s string) bool {
	star, again := -1, 0 // where the last * stands, and what of s was left to it
	i, j := 0, 0
	for j < len(s) {
		_, n := utf8.DecodeRuneInString(s[j:])
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, again = i, j
			i++
			continue
		case i < len(pattern) && pattern[i] == '?':
			i++
			j += n
			continue
		case i < len(pattern) && strings.HasPrefix(pattern[i:], s[j:j+n]):
			i += n
			j += n
			continue
		case star < 0:
			return false
		}
		_, n = utf8.DecodeRuneInString(s[again:])
		again += n
		i, j = star+1, again
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// oneApart says whether a becomes b when one character is put in, left out or replaced, or two neighbours change places; or they are equal.
func oneApart(a, b string) bool {
	for a != "" && b != "" {
		r, n := utf8.DecodeRuneInString(a)
		q, m := utf8.DecodeRuneInString(b)
		if r != q {
			break
		}
		a, b = a[n:], b[m:]
	}
	if a == "" || b == "" {
		return utf8.RuneCountInString(a+b) <= 1
	}
	r, n := utf8.DecodeRuneInString(a)
	q, m := utf8.DecodeRuneInString(b)
	if a[n:] == b[m:] || a[n:] == b || a == b[m:] {
		return true
	}
	r2, n2 := utf8.DecodeRuneInString(a[n:])
	q2, m2 := utf8.DecodeRuneInString(b[m:])
	return r == q2 && q == r2 && n2 > 0 && m2 > 0 && a[n+n2:] == b[m+m2:]
}
