package object

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func newFile(t testing.TB) (*File, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, dir
}

func put(f *File, key, body string) error {
	_, err := f.Create(context.Background(), key, strings.NewReader(body), Lock{})
	return err
}

// tree lists what is in a folder: files, and folders with a slash.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, p); rel != "." {
			if d.IsDir() {
				rel += "/"
			}
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// syncs records what is synced, and fails the n-th time (from 1).
func syncs(f *File, dir string, n int, fault error) *[]string {
	seen := new([]string)
	f.fsync = func(file *os.File) error {
		name, _ := filepath.Rel(dir, file.Name())
		if strings.HasPrefix(name, scratchDir) {
			name = "the temporary file"
		}
		*seen = append(*seen, name)
		if len(*seen) == n {
			return fault
		}
		return file.Sync()
	}
	return seen
}

// Every name that leads to an object is synced, once, before Create returns: a missing fsync shows nowhere else.
func TestFileSyncs(t *testing.T) {
	f, dir := newFile(t)
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return put(f, "a/b/c", "x") }, "the temporary file, ., a, a/b"},
		{func() error { return put(f, "a/b/d", "x") }, "the temporary file, a/b"},
		{func() error { return put(f, "a/b/d", "x") }, "the temporary file, a/b/d, a/b"}, // it is not known who wrote it
		{func() error { return put(f, "a/e/f", "x") }, "the temporary file, a, a/e"},
		{func() error { return put(f, "g", "x") }, "the temporary file, ."},
		{func() error { return f.Replace(t.Context(), "state/x", nil) }, "the temporary file, ., state"},
		{func() error { return f.Replace(t.Context(), "state/x", nil) }, "the temporary file, state"},
		{func() error { return f.destroy(t.Context(), "a/e/f") }, "a/e"},
		{func() error { return f.destroy(t.Context(), "a/e/f") }, "a/e"}, // whoever removed it may have died before the fsync
		{func() error { return os.RemoveAll(filepath.Join(dir, "a")) }, ""},
		{func() error { return put(f, "a/b/c", "x") }, "the temporary file, ., a, a/b"},
	} {
		seen := syncs(f, dir, 0, nil)
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(*seen, ", "); got != step.want {
			t.Errorf("synced %s, want %s", got, step.want)
		}
	}
	// Another process finds the folders there, and can't know that they are on disk.
	g, err := OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	seen := syncs(g, dir, 0, nil)
	if err := put(g, "a/b/e", "x"); err != nil || strings.Join(*seen, ", ") != "the temporary file, ., a, a/b" {
		t.Errorf("in a second process: synced %v, %v", *seen, err)
	}
}

// After a failed fsync, whichever, no object is there in part, and no later call believes a second fsync.
func TestFileSyncFails(t *testing.T) {
	for n := 1; n <= 4; n++ {
		for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
			f, dir := newFile(t)
			syncs(f, dir, n, fault)
			if err := put(f, "a/b/c", "whole"); !errors.Is(err, fault) || !strings.Contains(err.Error(), "a/b/c") {
				t.Errorf("fsync %d fails: Create: %v", n, err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "a/b/c")); err == nil && string(got) != "whole" {
				t.Errorf("fsync %d fails: object has %q", n, got)
			}
			for _, name := range tree(t, dir) {
				if strings.HasPrefix(name, scratchDir) && !strings.HasSuffix(name, "/") {
					t.Errorf("fsync %d fails: %s stays", n, name)
				}
			}
			err := put(f, "a/b/c", "whole")
			switch {
			case n == 1 && err != nil: // only the temporary file is lost
				t.Errorf("after a file could not be synced: %v", err)
			case n > 1 && !errors.Is(err, fault):
				t.Errorf("after a folder could not be synced: %v, want no more writes", err)
			}
			if n > 1 {
				if err := f.Replace(t.Context(), "state/x", nil); !errors.Is(err, fault) {
					t.Errorf("after a folder could not be synced: Replace: %v", err)
				}
			}
			g, err := OpenFile(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := put(g, "a/b/c", "whole"); err != nil {
				t.Errorf("fsync %d failed, opened again: %v", n, err)
			}
			g.Close()
		}
	}
}

// What a dead writer left goes with the next write; what a living one has stays, and so does what is not ours. None of it is an object.
func TestFileLeftovers(t *testing.T) {
	f, dir := newFile(t)
	if err := put(f, "key", "x"); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, scratchDir, strings.Repeat("0f", 16))
	for name, body := range map[string]string{
		dead + "/1": "torn", filepath.Join(dir, f.tmp.dir, "7"): "under way", filepath.Join(dir, scratchDir, "notes.txt"): "not ours",
		filepath.Join(dir, ".DS_Store"): "not ours", filepath.Join(dir, "a\\b"): "no key",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, err := OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	var keys []string
	for info, err := range g.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	if !slices.Equal(keys, []string{"key"}) {
		t.Errorf("List: %q", keys)
	}
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("opening and listing changed the folder:\n%q\n%q", before, after)
	}
	if err := put(g, "other", "x"); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{".DS_Store", ".tmp/", f.tmp.dir + "/", f.tmp.dir + "/7", ".tmp/notes.txt", "a\\b", "key", "other"}
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("the folder has\n%q, want\n%q", got, want)
	}
	if err := put(f, "more", "x"); err != nil {
		t.Errorf("the living writer: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, scratchDir)); err != nil {
		t.Fatal(err)
	}
	if err := put(f, "yet/more", "x"); err != nil {
		t.Errorf("after all temporary files were taken away: %v", err)
	}
}

