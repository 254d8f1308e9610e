package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// simFS is a file system in memory that is stricter than a real one: what was not fsynced is lost by a power cut, or a part of it; names too
// are only as durable as the last fsync of their directory. Each call that changes something can be made to fail.
type simFS struct {
	mu    sync.Mutex
	dirs  map[string]*simDir
	calls int
	fault func(n int, op, path string) diskFault // with the number of the call, from 1; nil: no fault
	dead  bool                                   // the machine has stopped
}

type simDir struct{ now, synced map[string]*simFile }

type simFile struct {
	data, synced []byte
	failed       bool // an fsync has failed: it may never be written to or synced again
}

// diskFault is what happens to one call.
type diskFault struct {
	err     error
	persist bool // it fails, and yet it did happen
	short   bool // a write: half of it happens
	crash   bool // the machine stops here, before the call
}

var errCrashed = errors.New("the machine is down")

func newSimFS() *simFS { return &simFS{dirs: map[string]*simDir{}} }

// do runs one call. happen is told whether half of it is to happen.
func (fs *simFS) do(op, path string, happen func(short bool) error) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.calls++
	if fs.dead {
		return errCrashed
	}
	var f diskFault
	if fs.fault != nil {
		f = fs.fault(fs.calls, op, path)
	}
	if f.crash {
		fs.dead = true
		return errCrashed
	}
	if f.err != nil {
		f.err = &os.PathError{Op: op, Path: path, Err: f.err}
		if !f.persist && !(f.short && op == "write") {
			return f.err
		}
	}
	if err := happen(f.short); err != nil {
		return &os.PathError{Op: op, Path: path, Err: err}
	}
	return f.err
}

func (fs *simFS) place(path string) (*simDir, string) {
	return fs.dirs[filepath.Dir(path)], filepath.Base(path)
}

