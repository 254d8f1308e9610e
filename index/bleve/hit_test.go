package bleve

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/index"
)

func TestKeysHaveNoSeparator(t *testing.T) {
	for _, k := range []keys{{}, {-1, -1, -1}, {math.MaxInt64, math.MinInt64, 0}, {255, 1 << 40, -128}} {
		b := []byte(encodeKeys(k))
		if got, ok := decodeKeys(b); !ok || got != k || bytes.IndexByte(b, 0xff) >= 0 {
			t.Errorf("%v: %x, %v, %v", k, b, got, ok)
		}
	}
}

func TestNanosecondsAreBounded(t *testing.T) {
	for _, c := range []struct {
		t    time.Time
		want int64
	}{
		{time.Unix(0, 1), 1},
		{time.Unix(-1, 999_999_999), -1},
		{time.Time{}, -math.MaxInt64},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), math.MaxInt64},
	} {
		if got := nanoseconds(c.t); got != c.want {
			t.Errorf("%v: %d, want %d", c.t, got, c.want)
		}
	}
}

// FuzzDecodeHit: whatever stands on disk, what is read without an error reads the same again.
func FuzzDecodeHit(f *testing.F) {
	w := newWorld(f, 12)
	for range 10 {
		b := encodeHit(w.document(), w.IntN(2) == 0)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte{})
	f.Add(append([]byte{hitVersion, 0, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 64)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h index.Hit
		if err := decodeHit(b, &h); err != nil {
			if !errors.Is(err, index.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		d := documentOfHit(&h)
		var again index.Hit
		if err := decodeHit(encodeHit(d, h.Partial), &again); err != nil || !reflect.DeepEqual(h, again) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, again, h)
		}
	})
}
