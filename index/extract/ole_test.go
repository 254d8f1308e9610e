package extract

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/index/extract/cfb"
)

// stream reads a stream of a fixture.
func stream(t testing.TB, fixture, name string) []byte {
	t.Helper()
	in := readFixture(t, fixture)
	st, err := cfb.Open(in, in.Size)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(st.Stream(name).Open())
	if err != nil || len(b) == 0 {
		t.Fatalf("stream %s of %s: %d bytes, %v", name, fixture, len(b), err)
	}
	return b
}

func TestEncryptedOffice(t *testing.T) {
	for _, name := range []string{"secret.doc", "secret.xls", "secret.docx", "secret.odt"} {
		r := Extract(t.Context(), readFixture(t, name), Limits{})
		if marks(r) != "encrypted "+name {
			t.Errorf("%s: marks %q, text %q", name, marks(r), r.Text)
		}
		if bytes.Contains([]byte(r.Text), []byte("Lieferung")) {
			t.Errorf("%s gives its text", name)
		}
	}
}

// TestEncryptedPowerPoint changes what a presentation says of itself, since LibreOffice doesn't encrypt any.
func TestEncryptedPowerPoint(t *testing.T) {
	in := readFixture(t, "slides.ppt")
	whole, err := in.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	plain, encrypted := []byte{0x5f, 0xc0, 0x91, 0xe3}, []byte{0xdf, 0xc4, 0xd1, 0xf3} // headerToken of MS-PPT, section 2.3.2
	if bytes.Count(whole, plain) != 1 {
		t.Fatal("the fixture is not as it was")
	}
	r := Extract(t.Context(), file("s.ppt", "", bytes.Replace(whole, plain, encrypted, 1)), Limits{})
	if marks(r) != "encrypted s.ppt" {
		t.Errorf("marks %q, text %q", marks(r), r.Text)
	}
}

// TestOfficeByContent reads fixtures that go by the name and type of something else.
func TestOfficeByContent(t *testing.T) {
	for _, name := range []string{"letter.doc", "sheet.xls", "slides.ppt"} {
		in := readFixture(t, name)
		in.Name, in.Type = "photo.jpg", "image/jpeg"
		if r := Extract(t.Context(), in, Limits{}); len(r.Text) < 200 {
			t.Errorf("%s as a picture: %q", name, r.Text)
		}
	}
}

func TestTextThatIsCalledXLS(t *testing.T) {
	r := Extract(t.Context(), file("t.xls", "application/vnd.ms-excel", []byte("Größe\tPreis\r\n")), Limits{})
	if !strings.Contains(r.Text, "Größe\tPreis") || len(r.Marks) > 0 {
		t.Errorf("text %q, marks %q", r.Text, marks(r))
	}
	r = Extract(t.Context(), file("t.xls", "application/vnd.ms-excel", []byte("\x09\x04\x06\x00\x00\x00")), Limits{})
	if marks(r) != "failed t.xls" {
		t.Errorf("text %q, marks %q", r.Text, marks(r))
	}
}

// TestGapsInPowerPoint puts what is none between the records of the first level.
func TestGapsInPowerPoint(t *testing.T) {
	b := bin(stream(t, "slides.ppt", "PowerPoint Document"))
	first := int(b.u32(4)) + 8
	read := func(gap string) *Result {
		with := append(append(append([]byte{}, b[:first]...), gap...), b[first:]...)
		j := &job{ctx: t.Context(), limits: Limits{}.withDefaults()}
		if err := (&pptReader{out: &Output{job: j}}).stream(with); err != nil {
			t.Fatal(err)
		}
		j.result.Text = j.text.String()
		return &j.result
	}
	want := read("").Text
	for gap, mark := range map[string]string{"\x00\x00\x00\x00\x00\x00\x00": "", "rubbish": "partial "} {
		if r := read(gap); r.Text != want || marks(r) != mark {
			t.Errorf("with %q: marks %q, text %q", gap, marks(r), r.Text)
		}
	}
}

// TestOverlappingPieces: a document whose pieces all have the same text has no more of it than its file.
func TestOverlappingPieces(t *testing.T) {
	w := make(bin, 0x1000)
	copy(w[0x800:], bytes.Repeat([]byte("word "), 0x800/5))
	w[0], w[1], w[2] = 0xec, 0xa5, firstWord97
	const n = 1000
	plc := []byte{2, 0, 0, 0, 0}
	put := func(v uint32) { plc = append(plc, byte(v), byte(v>>8), byte(v>>16), byte(v>>24)) }
	for i := range n + 1 {
		put(uint32(i) * 0x800)
	}
	for range n {
		plc = append(plc, 0, 0)
		put(0x800*2 | pieceUnicode)
		plc = append(plc, 0, 0)
	}
	plc[1], plc[2], plc[3] = byte(len(plc)-5), byte((len(plc)-5)>>8), byte((len(plc)-5)>>16)
	w[fibClx+4], w[fibClx+5], w[fibClx+6] = byte(len(plc)), byte(len(plc)>>8), byte(len(plc)>>16)
	j := &job{ctx: t.Context(), limits: Limits{}.withDefaults()}
	if err := readWord(w, plc, &Output{job: j}); err != nil {
		t.Fatal(err)
	}
	if got := j.text.Len(); got < 0x800 || got > len(w)+n || marks(&j.result) != "partial " {
		t.Errorf("text of %d bytes, marks %q", got, marks(&j.result))
	}
}

