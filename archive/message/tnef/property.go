package tnef

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// Types of properties (MS-OXCDATA, section 2.11.1).
const (
	typeInt16   = 0x0002
	typeInt32   = 0x0003
	typeFloat   = 0x0004
	typeDouble  = 0x0005
	typeMoney   = 0x0006
	typeAppTime = 0x0007
	typeError   = 0x000a
	typeBool    = 0x000b
	typeObject  = 0x000d
	typeInt64   = 0x0014
	typeString  = 0x001e
	typeUnicode = 0x001f
	typeTime    = 0x0040
	typeGUID    = 0x0048
	typeBinary  = 0x0102

	multiple = 0x1000
)

// fixed gives the bytes that a value of a fixed length takes; 0: its length stands before it.
func fixed(typ uint16) int {
	switch typ {
	case typeInt16, typeInt32, typeFloat, typeError, typeBool:
		return 4
	case typeDouble, typeMoney, typeAppTime, typeInt64, typeTime:
		return 8
	case typeGUID:
		return 16
	}
	return 0
}

// known says that values of a type can be read.
func known(typ uint16) bool {
	switch typ {
	case typeString, typeUnicode, typeBinary, typeObject:
		return true
	}
	return fixed(typ) > 0
}

// cursor reads on from the start of b. Once something is missing it is bad and gives zeros.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.b, c.bad = nil, true
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// padded takes n bytes and what fills them up to a multiple of four. At the very end that may be missing.
func (c *cursor) padded(n uint32) []byte {
	out := c.take(uint64(n))
	if pad := -n & 3; out != nil && uint64(pad) <= uint64(len(c.b)) {
		c.b = c.b[pad:]
	} else if out != nil {
		c.b = nil
	}
	return out
}

// each calls f with the properties of a list (MS-OXTNEF, section 2.1.3.4) that have a name of their own here: of a list of values with the
// first. What has a name by GUID is passed over.
func (p *parser) each(list []byte, f func(id, typ uint16, value []byte)) {
	c := &cursor{b: list}
	for n := c.uint32(); n > 0 && !c.bad; n-- {
		if p.properties++; p.properties > maxProperties {
			p.fail(ErrLimit)
			return
		}
		tag := c.uint32()
		typ, id := uint16(tag), uint16(tag>>16)
		if id >= 0x8000 {
			c.take(16)
			if c.uint32() == 0 {
				c.uint32()
			} else {
				c.padded(c.uint32())
			}
		}
		if !known(typ &^ multiple) {
			c.bad = true
			break
		}
		value, ok := c.values(typ)
		if ok && id < 0x8000 {
			f(id, typ&^multiple, value)
		}
	}
	if c.bad {
		p.fail(ErrDamaged)
	}
}

// values reads one value, or several, and gives the first.
func (c *cursor) values(typ uint16) (first []byte, ok bool) {
	count := uint32(1)
	size := fixed(typ &^ multiple)
	if size == 0 || typ&multiple != 0 {
		count = c.uint32()
	}
	for i := uint32(0); i < count && !c.bad; i++ {
		var v []byte
		if size > 0 {
			v = c.take(uint64(size))
		} else {
			v = c.padded(c.uint32())
		}
		if i == 0 {
			first, ok = v, !c.bad
		}
	}
	return first, ok
}

// string reads the value of a text property.
func (b *builder) string(typ uint16, value []byte) string {
	value = b.upTo(value)
	switch typ {
	case typeUnicode:
		return fromUTF16(value)
	case typeString:
		for len(value) > 0 && value[len(value)-1] == 0 {
			value = value[:len(value)-1]
		}
		return b.decode(value, b.charset)
	}
	return ""
}

func fromUTF16(b []byte) string {
	var s strings.Builder
	s.Grow(len(b) / 2)
	for len(b) > 1 {
		r := rune(binary.LittleEndian.Uint16(b))
		b = b[2:]
		if utf16.IsSurrogate(r) && len(b) > 1 {
			if both := utf16.DecodeRune(r, rune(binary.LittleEndian.Uint16(b))); both != '\ufffd' {
				r, b = both, b[2:]
			}
		}
		if r != 0 {
			s.WriteRune(r) // half of a pair as U+FFFD
		}
	}
	return s.String()
}
