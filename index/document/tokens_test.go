package document

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func texts(s string) []string {
	var list []string
	for _, t := range Tokens(nil, s) {
		list = append(list, t.Text)
	}
	return list
}

func TestTokens(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"separators only", " \t\r\n.,;-_'\"\x00", ""},
		{"ascii", "The quick, brown FOX-trot: 42 times!", "the quick brown fox trot 42 times"},
		{"letters and digits", "R2D2 3com Q4/2024 1,000.50", "r2d2 3com q4 2024 1 000 50"},
		{"apostrophes", "O'Neil don\u2019t", "o neil don t"},
		{"addresses", "Bob.Smith@mail.acme.com", "bob smith mail acme com"},
		{"underscore", "foo_bar", "foo bar"},
		{"accents", "Café crème, naïve façade", "cafe creme naive facade"},
		{"decomposed", "Cafe\u0301", "cafe"},
		{"accent at the end of the text", "x e\u0301", "x e"},
		{"letters with built-in accents", "Łódź Søren Đorđe Straße Æsir œuvre Þór Ħal", "lodz soren dorde strasse aesir oeuvre thor hal"},
		{"capital sharp s", "STRAẞE", "strasse"},
		{"Turkish", "İSTANBUL ısı", "istanbul isi"},
		{"Vietnamese", "Nguyễn Thị Ánh", "nguyen thi anh"},
		{"Greek", "Ἀθήνα ΟΔΥΣΣΕΥΣ Οδυσσεύς", "αθηνα οδυσσευσ οδυσσευσ"},
		{"Russian", "Ёлка йод Йошкар а\u0301том", "елка йод йошкар атом"},
		{"Ukrainian and Belarusian", "Їжак ґанок Ўсё", "іжак ґанок ўсе"},
		{"Hebrew", "שָׁלוֹם", "שלום"},
		{"Arabic", "مُحَمَّد أحمد آمن كـــتاب", "محمد احمد امن كتاب"},
		{"Devanagari keeps its vowels", "हिन्दी", "हिन्दी"},
		{"Chinese", "我爱北京。", "我 爱 北 京"},
		{"Chinese and Latin", "使用iPhone手机2024年", "使 用 iphone 手 机 2024 年"},
		{"Japanese", "東京タワーはガがきれい", "東 京 タ ワ ー は ガ が き れ い"},
		{"half-width kana", "ｶﾞﾗｽ", "ガ ラ ス"},
		{"full-width Latin", "ＡＢＣ１２３", "abc123"},
		{"Korean", "한국어 문장", "한 국 어 문 장"},
		{"Korean, decomposed", norm.NFD.String("한국"), "한 국"},
		{"Thai", "กินข้าว", "ก ิ น ข ้ า ว"},
		{"Bopomofo", "ㄅㄆ", "ㄅ ㄆ"},
		{"compatibility", "ﬁle m² ½ Ⅷ", "file m2 1 2 viii"},
		{"trademarks end words", "Acme™ Foo℠bar Baz®", "acme foo bar baz"},
		{"unseen characters join", "hid\u00adden zero\u200bwidth jo\u200din \ufeffbom", "hidden zerowidth join bom"},
		{"emoji", "ok👍🏽great❤️", "ok 👍 great ❤"},
		{"keycap", "1\ufe0f\u20e3", "1"},
		{"flag", "🇩🇪", "🇩 🇪"},
		{"invalid UTF-8 separates", "foo\xffbar\xc3 é\xe2\x82", "foo bar e"},
		{"dashes and quotes of Unicode", "foo—bar „quoted“ a…b", "foo bar quoted a b"},
		{"mark without a base", "\u0301a", "a"},
		{"euro", "€100 £5", "100 5"},
	} {
		if got := strings.Join(texts(c.text), " "); got != c.want {
			t.Errorf("%s: %q\n got %q\nwant %q", c.name, c.text, got, c.want)
		}
	}
}

func TestTokensCutLongWords(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{strings.Repeat("a", 64), []string{strings.Repeat("a", 64)}},
		{strings.Repeat("a", 65), []string{strings.Repeat("a", 64), "a"}},
		{strings.Repeat("A", 130), []string{strings.Repeat("a", 64), strings.Repeat("a", 64), "aa"}},
		{strings.Repeat("ж", 33), []string{strings.Repeat("ж", 32), "ж"}},
		{"x" + strings.Repeat("ж", 33), []string{"x" + strings.Repeat("ж", 31), "жж"}}, // never within a character
	} {
		if got := texts(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q", c.text, got)
		}
	}
}

