package message

import (
	"hash/maphash"
	"strings"
	"unicode"
	"unicode/utf8"
)

// said remembers what a text says: its words, and for scripts that don't set words apart every sequence of up to three characters. It
// tells which lines of an alternative say something more.
type said struct {
	seed  maphash.Seed
	words map[uint64]struct{}
}

// maxSaid bounds the memory. What more a text says counts as not said: it is kept twice rather than not at all.
const maxSaid = 1 << 18

func newSaid() *said {
	return &said{maphash.MakeSeed(), map[uint64]struct{}{}}
}

func (s *said) add(text string) {
	s.each(text, 1, func(h uint64) bool {
		if len(s.words) < maxSaid {
			s.words[h] = struct{}{}
		}
		return true
	})
}

// has says that all which a line says was said.
func (s *said) has(line string) bool {
	all := true
	s.each(line, gram, func(h uint64) bool {
		_, ok := s.words[h]
		all = all && ok
		return ok
	})
	return all
}

const gram = 3

// each calls f with the words of text, and with the sequences of shortest to gram unspaced characters (shorter ones only where the whole
// run is shorter), until it returns false. Blanks and punctuation between unspaced characters don't count.
func (s *said) each(text string, shortest int, f func(uint64) bool) {
	var run [gram]string // the last unspaced characters
	n := 0
	end := func() bool {
		if n > 0 && n < shortest {
			return f(s.hash(strings.Join(run[gram-n:], "")))
		}
		return true
	}
	word := -1
	for i := 0; i <= len(text); {
		r, size := rune(' '), 1
		if i < len(text) {
			if r = rune(text[i]); r >= utf8.RuneSelf {
				r, size = utf8.DecodeRuneInString(text[i:])
			}
		}
		between := isBetween(r)
		unspaced := !between && isUnspaced(r)
		if between || unspaced {
			if word >= 0 {
				if !end() || !f(s.hash(text[word:i])) {
					return
				}
				n = 0
			}
			word = -1
			if unspaced {
				copy(run[:], run[1:])
				run[gram-1] = text[i : i+size]
				n++
				for k := shortest; k <= min(n, gram); k++ {
					if !f(s.hash(strings.Join(run[gram-k:], ""))) {
						return
					}
				}
			}
		} else if word < 0 {
			word = i
		}
		i += size
	}
	end()
}

func (s *said) hash(word string) uint64 { return maphash.String(s.seed, word) }

// isBetween says that r separates words. What is not seen (joiners, soft hyphen) does not: a word with it is another word here.
func isBetween(r rune) bool {
	if r < utf8.RuneSelf {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
	}
	return unicode.IsPunct(r) || unicode.IsSpace(r)
}

// isUnspaced says that r is of a script that does not set words apart. Which scripts index/document takes for such need not be the same:
// to be too careful here costs only space.
func isUnspaced(r rune) bool {
	return r >= 0xe00 && (r < 0xf00 || r >= 0x1000 && r < 0x10a0 || r >= 0x1780 && r < 0x1800 || r >= 0x2e80 && r < 0xa4d0 ||
		r >= 0xac00 && r < 0xd7a4 || r >= 0xf900 && r < 0xfb00 || r >= 0xff66 && r < 0xffa0 || r >= 0x20000 && r < 0x32000)
}
