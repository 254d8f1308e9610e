package objecttest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Run checks that a store keeps the contract of package object. open gives a fresh, empty store for each part.
func Run(t *testing.T, open func(t *testing.T) object.Keeper) {
	for _, part := range []struct {
		name string
		run  func(t *testing.T, s object.Keeper)
	}{
		{"create", testCreate},
		{"create again", testCreateAgain},
		{"create reads from the start", testCreateFromStart},
		{"create with a body that fails", testCreateBadBody},
		{"race with other bytes", testRaceOther},
		{"race with the same bytes", testRaceSame},
		{"empty object", testEmpty},
		{"large object", testLarge},
		{"ranges", testRanges},
		{"not found", testNotFound},
		{"keys", testKeys},
		{"a key under a key", testKeyUnderKey},
		{"list order", testListOrder},
		{"list of many", testListMany},
		{"list of random keys", testListRandom},
		{"replace", testReplace},
		{"versions", testVersions},
		{"protect", testProtect},
		{"context", testContext},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, open(t)) })
	}
}

func testCreate(t *testing.T, s object.Keeper) {
	ctx := t.Context()
	for key, body := range map[string]string{
		"a": "x", "packs/2031-03/2024/03/01/main-1-abc.tar.zst": "pack", "b/c c/ä+%&?#=@:~": "odd name", "d/" + strings.Repeat("e", 255): "long",
	} {
		before := time.Now()
		info, err := s.Create(ctx, key, strings.NewReader(body), object.Lock{})
		if err != nil {
			t.Fatalf("Create(%q): %v", key, err)
		}
		checkInfo(t, info, key, body, before)
		if got := read(t, s, key); got != body {
			t.Errorf("%q has %q, want %q", key, got, body)
		}
		info, err = s.Stat(ctx, key)
		if err != nil {
			t.Fatalf("Stat(%q): %v", key, err)
		}
		checkInfo(t, info, key, body, before)
	}
}

func checkInfo(t *testing.T, info object.Info, key, body string, after time.Time) {
	t.Helper()
	if info.Key != key || info.Size != int64(len(body)) || info.Marker {
		t.Errorf("%q: info is %+v", key, info)
	}
	if !info.SHA256.IsZero() && info.SHA256 != record.Sum([]byte(body)) {
		t.Errorf("%q: SHA-256 is %s", key, info.SHA256)
	}
	if info.Time.Location() != time.UTC || info.Time.Before(after.Add(-2*time.Second)) || info.Time.After(time.Now().Add(2*time.Second)) {
		t.Errorf("%q: time is %v, written after %v", key, info.Time, after.UTC())
	}
}

func testCreateAgain(t *testing.T, s object.Keeper) {
	ctx := t.Context()
	create(t, s, "dir/key", "first bytes")
	if info, err := s.Create(ctx, "dir/key", strings.NewReader("first bytes"), object.Lock{}); err != nil {
		t.Errorf("the same bytes again: %v", err)
	} else if info.Key != "dir/key" || info.Size != 11 {
		t.Errorf("the same bytes again: %+v", info)
	}
	for _, other := range []string{"other bytes", "first byte", "first bytes and more", ""} {
		if _, err := s.Create(ctx, "dir/key", strings.NewReader(other), object.Lock{}); !errors.Is(err, object.ErrConflict) {
			t.Errorf("Create with %q: %v, want ErrConflict", other, err)
		} else if !strings.Contains(err.Error(), "dir/key") {
			t.Errorf("the error does not name the key: %v", err)
		}
	}
	if got := read(t, s, "dir/key"); got != "first bytes" {
		t.Errorf("after conflicts the object has %q", got)
	}
	checkList(t, s, "", "", []string{"dir/key"})
}

func testCreateFromStart(t *testing.T, s object.Keeper) {
	body := strings.NewReader("all of it")
	body.Seek(4, io.SeekStart)
	if _, err := s.Create(t.Context(), "key", body, object.Lock{}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, "key"); got != "all of it" {
		t.Errorf("object has %q", got)
	}
	body.Seek(0, io.SeekEnd)
	if _, err := s.Create(t.Context(), "key", body, object.Lock{}); err != nil {
		t.Errorf("again, from the end: %v", err)
	}
}

// badBody fails in the middle, or at once when it is asked to seek.
type badBody struct {
	io.ReadSeeker
	left int
}

