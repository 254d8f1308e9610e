package spool

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sync is fdatasync: it flushes a changed size too, since that is needed to read what was appended (fdatasync(2)), but not the times.
func (f osFile) Sync() error {
	if err := ignoreEINTR(func() error { return unix.Fdatasync(int(f.Fd())) }); err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}
