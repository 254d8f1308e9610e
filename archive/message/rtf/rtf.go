// Package rtf reads Rich Text Format (version 1.9.1) for the text in it: words and braces, and no layout.
//
// What it promises: any bytes are read in time and memory linear in their number, and without a panic. What is no RTF comes out as the text
// that it is.
package rtf

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/message/codepage"
)

// Decode turns text in a charset, by its MIME name, into UTF-8.
type Decode func(raw []byte, charset string) string

// Change says how a text stands in a document that remembers its changes.
type Change uint8

// The changes.
const (
	Kept Change = iota
	Added
	Deleted
)

// Sink takes what is read, in the order of the file.
type Sink interface {
	Text(s string, c Change) // a piece of a line
	Line()                   // the end of a paragraph, or of a row of cells
	Enter()                  // what follows hangs in the text, and is none of the line: a note, a header, a text box, a property
	Leave()                  // the end of that
	Object(data []byte)      // an embedded object, in the form of OLE 1 (MS-OLEDS, section 2.2.5); it may be cut off
}

// Read reads a document. charset is the one of texts that nothing says another of.
func Read(b []byte, charset string, decode Decode, to Sink) {
	r := &reader{group: group{uc: 1}, to: to, decode: decode, charset: charset, fonts: map[int]string{}}
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
	r.deep = 0
	for len(r.stack) > 0 {
		r.close()
	}
	r.flush()
}

// kind is what the text of a group is.
type kind uint8

const (
	body    kind = iota
	skipped      // none of the document
	fonts        // the table of fonts
	info         // properties, the text of which is in groups within
	object       // an object in hexadecimal digits
)

// destinations are the words that groups begin with which are not body.
var destinations = map[string]kind{
	"fonttbl": fonts, "info": info, "userprops": info, "objdata": object,
	"colortbl": skipped, "stylesheet": skipped, "pict": skipped, "themedata": skipped, "datastore": skipped, "listtable": skipped,
	"listoverridetable": skipped, "rsidtbl": skipped, "xmlnstbl": skipped, "generator": skipped, "latentstyles": skipped, "fldinst": skipped,
	"filetbl": skipped, "revtbl": skipped, "colorschememapping": skipped, "sn": skipped, "sv": skipped, "shprslt": skipped, "nonesttables": skipped,
	"xe": skipped, "tc": skipped, "template": skipped, "upr": skipped, "nonshppict": skipped, "pntxta": skipped, "pntxtb": skipped,
}

// hanging are the words that groups begin with whose text hangs in another.
var hanging = map[string]bool{
	"header": true, "headerl": true, "headerr": true, "headerf": true, "footer": true, "footerl": true, "footerr": true, "footerf": true,
	"footnote": true, "annotation": true, "atnauthor": true, "shptxt": true, "dptxbxtext": true,
}

// properties are those of a document that have words.
var properties = map[string]bool{
	"title": true, "subject": true, "author": true, "manager": true, "company": true, "category": true, "keywords": true, "doccomm": true,
	"propname": true, "staticval": true,
}

// through are groups that readers are told to pass over if they don't know them, and that have text within.
var through = map[string]bool{"shpinst": true, "do": true}

// spoken are control words that stand for characters.
var spoken = map[string]string{
	"line": "\n", "lbr": "\n", "tab": "\t", "cell": "\t", "nestcell": "\t", "emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’",
	"ldblquote": "“", "rdblquote": "”", "bullet": "•", "emspace": " ", "enspace": " ", "qmspace": " ", "zwj": "\u200d", "zwnj": "\u200c",
}

// charsets gives code pages for the \fcharset of a font.
var charsets = map[int]uint32{
	77: 10000, 128: 932, 129: 949, 130: 949, 134: 936, 136: 950, 161: 1253, 162: 1254, 163: 1258, 177: 1255, 178: 1256, 186: 1257, 204: 1251, 222: 874,
	238: 1250, 254: 437, 255: 850,
}

// group is what holds within braces.
type group struct {
	kind   kind
	before kind // what the group was before the word upr, which has the same text twice
	hangs  bool // it began what hangs
	object bool // it began an object
	change Change
	font   int
	uc     int // how many characters after \u stand for programs without Unicode
}

type reader struct {
	group
	to      Sink
	decode  Decode
	stack   []group
	deep    int    // groups that are open past the limit of the stack
	star    bool   // what follows may be passed over by those who don't know it
	charset string // of the document
	main    int    // the font where none is set
	fonts   map[int]string
	defined int    // the font that the table is defining
	raw     []byte // bytes in the charset of the present font, not yet decoded
	hex     []byte // digits of an object
	high    rune   // half of a character
	after   int    // characters still to be passed over after \u
}

// maxGroups bounds braces one in the other.
const maxGroups = 1000

func (r *reader) open() {
	r.after, r.star = 0, false
	if len(r.stack) == maxGroups {
		r.deep++
		return
	}
	r.stack = append(r.stack, r.group)
	r.hangs, r.object = false, false
}

func (r *reader) close() {
	r.after, r.star = 0, false
	switch {
	case r.deep > 0:
		r.deep--
	case len(r.stack) > 0:
		r.flush()
		r.end()
		r.group = r.stack[len(r.stack)-1]
		r.stack = r.stack[:len(r.stack)-1]
	}
}

// end ends what the group began.
func (r *reader) end() {
	if r.hangs {
		r.to.Leave()
	}
	if r.object {
		if n, _ := hex.Decode(r.hex, r.hex[:len(r.hex)&^1]); n > 0 {
			r.to.Object(append([]byte(nil), r.hex[:n]...))
		}
		r.hex = r.hex[:0]
	}
}

