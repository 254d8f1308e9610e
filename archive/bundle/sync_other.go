//go:build !linux

package bundle

import (
	"io/fs"
	"path/filepath"
)

// syncTree puts a folder and all under it on stable storage.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncPath(path)
	})
}
