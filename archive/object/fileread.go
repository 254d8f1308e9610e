package object

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Open implements Store.
func (f *File) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	file, stat, err := f.open(key)
	if err != nil {
		return nil, err
	}
	if n, err = CheckRange(key, stat.Size(), off, n); err == nil && off > 0 {
		_, err = file.Seek(off, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &fileReader{ctx: ctx, key: key, file: file, left: n}, nil
}

// OpenVersion implements VersionReader.
func (f *File) OpenVersion(ctx context.Context, key, version string, off, n int64) (io.ReadCloser, error) {
	if version != "" {
		return nil, fmt.Errorf("%s: version %q: %w", key, version, ErrNotFound)
	}
	return f.Open(ctx, key, off, n)
}

// open opens the file of a key: ErrNotFound for all but regular files.
func (f *File) open(key string) (*os.File, fs.FileInfo, error) {
	// O_NONBLOCK: to open a named pipe that somebody put here must not wait. It does nothing to regular files.
	file, err := f.root.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, absent(key, err)
	}
	stat, err := file.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		file.Close()
		return nil, nil, absent(key, err)
	}
	return file, stat, nil
}

// absent names the key, and makes ErrNotFound of what means it.
func absent(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	return fmt.Errorf("%s: %w", key, err)
}

// Stat implements Store.
func (f *File) Stat(ctx context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return Info{}, fmt.Errorf("%s: %w", key, err)
	}
	stat, err := f.root.Lstat(key)
	if err == nil && !stat.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, absent(key, err)
	}
	return Info{Key: key, Size: stat.Size(), Time: stat.ModTime().UTC()}, nil
}

// Versions implements Store: the one there is, or none.
func (f *File) Versions(ctx context.Context, key string) ([]Info, error) {
	info, err := f.Stat(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []Info{info}, nil
}

// ListVersions implements VersionLister: what List gives.
func (f *File) ListVersions(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return f.List(ctx, prefix, "")
}

// List implements Store. It keeps the names of one folder in memory for each level of the key.
func (f *File) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		w := walk{ctx: ctx, root: f.root, prefix: prefix, after: after, yield: yield}
		w.folder(prefix[:strings.LastIndexByte(prefix, '/')+1])
	}
}

// walk is one List under way.
type walk struct {
	ctx           context.Context
	root          *os.Root
	prefix, after string
	yield         func(Info, error) bool
}

// folder yields what is in a folder, named with its slash at the end ("" is the top), and says whether to go on.
func (w *walk) folder(folder string) bool {
	if err := w.ctx.Err(); err != nil {
		w.yield(Info{}, fmt.Errorf("list %s: %w", w.prefix, err))
		return false
	}
	entries, err := w.read(folder)
	if err != nil {
		w.yield(Info{}, fmt.Errorf("list %s: %w", w.prefix, err))
		return false
	}
	for i, e := range entries {
		if i%256 == 255 && w.ctx.Err() != nil {
			w.yield(Info{}, fmt.Errorf("list %s: %w", w.prefix, w.ctx.Err()))
			return false
		}
		key := folder + e.name
		if e.IsDir() {
			if !w.folder(key) {
				return false
			}
			continue
		}
		stat, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // destroyed meanwhile
		}
		if err != nil {
			w.yield(Info{}, fmt.Errorf("list %s: %w", w.prefix, err))
			return false
		}
		if !w.yield(Info{Key: key, Size: stat.Size(), Time: stat.ModTime().UTC()}, nil) {
			return false
		}
	}
	return true
}

// entry is a file, or a folder with a slash after its name. Sorted like this, folders come out where their keys belong: a-b, a/b, ab.
type entry struct {
	name string
	fs.DirEntry
}

// read gives the entries of a folder in which keys of this list can be, in order.
func (w *walk) read(folder string) ([]entry, error) {
	dir, err := w.root.Open(path.Clean("./" + folder))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var entries []entry
	for {
		list, err := dir.ReadDir(1024)
		for _, d := range list {
			if e := (entry{d.Name(), d}); w.wants(folder, &e) {
				entries = append(entries, e)
			}
		}
		if err == io.EOF {
			break
		}
		if err == nil {
			err = w.ctx.Err()
		}
		if errors.Is(err, syscall.ENOTDIR) {
			return nil, nil // a file stands where the prefix has a folder
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return entries, nil
}

func (w *walk) wants(folder string, e *entry) bool {
	if CheckKey(folder+e.name) != nil {
		return false
	}
	switch {
	case e.IsDir():
		e.name += "/"
		key := folder + e.name
		return (strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)) &&
			(key > w.after || strings.HasPrefix(w.after, key))
	case e.Type().IsRegular():
		key := folder + e.name
		return strings.HasPrefix(key, w.prefix) && key > w.after
	}
	return false
}

// fileReader reads a part of a file. A file that ends too soon is an error, never a short object.
type fileReader struct {
	ctx  context.Context
	key  string
	file *os.File
	left int64
}

func (r *fileReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("%s: %w", r.key, err)
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.file.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", r.key, err)
	}
	return n, err
}

func (r *fileReader) Close() error { return r.file.Close() }

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// copyBuffer is io.Copy through a buffer that is used again.
func copyBuffer(w io.Writer, r io.Reader) (int64, error) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, r, *b)
}
