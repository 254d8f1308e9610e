package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync"
)

// readAhead is what one read takes of a frame: most of them have less metadata than this, bytes.
const readAhead = 4 << 10

func (l loc) String() string { return fmt.Sprintf("%s at offset %d", segmentName(l.seg), l.off) }

// decode reads the JSON of a frame. The checksum was good, so what does not decode was not written by this program.
func decode(at loc, meta []byte, v any) error {
	if err := json.Unmarshal(meta, v); err != nil {
		return fmt.Errorf("%w: %v: %w", ErrDamaged, at, err)
	}
	return nil
}

// readFrame reads the header and the metadata of the frame at a place, and checks both.
func (s *Spool) readFrame(at loc) (frame, []byte, error) {
	seg, file, mark, err := s.openSegment(at.seg)
	if err != nil {
		return frame{}, nil, err
	}
	defer s.letGo(seg)
	b := make([]byte, readAhead)
	n, err := file.ReadAt(b, int64(at.off))
	if err != nil && err != io.EOF {
		return frame{}, nil, fmt.Errorf("%v: %w", at, err)
	}
	b = b[:n]
	f, ok := parseFrame(b, mark, int64(at.off))
	if !ok {
		return frame{}, nil, fmt.Errorf("%w: %v: header", ErrDamaged, at)
	}
	end := frameHeader + int(f.metaLen)
	if len(b) < end {
		b = slices.Grow(b, end-len(b))
		m, err := file.ReadAt(b[n:end], int64(at.off)+int64(n))
		if err != nil && err != io.EOF {
			return frame{}, nil, fmt.Errorf("%v: %w", at, err)
		}
		b = b[:n+m]
	}
	if len(b) < end || crc32.Checksum(b[frameHeader:end], castagnoli) != f.metaCRC {
		return frame{}, nil, fmt.Errorf("%w: %v: metadata", ErrDamaged, at)
	}
	return f, slices.Clip(b[frameHeader:end]), nil
}

// openSegment opens a segment for reading; letGo ends it.
func (s *Spool) openSegment(number uint32) (seg *segment, file File, mark marker, err error) {
	s.mu.Lock()
	if seg = s.segment(number); seg != nil {
		mark = seg.mark
	}
	s.mu.Unlock()
	if seg == nil {
		return nil, nil, mark, fmt.Errorf("%s: %w", segmentName(number), ErrReleased)
	}
	file, err = seg.acquire(s.fs)
	return seg, file, mark, err
}

// maxIdle is how many segments nobody reads stay open.
const maxIdle = 16

// idleHandles are segments with an open file that nobody was reading when they came here, oldest first.
type idleHandles struct {
	mu   sync.Mutex
	list []*segment
}

// letGo ends the use of an open segment. It may stay open for the next.
func (s *Spool) letGo(seg *segment) {
	if !seg.letGo() {
		return
	}
	s.idle.mu.Lock()
	defer s.idle.mu.Unlock()
	if slices.Contains(s.idle.list, seg) {
		return
	}
	s.idle.list = append(s.idle.list, seg)
	if len(s.idle.list) > maxIdle {
		s.idle.list[0].closeIdle() // where it is in use again its next letGo brings it back
		s.idle.list = slices.Delete(s.idle.list, 0, 1)
	}
}

// body gives the function that opens a message. The record may be released before it is called, and while it is read: what is open stays
// readable.
func (s *Spool) body(w whereabouts, f frame) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		if w.ref != 0 && s.isReleased(w.ref) {
			return nil, fmt.Errorf("%s: %w", f.id, ErrReleased)
		}
		if f.flags&flagBig != 0 {
			path := s.paths.bigFile(f.id)
			file, err := s.fs.OpenFile(path, os.O_RDONLY, 0)
			if errors.Is(err, os.ErrNotExist) {
				err = fmt.Errorf("%w: %w", ErrReleased, err)
			}
			if err != nil {
				return nil, err
			}
			return &bodyReader{file: file, left: f.bodyLen, want: f.bodyCRC, name: path, close: file.Close}, nil
		}
		seg, file, _, err := s.openSegment(w.at.seg)
		if err != nil {
			return nil, err
		}
		return &bodyReader{
			file: file, off: f.off + frameHeader + f.metaLen, left: f.bodyLen, want: f.bodyCRC, name: w.at.String(),
			close: func() error { s.letGo(seg); return nil },
		}, nil
	}
}

// bodyReader reads a message and checks it: in the place of io.EOF it gives ErrDamaged where the checksum is wrong.
type bodyReader struct {
	file  File
	off   int64
	left  int64
	sum   uint32
	want  uint32
	name  string
	close func() error // nil once closed
}

func (r *bodyReader) Read(b []byte) (int, error) {
	if r.close == nil {
		return 0, os.ErrClosed
	}
	if r.left == 0 {
		if r.sum != r.want {
			return 0, fmt.Errorf("%w: %s: message", ErrDamaged, r.name)
		}
		return 0, io.EOF
	}
	n, err := r.file.ReadAt(b[:min(int64(len(b)), r.left)], r.off)
	r.sum = crc32.Update(r.sum, castagnoli, b[:n])
	r.off += int64(n)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = fmt.Errorf("%w: %s: %d bytes of the message are missing", ErrDamaged, r.name, r.left)
	} else if err == io.EOF || n > 0 {
		err = nil
	}
	return n, err
}

func (r *bodyReader) Close() error {
	if r.close == nil {
		return os.ErrClosed
	}
	err := r.close()
	r.close = nil
	return err
}
