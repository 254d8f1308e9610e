package tnef

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"unicode/utf16"
)

// writer makes TNEF, as Exchange does: the counterpart of the parser, for tests.
type writer struct{ bytes.Buffer }

func newWriter() *writer {
	w := &writer{}
	w.u32(signature)
	w.u16(0x1234)
	w.attribute(1, 0x00089006, []byte{0, 0, 1, 0}) // the version
	w.attribute(1, attCodepage, le32(1252, 0))
	return w
}

func (w *writer) u16(v uint16) { w.Write(binary.LittleEndian.AppendUint16(nil, v)) }
func (w *writer) u32(v uint32) { w.Write(binary.LittleEndian.AppendUint32(nil, v)) }

func le32(list ...uint32) (b []byte) {
	for _, v := range list {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func (w *writer) attribute(level byte, id uint32, value []byte) {
	w.WriteByte(level)
	w.u32(id)
	w.u32(uint32(len(value)))
	w.Write(value)
	w.u16(sum(value))
}

// begin starts an attachment; size fills the renddata as Outlook does.
func (w *writer) begin() {
	w.attribute(2, attAttachBegin, append(append([]byte{1, 0}, le32(0xffffffff, 0x00200020)...), 0, 0, 0, 0))
}

// properties is a list of MAPI properties.
type properties struct {
	n uint32
	b []byte
}

func (p *properties) add(id, typ uint16, value []byte) *properties {
	p.n++
	p.b = append(p.b, le32(uint32(id)<<16|uint32(typ))...)
	if id >= 0x8000 {
		p.b = append(p.b, make([]byte, 16)...)
		p.b = append(p.b, le32(1, 8)...)
		p.b = append(p.b, 'a', 0, 'b', 0, 'c', 0, 0, 0)
	}
	if fixed(typ) > 0 {
		p.b = append(p.b, value...)
		return p
	}
	p.b = append(p.b, le32(1, uint32(len(value)))...)
	p.b = append(p.b, value...)
	p.b = append(p.b, make([]byte, -len(value)&3)...)
	return p
}

func (p *properties) unicode(id uint16, s string) *properties {
	return p.add(id, typeUnicode, utf16le(s))
}

func (p *properties) bytes() []byte { return append(le32(p.n), p.b...) }

func utf16le(s string) (b []byte) {
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// compress compresses RTF (MS-OXRTFCP), with references to what the dictionary and the text before it have.
func compress(s string) []byte {
	window := dictionary
	var out []byte
	for s != "" {
		var block []byte
		var control byte
		bit := 0
		for ; bit < 8 && s != ""; bit++ {
			n, at := 0, 0
			for k := min(17, len(s)); k >= 2; k-- {
				if i := strings.LastIndex(window[max(0, len(window)-4000):], s[:k]); i >= 0 {
					n, at = k, i+max(0, len(window)-4000)
					break
				}
			}
			if n == 0 {
				block = append(block, s[0])
				window += s[:1]
				s = s[1:]
				continue
			}
			control |= 1 << bit
			block = binary.BigEndian.AppendUint16(block, uint16(at&4095)<<4|uint16(n-2))
			window += s[:n]
			s = s[n:]
		}
		if s == "" && bit < 8 {
			control |= 1 << bit
			block = binary.BigEndian.AppendUint16(block, uint16(len(window)&4095)<<4)
			out = append(append(out, control), block...)
			return header(out, len(window)-len(dictionary))
		}
		out = append(append(out, control), block...)
	}
	out = append(out, 1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(window)&4095)<<4)
	return header(out, len(window)-len(dictionary))
}

func header(body []byte, raw int) []byte {
	table := crc32.MakeTable(crc32.IEEE)
	crc := uint32(0)
	for _, c := range body { // without the inversions of the usual sum
		crc = table[byte(crc)^c] ^ crc>>8
	}
	return append(le32(uint32(len(body)+12), uint32(raw), magicCompressed, crc), body...)
}
