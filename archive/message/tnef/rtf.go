package tnef

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// The dictionary that compressed RTF begins with, and the magic numbers (MS-OXRTFCP, section 2.2).
const (
	dictionary = `{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0` +
		"\r\n" + `\par \pard\plain\f0\fs20\b\i\u\tab\tx`
	magicCompressed   = 0x75465a4c // LZFu
	magicUncompressed = 0x414c454d // MELA
)

// decompress undoes the compression of RTF, at most limit bytes of it. What could be read comes with the error too.
func decompress(b []byte, limit int) ([]byte, error) {
	if len(b) < 16 {
		return nil, fmt.Errorf("compressed RTF: %w", ErrDamaged)
	}
	size, raw, magic := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	var err error
	if uint64(size)+4 < uint64(len(b)) && size >= 12 {
		b = b[:size+4]
	} else if uint64(size)+4 > uint64(len(b)) {
		err = fmt.Errorf("compressed RTF: %w", ErrDamaged)
	}
	b = b[16:]
	want := int(min(uint64(raw), uint64(max(limit, 0))))
	if uint64(raw) > uint64(want) {
		err = fmt.Errorf("compressed RTF: %w", ErrLimit)
	}
	switch magic {
	case magicUncompressed:
		return b[:min(len(b), want)], err
	case magicCompressed:
	default:
		return nil, fmt.Errorf("compressed RTF: %w", ErrDamaged)
	}
	var window [4096]byte
	at := copy(window[:], dictionary)
	out := make([]byte, 0, min(want, 8*len(b)+1))
	put := func(c byte) {
		window[at] = c
		at = (at + 1) & 4095
		if len(out) < want {
			out = append(out, c)
		}
	}
	for len(b) > 0 {
		control := b[0]
		b = b[1:]
		for bit := range 8 {
			if control>>bit&1 == 0 {
				if len(b) == 0 {
					return out, err
				}
				put(b[0])
				b = b[1:]
				continue
			}
			if len(b) < 2 {
				return out, fmt.Errorf("compressed RTF: %w", ErrDamaged)
			}
			ref := binary.BigEndian.Uint16(b)
			b = b[2:]
			from := int(ref >> 4)
			if from == at {
				return out, err
			}
			for range int(ref&15) + 2 {
				put(window[from])
				from = (from + 1) & 4095
			}
		}
	}
	return out, err
}

// destinations are groups that hold no text of the document.
var destinations = map[string]bool{
	"colortbl": true, "stylesheet": true, "info": true, "pict": true, "objdata": true, "themedata": true, "datastore": true, "listtable": true,
	"listoverridetable": true, "rsidtbl": true, "xmlnstbl": true, "generator": true, "latentstyles": true, "fldinst": true, "filetbl": true,
	"revtbl": true, "colorschememapping": true,
}

// spoken are control words that stand for characters.
var spoken = map[string]string{
	"par": "\n", "line": "\n", "row": "\n", "page": "\n", "sect": "\n", "tab": "\t", "cell": "\t", "emdash": "—", "endash": "–", "lquote": "‘",
	"rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•", "emspace": " ", "enspace": " ", "qmspace": " ",
}

// charsets gives code pages for the \fcharset of a font.
var charsets = map[int]uint32{
	128: 932, 129: 949, 134: 936, 136: 950, 161: 1253, 162: 1254, 163: 1258, 177: 1255, 178: 1256, 186: 1257, 204: 1251, 222: 874, 238: 1250,
}

// group is what holds within braces.
type group struct {
	skip  bool // its text is none of the document
	table bool // it is the table of fonts
	font  int
	uc    int // how many characters after \u stand for programs without Unicode
}

// rtfReader makes text of RTF.
type rtfReader struct {
	group
	stack   []group
	deep    int // groups that are open past the limit of the stack
	decode  Decode
	charset string         // of the document
	fonts   map[int]string // charset by font
	defined int            // the font that the table is defining
	out     strings.Builder
	raw     []byte // bytes in the charset of the present font, not yet decoded
	high    rune   // half of a character
	after   int    // characters still to be passed over after \u
}

// maxGroups bounds braces one in the other.
const maxGroups = 1000

