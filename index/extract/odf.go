package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
)

// OpenDocument (OASIS OpenDocument 1.3, and what came before it): a zip of XML, or one XML file that is all of it.

var odfFormat = format{
	name: "OpenDocument",
	is: func(p *probe) bool {
		return bytes.HasPrefix(p.head[min(len(p.head), 30):], []byte("mimetypeapplication/vnd.oasis.opendocument.")) ||
			bytes.HasPrefix(p.head[min(len(p.head), 30):], []byte("mimetypeapplication/vnd.sun.xml.")) ||
			p.zipHas("META-INF/manifest.xml") && p.zipHas("content.xml")
	},
	types: []string{
		"application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text-template",
		"application/vnd.oasis.opendocument.text-master", "application/vnd.oasis.opendocument.spreadsheet",
		"application/vnd.oasis.opendocument.spreadsheet-template", "application/vnd.oasis.opendocument.presentation",
		"application/vnd.oasis.opendocument.presentation-template", "application/vnd.oasis.opendocument.graphics",
		"application/vnd.oasis.opendocument.graphics-template", "application/vnd.oasis.opendocument.chart",
	},
	ends: []string{
		".odt", ".ott", ".odm", ".ods", ".ots", ".odp", ".otp", ".odg", ".otg", ".sxw", ".stw", ".sxc", ".stc", ".sxi", ".sti",
	},
	extract: extractODF, container: true,
}

var flatODFFormat = format{
	name: "flat OpenDocument",
	is: func(p *probe) bool {
		return p.prefix("<?xml", "\xef\xbb\xbf<?xml") && bytes.Contains(p.head, []byte("<office:document ")) ||
			p.prefix("<office:document ")
	},
	ends:    []string{".fodt", ".fods", ".fodp", ".fodg"},
	extract: func(_ context.Context, in Input, out *Output) error { return readODF(newXMLReader(in.Reader()), out) },
}

func extractODF(_ context.Context, in Input, out *Output) error {
	z, err := openZip(in)
	if err != nil {
		return err
	}
	found := false
	for _, f := range z.File {
		if f.Name == "META-INF/manifest.xml" {
			err := readZipXML(out, f, odfEncrypted)
			if errors.Is(err, ErrEncrypted) {
				return err
			}
			if err := out.piece(f.Name, err); err != nil {
				return err
			}
		}
		found = found || path.Base(f.Name) == "content.xml"
		if f.Flags&zipEncrypted != 0 {
			return ErrEncrypted
		}
	}
	if !found {
		return errors.New("no document is in it")
	}
	// What the document is called, what it says, then its headers and footers, and the objects in it in the same way.
	for _, name := range []string{"meta.xml", "content.xml", "styles.xml"} {
		for _, f := range z.File {
			if path.Base(f.Name) != name || strings.Contains(f.Name, "/Configurations") {
				continue
			}
			if err := out.piece(f.Name, readZipXML(out, f, func(x *xmlReader) error { return readODF(x, out) })); err != nil {
				return err
			}
		}
	}
	return odfObjects(z, out)
}

// odfEncrypted reads the list of files for one that is encrypted.
func odfEncrypted(x *xmlReader) error {
	for {
		t, err := x.next()
		if err != nil {
			return err
		}
		if e, ok := t.(xml.StartElement); ok && e.Name.Local == "encryption-data" {
			return ErrEncrypted
		}
	}
}

// odfObjects hands on the objects in a document that are files of other programs. They stand beside content.xml and have no ending, or that
// of their own format.
func odfObjects(z *zip.Reader, out *Output) error {
	for _, f := range z.File {
		dir, name := path.Split(f.Name)
		object := dir == "" && strings.HasPrefix(name, "Object ") || slices.Contains(nests, strings.ToLower(path.Ext(name)))
		if !object || strings.HasSuffix(f.Name, "/") {
			continue
		}
		if err := nestPart(out, f, ""); err != nil {
			return err
		}
	}
	return nil
}

// odfFlow reads one XML file of a document.
type odfFlow struct {
	*flow
	paragraphs int               // that are open
	gone       map[string]string // texts that were deleted, by the id of the change, until their place comes
	kept       int               // bytes of them
	region     string            // the change that is being read
	insertions map[string]bool   // changes that added something
	inserted   []string          // changes whose added text is being read
	value      string            // what the present cell holds, as machines write it
	shown      strings.Builder   // what it shows
	inCell     bool
}

// maxGone is how many bytes of deleted text are kept until their place comes.
const maxGone = 4 << 20

