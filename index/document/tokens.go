package document

import (
	"strings"
	"unicode/utf8"
	"unsafe"
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
// call it or Each, so that a word is the same word to each of them. Positions count from 0 in every call. s may be any bytes; what is not
// UTF-8 separates words. Token texts may share memory with s. The time is linear in len(s). Safe for concurrent use.
func Tokens(dst []Token, s string) []Token {
	t := tokenizer{s: s}
	var texts strings.Builder // tokens share its memory
	t.run(func(token *Token) {
		if n := len(token.Text); t.own {
			if texts.Cap()-texts.Len() < n { // what is there must not move
				texts = strings.Builder{}
				texts.Grow(min(max(len(s)/4, 2*MaxToken), 64<<10))
			}
			texts.WriteString(token.Text)
			token.Text = texts.String()[texts.Len()-n:]
		}
		dst = append(dst, *token)
	})
	return dst
}

// Each calls do for each token that Tokens would give, one after the other, and returns how many there are. The token is valid, its text
// too, until do returns: a text of any length takes no memory beside itself. Safe for concurrent use.
func Each(s string, do func(*Token)) int {
	t := tokenizer{s: s}
	t.run(do)
	return t.token.Position
}

// run goes through all of s.
func (t *tokenizer) run(do func(*Token)) {
	t.do = do
	s := t.s
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
			t.emit(s[start:i], start, i)
		default:
			for j := start; j < i; j += MaxToken {
				t.ascii(j, min(j+MaxToken, i))
			}
		}
	}
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
	do    func(*Token)
	token Token // the one that do is called with, and the position of the next
	own   bool  // its text lies in word, where the next one will be
	s     string

	word       []byte // the word being built, folded
	start, end int    // where it stands in s
	marked     bool   // an accent of it was folded away
	folded     folder
	short      [2 * MaxToken]byte // word lies here
}

// emit hands over a token, which is a part of s as it is.
func (t *tokenizer) emit(text string, start, end int) {
	t.own = false
	t.hand(text, start, end, false)
}

func (t *tokenizer) hand(text string, start, end int, marked bool) {
	t.token.Text, t.token.Start, t.token.End, t.token.Marked = text, start, end, marked
	t.do(&t.token)
	t.token.Position++
}

// ascii adds s[i:j], which is letters and digits.
func (t *tokenizer) ascii(i, j int) {
	t.word = t.short[:j-i]
	for k := range t.word {
		t.word[k] = lower[t.s[i+k]]
	}
	t.start, t.end = i, j
	t.flush()
}

// flush ends the word being built, if there is one.
func (t *tokenizer) flush() {
	if len(t.word) > 0 {
		t.own = true
		t.hand(unsafe.String(unsafe.SliceData(t.word), len(t.word)), t.start, t.end, t.marked) // until the next word is built
		t.word = t.short[:0]
		t.marked = false
	}
}

// add puts one folded character, which stands in s[i:j], where its class says.
func (t *tokenizer) add(r rune, c class, i, j int) {
	if c == separator {
		t.flush()
		return
	}
	if c == single || len(t.word)+utf8.RuneLen(r) > MaxToken {
		t.flush()
	}
	if len(t.word) == 0 {
		t.start = i
	}
	t.word = utf8.AppendRune(t.word, r)
	t.end = j
	if c == single {
		t.flush()
	}
}

// letters is add for a few letters at once, which marked says are not exact.
func (t *tokenizer) letters(s string, marked bool, i, j int) {
	switch {
	case len(t.word)+len(s) > MaxToken || s == "":
		for _, r := range s {
			t.add(r, letter, i, j)
			t.marked = t.marked || marked
		}
		return
	case len(t.word) == 0:
		t.start = i
	}
	t.word = append(t.word, s...)
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
				t.emit(t.s[i:i+n], i, i+n)
				i += n
				continue
			}
		}
		n = clusterLen(t.s[i:])
		for _, q := range string(t.folded.cluster(t.s[i : i+n])) {
			t.add(q, classOf(q), i, i+n)
			t.marked = t.marked || t.folded.marked && len(t.word) > 0
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
