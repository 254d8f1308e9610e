package extract

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/message/codepage"
	"github.com/holdfast-archive/holdfast/archive/message/rtf"
	"github.com/holdfast-archive/holdfast/archive/message/tnef"
	"github.com/holdfast-archive/holdfast/index/extract/cfb"
)

// Outlook's message files (MS-OXMSG): every property of a message, a recipient or an attachment is a stream in a storage, those of a few
// bytes are together in one.

const (
	msgProperties = "__properties_version1.0"
	msgStream     = "__substg1.0_"
	msgRecipient  = "__recip_version1.0_"
	msgAttachment = "__attach_version1.0_"
)

// Identifiers of properties (MS-OXPROPS).
const (
	pidClass         = 0x001a
	pidSubject       = 0x0037
	pidSubmitTime    = 0x0039
	pidRecipientType = 0x0c15
	pidSenderName    = 0x0c1a
	pidSenderEmail   = 0x0c1f
	pidDisplayBcc    = 0x0e02
	pidDisplayCc     = 0x0e03
	pidDisplayTo     = 0x0e04
	pidBody          = 0x1000
	pidRTF           = 0x1009
	pidHTML          = 0x1013
	pidDisplayName   = 0x3001
	pidEmail         = 0x3003
	pidAttachData    = 0x3701
	pidAttachShort   = 0x3704
	pidAttachLong    = 0x3707
	pidAttachType    = 0x370e
	pidSMTP          = 0x39fe
	pidPerson        = 0x3a00 // and those up to pidPersonEnd
	pidPersonEnd     = 0x3aff
	pidHTMLCodePage  = 0x3fde
	pidCodePage      = 0x3ffd
	pidSenderSMTP    = 0x5d01
	pidNamed         = 0x8000 // and those above: what has a name in the file; places, companies, categories
)

// Types of properties (MS-OXCDATA, section 2.11.1).
const (
	typeText    = 0x001e
	typeUnicode = 0x001f
	typeBinary  = 0x0102
	typeObject  = 0x000d
	typeMany    = 0x1000
)

// maxRTF is how many bytes of RTF are read in one message.
const maxRTF = 64 << 20

// msgReader reads the properties in one storage.
type msgReader struct {
	st      *cfb.Storage
	out     *Output
	fixed   bin    // properties of a few bytes, 16 bytes each
	charset string // of texts that are not Unicode
	err     error  // the first
}

// newMSGReader takes the storage of a message, a recipient or an attachment, and the charset of the message around it.
func newMSGReader(st *cfb.Storage, out *Output, charset string) *msgReader {
	r := &msgReader{st: st, out: out, charset: charset}
	b := r.bytes(st.Stream(msgProperties))
	r.fixed = bin(b).from(len(b) % 16) // the rest of what stands before them looks like a property that there is not
	return r
}

// bytes reads a stream; a nil one is empty.
func (r *msgReader) bytes(s *cfb.Stream) []byte {
	if s == nil || r.err != nil {
		return nil
	}
	b, err := readStream(s, r.out)
	r.err = err
	return b
}

// number is a property of a few bytes; 0: there is none.
func (r *msgReader) number(id uint16) uint64 {
	for b := r.fixed; len(b) >= 16; b = b[16:] {
		if b.u16(2) == id {
			return b.u64(8)
		}
	}
	return 0
}

func (r *msgReader) stream(id, typ uint16) *cfb.Stream {
	return r.st.Stream(fmt.Sprintf("%s%04X%04X", msgStream, id, typ))
}

// text is a text property; empty: there is none.
func (r *msgReader) text(id uint16) string {
	if s := r.stream(id, typeUnicode); s != nil {
		return r.decode(r.bytes(s), typeUnicode)
	}
	return r.decode(r.bytes(r.stream(id, typeText)), typeText)
}

func (r *msgReader) decode(b []byte, typ uint16) string {
	if typ == typeUnicode {
		return strings.ReplaceAll(strings.ReplaceAll(fromUTF16(b), "\x00", ""), "\r\n", "\n")
	}
	return message.DecodeText(b, r.charset)
}

// line is a text property on one line.
func (r *msgReader) line(id uint16) string { return strings.Join(strings.Fields(r.text(id)), " ") }

// say writes a line as a header has it.
func (r *msgReader) say(name, value string) {
	if r.err == nil && value != "" {
		r.err = r.out.Text(name + value)
	}
}

func readMSG(st *cfb.Storage, out *Output) error {
	r := newMSGReader(st, out, "windows-1252")
	if page := uint32(r.number(pidCodePage)); page != 0 {
		r.charset = codepage.Charset(page)
	} else if page := uint32(r.number(pidHTMLCodePage)); page != 0 {
		r.charset = codepage.Charset(page)
	}
	r.head()
	r.others()
	r.body()
	for _, s := range st.Storages {
		if r.err == nil && strings.HasPrefix(s.Name, msgAttachment) {
			r.attachment(s)
		}
	}
	return r.err
}

