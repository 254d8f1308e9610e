package message

import (
	"slices"
	"testing"
)

func TestAddressList(t *testing.T) {
	type list = []Address
	for _, c := range []struct {
		name, in string
		want     list
	}{
		{"bare", "a@x.test", list{{"", "a@x.test"}}},
		{"name", "Alice Smith <a@x.test>", list{{"Alice Smith", "a@x.test"}}},
		{"quoted", `"Smith, Alice" <a@x.test>, b@x.test`, list{{"Smith, Alice", "a@x.test"}, {"", "b@x.test"}}},
		{"quoted quote", `"Alice \"Al\" Smith" <a@x.test>`, list{{`Alice "Al" Smith`, "a@x.test"}}},
		{"case is kept", "Alice@X.Test", list{{"", "Alice@X.Test"}}},
		{"comment as a name", "a@x.test (Alice Smith)", list{{"Alice Smith", "a@x.test"}}},
		{"comment beside a name", "Alice (at work) <a@x.test>", list{{"Alice (at work)", "a@x.test"}}},
		{"comment with an address", "Alice <a@x.test> (was old@x.test)", list{{"Alice (was old@x.test)", "a@x.test"}}},
		{"nested comment", "a@x.test (A (B) C)", list{{"A (B) C", "a@x.test"}}},
		{"group", "Team: a@x.test, Bob <b@x.test>;, c@x.test", list{{"", "a@x.test"}, {"Bob", "b@x.test"}, {"", "c@x.test"}}},
		{"empty group", "undisclosed-recipients:;", nil},
		{"group that is not closed", "Team: a@x.test, b@x.test", list{{"", "a@x.test"}, {"", "b@x.test"}}},
		{"route", "<@r1.test,@r2.test:a@x.test>", list{{"", "a@x.test"}}},
		{"semicolons", "a@x.test; b@x.test", list{{"", "a@x.test"}, {"", "b@x.test"}}},
		{"empty ones", ", a@x.test,, ,b@x.test,", list{{"", "a@x.test"}, {"", "b@x.test"}}},
		{"blanks", "a @ x . test", list{{"", "a@x.test"}}},
		{"blanks in brackets", "Bob < a@ x.test >", list{{"Bob", "a@x.test"}}},
		{"no comma", "a@x.test b@x.test", list{{"", "a@x.test"}, {"", "b@x.test"}}},
		{"no comma between brackets", "Al <a@x.test> Bob <b@x.test>", list{{"Al", "a@x.test"}, {"Bob", "b@x.test"}}},
		{"name after", "a@x.test Alice", list{{"Alice", "a@x.test"}}},
		{"bracket that does not close", "Alice <a@x.test, Bob <b@x.test>", list{{"Alice", "a@x.test"}, {"Bob", "b@x.test"}}},
		{"two brackets", "Alice <<a@x.test>>", list{{"Alice", "a@x.test"}}},
		{"mailto", "Alice <mailto:a@x.test>, mailto:b@x.test", list{{"Alice", "a@x.test"}, {"", "b@x.test"}}},
		{"quoted local part", `"a b"@x.test, <"c d"@x.test>, "plain"@x.test`, list{{"", `"a b"@x.test`}, {"", `"c d"@x.test`}, {"", "plain@x.test"}}},
		{"quoted @", `"a@b"@x.test`, list{{"", `"a@b"@x.test`}}},
		{"single quotes", "'a@x.test', 'Bob' <'b@x.test'>", list{{"", "a@x.test"}, {"'Bob'", "b@x.test"}}},
		{"address as a name", `"a@x.test" <b@x.test>`, list{{"a@x.test", "b@x.test"}}},
		{"address in quotes alone", `"a@x.test"`, list{{"", "a@x.test"}}},
		{"quotes that do not pair", `"Bob <bob@x.test>, "Al" <al@x.test>`, list{{`Bob <bob@x.test>, Al"`, "al@x.test"}, {"", "bob@x.test"}}},
		{"quote that does not close", `"Bob <bob@x.test>`, list{{`"Bob`, "bob@x.test"}}},
		{"comment that does not close", "Bob (work <bob@x.test>", list{{"Bob (work", "bob@x.test"}}},
		{"smiley", "Bob :-) <bob@x.test>", list{{"Bob :-)", "bob@x.test"}}},
		{"local name", "root", list{{"", "root"}}},
		{"only a name", "Alice Smith", list{{"Alice Smith", ""}}},
		{"only a quoted name", `"Alice Smith" <>`, list{{"Alice Smith", ""}}},
		{"encoded name", "=?utf-8?q?Jos=C3=A9?= =?utf-8?q?_P=C3=A9rez?= <j@x.test>", list{{"José Pérez", "j@x.test"}}},
		{"encoded name in quotes", `"=?utf-8?b?5p2x5Lqs?=" <t@x.test>`, list{{"東京", "t@x.test"}}},
		{"encoded comma", "=?utf-8?q?Smith=2C_Al?= <a@x.test>, b@x.test", list{{"Smith, Al", "a@x.test"}, {"", "b@x.test"}}},
		{"all encoded", "=?utf-8?q?Bob_=3Cbob=40x=2Etest=3E?=", list{{"Bob", "bob@x.test"}}},
		{"raw UTF-8", "Jörg Müller <jörg@müller.test>", list{{"Jörg Müller", "jörg@müller.test"}}},
		{"raw windows-1252", "J\xf6rg <j@x.test>", list{{"Jörg", "j@x.test"}}},
		{"raw iso-2022-jp with a quote in it", "\x1b$B\"$F|\x1b(B <j@x.test>", list{{"△日", "j@x.test"}}},
		{"domain literal", "a@[192.0.2.1], b@[IPv6:2001:db8::1]", list{{"", "a@[192.0.2.1]"}, {"", "b@[IPv6:2001:db8::1]"}}},
		{"Exchange", "IMCEAEX-_O=ACME_OU=X@x.test", list{{"", "IMCEAEX-_O=ACME_OU=X@x.test"}}},
		{"nothing", "", nil},
		{"nothing but brackets", "<>", nil},
		{"dots", "John Q. Public <j@x.test>", list{{"John Q. Public", "j@x.test"}}},
		{"slash", "Sales/Marketing <s@x.test>", list{{"Sales/Marketing", "s@x.test"}}},
	} {
		m := parse(t, "To: "+c.in+"\n\nx\n")
		if got := m.Header.AddressList("to"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q: got %q, want %q", c.name, c.in, got, c.want)
		}
	}
	two := parse(t, "To: a@x.test\nTo: b@x.test\n\nx\n").Header.AddressList("To")
	if !slices.Equal(two, list{{"", "a@x.test"}, {"", "b@x.test"}}) {
		t.Errorf("two fields: %q", two)
	}
}
