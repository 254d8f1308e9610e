//go:build unix && !linux

package spool

// Sync is os.File's: on darwin F_FULLFSYNC, since fsync alone stops at the drive's cache there.
func (f osFile) Sync() error { return f.File.Sync() }
