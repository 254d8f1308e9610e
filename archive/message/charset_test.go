package message

import (
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
)

// TestCharsets: text in the charsets that mail is written in, as plain text, as HTML, and in the subject.
func TestCharsets(t *testing.T) {
	for _, c := range []struct {
		label string
		enc   encoding.Encoding
		text  string
	}{
		{"us-ascii", encoding.Nop, "plain English"},
		{"utf-8", encoding.Nop, "日本語 and Ελληνικά and عربي"},
		{"iso-8859-1", charmap.ISO8859_1, "Größe naïve"},
		{"iso-8859-1", charmap.Windows1252, "“quotes” — and €"}, // mislabelled, as it usually is
		{"iso-8859-2", charmap.ISO8859_2, "Zażółć gęślą jaźń"},
		{"iso-8859-5", charmap.ISO8859_5, "Привет, мир"},
		{"iso-8859-6", charmap.ISO8859_6, "مرحبا بالعالم"},
		{"iso-8859-7", charmap.ISO8859_7, "Καλημέρα κόσμε"},
		{"iso-8859-8-i", charmap.ISO8859_8, "שלום עולם"},
		{"iso-8859-9", charmap.ISO8859_9, "Günaydın dünya"},
		{"iso-8859-15", charmap.ISO8859_15, "prix: 5 €, œuvre"},
		{"windows-1250", charmap.Windows1250, "Příliš žluťoučký kůň"},
		{"windows-1251", charmap.Windows1251, "Съешь ещё этих булок"},
		{"cp1251", charmap.Windows1251, "Привет"},
		{"windows-1253", charmap.Windows1253, "Καλημέρα"},
		{"windows-1255", charmap.Windows1255, "שלום"},
		{"windows-1256", charmap.Windows1256, "مرحبا"},
		{"koi8-r", charmap.KOI8R, "Съешь ещё этих булок"},
		{"koi8-u", charmap.KOI8U, "Щастя їй"},
		{"tis-620", charmap.Windows874, "สวัสดีชาวโลก"},
		{"windows-874", charmap.Windows874, "สวัสดี"},
		{"gb2312", simplifiedchinese.GBK, "你好，世界"},
		{"gbk", simplifiedchinese.GBK, "镕基"},
		{"gb18030", simplifiedchinese.GB18030, "你好 𠀀"},
		{"hz-gb-2312", simplifiedchinese.HZGB2312, "你好"},
		{"big5", traditionalchinese.Big5, "你好，世界"},
		{"shift_jis", japanese.ShiftJIS, "こんにちは世界"},
		{"windows-31j", japanese.ShiftJIS, "①髙"},
		{"euc-jp", japanese.EUCJP, "こんにちは世界"},
		{"iso-2022-jp", japanese.ISO2022JP, "こんにちは世界"},
		{"euc-kr", korean.EUCKR, "안녕하세요 세계"},
		{"ks_c_5601-1987", korean.EUCKR, "안녕하세요"},
		{"utf-16le", unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), "Hello, Привет"},
		{"utf-16", unicode.UTF16(unicode.BigEndian, unicode.UseBOM), "Hello, Привет"},
	} {
		raw, err := c.enc.NewEncoder().String(c.text)
		if err != nil {
			t.Fatalf("%s: %v", c.label, err)
		}
		if got, problem := decodeCharset(raw, c.label); got != c.text || problem != "" {
			t.Errorf("%s: got %q, want %q: %s", c.label, got, c.text, problem)
		}
		for _, typ := range []string{"text/plain", "text/html"} {
			body := raw
			if typ == "text/html" {
				if body, err = c.enc.NewEncoder().String("<p>" + c.text); err != nil {
					t.Fatal(err)
				}
			}
			var qp strings.Builder
			for i := range len(body) {
				qp.WriteString("=" + strings.ToUpper(string("0123456789abcdef"[body[i]>>4])+string("0123456789abcdef"[body[i]&15])))
				if i%20 == 19 {
					qp.WriteString("=\n")
				}
			}
			m := parse(t, header+"Content-Type: "+typ+"; charset=\""+strings.ToUpper(c.label)+"\"\nContent-Transfer-Encoding: quoted-printable\n\n"+qp.String()+"\n")
			if got := strings.TrimRight(m.Text, "\n"); !strings.HasPrefix(got, c.text) {
				t.Errorf("%s, %s: got %q, want %q, %q", c.label, typ, got, c.text, m.Problems)
			}
		}
	}
}

func TestWrongCharsets(t *testing.T) {
	for _, c := range []struct{ name, label, raw, want string }{
		{"UTF-8 called latin1", "iso-8859-1", "caf\xc3\xa9", "café"},
		{"UTF-8 called us-ascii", "us-ascii", "caf\xc3\xa9", "café"},
		{"UTF-8 called koi8-r", "koi8-r", "Привет", "Привет"},
		{"latin1 called UTF-8", "utf-8", "caf\xe9 \xc3\xa9", "café é"},
		{"latin1 called nothing", "", "caf\xe9", "café"},
		{"unknown", "x-klingon", "caf\xe9", "café"},
		{"iso-2022-jp called nothing", "", "\x1b$BF|K\\8l\x1b(B", "日本語"},
		{"utf-7", "utf-7", "caf+AOk- 1 +- 2 +2D3eAA-", "café 1 + 2 😀"},
		{"utf-7 cut off", "utf-7", "a+AOkA", "aé"},
		{"UTF-8 with a mark", "utf-8", "\ufeffhello", "hello"},
		{"gb2312 that is UTF-8", "gb2312", "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c\xe3\x80\x82", "你好，世界。"},
	} {
		got, problem := decodeCharset(c.raw, c.label)
		if got != c.want {
			t.Errorf("%s: got %q, want %q (%s)", c.name, got, c.want, problem)
		}
	}
	m := parse(t, header+"\ncaf\xe9\n")
	if len(m.Problems) != 1 || m.Partial {
		t.Errorf("problems %q, partial %v", m.Problems, m.Partial)
	}
	m = parse(t, header+"\nH\x00e\x00l\x00l\x00o\x00 \x00w\x00o\x00r\x00l\x00d\x00")
	if !strings.Contains(m.Text, "Hello world") {
		t.Errorf("UTF-16 that is not declared: %q", m.Text)
	}
	m = parse(t, header+"Content-Type: text/html\n\n<html><head><META http-equiv=x content=\"text/html; charset=windows-1251\"></head>\xcf\xf0\xe8\xe2\xe5\xf2")
	if m.Text != "Привет\n" {
		t.Errorf("charset of the HTML itself: %q", m.Text)
	}
	m = parse(t, "From: =?koi8-r?b?8NLJ18XU?= <a@x.test>\n\n\xf0\xd2\xc9\xd7\xc5\xd4\n")
	if m.Text != "Привет\n" {
		t.Errorf("charset of the header: %q", m.Text)
	}
}
