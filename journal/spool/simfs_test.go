package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// simFS is a file system in memory that is stricter than a real one: what was not fsynced is lost by a power cut, or parts of it, page by
// page; names too are only as durable as the last fsync of their directory. Each call can be made to fail.
type simFS struct {
	mu    sync.Mutex
	dirs  map[string]*simDir
	space Space
	locks map[string]bool
	calls int
	// fault is asked before each call that changes something or syncs, with its number from 1. nil: no fault.
	fault func(n int, op, path string) fault
	dead  bool // after a crash: the process does not get anything done any more
}

type simDir struct {
	now, synced map[string]*simFile
}

type simFile struct {
	data   []byte
	synced []byte
}

// fault is what happens to one call.
type fault struct {
	err     error
	persist bool // it fails, but it did happen
	short   bool // a write: half of it happens
	crash   bool // the machine stops here, before the call
}

var errCrashed = errors.New("the machine is down")

func newSimFS() *simFS {
	return &simFS{dirs: map[string]*simDir{}, space: Space{Bytes: 1 << 40, Inodes: 1 << 20}, locks: map[string]bool{}}
}

// step counts a call and applies the fault to it.
func (fs *simFS) step(op, path string) fault {
	fs.calls++
	if fs.dead {
		return fault{err: errCrashed}
	}
	if fs.fault == nil {
		return fault{}
	}
	f := fs.fault(fs.calls, op, path)
	if f.crash {
		fs.dead = true
		return fault{err: errCrashed}
	}
	if f.err != nil {
		f.err = &os.PathError{Op: op, Path: path, Err: f.err}
	}
	return f
}

// do runs one call that happens as a whole or not at all.
func (fs *simFS) do(op, path string, happen func() error) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.step(op, path)
	if f.err != nil && !f.persist {
		return f.err
	}
	if err := happen(); err != nil {
		return &os.PathError{Op: op, Path: path, Err: err}
	}
	return f.err
}

func (fs *simFS) place(path string) (*simDir, string) {
	return fs.dirs[filepath.Dir(path)], filepath.Base(path)
}

