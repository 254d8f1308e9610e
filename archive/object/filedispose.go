package object

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"
)

// FileDisposer destroys objects of a store in a folder. It is no Store, and no Store can be turned into one.
type FileDisposer struct{ f *File }

// OpenFileDisposer opens the store in dir to destroy in it: ErrNoStore where there is none.
func OpenFileDisposer(dir string) (*FileDisposer, error) {
	f, err := OpenFile(dir)
	if err != nil {
		return nil, err
	}
	return &FileDisposer{f}, nil
}

// Close gives back the folder.
func (d *FileDisposer) Close() error { return d.f.Close() }

// Unhold implements Disposer: ErrUnsupported.
func (d *FileDisposer) Unhold(_ context.Context, key string) error {
	return fmt.Errorf("%s: a folder can't lock: %w", key, ErrUnsupported)
}

// DeleteAll implements Disposer. To destroy what is not there succeeds. The folders stay: their names say nothing but dates, and to remove
// them would race with a writer.
func (d *FileDisposer) DeleteAll(ctx context.Context, key string) error { return d.f.destroy(ctx, key) }

// destroy removes the object.
//
//	unlink(key), fsync(folder of the key)     also where it is gone already: whoever removed it may have died before the fsync
func (f *File) destroy(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	stat, err := f.root.Lstat(key)
	if err == nil && stat.IsDir() {
		return nil // a folder of other keys; under this key itself is nothing
	}
	if err = f.root.Remove(key); err != nil && !gone(err) {
		return fmt.Errorf("%s: %w", key, err)
	}
	if err := f.syncOne(path.Dir(key)); err != nil && !gone(err) {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }
