package extract

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/message/codepage"
	"github.com/holdfast-archive/holdfast/index/extract/cfb"
)

// Compound files: .doc, .xls, .ppt, .msg, and the objects embedded in them, which are storages of the same form.

var oleFormat = format{
	name: "compound file",
	is:   func(p *probe) bool { return p.prefix(cfb.Signature) },
	types: []string{
		"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint", "application/vnd.ms-outlook", "application/x-ole-storage",
	},
	ends:    []string{".doc", ".dot", ".xls", ".xlt", ".xla", ".ppt", ".pps", ".pot", ".msg", ".oft"},
	extract: extractOLE, container: true,
}

func extractOLE(ctx context.Context, in Input, out *Output) error {
	root, err := cfb.Open(in, in.Size)
	if errors.Is(err, cfb.ErrFormat) { // many a program writes tables of text and calls them .xls
		head := make([]byte, min(in.Size, sniffed))
		if _, e := in.ReadAt(head, 0); (e == nil || e == io.EOF) && looksText(head) {
			return extractText(ctx, in, out)
		}
	}
	if err != nil {
		return err
	}
	return readStorage(root, out)
}

var errUnknownObject = errors.New("a compound file of a kind that is not known")

// readStorage reads a document that lies in a storage, with what is embedded in it.
func readStorage(st *cfb.Storage, out *Output) error {
	var read func(*cfb.Storage, *Output) error
	switch {
	case st.Stream("EncryptedPackage") != nil, st.Stream("\x09DRMContent") != nil:
		return ErrEncrypted
	case st.Stream(msgProperties) != nil:
		return readMSG(st, out)
	case st.Stream("WordDocument") != nil:
		read = readDOC
	case st.Stream("Workbook") != nil || st.Stream("Book") != nil:
		read = readXLS
	case st.Stream("PowerPoint Document") != nil:
		read = readPPT
	default:
		return readObject(st, out)
	}
	if err := oleProperties(st, out); err != nil {
		return err
	}
	if err := read(st, out); err != nil {
		return err
	}
	return embeddedStorages(st, out)
}

// embeddedStorages reads the objects in a document: in Word they are in ObjectPool, in Excel their names begin with MBD.
func embeddedStorages(st *cfb.Storage, out *Output) error {
	list := slices.DeleteFunc(slices.Clone(st.Storages), func(s *cfb.Storage) bool { return !strings.HasPrefix(s.Name, "MBD") })
	if pool := st.Storage("ObjectPool"); pool != nil {
		list = append(list, pool.Storages...)
	}
	for _, s := range list {
		if err := out.inside(s.Name, "", func(o *Output) error { return readStorage(s, o) }); err != nil {
			return err
		}
	}
	return nil
}

// inside reads a file within this one that is no run of bytes. read's error is a mark on it; inside's own is the end of the job.
func (o *Output) inside(name, mediaType string, read func(*Output) error) error {
	n, err := o.enter(name)
	if err != nil {
		return err
	}
	o.job.result.Files = append(o.job.result.Files, File{Name: n.name, Type: mediaType})
	if n.depth > o.job.limits.Depth {
		n.Partial("files inside files deeper than the limit")
		return nil
	}
	switch err := read(n); {
	case err == nil:
		return nil
	case ended(err):
		return err
	case errors.Is(err, ErrEncrypted):
		n.mark(Encrypted, err.Error())
	default:
		n.mark(Failed, err.Error())
	}
	return nil
}

// readObject reads a storage that wraps a file: what OLE calls a package, or one of another program. A formula or a picture has no text.
func readObject(st *cfb.Storage, out *Output) error {
	for _, name := range []string{"Package", "EMBEDDED_ODF", "package_stream"} {
		if s := st.Stream(name); s != nil {
			return out.Nested("", "", s.Open())
		}
	}
	if s := st.Stream("\x01Ole10Native"); s != nil {
		b, err := readStream(s, out)
		if err != nil {
			return err
		}
		name, data := nativeFile(b)
		return out.Nested(name, "", bytes.NewReader(data))
	}
	if s := st.Stream("CONTENTS"); s != nil {
		b, err := readStream(s, out)
		if err != nil || !bytes.HasPrefix(b, []byte("%PDF")) {
			return err
		}
		return out.Nested("", "application/pdf", bytes.NewReader(b))
	}
	if st.Stream("Equation Native") != nil || st.Storage("VBA") != nil || st.Stream("\x03OCXNAME") != nil {
		return nil
	}
	return errUnknownObject
}

