package extract

import (
	"errors"
	"math"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/message/codepage"
	"github.com/holdfast-archive/holdfast/index/extract/cfb"
)

// Excel's binary format (MS-XLS, BIFF8, and BIFF5 of Excel 5 and 95): a run of records, each a type, a length and bytes.

// Types of records (MS-XLS, section 2.3).
const (
	xlsFormula    = 0x0006
	xlsHeader     = 0x0014
	xlsFooter     = 0x0015
	xlsNote       = 0x001c
	xlsDate1904   = 0x0022
	xlsFilePass   = 0x002f
	xlsContinue   = 0x003c
	xlsCodePage   = 0x0042
	xlsBoundSheet = 0x0085
	xlsMulRK      = 0x00bd
	xlsPivotText  = 0x00cd
	xlsRString    = 0x00d6
	xlsXF         = 0x00e0
	xlsSST        = 0x00fc
	xlsLabelSST   = 0x00fd
	xlsTXO        = 0x01b6
	xlsNumber     = 0x0203
	xlsLabel      = 0x0204
	xlsBoolErr    = 0x0205
	xlsString     = 0x0207
	xlsRK         = 0x027e
	xlsFormat     = 0x041e
	xlsBOF        = 0x0809
	xlsSeriesText = 0x100d
)

// xlsReader reads one workbook.
type xlsReader struct {
	out     *Output
	wide    bool   // BIFF8: strings say whether they are Unicode
	charset string // of strings that are not
	strings []string
	formats map[uint16]string
	xfs     []uint16 // number formats
	sheetStyles
	row   uint16
	cells rowText
}

func readXLS(st *cfb.Storage, out *Output) error {
	s := st.Stream("Workbook")
	if s == nil {
		s = st.Stream("Book")
	}
	b, err := readStream(s, out)
	if err != nil {
		return err
	}
	x := newXLSReader(out)
	if err := x.workbook(b); err != nil {
		return err
	}
	return x.pivots(st.Storage("_SX_DB_CUR"))
}

func newXLSReader(out *Output) *xlsReader {
	return &xlsReader{out: out, charset: "windows-1252", formats: map[uint16]string{}}
}

// pivots reads what pivot tables keep of their source.
func (x *xlsReader) pivots(st *cfb.Storage) error {
	if st == nil {
		return nil
	}
	for _, s := range st.Streams {
		b, err := readStream(s, x.out)
		if err != nil {
			return err
		}
		if err := x.records(b); err != nil {
			return err
		}
	}
	return nil
}

func (x *xlsReader) workbook(b bin) error {
	if b.u16(0) != xlsBOF {
		return errors.New("no workbook that is known")
	}
	err := x.records(b)
	if e := x.endRow(); err == nil {
		err = e
	}
	return err
}

func (x *xlsReader) records(b bin) error {
	for len(b) >= 4 {
		typ, data := b.u16(0), b.slice(4, uint32(b.u16(2)))
		if len(data) < int(b.u16(2)) {
			x.out.Partial("the workbook is cut off")
		}
		b = b.from(4 + len(data))
		parts := [][]byte{data}
		for len(b) >= 4 && b.u16(0) == xlsContinue && (typ == xlsSST || typ == xlsTXO || typ == xlsString || typ == xlsLabel || typ == xlsRString) {
			part := b.slice(4, uint32(b.u16(2)))
			parts = append(parts, part)
			b = b.from(4 + len(part))
		}
		if err := x.record(typ, data, parts); err != nil {
			return err
		}
	}
	return nil
}

func (x *xlsReader) record(typ uint16, b bin, parts [][]byte) error {
	switch typ {
	case xlsFilePass:
		return ErrEncrypted
	case xlsBOF:
		x.wide = b.u16(0) >= 0x0600
		return x.endRow()
	case xlsCodePage:
		if page := b.u16(0); page != 1200 {
			x.charset = codepage.Charset(uint32(page))
		}
	case xlsDate1904:
		x.date1904 = b.u16(0) == 1
	case xlsBoundSheet:
		return x.out.Text(x.short(b.from(6)))
	case xlsFormat:
		if len(x.formats) < 1<<16 {
			if x.wide {
				x.formats[b.u16(0)] = x.long(b.from(2))
			} else {
				x.formats[b.u16(0)] = x.short(b.from(2))
			}
		}
	case xlsXF:
		if len(x.xfs) < 1<<16 {
			x.xfs = append(x.xfs, b.u16(2))
		}
	case xlsSST:
		x.readStrings(parts)
	case xlsHeader, xlsFooter:
		text := x.short(b)
		if x.wide {
			text = x.long(b)
		}
		x.cells.cell(headerText(text))
		return x.endRow()
	case xlsNote:
		if x.wide {
			return x.out.Text(x.long(b.from(8)))
		}
		return x.out.Text(message.DecodeText(b.slice(6, uint32(b.u16(4))), x.charset))
	case xlsTXO:
		r := &xlsParts{parts: parts[1:], start: true}
		return x.out.Text(r.chars(int(b.u16(10)), false))
	case xlsPivotText:
		return x.out.Text(x.long(b))
	case xlsSeriesText:
		return x.out.Text(x.short(b.from(2)))
	default:
		return x.cell(typ, b, parts)
	}
	return nil
}

