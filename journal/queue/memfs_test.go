package queue

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var (
	errDead  = errors.New("the machine is off")
	errFault = errors.New("injected fault")
)

// memFS is a file system in memory that keeps after a power cut what fsync and SyncDir made durable, and of the rest as much as chance has
// it: a prefix of the changes of names, a prefix of each file. It is stricter than most: a rename alone makes nothing durable.
type memFS struct {
	t   testing.TB
	rng *rand.Rand

	mu      sync.Mutex
	files   map[string]*memFile // as processes see them
	durable map[string]*memFile // names on the medium
	pending []func(map[string]*memFile)
	ops     int
	dieAt   int    // the operation at which the power fails; 0: never
	died    func() // told of it
	dead    bool
	faulty  func(op, name string) bool // injected errors
}

type memFile struct {
	data   []byte
	synced int
	failed bool // an fsync failed: what is not synced is lost
}

func newMemFS(t testing.TB, rng *rand.Rand) *memFS {
	return &memFS{t: t, rng: rng, files: map[string]*memFile{}, durable: map[string]*memFile{}}
}

// after gives the file system as it is found after the power cut.
func (m *memFS) after() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, change := range m.pending[:m.rng.IntN(len(m.pending)+1)] {
		change(m.durable)
	}
	next := newMemFS(m.t, m.rng)
	for name, f := range m.durable {
		keep := f.synced
		if n := len(f.data) - f.synced; n > 0 {
			keep += m.rng.IntN(n + 1)
		}
		nf := &memFile{data: bytes.Clone(f.data[:keep]), synced: keep}
		next.files[name], next.durable[name] = nf, nf
	}
	return next
}

// step counts an operation, and says whether it happens: when the power fails at it, that is chance.
func (m *memFS) step(op, name string) error {
	if m.dead {
		return errDead
	}
	if m.faulty != nil && m.faulty(op, name) {
		return errFault
	}
	if m.ops++; m.ops == m.dieAt {
		m.dead = true
		if m.died != nil {
			m.died()
		}
		return errDead
	}
	return nil
}

// change changes a name now, and durably later.
func (m *memFS) change(f func(map[string]*memFile)) {
	f(m.files)
	m.pending = append(m.pending, f)
}

func (m *memFS) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("create", name); err != nil {
		return nil, err
	}
	f := new(memFile)
	m.change(func(names map[string]*memFile) { names[name] = f })
	return &memHandle{fs: m, name: name, file: f}, nil
}

func (m *memFS) Open(name string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("open", name); err != nil {
		return nil, err
	}
	f := m.files[name]
	if f == nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return io.NopCloser(bytes.NewReader(bytes.Clone(f.data))), nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.step("rename", to)
	if err != nil && (!m.dead || m.rng.IntN(2) == 0) {
		return err
	}
	f := m.files[from]
	if f == nil {
		return &os.PathError{Op: "rename", Path: from, Err: os.ErrNotExist}
	}
	if f.synced != len(f.data) {
		m.t.Errorf("%s is renamed before it is synced", from)
	}
	m.change(func(names map[string]*memFile) { delete(names, from); names[to] = f })
	return err
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.step("remove", name)
	if err != nil && (!m.dead || m.rng.IntN(2) == 0) {
		return err
	}
	if m.files[name] == nil {
		return &os.PathError{Op: "remove", Path: name, Err: os.ErrNotExist}
	}
	m.change(func(names map[string]*memFile) { delete(names, name) })
	return err
}

func (m *memFS) Mkdir(string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step("mkdir", "")
}

func (m *memFS) ReadDir(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("readdir", dir); err != nil {
		return nil, err
	}
	var names []string
	for name := range m.files {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

func (m *memFS) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("syncdir", name); err != nil {
		return err
	}
	for _, change := range m.pending {
		change(m.durable)
	}
	m.pending = nil
	return nil
}

func (m *memFS) operations() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// names lists what is in a folder, but for subfolders.
func (m *memFS) names(dir, suffix string) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.files {
		if filepath.Dir(name) == dir && strings.HasSuffix(name, suffix) {
			names = append(names, filepath.Base(name))
		}
	}
	return names
}

type memHandle struct {
	fs   *memFS
	name string
	file *memFile
}

func (h *memHandle) Write(p []byte) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.step("write", h.name); err != nil {
		n := h.fs.rng.IntN(len(p) + 1)
		h.file.data = append(h.file.data, p[:n]...)
		return n, err
	}
	h.file.data = append(h.file.data, p...)
	return len(p), nil
}

func (h *memHandle) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.step("sync", h.name); err != nil {
		h.file.failed = true
		return err
	}
	if h.file.failed {
		h.fs.t.Errorf("%s: an fsync was tried again", h.name)
	}
	h.file.synced = len(h.file.data)
	return nil
}

func (h *memHandle) Close() error { return nil }
