package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Generations is a folder with one index, or with two while a new one is built beside the one that serves. The file "current" names the one
// in force; the next number is what a rebuild has made that did not come to its end, and goes on with.
type Generations struct{ dir string }

const currentFile = "current"

// OpenGenerations opens the folder, making it where it is absent, and removes what is neither in force nor next.
func OpenGenerations(dir string) (*Generations, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	g := &Generations{dir: dir}
	current, err := g.current()
	if err != nil {
		return nil, err
	}
	next, err := g.Next()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	for _, e := range entries {
		if e.Name() == currentFile || e.Name() == current || e.Name() == filepath.Base(next) {
			continue
		}
		if _, err := strconv.Atoi(e.Name()); err != nil && e.Name() != currentFile+".new" {
			return nil, fmt.Errorf("index.dir %s: %s in it is not ours", dir, e.Name())
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
	}
	return g, nil
}

// current is the name of the generation in force, "1" where none was ever adopted.
func (g *Generations) current() (string, error) {
	text, err := os.ReadFile(filepath.Join(g.dir, currentFile))
	if errors.Is(err, os.ErrNotExist) {
		return "1", nil
	} else if err != nil {
		return "", fmt.Errorf("index: %w", err)
	}
	name := strings.TrimSpace(string(text))
	if n, err := strconv.Atoi(name); err != nil || n < 1 {
		return "", fmt.Errorf("index: %s names no generation: %q", filepath.Join(g.dir, currentFile), name)
	}
	return name, nil
}

// Current is the folder of the index in force. It may not exist yet.
func (g *Generations) Current() (string, error) {
	name, err := g.current()
	return filepath.Join(g.dir, name), err
}

// Next is the folder for an index to be built beside it. It may hold one already that was not finished.
func (g *Generations) Next() (string, error) {
	name, err := g.current()
	if err != nil {
		return "", err
	}
	n, _ := strconv.Atoi(name) // current has checked it
	return filepath.Join(g.dir, strconv.Itoa(n+1)), nil
}

// Begun says whether a rebuild has left an index that is not finished.
func (g *Generations) Begun() bool {
	next, err := g.Next()
	if err != nil {
		return false
	}
	_, err = os.Stat(next)
	return err == nil
}

// Discard removes what a rebuild has left, durably.
func (g *Generations) Discard() error {
	next, err := g.Next()
	if err != nil {
		return err
	}
	if _, err := os.Stat(next); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(os.RemoveAll(next), g.sync())
}

// Adopt puts a folder that Next gave in force, durably. The one before is to be removed by its user once nobody reads it.
func (g *Generations) Adopt(next string) error {
	path := filepath.Join(g.dir, currentFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	_, err = f.WriteString(filepath.Base(next) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return g.sync()
}

// sync makes names in the folder durable.
func (g *Generations) sync() error {
	d, err := os.Open(g.dir)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
