package object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// File is a store in a folder: an object is a file, its key the path below the folder. The folder must be on one file system that has hard
// links and keeps an fsync's promise. It has no versions and no locks, so it can't stop the machine's administrator.
//
// It is a Store, Publisher and Protector (which is ErrUnsupported throughout), safe for concurrent use, and several processes may have the
// same folder open. Nothing is written before the first Create or Replace. A system call that hangs in the kernel outlasts its context.
//
// What is not an object is passed over: names that no key can have (such as those that begin with a dot), links, devices. Symbolic links
// that lead out of the folder are never followed.
type File struct {
	root  *os.Root
	fsync func(*os.File) error // tests make it fail

	mu      sync.Mutex
	tmp     *scratch        // made by the first write
	durable map[string]bool // folders whose name is known to be on disk; made again when it grows large
	broken  error           // a folder could not be synced: no write is taken any more
}

const (
	folderMode = 0o700
	objectMode = 0o400 // written once: not even its owner opens it for writing by accident
	maxDurable = 10_000
)

// OpenFile opens the store in dir, which must exist: otherwise ErrNoStore.
func OpenFile(dir string) (*File, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store in folder %s: %w", dir, err)
	}
	root, err := os.OpenRoot(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("store in folder %s: %w", abs, ErrNoStore)
	}
	if err != nil {
		return nil, fmt.Errorf("store in folder %s: %w", abs, err)
	}
	return &File{root: root, fsync: (*os.File).Sync, durable: map[string]bool{}}, nil
}

// MakeFile makes dir, durably, with the folders above it as far as they are absent, and opens the store in it. A folder that exists is
// opened as it is.
func MakeFile(dir string) (*File, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store in folder %s: %w", dir, err)
	}
	// mkdir each absent folder from the top, fsync the folder above it.
	var absent []string
	for d := abs; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("store in folder %s: %w", abs, err)
		}
		absent = append(absent, d)
	}
	for i := len(absent) - 1; i >= 0; i-- {
		if err := os.Mkdir(absent[i], folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("store in folder %s: %w", abs, err)
		}
		parent, err := os.Open(filepath.Dir(absent[i]))
		if err == nil {
			err = errors.Join(parent.Sync(), parent.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("store in folder %s: %w", abs, err)
		}
	}
	return OpenFile(abs)
}

// Close gives back the folder. Calls under way may fail.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tmp != nil {
		f.tmp.close()
		f.tmp = nil
	}
	return f.root.Close()
}

// Create implements Store. A lock is ErrUnsupported.
//
//	open(.tmp/<writer>/<n>, O_CREAT|O_EXCL), write…, fsync, close    the bytes are on disk, under no key
//	for each folder of the key not known to be on disk: mkdir, fsync(its parent)
//	link(.tmp/<writer>/<n>, key)       one winner; EEXIST: compare with what is there, fsync it
//	fsync(folder of the key)           the name is on disk
//	unlink(.tmp/<writer>/<n>)
//
// So a key never names part of an object, whenever the power fails.
func (f *File) Create(ctx context.Context, key string, body io.ReadSeeker, lock Lock) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	if lock != (Lock{}) {
		return Info{}, fmt.Errorf("%s: a folder can't lock: %w", key, ErrUnsupported)
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return Info{}, fmt.Errorf("%s: %w", key, err)
	}
	tmp, info, err := f.writeTemp(ctx, key, body)
	if err != nil {
		return Info{}, err
	}
	defer f.root.Remove(tmp)

	err = f.inFolder(path.Dir(key), func() error { return f.root.Link(tmp, key) })
	if errors.Is(err, fs.ErrExist) {
		if info, err = f.compare(ctx, key, body); err != nil {
			return Info{}, err
		}
	} else if err != nil {
		return Info{}, explain(key, err)
	}
	// Where the object was there, whoever linked it may have died before this.
	if err := f.syncOne(path.Dir(key)); err != nil {
		return Info{}, fmt.Errorf("%s: %w", key, err)
	}
	return info, nil
}