var errBody = errors.New("the body can't be read")

func (b *badBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBody
	}
	n, err := b.ReadSeeker.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func testCreateBadBody(t *testing.T, s object.Keeper) {
	body := &badBody{bytes.NewReader(make([]byte, 300_000)), 200_000}
	if _, err := s.Create(t.Context(), "dir/key", body, object.Lock{}); !errors.Is(err, errBody) {
		t.Errorf("Create: %v, want the body's own error", err)
	}
	if _, err := s.Stat(t.Context(), "dir/key"); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("Stat after it: %v, want ErrNotFound", err)
	}
	checkList(t, s, "", "", nil)
	create(t, s, "dir/key", "now it works")
}

const racers = 16

func race(create func(i int) error) (errs [racers]error) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-start
			errs[i] = create(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func testRaceOther(t *testing.T, s object.Keeper) {
	for round := range 8 {
		key := fmt.Sprintf("ledger/x/commit/%d", round)
		body := func(i int) string { return strings.Repeat(fmt.Sprintf("%02d", i), 1+1000*(round%2)) }
		errs := race(func(i int) error {
			_, err := s.Create(t.Context(), key, strings.NewReader(body(i)), object.Lock{})
			return err
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("%s: %d and %d both won", key, winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, object.ErrConflict):
				t.Errorf("%s: loser %d: %v, want ErrConflict", key, i, err)
			}
		}
		if winner < 0 {
			t.Fatalf("%s: nobody won", key)
		}
		if got := read(t, s, key); got != body(winner) {
			t.Errorf("%s: the object is not that of the winner", key)
		}
		if vs, err := s.Versions(t.Context(), key); err != nil || len(vs) != 1 {
			t.Errorf("%s: %d versions, %v", key, len(vs), err)
		}
	}
}

func testRaceSame(t *testing.T, s object.Keeper) {
	for i, err := range race(func(int) error {
		_, err := s.Create(t.Context(), "deep/er/folder/key", strings.NewReader("same"), object.Lock{})
		return err
	}) {
		if err != nil {
			t.Errorf("creator %d: %v", i, err)
		}
	}
	if got := read(t, s, "deep/er/folder/key"); got != "same" {
		t.Errorf("object has %q", got)
	}
}

func testEmpty(t *testing.T, s object.Keeper) {
	create(t, s, "empty", "")
	create(t, s, "empty", "")
	for _, n := range []int64{-1, 0} {
		if got := readRange(t, s, "empty", 0, n); got != "" {
			t.Errorf("%d bytes: %q", n, got)
		}
	}
	for _, r := range [][2]int64{{0, 1}, {1, -1}, {1, 0}, {-1, -1}} {
		if _, err := s.Open(t.Context(), "empty", r[0], r[1]); !errors.Is(err, object.ErrRange) {
			t.Errorf("%v: %v, want ErrRange", r, err)
		}
	}
	if info, err := s.Stat(t.Context(), "empty"); err != nil || info.Size != 0 {
		t.Errorf("Stat: %+v, %v", info, err)
	}
	if _, err := s.Create(t.Context(), "empty", strings.NewReader("x"), object.Lock{}); !errors.Is(err, object.ErrConflict) {
		t.Errorf("bytes over the empty object: %v, want ErrConflict", err)
	}
}

func testLarge(t *testing.T, s object.Keeper) {
	body := make([]byte, 20<<20+7)
	rand.Read(body)
	create(t, s, "large", string(body))
	if got := read(t, s, "large"); got != string(body) {
		t.Error("read: other bytes")
	}
	off, n := int64(7<<20+1), int64(5<<20)
	if got := readRange(t, s, "large", off, n); got != string(body[off:off+n]) {
		t.Error("range: other bytes")
	}
	create(t, s, "large", string(body))
	body[len(body)-1] ^= 1
	if _, err := s.Create(t.Context(), "large", bytes.NewReader(body), object.Lock{}); !errors.Is(err, object.ErrConflict) {
		t.Errorf("last bit flipped: %v, want ErrConflict", err)
	}
}

func testRanges(t *testing.T, s object.Keeper) {
	const body = "0123456789"
	create(t, s, "key", body)
	for off := int64(-2); off <= 12; off++ {
		for n := int64(-2); n <= 12; n++ {
			want, bad := "", off < 0 || off > 10 || n > 10-off
			if !bad && n < 0 {
				want = body[off:]
			} else if !bad {
				want = body[off : off+n]
			}
			r, err := s.Open(t.Context(), "key", off, n)
			switch {
			case bad && !errors.Is(err, object.ErrRange):
				t.Errorf("Open(%d, %d): %v, want ErrRange", off, n, err)
			case !bad && err != nil:
				t.Errorf("Open(%d, %d): %v", off, n, err)
			case !bad:
				if got := drain(t, r); got != want {
					t.Errorf("Open(%d, %d): %q, want %q", off, n, got, want)
				}
			}
			if err == nil {
				r.Close()
			}
		}
	}
	const most = 1<<63 - 1
	for _, r := range [][2]int64{{5, most}, {most, -1}, {most, most}, {0, most}, {-most, 1}} {
		if _, err := s.Open(t.Context(), "key", r[0], r[1]); !errors.Is(err, object.ErrRange) {
			t.Errorf("Open(%d, %d): %v, want ErrRange", r[0], r[1], err)
		}
	}
}

func testNotFound(t *testing.T, s object.Keeper) {
	create(t, s, "dir/there", "x")
	for _, key := range []string{"absent", "dir", "dir/absent", "dir/there/below", "no/such/folder/at/all"} {
		for _, r := range [][2]int64{{0, -1}, {0, 0}, {5, 5}, {0, 1}} {
			if _, err := s.Open(t.Context(), key, r[0], r[1]); !errors.Is(err, object.ErrNotFound) {
				t.Errorf("Open(%q, %v): %v, want ErrNotFound", key, r, err)
			}
		}
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("Stat(%q): %v, want ErrNotFound", key, err)
		}
		if vs, err := s.Versions(t.Context(), key); err != nil || len(vs) != 0 {
			t.Errorf("Versions(%q): %v, %v, want none", key, vs, err)
		}
		if _, err := s.OpenVersion(t.Context(), key, "", 0, -1); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("OpenVersion(%q): %v, want ErrNotFound", key, err)
		}
	}
	checkList(t, s, "absent", "", nil)
	checkList(t, s, "absent/", "", nil)
	checkList(t, s, "dir/there/", "", nil)
}

