package tnef

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
)

var update = flag.Bool("update", false, "write the fixture again")

// decode knows the charsets of these tests.
func decode(raw []byte, charset string) string {
	s := string(raw)
	switch charset {
	case "windows-1252":
		s, _ = charmap.Windows1252.NewDecoder().String(s)
	case "windows-1251":
		s, _ = charmap.Windows1251.NewDecoder().String(s)
	case "shift_jis":
		s, _ = japanese.ShiftJIS.NewDecoder().String(s)
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "")
}

var document = `{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss Arial;}{\f1\fnil\fcharset204 Arial Cyr;}{\f2\fcharset128 MS Gothic;}}{\colortbl;\red0\green0\blue255;}` +
	`{\*\generator Writer;}\uc1\pard\plain\f0\fs20 Gr\'fc\'dfe aus K\u246?ln\par second line\tab with a tab\par ` +
	`{\f1 \'ef\'f0\'e8\'e2\'e5\'f2}\par{\f2 \'8c\'5f\'96\'f1}\par \u-10179?\u-8704?{\field{\*\fldinst HYPERLINK "http://x"}{\fldrslt a link}} \{braces\}\par}`

const rtfSays = "Grüße aus Köln\nsecond line\twith a tab\nпривет\n契約\n😀a link {braces}\n"

// mail is a message with all that there is.
func mail() []byte {
	w := newWriter()
	w.attribute(1, attMessageClass, []byte("IPM.Microsoft Mail.Note\x00"))
	w.attribute(1, attSubject, []byte("old subject\x00"))
	w.attribute(1, attMessageProps, new(properties).
		unicode(0x0037, "Zweiter Entwurf 第二稿").unicode(0x1035, "<m1@corp.example>").unicode(0x0c1a, "Anna Weiß").unicode(0x0e04, "Bob; Carol").
		add(0x8001, typeInt32, le32(7)).add(0x8002, typeUnicode, utf16le("named")).add(0x0e06, typeTime, make([]byte, 8)).
		unicode(0x1000, "The plain text.\r\n").add(0x1013, typeBinary, []byte("<p>The <b>HTML</b> gr\xfc\xdfe</p>")).add(0x1009, typeBinary, compress(document)).
		add(0x3fde, typeInt32, le32(28591)).bytes())
	w.begin()
	w.attribute(2, attAttachTitle, []byte("SECOND~1.DOC\x00"))
	w.attribute(2, attAttachData, []byte("the bytes of a file"))
	w.attribute(2, attAttachProps, new(properties).unicode(0x3707, "Zweiter Entwurf, überarbeitet.docx").unicode(0x370e, "Application/X-Word").
		unicode(0x3712, "<cid1>").add(0x3705, typeInt32, le32(1)).bytes())
	inner := newWriter()
	inner.attribute(1, attMessageProps, new(properties).unicode(0x0037, "inner subject").unicode(0x1000, "inner text").bytes())
	inner.begin()
	inner.attribute(2, attAttachTitle, []byte("deep.txt\x00"))
	inner.attribute(2, attAttachData, []byte("deep"))
	w.begin()
	w.attribute(2, attAttachTitle, []byte("inner.msg\x00"))
	w.attribute(2, attAttachProps, new(properties).add(0x3705, typeInt32, le32(5)).add(0x3701, typeObject, append(make([]byte, 16), inner.Bytes()...)).bytes())
	return w.Bytes()
}

func TestParse(t *testing.T) {
	m, err := Parse(mail(), decode)
	if err != nil {
		t.Fatal(err)
	}
	inner := m.Attachments[1].Message
	m.Attachments[1].Message, m.Attachments[1].Data = nil, nil
	want := &Message{
		Class: "IPM.Note", Subject: "Zweiter Entwurf 第二稿", MessageID: "m1@corp.example", From: "Anna Weiß", To: "Bob; Carol", Text: "The plain text.\r\n",
		HTML: "<p>The <b>HTML</b> gr\ufffd\ufffde</p>", RTFText: rtfSays,
		Attachments: []Attachment{
			{Name: "Zweiter Entwurf, überarbeitet.docx", Type: "application/x-word", ContentID: "cid1", Data: []byte("the bytes of a file")}, {Name: "inner.msg"},
		},
	}
	want.HTML = strings.ReplaceAll(want.HTML, "\ufffd", "?")
	want.HTML = strings.ReplaceAll(want.HTML, "gr??e", decode([]byte("gr\xfc\xdfe"), "iso-8859-1"))
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
	if inner == nil || inner.Subject != "inner subject" || inner.Text != "inner text" || len(inner.Attachments) != 1 || string(inner.Attachments[0].Data) != "deep" ||
		inner.Attachments[0].Name != "deep.txt" {
		t.Errorf("%+v", inner)
	}
}

