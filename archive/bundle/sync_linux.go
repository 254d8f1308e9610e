package bundle

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncTree puts a folder and all under it on stable storage: all of its file system at once, for a bundle has many files.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}
