package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
)

func testListOrder(t *testing.T, s object.Keeper) {
	keys := []string{
		"a-b", "a/b", "a/b-c", "a/b.d/e", "a/b0", "a/c/d", "a/c/e/f", "a/c-", "a/c0", "a0", "ab", "A/b", "a b/c", "a+/x", "b", "ä/ö", "zz/y", "a.b",
		"ledger/main/commit/9", "ledger/main/commit/10", "ledger/main-2/commit/1", "ledger/main/checkpoint",
	}
	for _, k := range keys {
		create(t, s, k, k)
	}
	checkAllLists(t, s, keys)

	// Whoever stops early is not called again, and the store is none the worse.
	for range s.List(t.Context(), "", "") {
		break
	}
	for info, err := range s.List(t.Context(), "a/c/", "") {
		if err != nil || info.Size != int64(len(info.Key)) || info.Time.IsZero() || info.Time.Location() != time.UTC {
			t.Errorf("List: %+v, %v", info, err)
		}
	}
}

// checkAllLists tries every beginning of every key as prefix, and with it every key, and what is a little before or after one, as after.
func checkAllLists(t *testing.T, s object.Keeper, keys []string) {
	t.Helper()
	keys = slices.Sorted(slices.Values(keys))
	prefixes := map[string]bool{"": true, "c": true, "a/c/e/f/": true}
	for _, k := range keys {
		for i := range k {
			if i > 0 && k[i-1] != '.' {
				prefixes[k[:i]] = true
			}
		}
		prefixes[k] = true
	}
	for prefix := range maps.Keys(prefixes) {
		checkList(t, s, prefix, "", under(keys, prefix, ""))
	}
	for i, k := range keys {
		for _, after := range []string{k, k + "/", k + "\x01", k[:len(k)/2]} {
			prefix := keys[(i*7)%len(keys)]
			prefix = prefix[:strings.LastIndexByte(prefix, '/')+1]
			checkList(t, s, "", after, under(keys, "", after))
			checkList(t, s, prefix, after, under(keys, prefix, after))
		}
	}
}

func under(keys []string, prefix, after string) (want []string) {
	for _, k := range keys {
		if strings.HasPrefix(k, prefix) && k > after {
			want = append(want, k)
		}
	}
	return want
}

func testListMany(t *testing.T, s object.Keeper) {
	const many = 2103 // more than two pages of S3
	var keys []string
	for i := range many {
		keys = append(keys, fmt.Sprintf("packs/%02d/%d", i%3, i))
	}
	createAll(t, s, keys)
	slices.Sort(keys)
	checkList(t, s, "", "", keys)
	checkList(t, s, "packs/", keys[999], keys[1000:])
	checkList(t, s, "packs/01", "packs/01/5", under(keys, "packs/01", "packs/01/5"))
}

func testListRandom(t *testing.T, s object.Keeper) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	checkAllLists(t, s, createAll(t, s, randomKeys(seed, 60)))
}

