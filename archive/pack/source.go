package pack

import (
	"errors"
	"fmt"
	"hash"
	"io"
)

// source reads a pack as it is stored, and remembers its own faults: through zstd and age they could not be told from damage.
type source struct {
	r   io.Reader
	sum hash.Hash // nil: not wanted
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if s.sum != nil {
		s.sum.Write(p[:n])
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// fault says whose fault an error is that came up while reading from s: ErrCorrupt, unless s itself failed.
func (s *source) fault(err error) error {
	switch {
	case err == nil:
		return nil
	case s.err != nil:
		return fmt.Errorf("read pack: %w", s.err)
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNoIdentity):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return corrupt("ends early")
	default:
		return corrupt("%v", err)
	}
}

// faultReader is a reader whose errors are sorted out: io.EOF, ErrCorrupt, or a fault of the source.
type faultReader struct {
	r   io.Reader
	src *source
}

func (f *faultReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF { // a wrapped EOF is not an end
		err = f.src.fault(err)
	}
	return n, err
}