// The oldest form has no properties at all.
func TestParseAttributesAlone(t *testing.T) {
	w := newWriter()
	w.attribute(1, attCodepage, le32(1251, 0))
	from := append([]byte{4, 0, 0x2a, 0, 6, 0, 19, 0}, "\xc0\xed\xed\xe0\x00\x00SMTP:anna@corp.ru\x00\x00"...)
	w.attribute(1, attFrom, from)
	w.attribute(1, attSubject, []byte("\xf2\xe5\xec\xe0\x00"))
	w.attribute(1, attBody, []byte("\xf2\xe5\xea\xf1\xf2"))
	w.begin()
	w.attribute(2, attAttachTitle, []byte("\xf4\xe0\xe9\xeb.txt\x00"))
	w.attribute(2, attAttachData, nil)
	m, err := Parse(w.Bytes(), decode)
	if err != nil || m.From != "Анна <anna@corp.ru>" || m.Subject != "тема" || m.Text != "текст" || m.Attachments[0].Name != "файл.txt" {
		t.Errorf("%+v, %v", m, err)
	}
}

// Whatever is cut off or damaged, what stands before it is read.
func TestDamage(t *testing.T) {
	whole := mail()
	for n := range whole {
		m, err := Parse(whole[:n], decode)
		if n < 6 && (m != nil || !errors.Is(err, ErrFormat)) || n >= 6 && m == nil {
			t.Fatalf("%d bytes: %+v, %v", n, m, err)
		}
	}
	if m, err := Parse(whole[:len(whole)-40], decode); !errors.Is(err, ErrDamaged) || m.Subject == "" || string(m.Attachments[0].Data) != "the bytes of a file" {
		t.Errorf("%+v, %v", m, err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1]++ // a checksum
	if m, err := Parse(flipped, decode); !errors.Is(err, ErrDamaged) || len(m.Attachments) != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	w := newWriter()
	w.begin()
	w.WriteByte(2)
	w.u32(attAttachData)
	w.u32(1 << 31)
	w.WriteString("only this")
	if m, err := Parse(w.Bytes(), decode); !errors.Is(err, ErrDamaged) || len(m.Attachments) != 1 || !m.Attachments[0].Cut || string(m.Attachments[0].Data) != "only this" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := Parse([]byte("PK\x03\x04 something else"), decode); !errors.Is(err, ErrFormat) {
		t.Errorf("%v", err)
	}
}

func TestLimits(t *testing.T) {
	w := newWriter()
	for range maxAttachments + 5 {
		w.begin()
	}
	if m, err := Parse(w.Bytes(), decode); !errors.Is(err, ErrLimit) || len(m.Attachments) != maxAttachments {
		t.Errorf("%d attachments, %v", len(m.Attachments), err)
	}
	deep := newWriter().Bytes()
	for range 20 {
		w := newWriter()
		w.begin()
		w.attribute(2, attAttachProps, new(properties).add(0x3701, typeObject, append(make([]byte, 16), deep...)).bytes())
		deep = w.Bytes()
	}
	m, err := Parse(deep, decode)
	if !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
	n := 0
	for ; m != nil; n++ {
		if len(m.Attachments) == 0 {
			break
		}
		m = m.Attachments[0].Message
	}
	if n != maxDepth {
		t.Errorf("%d levels", n)
	}
	bomb := append(le32(1000, 0xffffffff, magicCompressed, 0), bytes.Repeat([]byte{0xff, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15}, 1<<20)...)
	out, err := Decompress(bomb, 1<<20)
	if len(out) > 1<<20 || err == nil {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func TestDecompress(t *testing.T) {
	for _, s := range []string{"", "a", document, strings.Repeat("abc", 5000), strings.Repeat(document, 50)} {
		got, err := Decompress(compress(s), 1<<20)
		if string(got) != s || err != nil {
			t.Errorf("%.40q: %.80q, %v", s, got, err)
		}
	}
	plain := append(le32(uint32(len(document)+12), uint32(len(document)), magicUncompressed, 0), document...)
	if got, err := Decompress(plain, 1<<20); string(got) != document || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	// The example of MS-OXRTFCP, section 3.1.1.
	example := []byte{0x2d, 0, 0, 0, 0x2b, 0, 0, 0, 0x4c, 0x5a, 0x46, 0x75, 0xf1, 0xc5, 0xc7, 0xa7, 0x03, 0, 0x0a, 0, 0x72, 0x63, 0x70, 0x67, 0x31, 0x32, 0x35,
		0x42, 0x32, 0x0a, 0xf3, 0x20, 0x68, 0x65, 0x6c, 0x09, 0, 0x20, 0x62, 0x77, 0x05, 0xb0, 0x6c, 0x64, 0x7d, 0x0a, 0x80, 0x0f, 0xa0}
	if got, err := Decompress(example, 1<<20); string(got) != "{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzParse: any bytes are read without a fault, the attachments are parts of them, and texts are UTF-8 as Decode gives them.
func FuzzParse(f *testing.F) {
	f.Add(mail())
	f.Add(newWriter().Bytes())
	f.Add(compress(document))
	f.Add([]byte(document))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b, decode)
		if m == nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("nothing, and %v", err)
		}
		check(t, m, len(b), 0)
		out, _ := Decompress(b, 1<<16)
		if len(out) > 1<<16 {
			t.Fatalf("%d bytes of RTF", len(out))
		}
	})
}

