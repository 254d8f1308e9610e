package bundle

import (
	"errors"
	"os"
	"path/filepath"
)

// Deliver gives a bag that Run has finished its name, and removes what the job left. The name is there at once, with a whole bag, or not.
func (j *Job) Deliver() error {
	if err := os.Rename(filepath.Join(j.part, bagFolder), j.place); err != nil {
		return err
	}
	if err := syncPath(filepath.Dir(j.place)); err != nil {
		return err
	}
	return j.remove()
}

// remove removes what the job left.
func (j *Job) remove() error {
	return errors.Join(os.RemoveAll(j.part), syncPath(filepath.Dir(j.part)))
}