func (fs *simFS) Create(name string) (archive.File, error) {
	var h *simHandle
	err := fs.do("create", name, func(bool) error {
		d, base := fs.place(name)
		if d.now[base] != nil {
			return os.ErrExist
		}
		d.now[base] = &simFile{}
		h = &simHandle{fs: fs, file: d.now[base], name: name}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (fs *simFS) Open(name string) (io.ReadSeekCloser, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.dead {
		return nil, errCrashed
	}
	d, base := fs.place(name)
	if d.now[base] == nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return struct {
		io.ReadSeeker
		io.Closer
	}{bytes.NewReader(slices.Clone(d.now[base].data)), io.NopCloser(nil)}, nil
}

func (fs *simFS) Rename(from, to string) error {
	return fs.do("rename", to, func(bool) error {
		d, a := fs.place(from)
		_, b := fs.place(to)
		if d.now[a] == nil {
			return os.ErrNotExist
		}
		d.now[b] = d.now[a]
		delete(d.now, a)
		return nil
	})
}

func (fs *simFS) Remove(name string) error {
	return fs.do("remove", name, func(bool) error {
		d, base := fs.place(name)
		if d.now[base] == nil {
			return os.ErrNotExist
		}
		delete(d.now, base)
		return nil
	})
}

func (fs *simFS) MkdirAll(dir string) error {
	return fs.do("mkdir", dir, func(bool) error {
		if fs.dirs[dir] == nil {
			fs.dirs[dir] = &simDir{map[string]*simFile{}, map[string]*simFile{}}
		}
		return nil
	})
}

func (fs *simFS) ReadDir(dir string) ([]string, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.dead {
		return nil, errCrashed
	}
	return slices.Sorted(maps.Keys(fs.dirs[dir].now)), nil
}

func (fs *simFS) SyncDir(dir string) error {
	return fs.do("syncdir", dir, func(bool) error {
		if d := fs.dirs[dir]; d != nil { // of the one above ours nothing is known
			d.synced = maps.Clone(d.now)
		}
		return nil
	})
}

type simHandle struct {
	fs     *simFS
	file   *simFile
	name   string
	closed bool
}

func (h *simHandle) Write(b []byte) (n int, err error) {
	err = h.fs.do("write", h.name, func(short bool) error {
		switch {
		case h.closed:
			return os.ErrClosed
		case h.file.failed:
			panic(h.name + ": written after a failed fsync")
		}
		n = len(b)
		if short {
			n /= 2
		}
		h.file.data = append(slices.Clone(h.file.data), b[:n]...) // synced shares none of it
		return nil
	})
	return n, err
}

func (h *simHandle) Sync() error {
	if h.file.failed {
		panic(h.name + ": fsync was tried again after it failed")
	}
	err := h.fs.do("fsync", h.name, func(bool) error {
		h.file.synced = h.file.data
		return nil
	})
	h.file.failed = err != nil
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

// after gives the file system as a restart finds it, or with a power cut as that leaves it: with rng parts of what was not synced survive,
// without nothing of it.
func (fs *simFS) after(cut bool, rng *rand.Rand) *simFS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	out := newSimFS()
	for path, d := range fs.dirs {
		names := map[string]*simFile{}
		all := maps.Clone(d.synced)
		maps.Copy(all, d.now)
		for _, base := range slices.Sorted(maps.Keys(all)) {
			f := d.now[base]
			if cut && (rng == nil || rng.IntN(2) == 0) {
				f = d.synced[base]
			}
			if f == nil {
				continue
			}
			data := f.data
			if cut {
				data = f.synced
				if rng != nil && len(f.data) > len(f.synced) {
					data = f.data[:len(f.synced)+rng.IntN(len(f.data)-len(f.synced)+1)]
				}
			}
			names[base] = &simFile{data: data, synced: data}
		}
		out.dirs[path] = &simDir{names, maps.Clone(names)}
	}
	return out
}

// fastDisk gives a folder in memory where there is one.
func fastDisk(otherwise string) string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return otherwise
}

// onDisk does a job on a file system: all that is in custody, of which the messages are waited for. It gives those that somebody was told of.
func (b *bench) onDisk(ctx context.Context, fs *simFS) (told []record.ID, err error) {
	a, err := b.openOn(ctx, fs)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for id := range b.bodies {
		wg.Go(func() {
			if a.Await(ctx, id) == nil {
				mu.Lock()
				told = append(told, id)
				mu.Unlock()
			}
		})
	}
	drain := make(chan struct{})
	close(drain)
	err = a.Run(ctx, b.custody, drain)
	wg.Wait()
	return told, errors.Join(err, a.Close(context.Background()))
}

func (b *bench) openOn(ctx context.Context, fs *simFS) (*archive.Archive, error) {
	return archive.Open(ctx, archive.Options{Config: config(), Store: b.store, Keys: b.keys, DataDir: filepath.Join(b.dir, "data"), Now: time.Now,
		Log: slog.New(slog.DiscardHandler), FS: fs,
		Expiry: func(it *record.Item) time.Time { return it.ID.Time().AddDate(int(it.Seq%3)+1, 0, 0) }})
}

// Every call of the local writer that changes something fails once, five times in a row, and for good, in every way; or the machine stops
// there. Then the node starts again, after a crash of the process or a power cut. Nothing is lost, nothing is archived twice, and who was told
// that his message is in the archive was told the truth.
func TestLocalDiskFaultAtEachCall(t *testing.T) {
	kinds := map[string]diskFault{
		"EIO":                  {err: syscall.EIO},
		"EIO, but it happened": {err: syscall.EIO, persist: true},
		"ENOSPC, half written": {err: syscall.ENOSPC, short: true},
		"EROFS":                {err: syscall.EROFS},
		"stop":                 {crash: true},
	}
	defer archive.SetFirstPause(archive.SetFirstPause(time.Millisecond))
	t.Setenv("TMPDIR", fastDisk(t.TempDir())) // the catalog is not what is tested, and there are thousands of them
	step := 1
	if testing.Short() {
		step = 5
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		for _, length := range []int{1, 5, 1 << 30} {
			if name == "stop" && length > 1 {
				continue
			}
			if length == 5 && name != "EIO" {
				continue // the ways to fail have been seen one by one
			}
			t.Run(fmt.Sprintf("%s/%d", name, min(length, 99)), func(t *testing.T) {
				for k := 1; ; k += step {
					fired := false
					func() {
						b := newBench(t, k%2 == 0)
						b.fill(9)
						fs := newSimFS()
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						defer cancel()
						fs.fault = func(n int, _, _ string) diskFault {
							if n >= k && n < k+length {
								if !fired && (length > 5 || name == "stop") {
									time.AfterFunc(200*time.Millisecond, cancel) // it does not end by itself
								}
								fired = true
								return kinds[name]
							}
							return diskFault{}
						}
						told, err := b.onDisk(ctx, fs)
						if !fired && (err != nil || len(told) != len(b.bodies)) {
							t.Fatal("without a fault:", err, len(told))
						}
						if length == 5 && name != "stop" && err != nil && k > 2 {
							t.Errorf("call %d: five faults: %v", k, err)
						}
						if err := b.inBucket(told...); err != nil {
							t.Fatalf("call %d, told: %v", k, err)
						}
						next := fs.after(k%3 > 0, nil)
						if k%3 == 2 {
							next = fs.after(true, rand.New(rand.NewPCG(uint64(k), uint64(length))))
						}
						b.custody.restart()
						if _, err := b.onDisk(t.Context(), next); err != nil {
							t.Fatalf("call %d, after a restart: %v", k, err)
						}
						if n := b.custody.left(); n != 0 {
							t.Fatalf("call %d: %d left in custody", k, n)
						}
						if left, _ := next.ReadDir(filepath.Join(b.dir, "data", "packs")); len(left) > 0 {
							t.Fatalf("call %d: left on the disk: %v", k, left)
						}
						b.check()
					}()
					if !fired || t.Failed() {
						if k < 20 && !t.Failed() {
							t.Errorf("only %d calls", k)
						}
						break
					}
				}
			})
		}
	}
}
