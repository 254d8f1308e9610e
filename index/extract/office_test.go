package extract

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The fixtures of testdata/office were made from the flat OpenDocument files there, by make.sh. What text they hold stands in the .want files,
// written by hand: a line for each, with ? before what not every format can hold.

func readFixture(t testing.TB, name string) Input {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "office", name))
	if err != nil {
		t.Fatal(err)
	}
	return Input{ReaderAt: bytes.NewReader(b), Size: int64(len(b)), Name: name}
}

// pieces are the lines of a text, and of each the cells, with single blanks.
func pieces(s string) (list []string) {
	for line := range strings.Lines(s) {
		for _, cell := range strings.Split(line, "\t") {
			if cell = strings.Join(strings.Fields(cell), " "); cell != "" {
				list = append(list, cell)
			}
		}
	}
	return list
}

func TestOfficeFixtures(t *testing.T) {
	for name, lacks := range map[string]string{
		"letter.docx": "", "letter.docm": "", "letter.dotx": "", "letter.odt": "", "letter.fodt": "",
		"sheet.xlsx": "", "sheet.ods": "", "sheet.fods": "",
		"letter.doc": "", "letter.rtf": "", "sheet.xls": "", "slides.ppt": "",
		"meeting.ics": "", "card.vcf": "",
		"slides.pptx": "", "slides.odp": "", "slides.fodp": "",
	} {
		t.Run(name, func(t *testing.T) {
			r := Extract(context.Background(), readFixture(t, name), Limits{})
			if len(r.Marks) > 0 {
				t.Errorf("marks: %v", r.Marks)
			}
			compare(t, r.Text, strings.TrimSuffix(name, filepath.Ext(name))+".want", lacks)
		})
	}
}

// compare compares a text with what a .want file says. lacks are lines of it that the format does not hold, with | between.
func compare(t *testing.T, text, want, lacks string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "office", want))
	if err != nil {
		t.Fatal(err)
	}
	got := pieces(strings.ReplaceAll(text, "one\ttwo", "one two"))
	known := []string{}
	for line := range strings.Lines(string(b)) {
		line, optional := strings.CutPrefix(strings.TrimSpace(line), "?")
		known = append(known, line)
		if !optional && !slices.Contains(got, line) && !slices.Contains(strings.Split(lacks, "|"), line) {
			t.Errorf("it lacks %q", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(known, line) {
			t.Errorf("it has %q, which is not wanted", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
