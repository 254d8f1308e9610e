package message

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHeader(t *testing.T) {
	m := parse(t, crlf("Received: one\n\ttwo\nRECEIVED: three\nSubject: =?utf-8?q?caf=C3=A9?=\n =?utf-8?q?_au_lait?=\nFrom : a@x.test\n"+
		"X-Empty:\nMessage-ID: <a.b@x.test> (of mine)\nReferences: <1@x> <2@x>\n <3@x>\nIn-Reply-To: \"Bob\" <3@x>, <4@x>\n\nbody\n"))
	h := m.Header
	if got := h.Subject(); got != "café au lait" {
		t.Errorf("subject %q", got)
	}
	if got := h.Values("received"); !slices.Equal(got, []string{"one\ttwo", "three"}) {
		t.Errorf("received %q", got)
	}
	if got := h.Get("FROM"); got != "a@x.test" {
		t.Errorf("from %q", got)
	}
	if h.Get("X-Empty") != "" || h.Get("X-None") != "" || h.Values("X-None") != nil {
		t.Error("something out of nothing")
	}
	if got := h.MessageID(); got != "a.b@x.test" {
		t.Errorf("message id %q", got)
	}
	if got := h.References(); !slices.Equal(got, []string{"1@x", "2@x", "3@x", "4@x"}) {
		t.Errorf("references %q", got)
	}
	if f := h.Fields(); len(f) != 8 || f[0] != (Field{"Received", " one\r\n\ttwo"}) || f[3].Name != "From" {
		t.Errorf("fields %q", f)
	}
	var none Header
	if none.Subject() != "" || !none.Date().IsZero() || none.MessageID() != "" || none.AddressList("To") != nil || none.References() != nil {
		t.Error("the zero header has something in it")
	}
}

func TestMessageID(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"<1@x>", "1@x"}, {" < 1@x >", "1@x"}, {"1@x", "1@x"}, {"<1@x", "1@x"}, {"<<1@x>>", "1@x"}, {"<1@x> <2@x>", "1@x"}, {"", ""}, {"<>", ""},
		{"<a\n b@x>", "ab@x"}, {"<\xff@x>", "\ufffd@x"},
	} {
		if got := (Header{fields: []Field{{"Message-Id", c.in}}}).MessageID(); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestDecodeWords(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"none", "plain text", "plain text"},
		{"q", "=?utf-8?q?caf=C3=A9_au_lait?=", "café au lait"},
		{"b", "=?UTF-8?B?Y2Fmw6k=?=", "café"},
		{"in text", "a =?utf-8?q?b?= c", "a b c"},
		{"neighbours", "=?utf-8?q?a?= \t =?utf-8?q?b?=", "ab"},
		{"neighbours of two charsets", "=?utf-8?q?a=C3=A9?= =?iso-8859-1?q?=E9?=", "aéé"},
		{"character cut in two", "=?utf-8?b?5p2x5Lo=?= =?utf-8?b?rA==?=", "東京"},
		{"no blanks around", "x=?utf-8?q?y?=z=?utf-8?q?w?=", "xyzw"},
		{"language", "=?us-ascii*en?q?hi?=", "hi"},
		{"blanks within", "=?utf-8?q?two words?=", "two words"},
		{"padding lost", "=?utf-8?b?Y2Fmw6k?=", "café"},
		{"not closed", "=?utf-8?q?abc", "=?utf-8?q?abc"},
		{"not closed, then one that is", "=?utf-8? =?utf-8?q?abc?=", "=?utf-8? abc"},
		{"text that is no base64", "=?utf-8?b?hello world, this is it?=", "=?utf-8?b?hello world, this is it?="},
		{"unknown encoding", "=?utf-8?x?abc?=", "=?utf-8?x?abc?="},
		{"damaged q", "=?utf-8?q?a=ZZb=?=", "a=ZZb="},
		{"unknown charset", "=?klingon?q?caf=C3=A9?=", "café"},
		{"wrong charset", "=?utf-8?q?caf=E9?=", "café"},
		{"mislabelled", "=?iso-8859-1?q?caf=C3=A9?=", "café"},
		{"koi8-r", "=?koi8-r?B?8NLJ18XU?=", "Привет"},
		{"iso-2022-jp", "=?ISO-2022-JP?B?GyRCRnxLXDhsGyhC?=", "日本語"},
		{"gb2312", "=?gb2312?B?1tDOxA==?=", "中文"},
		{"ks_c_5601-1987", "=?ks_c_5601-1987?B?x9GxuQ==?=", "한국"},
		{"big5", "=?big5?B?pKSk5Q==?=", "中文"},
		{"windows-1255", "=?windows-1255?Q?=F9=EC=E5=ED?=", "שלום"},
		{"empty", "=?utf-8?q??=x", "x"},
	} {
		if got := decodeWords(c.in); got != c.want {
			t.Errorf("%s: %q: got %q, want %q", c.name, c.in, got, c.want)
		}
	}
}

