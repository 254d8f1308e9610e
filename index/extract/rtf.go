package extract

import (
	"bytes"
	"context"
	"fmt"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/message/rtf"
	"github.com/holdfast-archive/holdfast/index/extract/cfb"
)

var rtfFormat = format{
	name: "RTF", is: func(p *probe) bool { return p.prefix(`{\rt`) },
	types: []string{"application/rtf", "text/rtf", "application/x-rtf", "text/richtext"}, ends: []string{".rtf"}, extract: extractRTF, container: true,
}

func extractRTF(_ context.Context, in Input, out *Output) error {
	b, err := in.Bytes()
	if err != nil {
		return err
	}
	r := &rtfText{flow: newFlow(out)}
	rtf.Read(b, "windows-1252", message.DecodeText, r)
	if err := r.finish(); err != nil {
		return err
	}
	for i, object := range r.objects {
		if err := nestOLE1(fmt.Sprintf("object %d", i+1), object, out); err != nil {
			return err
		}
	}
	return nil
}

// rtfText is where the text of a document goes. Objects come after all of it.
type rtfText struct {
	*flow
	objects [][]byte
}

func (r *rtfText) Text(s string, c rtf.Change) {
	r.text(s, [...]change{rtf.Kept: kept, rtf.Added: added, rtf.Deleted: deleted}[c])
}

func (r *rtfText) Line()           { r.end() }
func (r *rtfText) Enter()          { r.enter() }
func (r *rtfText) Leave()          { r.leave() }
func (r *rtfText) Object(b []byte) { r.objects = append(r.objects, b) }

// nestOLE1 hands on an object in the form of OLE 1 (MS-OLEDS, section 2.2.5): a version, what it is, three texts with their lengths, and the
// bytes of the program that it belongs to.
func nestOLE1(name string, b bin, out *Output) error {
	const embedded = 2
	if b.u32(4) != embedded { // a link, or a picture of one
		return nil
	}
	class := b.slice(12, b.u32(8))
	at := 8
	for range 3 {
		at += 4 + int(b.u32(at))
	}
	data := b.from(at).slice(4, b.from(at).u32(0))
	switch {
	case bytes.HasPrefix(class, []byte("Package")):
		file, content := nativeFile(append(make([]byte, 4), data...))
		if file == "" {
			file = name
		}
		return out.Nested(file, "", bytes.NewReader(content))
	case bytes.HasPrefix(data, []byte(cfb.Signature)):
		return out.Nested(name, "", bytes.NewReader(data))
	case bytes.HasPrefix(class, []byte("PBrush")), bytes.HasPrefix(class, []byte("Paint.Picture")):
		return nil
	}
	return out.NestedMark(name, "", Failed, "an object of "+message.DecodeText(bytes.TrimRight(class[:min(len(class), 100)], "\x00"), ""))
}
