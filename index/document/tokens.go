package document

import (
	"strings"
	"unicode/utf8"
)

// MaxToken is the length of the longest token in bytes. A longer word is cut, at a character, into tokens of at most this length at
// consecutive positions: whole words still match as the phrase of their pieces, and no letter is lost.
const MaxToken = 64

// Token is one word of a text as it is compared: folded (ANALYSIS.md says how).
type Token struct {
	Text     string // never empty, at most MaxToken bytes
	Position int    // 0 for the first token of a text, one more for each after it
	Start    int    // byte offsets of the word in the text, for marking it: text[Start:End]
	End      int
	Marked   bool // an accent or the like was folded away: Exact(text[Start:End]) has it
}

// Tokens appends the tokens of s to dst. It is the one analysis that there is: the index, the evaluator and the reader of queries all
// call it, so that a word is the same word to each of them. Positions count from 0 in every call. s may be any bytes; what is not UTF-8
// separates words. Token texts may share memory with s. The time is linear in len(s). Safe for concurrent use.
func Tokens(dst []Token, s string) []Token {
	t := tokenizer{dst: dst, s: s, first: len(dst)}
	for i := 0; i < len(s); {
		start := i
		var changed byte
		for i < len(s) && lower[s[i]] != 0 {
			changed |= s[i] ^ lower[s[i]]
			i++
		}
		switch {
		case i < len(s) && s[i] >= utf8.RuneSelf:
			i = t.unicode(start)
		case i == start:
			i++ // a separator
		case changed == 0 && i-start <= MaxToken:
			t.dst = append(t.dst, Token{s[start:i], len(t.dst) - t.first, start, i, false})
		default:
			for j := start; j < i; j += MaxToken {
				t.ascii(j, min(j+MaxToken, i))
			}
		}
	}
	return t.dst
}

// lower maps the bytes of ASCII letters and digits to their lower case, all others to 0.
var lower = func() (t [256]byte) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z':
			t[c] = byte(c)
		case c >= 'A' && c <= 'Z':
			t[c] = byte(c) + 'a' - 'A'
		}
	}
	return t
}()

type tokenizer struct {
	dst   []Token
	first int // len(dst) at the start: position 0
	s     string

	text       strings.Builder // the folded texts, one after the other; tokens share its memory
	word       int             // where the word being built begins in text
	start, end int             // where it stands in s
	marked     bool            // an accent of it was folded away
	folded     folder
}

// ascii adds s[i:j], which is letters and digits.
func (t *tokenizer) ascii(i, j int) {
	t.room()
	for k := i; k < j; k++ {
		t.text.WriteByte(lower[t.s[k]])
	}
	t.start, t.end = i, j
	t.flush()
}

// room makes sure that the next word fits into text without moving what is there: earlier tokens point into it.
func (t *tokenizer) room() {
	if t.text.Cap()-t.text.Len() < MaxToken {
		t.text = strings.Builder{}
		t.text.Grow(min(max(len(t.s)/4, 2*MaxToken), 64<<10))
		t.word = 0
	}
}

// flush ends the word being built, if there is one.
func (t *tokenizer) flush() {
	if t.text.Len() > t.word {
		t.dst = append(t.dst, Token{t.text.String()[t.word:], len(t.dst) - t.first, t.start, t.end, t.marked})
		t.word = t.text.Len()
		t.marked = false
	}
}

// add puts one folded character, which stands in s[i:j], where its class says.
func (t *tokenizer) add(r rune, c class, i, j int) {
	if c == separator {
		t.flush()
		return
	}
	if c == single || t.text.Len()-t.word+utf8.RuneLen(r) > MaxToken {
		t.flush()
	}
	if t.text.Len() == t.word {
		t.room()
		t.start = i
	}
	t.text.WriteRune(r)
	t.end = j
	if c == single {
		t.flush()
	}
}

// letters is add for a few letters at once, which marked says are not exact.
func (t *tokenizer) letters(s string, marked bool, i, j int) {
	have := t.text.Len() - t.word
	switch {
	case have+len(s) > MaxToken || s == "":
		for _, r := range s {
			t.add(r, letter, i, j)
			t.marked = t.marked || marked
		}
		return
	case have == 0:
		t.room()
		t.start = i
	}
	t.text.WriteString(s)
	t.marked = t.marked || marked
	t.end = j
}

// unicode reads on from i, the start of a word with characters beyond ASCII, to the next ASCII separator, and returns where that is.
func (t *tokenizer) unicode(i int) int {
	common := commonFolds()
	for i < len(t.s) {
		if c := t.s[i]; c < utf8.RuneSelf {
			if lower[c] == 0 {
				break
			}
			if i+1 == len(t.s) || t.s[i+1] < utf8.RuneSelf {
				t.add(rune(lower[c]), letter, i, i+1)
				i++
				continue
			}
		}
		r, n := utf8.DecodeRuneInString(t.s[i:])
		if r == utf8.RuneError && n <= 1 {
			t.flush()
			i++
			continue
		}
		// Most characters fold by themselves. The rest, and those that the next one may belong to, take the long way.
		if standsAlone(t.s[i+n:]) {
			if known := common.find(r); known != nil && known.class != unknown {
				if known.class == letter {
					t.letters(known.text, known.marked, i, i+n)
				} else {
					for _, q := range known.text {
						t.add(q, known.class, i, i+n)
					}
				}
				i += n
				continue
			}
			if plainEastAsian(r) {
				t.flush()
				t.dst = append(t.dst, Token{t.s[i : i+n], len(t.dst) - t.first, i, i + n, false})
				i += n
				continue
			}
		}
		n = clusterLen(t.s[i:])
		for _, q := range string(t.folded.cluster(t.s[i : i+n])) {
			t.add(q, classOf(q), i, i+n)
			t.marked = t.marked || t.folded.marked && t.text.Len() > t.word
		}
		i += n
	}
	t.flush()
	return i
}

// Exact gives the exact form of a word: folded as Tokens does, but with its accents, and its ligatures and letters with an accent built in
// as they are (straße, not strasse). It is the same however the word is composed.
func Exact(word string) string {
	var f folder
	dst := make([]byte, 0, len(word)+8)
	for i := 0; i < len(word); {
		n := clusterLen(word[i:])
		dst = append(dst, f.exact(word[i:i+n])...)
		i += n
	}
	return string(dst)
}

// Variant is the term that a marked word has beside its folded one, at the same position: it names the exact form of an occurrence. All
// variants of one word begin with VariantsOf it; no word begins so.
func Variant(folded, exact string) string { return VariantsOf(folded) + exact }

// VariantsOf is what all variants of a folded word begin with.
func VariantsOf(folded string) string { return "\x00" + folded + "\x00" }

// IsVariant tells a variant from a word.
func IsVariant(term string) bool { return term != "" && term[0] == 0 }

// MaxWords bounds the different terms, words and variants, of one field of one document. No language has so many: a message with more is
// machine-made, and would take gigabytes of memory. What comes first after that many is left out, and the document is partial.
const MaxWords = 1 << 18
