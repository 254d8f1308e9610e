package message

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadHeader(t *testing.T) {
	h := ReadHeader([]byte("\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nX-Empty:\r\nnot a field\r\n folded\r\nTo: a@x.test,\r\n b@x.test\r\n\r\nCc: c@x.test\r\n"))
	if h.Subject() != "grüße" || len(h.Fields()) != 3 || len(h.AddressList("To")) != 2 || h.Raw("Cc") != "" {
		t.Errorf("%q", h.Fields())
	}
	m := ReadHeader([]byte("content-type: Multipart/Mixed; boundary=\"b b \"\nContent-Transfer-Encoding: BASE64")).Media()
	if m != (Media{Type: "multipart/mixed", Boundary: "b b", Encoding: "base64"}) {
		t.Errorf("%+v", m)
	}
	if m := ReadHeader(nil).Media(); m.Type != "text/plain" {
		t.Errorf("%+v", m)
	}
}

// Within gives what OpenPart gives of a nested message, and only what is there.
func TestWithin(t *testing.T) {
	inner := "Subject: inner\r\n\r\nböse \r\nZeilen\r\n"
	for encoding, body := range map[string]string{
		"":                 inner,
		"base64":           "U3ViamVjdDogaW5uZXINCg0KYsO2c2Ug\r\nDQpaZWlsZW4NCg==\r\n",
		"quoted-printable": "Subject: inner\r\n\r\nb=C3=B6se=20\r\nZeile=\r\nn\r\n",
	} {
		before := "prologue\r\n"
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
			r, err := Within(wrap(strings.NewReader(before+body+"epilogue")), int64(len(before)), int64(len(body)), encoding)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			want := inner
			if encoding == "quoted-printable" { // its last line end belongs to the boundary
				want = strings.TrimSuffix(inner, "\r\n")
			}
			if string(got) != want || err != nil {
				t.Errorf("%s: %q, %v", encoding, got, err)
			}
		}
		r, err := Within(strings.NewReader(before+body[:10]), int64(len(before)), int64(len(body)), encoding)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s, cut off: %v", encoding, err)
		}
	}
	if _, err := Within(strings.NewReader("x"), 2, 1, ""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("past the end: %v", err)
	}
}
