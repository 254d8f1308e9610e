package spool

import (
	"io"
	"os"
)

// FS is what the spool asks of a file system: the seam at which tests inject faults and power cuts. Paths are those of the host.
type FS interface {
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, perm os.FileMode) (File, error)
	Rename(from, to string) error
	// Link gives a file a second name.
	Link(from, to string) error
	Remove(name string) error
	// Mkdir makes one directory; one that exists already is no error.
	Mkdir(name string) error
	// ReadDir lists the files of a directory, without order.
	ReadDir(name string) ([]FileInfo, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
	// Space tells what is left for us on the file system that holds name.
	Space(name string) (Space, error)
	// Lock takes the exclusive lock on a file, which it makes where there is none, until the Closer is closed or the process ends.
	// ErrLocked when another has it.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Writes go to given offsets only.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the contents durable, and as much of the metadata as is needed to read them. After an error nothing is known of any write
	// since the last Sync that succeeded, and a second Sync that succeeds does not change that.
	Sync() error
}

// FileInfo is one file of a directory.
type FileInfo struct {
	Name string
	Size int64 // bytes
}

// Space is what is left on a file system.
type Space struct {
	Bytes  int64 // for unprivileged use
	Inodes int64 // negative: the file system doesn't count them
}
