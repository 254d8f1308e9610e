package message

import (
	"bytes"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/message/tnef"
)

// Parts that hold more than bytes: TNEF (winmail.dat), which is a message in a form of its own, and what is signed or encrypted.

// Values of Message.Protected.
const (
	SMIMESigned    = "smime-signed"
	SMIMEEncrypted = "smime-encrypted"
	PGPSigned      = "pgp-signed"
	PGPEncrypted   = "pgp-encrypted"
	RightsManaged  = "rights-managed"
)

// protect marks the message. What is encrypted stays as it is: its text can't be read here.
func (w *walker) protect(kind string) {
	if !slices.Contains(w.msg.Protected, kind) {
		w.msg.Protected = append(w.msg.Protected, kind)
		slices.Sort(w.msg.Protected)
	}
	switch kind {
	case SMIMESigned, PGPSigned:
		w.msg.Signed = true
	default:
		w.msg.Encrypted = true
	}
}

// protection says what the type of an entity tells of its protection; empty: nothing.
func (m *mediaType) protection() string {
	switch m.typ {
	case "multipart/signed":
		switch {
		case strings.Contains(m.protocol, "pgp"):
			return PGPSigned
		case strings.Contains(m.protocol, "pkcs7"):
			return SMIMESigned
		}
	case "application/pgp-signature":
		return PGPSigned
	case "application/pkcs7-signature", "application/x-pkcs7-signature":
		return SMIMESigned
	case "multipart/encrypted":
		return PGPEncrypted
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		switch m.smime {
		case "signed-data":
			return SMIMESigned
		case "certs-only", "compressed-data", "": // of the last the content tells
			return ""
		}
		return SMIMEEncrypted
	case "application/x-microsoft-rpmsg-message":
		return RightsManaged
	}
	return ""
}

// isCMS says that a part is a CMS structure with the text in it.
func (m *mediaType) isCMS() bool {
	return m.typ == "application/pkcs7-mime" || m.typ == "application/x-pkcs7-mime"
}

// isPKCS7 says that the content of a part tells whether it is signed or encrypted: types and names as gateways leave them.
func (m *mediaType) isPKCS7() bool {
	switch m.typ {
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		return m.smime == ""
	case "application/octet-stream", "application/x-pkcs7":
		ext := strings.ToLower(path.Ext(m.name))
		return ext == ".p7m" || ext == ".p7z"
	}
	return false
}

// contentTypes are the object identifiers of CMS (RFC 5652, section 14), encoded.
var (
	oidSigned    = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}
	oidEnveloped = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03}
	oidAuth      = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17} // authenticated and enveloped
)

// sniffed is how many bytes of CMS are looked at: a SEQUENCE and its length stand before the identifier.
const sniffed = 64

// cms says what the beginning of a CMS structure tells; empty: it is none that is known.
func cms(b []byte) string {
	b = b[:min(len(b), sniffed)]
	switch {
	case len(b) == 0 || b[0] != 0x30:
	case bytes.Contains(b, oidSigned):
		return SMIMESigned
	case bytes.Contains(b, oidEnveloped), bytes.Contains(b, oidAuth):
		return SMIMEEncrypted
	}
	return ""
}

// maxTNEF is how many bytes of TNEF one message may have: it is held in memory while it is read.
const maxTNEF = 32 << 20

// openTNEF is the same where one part is wanted.
const openTNEF = 128 << 20

func (m *mediaType) isTNEF() bool {
	switch m.typ {
	case "application/ms-tnef", "application/vnd.ms-tnef", "application/x-ms-tnef":
		return true
	case "application/octet-stream":
		return strings.EqualFold(m.name, "winmail.dat")
	}
	return false
}

// endTNEF reads what was collected of a TNEF part and makes parts of it, numbered as if the part were a multipart: its bodies, then its
// attachments.
func (w *walker) endTNEF(n *node) {
	raw := w.tnef
	w.tnef = nil
	if w.tnefCut {
		w.partial("TNEF longer than the limit")
	}
	m, err := tnef.Parse(raw, tnefText)
	if m == nil { // tnef.ErrFormat
		if n.media.typ != "application/octet-stream" || len(raw) == 0 {
			w.partial("a part that should be TNEF is not")
		}
		return
	}
	if err != nil {
		w.partial(err.Error())
	}
	n.kind = wrapped
	w.msg.Parts[n.part].Attachment = false // what it holds is
	w.unwrap(n, m)
}

func tnefText(raw []byte, charset string) string {
	s, _ := decodeCharset(string(raw), charset)
	return strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), "\r\n", "\n")
}

