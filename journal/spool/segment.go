package spool

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	segmentMagic  = "HFSPOOL\x01"
	headerSize    = 128  // of one copy of a segment's header
	headerCopy    = 4096 // where the second copy stands: in another block of the disk
	segmentStart  = 8192 // where the first frame stands
	segmentSuffix = ".seg"
	tempSuffix    = ".tmp"
	bigSuffix     = ".eml"
)

// marker is the random text that each frame of a segment begins with. Nobody who sends mail knows it, so that after damage the frames that
// follow can be found again, and a body can't pass for one.
type marker [8]byte

// header is what a segment says of itself and of the one before it.
type header struct {
	number      uint32
	prev        uint32 // the segment before this one; 0: none
	mark        marker
	prevEnd     int64  // what stands in the segment before from this offset on was never acknowledged and is void
	prevDurable int64  // all of it before this offset was on stable storage, so damage there is damage; at most prevEnd
	first       uint64 // the sequence that the next record takes, as of the making of this segment
	floor       uint64 // sequences below it that no segment has are accounted for elsewhere (Options.MinSeq)
	next        uint64 // of a stub: the sequence after its last
	created     time.Time
	stub        bool // the records are all released, the frames are gone
}

// put writes both copies into the first segmentStart bytes of b.
func (h *header) put(b []byte) {
	b = b[:segmentStart]
	clear(b)
	c := b[:headerSize]
	copy(c, segmentMagic)
	le := binary.LittleEndian
	le.PutUint32(c[8:], h.number)
	le.PutUint32(c[12:], h.prev)
	copy(c[16:], h.mark[:])
	le.PutUint64(c[24:], uint64(h.prevEnd))
	le.PutUint64(c[32:], uint64(h.prevDurable))
	le.PutUint64(c[40:], h.first)
	le.PutUint64(c[48:], h.floor)
	le.PutUint64(c[56:], h.next)
	le.PutUint64(c[64:], uint64(h.created.Unix()))
	if h.stub {
		c[72] = 1
	}
	le.PutUint32(c[headerSize-4:], crc32.Checksum(c[:headerSize-4], castagnoli))
	copy(b[headerCopy:], c)
}

// parseHeader reads the header from the first bytes of a segment. whole is false where only one of the copies is good, or where the
// space around them is not empty.
func parseHeader(b []byte, number uint32) (h header, whole, ok bool) {
	for _, at := range []int{0, headerCopy} {
		if len(b) < at+headerSize {
			break
		}
		if h, ok = parseHeaderCopy(b[at:at+headerSize], number); ok {
			var want [segmentStart]byte
			h.put(want[:])
			return h, len(b) >= segmentStart && bytes.Equal(b[:segmentStart], want[:]), true
		}
	}
	return header{}, false, false
}

func parseHeaderCopy(c []byte, number uint32) (header, bool) {
	le := binary.LittleEndian
	if string(c[:8]) != segmentMagic || le.Uint32(c[headerSize-4:]) != crc32.Checksum(c[:headerSize-4], castagnoli) {
		return header{}, false
	}
	h := header{
		number: le.Uint32(c[8:]), prev: le.Uint32(c[12:]), mark: marker(c[16:24]),
		prevEnd: int64(le.Uint64(c[24:])), prevDurable: int64(le.Uint64(c[32:])),
		first: le.Uint64(c[40:]), floor: le.Uint64(c[48:]), next: le.Uint64(c[56:]),
		created: time.Unix(int64(le.Uint64(c[64:])), 0).UTC(), stub: c[72] == 1,
	}
	ok := h.number == number && h.prev < h.number && h.prevEnd >= 0 && h.prevDurable >= 0 && h.prevDurable <= h.prevEnd && h.first > 0 &&
		(!h.stub || h.next >= h.first)
	return h, ok
}

func newMarker() (m marker) {
	rand.Read(m[:]) // never fails: crypto/rand
	return m
}

func segmentName(number uint32) string { return fmt.Sprintf("%010d%s", number, segmentSuffix) }

// segmentNumber is the inverse of segmentName.
func segmentNumber(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n == 0 || segmentName(uint32(n)) != name {
		return 0, false
	}
	return uint32(n), true
}

// segment is one file of frames. But for the handle its fields are guarded by Spool.mu; size and durable of the active segment are
// written by the committer alone.
type segment struct {
	header
	path    string
	size    int64 // end of the last good frame
	durable int64 // all before is known to be on stable storage
	disk    int64 // bytes that the file takes
	live    int   // frames that something unreleased needs
	numbers int   // frames that bear a number
	bigs    []bigFile
	bigSize int64 // bytes of bigs
	// What a stub would have to remember: messages of older segments that have a supplement here, sequences that are dropped here, and
	// messages of older segments whose delivery ended here.
	settled []uint64
	drops   [][2]uint64
	ended   []uint64
	damaged bool // some of it could not be read

	handle handle
}

// bigFile is a message in a file of its own.
type bigFile struct {
	path string
	size int64 // bytes
}

// handle shares one open file between the readers of a segment.
type handle struct {
	mu   sync.Mutex
	file File // nil: closed
	refs int  // readers; the committer is one while the segment is active
	gone bool // the segment is about to be removed or made a stub: it is not opened any more
}

// acquire opens the segment for reading; each call is undone by one of Spool.letGo.
func (seg *segment) acquire(fs FS) (File, error) {
	h := &seg.handle
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return nil, fmt.Errorf("%s: %w", seg.path, ErrReleased)
	}
	if h.file == nil {
		f, err := fs.OpenFile(seg.path, os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		h.file = f
	}
	h.refs++
	return h.file, nil
}

// letGo undoes an acquire and reports whether the file is open still and nobody holds it.
func (seg *segment) letGo() (idle bool) {
	h := &seg.handle
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refs--
	if h.gone {
		h.closeIdle()
	}
	return h.refs == 0 && h.file != nil
}

// markGone keeps readers off from now on. Who has the segment open goes on reading.
func (seg *segment) markGone() {
	h := &seg.handle
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone = true
	h.closeIdle()
}

// closeIdle closes the file unless somebody holds it.
func (seg *segment) closeIdle() {
	h := &seg.handle
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closeIdle()
}

// closeIdle is called with mu held.
func (h *handle) closeIdle() {
	if h.refs == 0 && h.file != nil {
		h.file.Close() // it was only read, or has been synced
		h.file = nil
	}
}

// writeNew makes a durable file at path of exactly these bytes, through a temporary name: write, fsync file, rename, fsync directory.
// With keep it returns the open file.
func writeNew(fs FS, path string, b []byte, keep bool) (_ File, err error) {
	tmp := path + tempSuffix
	f, err := fs.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			fs.Remove(tmp) // may be left: the next start removes it
		}
	}()
	if _, err := f.WriteAt(b, 0); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := fs.Rename(tmp, path); err != nil {
		return nil, err
	}
	if err := fs.SyncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if keep {
		return f, nil
	}
	return nil, f.Close()
}