func check(t *testing.T, m *Message, size, depth int) {
	if m == nil {
		return
	}
	if depth > maxDepth {
		t.Fatal("too deep")
	}
	for _, a := range m.Attachments {
		if len(a.Data) > size {
			t.Fatalf("an attachment of %d bytes in %d", len(a.Data), size)
		}
		check(t, a.Message, size, depth+1)
	}
}

// Other readers of TNEF find the same files and the same RTF in what the writer of these tests makes.
func TestPeersReadTheSame(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "winmail.dat")
	if err := os.WriteFile(file, mail(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, peer := range []struct {
		debian string
		args   []string
	}{
		{"tnef", []string{"--directory=" + dir + "/tnef", "--save-body=body", file}},
		{"ytnef", []string{"-f", dir + "/ytnef", "-F", file}},
	} {
		t.Run(peer.debian, func(t *testing.T) {
			program, err := exec.LookPath(peer.debian)
			if err != nil {
				if os.Getenv("CI") != "" {
					t.Fatalf("%s is missing", peer.debian)
				}
				t.Skipf("no %s: apt-get install tnef ytnef-tools", peer.debian)
			}
			out := filepath.Join(dir, peer.debian)
			if err := os.Mkdir(out, 0o700); err != nil {
				t.Fatal(err)
			}
			log, err := exec.Command(program, peer.args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, log)
			}
			found := map[string]string{}
			files, err := os.ReadDir(out)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				b, err := os.ReadFile(filepath.Join(out, f.Name()))
				if err != nil {
					t.Fatal(err)
				}
				found[f.Name()] = string(b)
			}
			has := func(content string) bool {
				for _, c := range found {
					if strings.TrimRight(c, "\x00") == content {
						return true
					}
				}
				return false
			}
			if !has("the bytes of a file") || peer.debian == "tnef" && !has(document) {
				t.Errorf("%s found %q\n%s", peer.debian, found, log)
			}
		})
	}
}

// testdata/winmail.dat is this message, for tests of others.
func TestFixtureIsTheMail(t *testing.T) {
	const file = "testdata/winmail.dat"
	if *update {
		if err := os.WriteFile(file, mail(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, mail()) {
		t.Errorf("it is not: %v", err)
	}
}

func TestLongTextsAreCut(t *testing.T) {
	w := newWriter()
	w.attribute(1, attMessageProps, new(properties).add(0x1000, typeUnicode, bytes.Repeat([]byte{'x', 0}, maxText)).unicode(0x0037, "a \U0001f600 pair").bytes())
	m, err := Parse(w.Bytes(), decode)
	if !errors.Is(err, ErrLimit) || len(m.Text) != maxText/2 || m.Subject != "a \U0001f600 pair" {
		t.Errorf("%d bytes of text, subject %q, %v", len(m.Text), m.Subject, err)
	}
}