// unwrap makes nodes of what a TNEF message holds.
func (w *walker) unwrap(n *node, m *tnef.Message) {
	switch class := strings.ToLower(m.Class); {
	case strings.HasPrefix(class, "ipm.note.smime.multipartsigned"):
		w.protect(SMIMESigned)
	case strings.HasPrefix(class, "ipm.note.smime"):
		kind := SMIMEEncrypted
		for i := range m.Attachments {
			if k := cms(m.Attachments[i].Data); k != "" {
				kind = k
			}
		}
		w.protect(kind)
		if kind == SMIMESigned {
			w.opaque()
		}
	}
	if n.parent != nil && n.parent.kind == wrapped || w.subject() != m.Subject {
		n.said = headOf(m)
	}
	bodies := &node{kind: alternative, parent: n, part: -1, depth: n.depth}
	n.children = append(n.children, bodies)
	for _, body := range []struct{ typ, text string }{{"text/plain", m.Text}, {"text/html", m.HTML}, {"text/rtf", m.RTFText}} {
		if body.text != "" {
			w.leafOf(n, bodies, mediaType{typ: body.typ, charset: "utf-8"}, []byte(body.text), false)
		}
	}
	for i := range m.Attachments {
		a := &m.Attachments[i]
		media := mediaType{typ: a.Type, name: cleanName(a.Name), contentID: a.ContentID, disposition: "attachment"}
		if !strings.Contains(media.typ, "/") {
			media.typ = typeByName(media.name)
		}
		if a.Message != nil {
			media.typ = "application/ms-tnef"
		}
		if a.Cut {
			w.partial("an attachment in TNEF is cut off")
		}
		if kind := cms(a.Data); kind != "" && media.typ != "application/pkcs7-signature" && strings.HasSuffix(strings.ToLower(media.name), ".p7m") {
			w.protect(kind)
		}
		child := w.leafOf(n, n, media, a.Data, true)
		if child != nil && a.Message != nil {
			child.kind = wrapped
			w.unwrap(child, a.Message)
		}
	}
}

// subject is the message's own.
func (w *walker) subject() string {
	h := w.root.header
	return strings.Join(strings.Fields(h.Subject()), " ")
}

// headOf is what a reader of a message in TNEF sees of its header.
func headOf(m *tnef.Message) string {
	var b strings.Builder
	for _, f := range []struct{ name, value string }{{"Subject", m.Subject}, {"From", m.From}, {"To", m.To}, {"Cc", m.Cc}} {
		if f.value != "" {
			b.WriteString(f.name + ": " + f.value + "\n")
		}
	}
	return b.String()
}

// leafOf lists a part of TNEF. numbering is the node whose parts it counts among. nil: past the limit of parts.
func (w *walker) leafOf(numbering, parent *node, media mediaType, data []byte, attached bool) *node {
	if w.parts >= w.limits.Parts {
		w.partial("more parts than the limit")
		return nil
	}
	w.parts++
	numbering.parts++
	n := &node{kind: skipped, parent: parent, part: -1, depth: parent.depth, media: media, path: numbering.path + "." + strconv.Itoa(numbering.parts)}
	parent.children = append(parent.children, n)
	if media.isText() || media.typ == "text/rtf" && !attached { // that is the text of it
		n.kind, n.attached = plainText, attached
		if media.isHTML() {
			n.kind = htmlText
		}
	}
	if w.target != "" {
		n.kind = skipped
	}
	n.from = len(w.text)
	if n.kind != skipped {
		w.text = append(w.text, w.upToRoom(data)...)
	}
	n.to = len(w.text)
	w.list(n, int64(len(data)))
	w.msg.Parts[n.part].Attachment = attached
	if w.target == n.path && w.opened == nil {
		p := w.msg.Parts[n.part]
		w.opened, w.out, w.ended = &p, append(w.out, data...), true
	}
	return n
}

// upToRoom gives as many lines of a text as may be kept.
func (w *walker) upToRoom(text []byte) []byte {
	free := max(0, w.limits.TextBytes-len(w.text)-len(w.outside))
	full := w.full
	if w.room(len(text)) {
		return text
	}
	if full {
		return nil
	}
	return text[:bytes.LastIndexByte(text[:min(free, len(text))], '\n')+1]
}

// typeByName guesses the type of a file whose type nobody says. Only text counts: it is searched.
func typeByName(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".txt", ".log", ".md":
		return "text/plain"
	case ".csv":
		return "text/csv"
	case ".htm", ".html":
		return "text/html"
	case ".ics":
		return "text/calendar"
	case ".vcf":
		return "text/vcard"
	case ".xml":
		return "text/xml"
	case ".eml":
		return "message/rfc822"
	}
	return "application/octet-stream"
}

// wantsTNEF says that a part wanted lies in the TNEF part n.
func (w *walker) wantsTNEF(n *node) bool { return strings.HasPrefix(w.target, n.path+".") }

// keepTNEF collects decoded bytes of a TNEF part.
func (w *walker) keepTNEF(p []byte) {
	limit := maxTNEF
	if w.target != "" {
		limit = openTNEF
	}
	if room := limit - w.tnefSize; len(p) > room {
		p, w.tnefCut = p[:max(room, 0)], true
	}
	w.tnefSize += len(p)
	w.tnef = append(w.tnef, p...)
}

// endCMS says what the beginning of a part tells.
func (w *walker) endCMS(n *node) {
	kind := cms(w.sniff)
	switch {
	case kind == SMIMESigned:
		w.protect(kind)
		w.opaque()
	case kind != "":
		w.protect(kind)
	case n.media.typ != "application/octet-stream":
		w.protect(SMIMEEncrypted) // nothing of it can be read
	}
}

// opaque says that the text is within a signature.
func (w *walker) opaque() { w.partial("text within an S/MIME signature is not read") }
