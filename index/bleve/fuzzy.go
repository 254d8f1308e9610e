package bleve

import (
	"slices"
	"unicode/utf8"
)

// fuzzy is an automaton (segment.Automaton) of the words that differ from one by one change at most, as query.Expansion has it: a character
// more, less or other, or two neighbours that changed places. It reads terms byte by byte, so that a dictionary leaves out whole branches.
// Its states are made as they are needed. For one goroutine.
type fuzzy struct {
	word   []rune
	states []fuzzyState
	known  map[string]int // by key
	next   map[[2]int]int // by state and byte
}

// fuzzyState is a set of places in the word, and the bytes of a character that is not read whole. A place i is 3i where nothing has changed
// so far, 3i+1 after a change, and 3i+2 where the character behind i came first.
type fuzzyState struct {
	places  []int
	partial string
}

func newFuzzy(word string) *fuzzy {
	f := &fuzzy{word: []rune(word), known: map[string]int{}, next: map[[2]int]int{}}
	f.state(fuzzyState{places: f.close([]int{0})})
	return f
}

// close adds the places that are reached by leaving a character of the word out.
func (f *fuzzy) close(places []int) []int {
	for _, p := range places {
		if p%3 == 0 && p/3 < len(f.word) {
			places = append(places, p+3+1)
		}
	}
	slices.Sort(places)
	return slices.Compact(places)
}

func (f *fuzzy) state(s fuzzyState) int {
	key := make([]byte, 0, 3*len(s.places)+1+len(s.partial))
	for _, p := range s.places {
		key = utf8.AppendRune(key, rune(p))
	}
	key = append(append(key, 0xff), s.partial...)
	id, ok := f.known[string(key)]
	if !ok {
		id = len(f.states)
		f.states = append(f.states, s)
		f.known[string(key)] = id
	}
	return id
}

func (f *fuzzy) Start() int               { return 0 }
func (f *fuzzy) CanMatch(s int) bool      { return len(f.states[s].places) > 0 }
func (f *fuzzy) WillAlwaysMatch(int) bool { return false }

func (f *fuzzy) IsMatch(s int) bool {
	at := f.states[s]
	return at.partial == "" && slices.ContainsFunc(at.places, func(p int) bool { return p/3 == len(f.word) && p%3 < 2 })
}

func (f *fuzzy) Accept(s int, b byte) int {
	if to, ok := f.next[[2]int{s, int(b)}]; ok {
		return to
	}
	at := f.states[s]
	to := fuzzyState{places: at.places, partial: at.partial + string([]byte{b})}
	if utf8.FullRuneInString(to.partial) {
		r, _ := utf8.DecodeRuneInString(to.partial)
		to = fuzzyState{places: f.step(at.places, r)}
	}
	id := f.state(to)
	f.next[[2]int{s, int(b)}] = id
	return id
}

// step reads one character.
func (f *fuzzy) step(places []int, r rune) (out []int) {
	for _, p := range places {
		i, is := p/3, p/3 < len(f.word) && f.word[p/3] == r
		switch p % 3 {
		case 0:
			if is {
				out = append(out, p+3)
			}
			out = append(out, p+1) // one more
			if i < len(f.word) {
				out = append(out, p+3+1) // another
			}
			if i+1 < len(f.word) && f.word[i+1] == r {
				out = append(out, p+2)
			}
		case 1:
			if is {
				out = append(out, p+3)
			}
		case 2:
			if is {
				out = append(out, 3*(i+2)+1)
			}
		}
	}
	return f.close(out)
}
