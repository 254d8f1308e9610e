package nexthop

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func TestAppendPath(t *testing.T) {
	for _, tc := range []struct {
		address, raw string
		utf8         bool
		want         string // "": ErrPath
	}{
		{"", "", false, "<>"},
		{"a@b.example", "", false, "<a@b.example>"},
		{"postmaster", "", false, "<postmaster>"},
		{"a.b+c=d@b_c.example", "", false, "<a.b+c=d@b_c.example>"},
		{"a@[192.0.2.1]", "", false, "<a@[192.0.2.1]>"},
		{"a@[IPv6:2001:db8::1]", "", false, "<a@[IPv6:2001:db8::1]>"},
		{"a..b.@b.example", "", false, "<a..b.@b.example>"},
		{"a b@b.example", "", false, `<"a b"@b.example>`},
		{`"a b"@b.example`, "", false, `<"a b"@b.example>`},
		{`"a@b"@b.example`, "", false, `<"a@b"@b.example>`},
		{`a@b@b.example`, "", false, `<"a@b"@b.example>`},
		{`"a\"b\\c"@b.example`, "", false, `<"a\"b\\c"@b.example>`},
		{`a"b@b.example`, "", false, `<"a\"b"@b.example>`},
		{`""@b.example`, "", false, `<""@b.example>`},
		{"bücher@b.example", "", true, "<bücher@b.example>"},
		{"a@bücher.example", "", true, "<a@bücher.example>"},
		// what the client wrote, where it means the same
		{"a@b.example", `<"a"@b.example>`, false, `<"a"@b.example>`},
		{"a@b.example", `<@x.example,@y.example:a@b.example>`, false, `<@x.example,@y.example:a@b.example>`},
		{`"a b"@b.example`, `<"a\ b"@b.example>`, false, `<"a\ b"@b.example>`},
		// and not where it does not, or may not
		{"a@b.example", `<c@b.example>`, false, "<a@b.example>"},
		{"a@b.example", `a@b.example`, false, "<a@b.example>"},
		{"a@b.example", `<a@b.example> NOTIFY=NEVER`, false, "<a@b.example>"},
		{"a@b.example", "<a@b.example>\r\nDATA\r\n<x>", false, "<a@b.example>"},
		{"a@b.example", `<@x y:a@b.example>`, false, "<a@b.example>"},
		{"a b@b.example", `<a b@b.example>`, false, `<"a b"@b.example>`},
		// never
		{"@b.example", "", false, ""},
		{"a@", "", false, ""},
		{"a@b c", "", false, ""},
		{"a@b>c", "", false, ""},
		{"a@[]", "", false, ""},
		{"a@[a]b]", "", false, ""},
		{"a>b@b.example", "", false, ""},
		{`"a<b"@b.example`, "", false, ""},
		{`"victim@elsewhere.example> ORCPT=rfc822;x"@ours.example`, "", false, ""},
		{"a\r\nRSET@b.example", "", false, ""},
		{"a\x00b@b.example", "", false, ""},
		{"a\xff@b.example", "", true, ""},
		{`"ab"c@b.example`, "", false, ""},
		{strings.Repeat("a", maxPath) + "@b.example", "", false, ""},
	} {
		got, err := appendPath(nil, record.Path{Address: tc.address, Raw: tc.raw}, tc.utf8)
		if tc.want == "" {
			if !errors.Is(err, ErrPath) {
				t.Errorf("%q: %s, %v, want ErrPath", tc.address, got, err)
			}
			continue
		}
		if err != nil || string(got) != tc.want {
			t.Errorf("%q, raw %q: got %s, %v, want %s", tc.address, tc.raw, got, err, tc.want)
		}
	}
	if _, err := appendPath(nil, record.Path{Address: "bücher@b.example"}, false); !errors.Is(err, ErrNoSMTPUTF8) {
		t.Errorf("non-ASCII without SMTPUTF8: %v", err)
	}
}

