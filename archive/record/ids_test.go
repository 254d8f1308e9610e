package record

import (
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestIDs holds the sets against maps.
func TestIDs(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	draw := func() (IDs, map[ID]bool) {
		var list []ID
		model := map[ID]bool{}
		for range rnd.IntN(12) {
			id := ID{0: byte(rnd.IntN(2)), 15: byte(rnd.IntN(10))}
			list, model[id] = append(list, id), true
		}
		return NewIDs(list), model
	}
	same := func(what string, got IDs, want map[ID]bool) {
		t.Helper()
		if !slices.Equal(got, IDs(slices.SortedFunc(maps.Keys(want), ID.Compare))) {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	for range 2000 {
		a, am := draw()
		b, bm := draw()
		before := slices.Clone(a)
		union, minus := maps.Clone(am), maps.Clone(am)
		for id := range bm {
			union[id] = true
			delete(minus, id)
			if a.Has(id) != am[id] {
				t.Fatalf("%v in %v", id, a)
			}
		}
		same("union", a.Union(b), union)
		same("union with later", a.Union(IDs{{0: 9}}), func() map[ID]bool { m := maps.Clone(am); m[ID{0: 9}] = true; return m }())
		same("minus", a.Minus(b), minus)
		if !slices.Equal(a, before) {
			t.Fatal("a set was changed")
		}
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var again IDs
		if err := json.Unmarshal(text, &again); err != nil || !slices.Equal(a, again) {
			t.Fatalf("%s gives %v, %v", text, again, err)
		}
	}
	for _, bad := range []string{"A", "AAAA", "!!!!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="} {
		if err := new(IDs).UnmarshalText([]byte(bad)); !errors.Is(err, ErrIDs) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
