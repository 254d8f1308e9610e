package extract

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"golang.org/x/text/encoding/charmap"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/message/codepage"
	"github.com/holdfast-archive/holdfast/index/extract/cfb"
)

// Word's binary format (MS-DOC). The text of the document, then of footnotes, headers, comments, endnotes and text boxes, is one run of
// characters that a table of pieces puts together.

// Offsets in the file information block (section 2.5).
const (
	fibFlags     = 0x0a
	fibMin       = 0x18 // of Word 6 and 95: where the text begins
	fibMac       = 0x1c // and ends
	fibChpx      = 0xfa
	fibClx       = 0x1a2
	fibOwners    = 0x1ba // who wrote comments
	fibClx6      = 0x160
	flagComplex  = 0x0004
	flagEncrypt  = 0x0100
	flagTable1   = 0x0200
	flagExtChar  = 0x1000 // of Word 95: characters have two bytes
	firstWord97  = 0xc1
	pieceUnicode = 1 << 30 // this bit is not set in the place of a piece that is UTF-16
)

// wordIdents are what a document begins with: of Word 97 and later, of 6 and 95, of the Asian versions of these.
var wordIdents = []uint16{0xa5ec, 0xa5dc, 0xa697, 0xa698, 0xa699}

func readDOC(st *cfb.Storage, out *Output) error {
	w, err := readStream(st.Stream("WordDocument"), out)
	if err != nil {
		return err
	}
	name := "0Table"
	if bin(w).u16(fibFlags)&flagTable1 != 0 {
		name = "1Table"
	}
	table, err := readStream(st.Stream(name), out)
	if err != nil {
		return err
	}
	return readWord(w, table, out)
}

// readWord reads the two streams that a document has; those of Word 6 and 95 have the first alone.
func readWord(w, table bin, out *Output) error {
	if !slices.Contains(wordIdents, w.u16(0)) || len(w) < fibMac+4 {
		return errors.New("no Word document")
	}
	if w.u16(fibFlags)&flagEncrypt != 0 {
		return ErrEncrypted
	}
	d := &docReader{w: w, flow: newFlow(out)}
	if w.u16(2) < firstWord97 {
		d.word6(codepage.Charset(codePage(w.u16(6))))
		return d.finish()
	}
	d.readChanges(table.slice(w.u32(fibChpx), w.u32(fibChpx+4)))
	if !d.pieces(table.slice(w.u32(fibClx), w.u32(fibClx+4)), d.piece) {
		return errors.New("its table of pieces is damaged")
	}
	for owners := table.slice(w.u32(fibOwners), w.u32(fibOwners+4)); len(owners) > 2; {
		n := uint32(owners.u16(0))
		d.text(fromUTF16(owners.slice(2, 2*n)), kept)
		d.end()
		owners = owners.from(2 + int(2*n))
	}
	return d.finish()
}

// docReader makes text of characters.
type docReader struct {
	*flow
	w       bin
	changes []docChange
	fields  []bool // open fields, and whether it is their instruction that is being read
	cell    bool   // a cell has just ended
}

// docChange says how the characters at some bytes of the file stand.
type docChange struct {
	from, to uint32
	change   change
}

// pieces reads the table of pieces (section 2.9.38): where each begins in the file, and how many characters it has.
func (d *docReader) pieces(clx bin, piece func(at, n uint32)) bool {
	for len(clx) > 2 && clx[0] == 1 {
		clx = clx.from(3 + int(clx.u16(1)))
	}
	if len(clx) < 5 || clx[0] != 2 {
		return false
	}
	plc := clx.slice(5, clx.u32(1))
	n := (len(plc) - 4) / 12
	left := uint32(len(d.w)) // pieces lie beside each other in the file, and have no more characters than it has bytes
	for i := range max(n, 0) {
		from, to := plc.u32(4*i), plc.u32(4*i+4)
		if to <= from || d.err != nil {
			continue
		}
		if to-from > left {
			d.out.Partial("its pieces have more text than the file")
			to = from + left
		}
		left -= to - from
		piece(plc.u32(4*(n+1)+8*i+2), to-from)
	}
	return true
}

// piece reads one piece, the runs that were added or deleted on their own.
func (d *docReader) piece(fc, n uint32) {
	size, at := uint32(2), fc&(pieceUnicode-1)
	if fc&pieceUnicode != 0 {
		size, at = 1, at/2
	}
	end := at + n*size
	next, _ := slices.BinarySearchFunc(d.changes, at, func(c docChange, at uint32) int { return cmp.Compare(c.to, at+1) })
	for at < end && d.err == nil {
		to, change := end, kept
		if next < len(d.changes) {
			if c := d.changes[next]; c.from > at {
				to = min(end, c.from)
			} else {
				to, change = min(end, c.to), c.change
				next++
			}
		}
		if to = max(to, at+1); (to-at)%size != 0 {
			to++
		}
		d.run(d.w.slice(at, to-at), size == 1, change)
		at = to
	}
}