// cell takes the records that are cells, and the one that follows a formula whose result is text.
func (x *xlsReader) cell(typ uint16, b bin, parts [][]byte) error {
	row, xf := b.u16(0), b.u16(4)
	var text string
	switch typ {
	case xlsString:
		x.cells.cell(x.longParts(parts, 0))
		return nil
	case xlsLabelSST:
		if i := b.u32(6); uint64(i) < uint64(len(x.strings)) {
			text = x.strings[i]
		}
	case xlsLabel, xlsRString:
		text = x.longParts(parts, 6)
	case xlsNumber:
		text = x.value(math.Float64frombits(b.u64(6)), xf)
	case xlsRK:
		text = x.value(rk(b.u32(6)), xf)
	case xlsMulRK:
		for i := 4; i+6 <= len(b)-2; i += 6 {
			if err := x.add(row, x.value(rk(b.u32(i+2)), b.u16(i))); err != nil {
				return err
			}
		}
		return nil
	case xlsFormula:
		switch {
		case b.u16(12) != 0xffff:
			text = x.value(math.Float64frombits(b.u64(6)), xf)
		case b.u16(6)&0xff == 1:
			text = boolean(b.u16(8)&0xff != 0)
		}
	case xlsBoolErr:
		if b.u16(6)>>8 == 0 {
			text = boolean(b.u16(6)&0xff != 0)
		}
	default:
		return nil
	}
	return x.add(row, text)
}

// add adds a cell, and ends the row before where it is in another.
func (x *xlsReader) add(row uint16, text string) error {
	if row != x.row || x.cells.b.Len() > maxParagraph {
		if err := x.endRow(); err != nil {
			return err
		}
		x.row = row
	}
	x.cells.cell(text)
	return nil
}

func (x *xlsReader) endRow() error { return x.cells.end(x.out) }

func boolean(v bool) string {
	if v {
		return "TRUE"
	}
	return "FALSE"
}

// rk reads a number that was made to fit 30 bits (section 2.5.198.122).
func rk(n uint32) float64 {
	v := float64(int32(n) >> 2)
	if n&2 == 0 {
		v = math.Float64frombits(uint64(n&^3) << 32)
	}
	if n&1 != 0 {
		v /= 100
	}
	return v
}

func (x *xlsReader) value(v float64, xf uint16) string {
	if int(xf) >= len(x.xfs) {
		return plainFloat(v)
	}
	format := x.xfs[xf]
	return x.number(v, styleOf(int(format), x.formats[format]))
}

// short reads a text whose length is one byte.
func (x *xlsReader) short(b bin) string {
	if len(b) < 1 {
		return ""
	}
	if !x.wide {
		return message.DecodeText(b.slice(1, uint32(b[0])), x.charset)
	}
	r := &xlsParts{parts: [][]byte{b.from(1)}, start: true}
	return r.chars(int(b[0]), false)
}

// long reads a text whose length is two bytes.
func (x *xlsReader) long(b bin) string { return x.longParts([][]byte{b}, 0) }

// longParts is long for a text that may go on in the records that follow.
func (x *xlsReader) longParts(parts [][]byte, at int) string {
	b := bin(parts[0]).from(at)
	if !x.wide {
		return message.DecodeText(b.slice(2, uint32(b.u16(0))), x.charset)
	}
	r := &xlsParts{parts: append([][]byte{b.from(2)}, parts[1:]...), start: true}
	return r.chars(int(b.u16(0)), false)
}

// readStrings reads the table of strings (section 2.4.265), which goes on over many records.
func (x *xlsReader) readStrings(parts [][]byte) {
	r := &xlsParts{parts: parts}
	r.skip(4)
	n := bin(r.take(4)).u32(0)
	for total := 0; n > 0 && !r.empty(); n-- {
		head := bin(r.take(3))
		if len(head) < 3 {
			break
		}
		runs, extra := 0, 0
		if head[2]&8 != 0 {
			runs = int(bin(r.take(2)).u16(0))
		}
		if head[2]&4 != 0 {
			extra = int(bin(r.take(4)).u32(0))
		}
		s := r.chars(int(head.u16(0)), head[2]&1 != 0)
		if total += len(s) + 16; total > maxShared {
			break
		}
		x.strings = append(x.strings, s)
		r.skip(4*runs + extra)
	}
	if n > 0 {
		x.out.Partial("not all strings of the workbook could be read")
	}
}

// xlsParts reads over the borders of records. Where characters go on behind one, a byte says again how wide they are.
type xlsParts struct {
	parts [][]byte
	start bool // a byte with the width comes next
}

func (r *xlsParts) empty() bool {
	for len(r.parts) > 0 && len(r.parts[0]) == 0 {
		r.parts = r.parts[1:]
	}
	return len(r.parts) == 0
}

// take gives n bytes, or fewer at the end.
func (r *xlsParts) take(n int) (b []byte) {
	for n > 0 && !r.empty() {
		k := min(n, len(r.parts[0]))
		b = append(b, r.parts[0][:k]...)
		r.parts[0] = r.parts[0][k:]
		n -= k
	}
	return b
}

func (r *xlsParts) skip(n int) {
	for n > 0 && !r.empty() {
		k := min(n, len(r.parts[0]))
		r.parts[0] = r.parts[0][k:]
		n -= k
	}
}

// chars gives n characters.
func (r *xlsParts) chars(n int, wide bool) string {
	var units []byte
	for n > 0 {
		if len(r.parts) > 0 && len(r.parts[0]) == 0 {
			r.parts, r.start = r.parts[1:], true
			continue
		}
		if len(r.parts) == 0 {
			break
		}
		if r.start {
			wide, r.start = r.parts[0][0]&1 != 0, false
			r.parts[0] = r.parts[0][1:]
			continue
		}
		part := r.parts[0]
		if !wide {
			k := min(n, len(part))
			for _, c := range part[:k] {
				units = append(units, c, 0)
			}
			r.parts[0], n = part[k:], n-k
			continue
		}
		k := min(n, len(part)/2)
		units = append(units, part[:2*k]...)
		r.parts[0], n = part[2*k:], n-k
		if len(r.parts[0]) == 1 {
			r.parts[0] = nil
		}
	}
	r.start = false
	return fromUTF16(units)
}
