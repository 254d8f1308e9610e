package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// objectKinds are what a store holds, by their keys.
var objectKinds = map[string]*regexp.Regexp{
	"pack":       regexp.MustCompile(`^packs/`),
	"commit":     regexp.MustCompile(`^ledger/[^/]+/commit/`),
	"tile":       regexp.MustCompile(`^ledger/[^/]+/tile/`),
	"checkpoint": regexp.MustCompile(`^ledger/[^/]+/checkpoint$`),
}

// One flipped byte anywhere in the archive is found, and the object named; so is one that is gone. What no entry names is listed.
func TestVerifyNamesWhatWasTamperedWith(t *testing.T) {
	t.Parallel()
	for name, init := range map[string][]string{"clear": nil, "encrypted": {"--encrypt", "--no-escrow"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := seeded(t)
			h := install(t, settings{mode: "journal", init: init})
			h.start()
			for round := range 4 { // several packs and commits
				c := h.dial()
				for i := range 20 {
					c.begin(t, "ada@origin.test", "journal@archive.test")
					if reply := c.data(t, letter(rng, fmt.Sprintf("letter %d of round %d", i, round), 500+rng.IntN(5000))); reply[0] != '2' {
						t.Fatal(reply)
					}
				}
				h.settle()
			}
			h.stop()
			h.mustVerify()
			objects := h.objects()
			for kind, pattern := range objectKinds {
				var keys []string
				for _, key := range slices.Sorted(maps.Keys(objects)) {
					if pattern.MatchString(key) {
						keys = append(keys, key)
					}
				}
				if least := map[string]int{"pack": 4, "commit": 6, "tile": 2, "checkpoint": 2}[kind]; len(keys) < least {
					t.Fatalf("only %d objects of kind %s: %v", len(keys), kind, keys)
				}
				for range 4 {
					h.flip(rng, keys[rng.IntN(len(keys))])
				}
				if kind == "pack" || kind == "commit" {
					for _, key := range keys {
						h.delete(key)
					}
				}
			}
			h.mustVerify()
			h.addOrphan(objects)
		})
	}
}

// named says whether a list of findings has a key.
func named(list []struct{ Key, What string }, key string) bool {
	return slices.ContainsFunc(list, func(f struct{ Key, What string }) bool { return f.Key == key && f.What != "" })
}

// flip changes one byte of an object, demands that verify names it, and puts it right again.
func (h *holdfast) flip(rng *rand.Rand, key string) {
	h.t.Helper()
	path := h.objects()[key]
	whole, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	bad := slices.Clone(whole)
	at, by := rng.IntN(len(bad)), byte(1+rng.IntN(255))
	bad[at] ^= by
	overwrite(h, path, bad)
	defer overwrite(h, path, whole)
	if r, code := h.verify(); code != 1 || r.OK || !named(r.Altered, key) {
		h.t.Errorf("byte %d of %s was changed by %#x: exit %d, %+v", at, key, by, code, r)
	}
}

func (h *holdfast) delete(key string) {
	h.t.Helper()
	path := h.objects()[key]
	whole, err := os.ReadFile(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	defer overwrite(h, path, whole)
	if r, code := h.verify(); code != 1 || r.OK || !named(r.Missing, key) {
		h.t.Errorf("%s was deleted: exit %d, %+v", key, code, r)
	}
}

// addOrphan puts a pack there that no entry names, as a crash between upload and commit does. It is listed and no fault.
func (h *holdfast) addOrphan(objects map[string]string) {
	h.t.Helper()
	for key, path := range objects {
		if !objectKinds["pack"].MatchString(key) {
			continue
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			h.t.Fatal(err)
		}
		orphan := strings.Replace(key, "main-", "main-9", 1)
		overwrite(h, filepath.Join(filepath.Dir(path), filepath.Base(orphan)), whole)
		if r, code := h.verify(); code != 0 || !r.OK || len(r.Orphans) != 1 || !named(r.Orphans, orphan) {
			h.t.Errorf("%s is an orphan: exit %d, %+v", orphan, code, r)
		}
		if out, code := h.try("verify"); code != 0 || !strings.Contains(out, "orphan "+orphan+": ") || !strings.Contains(out, "all well") {
			h.t.Errorf("exit %d: %s", code, out)
		}
		return
	}
	h.t.Fatal("no pack")
}

func overwrite(h *holdfast, path string, content []byte) {
	h.t.Helper()
	os.Remove(path) // objects are not writable
	if err := os.WriteFile(path, content, 0o400); err != nil {
		h.t.Fatal(err)
	}
}
