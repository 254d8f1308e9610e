package spool

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
)

// region is a stretch of a segment that holds no whole frame.
type region struct {
	from, to int64
	maxSeq   uint64 // the largest number in a frame header that can still be read there
}

// scan reads the frames of a segment from off to limit, in order: good is called with each whole one and its metadata (valid during the
// call), bad with each stretch between. After a stretch it goes on at the next place that bears the segment's marker. The error is one of
// reading: damage is no error.
func scan(r io.ReaderAt, mark marker, off, limit int64, good func(f frame, meta []byte), bad func(region)) error {
	w := &window{r: r, limit: limit}
	hole := region{from: -1}
	for off < limit {
		f, meta, ok, err := w.frame(mark, off)
		if err != nil {
			return err
		}
		if ok {
			if hole.from >= 0 {
				hole.to = off
				bad(hole)
				hole = region{from: -1}
			}
			good(f, meta)
			off += f.size()
			continue
		}
		if hole.from < 0 {
			hole.from = off
		}
		hole.maxSeq = max(hole.maxSeq, f.seq)
		if off, err = w.find(mark, off+1); err != nil {
			return err
		}
	}
	if hole.from >= 0 {
		hole.to = limit
		bad(hole)
	}
	return nil
}

// windowSize is how much a window reads ahead, bytes.
const windowSize = 1 << 20

// window reads a segment mostly forward.
type window struct {
	r     io.ReaderAt
	limit int64 // nothing at or past it is read
	buf   []byte
	start int64 // offset of buf[0]
	meta  []byte
}

// at gives what stands at off: n bytes, fewer where the limit or the end of the file comes first. Valid until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if off >= w.start && off+int64(n) <= w.start+int64(len(w.buf)) {
		return w.buf[off-w.start:][:n], nil
	}
	if w.buf == nil {
		w.buf = make([]byte, 0, min(windowSize, max(w.limit-off, frameHeader)))
	}
	size := min(int64(cap(w.buf)), max(w.limit-off, 0))
	w.start = off
	got, err := w.r.ReadAt(w.buf[:size], off)
	w.buf = w.buf[:got]
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("at offset %d: %w", off, err)
	}
	return w.buf[:min(n, got)], nil
}

// frame reads and checks the frame at off. Where it is not ok, the header may still be good.
func (w *window) frame(mark marker, off int64) (f frame, meta []byte, ok bool, err error) {
	b, err := w.at(off, frameHeader)
	if err != nil {
		return frame{}, nil, false, err
	}
	f, ok = parseFrame(b, mark, off)
	if !ok || f.size() > w.limit-off {
		return f, nil, false, nil
	}
	w.meta = w.meta[:0]
	ok, err = w.sum(off+frameHeader, f.metaLen, f.metaCRC, func(b []byte) { w.meta = append(w.meta, b...) })
	if !ok || err != nil {
		return f, nil, false, err
	}
	if f.flags&flagBig == 0 {
		ok, err = w.sum(off+frameHeader+f.metaLen, f.bodyLen, f.bodyCRC, nil)
	}
	return f, w.meta, ok && err == nil, err
}

// sum checks the CRC of n bytes at off.
func (w *window) sum(off, n int64, want uint32, each func([]byte)) (ok bool, err error) {
	var sum uint32
	for n > 0 {
		b, err := w.at(off, int(min(n, windowSize/4)))
		if err != nil || len(b) == 0 {
			return false, err
		}
		if each != nil {
			each(b)
		}
		sum = crc32.Update(sum, castagnoli, b)
		off += int64(len(b))
		n -= int64(len(b))
	}
	return sum == want, nil
}

// find gives the first place from off on where the marker stands, or the limit.
func (w *window) find(mark marker, off int64) (int64, error) {
	for off < w.limit {
		b, err := w.at(off, int(min(w.limit-off, windowSize/4)))
		if err != nil {
			return 0, err
		}
		if i := bytes.Index(b, mark[:]); i >= 0 {
			return off + int64(i), nil
		}
		if len(b) < len(mark) {
			break
		}
		off += int64(len(b) - len(mark) + 1)
	}
	return w.limit, nil
}