// Whatever address and raw path are, what is sent is one path, on one line, and means the address.
func FuzzPath(f *testing.F) {
	f.Add("a@b.example", `<"a"@b.example>`, false)
	f.Add(`"a b"@b.example`, `<@x:"a\ b"@b.example>`, false)
	f.Add(`"victim@elsewhere.example> ORCPT=rfc822;x"@ours.example`, "", false)
	f.Add("a\r\nDATA@b", "<a\r\n>", true)
	f.Add("bücher@b.example", "<bücher@b.example>", true)
	f.Fuzz(func(t *testing.T, address, raw string, utf8Mail bool) {
		b, err := appendPath(nil, record.Path{Address: address, Raw: raw}, utf8Mail)
		if err != nil {
			if !errors.Is(err, ErrPath) && !errors.Is(err, ErrNoSMTPUTF8) {
				t.Errorf("%q: %v", address, err)
			}
			return
		}
		got := string(b)
		if address == "" {
			if got != "<>" {
				t.Errorf("null sender: %s", got)
			}
			return
		}
		inner := got[1 : len(got)-1]
		if got[0] != '<' || got[len(got)-1] != '>' || strings.ContainsAny(inner, "<>\r\n\x00") || !utf8.ValidString(got) {
			t.Errorf("%q, raw %q: %q", address, raw, got)
		}
		if !utf8Mail && !isASCII(got) {
			t.Errorf("%q, raw %q: not ASCII: %q", address, raw, got)
		}
		want, err := canonical(address)
		means, ok := strict(inner)
		if err != nil || !ok || means != want {
			t.Errorf("%q, raw %q: sent %q, which means %q, not %q", address, raw, got, means, want)
		}
		unquoted := true // no space outside quotes
		for i := range len(inner) {
			switch {
			case inner[i] == '"' && (i == 0 || inner[i-1] != '\\'):
				unquoted = !unquoted
			case inner[i] == ' ' && unquoted && !strings.Contains(inner, `\`):
				t.Errorf("%q, raw %q: bare space in %q", address, raw, got)
			}
		}
	})
}

func TestParameters(t *testing.T) {
	all := caps{dsn: true, hasSize: true, eightBit: true, smtpUTF8: true}
	for _, tc := range []struct {
		path record.Path
		want string
	}{
		{record.Path{Address: "a@b", Notify: "NEVER"}, "RCPT TO:<a@b> NOTIFY=NEVER\r\n"},
		{record.Path{Address: "a@b", Notify: "NEVER,DELAY"}, "RCPT TO:<a@b>\r\n"},
		{record.Path{Address: "a@b", Notify: "SUCCESS X=1"}, "RCPT TO:<a@b>\r\n"},
		{record.Path{Address: "a@b", ORCPT: "rfc822;x+2By@z"}, "RCPT TO:<a@b> ORCPT=rfc822;x+2By@z\r\n"},
		{record.Path{Address: "a@b", ORCPT: "rfc822;x+y z=\r\n"}, "RCPT TO:<a@b> ORCPT=rfc822;x+2By+20z+3D+0D+0A\r\n"},
		{record.Path{Address: "a@b", ORCPT: "x y;z"}, "RCPT TO:<a@b>\r\n"},
		{record.Path{Address: "a@b", ORCPT: "rfc822;"}, "RCPT TO:<a@b>\r\n"},
	} {
		got, err := rcptLine(tc.path, Mail{}, all)
		if err != nil || string(got) != tc.want {
			t.Errorf("%+v: %q, %v, want %q", tc.path, got, err, tc.want)
		}
	}
	utf8Rcpt := record.Path{Address: "a@b", ORCPT: "utf-8;bücher@z"}
	for utf8Mail, want := range map[bool]string{
		true: "RCPT TO:<a@b> ORCPT=utf-8;bücher@z\r\n", false: "RCPT TO:<a@b> ORCPT=utf-8;b+C3+BCcher@z\r\n",
	} {
		if got, err := rcptLine(utf8Rcpt, Mail{SMTPUTF8: utf8Mail}, all); err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	got, err := mailLine(Mail{From: record.Path{Address: "a@b"}, Body: "X=1\r\n", Ret: "FULL X", EnvID: "\r\n"}, all)
	if want := "MAIL FROM:<a@b> ENVID=+0D+0A\r\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

func TestReceivedLine(t *testing.T) {
	at := time.Date(2026, 11, 23, 22, 0, 0, 0, time.FixedZone("", 3600))
	id, _ := record.ParseID("01JDCPQR00000000000000ABCD")
	rcpt := record.Path{Address: "b@dst.example"}
	for _, tc := range []struct {
		trace Trace
		want  string
	}{
		{
			Trace{Client: record.Client{Address: "192.0.2.1", Helo: "mx.example", ESMTP: true}, By: "relay.example", ID: id, For: &rcpt, Time: at},
			"Received: from mx.example ([192.0.2.1])\r\n\tby relay.example (Holdfast) with ESMTP id 01JDCPQR00000000000000ABCD" +
				"\r\n\tfor <b@dst.example>;\r\n\tMon, 23 Nov 2026 21:00:00 +0000\r\n",
		},
		{
			Trace{Client: record.Client{Address: "2001:db8::1", Helo: "[IPv6:2001:db8::1]"}, TLS: true, Auth: true, By: "r", ID: id, Time: at},
			"Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n\tby r (Holdfast) with ESMTPSA id 01JDCPQR00000000000000ABCD" +
				";\r\n\tMon, 23 Nov 2026 21:00:00 +0000\r\n",
		},
		{
			Trace{Client: record.Client{Address: "x", Helo: "evil (\r\n.\r\n"}, By: "r", ID: id, Time: at},
			"Received: from unknown\r\n\tby r (Holdfast) with SMTP id 01JDCPQR00000000000000ABCD;\r\n\tMon, 23 Nov 2026 21:00:00 +0000\r\n",
		},
		{
			Trace{Client: record.Client{Address: "::ffff:192.0.2.1"}, SMTPUTF8: true, TLS: true, By: "r", ID: id, Time: at},
			"Received: from unknown ([192.0.2.1])\r\n\tby r (Holdfast) with UTF8SMTPS id 01JDCPQR00000000000000ABCD" +
				";\r\n\tMon, 23 Nov 2026 21:00:00 +0000\r\n",
		},
	} {
		if got := string(tc.trace.appendReceived(nil)); got != tc.want {
			t.Errorf("got\n%q\nwant\n%q", got, tc.want)
		}
	}
}