func testKeys(t *testing.T, s object.Keeper) {
	ctx := t.Context()
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", "..", "../a", "a/..", "a/../b", ".", "a/./b", ".tmp/a", "a/.hidden", "a\x00b", "a\nb", "a\x7fb", "a\\b",
		"a\xffb", "a\u0085b", strings.Repeat("a", 256), strings.Repeat("a/", 600) + "a",
	} {
		_, create := s.Create(ctx, key, strings.NewReader("x"), object.Lock{})
		_, open := s.Open(ctx, key, 0, -1)
		_, version := s.OpenVersion(ctx, key, "", 0, -1)
		_, stat := s.Stat(ctx, key)
		_, versions := s.Versions(ctx, key)
		replace := s.Replace(ctx, key, []byte("x"))
		for name, err := range map[string]error{
			"Create": create, "Open": open, "OpenVersion": version, "Stat": stat, "Versions": versions, "Replace": replace,
		} {
			if !errors.Is(err, object.ErrKey) {
				t.Errorf("%s(%.30q): %v, want ErrKey", name, key, err)
			}
		}
	}
	for _, prefix := range []string{"/", "a//", "../", "a/../", "a\x00"} {
		var last error
		for _, err := range s.List(ctx, prefix, "") {
			last = err
		}
		if !errors.Is(last, object.ErrKey) {
			t.Errorf("List(%q): %v, want ErrKey", prefix, last)
		}
	}
	checkList(t, s, "", "", nil)
}

// A folder can't have both, a bucket may: where it is refused, it is ErrKey and harms nothing.
func testKeyUnderKey(t *testing.T, s object.Keeper) {
	for _, pair := range [][2]string{{"a", "a/b"}, {"c/d/e", "c/d"}, {"f", "f/g/h"}} {
		create(t, s, pair[0], "first")
		if _, err := s.Create(t.Context(), pair[1], strings.NewReader("second"), object.Lock{}); err != nil && !errors.Is(err, object.ErrKey) {
			t.Errorf("%s beside %s: %v, want nil or ErrKey", pair[1], pair[0], err)
		}
		if got := read(t, s, pair[0]); got != "first" {
			t.Errorf("%s has %q", pair[0], got)
		}
	}
}
