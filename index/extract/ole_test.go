package extract

import (
	"bytes"
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
