package archive

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// FS is what the archive asks of the file system that packs on their way are on: the seam at which tests inject faults and power cuts. The
// catalog is not behind it: that can be made again.
type FS interface {
	// Create makes a file and opens it for writing. One that is there is os.ErrExist.
	Create(name string) (File, error)
	Open(name string) (io.ReadSeekCloser, error)
	Rename(from, to string) error
	Remove(name string) error
	// MkdirAll makes a directory and its parents, for us alone.
	MkdirAll(dir string) error
	// ReadDir gives the names in a directory, sorted.
	ReadDir(dir string) ([]string, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
}

// File is a file that is being written.
type File interface {
	io.Writer
	// Sync makes the contents durable. After an error nothing is known of them, and a second Sync that succeeds does not change that: the file
	// is given up.
	Sync() error
	Close() error
}

// osFS is the host's file system.
type osFS struct{}

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) Open(name string) (io.ReadSeekCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Remove(name string) error     { return os.Remove(name) }
func (osFS) MkdirAll(dir string) error    { return os.MkdirAll(dir, 0o700) }
func (osFS) SyncDir(dir string) error     { return syncDir(dir) }

func (osFS) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// makeDir makes a directory durably. Of its parents, which the node made before, only the first is looked after.
func makeDir(fs FS, dir string) error {
	if err := fs.MkdirAll(dir); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(dir))
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func removeIfThere(path string) error { return removeFrom(osFS{}, path) }

// removeFrom removes a file, if it is there.
func removeFrom(fs FS, path string) error {
	if err := fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// writeWhole makes a file at path of exactly these bytes, through a temporary name: write, fsync file, rename, fsync directory. What a try
// before this one left under the temporary name is not written to again.
func writeWhole(fs FS, path string, b []byte) error {
	tmp := path + ".tmp"
	if err := removeFrom(fs, tmp); err != nil {
		return err
	}
	f, err := fs.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, path); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(path))
}
