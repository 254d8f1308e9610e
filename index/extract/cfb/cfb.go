// Package cfb reads compound files (MS-CFB): the container of .doc, .xls, .ppt and .msg, streams in a tree of storages.
//
// What it promises: any bytes are read in time and memory linear in their number, without a panic. A file that is cut off or damaged is read as
// far as it goes: only the stream that a fault lies in ends early, with ErrDamaged. The libraries there are don't do that: they give up at the
// first fault, and take quadratic memory for storages within storages.
package cfb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

var (
	// ErrFormat: this is no compound file.
	ErrFormat = errors.New("not a compound file")
	// ErrDamaged: a chain of sectors leads out of the file or into itself.
	ErrDamaged = errors.New("compound file is damaged or cut off")
)

// Signature is what a compound file begins with.
const Signature = "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

// Special numbers of sectors and entries (section 2.1).
const (
	maxSector = 0xfffffffa
	noStream  = 0xffffffff
)

// Types of entries (section 2.6.1).
const (
	typeStorage = 1
	typeStream  = 2
	typeRoot    = 5
)

const (
	miniSector  = 64
	miniCutoff  = 4096 // streams that are shorter lie in the mini stream
	entryBytes  = 128
	headerBytes = 512
)

// Storage is a directory. Its entries stand in the order of the file.
type Storage struct {
	Name     string
	Storages []*Storage
	Streams  []*Stream
}

// Stream is a file.
type Stream struct {
	Name string
	Size int64 // bytes, as the directory says; no more than the file could hold
	file *file
	from uint32
}

// file is what the streams are read from.
type file struct {
	r      io.ReaderAt
	size   int64
	sector int64    // bytes
	fat    []uint32 // the sector after each
	mini   []uint32 // the same of mini sectors
	inMini []uint32 // the sectors of the mini stream
}

// Open reads the directory of a compound file.
func Open(r io.ReaderAt, size int64) (*Storage, error) {
	var head [headerBytes]byte
	if size < headerBytes {
		return nil, ErrFormat
	}
	if _, err := r.ReadAt(head[:], 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("header of the compound file: %w", err)
	}
	if string(head[:8]) != Signature {
		return nil, ErrFormat
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(head[at:]) }
	shift := binary.LittleEndian.Uint16(head[30:])
	if shift != 9 && shift != 12 {
		return nil, fmt.Errorf("%w: sectors of 2^%d bytes", ErrDamaged, shift)
	}
	f := &file{r: r, size: size, sector: 1 << shift}
	f.readFAT(head[76:], u32(68))
	for _, at := range f.chain(u32(60)) {
		f.mini = append(f.mini, f.numbers(at)...)
	}
	entries := f.directory(u32(48))
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: it has no directory", ErrDamaged)
	}
	f.inMini = f.chain(entries[0].from)
	return f.tree(entries), nil
}

// sectors is how many the file has; the last may be cut off.
func (f *file) sectors() uint32 { return uint32(min((f.size-1)/f.sector, maxSector)) }

