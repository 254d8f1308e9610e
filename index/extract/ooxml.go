package extract

import (
	"archive/zip"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Office Open XML (ECMA-376): .docx, .xlsx, .pptx, and their templates and variants with macros. A file is a zip of parts, and the content
// type of a part says what it is. Every part with text is read, whether or not anything refers to it.

var ooxmlFormat = format{
	name: "office document",
	is: func(p *probe) bool {
		return p.zipHas("[Content_Types].xml") && slices.ContainsFunc(p.zipNames(), func(name string) bool {
			dir, _, ok := strings.Cut(strings.ToLower(name), "/")
			return ok && (dir == "word" || dir == "xl" || dir == "ppt")
		})
	},
	types: []string{
		"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
		"application/vnd.openxmlformats-officedocument.wordprocessingml.template",
		"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
		"application/vnd.openxmlformats-officedocument.spreadsheetml.template",
		"application/vnd.openxmlformats-officedocument.presentationml.presentation",
		"application/vnd.openxmlformats-officedocument.presentationml.template",
		"application/vnd.openxmlformats-officedocument.presentationml.slideshow",
		"application/vnd.ms-word.document.macroenabled.12", "application/vnd.ms-word.template.macroenabled.12",
		"application/vnd.ms-excel.sheet.macroenabled.12", "application/vnd.ms-excel.template.macroenabled.12",
		"application/vnd.ms-excel.addin.macroenabled.12", "application/vnd.ms-excel.sheet.binary.macroenabled.12",
		"application/vnd.ms-powerpoint.presentation.macroenabled.12", "application/vnd.ms-powerpoint.template.macroenabled.12",
		"application/vnd.ms-powerpoint.slideshow.macroenabled.12", "application/vnd.ms-powerpoint.addin.macroenabled.12",
	},
	ends: []string{
		".docx", ".docm", ".dotx", ".dotm", ".xlsx", ".xlsm", ".xltx", ".xltm", ".xlam", ".xlsb", ".pptx", ".pptm", ".potx", ".potm", ".ppsx",
		".ppsm", ".ppam",
	},
	extract: extractOOXML, container: true,
}

// ooxml is one file.
type ooxml struct {
	out   *Output
	files []*zip.File
	types map[string]string // by name of a part in lower case with a slash before it, or by an extension
	order map[string]int    // where the main part refers to a part; from 1
	names map[string]string // of sheets, by part
	sheetStyles
	shared []string // strings of a workbook
}

// partKinds are the parts that have text, by the last word of their content type, in the order in which they are read.
var partKinds = []struct {
	kinds string
	read  func(d *ooxml, x *xmlReader, name string) error
}{
	{" core-properties extended-properties custom-properties ", (*ooxml).properties},
	{" main document ", (*ooxml).words},
	{" worksheet chartsheet dialogsheet macrosheet intlmacrosheet ", (*ooxml).sheet},
	{" slide ", (*ooxml).words},
	{" notesslide ", (*ooxml).words},
	{" header ", (*ooxml).words},
	{" footer ", (*ooxml).words},
	{" footnotes endnotes ", (*ooxml).words},
	{" comments threadedcomments commentauthors authors person ", (*ooxml).words},
	{" drawing chart chartex chartshapes diagramdata ", (*ooxml).words},
	{" pivotcachedefinition pivotcacherecords ", (*ooxml).pivot},
	{" slidelayout slidemaster notesmaster handoutmaster ", (*ooxml).master},
	{" glossary ", (*ooxml).words},
}

func extractOOXML(_ context.Context, in Input, out *Output) error {
	z, err := openZip(in)
	if err != nil {
		return err
	}
	d := &ooxml{out: out, files: z.File, types: map[string]string{}, order: map[string]int{}, names: map[string]string{}}
	if err := d.readTypes(); err != nil {
		return err
	}
	known := false
	parts := make([][]*zip.File, len(partKinds))
	for _, f := range d.files {
		if f.Flags&zipEncrypted != 0 {
			return ErrEncrypted
		}
		kind := d.kind(f)
		if kind == "main" || strings.Contains(d.typeOf(f), ".binary.") {
			known = true
			if err := d.main(f); err != nil {
				return err
			}
		}
		for i := range partKinds {
			if kind != "" && strings.Contains(partKinds[i].kinds, " "+kind+" ") {
				parts[i] = append(parts[i], f)
			}
		}
	}
	if !known {
		return errors.New("no document is in it")
	}
	for i, list := range parts {
		slices.SortStableFunc(list, d.compare)
		for _, f := range list {
			if i == 1 && d.isWorkbook(f) {
				continue
			}
			if err := d.part(f, func(x *xmlReader) error { return partKinds[i].read(d, x, f.Name) }); err != nil {
				return err
			}
		}
	}
	return d.embedded()
}

// part reads the XML of one part.
func (d *ooxml) part(f *zip.File, read func(x *xmlReader) error) error {
	return d.out.piece(f.Name, readZipXML(d.out, f, read))
}

// readZipXML reads XML from a zip until read returns an error; io.EOF is none.
func readZipXML(out *Output, f *zip.File, read func(x *xmlReader) error) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := read(newXMLReader(out.Inflate(r))); err != io.EOF {
		return err
	}
	return nil
}