// nativeFile gives the file in a stream \1Ole10Native, and its name: a size, a number, three names with numbers between, a size and the bytes.
func nativeFile(b []byte) (name string, data []byte) {
	raw := bin(b).from(4)
	rest := bin(raw).from(2)
	label, rest, ok1 := bytes.Cut(rest, []byte{0})
	path, rest, ok2 := bytes.Cut(rest, []byte{0})
	rest = bin(rest).from(8)
	_, rest, ok3 := bytes.Cut(rest, []byte{0})
	n := bin(rest).u32(0)
	if data = bin(rest).from(4); !ok1 || !ok2 || !ok3 || uint64(n) > uint64(len(data)) || n == 0 {
		return "", raw // of a program that keeps no name
	}
	name = string(label)
	if name == "" {
		name = string(path[bytes.LastIndexByte(path, '\\')+1:])
	}
	return message.DecodeText([]byte(name), ""), data[:n]
}

// readStream reads a stream. What is missing of it is marked.
func readStream(s *cfb.Stream, out *Output) ([]byte, error) {
	b, err := io.ReadAll(out.Inflate(s.Open()))
	if errors.Is(err, cfb.ErrDamaged) {
		out.Partial(err.Error())
		err = nil
	}
	return b, err
}

// bin reads little-endian numbers out of bytes; what lies outside of them is zero, or empty.
type bin []byte

func (b bin) u16(at int) uint16 {
	if at < 0 || at+2 > len(b) {
		return 0
	}
	return binary.LittleEndian.Uint16(b[at:])
}

func (b bin) u32(at int) uint32 {
	if at < 0 || at+4 > len(b) {
		return 0
	}
	return binary.LittleEndian.Uint32(b[at:])
}

func (b bin) u64(at int) uint64 { return uint64(b.u32(at)) | uint64(b.u32(at+4))<<32 }

func (b bin) from(at int) bin {
	if at < 0 || at > len(b) {
		return nil
	}
	return b[at:]
}

// slice gives n bytes from at on, or as many as there are.
func (b bin) slice(at, n uint32) bin {
	if uint64(at) > uint64(len(b)) {
		return nil
	}
	b = b[at:]
	return b[:min(uint64(n), uint64(len(b)))]
}

// fromUTF16 gives the text of little-endian UTF-16. Half a pair is U+FFFD.
func fromUTF16(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
	}
	return string(utf16.Decode(units))
}

// Types of values in property sets (MS-OLEPS, section 2.15).
const (
	vtLPSTR  = 0x1e
	vtLPWSTR = 0x1f
)

// oleProperties writes the properties of a document (MS-OLEPS): those that have words, and all that were added by users.
func oleProperties(st *cfb.Storage, out *Output) error {
	for _, known := range []struct {
		stream string
		ids    []uint32
	}{
		{"\x05SummaryInformation", []uint32{2, 3, 4, 5, 6, 8}},
		{"\x05DocumentSummaryInformation", []uint32{2, 14, 15}},
	} {
		b, err := readStream(st.Stream(known.stream), out)
		if err != nil {
			return err
		}
		for i := range int(min(bin(b).u32(24), 2)) {
			ids := known.ids
			if i > 0 {
				ids = nil
			}
			if err := propertySet(bin(b).from(int(bin(b).u32(44+20*i))), ids, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxProperties is how many properties of a document are read, and maxProperty how many characters of one.
const (
	maxProperties = 1000
	maxProperty   = 1 << 16
)

// propertySet writes the texts of one set; ids are those that are wanted, nil: all, with their names.
func propertySet(b bin, ids []uint32, out *Output) error {
	n := min(int(b.u32(4)), maxProperties)
	charset := "windows-1252"
	for i := range n {
		if b.u32(8+8*i) == 1 {
			charset = codepage.Charset(uint32(b.u16(int(b.u32(12+8*i)) + 4)))
		}
	}
	named := false
	for i := range n {
		id, v := b.u32(8+8*i), b.from(int(b.u32(12+8*i)))
		var err error
		switch {
		case id == 0 && ids == nil && !named:
			named = true
			err = dictionary(v, charset, out)
		case id < 2:
		case ids == nil || slices.Contains(ids, id):
			switch v.u32(0) & 0xffff {
			case vtLPSTR:
				err = out.Text(strings.TrimRight(message.DecodeText(v.slice(8, min(v.u32(4), maxProperty)), charset), "\n"))
			case vtLPWSTR:
				err = out.Text(strings.Trim(fromUTF16(v.slice(8, 2*min(v.u32(4), maxProperty))), "\x00"))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dictionary writes the names of properties (section 2.17).
func dictionary(b bin, charset string, out *Output) error {
	n := b.u32(0)
	for b = b.from(4); n > 0 && len(b) > 8; n-- {
		size := min(b.u32(4), maxProperty)
		var name string
		if charset == "utf-16le" {
			name = fromUTF16(b.slice(8, 2*size))
			size = (2*size + 3) &^ 3
		} else {
			name = message.DecodeText(b.slice(8, size), charset)
		}
		if name = strings.Trim(name, "\x00"); !strings.HasPrefix(name, "_PID_") {
			if err := out.Text(name); err != nil {
				return err
			}
		}
		b = b.from(8 + int(size))
	}
	return nil
}