// rtfText gives the text of RTF. It reads words and braces and knows no layout.
func rtfText(b []byte, charset string, decode Decode) string {
	r := &rtfReader{group: group{uc: 1}, decode: decode, charset: charset, fonts: map[int]string{}}
	for len(b) > 0 {
		switch c := b[0]; c {
		case '{':
			r.open()
			b = b[1:]
		case '}':
			r.close()
			b = b[1:]
		case '\\':
			b = r.control(b[1:])
		case '\r', '\n', 0:
			b = b[1:]
		default:
			r.byte(c)
			b = b[1:]
		}
	}
	r.flush()
	return r.out.String()
}

func (r *rtfReader) open() {
	r.after = 0
	if len(r.stack) == maxGroups {
		r.deep++
		return
	}
	r.stack = append(r.stack, r.group)
}

func (r *rtfReader) close() {
	r.after = 0
	switch {
	case r.deep > 0:
		r.deep--
	case len(r.stack) > 0:
		r.flush()
		r.group = r.stack[len(r.stack)-1]
		r.stack = r.stack[:len(r.stack)-1]
	}
}

// byte takes a character of the document.
func (r *rtfReader) byte(c byte) {
	if r.after > 0 {
		r.after--
		return
	}
	if !r.skip && !r.table {
		r.raw = append(r.raw, c)
	}
}

// flush decodes the bytes that were collected.
func (r *rtfReader) flush() {
	if len(r.raw) == 0 {
		return
	}
	charset := r.fonts[r.font]
	if charset == "" {
		charset = r.charset
	}
	r.out.WriteString(r.decode(r.raw, charset))
	r.raw = r.raw[:0]
}

// control reads what follows a backslash.
func (r *rtfReader) control(b []byte) (rest []byte) {
	if len(b) == 0 {
		return nil
	}
	c := b[0]
	if c|0x20 < 'a' || c|0x20 > 'z' {
		return r.symbol(c, b[1:])
	}
	n := 0
	for n < len(b) && n < 40 && b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z' {
		n++
	}
	word := string(b[:n])
	b = b[n:]
	n = 0
	if n < len(b) && b[n] == '-' {
		n++
	}
	for n < len(b) && n < 12 && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	value, err := strconv.Atoi(string(b[:n]))
	has := err == nil
	b = b[n:]
	if len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	if word == "bin" && has && value > 0 {
		return b[min(value, len(b)):]
	}
	r.word(word, value, has)
	return b
}

func (r *rtfReader) symbol(c byte, b []byte) []byte {
	switch c {
	case '\'':
		if len(b) < 2 {
			return nil
		}
		if v, err := strconv.ParseUint(string(b[:2]), 16, 8); err == nil {
			r.byte(byte(v))
			return b[2:]
		}
	case '*':
		r.skip = true
	case '\\', '{', '}':
		r.byte(c)
	case '~':
		r.say(" ")
	case '_':
		r.say("-")
	case '\r', '\n':
		r.say("\n")
	}
	return b
}

// say writes text that is Unicode already.
func (r *rtfReader) say(s string) {
	if r.after > 0 {
		r.after--
		return
	}
	if !r.skip && !r.table {
		r.flush()
		r.out.WriteString(s)
	}
}

func (r *rtfReader) word(word string, value int, has bool) {
	switch {
	case word == "u" && has:
		r.unicode(rune(uint16(value)))
		r.after = r.uc
	case spoken[word] != "":
		r.say(spoken[word])
	case word == "uc" && has:
		r.uc = min(max(value, 0), 100)
	case word == "ansicpg" && has && value > 0:
		r.charset = Charset(uint32(value))
	case word == "fonttbl":
		r.table = true
	case word == "f" && has && r.table:
		r.defined = value
	case word == "fcharset" && r.table:
		if page := charsets[value]; page != 0 && len(r.fonts) < 1000 {
			r.fonts[r.defined] = Charset(page)
		}
	case (word == "f" || word == "plain") && !r.table:
		r.flush()
		r.font = value
	case destinations[word]:
		r.skip = true
	}
}

// unicode takes a UTF-16 unit.
func (r *rtfReader) unicode(u rune) {
	high := r.high
	r.high = 0
	switch {
	case u >= 0xd800 && u < 0xdc00:
		r.high = u
	case u >= 0xdc00 && u < 0xe000:
		if high != 0 {
			r.put((high-0xd800)<<10 | (u - 0xdc00) + 0x10000)
		}
	case u == 0:
	default:
		r.put(u)
	}
}

func (r *rtfReader) put(u rune) {
	if !r.skip && !r.table {
		r.flush()
		r.out.WriteRune(u)
	}
}