// Nothing that others put into the folder leads out of it or stops a call.
func TestFileForeign(t *testing.T) {
	f, dir := newFile(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": secret, "folder": outside} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"link", "folder/secret", "pipe", "folder"} {
		if r, err := f.Open(t.Context(), key, 0, -1); err == nil {
			r.Close()
			t.Errorf("Open(%s) succeeds", key)
		}
		if _, err := f.Stat(t.Context(), key); err == nil {
			t.Errorf("Stat(%s) succeeds", key)
		}
		if err := put(f, key, "secret"); err == nil {
			t.Errorf("Create(%s) succeeds", key)
		}
	}
	if err := put(f, "folder/new", "x"); err == nil {
		t.Error("Create leads out of the folder")
	}
	for info, err := range f.List(t.Context(), "", "") {
		t.Errorf("List: %+v, %v", info, err)
	}
	if got := tree(t, outside); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("outside: %q", got)
	}
}

// A file that becomes shorter under a reader is an error, not a short object.
func TestFileTruncated(t *testing.T) {
	f, dir := newFile(t)
	if err := put(f, "key", strings.Repeat("x", 100)); err != nil {
		t.Fatal(err)
	}
	r, err := f.Open(t.Context(), "key", 10, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.Chmod(filepath.Join(dir, "key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "key"), 50); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 40 {
		t.Errorf("%d bytes, %v; want io.ErrUnexpectedEOF", len(got), err)
	}
	if err := put(f, "key", strings.Repeat("x", 100)); !errors.Is(err, ErrConflict) {
		t.Errorf("Create over the damaged object: %v, want ErrConflict", err)
	}
}

func TestFileMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	if _, err := OpenFile(dir); !errors.Is(err, ErrNoStore) || !strings.Contains(err.Error(), dir) {
		t.Errorf("OpenFile: %v, want ErrNoStore that names it", err)
	}
	if _, err := OpenFileDisposer(dir); !errors.Is(err, ErrNoStore) {
		t.Errorf("OpenFileDisposer: %v, want ErrNoStore", err)
	}
	for range 2 { // the second time it is there
		f, err := MakeFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := put(f, "a/b", "x"); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := os.WriteFile(dir+"-file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(dir + "-file"); err == nil {
		t.Error("OpenFile of a file succeeds")
	}
}

func TestFileDispose(t *testing.T) {
	f, dir := newFile(t)
	for _, key := range []string{"a/b", "a/c"} {
		if err := put(f, key, "x"); err != nil {
			t.Fatal(err)
		}
	}
	d, err := OpenFileDisposer(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, key := range []string{"a/b", "a/b", "a", "no/such/folder", "a/c/d"} {
		if err := d.DeleteAll(t.Context(), key); err != nil {
			t.Errorf("DeleteAll(%s): %v", key, err)
		}
	}
	if err := d.DeleteAll(t.Context(), "../a"); !errors.Is(err, ErrKey) {
		t.Errorf("DeleteAll(../a): %v, want ErrKey", err)
	}
	if err := d.Unhold(t.Context(), "a/c"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Unhold: %v, want ErrUnsupported", err)
	}
	if vs, err := f.Versions(t.Context(), "a/b"); err != nil || len(vs) != 0 {
		t.Errorf("a/b: %v, %v", vs, err)
	}
	if vs, err := f.Versions(t.Context(), "a/c"); err != nil || len(vs) != 1 {
		t.Errorf("a/c: %v, %v", vs, err)
	}
	if err := put(f, "a/b", "other bytes"); err != nil {
		t.Errorf("the key is free again: %v", err)
	}
}

// No key that CheckKey lets through names anything but a file in the folder, and what is written is what is listed.
func FuzzFileKey(f *testing.F) {
	for _, key := range []string{"a", "a/b", "../a", "a/../../b", "/etc/passwd", ".tmp/x", "a//b", "a/", "é/ü", "a\x00b", "c:\\x", "~/x", strings.Repeat("a/", 99) + "a"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		parent := t.TempDir()
		s, err := MakeFile(filepath.Join(parent, "store"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		err = put(s, key, "x")
		if (err == nil) != (CheckKey(key) == nil) {
			t.Fatalf("Create(%q): %v; CheckKey: %v", key, err, CheckKey(key))
		}
		if top := tree(t, parent); top[0] != "store/" || slices.ContainsFunc(top, func(n string) bool { return !strings.HasPrefix(n, "store/") }) {
			t.Fatalf("Create(%q) left the folder: %q", key, top)
		}
		for info, lerr := range s.List(t.Context(), "", "") {
			if lerr != nil || err != nil || info.Key != key {
				t.Fatalf("Create(%q): %v; List: %q, %v", key, err, info.Key, lerr)
			}
			err = errors.New("listed")
		}
		if err == nil {
			t.Fatalf("%q is not listed", key)
		}
	})
}

func BenchmarkFileCreate(b *testing.B) {
	for name, size := range map[string]int{"4KiB": 4 << 10, "16MiB": 16 << 20} {
		b.Run(name, func(b *testing.B) {
			f, _ := newFile(b)
			body := bytes.NewReader(make([]byte, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				if _, err := f.Create(b.Context(), "packs/2031-03/"+string(rune('a'+n%26))+"/"+strconv.Itoa(n), body, Lock{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFileOpen(b *testing.B) {
	f, _ := newFile(b)
	if err := put(f, "packs/2031-03/2024/01/01/x", strings.Repeat("x", 1<<20)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	for b.Loop() {
		r, err := f.Open(b.Context(), "packs/2031-03/2024/01/01/x", 1000, 64<<10)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := copyBuffer(io.Discard, r); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}