func TestTokensOffsets(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"One TWO three", "One|TWO|three"},
		{"  Café, crème ", "Café|crème"},
		{"e\u0301a b", "e\u0301a|b"},
		{"使用iPhone", "使|用|iPhone"},
		{"a½b", "a½|½b"},
		{"x" + strings.Repeat("Y", 64), "x" + strings.Repeat("Y", 63) + "|Y"},
	} {
		var got []string
		for i, tok := range Tokens(nil, c.text) {
			if tok.Position != i {
				t.Errorf("%q: position %d of token %d", c.text, tok.Position, i)
			}
			got = append(got, c.text[tok.Start:tok.End])
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%q: got %q", c.text, got)
		}
	}
}

func TestTokensAppends(t *testing.T) {
	dst := Tokens(nil, "one Two")
	dst = Tokens(dst, "Three")
	if len(dst) != 3 || dst[2] != (Token{"three", 0, 0, 5, false}) || dst[1] != (Token{"two", 1, 4, 7, false}) {
		t.Errorf("got %v", dst)
	}
}

// TestTokensDoNotMove: the texts of earlier tokens stay as they are while later ones are written.
func TestTokensDoNotMove(t *testing.T) {
	var text, want strings.Builder
	for i := range 20_000 {
		if i%7 == 0 {
			text.WriteString("Ünïcode ")
			want.WriteString("unicode ")
		} else {
			text.WriteString("Upper ")
			want.WriteString("upper ")
		}
	}
	if got := strings.Join(texts(text.String()), " "); got != strings.TrimSpace(want.String()) {
		t.Error("a token changed after it was made")
	}
}

// alphabet is what the property tests draw from: letters of many scripts, marks, separators, compatibility characters, broken bytes.
var alphabet = []string{
	"a", "B", "z", "0", "9", " ", ".", "@", "'", "-", "\n", "é", "e\u0301", "Å", "A\u030a", "ñ", "ß", "ø", "ﬁ", "ı", "İ", "ſ", "K",
	"й", "и\u0306", "ё", "е\u0308", "ї", "ў", "а\u0301", "ά", "α\u0301", "ς", "Σ", "ᾳ", "α\u0345", "שׁ", "ש\u05c1", "أ", "ا\u0654", "\u064e", "ـ",
	"東", "が", "か\u3099", "ｶ\uff9e", "ー", "한", "\u1112\u1161\u11ab", "ก", "ิ", "ำ", "हि", "क\u093c", "²", "½", "①", "Ａ", "㎏", "…", "—", "\u00a0",
	"\u200d", "\u00ad", "\ufe0f", "👍", "🏽", "❤", "🇩", "\u0301", "\u0306", "\u0338", "\U0001d400", "𝟙", "ǆ", "ŉ", "Ω", "µ", "\u0f71\u0f72",
}

func randomText(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

func forRandomTexts(t *testing.T, n int, f func(t *testing.T, s string)) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range n {
		s := randomText(r, 1+r.IntN(40))
		if f(t, s); t.Failed() {
			t.Fatalf("seed %d, text %+q", seed, s)
		}
	}
}

// TestTokensNormalisation: how a text is composed makes no difference.
func TestTokensNormalisation(t *testing.T) {
	forRandomTexts(t, 4_000, func(t *testing.T, s string) {
		want := texts(s)
		for _, form := range []norm.Form{norm.NFC, norm.NFD, norm.NFKC, norm.NFKD} {
			if got := texts(form.String(s)); !slices.Equal(got, want) {
				t.Errorf("form %v: %+q, not %+q", form, got, want)
			}
		}
	})
}

// TestTokensTwice: tokens are their own tokens, so that a query in folded form is the same query.
func TestTokensTwice(t *testing.T) {
	forRandomTexts(t, 4_000, func(t *testing.T, s string) {
		want := texts(s)
		if got := texts(strings.Join(want, " ")); !slices.Equal(got, want) {
			t.Errorf("%+q, not %+q", got, want)
		}
	})
}

// TestTokensOfPart: the tokens of what stands between the ends of two words are the tokens between, at the same distances.
func TestTokensOfPart(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	forRandomTexts(t, 4_000, func(t *testing.T, s string) {
		all := Tokens(nil, s)
		// Only where no character is shared by two tokens (½) is there a boundary between them.
		if len(all) == 0 {
			return
		}
		i := r.IntN(len(all))
		j := i + r.IntN(len(all)-i)
		if i > 0 && all[i-1].End > all[i].Start || j+1 < len(all) && all[j].End > all[j+1].Start {
			return
		}
		part := Tokens(nil, s[all[i].Start:all[j].End])
		if len(part) != j-i+1 {
			t.Fatalf("%d tokens, not %d, of %+q", len(part), j-i+1, s[all[i].Start:all[j].End])
		}
		for k, p := range part {
			if q := all[i+k]; p.Text != q.Text || p.Position != q.Position-all[i].Position || p.Start != q.Start-all[i].Start {
				t.Errorf("token %d: %v, not %v", k, p, q)
			}
		}
	})
}