// TestWord6 reads what was before Word 97: bytes in the code page of the document's language, or 16 bits a character in the Asian version of 95.
func TestWord6(t *testing.T) {
	read := func(ident, version, language, flags uint16, text string) string {
		w := make([]byte, 0x300, 0x300+len(text))
		for at, v := range map[int]uint16{0: ident, 2: version, 6: language, fibFlags: flags, fibMin: 0x300, fibMac: uint16(0x300 + len(text))} {
			binary.LittleEndian.PutUint16(w[at:], v)
		}
		if flags&flagComplex != 0 {
			pieces := binary.LittleEndian.AppendUint32([]byte{2, 16, 0, 0, 0, 0, 0, 0, 0}, uint32(len(text)/2))
			pieces = append(binary.LittleEndian.AppendUint32(append(pieces, 0, 0), 0x300), 0, 0)
			binary.LittleEndian.PutUint32(w[fibClx6:], 0x200)
			binary.LittleEndian.PutUint32(w[fibClx6+4:], uint32(copy(w[0x200:], pieces)))
		}
		j := &job{ctx: t.Context(), limits: Limits{}.withDefaults()}
		if err := readWord(append(w, text...), nil, &Output{job: j}); err != nil {
			t.Fatal(err)
		}
		return j.text.String()
	}
	for got, want := range map[string]string{
		read(0xa5dc, 101, 0x0419, 0, "\xc4\xee\xe3\xee\xe2\xee\xf0\ron"):               "Договор\non\n",
		read(0xa5dc, 104, 0x0408, 0, "\xeb\xfc\xe3\xef\xf2\r"):                         "λόγος\n",
		read(0xa5dc, 104, 0x0411, 0, "\x8c\x5f\x96\xf1\r"):                             "契約\n",
		read(0xa699, 104, 0x0411, flagComplex|flagExtChar, "\x51\x59\x04\x7d\x0d\x00"): "契約\n",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNativeFile reads an object that OLE wraps a file in.
func TestNativeFile(t *testing.T) {
	b := "\x00\x00\x00\x00\x02\x00Angebot.txt\x00C:\\Temp\\Angebot.txt\x00\x00\x00\x03\x00\x05\x00\x00\x00path\x00\x05\x00\x00\x00wordsrest"
	if name, data := nativeFile([]byte(b)); name != "Angebot.txt" || string(data) != "words" {
		t.Errorf("name %q, data %q", name, data)
	}
	for n := range len(b) {
		nativeFile([]byte(b[:n]))
	}
	if _, data := nativeFile([]byte("\x04\x00\x00\x00BM..")); string(data) != "BM.." {
		t.Errorf("data %q", data)
	}
}

func TestObjectsInRTF(t *testing.T) {
	package1 := "\x02\x00a.txt\x00C:\\a.txt\x00\x00\x00\x03\x00\x06\x00\x00\x00a.txt\x00\x05\x00\x00\x00words"
	ole1 := func(class, data string) string {
		return fmt.Sprintf("%x", "\x01\x05\x00\x00\x02\x00\x00\x00"+string(rune(len(class)))+"\x00\x00\x00"+class+"\x00\x00\x00\x00\x00\x00\x00\x00"+
			string([]byte{byte(len(data)), byte(len(data) >> 8), 0, 0})+data)
	}
	in := func(hex string) string {
		return `{\rtf1 before {\object\objemb{\*\objdata ` + hex + `}{\result{\pict 00}}}after\par}`
	}
	letter, err := readFixture(t, "letter.doc").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for hex, want := range map[string]struct{ text, marks string }{
		ole1("Package\x00", package1):               {"before after\nwords\n", ""},
		ole1("Word.Document.8\x00", string(letter)): {"The quick brown fox", ""},
		ole1("Other.Thing\x00", "??"):               {"before after\n", "failed x.rtf/object 1"},
		"0105000002":                                {"before after\n", ""},
	} {
		r := Extract(t.Context(), file("x.rtf", "", []byte(in(hex))), Limits{})
		if !strings.Contains(r.Text, want.text) || marks(r) != want.marks {
			t.Errorf("%.60s: text %q, marks %q", hex, r.Text, marks(r))
		}
	}
}

func FuzzRTF(f *testing.F) { fuzzFormat(f, &rtfFormat, "letter.rtf") }

func FuzzOLE(f *testing.F) { fuzzFormat(f, &oleFormat, "letter.doc", "sheet.xls") }

// fuzzStream feeds the reader of one stream, so that the container doesn't stand between.
func fuzzStream(t *testing.T, read func(*Output) error) {
	j := &job{ctx: t.Context(), limits: small}
	err := read(&Output{job: j, name: "x"})
	if j.text.Len() > small.Text {
		t.Errorf("text of %d bytes, %v", j.text.Len(), err)
	}
}

func FuzzWord(f *testing.F) {
	f.Add(stream(f, "letter.doc", "WordDocument"), stream(f, "letter.doc", "1Table"))
	f.Fuzz(func(t *testing.T, w, table []byte) {
		fuzzStream(t, func(o *Output) error { return readWord(w, table, o) })
	})
}

func FuzzExcel(f *testing.F) {
	f.Add(stream(f, "sheet.xls", "Workbook"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzStream(t, func(o *Output) error { return newXLSReader(o).workbook(b) })
	})
}

func FuzzPowerPoint(f *testing.F) {
	f.Add(stream(f, "slides.ppt", "PowerPoint Document"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzStream(t, func(o *Output) error { return (&pptReader{out: o}).stream(b) })
	})
}

func FuzzProperties(f *testing.F) {
	f.Add(stream(f, "letter.doc", "\x05DocumentSummaryInformation"))
	f.Add(stream(f, "letter.doc", "\x05SummaryInformation"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzStream(t, func(o *Output) error { return propertySet(bin(b).from(int(bin(b).u32(44))), nil, o) })
	})
}
