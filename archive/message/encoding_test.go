package message

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
	"testing"
)

// decode decodes body as a part of its own, in lines of \r\n.
func decode(t *testing.T, encoding, body string) (string, *Message) {
	t.Helper()
	mail := crlf(header+"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: "+encoding+"\n\n") +
		body + "\r\n--b--\r\n"
	m := parse(t, mail)
	r, _, err := OpenPart(strings.NewReader(mail), "1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if m.Parts[0].Size != int64(len(got)) {
		t.Errorf("size %d, but %d bytes", m.Parts[0].Size, len(got))
	}
	return string(got), m
}

func TestEncodings(t *testing.T) {
	for _, c := range []struct{ name, encoding, body, want, outside string }{
		{"7bit", "7bit", "one\r\ntwo", "one\r\ntwo", ""},
		{"binary", "binary", "a\x00b\rc\nd", "a\x00b\rc\nd", ""},
		{"unknown", "x-foo", "one\r\ntwo", "one\r\ntwo", ""},
		{"qp", "Quoted-Printable", "caf=C3=A9 =3D=\r\n 1\r\ntwo", "café = 1\r\ntwo", ""},
		{"qp, small letters", "quoted-printable", "caf=c3=a9", "café", ""},
		{"qp, blanks at the end of lines", "quoted-printable", "one \t\r\ntwo=20\r\nthree= \r\n!", "one\r\ntwo \r\nthree!", ""},
		{"qp, damaged", "quoted-printable", "a=ZZb=4 =\r\n=", "a=ZZb=4 ", ""},
		{"qp, equals sign before the boundary", "quoted-printable", "one=\r\n", "one", ""},
		{"base64", "base64", "aGVs\r\nbG8=", "hello", ""},
		{"base64 in odd lines", "BASE64", "a\r\nGVsb\r\n\r\nG8=", "hello", ""},
		{"base64 without padding", "base64", "aGVsbG8", "hello", ""},
		{"base64 with one letter too many", "base64", "aGVsbG8=x", "hello", ""},
		{"base64 in pieces", "base64", "aGVsbG8=\r\naGVsbG8=", "hellohello", ""},
		{"base64 with noise", "base64", "aGVs*bG8gd29y\r\n bGQh", "hello world!", ""},
		{"base64 with a footer", "base64", "aGVsbG8=\r\n\r\n___________\r\nMailing list\r\n", "hello", "___________\nMailing list\n"},
		{"base64 that is text", "base64", "this is not base64, you see", "", "this is not base64, you see\n"},
		{"uuencode", "x-uuencode", "begin 644 a.txt\r\n%:&5L;&\\\r\n`\r\nend", "hello", ""},
		{"uuencode with lost blanks", "uuencode", "begin 644 a.txt\r\n#86(\r\n \r\nend\r\n", "ab\x00", ""},
		{"uuencode, with text around", "uuencode", "see:\r\nbegin 644 a.txt\r\n%:&5L;&\\\r\n`\r\nend\r\nbye", "hello", "see:\nbye\n"},
	} {
		got, m := decode(t, c.encoding, c.body)
		if got != c.want || m.Outside != c.outside {
			t.Errorf("%s: got %q and outside %q, want %q and %q", c.name, got, m.Outside, c.want, c.outside)
		}
	}
}

// TestEncodingsRoundTrip: what the standard library encodes comes back, in lines of any length.
func TestEncodingsRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		data := make([]byte, r.IntN(3000))
		for i := range data {
			if data[i] = byte(r.Uint32()); r.IntN(2) == 0 {
				data[i] = " =\tab\r\n."[r.IntN(8)]
			}
		}
		enc, width := base64.StdEncoding.EncodeToString(data), 1+r.IntN(100)
		var lines []string
		for ; len(enc) > width; enc = enc[width:] {
			lines = append(lines, enc[:width])
		}
		got, _ := decode(t, "base64", strings.Join(append(lines, enc), "\r\n"))
		if got != string(data) {
			t.Fatalf("seed %d, base64 in lines of %d: got %q, want %q", seed, width, got, data)
		}
		var b bytes.Buffer
		q := quotedprintable.NewWriter(&b)
		q.Binary = true
		q.Write(data)
		q.Close()
		if got, _ := decode(t, "quoted-printable", b.String()); got != string(data) {
			t.Fatalf("seed %d, quoted-printable: got %q, want %q", seed, got, data)
		}
	}
}

// TestLongLines: lines longer than the buffer, cut at any place.
func TestLongLines(t *testing.T) {
	for n := lineBuffer - 4; n < lineBuffer+4; n++ {
		pad := strings.Repeat("x", n)
		for _, c := range []struct{ encoding, body, want string }{
			{"7bit", pad + "=41\r\nend", pad + "=41\r\nend"},
			{"quoted-printable", pad + "=41=\r\nend", pad + "Aend"},
			{"base64", strings.Repeat("QUJD", n/4) + "QUI=", strings.Repeat("ABC", n/4) + "AB"},
		} {
			if got, _ := decode(t, c.encoding, c.body); got != c.want {
				t.Fatalf("%s, %d: got …%q, want …%q", c.encoding, n, got[max(0, len(got)-20):], c.want[len(c.want)-20:])
			}
		}
		m := parse(t, "Subject: "+pad+" end\nFrom: a@x.test\n\n--"+pad+"\n")
		if s := m.Header.Subject(); s != pad+" end" || m.Header.Raw("From") != "a@x.test" {
			t.Fatalf("subject of %d bytes, from %q", len(s), m.Header.Raw("From"))
		}
	}
}