// TestTokensSlowPath: a text of ASCII has the same tokens when each word is read as Unicode.
func TestTokensSlowPath(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 5000 {
		b := make([]byte, r.IntN(200))
		for i := range b {
			if b[i] = byte(r.IntN(128)); r.IntN(3) > 0 {
				b[i] = "aZ09"[r.IntN(4)]
			}
		}
		s := string(b)
		var list []Token
		slow := tokenizer{s: s, do: func(t *Token) {
			list = append(list, *t)
			list[len(list)-1].Text = strings.Clone(t.Text)
		}}
		for i := 0; i < len(s); i++ {
			i = slow.unicode(i)
		}
		if fast := Tokens(nil, s); !slices.Equal(fast, list) {
			t.Fatalf("seed %d: %q\nfast %v\nslow %v", seed, s, fast, list)
		}
	}
}

// TestEach: what comes one by one is what comes at once, and its text is valid while it is looked at.
func TestEach(t *testing.T) {
	forRandomTexts(t, 4_000, func(t *testing.T, s string) {
		want := Tokens(nil, s)
		i := 0
		n := Each(s, func(token *Token) {
			if i >= len(want) || *token != want[i] {
				t.Errorf("%+q: token %d is %v, not of %v", s, i, *token, want)
			}
			i++
		})
		if n != len(want) || i != n {
			t.Errorf("%+q: %d tokens, counted as %d, not %d", s, i, n, len(want))
		}
	})
}

// TestFoldTable: each character that has an entry folds as the long way folds it, alone and within a word.
func TestFoldTable(t *testing.T) {
	var f folder
	for i, c := range commonRanges {
		for r := c.from; r < c.to; r++ {
			known := commonFolds()[i][r-c.from]
			if got := string(f.cluster(string(r))); got != known.text {
				t.Errorf("%U: %q, not %q", r, known.text, got)
			}
			// The mark in the second text forces the long way, and folds.
			if a, b := texts("x"+string(r)+"y"), texts("x"+string(r)+"\u0301y"); !slices.Equal(a, b) {
				t.Errorf("%U: %q, not %q", r, a, b)
			}
		}
	}
	for r := rune(utf8.RuneSelf); r < 0x20000; r++ {
		if got := string(f.cluster(string(r))); plainEastAsian(r) && got != string(r) {
			t.Errorf("%U folds to %q", r, got)
		}
		if s := string(r); utf8.ValidRune(r) && standsAlone(s) && !norm.NFKC.PropertiesString(s).BoundaryBefore() {
			t.Errorf("%U can combine with what is before it", r)
		}
	}
}

func FuzzTokens(f *testing.F) {
	for _, s := range []string{"", "Hello, World", "Café", "e\u0301\u0301", "東京 Tower", "한국", "กินข้าว", "ﬁ½™", "\xff\xfe", strings.Repeat("x", 200), "👍🏽"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		prev := Token{Position: -1}
		for _, tok := range Tokens(nil, s) {
			if tok.Text == "" || len(tok.Text) > MaxToken || !utf8.ValidString(tok.Text) {
				t.Fatalf("token %q", tok.Text)
			}
			if tok.Position != prev.Position+1 || tok.Start < prev.Start || tok.End < prev.End || tok.Start >= tok.End || tok.End > len(s) {
				t.Fatalf("%v after %v", tok, prev)
			}
			prev = tok
		}
		FoldName(s)
		addr := FoldAddress(s)
		if again := FoldAddress(addr); again != addr && utf8.ValidString(s) && !strings.ContainsAny(s, "<> ") && !strings.Contains(addr, "xn--") {
			t.Fatalf("%q folds to %q, and that to %q", s, addr, again)
		}
		if n := len(NameTokens(Address{Name: s, Address: s})); n > maxNames {
			t.Fatalf("%d names", n)
		}
	})
}

const english = `Dear all, please find attached the Minutes of Tuesday's meeting. The budget for Q3 was approved (see page 12), but the vote on
the Redmond contract has been moved to 14 November 2026; Alice will circulate the new draft. Kind regards, Bob.Smith@acme.example
`

func BenchmarkTokens(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"ascii", english},
		{"lower", strings.ToLower(english)},
		{"french", "Chère Élodie, le procès-verbal de la réunion a été approuvé à l'unanimité; la suite est prévue en février. "},
		{"russian", "Уважаемые коллеги, ещё раз напоминаем о встрече во вторник: повестка дня прилагается к этому письму. "},
		{"chinese", "各位同事，请查收附件中的会议纪要。第三季度的预算已经获得批准，合同的表决推迟到十一月。"},
		{"korean", "동료 여러분, 첨부된 회의록을 확인해 주십시오. 예산이 승인되었습니다. "},
		{"thai", "เรียนเพื่อนร่วมงานทุกท่าน กรุณาดูรายงานการประชุมที่แนบมา "},
	} {
		b.Run(c.name, func(b *testing.B) {
			text := strings.Repeat(c.text, 2048/len(c.text)+1)
			var dst []Token
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				dst = Tokens(dst[:0], text)
			}
		})
	}
}