func testReplace(t *testing.T, s object.Keeper) {
	ctx := t.Context()
	for _, key := range []string{"state/users.age", "ledger/node-main/checkpoint"} {
		for _, body := range []string{"one", "a longer two", "", "3"} {
			if err := s.Replace(ctx, key, []byte(body)); err != nil {
				t.Fatalf("Replace(%s): %v", key, err)
			}
			if got := read(t, s, key); got != body {
				t.Errorf("%s has %q, want %q", key, got, body)
			}
		}
	}
	for _, key := range []string{"packs/a", "ledger/node-main/commit/0", "ledger/node-main/tile/0/000", "ledger/a/b/checkpoint", "checkpoint", "states/x"} {
		create(t, s, key, "kept")
		if err := s.Replace(ctx, key, []byte("other")); !errors.Is(err, object.ErrKey) {
			t.Errorf("Replace(%s): %v, want ErrKey", key, err)
		}
		if got := read(t, s, key); got != "kept" {
			t.Errorf("%s has %q", key, got)
		}
	}
	// A reader sees the old bytes or the new ones.
	bodies := map[string]bool{"3": true}
	for i := range 8 {
		bodies[strings.Repeat(string(rune('a'+i)), 3000*(i+1))] = true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := range bodies {
			if err := s.Replace(ctx, "state/users.age", []byte(b)); err != nil {
				t.Errorf("Replace: %v", err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		r, err := s.Open(ctx, "state/users.age", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err == nil && !bodies[string(got)] {
			t.Fatalf("a reader saw %d bytes that were never written", len(got))
		}
	}
}

func testVersions(t *testing.T, s object.Keeper) {
	ctx := t.Context()
	create(t, s, "dir/key", "x")
	create(t, s, "dir/key-2", "xx")
	create(t, s, "dir/kez/below", "xxx")
	vs, err := s.Versions(ctx, "dir/key")
	if err != nil || len(vs) != 1 || vs[0].Key != "dir/key" || vs[0].Size != 1 || vs[0].Marker {
		t.Fatalf("Versions: %+v, %v", vs, err)
	}
	for i := range 3 {
		if err := s.Replace(ctx, "state/x", bytes.Repeat([]byte{'x'}, i)); err != nil {
			t.Fatal(err)
		}
	}
	vs, err = s.Versions(ctx, "state/x")
	if err != nil || len(vs) != 1 && len(vs) != 3 {
		t.Fatalf("Versions after three times Replace: %+v, %v; want 1 or 3", vs, err)
	}
	for i, v := range vs {
		if v.Size != int64(2-i) {
			t.Errorf("version %d has %d bytes, want %d: the newest is first", i, v.Size, 2-i)
		}
		r, err := s.OpenVersion(ctx, "state/x", v.Version, 0, -1)
		if err != nil {
			t.Errorf("OpenVersion: %v", err)
			continue
		}
		if got := drain(t, r); int64(len(got)) != v.Size {
			t.Errorf("version %s has %d bytes, want %d", v.Version, len(got), v.Size)
		}
		r.Close()
	}
	counts := map[string]int{}
	for info, err := range s.ListVersions(ctx, "") {
		if err != nil {
			t.Fatalf("ListVersions: %v", err)
		}
		counts[info.Key]++
	}
	if want := map[string]int{"dir/key": 1, "dir/key-2": 1, "dir/kez/below": 1, "state/x": len(vs)}; !maps.Equal(counts, want) {
		t.Errorf("ListVersions: %v, want %v", counts, want)
	}
	if _, err := s.OpenVersion(ctx, "dir/key", "00000000000000000000000000", 0, -1); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("a version that is not there: %v, want ErrNotFound", err)
	}
}

// A store can lock or says that it can't; it never takes a lock and forgets it.
func testProtect(t *testing.T, s object.Keeper) {
	ctx := t.Context()
	until := time.Now().UTC().Truncate(time.Second).Add(2 * time.Second)
	lock := object.Lock{Mode: object.LockGovernance, Until: until}
	if _, err := s.Create(ctx, "locked", strings.NewReader("x"), lock); errors.Is(err, object.ErrUnsupported) {
		create(t, s, "plain", "x")
		for name, err := range map[string]error{"Extend": s.Extend(ctx, "plain", until), "Hold": s.Hold(ctx, "plain")} {
			if !errors.Is(err, object.ErrUnsupported) {
				t.Errorf("%s: %v, want ErrUnsupported", name, err)
			}
		}
		return
	} else if err != nil {
		t.Fatal(err)
	}
	stat := func(want object.Lock) {
		t.Helper()
		info, err := s.Stat(ctx, "locked")
		if err != nil || info.Lock != want {
			t.Errorf("lock is %+v, %v; want %+v", info.Lock, err, want)
		}
	}
	stat(lock)
	if err := s.Extend(ctx, "locked", until.Add(-time.Second)); err != nil {
		t.Errorf("Extend to earlier: %v", err)
	}
	stat(lock)
	lock.Until = until.Add(2 * time.Second)
	if err := s.Extend(ctx, "locked", lock.Until); err != nil {
		t.Errorf("Extend: %v", err)
	}
	stat(lock)
	lock.Hold = true
	if err := s.Hold(ctx, "locked"); err != nil {
		t.Errorf("Hold: %v", err)
	}
	stat(lock)
	for name, err := range map[string]error{"Extend": s.Extend(ctx, "absent", until), "Hold": s.Hold(ctx, "absent")} {
		if !errors.Is(err, object.ErrNotFound) {
			t.Errorf("%s of what is not there: %v, want ErrNotFound", name, err)
		}
	}
}

func testContext(t *testing.T, s object.Keeper) {
	body := strings.Repeat("0123456789abcdef", 1<<16)
	for range 4 { // larger than what buffers on the way may hold
		body += body
	}
	create(t, s, "key", body)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := s.Open(ctx, "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("reading after the context ended: %d bytes, %v", n, err)
	}
	_, create := s.Create(ctx, "new", strings.NewReader("x"), object.Lock{})
	_, open := s.Open(ctx, "key", 0, -1)
	_, stat := s.Stat(ctx, "key")
	_, versions := s.Versions(ctx, "key")
	replace := s.Replace(ctx, "state/x", []byte("x"))
	var list error
	for _, list = range s.List(ctx, "", "") {
	}
	for name, err := range map[string]error{
		"Create": create, "Open": open, "Stat": stat, "Versions": versions, "Replace": replace, "List": list,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	checkList(t, s, "", "", []string{"key"})
}