func readODF(x *xmlReader, out *Output) error {
	r := &odfFlow{flow: newFlow(out), gone: map[string]string{}, insertions: map[string]bool{}}
	for r.err == nil {
		t, err := x.next()
		if err != nil {
			for _, s := range r.gone { // whose place did not come
				r.text(s, kept)
				r.end()
			}
			if e := r.finish(); e != nil {
				return e
			}
			if err == io.EOF {
				return nil
			}
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if t.Name.Space == "text" && strings.Contains(odfFields, " "+t.Name.Local+" ") {
				x.names[len(x.names)-1] = "field"
				continue
			}
			r.start(t)
		case xml.EndElement:
			if t.Name.Space != "text" || !strings.Contains(odfFields, " "+t.Name.Local+" ") {
				r.endElement(t.Name.Local)
			}
		case xml.CharData:
			r.chars(x, string(t))
		}
	}
	return r.err
}

// odfFields are elements in a paragraph that are called as others are which are none.
const odfFields = " title subject description creator initial-creator date user-defined "

func (r *odfFlow) start(e xml.StartElement) {
	switch e.Name.Local {
	case "p", "h":
		r.paragraphs++
		if r.gone[r.region] != "" {
			r.keepGone("\n")
		}
	case "s":
		n, err := strconv.Atoi(attr(e, "c"))
		if err != nil {
			n = 1
		}
		r.say(strings.Repeat(" ", min(max(n, 0), 100)))
	case "tab":
		r.say("\t")
	case "line-break":
		r.say("\n")
	case "annotation", "note", "frame", "custom-shape", "text-box":
		r.enter()
	case "table":
		if name := attr(e, "name"); name != "" && e.Name.Space == "table" {
			r.text(name, kept)
			r.end()
		}
	case "table-cell", "covered-table-cell":
		r.inCell, r.value = true, odfValue(e)
		r.shown.Reset()
	case "user-defined":
		r.text(attr(e, "name"), kept)
		r.end()
	case "changed-region":
		r.region = attr(e, "id")
	case "insertion":
		r.insertions[r.region] = true
	case "change":
		id := attr(e, "change-id")
		r.kept -= len(r.gone[id])
		r.text(r.gone[id], deleted)
		delete(r.gone, id)
	case "change-start":
		if id := attr(e, "change-id"); r.insertions[id] && len(r.inserted) < 100 {
			r.inserted = append(r.inserted, id)
		}
	case "change-end":
		if i := slices.Index(r.inserted, attr(e, "change-id")); i >= 0 {
			r.inserted = slices.Delete(r.inserted, i, i+1)
		}
	}
}

// odfValue gives the value of a cell where that may be other than what it shows.
func odfValue(e xml.StartElement) string {
	switch attr(e, "value-type") {
	case "float", "currency", "percentage":
		return attr(e, "value")
	case "date":
		day, clock, _ := strings.Cut(attr(e, "date-value"), "T")
		return strings.TrimSpace(day + " " + strings.TrimSuffix(clock, ":00"))
	case "string":
		return attr(e, "string-value")
	}
	return ""
}

func (r *odfFlow) say(s string) {
	if r.paragraphs == 0 {
		return
	}
	if r.inCell && r.shown.Len() < maxParagraph {
		r.shown.WriteString(s)
	}
	c := kept
	if len(r.inserted) > 0 {
		c = added
	}
	r.text(s, c)
}

func (r *odfFlow) endElement(name string) {
	switch name {
	case "p", "h":
		r.paragraphs = max(0, r.paragraphs-1)
		r.end()
	case "annotation", "note", "frame", "custom-shape", "text-box":
		r.leave()
	case "note-citation", "title", "subject", "description", "keyword", "initial-creator", "creator", "desc", "user-defined", "deletion":
		r.end()
	case "table-cell", "covered-table-cell":
		if r.value != "" && r.value != strings.TrimSpace(r.shown.String()) {
			r.text(r.value, kept)
			r.end()
		}
		r.inCell, r.value = false, ""
	case "changed-region":
		r.region = ""
	}
}

func (r *odfFlow) chars(x *xmlReader, s string) {
	switch in := x.within(); in {
	case "title", "subject", "description", "keyword", "initial-creator", "creator", "desc", "user-defined":
		if r.region == "" || in != "creator" {
			r.text(s, kept)
		}
		return
	case "date", "note-citation", "page-number", "page-count", "sheet-name":
		return
	}
	if r.paragraphs == 0 || slices.Contains(x.names, "binary-data") {
		return
	}
	// White space is one blank (part 3, section 6.1.2).
	if strings.ContainsAny(s, "\n\r\t") {
		s = strings.NewReplacer("\n", " ", "\r", " ", "\t", " ").Replace(s)
	}
	if r.region != "" {
		r.keepGone(s)
		return
	}
	r.say(s)
}

// keepGone keeps a text that was deleted for its place in the document; if there is too much of it, it is a paragraph of its own.
func (r *odfFlow) keepGone(s string) {
	if r.kept += len(s); r.kept > maxGone {
		r.kept -= len(s)
		r.text(s, kept)
		return
	}
	r.gone[r.region] += s
}
