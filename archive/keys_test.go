package archive_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
)

func create(t *testing.T, store *objecttest.Memory, keys string, encrypt bool) error {
	t.Helper()
	_, _, err := archive.Create(t.Context(), archive.InitOptions{Config: config(), Store: store, KeysDir: keys, Encrypt: encrypt, NoEscrow: encrypt, Now: time.Now()})
	return err
}

// Whatever files an init that was cut off has left, the next one goes on with them and changes none.
func TestInitGoesOnWithTheKeysThatAreThere(t *testing.T) {
	for n := range 4 {
		dir := t.TempDir()
		store := new(objecttest.Memory)
		store.SetFault(func(op objecttest.Op, _ string) objecttest.Fault {
			if op == objecttest.OpCreate {
				return objecttest.Fault{Before: objecttest.ErrFault}
			}
			return objecttest.Fault{}
		})
		if err := create(t, store, dir, true); err == nil {
			t.Fatal("made without a store")
		}
		store.SetFault(nil)
		names := []string{"ledger.key", "identity.txt", "ledger.pub"} // in the order in which they are made
		for _, name := range names[n:] {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		before := files(t, dir)
		if err := create(t, store, dir, true); err != nil {
			t.Fatalf("with %v: %v", names[:n], err)
		}
		after := files(t, dir)
		for name, text := range before {
			if after[name] != text {
				t.Errorf("with %v: %s was changed", names[:n], name)
			}
		}
		if k, err := archive.LoadKeys(dir); err != nil || k.Signer == nil || len(k.Identities) != 1 {
			t.Errorf("with %v: %+v, %v", names[:n], k, err)
		}
	}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}

// The keys of a node that only verifies must come out of an init by mistake as they were.
func TestInitLeavesAPartOfOtherKeysAlone(t *testing.T) {
	for _, without := range []string{"ledger.key", "identity.txt"} {
		dir := t.TempDir()
		if err := create(t, new(objecttest.Memory), dir, false); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, without)); err != nil {
			t.Fatal(err)
		}
		before := files(t, dir)
		if err := create(t, new(objecttest.Memory), dir, false); !errors.Is(err, archive.ErrWrongKey) {
			t.Errorf("without %s: %v", without, err)
		}
		if after := files(t, dir); len(after) != len(before) {
			t.Errorf("without %s: %d files, then %d", without, len(before), len(after))
		}
		if _, err := archive.LoadKeys(dir); err != nil {
			t.Errorf("without %s: %v", without, err)
		}
	}
}

// Who joins with --encrypt an archive that is not encrypted must not go away believing that it is.
func TestJoiningDoesNotEncrypt(t *testing.T) {
	dir, store := t.TempDir(), new(objecttest.Memory)
	if err := create(t, store, dir, false); err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Node = "n2"
	o := archive.InitOptions{Config: cfg, Store: store, KeysDir: dir, Encrypt: true, NoEscrow: true, Now: time.Now()}
	if _, _, err := archive.Create(t.Context(), o); err == nil {
		t.Error("joined")
	}
	o.Encrypt = false
	if _, _, err := archive.Create(t.Context(), o); err != nil {
		t.Error(err)
	}
}