// Replace implements Publisher.
//
//	open(.tmp/<writer>/<n>, O_CREAT|O_EXCL), write, fsync, close
//	make the folders as Create does
//	rename(.tmp/<writer>/<n>, key)     a reader sees the old bytes or the new
//	fsync(folder of the key)
func (f *File) Replace(ctx context.Context, key string, body []byte) error {
	if err := CheckReplace(key); err != nil {
		return err
	}
	tmp, _, err := f.writeTemp(ctx, key, bytes.NewReader(body))
	if err != nil {
		return err
	}
	err = f.inFolder(path.Dir(key), func() error { return f.root.Rename(tmp, key) })
	if err != nil {
		f.root.Remove(tmp)
		return explain(key, err)
	}
	if err := f.syncOne(path.Dir(key)); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// Extend implements Protector: ErrUnsupported.
func (f *File) Extend(_ context.Context, key string, _ time.Time) error {
	return fmt.Errorf("%s: a folder can't lock: %w", key, ErrUnsupported)
}

// Hold implements Protector: ErrUnsupported.
func (f *File) Hold(_ context.Context, key string) error {
	return fmt.Errorf("%s: a folder can't lock: %w", key, ErrUnsupported)
}

// writeTemp writes body to a new temporary file and syncs it.
func (f *File) writeTemp(ctx context.Context, key string, body io.Reader) (name string, info Info, err error) {
	if err := ctx.Err(); err != nil {
		return "", Info{}, fmt.Errorf("%s: %w", key, err)
	}
	file, name, err := f.createTemp()
	if err != nil {
		return "", Info{}, fmt.Errorf("%s: %w", key, err)
	}
	digest := sha256.New()
	size, err := copyBuffer(io.MultiWriter(file, digest), contextReader{ctx, body})
	if err == nil {
		err = f.fsync(file)
	}
	var stat fs.FileInfo
	if err == nil {
		stat, err = file.Stat()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		f.root.Remove(name)
		return "", Info{}, fmt.Errorf("%s: %w", key, err)
	}
	return name, Info{Key: key, Size: size, SHA256: record.Digest(digest.Sum(nil)), Time: stat.ModTime().UTC()}, nil
}

// compare is ErrConflict unless the object has the bytes of body; then it syncs the object, whoever wrote it.
func (f *File) compare(ctx context.Context, key string, body io.ReadSeeker) (Info, error) {
	file, stat, err := f.open(key)
	if errors.Is(err, ErrNotFound) { // what is in the way is no object
		return Info{}, fmt.Errorf("%s is a folder of other keys: %w", key, ErrKey)
	}
	if err != nil {
		return Info{}, err
	}
	defer file.Close()
	size, err := body.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = body.Seek(0, io.SeekStart)
	}
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", key, err)
	}
	if size != stat.Size() {
		return Info{}, fmt.Errorf("%s: %d bytes there, %d here: %w", key, stat.Size(), size, ErrConflict)
	}
	there, here := sha256.New(), sha256.New()
	if _, err := copyBuffer(there, contextReader{ctx, file}); err != nil {
		return Info{}, fmt.Errorf("%s: %w", key, err)
	}
	if _, err := copyBuffer(here, contextReader{ctx, body}); err != nil {
		return Info{}, fmt.Errorf("%s: %w", key, err)
	}
	digest := record.Digest(here.Sum(nil))
	if have := record.Digest(there.Sum(nil)); have != digest {
		return Info{}, fmt.Errorf("%s: SHA-256 %s there, %s here: %w", key, have, digest, ErrConflict)
	}
	if err := f.sync(file); err != nil {
		return Info{}, fmt.Errorf("%s: %w", key, err)
	}
	return Info{Key: key, Size: size, SHA256: digest, Time: stat.ModTime().UTC()}, nil
}

// inFolder runs place, which gives a file its name in a folder, after it has made sure that the folder is on disk.
func (f *File) inFolder(folder string, place func() error) error {
	if err := f.makeFolder(folder); err != nil {
		return err
	}
	err := place()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Somebody took the folders away.
	f.mu.Lock()
	clear(f.durable)
	f.mu.Unlock()
	if err := f.makeFolder(folder); err != nil {
		return err
	}
	return place()
}

// makeFolder makes a folder and those above it, and syncs each name into its parent, from the top down. A folder that is there already
// may not be on disk yet, so that its parent is synced too, once in the life of the store.
func (f *File) makeFolder(folder string) error {
	f.mu.Lock()
	done := folder == "." || f.durable[folder]
	f.mu.Unlock()
	if done {
		return nil
	}
	if err := f.makeFolder(path.Dir(folder)); err != nil {
		return err
	}
	if err := f.root.Mkdir(folder, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := f.syncOne(path.Dir(folder)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.durable) >= maxDurable {
		clear(f.durable)
	}
	f.durable[folder] = true
	return nil
}

// syncOne syncs a folder.
func (f *File) syncOne(folder string) error {
	dir, err := f.root.Open(folder)
	if err != nil {
		return err
	}
	defer dir.Close()
	return f.sync(dir)
}

// sync syncs what has its name already. After a failure nothing is known of what reached the disk, and a second fsync would lie: the store
// then takes no more writes until it is opened again.
func (f *File) sync(file *os.File) error {
	if err := f.usable(); err != nil {
		return err
	}
	if err := f.fsync(file); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.broken = fmt.Errorf("store takes no writes until it is opened again: %w", err)
		return err
	}
	return nil
}

func (f *File) usable() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}

// explain names the key, and says what an error of link or rename means for it.
func explain(key string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%s: a key can't be a folder of another (%v): %w", key, err, ErrKey)
	case errors.Is(err, syscall.EXDEV):
		return fmt.Errorf("%s: %w: the store is spread over several file systems", key, err)
	case errors.Is(err, syscall.EPERM), errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%s: %w: the file system may have no hard links", key, err)
	}
	return fmt.Errorf("%s: %w", key, err)
}

// Dir is the folder, as it was opened.
func (f *File) Dir() string { return f.root.Name() }
