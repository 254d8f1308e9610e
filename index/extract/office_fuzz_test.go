package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"
)

// small are limits under which hostile input is read in tests.
var small = Limits{Depth: 4, Members: 200, Inflated: 4 << 20, File: 1 << 20, Text: 1 << 20, Time: 10 * time.Second}

// TestCutOffFixtures cuts every fixture at every 97th byte: what is left is read in part, or not at all, and that is said.
func TestCutOffFixtures(t *testing.T) {
	names, err := filepath.Glob("testdata/office/*.*")
	if err != nil || len(names) < 10 {
		t.Fatalf("fixtures: %v, %v", names, err)
	}
	for _, path := range names {
		name := filepath.Base(path)
		switch filepath.Ext(name) {
		case ".want", ".sh":
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := readFixture(t, name)
			whole, err := in.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			step := 97 * max(1, len(whole)/50000) // one large fixture is cut less often
			for n := 97; n < len(whole); n += step {
				r := Extract(context.Background(), Input{ReaderAt: bytes.NewReader(whole[:n]), Size: int64(n), Name: name}, small)
				for _, m := range r.Marks {
					if bytes.Contains([]byte(m.Reason), []byte("broke")) {
						t.Fatalf("at %d: %v", n, m)
					}
				}
			}
		})
	}
}

// fuzzFormat feeds one format, whatever the bytes look like.
func fuzzFormat(f *testing.F, format *format, fixtures ...string) {
	for _, name := range fixtures {
		in := readFixture(f, name)
		b, err := in.Bytes()
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 100<<10 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { extractHostile(t, format, b) })
}

func extractHostile(t *testing.T, format *format, b []byte) {
	j := &job{ctx: t.Context(), limits: small}
	err := format.extract(t.Context(), Input{ReaderAt: bytes.NewReader(b), Size: int64(len(b))}, &Output{job: j, name: "x"})
	if s := j.text.String(); !utf8.ValidString(s) || len(s) > small.Text {
		t.Errorf("text of %d bytes, %v", len(s), err)
	}
}

// FuzzOOXMLPart feeds the XML of one part, in a file that is well otherwise.
func FuzzOOXMLPart(f *testing.F) {
	parts := []string{"word/document.xml", "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml", "ppt/slides/slide1.xml", "docProps/core.xml"}
	for i, fixture := range []string{"letter.docx", "sheet.xlsx", "sheet.xlsx", "sheet.xlsx", "slides.pptx", "slides.pptx"} {
		z, err := openZip(readFixture(f, fixture))
		if err != nil {
			f.Fatal(err)
		}
		r, err := z.Open(parts[i])
		if err != nil {
			f.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b)
	}
	kinds := []string{"wordprocessingml.document.main", "spreadsheetml.worksheet", "spreadsheetml.sharedStrings", "spreadsheetml.styles", "presentationml.slide", "package.core-properties"}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		var file bytes.Buffer
		z := zip.NewWriter(&file)
		add := func(name, text string) {
			w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
			if err == nil {
				_, err = io.WriteString(w, text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		override := func(name, kind string) string {
			return `<Override PartName="/` + name + `" ContentType="application/` + kind + `+xml"/>`
		}
		i := int(kind) % len(kinds)
		types := override(parts[i], kinds[i])
		if i != 0 {
			types += override("xl/workbook.xml", "spreadsheetml.sheet.main") + override("xl/worksheets/s.xml", "spreadsheetml.worksheet")
			add("xl/workbook.xml", `<workbook/>`)
			add("xl/worksheets/s.xml", `<c s="1"><v>45000</v></c><c t="s"><v>0</v></c>`)
		}
		add("[Content_Types].xml", "<Types>"+types+"</Types>")
		add(parts[i], string(b))
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		extractHostile(t, &ooxmlFormat, file.Bytes())
	})
}

func FuzzOOXML(f *testing.F) { fuzzFormat(f, &ooxmlFormat, "letter.docx", "sheet.xlsx", "slides.pptx") }
func FuzzODF(f *testing.F)   { fuzzFormat(f, &odfFormat, "letter.odt", "sheet.ods", "slides.odp") }
func FuzzFlatODF(f *testing.F) {
	fuzzFormat(f, &flatODFFormat, "letter.fodt", "sheet.fods", "slides.fodp")
}
func FuzzCalendar(f *testing.F) { fuzzFormat(f, &calendarFormat, "meeting.ics", "card.vcf") }
