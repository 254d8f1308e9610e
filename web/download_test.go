package web

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/record"
)

func TestFileNamesLeadNobodyAstray(t *testing.T) {
	for name, want := range map[string]string{
		"report.pdf":                        "report.pdf",
		"":                                  "part-2.1.bin",
		"   ":                               "part-2.1.bin",
		"...":                               "part-2.1.bin",
		"///":                               "part-2.1.bin",
		"../../etc/passwd":                  "_.._etc_passwd",
		`C:\windows\x.exe`:                  "C__windows_x.exe",
		"a\r\nSet-Cookie: x=y.pdf":          "a__Set-Cookie_ x=y.pdf",
		"a\x00b.txt":                        "a_b.txt",
		"invoice\u202efdp.exe":              "invoicefdp.exe",
		"a\u2066b\u2069\u200bc\ufeff.pdf":   "abc.pdf",
		"\u202e":                            "part-2.1.bin",
		`a"b;c'd.txt`:                       "a_b;c'd.txt",
		"a%2f..%2fb.sh":                     "a_2f.._2fb.sh",
		"договор.pdf":                       "договор.pdf",
		"合同 附件三.docx":                       "合同 附件三.docx",
		"line\u2028break.txt":               "line_break.txt",
		".bashrc":                           "bashrc",
		"name.exe.":                         "name.exe",
		"tab\there.txt":                     "tab_here.txt",
		"<script>.html":                     "_script_.html",
		"\xff\xfe.bin":                      "bin",
		"CON|PRN?*.txt":                     "CON_PRN__.txt",
		strings.Repeat("x", 5000) + ".pdf":  strings.Repeat("x", 196) + ".pdf",
		strings.Repeat("ж", 5000):           strings.Repeat("ж", 100),
		"a." + strings.Repeat("y", 5000):    "a." + strings.Repeat("y", 198),
		strings.Repeat(" ", 5000) + "a.pdf": "a.pdf",
		"e\u0301t\u00e9.txt":                "e\u0301t\u00e9.txt",
	} {
		if got := fileName(name, "2.1"); got != want {
			t.Errorf("%.60q: %q, want %q", name, got, want)
		}
	}
}

func checkDisposition(t *testing.T, name string) {
	t.Helper()
	d := disposition(name, "1")
	typ, params, err := mime.ParseMediaType(d)
	if err != nil || typ != "attachment" {
		t.Fatalf("%.60q: %q: %s %v", name, d, typ, err)
	}
	for i := range len(d) {
		if d[i] < ' ' || d[i] > '~' {
			t.Fatalf("%.60q: byte %#x in %q", name, d[i], d)
		}
	}
	got := params["filename"]
	if got != fileName(name, "1") {
		t.Errorf("%.60q: read back as %q, not %q", name, got, fileName(name, "1"))
	}
	if got == "" || len(got) > maxFileName || !utf8.ValidString(got) || strings.ContainsAny(got, `/\"`) || strings.HasPrefix(got, ".") ||
		strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
		t.Errorf("%.60q: becomes %q", name, got)
	}
}

func FuzzDisposition(f *testing.F) {
	for _, s := range []string{"", "a.pdf", "a\r\nb", "\u202e", "../x", strings.Repeat("ж", 300) + ".docx", `"; filename*=UTF-8''x.exe`, "\xff"} {
		f.Add(s)
	}
	f.Fuzz(checkDisposition)
}

func TestAttachmentsAreSavedNotShown(t *testing.T) {
	f, h := site(t)
	f.add(1, simpleMail)
	w := ask(h, "/message/"+idOf(1).String()+"/attachment/2")
	for k, want := range map[string]string{"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": dataPolicy,
		"Content-Disposition": `attachment; filename="invoice.html"; filename*=UTF-8''invoice.html`} {
		if got := w.Header().Get(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	if got := strings.TrimSpace(w.Body.String()); got != "<script>alert(1)</script>" {
		t.Errorf("its bytes are %q", got)
	}
	if f.open != 0 || len(f.acts) != 1 || f.acts[0] != "view "+idOf(1).String()+" attachment 2" {
		t.Errorf("open %d, acts %q", f.open, f.acts)
	}
}

// Bytes that are not those of the envelope show only at their end: then the connection is cut before the last of them.
func TestAlteredBytesNeverPassForTheWhole(t *testing.T) {
	f, h := site(t)
	s := f.add(1, strings.Replace(simpleMail, "<script>", strings.Repeat("large ", 50_000)+"<script>", 1))
	s.Item.Envelope.SHA256 = record.Sum([]byte("other"))
	id := idOf(1).String()
	for _, path := range []string{"/api/v1/records/" + id + "/eml", "/message/" + id + "/attachment/2"} {
		srv := httptest.NewServer(h)
		res, err := http.Get(srv.URL + path)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		srv.Close()
		if err == nil {
			t.Errorf("%s: altered, and sent as if it were whole", path)
		}
	}
	for _, path := range []string{"/message/" + id, "/message/" + id + "/html", "/api/v1/records/" + id + "/text"} {
		w := ask(h, path)
		if body := w.Body.String(); w.Code != http.StatusBadGateway || strings.Contains(body, "week of the") || strings.Contains(body, "packs/secret") {
			t.Errorf("%s: %d %s", path, w.Code, body)
		}
	}
	if f.open != 0 {
		t.Errorf("%d bodies were left open", f.open)
	}
}

func TestCopyProvenHoldsTheEndBack(t *testing.T) {
	for _, n := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 300_000} {
		content := bytes.Repeat([]byte("x"), n)
		for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "half": iotest.HalfReader, "data with error": iotest.DataErrReader} {
			var out bytes.Buffer
			if err := copyProven(&out, wrap(bytes.NewReader(content)), strings.NewReader("rest")); err != nil || !bytes.Equal(out.Bytes(), content) {
				t.Errorf("%d bytes, %s: %v, %d copied", n, name, err, out.Len())
			}
			out.Reset()
			err := copyProven(&out, wrap(bytes.NewReader(content)), iotest.ErrReader(archive.ErrAltered))
			if !errors.Is(err, archive.ErrAltered) || n > 0 && out.Len() >= n {
				t.Errorf("%d bytes, %s, altered: %v, %d copied", n, name, err, out.Len())
			}
		}
	}
	if err := copyProven(io.Discard, iotest.ErrReader(io.ErrClosedPipe), strings.NewReader("")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}
