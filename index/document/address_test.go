package document

import (
	"slices"
	"strings"
	"testing"
)

func TestFoldAddress(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"Alice@Acme.COM", "alice@acme.com"},
		{" <Alice@Acme.com> ", "alice@acme.com"},
		{"alice@acme.com.", "alice@acme.com"},
		{"Postmaster", "postmaster"},
		{`"A B"@acme.com`, `"a b"@acme.com`},
		{"a@b@acme.com", "a@b@acme.com"},
		{"José@acme.com", "josé@acme.com"},
		{"Jose\u0301@acme.com", "josé@acme.com"},
		{"info@xn--mnchen-3ya.de", "info@münchen.de"},
		{"info@MÜNCHEN.de", "info@münchen.de"},
		{"info@xn--.de", "info@xn--.de"},
		{"info@[192.0.2.1]", "info@[192.0.2.1]"},
		{"a\xff@b", "a\ufffd@b"},
	} {
		if got := FoldAddress(c.in); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestDomains(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"com", "com"},
		{"mail.acme.com", "mail.acme.com acme.com com"},
		{"[192.0.2.1]", "[192.0.2.1]"},
		{"..acme", "..acme .acme acme"},
		{strings.Repeat("a.", 300) + "com", strings.Repeat("a.", 300) + "com"},
	} {
		if got := strings.Join(Domains(c.in), " "); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct{ in, local, domain string }{
		{"alice@acme.com", "alice", "acme.com"}, {"alice", "alice", ""}, {`"a@b"@c`, `"a@b"`, "c"}, {"@c", "", "c"},
	} {
		if local, domain := Split(c.in); local != c.local || domain != c.domain {
			t.Errorf("%q: %q, %q", c.in, local, domain)
		}
	}
}

func TestNameTokens(t *testing.T) {
	for _, c := range []struct {
		name, address string
		want          []string
	}{
		{"", "alice@acme.com", []string{"alice"}},
		{"", "Alice.Smith+news@acme.com", []string{"alice.smith+news"}},
		{"Alice O'Neil", "ao@acme.com", []string{"ao", "alice", "o", "neil", "o'neil", "alice o", "alice o neil", "o neil"}},
		{"Smith, José", "josé@acme.com", []string{"jose", "smith", "smith jose"}},
		{"王小明", "w@acme.cn", []string{"w", "王", "小", "明", "王小明", "王小", "小明", "王 小", "王 小 明", "小 明"}},
		{"Bob (work)", "", []string{"bob", "work", "bob work"}},
		{"", "", nil},
	} {
		if got := NameTokens(Address{Name: c.name, Address: c.address}); !slices.Equal(got, c.want) {
			t.Errorf("%q %q: got %q, want %q", c.name, c.address, got, c.want)
		}
	}
	if n := len(NameTokens(Address{Name: strings.Repeat("王小明李", 10_000)})); n > maxNames {
		t.Errorf("%d names", n)
	}
}

// TestNamesAreFound: what somebody would type for a name, folded as queries fold it, is one of the name's tokens.
func TestNamesAreFound(t *testing.T) {
	for _, c := range []struct{ typed, name, address string }{
		{"Alice", "alice smith", "as@acme.com"}, {"JOSÉ", "Jose\u0301 Pérez", "x@acme.com"}, {"perez", "José Pérez", "x@acme.com"},
		{"O'Neil", "Tip O'Neil", "x@acme.com"}, {"neil", "Tip O'Neil", "x@acme.com"}, {"Łukasz", "", "lukasz@acme.pl"},
		{"小明", "王小明", "x@acme.cn"}, {"王小明", "王 小明", "x@acme.cn"}, {"김철수", "김철수", "x@acme.kr"}, {"alice.smith", "", "Alice.Smith@acme.com"},
		{"Ёлкин", "Пётр Елкин", "x@acme.ru"},
	} {
		if got := NameTokens(Address{Name: c.name, Address: FoldAddress(c.address)}); !slices.Contains(got, FoldName(c.typed)) {
			t.Errorf("%q is not found in %q", FoldName(c.typed), got)
		}
	}
}
