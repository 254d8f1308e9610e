package document

import (
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// class is what a folded character is to a word.
type class uint8

const (
	unknown   class = iota
	letter          // joins the word before it
	single          // a word of its own
	separator       // ends the word before it
)

// folder holds the scratch space of foldings.
type folder struct {
	decomposed, kept, composed []byte
	marked                     bool // the last folding took an accent or the like away
}

// cluster folds one cluster (clusterLen): compatibility decomposition, marks that fold and characters that are not seen taken out, case
// folded, and composed again. What it returns is valid until the next call, and may hold
// several characters, separators among them (½), or none.
func (f *folder) cluster(s string) []byte {
	f.marked = false
	if r, _ := utf8.DecodeRuneInString(s); r == '™' || r == '℠' {
		return append(f.composed[:0], ' ') // else Acme™ would be acmetm
	}
	f.decomposed = norm.NFKD.AppendString(f.decomposed[:0], s)
	f.kept = f.kept[:0]
	var base rune
	for _, r := range string(f.decomposed) {
		switch {
		case unseen(r):
			continue
		case foldingMark(r) && !(r == breve && unicode.Is(unicode.Cyrillic, base)):
			f.marked = true
			continue
		case !unicode.Is(unicode.Mn, r):
			base = r
		}
		f.kept = appendCaseFold(f.kept, r)
		f.marked = f.marked || r >= utf8.RuneSelf && bare[foldCase(r)] != ""
	}
	f.composed = norm.NFC.Append(f.composed[:0], f.kept...)
	return f.composed
}

// exact is cluster with its accents left in place.
func (f *folder) exact(s string) []byte {
	f.decomposed = norm.NFKD.AppendString(f.decomposed[:0], s)
	f.kept = f.kept[:0]
	for _, r := range string(f.decomposed) {
		if !unseen(r) {
			f.kept = utf8.AppendRune(f.kept, foldCase(r))
		}
	}
	f.composed = norm.NFC.Append(f.composed[:0], f.kept...)
	return f.composed
}

// breve makes letters of their own in Cyrillic: й is not an accented и, as ё is an accented е.
const breve = '\u0306'

// clusterLen is the length of the cluster that s begins with: a character, and all that combines with it once what folding takes out is
// gone.
func clusterLen(s string) int {
	n := 0
	for {
		if k := norm.NFKC.NextBoundaryInString(s[n:], true); k > 0 {
			n += k
		} else {
			return len(s)
		}
		seen := n
		r, size := utf8.DecodeRuneInString(s[n:])
		for ; unseen(r) || foldingMark(r); r, size = utf8.DecodeRuneInString(s[n:]) {
			n += size
		}
		if n == seen || n == len(s) || r < utf8.RuneSelf || norm.NFKC.PropertiesString(s[n:]).BoundaryBefore() {
			return n
		}
	}
}

// standsAlone says that nothing at the start of s can combine with the character before it. It knows the common ranges; false is always safe.
func standsAlone(s string) bool {
	if s == "" || s[0] < utf8.RuneSelf {
		return true
	}
	r, _ := utf8.DecodeRuneInString(s)
	return !unseen(r) && (r < 0x300 || r >= 0x370 && r < 0x483 || r >= 0x48a && r < 0x590 || r >= 0x1e00 && r < 0x20d0 ||
		r >= 0x3000 && r < 0x302a || r >= 0x3041 && r < 0x3097 || r >= 0x30a0 && r < 0x3100 ||
		r >= 0xe01 && r < 0xe33 || r >= 0xe40 && r < 0xe48 || r >= 0xff00 && r < 0xff9e || plainEastAsian(r) && r > 0x3000)
}

// plainEastAsian says that r is a Han character, kana, Hangul syllable or Thai character that folds to itself.
func plainEastAsian(r rune) bool {
	return r >= 0xe01 && r < 0xe4f && (r < 0xe33 || r > 0xe33 && r < 0xe3b || r > 0xe3f) || r >= 0x4e00 && r < 0x9f00 || r >= 0x3041 && r < 0x3097 || r >= 0x30a1 && r < 0x30fb || r == prolonged ||
		r >= 0xac00 && r < 0xd7a4 || r >= 0x3400 && r < 0x4db0
}

// prolonged is the vowel mark ー, which Unicode gives to no script.
const prolonged = 'ー'

// foldedRune is what a character folds to by itself. Of class unknown it is not of one class (½).
type foldedRune struct {
	text   string
	class  class
	marked bool // it is not exact
}

// commonRanges are the characters whose folding is kept in a table: Latin, Greek, Cyrillic, punctuation, full and half width.
var commonRanges = [...]struct{ from, to rune }{{0x80, 0x530}, {0x1e00, 0x2070}, {0x3000, 0x3041}, {0xff00, 0xffa0}}

type foldTable [len(commonRanges)][]foldedRune

func (t *foldTable) find(r rune) *foldedRune {
	for i, c := range commonRanges {
		if r >= c.from && r < c.to {
			return &t[i][r-c.from]
		}
	}
	return nil
}

var commonFolds = sync.OnceValue(func() *foldTable {
	var f folder
	t := new(foldTable)
	for i, c := range commonRanges {
		for r := c.from; r < c.to; r++ {
			text := string(f.cluster(string(r)))
			marked := f.marked
			k := letter
			for n, q := range text {
				switch c := classOf(q); {
				case n == 0:
					k = c
				case k != c:
					k = unknown
				}
			}
			t[i] = append(t[i], foldedRune{text, k, marked})
		}
	}
	return t
})

// appendCaseFold appends the case folding of a decomposed character, and for letters whose accent is not a mark (ø, ł) the bare letter.
func appendCaseFold(dst []byte, r rune) []byte {
	if r < utf8.RuneSelf {
		if c := lower[r]; c != 0 {
			return append(dst, c)
		}
		return append(dst, byte(r))
	}
	r = foldCase(r)
	if s := bare[r]; s != "" {
		return append(dst, s...)
	}
	return utf8.AppendRune(dst, r)
}

// foldCase goes by way of upper case: ς and σ, ſ and s are the same.
func foldCase(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }

var bare = map[rune]string{
	'ß': "ss", 'æ': "ae", 'œ': "oe", 'ø': "o", 'đ': "d", 'ð': "d", 'ħ': "h", 'ł': "l", 'ŧ': "t", 'þ': "th", 'ı': "i",
}

// foldingMark says that r is an accent, vowel point or the like, without which its word is written too. Marks that are vowels (of the
// scripts of India and South-East Asia) and the voicing marks of kana are none.
func foldingMark(r rune) bool {
	switch {
	case r < 0x300:
		return false
	case r < 0x370, r >= 0x483 && r <= 0x489:
		return true
	case r >= 0x591 && r <= 0x5c7: // Hebrew
		return unicode.Is(unicode.Mn, r)
	case r >= 0x610 && r <= 0x6ed, r >= 0x898 && r <= 0x8ff: // Arabic, hamza and madda too
		return unicode.Is(unicode.Mn, r)
	}
	return r >= 0x1ab0 && r <= 0x1aff || r >= 0x1dc0 && r <= 0x1dff || r >= 0x20d0 && r <= 0x20ff ||
		r >= 0xfe20 && r <= 0xfe2f || r == 0xfb1e
}

// unseen says that r shows nothing (soft hyphen, joiners, direction marks, variation selectors), only lengthens (tatweel), or tints the
// emoji before it.
func unseen(r rune) bool {
	switch {
	case r < 0xad:
		return false
	case r == 0xad, r == 0x61c, r == 0x640, r == 0x115f, r == 0x1160, r == 0x180e, r == 0xfeff:
		return true
	}
	return r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x206f ||
		r >= 0xfe00 && r <= 0xfe0f || r >= 0x1f3fb && r <= 0x1f3ff || r >= 0xe0000 && r <= 0xe007f || r >= 0xe0100 && r <= 0xe01ef
}

// classOf is the class of a folded character.
func classOf(r rune) class {
	switch {
	case r < utf8.RuneSelf:
		if lower[r] != 0 {
			return letter
		}
		return separator
	case plainEastAsian(r), emoji(r):
		return single
	case !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r):
		return separator
	case r >= 0xe00 && unicode.In(r, unspaced...):
		return single
	}
	return letter
}

// unspaced are the scripts in which words are not set apart, and Hangul, whose words carry their particles.
var unspaced = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Bopomofo, unicode.Hangul, unicode.Yi,
	unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar,
}

func emoji(r rune) bool {
	return (r >= 0x2600 && r < 0x27c0 || r >= 0x1f000 && r < 0x1fb00) && unicode.Is(unicode.So, r)
}
