package extract

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// file makes an Input of bytes.
func file(name, typ string, b []byte) Input {
	return Input{ReaderAt: bytes.NewReader(b), Size: int64(len(b)), Name: name, Type: typ}
}

// zipOf packs pairs of name and content.
func zipOf(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		w, err := z.Create(pairs[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// marks gives the marks of a result as lines of state and file.
func marks(r *Result) string {
	var list []string
	for _, m := range r.Marks {
		list = append(list, fmt.Sprint(m.State, " ", m.File))
	}
	return strings.Join(list, "\n")
}

func TestFilesInFiles(t *testing.T) {
	inner := zipOf(t, "deep.txt", "the deep word")
	r := Extract(t.Context(), file("a.zip", "application/octet-stream", zipOf(t, "b.zip", string(inner), "c.txt", "above", "d.bin", "\x00\x01\x02")), Limits{})
	if r.Text != "the deep word\nabove\n" || marks(r) != "failed a.zip/d.bin" {
		t.Errorf("text %q, marks %q", r.Text, marks(r))
	}
	if len(r.Files) != 4 || r.Files[0].Name != "a.zip/b.zip/deep.txt" || r.Files[3].Size != 3 {
		t.Errorf("files %+v", r.Files)
	}
}

func TestLimits(t *testing.T) {
	many := make([]string, 0, 40)
	for i := range 20 {
		many = append(many, fmt.Sprint(i), "word")
	}
	deep := zipOf(t, "x.txt", "word")
	for range 10 {
		deep = zipOf(t, "z.zip", string(deep))
	}
	for name, c := range map[string]struct {
		file []byte
		l    Limits
		mark string
		text int
	}{
		"members":  {zipOf(t, many...), Limits{Members: 5}, "partial f", 25},
		"inflated": {zipOf(t, "big.txt", strings.Repeat("a", 1<<20)), Limits{Inflated: 1000}, "partial f/big.txt", 0},
		"file":     {zipOf(t, "big.txt", strings.Repeat("a", 1<<20), "c.txt", "word"), Limits{File: 1000}, "partial f/big.txt", 5},
		"text":     {[]byte(strings.Repeat("é", 1000)), Limits{Text: 101}, "partial f", 100},
		"depth":    {deep, Limits{Depth: 2}, "partial f/z.zip/z.zip", 0},
		"time":     {[]byte("word"), Limits{Time: 1}, "failed f", 0},
	} {
		r := Extract(t.Context(), file("f", "", c.file), c.l)
		if marks(r) != c.mark || len(r.Text) != c.text {
			t.Errorf("%s: marks %q, text %q", name, marks(r), r.Text)
		}
	}
}
