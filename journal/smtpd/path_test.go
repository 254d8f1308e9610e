package smtpd

import (
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func TestCutPath(t *testing.T) {
	const victim = `<"victim@elsewhere.example> ORCPT=rfc822;x"@ours.example>`
	for _, tc := range []struct {
		in            string
		address, rest string // address "-": refused
	}{
		{"<>", "", ""},
		{"<> SIZE=1", "", " SIZE=1"},
		{"<a@b.test>", "a@b.test", ""},
		{"<A.b+c=d@B.Test> X=<y>", "A.b+c=d@B.Test", " X=<y>"},
		{"<a@[192.0.2.1]>", "a@[192.0.2.1]", ""},
		{"<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", ""},
		{`<"a"@b.test>`, "a@b.test", ""},
		{`<"a.b"@b.test>`, "a.b@b.test", ""},
		{`<"a\b"@b.test>`, "ab@b.test", ""},
		{`<"a b"@b.test>`, `"a b"@b.test`, ""},
		{`<"a\ b"@b.test>`, `"a b"@b.test`, ""},
		{`<"a\"b\\"@b.test>`, `"a\"b\\"@b.test`, ""},
		{`<""@b.test>`, `""@b.test`, ""},
		{`<"a@c.test"@b.test>`, `"a@c.test"@b.test`, ""},
		{victim, victim[1 : len(victim)-1], ""},
		{"<a..b.@b.test>", "a..b.@b.test", ""},
		{"<\xc3\xa4@\xc3\xb6.test>", "\xc3\xa4@\xc3\xb6.test", ""},
		{"<postmaster>", "postmaster", ""},
		{"<a_b@c_d.test>", "a_b@c_d.test", ""},
		{"<" + strings.Repeat("x", 500) + "@b.test>", strings.Repeat("x", 500) + "@b.test", ""},

		{"", "-", ""}, {"a@b.test", "-", ""}, {"<a@b.test", "-", ""}, {"<a@b.test>x", "-", ""}, {"<a>", "-", ""}, {"<a@>", "-", ""},
		{"<@b.test>", "-", ""},
		{"<a@b@c.test>", "-", ""}, {"<a b@c.test>", "-", ""}, {"<a@b c>", "-", ""}, {"<a@b..c>", "-", ""}, {"<a@.b>", "-", ""},
		{"<a@b.>", "-", ""},
		{"<a@-b.test>", "-", ""}, {"<<a@b.test>>", "-", ""}, {`<"a@b.test>`, "-", ""}, {`<"a"b@c.test>`, "-", ""},
		{`<a"b"@c.test>`, "-", ""},
		{`<"postmaster">`, "-", ""}, {"<@a.test:b@c.test>", "-", ""}, {"<a@[1.2.3]>", "-", ""}, {"<a@[2001:db8::1]>", "-", ""},
		{"<a@[IPv6:1.2.3.4]>", "-", ""},
		{"<a@[192.0.2.1>", "-", ""}, {"<a(c)@b.test>", "-", ""}, {"<a@b.test;c>", "-", ""}, {"<a@" + strings.Repeat("x",
			64) + ".test>", "-", ""},
		{"<a@" + strings.Repeat("x.", 130) + "test>", "-", ""}, {`<"a\`, "-", ""}, {`<"a\>`, "-", ""},
	} {
		p, rest, err := cutPath(tc.in)
		if tc.address == "-" {
			if err == nil {
				t.Errorf("%q: taken as %+v, %q", tc.in, p, rest)
			}
			continue
		}
		if err != nil || p.Address != tc.address || rest != tc.rest {
			t.Errorf("%q: %+v, %q, %v; want %q, %q", tc.in, p, rest, err, tc.address, tc.rest)
		}
		raw := strings.TrimSuffix(tc.in, rest)
		if want := "<" + p.Address + ">"; raw == want && p.Raw != "" || raw != want && p.Raw != raw {
			t.Errorf("%q: raw %q", tc.in, p.Raw)
		}
	}
}

// TestVictim: quotes do not let an address out into the parameters, and without quotes it is none.
func TestVictim(t *testing.T) {
	b, c := start(t, relayConfig())
	c.cmd("MAIL FROM:<a@x.test>", 250)
	c.cmd(`RCPT TO:<victim@elsewhere.example> ORCPT=rfc822;x"@ours.example>`, 250) // a plain address with a strange ORCPT, and said so
	c.cmd(`RCPT TO:<"victim@elsewhere.example> ORCPT=rfc822;x"@ours.example>`, 250)
	c.conn.Close()
	m := b.only()
	if want := (record.Path{Address: "victim@elsewhere.example", ORCPT: `rfc822;x"@ours.example>`}); m.rcpts[0] != want {
		t.Errorf("%+v", m.rcpts[0])
	}
	if want := (record.Path{Address: `"victim@elsewhere.example> ORCPT=rfc822;x"@ours.example`}); m.rcpts[1] != want {
		t.Errorf("%+v", m.rcpts[1])
	}
}

// FuzzPath: what is taken reads as itself again, and nothing in it ends a line or the path before its end.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"<a@b.test>", `<"a b"@b.test> X=1`, "<postmaster>", "<>", "<a@[IPv6:::1]>",
		`<"a\"b\\"@c>`, "<\xc3\xa4@b>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, rest, err := cutPath(s)
		if err != nil {
			return
		}
		if !strings.HasSuffix(s, rest) || rest != "" && rest[0] != ' ' {
			t.Fatalf("%q: rest %q", s, rest)
		}
		again, rest2, err := cutPath("<" + p.Address + ">" + rest)
		if err != nil || again.Address != p.Address || again.Raw != "" || rest2 != rest {
			t.Fatalf("%q: %+v reads as %+v, %q, %v", s, p, again, rest2, err)
		}
		if p.Address != "" && !strings.HasPrefix(p.Address, `"`) && strings.ContainsAny(p.Address, "<> \r\n\x00") {
			t.Fatalf("%q: %q", s, p.Address)
		}
	})
}
