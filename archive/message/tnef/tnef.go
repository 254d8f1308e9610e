// Package tnef reads what Outlook and Exchange put into winmail.dat (MS-OXTNEF): a message with its text, its attachments and the messages
// within it, in a form of its own beside MIME.
//
// What it promises: any bytes are read in time linear in their number, with memory bounded by them and by the limits below, and never with
// a panic. What is damaged is read as far as it goes. Attachments are parts of the input and not copied.
package tnef

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/message/codepage"
	"github.com/holdfast-archive/holdfast/archive/message/rtf"
)

// What Parse returns beside a message. ErrFormat: there is no TNEF here at all.
var (
	ErrFormat  = errors.New("not TNEF")
	ErrDamaged = errors.New("TNEF is damaged or cut off")
	ErrLimit   = errors.New("TNEF with more in it than the limits allow")
)

// Limits of one stream, the messages within it included.
const (
	maxDepth       = 8       // messages one in the other
	maxAttachments = 1000    // of all messages
	maxProperties  = 20000   // of all messages
	maxRTF         = 8 << 20 // bytes of all RTF, decompressed
	maxText        = 4 << 20 // bytes of one text, as it stands there
	maxName        = 4 << 10 // bytes of a name
)

// Message is what a stream holds. Texts are in UTF-8, without NULs.
type Message struct {
	Class     string // IPM.Note; IPM.Note.SMIME and the like for what is signed or encrypted
	Subject   string
	MessageID string // without angle brackets
	From      string // as the sender is shown
	To, Cc    string

	Text    string // plain
	HTML    string
	RTFText string // the text of the body in RTF

	Attachments []Attachment
}

// Attachment is a file, or a message.
type Attachment struct {
	Name      string // the long one, where there is one
	Type      string // media type, as the sender says; may be empty
	ContentID string
	Data      []byte
	Cut       bool     // Data is not all of it
	Message   *Message // the message that it is; Data is then its TNEF
}

// Decode turns text in a charset, by its MIME name, into UTF-8 without NULs.
type Decode func(raw []byte, charset string) string

// Parse reads a stream. The message is what could be read of it, nil with ErrFormat only.
func Parse(data []byte, decode Decode) (*Message, error) {
	p := &parser{decode: decode}
	m := p.message(data, 0)
	return m, p.err
}

// Is says whether data begins as TNEF does.
func Is(data []byte) bool { return len(data) >= 6 && binary.LittleEndian.Uint32(data) == signature }

const signature = 0x223e9f78

// Attributes (MS-OXTNEF, section 2.1.3.3), with their types.
const (
	attCodepage        = 0x00069007
	attMessageClass    = 0x00078008
	attSubject         = 0x00018004
	attBody            = 0x0002800c
	attMessageID       = 0x00018009
	attFrom            = 0x00008000
	attMessageProps    = 0x00069003
	attAttachBegin     = 0x00069002
	attAttachTitle     = 0x00018010
	attAttachTransport = 0x00069001
	attAttachData      = 0x0006800f
	attAttachProps     = 0x00069005
)

type parser struct {
	decode      Decode
	err         error
	attachments int
	properties  int
	rtf         int // bytes decompressed
}

// fail keeps the first error.
func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// builder is a message in the making.
type builder struct {
	*parser
	msg     *Message
	charset string // of texts that are not Unicode
	depth   int

	body             []byte // of attBody, and its charset is the message's
	html             []byte
	htmlCharset      string
	compressed       []byte // RTF
	attached         *Attachment
	title, transport string
}

// message reads one stream.
func (p *parser) message(data []byte, depth int) *Message {
	if !Is(data) {
		p.fail(ErrFormat)
		return nil
	}
	b := &builder{parser: p, msg: &Message{}, charset: "windows-1252", depth: depth}
	for data = data[6:]; len(data) > 0; {
		if len(data) < 9 {
			if strings.Trim(string(data), "\x00") != "" {
				p.fail(ErrDamaged)
			}
			break
		}
		level, id, n := data[0], binary.LittleEndian.Uint32(data[1:]), binary.LittleEndian.Uint32(data[5:])
		data = data[9:]
		if level != 1 && level != 2 {
			p.fail(ErrDamaged)
			break
		}
		value := data
		cut := uint64(n) > uint64(len(data))
		if !cut {
			value = data[:n:n]
		}
		b.attribute(level, id, value, cut)
		if cut || len(data)-int(n) < 2 {
			p.fail(ErrDamaged)
			break
		}
		data = data[n:]
		if sum(value) != binary.LittleEndian.Uint16(data) {
			p.fail(ErrDamaged)
		}
		data = data[2:]
	}
	b.end()
	return b.msg
}

// sum is the checksum of an attribute.
func sum(b []byte) (s uint16) {
	for _, c := range b {
		s += uint16(c)
	}
	return s
}

// attribute takes one. Those of attachments follow the one that begins each.
func (b *builder) attribute(level byte, id uint32, value []byte, cut bool) {
	if level == 1 {
		switch id {
		case attCodepage:
			if len(value) >= 4 {
				b.charset = codepage.Charset(binary.LittleEndian.Uint32(value))
			}
		case attMessageClass:
			b.msg.Class = class(b.text(value))
		case attSubject:
			b.msg.Subject = b.line(value)
		case attBody:
			b.body = value
		case attMessageID:
			b.msg.MessageID = b.line(value)
		case attFrom:
			b.msg.From = b.from(value)
		case attMessageProps:
			b.each(value, b.messageProperty)
		}
		return
	}
	if id == attAttachBegin {
		b.endAttachment()
		if b.attachments++; b.attachments > maxAttachments {
			b.fail(ErrLimit)
			return
		}
		b.attached = &Attachment{}
		return
	}
	if b.attached == nil {
		return
	}
	switch id {
	case attAttachTitle:
		b.title = b.line(value)
	case attAttachTransport:
		b.transport = b.line(value)
	case attAttachData:
		b.attached.Data, b.attached.Cut = value, cut
	case attAttachProps:
		b.each(value, b.attachmentProperty)
	}
}

