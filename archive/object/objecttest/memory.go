package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// Memory is a store for tests, stricter than a real one: it reads a body twice and refuses one that changes, hands out its bytes a few at
// a time, keeps a lock to the letter, and counts readers that nobody closed. It is a Keeper, safe for concurrent use. The zero value is
// an empty store.
type Memory struct {
	mu       sync.Mutex
	keys     []string // sorted
	versions map[string][]*version
	fault    func(op Op, key string) Fault
	open     int
	serial   int
	clock    func() time.Time // nil: time.Now
}

// version is one version of an object, oldest first in Memory.versions.
type version struct {
	info object.Info
	body []byte // never changed in place: readers share it
}

// Op is a method of a store.
type Op string

// The operations that a fault can strike.
const (
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpStat     Op = "stat"
	OpList     Op = "list"
	OpVersions Op = "versions"
	OpReplace  Op = "replace"
	OpExtend   Op = "extend"
	OpHold     Op = "hold"
	OpUnhold   Op = "unhold"
	OpDelete   Op = "delete"
)

// Fault is what goes wrong with one call. The zero value is: nothing.
type Fault struct {
	Before error           // fail with this, and have done nothing
	After  error           // do it, and fail with this: the answer was lost, and could not be found out
	Wait   <-chan struct{} // first wait until it is closed, or the context ends
	Cut    error           // of Open: the body breaks off in its middle with this error
}

// ErrFault is an error for faults that need no particular one.
var ErrFault = errors.New("injected fault")

// SetFault has f asked before every call what goes wrong with it; nil: nothing. key is the prefix for OpList, which is struck before its
// first object. f may be called by several goroutines at once.
func (m *Memory) SetFault(f func(op Op, key string) Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// SetClock gives the store a clock of its own. Before its first use.
func (m *Memory) SetClock(now func() time.Time) { m.clock = now }

func (m *Memory) now() time.Time {
	if m.clock != nil {
		return m.clock()
	}
	return time.Now()
}

// begin is how every call begins: the key, the context, the fault.
func (m *Memory) begin(ctx context.Context, op Op, key string) (Fault, error) {
	m.mu.Lock()
	hook := m.fault
	m.mu.Unlock()
	var f Fault
	if hook != nil {
		f = hook(op, key)
	}
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return f, fmt.Errorf("%s: %w", key, err)
	}
	if f.Before != nil {
		return f, fmt.Errorf("%s: %w", key, f.Before)
	}
	return f, nil
}

// end is the error of a call that did its work.
func (f Fault) end(key string) error {
	if f.After != nil {
		return fmt.Errorf("%s: %w", key, f.After)
	}
	return nil
}

// Create implements object.Store.
func (m *Memory) Create(ctx context.Context, key string, body io.ReadSeeker, lock object.Lock) (object.Info, error) {
	if err := object.CheckKey(key); err != nil {
		return object.Info{}, err
	}
	f, err := m.begin(ctx, OpCreate, key)
	if err != nil {
		return object.Info{}, err
	}
	if lock.Mode == object.LockNone != lock.Until.IsZero() || !lock.Until.IsZero() && !lock.Until.After(m.now()) {
		return object.Info{}, fmt.Errorf("%s: a lock of mode %q until %s is none", key, lock.Mode, lock.Until)
	}
	b, err := readTwice(body)
	if err != nil {
		return object.Info{}, fmt.Errorf("%s: %w", key, err)
	}
	if err := ctx.Err(); err != nil {
		return object.Info{}, fmt.Errorf("%s: %w", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.newest(key); v != nil {
		if !bytes.Equal(v.body, b) {
			return object.Info{}, fmt.Errorf("%s: %w", key, object.ErrConflict)
		}
		return v.info, f.end(key)
	}
	if err := m.fits(key); err != nil {
		return object.Info{}, err
	}
	return m.add(key, b, lock), f.end(key)
}

// fits is ErrKey where the key would be the folder of another, or the other way round.
func (m *Memory) fits(key string) error {
	for i := range key {
		if key[i] == '/' && m.versions[key[:i]] != nil {
			return fmt.Errorf("%s: %s is an object: %w", key, key[:i], object.ErrKey)
		}
	}
	if i, _ := slices.BinarySearch(m.keys, key+"/"); i < len(m.keys) && strings.HasPrefix(m.keys[i], key+"/") {
		return fmt.Errorf("%s: it is the folder of %s: %w", key, m.keys[i], object.ErrKey)
	}
	return nil
}

// add puts a new version on top.
func (m *Memory) add(key string, body []byte, lock object.Lock) object.Info {
	if i, ok := slices.BinarySearch(m.keys, key); !ok {
		m.keys = slices.Insert(m.keys, i, key)
	}
	if m.versions == nil {
		m.versions = map[string][]*version{}
	}
	m.serial++
	info := object.Info{
		Key: key, Size: int64(len(body)), SHA256: record.Sum(body), Version: "v" + strconv.Itoa(m.serial), Time: m.now().UTC(), Lock: lock,
	}
	m.versions[key] = append(m.versions[key], &version{info, body})
	return info
}

// newest is nil where there is no object.
func (m *Memory) newest(key string) *version {
	if vs := m.versions[key]; len(vs) > 0 && !vs[len(vs)-1].info.Marker {
		return vs[len(vs)-1]
	}
	return nil
}

func readTwice(body io.ReadSeeker) ([]byte, error) {
	var read [2][]byte
	for i := range read {
		_, err := body.Seek(0, io.SeekStart)
		if err == nil {
			read[i], err = io.ReadAll(body)
		}
		if err != nil {
			return nil, err
		}
	}
	if !bytes.Equal(read[0], read[1]) {
		return nil, errors.New("the body is another one when it is read again")
	}
	return read[0], nil
}

// Open implements object.Store.
func (m *Memory) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return m.OpenVersion(ctx, key, "", off, n)
}

// OpenVersion implements object.VersionReader.
func (m *Memory) OpenVersion(ctx context.Context, key, id string, off, n int64) (io.ReadCloser, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, err
	}
	f, err := m.begin(ctx, OpOpen, key)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.newest(key)
	if id != "" {
		v = nil
		for _, w := range m.versions[key] {
			if w.info.Version == id && !w.info.Marker {
				v = w
			}
		}
	}
	if v == nil {
		return nil, fmt.Errorf("%s: %w", key, object.ErrNotFound)
	}
	if n, err = object.CheckRange(key, int64(len(v.body)), off, n); err != nil {
		return nil, err
	}
	if err := f.end(key); err != nil {
		return nil, err
	}
	m.open++
	r := &reader{ctx: ctx, m: m, key: key, left: v.body[off : off+n], cut: f.Cut}
	if f.Cut != nil {
		r.left = r.left[:n/2]
	}
	return r, nil
}

