package query

import (
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/blevesearch/snowballstem"
	"github.com/blevesearch/snowballstem/danish"
	"github.com/blevesearch/snowballstem/dutch"
	"github.com/blevesearch/snowballstem/english"
	"github.com/blevesearch/snowballstem/finnish"
	"github.com/blevesearch/snowballstem/french"
	"github.com/blevesearch/snowballstem/german"
	"github.com/blevesearch/snowballstem/hungarian"
	"github.com/blevesearch/snowballstem/italian"
	"github.com/blevesearch/snowballstem/norwegian"
	"github.com/blevesearch/snowballstem/portuguese"
	"github.com/blevesearch/snowballstem/romanian"
	"github.com/blevesearch/snowballstem/russian"
	"github.com/blevesearch/snowballstem/spanish"
	"github.com/blevesearch/snowballstem/swedish"
	"github.com/blevesearch/snowballstem/turkish"
)

// stemmers are the Snowball stemmers (snowballstem.org), by language (ISO 639-1). They are given folded words, without accents: so they
// make more words equal than on text as written, and the same ones in the index and in a record.
var stemmers = map[string]func(*snowballstem.Env) bool{
	"da": danish.Stem, "de": german.Stem, "en": english.Stem, "es": spanish.Stem, "fi": finnish.Stem, "fr": french.Stem,
	"hu": hungarian.Stem, "it": italian.Stem, "nl": dutch.Stem, "no": norwegian.Stem, "pt": portuguese.Stem, "ro": romanian.Stem,
	"ru": russian.Stem, "sv": swedish.Stem, "tr": turkish.Stem,
}

// Languages are those of which words can be stemmed, in order.
func Languages() []string { return slices.Sorted(maps.Keys(stemmers)) }

// stemmer gives the stemmer of a language. What it can't stem, it leaves as it is.
func stemmer(language string) func(word string) string {
	run := stemmers[language]
	return func(word string) (stem string) {
		if run == nil {
			return word
		}
		defer func() {
			if recover() != nil { // the library is generated code with a stack of its own
				stem = word
			}
		}()
		env := snowballstem.NewEnv(word)
		run(env)
		return env.Current()
	}
}

// stemLead is what a word has in common with all of the same stem: endings change, beginnings hardly ever do (die, dying). It is part of
// what a stemmed word means, so that the index need not look at every word that it has.
func stemLead(word string) string {
	runes := 2
	if utf8.RuneCountInString(word) <= 5 {
		runes = 1
	}
	n := 0
	for range runes {
		_, size := utf8.DecodeRuneInString(word[n:])
		n += size
	}
	return word[:n]
}