// TestRawHeader: 8-bit text without any encoding, as half the world sends it.
func TestRawHeader(t *testing.T) {
	for _, c := range []struct{ name, mail, want string }{
		{"UTF-8", "Subject: Grüße 東京\n\nx\n", "Grüße 東京"},
		{"windows-1252", "Subject: Gr\xfc\xdfe\n\nx\n", "Grüße"},
		{"the charset of the body", "Subject: \xf0\xd2\xc9\xd7\xc5\xd4\nContent-Type: text/plain; charset=koi8-r\n\nx\n", "Привет"},
		{"the charset of another field", "Subject: \xd6\xd0\xce\xc4\nFrom: =?gb2312?B?1tDOxA==?= <a@x.test>\n\nx\n", "中文"},
		{"iso-2022-jp", "Subject: \x1b$BF|K\\8l\x1b(B\n\nx\n", "日本語"},
		{"NUL and bare CR", "Subject: a\x00b\rc\n\nx\n", "ab c"},
		{"broken UTF-8", "Subject: caf\xc3\xa9 \xff\n\nx\n", "café ÿ"},
	} {
		if got := parse(t, c.mail).Header.Subject(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestDate(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v.UTC()
	}
	// The zone of the machine makes no difference, even if it bears a name that stands in the date.
	defer func(l *time.Location) { time.Local = l }(time.Local)
	time.Local = time.FixedZone("IST", 5*3600+1800)
	for _, c := range []struct{ in, want string }{
		{"Sat, 14 Mar 2026 10:12:01 +0530", "2026-03-14T04:42:01Z"},
		{"Sat, 14 Mar 2026 10:12:01 +0100", "2026-03-14T09:12:01Z"},
		{"Sat, 14 Mar 2026 10:12:01 +0100 (CET)", "2026-03-14T09:12:01Z"},
		{"14 Mar 26 10:12 EST", "2026-03-14T15:12:00Z"},
		{"Sat, 14 Mar 2026 10:12:01 PDT", "2026-03-14T17:12:01Z"},
		{"Sat, 14 Mar 2026 10:12:01 IST", "2026-03-14T10:12:01Z"}, // of India, Israel or Ireland: nobody can say
		{"Sat, 14 Mar 2026 10:12:01 GMT+02:00", "2026-03-14T08:12:01Z"},
		{"Saturday, 14 March 2026 10:12:01 +0000", "2026-03-14T10:12:01Z"},
		{"Sat Mar 14 10:12:01 2026", "2026-03-14T10:12:01Z"},
		{"Sat Mar 14 10:12:01 CET 2026", "2026-03-14T09:12:01Z"},
		{"14-Mar-2026 10:12:01", "2026-03-14T10:12:01Z"},
		{"2026-03-14T10:12:01+01:00", "2026-03-14T09:12:01Z"},
		{"2026-03-14 10:12:01", "2026-03-14T10:12:01Z"},
		{"2026/03/14 Sat 10:12:01 CDT", "2026-03-14T15:12:01Z"},
		{"Sat, 14 Mar 2026 3:12:01 PM", "2026-03-14T15:12:01Z"},
		{"Sat, 14 Mar 2026 12:12:01 AM", "2026-03-14T00:12:01Z"},
		{"Thu, 22 Aug 0102 12:07:35 +0800", "2002-08-22T04:07:35Z"},
		{"Thu, 22 Aug 102 12:07:35 +0800", "2002-08-22T04:07:35Z"},
		{"Fri, 01 Jan 99 00:00:00 +0000", "1999-01-01T00:00:00Z"},
		{"Mon, 21 Aug 95 13:30:57 -600", "1995-08-21T19:30:57Z"},
		{"Wed, 1 Jan 2003 10:00:00 +9999", "2003-01-01T10:00:00Z"},
		{"Wed, 1 Jan 2003 10:00:00.123 +0000", "2003-01-01T10:00:00.123Z"},
		{"1 Jan 2003", "2003-01-01T00:00:00Z"},
	} {
		if got := parseDate(c.in); !got.Equal(at(c.want)) || got.Location() != time.UTC {
			t.Errorf("%q: got %v, want %s", c.in, got, c.want)
		}
	}
	for _, in := range []string{
		"", "yesterday", "Sat", "99 Mar 2026 10:00:00", "14 Foo 2026", "14 Mar", "Sat, 14 Mar 1066 10:12:01 +0000", "0000-00-00",
		strings.Repeat("1 ", 1000), "Thu, 01 Jan 1970 00:00:00 +9999999999999999999999", "10:12:01", "-1 Jan -2003",
	} {
		if got := parseDate(in); !got.IsZero() && (got.Year() < 1970 || got.Year() > 9999) {
			t.Errorf("%q: %v", in, got)
		}
	}
	for _, in := range []string{"", "yesterday", "14 Foo 2026", "10:12:01", "Sat, 14 Mar 1066 10:12:01 +0000"} {
		if got := parseDate(in); !got.IsZero() {
			t.Errorf("%q: %v out of nothing", in, got)
		}
	}
}

func TestParams(t *testing.T) {
	for _, c := range []struct{ name, in, value, param, want string }{
		{"plain", "text/plain; charset=utf-8", "text/plain", "charset", "utf-8"},
		{"case and blanks", " Text / HTML ; CharSet = \"UTF-8\" ; x=y", "text/html", "charset", "UTF-8"},
		{"comment", "text/plain (really); charset=utf-8 ", "text/plain", "charset", "utf-8"},
		{"semicolon in quotes", `a/b; name="x;y"; z=1`, "a/b", "name", "x;y"},
		{"quoted quote", `a/b; name="x\"y"`, "a/b", "name", `x"y`},
		{"path of Windows", `a/b; name="C:\temp\new.txt"`, "a/b", "name", `C:\temp\new.txt`},
		{"quote that does not close", `a/b; name="x.pdf; z=1`, "a/b", "name", "x.pdf"},
		{"blanks without quotes", "a/b; name=my file.pdf; z=1", "a/b", "name", "my file.pdf"},
		{"no semicolon", "text/plain charset=utf-8", "text/plain", "charset", "utf-8"},
		{"semicolons too many", "text/plain;; charset=utf-8;", "text/plain", "charset", "utf-8"},
		{"twice", "a/b; name=one; name=two", "a/b", "name", "one"},
		{"RFC 2231", "a/b; name*=iso-8859-1'en'caf%E9.pdf", "a/b", "name", "café.pdf"},
		{"RFC 2231 and a fallback", "a/b; name=cafe.pdf; name*=utf-8''caf%C3%A9.pdf", "a/b", "name", "café.pdf"},
		{"segments", "a/b; name*0=one; name*1=\" two\"; name*2=three", "a/b", "name", "one twothree"},
		{"segments in disorder", "a/b; name*1*=%A9.pdf; name*0*=utf-8''caf%C3", "a/b", "name", "café.pdf"},
		{"RFC 2231 without a charset", "a/b; name*=caf%C3%A9", "a/b", "name", "café"},
		{"RFC 2231, damaged", "a/b; name*=utf-8''caf%C3%A9%ZZ%", "a/b", "name", "café%ZZ%"},
		{"encoded-word", `a/b; name="=?utf-8?q?caf=C3=A9?="`, "a/b", "name", "café"},
		{"encoded-word without quotes", `a/b; name==?utf-8?q?caf=C3=A9?=`, "a/b", "name", "café"},
		{"raw", "a/b; name=\"caf\xe9\"", "a/b", "name", "café"},
		{"segment out of range", "a/b; name*99999999999999999999=x; name=y", "a/b", "name", "y"},
		{"controls", "a/b; name=\"x\x07\x1by\"", "a/b", "name", "xy"},
		{"nothing", "", "", "name", ""},
	} {
		value, list := parseParams(c.in)
		if got := list.get(c.param); value != c.value || got != c.want {
			t.Errorf("%s: %q: got %q, %q; want %q, %q", c.name, c.in, value, got, c.value, c.want)
		}
	}
}
