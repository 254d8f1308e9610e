package message

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// winmail is a TNEF stream of package tnef's tests, as a part of a message in base64.
func winmail(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile("tnef/testdata/winmail.dat")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	text := base64.StdEncoding.EncodeToString(raw)
	for len(text) > 76 {
		b.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	return b.String() + text + "\n"
}

func withWinmail(t testing.TB, contentType string) string {
	return header + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nThe plain text.\n--b\nContent-Type: " + contentType +
		"\nContent-Transfer-Encoding: base64\n\n" + winmail(t) + "--b--\n"
}

// TNEF is read as a multipart would be: what it says is said once, its attachments are the message's, and each can be opened.
func TestTNEF(t *testing.T) {
	for _, typ := range []string{`application/ms-tnef; name="winmail.dat"`, `application/vnd.ms-tnef`, `application/octet-stream; name=WINMAIL.DAT`} {
		raw := withWinmail(t, typ)
		m := parse(t, raw)
		main, _, _ := strings.Cut(typ, ";")
		want := "1:text/plain 2:" + main + " 2.1:text/plain 2.2:text/html 2.3:text/rtf 2.4:application/x-word* 2.5:application/ms-tnef* 2.5.1:text/plain 2.5.2:text/plain*"
		if paths(m) != want {
			t.Errorf("parts %s\nwant  %s", paths(m), want)
		}
		if strings.Count(m.Text, "The plain text.") != 1 || !strings.Contains(m.Text, "привет") || !strings.Contains(m.Text, "The HTML") ||
			!strings.Contains(m.Text, "Subject: Zweiter Entwurf 第二稿") || !strings.Contains(m.Text, "inner text") || strings.Contains(m.Text, "deep") {
			t.Errorf("text %q", m.Text)
		}
		if m.AttachedText != "deep\n" || m.Partial {
			t.Errorf("attached text %q, problems %q", m.AttachedText, m.Problems)
		}
		if a := m.Attachments(); len(a) != 3 || a[0].Name != "Zweiter Entwurf, überarbeitet.docx" || a[1].Name != "inner.msg" || a[2].Name != "deep.txt" {
			t.Errorf("attachments %+v", a)
		}
		if body, part, ok := m.HTMLBody(); !ok || part.Path != "2.2" || !strings.Contains(body, "<b>HTML</b>") {
			t.Errorf("%q, %+v", body, part)
		}
		openAll(t, []byte(raw))
		r, p, err := OpenPart(strings.NewReader(raw), "2.4")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); string(b) != "the bytes of a file" || err != nil || p.Name != "Zweiter Entwurf, überarbeitet.docx" {
			t.Errorf("%q, %+v, %v", b, p, err)
		}
		if _, _, err := OpenPart(strings.NewReader(raw), "2.6"); err == nil {
			t.Error("a part that is not there was opened")
		}
	}
}

func TestTNEFThatIsNone(t *testing.T) {
	for typ, partial := range map[string]bool{"application/ms-tnef": true, "application/octet-stream; name=winmail.dat": false} {
		m := parse(t, header+"Content-Type: "+typ+"\n\nhello\n")
		if m.Partial != partial || len(m.Parts) != 1 || !m.Parts[0].Attachment {
			t.Errorf("%s: %+v", typ, m)
		}
	}
	raw := strings.Replace(withWinmail(t, "application/ms-tnef"), winmail(t), winmail(t)[:800]+"\n", 1)
	if m := parse(t, raw); !m.Partial || !strings.Contains(m.Text, "Zweiter Entwurf") {
		t.Errorf("cut off: %q, %q", m.Problems, m.Text)
	}
	openAll(t, []byte(raw))
}

// Of a text past the limit the lines before it are kept.
func TestTNEFPastTheLimitOfText(t *testing.T) {
	m, err := Parse(strings.NewReader(withWinmail(t, "application/ms-tnef")), Limits{TextBytes: 130})
	if err != nil || !m.Partial || !strings.Contains(m.Text, "second line") || strings.Contains(m.Text, "braces") {
		t.Errorf("%q, %q, %v", m.Text, m.Problems, err)
	}
}