// head writes what a message begins with, as the header of mail has it.
func (r *msgReader) head() {
	r.say("Subject: ", r.line(pidSubject))
	r.say("From: ", mailbox(r.line(pidSenderName), r.line(pidSenderSMTP), r.line(pidSenderEmail)))
	fields := []struct {
		name    string
		display uint16
		some    bool
	}{{name: "To: ", display: pidDisplayTo}, {name: "Cc: ", display: pidDisplayCc}, {name: "Bcc: ", display: pidDisplayBcc}}
	for _, s := range r.st.Storages {
		if r.err != nil || !strings.HasPrefix(s.Name, msgRecipient) {
			continue
		}
		p := newMSGReader(s, r.out, r.charset)
		f := &fields[max(1, min(p.number(pidRecipientType)&0xf, 3))-1]
		who := mailbox(p.line(pidDisplayName), p.line(pidSMTP), p.line(pidEmail))
		if r.err = p.err; who != "" {
			f.some = true
			r.say(f.name, who)
		}
	}
	for _, f := range fields {
		if !f.some {
			r.say(f.name, r.line(f.display))
		}
	}
	if at := r.number(pidSubmitTime); at != 0 {
		r.say("Date: ", fileTime(at).Format("2006-01-02 15:04"))
	}
}

// mailbox gives a name with the first of the addresses that is one. Those of Exchange within a company are none that people write.
func mailbox(name string, addresses ...string) string {
	for _, a := range addresses {
		switch {
		case !strings.Contains(a, "@") || strings.HasPrefix(strings.ToUpper(a), "/O="):
		case name == "" || name == a:
			return a
		default:
			return name + " <" + a + ">"
		}
	}
	return name
}

// fileTime reads a time as Windows has it: tenths of microseconds since 1601.
func fileTime(v uint64) time.Time {
	const between = 11644473600 // seconds from then to 1970
	return time.Unix(int64(v/1e7)-between, 0).UTC()
}

// others writes the texts of people, appointments and the like.
func (r *msgReader) others() {
	for _, s := range r.st.Streams {
		tag, ok := strings.CutPrefix(s.Name, msgStream)
		tag, _, several := strings.Cut(tag, "-")
		v, err := strconv.ParseUint(tag, 16, 32)
		if !ok || len(tag) != 8 || err != nil {
			continue
		}
		id, typ := uint16(v>>16), uint16(v)
		if id < pidNamed && (id < pidPerson || id > pidPersonEnd) || several != (typ&typeMany != 0) {
			continue
		}
		if typ &^= typeMany; typ == typeText || typ == typeUnicode {
			r.say("", strings.TrimSpace(r.decode(r.bytes(s), typ)))
		}
	}
}

// body writes the plain text, or what stands for it. The others say the same.
func (r *msgReader) body() {
	s := r.text(pidBody)
	if strings.TrimSpace(s) == "" {
		s = r.html()
	}
	if strings.TrimSpace(s) == "" {
		s = r.rtf()
	}
	r.say("", s)
}

func (r *msgReader) html() string {
	if s := r.stream(pidHTML, typeBinary); s != nil {
		charset := ""
		if page := uint32(r.number(pidHTMLCodePage)); page != 0 {
			charset = codepage.Charset(page)
		}
		return message.HTMLText(message.DecodeText(r.bytes(s), charset))
	}
	return message.HTMLText(r.text(pidHTML))
}

func (r *msgReader) rtf() string {
	b := r.bytes(r.stream(pidRTF, typeBinary))
	if len(b) == 0 {
		return ""
	}
	plain, err := tnef.Decompress(b, maxRTF)
	if err != nil {
		r.out.Partial(err.Error())
	}
	_, r.err = io.Copy(io.Discard, r.out.Inflate(bytes.NewReader(plain))) // it counts
	return rtf.Text(plain, r.charset, message.DecodeText)
}

// attachment hands on a file, a message or an object.
func (r *msgReader) attachment(st *cfb.Storage) {
	p := newMSGReader(st, r.out, r.charset)
	name := ""
	for _, id := range []uint16{pidAttachLong, pidAttachShort, pidDisplayName} {
		if name == "" {
			name = p.line(id)
		}
	}
	typ := strings.ToLower(p.line(pidAttachType))
	if r.err = p.err; r.err != nil {
		return
	}
	data := p.stream(pidAttachData, typeBinary)
	class := strings.ToLower(r.line(pidClass))
	switch within := st.Storage(fmt.Sprintf("%s%04X%04X", msgStream, pidAttachData, typeObject)); {
	case within != nil:
		r.err = r.out.inside(name, typ, func(o *Output) error { return readStorage(within, o) })
	case data == nil:
		r.err = r.out.NestedMark(name, typ, Failed, "it is not in the message, which only says where it was")
	case strings.HasSuffix(strings.ToLower(name), ".rpmsg"), typ == "application/x-microsoft-rpmsg-message":
		r.err = r.out.NestedMark(name, typ, Encrypted, "a message with managed rights")
	case strings.HasPrefix(class, "ipm.note.smime.multipartsigned"):
		r.err = r.out.Nested(name, "message/rfc822", data.Open()) // the whole of it is MIME
	case strings.HasPrefix(class, "ipm.note.smime"):
		r.sealed(name, typ, data)
	default:
		r.err = r.out.Nested(name, typ, data.Open())
	}
}

// sealed takes the attachment that is all of a message which is encrypted, or signed in the form that has the text within.
func (r *msgReader) sealed(name, typ string, data *cfb.Stream) {
	if message.CMS(r.bytes(data)) == message.SMIMESigned {
		r.err = r.out.NestedMark(name, typ, Partial, "a signed message, with its text in the signature")
	} else if r.err == nil {
		r.err = r.out.NestedMark(name, typ, Encrypted, "an encrypted message")
	}
}
