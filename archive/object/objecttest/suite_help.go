package objecttest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-archive/holdfast/archive/object"
)

func create(t *testing.T, s object.Store, key, body string) {
	t.Helper()
	if _, err := s.Create(t.Context(), key, strings.NewReader(body), object.Lock{}); err != nil {
		t.Fatalf("Create(%q): %v", key, err)
	}
}

func createAll(t *testing.T, s object.Store, keys []string) []string {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(racers)
	for _, k := range keys {
		g.Go(func() error {
			_, err := s.Create(ctx, k, strings.NewReader(k), object.Lock{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return keys
}

func read(t *testing.T, s object.Store, key string) string {
	t.Helper()
	return readRange(t, s, key, 0, -1)
}

func readRange(t *testing.T, s object.Store, key string, off, n int64) string {
	t.Helper()
	r, err := s.Open(t.Context(), key, off, n)
	if err != nil {
		t.Fatalf("Open(%q, %d, %d): %v", key, off, n, err)
	}
	defer r.Close()
	return drain(t, r)
}

func drain(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}

func checkList(t *testing.T, s object.Store, prefix, after string, want []string) {
	t.Helper()
	var got []string
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatalf("List(%q, %q): %v", prefix, after, err)
		}
		got = append(got, info.Key)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("List(%q, %q):\n%s", prefix, after, difference(got, want))
	}
}

// difference shows two lists where they begin to differ.
func difference(got, want []string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	few := func(s []string) []string { return s[min(i, len(s)):min(i+10, len(s))] }
	return fmt.Sprintf("%d keys, want %d; from number %d on\n got %q\nwant %q", len(got), len(want), i, few(got), few(want))
}

// randomKeys gives keys of few letters, so that they meet often. None is the folder of another.
func randomKeys(seed int64, n int) []string {
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	const letters = "ab-+0 ~é"
	runes := []rune(letters)
	folders, objects := map[string]bool{}, map[string]bool{}
next:
	for len(objects) < n {
		var segments []string
		for range 1 + rng.IntN(3) {
			var b strings.Builder
			for range 1 + rng.IntN(3) {
				b.WriteRune(runes[rng.IntN(len(runes))])
			}
			segments = append(segments, "x"+b.String()+"y") // no space at an end, no lone sign
		}
		key := strings.Join(segments, "/")
		if folders[key] {
			continue
		}
		for i := range segments[1:] {
			if objects[strings.Join(segments[:i+1], "/")] {
				continue next
			}
		}
		for i := range segments[1:] {
			folders[strings.Join(segments[:i+1], "/")] = true
		}
		objects[key] = true
	}
	keys := make([]string, 0, n)
	for k := range objects {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