func (fs *simFS) OpenFile(name string, flag int, _ os.FileMode) (File, error) {
	if flag&os.O_CREATE == 0 {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		if fs.dead {
			return nil, errCrashed
		}
		d, base := fs.place(name)
		if d == nil || d.now[base] == nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		}
		return &simHandle{fs: fs, file: d.now[base], name: name, readOnly: flag&os.O_RDWR == 0}, nil
	}
	var h *simHandle
	err := fs.do("create", name, func() error {
		d, base := fs.place(name)
		if d == nil {
			return os.ErrNotExist
		}
		file := d.now[base]
		switch {
		case file == nil:
			file = &simFile{}
			d.now[base] = file
		case flag&os.O_EXCL != 0:
			return os.ErrExist
		case flag&os.O_TRUNC != 0:
			file.data = nil
		}
		h = &simHandle{fs: fs, file: file, name: name}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (fs *simFS) Rename(from, to string) error {
	return fs.do("rename", to, func() error {
		d, a := fs.place(from)
		e, b := fs.place(to)
		if d == nil || e == nil || d.now[a] == nil {
			return os.ErrNotExist
		}
		e.now[b] = d.now[a]
		delete(d.now, a)
		return nil
	})
}

func (fs *simFS) Link(from, to string) error {
	return fs.do("link", to, func() error {
		d, a := fs.place(from)
		e, b := fs.place(to)
		if e.now[b] != nil {
			return os.ErrExist
		}
		e.now[b] = d.now[a]
		return nil
	})
}

func (fs *simFS) Remove(name string) error {
	return fs.do("remove", name, func() error {
		d, base := fs.place(name)
		if d == nil || d.now[base] == nil {
			return os.ErrNotExist
		}
		delete(d.now, base)
		return nil
	})
}

func (fs *simFS) Mkdir(name string) error {
	return fs.do("mkdir", name, func() error {
		if fs.dirs[name] == nil {
			fs.dirs[name] = &simDir{now: map[string]*simFile{}, synced: map[string]*simFile{}}
		}
		return nil
	})
}

func (fs *simFS) ReadDir(name string) (files []FileInfo, err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.dead {
		return nil, errCrashed
	}
	for base, f := range fs.dirs[name].now {
		files = append(files, FileInfo{Name: base, Size: int64(len(f.data))})
	}
	return files, nil
}

func (fs *simFS) SyncDir(name string) error {
	return fs.do("syncdir", name, func() error {
		if d := fs.dirs[name]; d != nil {
			d.synced = clone(d.now)
		}
		return nil
	})
}

func (fs *simFS) Space(string) (Space, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.space, nil
}

func (fs *simFS) Lock(name string) (io.Closer, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.locks[name] {
		return nil, ErrLocked
	}
	fs.locks[name] = true
	return closerFunc(func() error {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		delete(fs.locks, name)
		return nil
	}), nil
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// simHandle is an open file.
type simHandle struct {
	fs       *simFS
	file     *simFile
	name     string
	readOnly bool
	closed   bool
	failed   bool // an fsync has failed: it may never be believed again
}

func (h *simHandle) ReadAt(b []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return 0, os.ErrClosed
	}
	if h.fs.dead {
		return 0, errCrashed
	}
	if off >= int64(len(h.file.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.file.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *simHandle) WriteAt(b []byte, off int64) (int, error) {
	n, short := len(b), false
	err := h.fs.do2("write", h.name, func(f fault) error {
		switch {
		case h.closed:
			return os.ErrClosed
		case h.readOnly:
			return syscall.EBADF
		case h.failed:
			panic(h.name + ": written after a failed fsync")
		}
		if f.short {
			n, short = len(b)/2, true
		}
		// A new array each time: synced shares none with data.
		data := slices.Clone(h.file.data)
		if need := int(off) + n; need > len(data) {
			data = append(data, make([]byte, need-len(data))...)
		}
		copy(data[off:], b[:n])
		h.file.data = data
		return nil
	})
	if err != nil && !short {
		return 0, err
	}
	return n, err
}

// do2 is do for a call that may happen in part.
func (fs *simFS) do2(op, path string, happen func(fault) error) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.step(op, path)
	if f.err != nil && !f.persist && !f.short {
		return f.err
	}
	if err := happen(f); err != nil {
		return &os.PathError{Op: op, Path: path, Err: err}
	}
	return f.err
}

func (h *simHandle) Sync() error {
	if h.failed {
		panic(h.name + ": fsync was tried again after it failed")
	}
	err := h.fs.do("fsync", h.name, func() error {
		h.file.synced = h.file.data
		return nil
	})
	h.failed = err != nil && !errors.Is(err, errCrashed)
	return err
}

func (h *simHandle) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	h.closed = true
	return nil
}

// after gives the file system as a power cut leaves it. With rng, parts of what was not synced survive; without, nothing of it.
func (fs *simFS) after(rng *rand.Rand) *simFS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	out := newSimFS()
	files := map[*simFile]*simFile{}
	survive := func(f *simFile) *simFile {
		if files[f] == nil {
			data := f.crashed(rng)
			files[f] = &simFile{data: data, synced: data}
		}
		return files[f]
	}
	for path, d := range fs.dirs {
		names := map[string]*simFile{}
		for _, base := range sortedKeys(d.now, d.synced) {
			f := d.synced[base]
			if rng != nil && rng.IntN(2) == 0 {
				f = d.now[base]
			}
			if f != nil {
				names[base] = survive(f)
			}
		}
		out.dirs[path] = &simDir{now: names, synced: clone(names)}
	}
	return out
}

// crashed gives what of a file survives.
func (f *simFile) crashed(rng *rand.Rand) []byte {
	if rng == nil || bytes.Equal(f.data, f.synced) || rng.IntN(4) == 0 {
		return slices.Clone(f.synced)
	}
	const page = 512 // smaller than a real one: more ways to tear
	size := len(f.synced)
	if len(f.data) > size && rng.IntN(4) > 0 {
		size += 1 + rng.IntN(len(f.data)-size)
	}
	out := make([]byte, size)
	copy(out, f.synced)
	for off := 0; off < min(size, len(f.data)); off += page {
		if rng.IntN(2) == 0 {
			copy(out[off:min(off+page, size)], f.data[off:])
		}
	}
	return out
}

// copyFS copies what is on it now, as if all had been synced.
func (fs *simFS) copyFS() *simFS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	out := newSimFS()
	files := map[*simFile]*simFile{}
	for path, d := range fs.dirs {
		names := map[string]*simFile{}
		for base, f := range d.now {
			if files[f] == nil {
				files[f] = &simFile{data: slices.Clone(f.data), synced: slices.Clone(f.data)}
			}
			names[base] = files[f]
		}
		out.dirs[path] = &simDir{now: names, synced: clone(names)}
	}
	return out
}

// listing names everything on it, with sizes.
func (fs *simFS) listing() string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var lines []string
	for path, d := range fs.dirs {
		for base, f := range d.now {
			lines = append(lines, fmt.Sprintf("%s/%s %d %x", path, base, len(f.data), sumOf(f.data)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func clone(m map[string]*simFile) map[string]*simFile {
	out := make(map[string]*simFile, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func sortedKeys(maps ...map[string]*simFile) (keys []string) {
	for _, m := range maps {
		for k := range m {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