func (d *docReader) run(b bin, narrow bool, c change) {
	if !narrow {
		d.chars(fromUTF16(b), c)
		return
	}
	var s strings.Builder
	for _, char := range b {
		s.WriteRune(charmap.Windows1252.DecodeByte(char))
	}
	d.chars(s.String(), c)
}

// chars takes characters, some of which mean other things (section 2.4.1).
func (d *docReader) chars(s string, c change) {
	from := 0
	for i, r := range s {
		if r >= ' ' && r != 0x7f {
			continue
		}
		d.say(s[from:i], c)
		d.cell = d.cell && from == i && r == '\a'
		from = i + 1
		switch r {
		case '\r', '\f', 0x0e:
			if d.instruction() { // of a field that does not end
				d.fields = d.fields[:0]
			}
			d.end()
		case '\a':
			// The end of a cell, and that of a row when it follows at once.
			if d.cell = !d.cell; d.cell {
				d.say("\t", c)
				continue
			}
			d.end()
		case '\t':
			d.say("\t", c)
		case 0x0b, '\n':
			d.say("\n", c)
		case 0x13:
			if len(d.fields) < 100 {
				d.fields = append(d.fields, true)
			}
		case 0x14:
			if n := len(d.fields); n > 0 {
				d.fields[n-1] = false
			}
		case 0x15:
			d.fields = d.fields[:max(0, len(d.fields)-1)]
		case 0x1e:
			d.say("-", c)
		}
	}
	d.say(s[from:], c)
	d.cell = d.cell && from == len(s)
}

// instruction says that what is read is the instruction of a field, and not what it shows.
func (d *docReader) instruction() bool { return slices.Contains(d.fields, true) }

func (d *docReader) say(s string, c change) {
	if s != "" && !d.instruction() {
		d.text(s, c)
	}
}

// readChanges finds the characters that were added or deleted: in pages of properties that a table lists (sections 2.8.5 and 2.9.33).
func (d *docReader) readChanges(plc bin) {
	n := (len(plc) - 4) / 8
	for i := range max(0, min(n, len(d.w)/512)) {
		page := d.w.slice((plc.u32(4*(n+1)+4*i)&0x3fffff)*512, 512)
		if len(page) < 512 {
			continue
		}
		runs := int(page[511])
		for k := range runs {
			at := 4*(runs+1) + k
			if at >= 511 {
				break
			}
			if off := uint32(page[at]) * 2; off > 0 && off < 511 {
				if c := changeOf(page.slice(off+1, uint32(page[off]))); c != kept {
					d.changes = append(d.changes, docChange{page.u32(4 * k), page.u32(4*k + 4), c})
				}
			}
		}
	}
	slices.SortFunc(d.changes, func(a, b docChange) int { return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.from, b.from)) })
}

// changeOf reads a list of properties (section 2.2.5) for the two that tell of changes.
func changeOf(b bin) change {
	c := kept
	for len(b) > 2 {
		sprm := b.u16(0)
		switch on := b[2]&1 != 0; {
		case sprm == 0x0800 && on:
			return deleted
		case sprm == 0x0801 && on:
			c = added
		}
		size := []int{1, 1, 2, 4, 2, 2, 0, 3}[sprm>>13]
		if size == 0 {
			if size = 1 + int(b[2]); sprm == 0xd608 {
				size = 1 + int(b.u16(2))
			}
		}
		b = b.from(2 + size)
	}
	return c
}

// word6 reads a document of Word 6 or 95, whose characters are bytes.
func (d *docReader) word6(charset string) {
	text := func(at, n uint32) {
		if d.w.u16(fibFlags)&flagExtChar != 0 {
			d.chars(fromUTF16(d.w.slice(at, 2*n)), kept)
			return
		}
		d.chars(strings.ReplaceAll(message.DecodeText(d.w.slice(at, n), charset), "\n", "\r"), kept)
	}
	if d.w.u16(fibFlags)&flagComplex != 0 {
		if !d.pieces(d.w.slice(d.w.u32(fibClx6), d.w.u32(fibClx6+4)), text) {
			d.out.Partial("its table of pieces is damaged")
		}
		return
	}
	if from, to := d.w.u32(fibMin), d.w.u32(fibMac); to > from {
		text(from, to-from)
	}
}

// codePage gives the code page of a language (MS-LCID) as Windows has it.
func codePage(lang uint16) uint32 {
	switch lang {
	case 0x0404, 0x0c04, 0x1404:
		return 950
	case 0x0c1a, 0x201a:
		return 1251
	}
	switch lang & 0x3ff {
	case 0x02, 0x19, 0x22, 0x23, 0x2f:
		return 1251
	case 0x05, 0x0e, 0x15, 0x18, 0x1a, 0x1b, 0x1c, 0x24:
		return 1250
	case 0x08:
		return 1253
	case 0x1f:
		return 1254
	case 0x0d:
		return 1255
	case 0x01, 0x20, 0x29:
		return 1256
	case 0x25, 0x26, 0x27:
		return 1257
	case 0x2a:
		return 1258
	case 0x1e:
		return 874
	case 0x11:
		return 932
	case 0x04:
		return 936
	case 0x12:
		return 949
	}
	return 1252
}
