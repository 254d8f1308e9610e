package object

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync/atomic"
	"syscall"
)

// scratch is where one writer keeps its temporary files: the folder .tmp/<writer>, <writer> being 32 random hexadecimal digits. The writer
// holds an flock on that folder as long as it lives, which tells the next one whose leftovers may go.
type scratch struct {
	root *os.Root
	dir  string
	lock *os.File
	n    atomic.Uint64
}

const scratchDir = ".tmp" // no key can have it

// scratch gives the writer's folder, and makes it at the first call.
func (f *File) scratch() (*scratch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return nil, f.broken
	}
	if f.tmp != nil {
		return f.tmp, nil
	}
	if err := f.root.Mkdir(scratchDir, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	sweepScratch(f.root)
	s, err := newScratch(f.root)
	if err != nil {
		return nil, err
	}
	f.tmp = s
	return s, nil
}

// createTemp makes a new temporary file.
func (f *File) createTemp() (file *os.File, name string, err error) {
	for range 2 {
		tmp, err := f.scratch()
		if err != nil {
			return nil, "", err
		}
		name = tmp.next()
		file, err = f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, objectMode)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, name, err
		}
		// Somebody took the writer's folder away: make another.
		f.mu.Lock()
		if f.tmp == tmp {
			tmp.close()
			f.tmp = nil
		}
		f.mu.Unlock()
	}
	return nil, "", fmt.Errorf("%s: can't keep a folder for temporary files", scratchDir)
}

func newScratch(root *os.Root) (*scratch, error) {
	for range 10 {
		var b [16]byte
		rand.Read(b[:])
		s := &scratch{root: root, dir: path.Join(scratchDir, hex.EncodeToString(b[:]))}
		if err := root.Mkdir(s.dir, folderMode); err != nil {
			return nil, err
		}
		var err error
		if s.lock, err = root.Open(s.dir); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue // swept away before it was locked
			}
			return nil, err
		}
		if flock(s.lock) == syscall.EWOULDBLOCK {
			s.lock.Close()
			continue // being swept
		}
		// On a file system without locks nobody sweeps, and nobody is swept.
		held, err1 := s.lock.Stat()
		named, err2 := root.Lstat(s.dir)
		if err1 == nil && err2 == nil && os.SameFile(held, named) {
			return s, nil
		}
		s.lock.Close()
	}
	return nil, fmt.Errorf("%s: can't keep a folder for temporary files", scratchDir)
}

// next names a new temporary file.
func (s *scratch) next() string { return path.Join(s.dir, strconv.FormatUint(s.n.Add(1), 10)) }

func (s *scratch) close() {
	s.root.Remove(s.dir) // left to the next writer if a call is under way
	s.lock.Close()
}

// sweepScratch removes what writers left that are no more. Only names that scratch gives are touched. What can't be removed stays, and
// does no harm.
func sweepScratch(root *os.Root) {
	for _, writer := range names(root, scratchDir) {
		if b, err := hex.DecodeString(writer); err != nil || len(b) != 16 {
			continue
		}
		sweepWriter(root, path.Join(scratchDir, writer))
	}
}

func sweepWriter(root *os.Root, dir string) {
	lock, err := root.Open(dir)
	if err != nil {
		return
	}
	defer lock.Close()
	if flock(lock) != nil {
		return // alive
	}
	for _, name := range names(root, dir) {
		if _, err := strconv.ParseUint(name, 10, 64); err == nil {
			root.Remove(path.Join(dir, name))
		}
	}
	root.Remove(dir)
}

// flock takes the lock if it is free, and is EWOULDBLOCK where it is not.
func flock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EINTR {
			return err
		}
	}
}

func names(root *os.Root, dir string) []string {
	d, err := root.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	list, _ := d.Readdirnames(-1)
	return list
}
