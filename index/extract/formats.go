package extract

import (
	"archive/zip"
	"bytes"
	"net/http"
	"path"
	"slices"
	"strings"
)

// format is one kind of file.
type format struct {
	name      string
	is        func(p *probe) bool // by its bytes; nil: they don't tell
	types     []string            // media types
	ends      []string            // of names, with the dot, in lower case
	extract   Extractor           // nil: it has no text
	container bool                // it holds other files
}

// formats is the table. Of two that know the same bytes the first goes first: what is packed as zip stands before zip. It is set by init,
// because extractors come back to it for the files that they find.
var formats []format

func init() {
	formats = []format{
		ooxmlFormat,
		calendarFormat,
		cardFormat,
		odfFormat,
		flatODFFormat,
		oleFormat,
		rtfFormat,
		zipFormat,
		textFormat,
	}
}

// probe is a file whose format is asked for.
type probe struct {
	Input
	head   []byte // its first bytes
	listed bool
	names  []string
}

// sniffed is how many bytes are looked at.
const sniffed = 4096

// prefix says whether the file begins with one of these.
func (p *probe) prefix(any ...string) bool {
	return slices.ContainsFunc(any, func(s string) bool { return bytes.HasPrefix(p.head, []byte(s)) })
}

// zipNames gives the names in the file, if it is a zip: none where it is not, or is damaged.
func (p *probe) zipNames() []string {
	if !p.listed {
		p.listed = true
		if p.prefix("PK\x03\x04") {
			if z, err := zip.NewReader(p, p.Size); err == nil || z != nil && len(z.File) > 0 {
				for _, f := range z.File {
					p.names = append(p.names, f.Name)
				}
			}
		}
	}
	return p.names
}

// zipHas says whether the file is a zip that has one of these names in it.
func (p *probe) zipHas(any ...string) bool {
	return slices.ContainsFunc(p.zipNames(), func(name string) bool { return slices.Contains(any, name) })
}

// sniff finds the format of a file; nil: none is known.
func sniff(in Input) *format {
	p := &probe{Input: in, head: make([]byte, min(in.Size, sniffed))}
	n, _ := in.ReadAt(p.head, 0)
	p.head = p.head[:n]
	for i := range formats {
		if is := formats[i].is; is != nil && is(p) {
			return &formats[i]
		}
	}
	if media(http.DetectContentType(p.head)) || media(in.Type) {
		return &mute
	}
	end := strings.ToLower(path.Ext(in.Name))
	for i := range formats {
		if slices.Contains(formats[i].types, in.Type) {
			return &formats[i]
		}
	}
	for i := range formats {
		if slices.Contains(formats[i].ends, end) {
			return &formats[i]
		}
	}
	if looksText(p.head) {
		return &textFormat
	}
	return nil
}

// mute is the format of what has no text.
var mute = format{name: "media"}

// media says whether a media type is of pictures, sound or the like.
func media(typ string) bool {
	kind, _, _ := strings.Cut(typ, "/")
	return kind == "image" && typ != "image/svg+xml" || kind == "audio" || kind == "video" || kind == "font"
}
