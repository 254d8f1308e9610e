package object_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Mend gives an object its right bytes, whatever is there, and no others.
func TestMend(t *testing.T) {
	for name, url := range map[string]string{"file": "file:" + t.TempDir(), "s3": objecttest.StartS3(t).URL} {
		t.Run(name, func(t *testing.T) {
			s, err := object.Open(t.Context(), url, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			m, err := object.OpenMender(t.Context(), url, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := create(s, "packs/x", "damaged"); err != nil {
				t.Fatal(err)
			}
			right := record.Sum([]byte("right"))
			if err := m.Mend(t.Context(), "packs/x", strings.NewReader("wrong"), right, object.Lock{}); !errors.Is(err, object.ErrMismatch) {
				t.Errorf("with other bytes: %v", err)
			}
			if got := readAll(t, s, "packs/x"); got != "damaged" {
				t.Errorf("it has %q", got)
			}
			for _, key := range []string{"packs/x", "packs/x", "packs/absent"} {
				if err := m.Mend(t.Context(), key, strings.NewReader("right"), right, object.Lock{}); err != nil {
					t.Errorf("%s: %v", key, err)
				}
				if got := readAll(t, s, key); got != "right" {
					t.Errorf("%s has %q", key, got)
				}
			}
			if err := m.Mend(t.Context(), "../x", strings.NewReader("right"), right, object.Lock{}); !errors.Is(err, object.ErrKey) {
				t.Errorf("a bad key: %v", err)
			}
		})
	}
}
