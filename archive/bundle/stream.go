package bundle

import (
	"bufio"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// stream is a file that grows with the bundle. It is hashed as it is written, and its mark, taken at a point of progress, is all that is
// needed to go on there.
type stream struct {
	name string
	f    *os.File
	w    *bufio.Writer
	sum  hash.Hash
	size int64
}

// mark is a place in a stream.
type mark struct {
	Size int64  `json:"size"`
	Sum  []byte `json:"sum"` // the state of its SHA-256
}

// openStream opens a stream at a mark, and cuts off what was written after it. The zero mark is its beginning.
func openStream(dir, name string, at mark) (*stream, error) {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	s := &stream{name: name, f: f, w: bufio.NewWriterSize(f, 128<<10), sum: sha256.New(), size: at.Size}
	if err := s.rewind(at); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return s, nil
}

func (s *stream) rewind(at mark) error {
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < at.Size {
		return fmt.Errorf("%d bytes, and %d were written: %w", info.Size(), at.Size, ErrState)
	}
	if err := s.f.Truncate(at.Size); err != nil {
		return err
	}
	if _, err := s.f.Seek(at.Size, io.SeekStart); err != nil {
		return err
	}
	if at.Sum == nil {
		return nil
	}
	if err := s.sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(at.Sum); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

// Write is never short without an error.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.sum.Write(p[:n])
	s.size += int64(n)
	return n, err
}

func (s *stream) WriteString(text string) (int, error) { return s.Write([]byte(text)) }

// mark hands all to the operating system and gives the place.
func (s *stream) mark() (mark, error) {
	if err := s.w.Flush(); err != nil {
		return mark{}, err
	}
	state, err := s.sum.(encoding.BinaryMarshaler).MarshalBinary()
	return mark{s.size, state}, err
}

func (s *stream) digest() record.Digest { return record.Digest(s.sum.Sum(nil)) }

// close leaves the file in the hands of the operating system; sync comes after.
func (s *stream) close() error { return errors.Join(s.w.Flush(), s.f.Close()) }