// numbers reads a sector of numbers. What lies beyond the file is missing.
func (f *file) numbers(sector uint32) []uint32 {
	b := make([]byte, f.sector)
	n, _ := f.r.ReadAt(b, (int64(sector)+1)*f.sector)
	list := make([]uint32, n/4)
	for i := range list {
		list[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return list
}

// readFAT reads the table of sectors. Its own sectors are listed in the header, then in a chain of sectors that each end in the next one's
// number (section 2.5).
func (f *file) readFAT(inHeader []byte, next uint32) {
	total := f.sectors()
	seen := make(map[uint32]bool)
	add := func(at uint32) bool {
		if at >= total || seen[at] {
			return false
		}
		seen[at] = true
		list := f.numbers(at)
		for range int(f.sector)/4 - len(list) {
			list = append(list, noStream)
		}
		f.fat = append(f.fat, list...)
		return true
	}
	for ; len(inHeader) >= 4; inHeader = inHeader[4:] {
		if !add(binary.LittleEndian.Uint32(inHeader)) {
			return
		}
	}
	for next < total && !seen[next] {
		seen[next] = true
		list := f.numbers(next)
		if len(list) == 0 {
			return
		}
		last := len(list) - 1
		for _, at := range list[:last] {
			if !add(at) {
				return
			}
		}
		next = list[last]
	}
}

// chain gives the sectors that begin with this one: up to the end, or to a fault. A chain that leads into itself is cut where it is longer
// than the file.
func (f *file) chain(at uint32) (list []uint32) {
	total := f.sectors()
	for at < total && uint32(len(list)) < total {
		list = append(list, at)
		if at >= uint32(len(f.fat)) {
			break
		}
		at = f.fat[at]
	}
	return list
}

// entry is one of the directory.
type entry struct {
	name               string
	typ                byte
	left, right, child uint32
	from               uint32
	size               int64
}

func (f *file) directory(at uint32) (list []entry) {
	b := make([]byte, f.sector)
	for _, s := range f.chain(at) {
		n, _ := f.r.ReadAt(b, (int64(s)+1)*f.sector)
		for e := b[:n]; len(e) >= entryBytes; e = e[entryBytes:] {
			list = append(list, f.entry(e[:entryBytes]))
		}
	}
	return list
}

func (f *file) entry(b []byte) entry {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	e := entry{typ: b[66], left: u32(68), right: u32(72), child: u32(76), from: u32(116), size: int64(u32(120))}
	if high := u32(124); f.sector > 512 && high != 0 {
		e.size = f.size // more than 4 GiB in a file that is shorter
	}
	e.size = min(e.size, f.size)
	units := make([]uint16, 0, 32)
	for at := 0; at+1 < int(min(binary.LittleEndian.Uint16(b[64:]), 64)); at += 2 {
		if u := binary.LittleEndian.Uint16(b[at:]); u != 0 {
			units = append(units, u)
		}
	}
	e.name = string(utf16.Decode(units))
	return e
}

// tree makes the storages of the entries. Siblings are a binary tree (section 2.6.4); each entry is taken once, whatever points to it.
func (f *file) tree(entries []entry) *Storage {
	root := &Storage{}
	type open struct {
		at   uint32
		into *Storage
	}
	taken := make([]bool, len(entries))
	taken[0] = true
	for stack := []open{{entries[0].child, root}}; len(stack) > 0; {
		o := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if o.at >= uint32(len(entries)) || taken[o.at] {
			continue
		}
		taken[o.at] = true
		e := entries[o.at]
		stack = append(stack, open{e.right, o.into}, open{e.left, o.into})
		switch e.typ {
		case typeStorage, typeRoot:
			s := &Storage{Name: e.name}
			o.into.Storages = append(o.into.Storages, s)
			stack = append(stack, open{e.child, s})
		case typeStream:
			o.into.Streams = append(o.into.Streams, &Stream{e.name, e.size, f, e.from})
		}
	}
	return root
}

// Storage gives a storage by its name, in any case; nil: there is none.
func (s *Storage) Storage(name string) *Storage {
	for _, sub := range s.Storages {
		if strings.EqualFold(sub.Name, name) {
			return sub
		}
	}
	return nil
}

// Stream gives a stream by its name, in any case; nil: there is none.
func (s *Storage) Stream(name string) *Stream {
	for _, st := range s.Streams {
		if strings.EqualFold(st.Name, name) {
			return st
		}
	}
	return nil
}

// Open reads the stream from its beginning. A nil stream is empty.
func (s *Stream) Open() io.Reader {
	if s == nil {
		return strings.NewReader("")
	}
	return &reader{file: s.file, left: s.Size, mini: s.Size < miniCutoff, at: s.from}
}

// reader follows a chain of sectors.
type reader struct {
	*file
	left int64
	mini bool
	at   uint32 // sector
	off  int64  // in it
	err  error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	offset, length, ok := r.place()
	if !ok {
		r.err = ErrDamaged
		return 0, r.err
	}
	n := int(min(int64(len(p)), r.left, length-r.off))
	n, err := r.r.ReadAt(p[:n], offset+r.off)
	r.left -= int64(n)
	if r.off += int64(n); r.off == length {
		r.off, r.at = 0, r.next()
	}
	if n == 0 {
		if err == io.EOF || err == nil {
			err = ErrDamaged
		}
		r.err = err
		return 0, r.err
	}
	return n, nil
}

// place says where the present sector stands in the file.
func (r *reader) place() (offset, length int64, ok bool) {
	if !r.mini {
		return (int64(r.at) + 1) * r.sector, r.sector, r.at < r.sectors()
	}
	per := uint32(r.sector / miniSector)
	if i := r.at / per; int64(i) < int64(len(r.inMini)) {
		return (int64(r.inMini[i])+1)*r.sector + int64(r.at%per)*miniSector, miniSector, true
	}
	return 0, 0, false
}

func (r *reader) next() uint32 {
	table := r.fat
	if r.mini {
		table = r.file.mini
	}
	if int64(r.at) < int64(len(table)) {
		return table[r.at]
	}
	return noStream
}
