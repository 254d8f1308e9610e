package archive_test

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-archive/holdfast/archive"
)

// A damaged catalog is made again: by the start that meets the damage, or where it is met later, by the next.
func TestADamagedCatalogIsMadeAgain(t *testing.T) {
	b := newBench(t, false)
	b.fill(300)
	b.drain()
	path := filepath.Join(b.dir, "data", "catalog.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	var spoilt [][]byte
	for at := 2 * page; at < len(whole); at += page { // the first two are checked by bbolt
		other := bytes.Clone(whole)
		for i := range page {
			other[at+i] = 0xff
		}
		spoilt = append(spoilt, other, whole[:at])
	}
	met := 0
	for _, text := range spoilt {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for try := 0; ; try++ {
			a, err := b.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for id := range b.bodies {
				var ok bool
				if ok, err = a.Has(id); err != nil || !ok {
					err = cmp.Or(err, archive.ErrNotFound)
					break
				}
			}
			a.Close(t.Context())
			if err == nil {
				break
			}
			if met++; try > 0 {
				t.Fatal(err)
			}
		}
	}
	if met == 0 {
		t.Error("no damage was met after the start")
	}
}
