package message

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse: any bytes are a message. All text is UTF-8 without NULs, every part opens with the size that it was said to have, and what
// small limits leave is no more than what large ones do.
func FuzzParse(f *testing.F) {
	f.Add([]byte(twoLevels))
	f.Add([]byte(crlf(twoLevels)))
	f.Add([]byte(strings.ReplaceAll(twoLevels, "\n", "\r")))
	for _, h := range hostile {
		f.Add([]byte(h.mail(300)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := parse(t, string(raw))
		texts := []string{m.Text, m.AttachedText, m.Outside, m.Header.Subject(), m.Header.MessageID()}
		texts = append(texts, m.Problems...)
		texts = append(texts, m.Header.References()...)
		for _, field := range m.Header.Fields() {
			if field.Name == "" || strings.ContainsAny(field.Name, " \t\r\n:") {
				t.Errorf("field %q", field)
			}
			texts = append(texts, m.Header.Values(field.Name)...)
			for _, a := range m.Header.AddressList(field.Name) {
				if a == (Address{}) {
					t.Error("an address of nothing")
				}
				texts = append(texts, a.Name, a.Address)
			}
		}
		for _, p := range m.Parts {
			texts = append(texts, p.Path, p.Type, p.Charset, p.Disposition, p.Name, p.ContentID, p.Encoding)
			if p.Size < 0 {
				t.Errorf("part %+v", p)
			}
		}
		for _, s := range texts {
			if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
				t.Errorf("text %q", s)
			}
		}
		if d := m.Header.Date(); !d.IsZero() && (d.Year() < 1970 || d.Year() > 9999) {
			t.Errorf("date %v", d)
		}
		m.HTMLBody()
		openAll(t, raw)

		small, err := Parse(strings.NewReader(string(raw)), Limits{Depth: 2, Parts: 3, HeaderBytes: 64, TextBytes: 128})
		if err != nil || len(small.Parts) > 4 {
			t.Errorf("small limits: %d parts, %v", len(small.Parts), err)
		}
	})
}

func FuzzAddressList(f *testing.F) {
	for _, s := range []string{`"A, B" <a@x.test>, G: b@x.test (c);`, `<"a b"@c`, "a @ b . c d", "=?utf-8?q?a=40b?=", `"a" <b>, "c`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		for _, a := range appendAddresses(nil, s) {
			if a == (Address{}) || !utf8.ValidString(a.Name) || !utf8.ValidString(a.Address) {
				t.Errorf("%q: %q", s, a)
			}
		}
	})
}
