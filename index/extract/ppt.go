package extract

import (
	"bytes"
	"compress/zlib"
	"io"
	"strings"

	"github.com/holdfast-archive/holdfast/index/extract/cfb"
)

// PowerPoint's binary format (MS-PPT): records within records. All that is in the file is read, also what older versions of it left behind.

// Types of records (MS-PPT, section 2.13.24; MS-ODRAW for the shapes).
const (
	pptDocument      = 0x03e8
	pptSlide         = 0x03ee
	pptNotes         = 0x03f0
	pptMainMaster    = 0x03f8
	pptPlaceholder   = 0x0bc3
	pptTextChars     = 0x0fa0
	pptTextBytes     = 0x0fa8
	pptCString       = 0x0fba
	pptHandout       = 0x0fc9
	pptHeadersFooter = 0x0fd9
	pptUserEdit      = 0x0ff5
	pptObject        = 0x1011
	pptTagData       = 0x138b // what versions after 97 added; records, though it does not say so
	pptDirectory     = 0x1772
	pptComment       = 0x2ee0
	pptEncryption    = 0x2f14
	artShape         = 0xf004
)

// maxPPTDepth is how deep records may be nested.
const maxPPTDepth = 64

// pptEncrypted is what the stream Current User says of a document that is encrypted (section 2.3.2).
const pptEncrypted = 0xf3d1c4df

func readPPT(st *cfb.Storage, out *Output) error {
	if both := st.Storage("PP97_DUALSTORAGE"); both != nil { // beside a version for PowerPoint 95
		st = both
	}
	user, err := readStream(st.Stream("Current User"), out)
	if err != nil {
		return err
	}
	if bin(user).u32(12) == pptEncrypted || st.Stream("EncryptedSummary") != nil {
		return ErrEncrypted
	}
	b, err := readStream(st.Stream("PowerPoint Document"), out)
	if err != nil {
		return err
	}
	return (&pptReader{out: out}).stream(b)
}

// stream reads the records of the first level (section 2.1.2). Those that are known are looked for behind what is none: there are files with
// gaps between them.
func (r *pptReader) stream(b bin) error {
	for len(b) > 0 {
		gap := 0
		for gap < len(b) && !outermost(b[gap:]) {
			gap++
		}
		if strings.Trim(string(b[:gap]), "\x00") != "" {
			r.out.Partial("not all of the presentation is understood")
		}
		b = b[gap:]
		one := b.slice(0, uint32(min(8+uint64(b.u32(4)), uint64(len(b)))))
		if err := r.records(one, 0, 0); err != nil {
			return err
		}
		b = b[len(one):]
	}
	return nil
}

// outermost says whether a record of the first level begins here.
func outermost(b bin) bool {
	if len(b) < 8 {
		return false
	}
	switch b.u16(2) {
	case pptDocument, pptSlide, pptMainMaster, pptNotes, pptHandout:
		return b[0]&0xf == 0xf
	case pptObject, pptDirectory, pptUserEdit, pptEncryption:
		return true
	}
	return false
}

type pptReader struct {
	out    *Output
	master bool // within a master
	hold   bool // within a shape of one that is a place to be filled
}

// records reads the records within one of a type.
func (r *pptReader) records(b bin, within uint16, depth int) error {
	if depth > maxPPTDepth {
		r.out.Partial("records are nested too deep")
		return nil
	}
	if bytes.HasPrefix(b, []byte("PK\x03\x04")) { // styles of PowerPoint 2007 and later, in its own form
		return nil
	}
	for len(b) >= 8 {
		version, typ, n := b.u16(0), b.u16(2), b.u32(4)
		data := b.slice(8, n)
		if uint64(len(data)) < uint64(n) {
			r.out.Partial("the presentation is cut off")
		}
		b = b.from(8 + len(data))
		var err error
		if version&0xf == 0xf {
			err = r.container(typ, data, depth)
		} else {
			err = r.atom(version>>4, typ, within, data, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *pptReader) container(typ uint16, data bin, depth int) error {
	before := *r
	switch typ {
	case pptEncryption:
		return ErrEncrypted
	case pptMainMaster:
		r.master = true
	case artShape:
		r.hold = false
	}
	err := r.records(data, typ, depth+1)
	if typ == pptMainMaster || typ == artShape {
		*r = before
	}
	return err
}

func (r *pptReader) atom(instance, typ, within uint16, data bin, depth int) error {
	switch typ {
	case pptPlaceholder:
		r.hold = r.master
	case pptTextChars:
		return r.text(fromUTF16(data))
	case pptTextBytes:
		wide := make([]byte, 0, 2*len(data))
		for _, c := range data {
			wide = append(wide, c, 0)
		}
		return r.text(fromUTF16(wide))
	case pptCString:
		const initials = 2
		if within == pptComment && instance != initials || within == pptHeadersFooter {
			return r.text(fromUTF16(data))
		}
	case pptTagData:
		return r.records(data, typ, depth+1)
	case pptObject:
		return r.object(instance, data)
	}
	return nil
}

// lines undoes what stands for the end of a line.
var lines = strings.NewReplacer("\r", "\n", "\v", "\n")

// text adds a text, except the prompts of places that are to be filled, and the star that stands where a number or a date will be shown.
func (r *pptReader) text(s string) error {
	if r.hold || s == "*" {
		return nil
	}
	return r.out.Text(lines.Replace(s))
}

// object hands on an embedded file (section 2.10.34).
func (r *pptReader) object(instance uint16, data bin) error {
	if instance == 0 {
		return r.out.Nested("", "", bytes.NewReader(data))
	}
	z, err := zlib.NewReader(bytes.NewReader(data.from(4)))
	if err != nil {
		return r.out.NestedMark("", "", Failed, err.Error())
	}
	defer z.Close()
	return r.out.Nested("", "", io.LimitReader(z, int64(data.u32(0))))
}