// reader gives at most 1000 bytes at a time.
type reader struct {
	ctx    context.Context
	m      *Memory
	key    string
	left   []byte
	cut    error
	closed bool
}

func (r *reader) Read(p []byte) (int, error) {
	switch {
	case r.closed:
		return 0, fmt.Errorf("%s: read after close", r.key)
	case r.ctx.Err() != nil:
		return 0, fmt.Errorf("%s: %w", r.key, r.ctx.Err())
	case len(r.left) == 0 && r.cut != nil:
		return 0, fmt.Errorf("%s: %w", r.key, r.cut)
	case len(r.left) == 0:
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1000)], r.left)
	r.left = r.left[n:]
	return n, nil
}

func (r *reader) Close() error {
	if r.closed {
		return fmt.Errorf("%s: closed twice", r.key)
	}
	r.closed = true
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.open--
	return nil
}

// Stat implements object.Store.
func (m *Memory) Stat(ctx context.Context, key string) (object.Info, error) {
	if err := object.CheckKey(key); err != nil {
		return object.Info{}, err
	}
	f, err := m.begin(ctx, OpStat, key)
	if err != nil {
		return object.Info{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.newest(key)
	if v == nil {
		return object.Info{}, fmt.Errorf("%s: %w", key, object.ErrNotFound)
	}
	return v.info, f.end(key)
}

// List implements object.Store. Like a real one it may or may not see what is created while it runs.
func (m *Memory) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		if prefix != "" {
			if err := object.CheckKey(strings.TrimSuffix(prefix, "/")); err != nil {
				yield(object.Info{}, err)
				return
			}
		}
		f, err := m.begin(ctx, OpList, prefix)
		if err == nil {
			err = f.end(prefix)
		}
		if err != nil {
			yield(object.Info{}, err)
			return
		}
		for last := after; ; {
			info, ok := m.next(prefix, last)
			if !ok {
				return
			}
			if err := ctx.Err(); err != nil {
				yield(object.Info{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
			last = info.Key
		}
	}
}

// next is the first object under prefix after last. Lists do not tell digests, versions and locks, as those of S3.
func (m *Memory) next(prefix, last string) (object.Info, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := slices.BinarySearch(m.keys, max(prefix, last))
	if found && m.keys[i] == last {
		i++
	}
	for ; i < len(m.keys) && strings.HasPrefix(m.keys[i], prefix); i++ {
		if v := m.newest(m.keys[i]); v != nil {
			return object.Info{Key: v.info.Key, Size: v.info.Size, Time: v.info.Time}, true
		}
	}
	return object.Info{}, false
}

// Versions implements object.Store.
func (m *Memory) Versions(ctx context.Context, key string) ([]object.Info, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, err
	}
	f, err := m.begin(ctx, OpVersions, key)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var infos []object.Info
	for _, v := range slices.Backward(m.versions[key]) {
		infos = append(infos, v.info)
	}
	return infos, f.end(key)
}

// ListVersions implements object.VersionLister. OpVersions strikes it, with the prefix.
func (m *Memory) ListVersions(ctx context.Context, prefix string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		f, err := m.begin(ctx, OpVersions, prefix)
		if err == nil {
			err = f.end(prefix)
		}
		if err != nil {
			yield(object.Info{}, err)
			return
		}
		m.mu.Lock()
		var infos []object.Info
		for _, key := range m.keys {
			if strings.HasPrefix(key, prefix) {
				for _, v := range m.versions[key] {
					infos = append(infos, object.Info{Key: key, Version: v.info.Version, Size: v.info.Size, Time: v.info.Time, Marker: v.info.Marker})
				}
			}
		}
		m.mu.Unlock()
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Replace implements object.Publisher.
func (m *Memory) Replace(ctx context.Context, key string, body []byte) error {
	if err := object.CheckReplace(key); err != nil {
		return err
	}
	f, err := m.begin(ctx, OpReplace, key)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.versions[key] == nil {
		if err := m.fits(key); err != nil {
			return err
		}
	}
	m.add(key, bytes.Clone(body), object.Lock{})
	return f.end(key)
}

// Close implements object.Keeper. The store can still be used, as if it were opened again.
func (m *Memory) Close() error { return nil }