func partKey(name string) string { return "/" + strings.ToLower(strings.TrimLeft(name, "/")) }

// find gives a part by its name.
func (d *ooxml) find(name string) *zip.File {
	for _, f := range d.files {
		if partKey(f.Name) == partKey(name) {
			return f
		}
	}
	return nil
}

// readTypes reads the content types of the parts.
func (d *ooxml) readTypes() error {
	f := d.find("[Content_Types].xml")
	if f == nil {
		return errors.New("it has no [Content_Types].xml")
	}
	err := readZipXML(d.out, f, func(x *xmlReader) error {
		for {
			t, err := x.next()
			if err != nil {
				return err
			}
			if e, ok := t.(xml.StartElement); ok {
				switch typ := strings.ToLower(attr(e, "ContentType")); e.Name.Local {
				case "Default":
					d.types[strings.ToLower(attr(e, "Extension"))] = typ
				case "Override":
					d.types[partKey(attr(e, "PartName"))] = typ
				}
			}
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return nil
}

func (d *ooxml) typeOf(f *zip.File) string {
	if t := d.types[partKey(f.Name)]; t != "" {
		return t
	}
	return d.types[strings.TrimPrefix(path.Ext(strings.ToLower(f.Name)), ".")]
}

// kind is the last word of the content type of a part that is XML.
func (d *ooxml) kind(f *zip.File) string {
	t, ok := strings.CutSuffix(d.typeOf(f), "+xml")
	if !ok {
		return ""
	}
	return t[strings.LastIndexByte(t, '.')+1:]
}

func (d *ooxml) isWorkbook(f *zip.File) bool {
	t := d.typeOf(f)
	return strings.Contains(t, "spreadsheetml") || strings.Contains(t, "ms-excel")
}

// compare orders parts as the main part refers to them, and those that it doesn't by name, part2 before part10.
func (d *ooxml) compare(a, b *zip.File) int {
	return cmp.Or(
		cmp.Compare(uint(d.order[partKey(a.Name)]-1), uint(d.order[partKey(b.Name)]-1)),
		cmp.Compare(len(a.Name), len(b.Name)), strings.Compare(a.Name, b.Name))
}

// main learns from the main part in which order the others come; of a workbook its sheets, strings and styles.
func (d *ooxml) main(f *zip.File) error {
	targets, err := d.relations(f)
	if err != nil {
		return err
	}
	if !d.isWorkbook(f) {
		return d.part(f, func(x *xmlReader) error { return d.references(x, targets) })
	}
	if !strings.HasSuffix(d.typeOf(f), "+xml") {
		d.out.Partial("a binary workbook (.xlsb): its cells are not read")
		return nil
	}
	for _, p := range d.files {
		read := map[string]func(x *xmlReader) error{"sharedstrings": d.readShared, "styles": d.sheetStyles.read}[d.kind(p)]
		if read != nil && d.isWorkbook(p) {
			if err := d.part(p, read); err != nil {
				return err
			}
		}
	}
	return d.part(f, func(x *xmlReader) error { return d.references(x, targets) })
}

// relations gives the parts that a part refers to, by the ids of the relations.
func (d *ooxml) relations(f *zip.File) (map[string]string, error) {
	targets := map[string]string{}
	dir, base := path.Split("/" + strings.TrimLeft(f.Name, "/"))
	rels := d.find(dir + "_rels/" + base + ".rels")
	if rels == nil {
		return targets, nil
	}
	return targets, d.part(rels, func(x *xmlReader) error {
		for {
			t, err := x.next()
			if err != nil {
				return err
			}
			if e, ok := t.(xml.StartElement); ok && e.Name.Local == "Relationship" && attr(e, "TargetMode") != "External" {
				target := attr(e, "Target")
				if !strings.HasPrefix(target, "/") {
					target = dir + target
				}
				targets[attr(e, "Id")] = partKey(path.Clean(target))
			}
		}
	})
}

// references reads the main part for what it refers to.
func (d *ooxml) references(x *xmlReader, targets map[string]string) error {
	for {
		t, err := x.next()
		if err != nil {
			return err
		}
		e, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		if e.Name.Local == "workbookPr" {
			d.date1904 = attr(e, "date1904") == "1" || attr(e, "date1904") == "true"
		}
		for _, a := range e.Attr {
			if part := targets[a.Value]; a.Name.Local == "id" && part != "" && d.order[part] == 0 {
				d.order[part] = len(d.order) + 1
				if e.Name.Local == "sheet" {
					d.names[part] = attr(e, "name")
				}
			}
		}
	}
}

// said are the properties of a document that have words in them.
const said = " title subject creator description keywords category lastModifiedBy contentStatus Company Manager lpwstr lpstr bstr "

// properties reads docProps/core.xml, app.xml and custom.xml.
func (d *ooxml) properties(x *xmlReader, _ string) error {
	for {
		t, err := x.next()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if name := attr(t, "name"); t.Name.Local == "property" && name != "" {
				if err := d.out.Text(name); err != nil {
					return err
				}
			}
		case xml.CharData:
			if in := x.within(); strings.Contains(said, " "+in+" ") && !slices.Contains(x.names, "TitlesOfParts") && !slices.Contains(x.names, "HeadingPairs") {
				if err := d.out.Text(strings.TrimSpace(string(t))); err != nil {
					return err
				}
			}
		}
	}
}

// words reads WordprocessingML, DrawingML and the comments of all three kinds: in all of them t is a run of text and p a paragraph.
func (d *ooxml) words(x *xmlReader, _ string) error { return d.flow(x, false) }

// master reads a master or a layout: only what stands on the slides, not the places that wait to be filled.
func (d *ooxml) master(x *xmlReader, _ string) error { return d.flow(x, true) }

func (d *ooxml) flow(x *xmlReader, master bool) error {
	r := &ooxmlFlow{flow: newFlow(d.out), master: master}
	for r.err == nil {
		t, err := x.next()
		if err != nil {
			if e := r.finish(); e != nil {
				return e
			}
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			r.start(x, t)
		case xml.EndElement:
			r.endElement(t.Name.Local)
		case xml.CharData:
			r.chars(x, string(t))
		}
	}
	return r.err
}

// ooxmlFlow reads the text of one part.
type ooxmlFlow struct {
	*flow
	master   bool
	chosen   []bool // for each open AlternateContent: one way of saying it was read
	skip     int    // open elements that are left out
	dels     int    // open elements that say that what is in them was deleted
	adds     int
	hold     bool // the present shape is a place to be filled
	phonetic int
}

func (r *ooxmlFlow) change() change {
	switch {
	case r.dels > 0:
		return deleted
	case r.adds > 0:
		return added
	}
	return kept
}

func (r *ooxmlFlow) start(x *xmlReader, e xml.StartElement) {
	if r.skip > 0 {
		r.skip++
		return
	}
	switch name := e.Name.Local; name {
	case "AlternateContent":
		r.chosen = append(r.chosen, false)
	case "Choice", "Fallback":
		if n := len(r.chosen); n > 0 && x.parent() == "AlternateContent" {
			if r.chosen[n-1] {
				r.skip = 1
			}
			r.chosen[n-1] = true
		}
	case "txbxContent":
		r.enter()
	case "del", "moveFrom":
		r.dels++
	case "ins", "moveTo":
		r.adds++
	case "delText":
		r.dels++
	case "tab":
		if p := x.parent(); p == "r" {
			r.text("\t", r.change())
		}
	case "br", "cr":
		r.text("\n", r.change())
	case "noBreakHyphen":
		r.text("-", r.change())
	case "comment", "cmAuthor", "author", "person":
		for _, a := range []string{"author", "name", "displayName"} {
			if s := attr(e, a); s != "" {
				r.text(s, kept)
				r.end()
			}
		}
	case "sp":
		r.hold = false
	case "ph":
		r.hold = r.master
	case "docPr", "cNvPr":
		if said := strings.TrimSpace(attr(e, "title") + " " + attr(e, "descr")); said != "" {
			r.enter()
			r.text(said, kept)
			r.leave()
		}
	case "rPh":
		r.phonetic++
	}
}

func (r *ooxmlFlow) endElement(name string) {
	if r.skip > 0 {
		r.skip--
		return
	}
	switch name {
	case "AlternateContent":
		r.chosen = r.chosen[:max(0, len(r.chosen)-1)]
	case "txbxContent":
		r.leave()
	case "del", "moveFrom", "delText":
		r.dels = max(0, r.dels-1)
	case "ins", "moveTo":
		r.adds = max(0, r.adds-1)
	case "p", "text", "comment", "si", "pt":
		r.end()
	case "rPh":
		r.phonetic--
	}
}

func (r *ooxmlFlow) chars(x *xmlReader, s string) {
	if r.skip > 0 || r.hold || r.phonetic > 0 {
		return
	}
	switch x.within() {
	case "t", "delText":
		r.text(s, r.change())
	case "text", "author":
		if strings.TrimSpace(s) != "" {
			r.text(s, kept)
			r.end()
		}
	case "v":
		if slices.Contains(x.names, "pt") { // a value in a chart
			r.text(s, kept)
		}
	}
}

// nests are the ends of the names of parts that are files of their own, wherever they stand.
var nests = []string{".rtf", ".htm", ".html", ".xhtml", ".mht", ".mhtml", ".eml", ".msg", ".txt", ".pdf", ".doc", ".docx", ".docm", ".xls", ".xlsx", ".xlsm", ".ppt", ".pptx"}

// embedded hands on the files that are in this one.
func (d *ooxml) embedded() error {
	for _, f := range d.files {
		name := strings.ToLower(f.Name)
		if strings.HasSuffix(name, "/") || !strings.Contains(name, "/embeddings/") && !slices.Contains(nests, path.Ext(name)) {
			continue
		}
		typ := d.typeOf(f)
		if strings.HasPrefix(typ, "application/vnd.openxmlformats-officedocument.") && (strings.HasSuffix(typ, ".oleobject") || strings.HasSuffix(typ, ".package")) {
			typ = ""
		}
		if err := nestPart(d.out, f, typ); err != nil {
			return err
		}
	}
	return nil
}

// nestPart hands on a file in a zip under the last piece of its name.
func nestPart(out *Output, f *zip.File, typ string) error {
	name := path.Base(f.Name)
	r, err := f.Open()
	if err != nil {
		return out.NestedMark(name, typ, Failed, err.Error())
	}
	defer r.Close()
	return out.Nested(name, typ, r)
}
