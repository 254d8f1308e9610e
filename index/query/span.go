package query

import (
	"cmp"
	"slices"
	"sort"
)

// Span is where something stands in a text: the first and the last of its positions.
type Span struct{ First, Last uint32 }

// MaxSpans bounds the spans of one operand in one text that come of pairing others: those of a proximity within a proximity. A text with
// more is one of which the query can't say, and that makes it unknown. (What is found first would do for a yes, but not for a no.)
const MaxSpans = 1 << 16

// Places is where an operand stands in a text.
type Places struct {
	Spans  []Span // sorted by Compare, each once
	Enough bool   // there are more than MaxSpans; then the list is not whole
}

// none says that the operand stands nowhere.
func (p Places) none() bool { return len(p.Spans) == 0 && !p.Enough }

// Decide says whether a text meets the proximity, from where its operands stand; enough that there are too many places to say.
func (q Near) Decide(a, b Places) (yes, enough bool) {
	switch {
	case a.none(), b.none() && !q.Without:
		return false, false
	case a.Enough || b.Enough:
		return false, true
	}
	return q.meets(a.Spans, b.Spans), false
}

// Join gives where the proximity itself stands, from where its operands do: appended to dst.
func (q Near) Join(dst []Span, a, b Places) Places {
	if a.none() || b.none() && !q.Without {
		return Places{}
	}
	from, enough := len(dst), a.Enough || b.Enough
	q.pair(a.Spans, b.Spans, func(x, y Span) bool {
		if q.Without {
			dst = append(dst, x)
			return true
		}
		if len(dst)-from == MaxSpans {
			enough = true
			return false
		}
		dst = append(dst, Span{min(x.First, y.First), max(x.Last, y.Last)})
		return true
	})
	own := dst[from:]
	slices.SortFunc(own, Span.Compare)
	return Places{slices.Compact(own), enough}
}

// meets says whether any pair is near enough.
func (q Near) meets(a, b []Span) bool {
	found := false
	q.pair(a, b, func(Span, Span) bool {
		found = true
		return false
	})
	return found
}

// Certain says that a text that meets the proximity still does with more text put in: there is no NOT in it.
func (q Near) Certain() bool {
	certain := true
	Walk(q, func(q Query) bool {
		if n, ok := q.(Near); ok && n.Without {
			certain = false
		}
		return true
	})
	return certain
}

// pair calls hit with each pair that is near enough, or of Without with each of a that has no partner, until hit gives false.
func (q Near) pair(a, b []Span, hit func(x, y Span) bool) {
	if len(b) == 0 && !q.Without {
		return
	}
	n := uint32(q.N)
	byLast := b
	if !q.Ordered && !slices.IsSortedFunc(b, lastFirst) {
		byLast = slices.Clone(b)
		slices.SortFunc(byLast, lastFirst)
	}
	for _, x := range a {
		met := false
		// Behind x: those that begin within n of its end. a is not sorted by its ends, so each looks for its own.
		i := sort.Search(len(b), func(i int) bool { return b[i].First > x.Last })
		for ; i < len(b) && b[i].First-x.Last <= n && !(met && q.Without); i++ {
			met = true
			if !q.Without && !hit(x, b[i]) {
				return
			}
		}
		if !q.Ordered {
			i = sort.Search(len(byLast), func(i int) bool { return byLast[i].Last+n >= x.First })
			for ; i < len(byLast) && byLast[i].Last < x.First && !(met && q.Without); i++ {
				met = true
				if !q.Without && !hit(x, byLast[i]) {
					return
				}
			}
		}
		if q.Without && !met && !hit(x, x) {
			return
		}
	}
}

// Compare orders spans by where they begin, and then by where they end.
func (s Span) Compare(t Span) int {
	return cmp.Or(cmp.Compare(s.First, t.First), cmp.Compare(s.Last, t.Last))
}

func lastFirst(s, t Span) int { return cmp.Compare(s.Last, t.Last) }

// Union gives where one of several operands stands: appended to dst.
func Union(dst []Span, list ...Places) Places {
	from, enough := len(dst), false
	for _, p := range list {
		dst = append(dst, p.Spans...)
		enough = enough || p.Enough
	}
	own := dst[from:]
	if len(list) > 1 {
		slices.SortFunc(own, Span.Compare)
		own = slices.Compact(own)
	}
	return Places{own, enough}
}

// Except appends to dst the positions of all that are not in out; both ascend.
func Except(dst, all, out []uint32) []uint32 {
	for _, p := range all {
		for len(out) > 0 && out[0] < p {
			out = out[1:]
		}
		if len(out) == 0 || out[0] != p {
			dst = append(dst, p)
		}
	}
	return dst
}

// Consecutive appends to dst where a position of the first list is followed by one of the second, and so on. All lists ascend.
func Consecutive(dst []Span, lists [][]uint32) []Span {
	if len(lists) == 0 {
		return dst
	}
	from := len(dst)
	for _, p := range lists[0] {
		dst = append(dst, Span{p, p})
	}
	for _, next := range lists[1:] {
		kept, at := dst[:from], 0
		for _, s := range dst[from:] {
			for at < len(next) && next[at] <= s.Last {
				at++
			}
			if at < len(next) && next[at] == s.Last+1 {
				kept = append(kept, Span{s.First, s.Last + 1})
			}
		}
		if dst = kept; len(dst) == from {
			break
		}
	}
	return dst
}