// byte takes a character of the document.
func (r *reader) byte(c byte) {
	if r.after > 0 {
		r.after--
		return
	}
	switch {
	case r.kind == body:
		r.raw = append(r.raw, c)
	case r.kind == object && (c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'):
		r.hex = append(r.hex, c)
	}
}

// flush decodes the bytes that were collected.
func (r *reader) flush() {
	if len(r.raw) == 0 {
		return
	}
	charset := r.fonts[r.font]
	if charset == "" {
		charset = r.charset
	}
	r.to.Text(r.decode(r.raw, charset), r.change)
	r.raw = r.raw[:0]
}

// control reads what follows a backslash.
func (r *reader) control(b []byte) (rest []byte) {
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
		value = min(value, len(b))
		if r.kind == object {
			r.hex = hex.AppendEncode(r.hex, b[:value])
		}
		return b[value:]
	}
	r.word(word, value, has)
	return b
}

func (r *reader) symbol(c byte, b []byte) []byte {
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
		r.star = true
	case '\\', '{', '}':
		r.byte(c)
	case '~':
		r.say(" ")
	case '_':
		r.say("-")
	case '\r', '\n':
		r.line()
	}
	return b
}

// say writes text that is Unicode already.
func (r *reader) say(s string) {
	if r.after > 0 {
		r.after--
		return
	}
	r.put(s)
}

func (r *reader) put(s string) {
	if r.kind == body {
		r.flush()
		r.to.Text(s, r.change)
	}
}

func (r *reader) line() {
	if r.kind == body {
		r.flush()
		r.to.Line()
	}
}

func (r *reader) word(word string, value int, has bool) {
	star := r.star
	r.star = false
	if r.destination(word, star) {
		return
	}
	switch word {
	case "par", "row", "nestrow", "page", "sect", "column":
		r.line()
	case "u":
		if has {
			r.unicode(rune(uint16(value)))
			r.after = r.uc
		}
	case "uc":
		if has {
			r.uc = min(max(value, 0), 100)
		}
	case "revised":
		r.changed(Added, !has || value != 0)
	case "deleted":
		r.changed(Deleted, !has || value != 0)
	case "plain":
		r.flush()
		r.font, r.change = r.main, Kept
	default:
		if s := spoken[word]; s != "" {
			r.say(s)
			return
		}
		r.chars(word, value, has)
	}
}

// destination takes the words that say what a group is.
func (r *reader) destination(word string, star bool) bool {
	kind, known := destinations[word]
	switch {
	case word == "ud": // the better one of two texts
		r.kind = r.before
	case r.kind == skipped, through[word]:
	case word == "upr":
		r.before, r.kind = r.kind, skipped
	case r.kind == info && properties[word], r.kind == body && hanging[word]:
		r.flush()
		if r.kind = body; !r.hangs {
			r.hangs = true
			r.to.Enter()
		}
	case known && kind == object && r.kind == body:
		r.flush()
		r.kind, r.object = object, true
	case known && r.kind == body:
		r.flush()
		r.kind = kind
	case star:
		r.flush()
		r.kind = skipped
	default:
		return false
	}
	return true
}

// changed takes a word that turns the memory of changes on or off.
func (r *reader) changed(c Change, on bool) {
	r.flush()
	switch {
	case on:
		r.change = c
	case r.change == c:
		r.change = Kept
	}
}

// chars takes the words that say in which charset bytes are.
func (r *reader) chars(word string, value int, has bool) {
	switch {
	case word == "mac":
		r.charset = "macintosh"
	case word == "pc":
		r.charset = codepage.Charset(437)
	case word == "pca":
		r.charset = codepage.Charset(850)
	case !has:
	case word == "ansicpg" && value > 0:
		r.charset = codepage.Charset(uint32(value))
	case word == "deff":
		r.main, r.font = value, value
	case word == "f" && r.kind == fonts:
		r.defined = value
	case word == "fcharset" && r.kind == fonts:
		r.define(charsets[value])
	case word == "cpg" && r.kind == fonts && value > 0:
		r.define(uint32(value))
	case word == "f" && r.kind == body:
		r.flush()
		r.font = value
	}
}

// define notes the code page of a font.
func (r *reader) define(page uint32) {
	if page != 0 && len(r.fonts) < 1000 {
		r.fonts[r.defined] = codepage.Charset(page)
	}
}

// unicode takes a UTF-16 unit.
func (r *reader) unicode(u rune) {
	high := r.high
	r.high = 0
	switch {
	case u >= 0xd800 && u < 0xdc00:
		r.high = u
	case u >= 0xdc00 && u < 0xe000:
		if high != 0 {
			r.put(string((high-0xd800)<<10 | (u - 0xdc00) + 0x10000))
		}
	case u != 0:
		r.put(string(u))
	}
}

// Text gives the text of a document as it is now, without its objects.
func Text(b []byte, charset string, decode Decode) string {
	var t text
	Read(b, charset, decode, &t)
	return t.String()
}

// text collects it.
type text struct{ strings.Builder }

func (t *text) Text(s string, c Change) {
	if c != Deleted {
		t.WriteString(s)
	}
}

func (t *text) Line() { t.WriteByte('\n') }

func (t *text) Enter() { t.begin() }

func (t *text) Leave() { t.begin() }

func (*text) Object([]byte) {}

// begin begins a line.
func (t *text) begin() {
	if s := t.String(); s != "" && s[len(s)-1] != '\n' {
		t.WriteByte('\n')
	}
}