// text decodes text that is not Unicode.
func (b *builder) text(raw []byte) string {
	if i := strings.IndexByte(string(raw[:min(len(raw), maxName)]), 0); i >= 0 && len(raw) <= maxName {
		raw = raw[:i]
	}
	return b.decode(raw, b.charset)
}

// line is text on one line.
func (b *builder) line(raw []byte) string {
	if len(raw) > maxName {
		raw = raw[:maxName]
	}
	return oneLine(b.text(raw))
}

// upTo cuts a text at the limit.
func (b *builder) upTo(raw []byte) []byte {
	if len(raw) > maxText {
		b.fail(ErrLimit)
		raw = raw[:maxText]
	}
	return raw
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// class takes off what older writers put before the name of a class.
func class(s string) string {
	s = oneLine(s)
	switch s {
	case "IPM.Microsoft Mail.Note":
		return "IPM.Note"
	}
	return strings.TrimPrefix(s, "Microsoft Mail v3.0 ")
}

// from reads a TRP structure (section 2.1.3.3.5): lengths, a name, an address with its type.
func (b *builder) from(v []byte) string {
	if len(v) < 8 {
		return ""
	}
	name, addr := int(binary.LittleEndian.Uint16(v[4:])), int(binary.LittleEndian.Uint16(v[6:]))
	v = v[8:]
	if name > len(v) || addr > len(v)-name {
		return ""
	}
	who := b.line(v[:name])
	_, address, ok := strings.Cut(b.line(v[name:name+addr]), ":")
	switch {
	case !ok || address == "":
		return who
	case who == "" || who == address:
		return address
	}
	return who + " <" + address + ">"
}

// messageProperty takes a property of the message.
func (b *builder) messageProperty(id, typ uint16, value []byte) {
	m := b.msg
	switch id {
	case 0x001a:
		m.Class = class(b.string(typ, value))
	case 0x0037:
		m.Subject = oneLine(b.string(typ, value))
	case 0x1035:
		m.MessageID = strings.Trim(oneLine(b.string(typ, value)), "<>")
	case 0x0c1a:
		if m.From == "" {
			m.From = oneLine(b.string(typ, value))
		}
	case 0x0e04:
		m.To = oneLine(b.string(typ, value))
	case 0x0e03:
		m.Cc = oneLine(b.string(typ, value))
	case 0x1000:
		m.Text = b.string(typ, value)
	case 0x1013:
		if typ == typeUnicode {
			m.HTML = b.string(typ, value)
		} else {
			b.html = value
		}
	case 0x1009:
		b.compressed = value
	case 0x3fde:
		if len(value) >= 4 {
			b.htmlCharset = codepage.Charset(binary.LittleEndian.Uint32(value))
		}
	}
}

// attachmentProperty takes a property of an attachment.
func (b *builder) attachmentProperty(id, typ uint16, value []byte) {
	a := b.attached
	switch id {
	case 0x3707: // the long name
		a.Name = oneLine(b.string(typ, value))
	case 0x3704, 0x3001:
		if b.title == "" {
			b.title = oneLine(b.string(typ, value))
		}
	case 0x370e:
		a.Type = strings.ToLower(oneLine(b.string(typ, value)))
	case 0x3712:
		a.ContentID = strings.Trim(oneLine(b.string(typ, value)), "<>")
	case 0x3701:
		switch {
		case typ == typeBinary && len(a.Data) == 0:
			a.Data = value
		case typ == typeObject && len(value) > 16: // an interface's id, then what it is
			a.Data = value[16:]
			if Is(a.Data) {
				b.embedded(a)
			}
		}
	}
}

// embedded reads a message within this one.
func (b *builder) embedded(a *Attachment) {
	if b.depth+1 >= maxDepth {
		b.fail(ErrLimit)
		return
	}
	a.Message = b.message(a.Data, b.depth+1)
}

func (b *builder) endAttachment() {
	a := b.attached
	if a == nil {
		return
	}
	for _, name := range []string{b.transport, b.title} {
		if a.Name == "" {
			a.Name = name
		}
	}
	if a.Name == "" && a.Message != nil {
		a.Name = a.Message.Subject
	}
	b.msg.Attachments = append(b.msg.Attachments, *a)
	b.attached, b.title, b.transport = nil, "", ""
}

// end makes the texts, when all that they depend on is known.
func (b *builder) end() {
	b.endAttachment()
	m := b.msg
	if m.Text == "" && len(b.body) > 0 {
		m.Text = b.decode(b.upTo(b.body), b.charset)
	}
	if m.HTML == "" && len(b.html) > 0 {
		charset := b.htmlCharset
		if charset == "" {
			charset = b.charset
		}
		m.HTML = b.decode(b.upTo(b.html), charset)
	}
	if len(b.compressed) > 0 {
		plain, err := Decompress(b.compressed, maxRTF-b.rtf)
		if err != nil {
			b.fail(err)
		}
		b.rtf += len(plain)
		m.RTFText = rtf.Text(plain, b.charset, rtf.Decode(b.decode))
	}
}
