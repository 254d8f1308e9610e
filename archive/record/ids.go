package record

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// ErrIDs is returned for text that is no set of ids.
var ErrIDs = errors.New("not a set of record ids")

// MaxIDs is how many ids one act may carry: its document is held in memory, some 22 bytes for each.
const MaxIDs = 2_000_000

// IDs is a set of records: in ascending order, each once. Its text, as an act has it, is the ids' bytes (16 each), joined, in base64 (RFC
// 4648, with padding). A set is not changed once it is made: Union and Minus give new ones.
type IDs []ID

// NewIDs makes a set of what is in a list, in any order. The list is used and must not be changed afterwards.
func NewIDs(list []ID) IDs {
	if !slices.IsSortedFunc(list, ID.Compare) {
		slices.SortFunc(list, ID.Compare)
	}
	return IDs(slices.Compact(list))
}

// Has says whether a record is in the set.
func (s IDs) Has(id ID) bool {
	_, ok := slices.BinarySearchFunc(s, id, ID.Compare)
	return ok
}

// Union gives what is in either.
func (s IDs) Union(other IDs) IDs {
	switch {
	case len(other) == 0:
		return s
	case len(s) == 0:
		return other
	case s[len(s)-1].Compare(other[0]) < 0: // what comes later
		return append(s[:len(s):len(s)], other...)
	}
	out := make(IDs, 0, len(s)+len(other))
	for len(s) > 0 && len(other) > 0 {
		switch c := s[0].Compare(other[0]); {
		case c < 0:
			out, s = append(out, s[0]), s[1:]
		case c > 0:
			out, other = append(out, other[0]), other[1:]
		default:
			out, s, other = append(out, s[0]), s[1:], other[1:]
		}
	}
	return append(append(out, s...), other...)
}

// Minus gives what is in s and not in other.
func (s IDs) Minus(other IDs) IDs {
	if len(s) == 0 || len(other) == 0 {
		return s
	}
	out := make(IDs, 0, len(s))
	for _, id := range s {
		for len(other) > 0 && other[0].Compare(id) < 0 {
			other = other[1:]
		}
		if len(other) == 0 || other[0] != id {
			out = append(out, id)
		}
	}
	return out
}

// MarshalText implements encoding.TextMarshaler.
func (s IDs) MarshalText() ([]byte, error) {
	raw := make([]byte, 0, len(s)*len(ID{}))
	for i := range s {
		raw = append(raw, s[i][:]...)
	}
	return base64.StdEncoding.AppendEncode(nil, raw), nil
}

// UnmarshalText implements encoding.TextUnmarshaler: ErrIDs for what MarshalText does not write.
func (s *IDs) UnmarshalText(text []byte) error {
	raw := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(raw, text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIDs, err)
	}
	if n%len(ID{}) != 0 {
		return fmt.Errorf("%w: %d bytes", ErrIDs, n)
	}
	list := make(IDs, n/len(ID{}))
	for i := range list {
		list[i] = ID(raw[i*len(ID{}):])
		if i > 0 && list[i-1].Compare(list[i]) >= 0 {
			return fmt.Errorf("%w: not in order", ErrIDs)
		}
	}
	*s = list
	return nil
}