func TestManyTNEF(t *testing.T) {
	part := "--b\nContent-Type: application/ms-tnef\nContent-Transfer-Encoding: base64\n\n" + winmail(t)
	raw := header + "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat(part, 400) + "--b--\n"
	m := parse(t, raw)
	if len(m.Parts) > 1000 || !m.Partial || !strings.Contains(m.Text, "привет") {
		t.Errorf("%d parts, %q", len(m.Parts), m.Problems)
	}
}

// What is signed or encrypted is marked by what it says of itself, by its name, or by how it begins.
func TestProtected(t *testing.T) {
	der := func(oid []byte) string {
		return base64.StdEncoding.EncodeToString(append(append([]byte{0x30, 0x82, 0x01, 0x00}, oid...), 0xa0, 0x82, 0, 0)) + "\n"
	}
	signed, enveloped, auth := der(oidSigned), der(oidEnveloped), der(oidAuth)
	b64 := "Content-Transfer-Encoding: base64\n"
	for name, c := range map[string]struct {
		mail string
		want string
	}{
		"clear signed":    {"Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: application/pkcs7-signature; name=smime.p7s\n\n--b--\n", "[smime-signed] true false"},
		"opaque":          {"Content-Type: application/pkcs7-mime; smime-type=signed-data\n\n", "[smime-signed] true false"},
		"encrypted":       {"Content-Type: application/x-pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n\n", "[smime-encrypted] false true"},
		"untyped signed":  {"Content-Type: application/pkcs7-mime; name=smime.p7m\n" + b64 + "\n" + signed, "[smime-signed] true false"},
		"untyped":         {"Content-Type: application/pkcs7-mime\n" + b64 + "\n" + enveloped, "[smime-encrypted] false true"},
		"untyped, other":  {"Content-Type: application/pkcs7-mime\n\nwhatever\n", "[smime-encrypted] false true"},
		"authenticated":   {"Content-Type: application/pkcs7-mime\n" + b64 + "\n" + auth, "[smime-encrypted] false true"},
		"by name":         {"Content-Type: application/octet-stream; name=\"smime.p7m\"\n" + b64 + "\n" + enveloped, "[smime-encrypted] false true"},
		"name alone":      {"Content-Type: application/octet-stream; name=\"smime.p7m\"\n\nno CMS\n", "[] false false"},
		"certificates":    {"Content-Type: application/pkcs7-mime; smime-type=certs-only\n\n", "[] false false"},
		"pgp signed":      {"Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=b\n\n--b\n\nhello\n--b--\n", "[pgp-signed] true false"},
		"no protocol":     {"Content-Type: multipart/signed; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: application/pgp-signature\n\n--b--\n", "[pgp-signed] true false"},
		"pgp encrypted":   {"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\n\n--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--b--\n", "[pgp-encrypted] false true"},
		"pgp inline":      {"\n-----BEGIN PGP SIGNED MESSAGE-----\n\nhello\n-----BEGIN PGP SIGNATURE-----\n", "[pgp-signed] true false"},
		"pgp inline both": {"\n-----BEGIN PGP MESSAGE-----\n\n-----BEGIN PGP SIGNED MESSAGE-----\n", "[pgp-encrypted pgp-signed] true true"},
		"rights-managed":  {"Content-Type: application/x-microsoft-rpmsg-message; name=message.rpmsg\n\nx\n", "[rights-managed] false true"},
		"nothing":         {"\nhello\n", "[] false false"},
	} {
		m := parse(t, header+c.mail)
		if got := fmt.Sprint(m.Protected, m.Signed, m.Encrypted); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		openAll(t, []byte(header+c.mail))
	}
}

func FuzzTNEF(f *testing.F) {
	raw, err := os.ReadFile("tnef/testdata/winmail.dat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		mail := []byte(header + "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: application/ms-tnef\nContent-Transfer-Encoding: base64\n\n" +
			base64.StdEncoding.EncodeToString(b) + "\n--b--\n")
		m := parse(t, string(mail))
		if bytes.IndexByte([]byte(m.Text+m.AttachedText), 0) >= 0 {
			t.Errorf("NUL in the text")
		}
		openAll(t, mail)
	})
}
