package pack

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// A member has a POSIX ustar header (IEEE Std 1003.1-2017, pax, "ustar Interchange Format") of one fixed shape: mode 0444, owner 0, no
// links, no extensions. So there is one header for a name, a size and a time, and a header that is read is checked by writing it again.

const blockSize = 512

// endOfArchive is the two zero blocks that end a tar archive.
var endOfArchive = make([]byte, 2*blockSize)

// member is a tar member's header.
type member struct {
	id   record.ID // zero for index.json
	base string    // name after the id's folder
	size int64
	time int64 // Unix seconds
}

func (m *member) name() string {
	if m.id.IsZero() {
		return m.base
	}
	return m.id.String() + "/" + m.base
}

// unixTime is what a tar header can hold of a time: whole seconds from 1970 to 2242.
func unixTime(t time.Time) int64 { return min(max(t.Unix(), 0), 1<<33-1) }

// padding is how many zero bytes follow size bytes of content.
func padding(size int64) int64 { return -size & (blockSize - 1) }

// memberSize is the room that a member of size bytes takes in a tar archive.
func memberSize(size int64) int64 { return blockSize + size + padding(size) }

// appendHeader writes the header block.
func (m *member) appendHeader(b []byte) []byte {
	b = append(b, endOfArchive[:blockSize]...)
	m.fill(b[len(b)-blockSize:])
	return b
}

// fill writes it into a block of zeros.
func (m *member) fill(h []byte) {
	copy(h[:100], m.name())
	octal(h[100:108], 0o444)
	octal(h[108:116], 0)
	octal(h[116:124], 0)
	octal(h[124:136], m.size)
	octal(h[136:148], m.time)
	copy(h[148:156], "        ") // the checksum counts itself as blanks
	h[156] = '0'
	copy(h[257:], "ustar\x0000")
	octal(h[329:337], 0)
	octal(h[337:345], 0)
	sum := int64(0)
	for _, c := range h {
		sum += int64(c)
	}
	octal(h[148:155], sum)
}

// octal fills a field with digits and a NUL.
func octal(field []byte, n int64) {
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = byte('0' + n&7)
		n >>= 3
	}
	field[len(field)-1] = 0
}

// parseHeader reads a header block that appendHeader wrote; all else is ErrCorrupt.
func parseHeader(h []byte) (*member, error) {
	text, _, _ := bytes.Cut(h[:100], []byte{0})
	name := string(text)
	size, errSize := strconv.ParseUint(string(h[124:135]), 8, 33)
	seconds, errTime := strconv.ParseUint(string(h[136:147]), 8, 33)
	if errSize != nil || errTime != nil {
		return nil, corrupt("tar header of %.100q", name)
	}
	m := &member{base: name, size: int64(size), time: int64(seconds)}
	if folder, base, ok := strings.Cut(name, "/"); ok {
		id, err := record.ParseID(folder)
		if err != nil || id.IsZero() {
			return nil, corrupt("tar member %.100q", name)
		}
		m.id, m.base = id, base
	} else if name != nameIndex {
		return nil, corrupt("tar member %.100q", name)
	}
	var again [blockSize]byte
	m.fill(again[:])
	if !bytes.Equal(again[:], h) {
		return nil, corrupt("tar header of %s", name)
	}
	return m, nil
}
