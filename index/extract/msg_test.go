package extract

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readOutlook(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "outlook", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOutlook reads message files that Outlook wrote; what they say is known from Outlook's own view of them.
func TestOutlook(t *testing.T) {
	for name, c := range map[string]struct {
		has   []string
		files string
	}{
		"cyrillic_message.msg": {has: []string{
			`Subject: Автоматический ответ подсистемы обмена данными ФГУП "Почта России".`, "From: no-reply@niips.ru\n",
			"Cc: Свиридов Дмитрий Владимирович <sviridov@niips.ru>", "Date: 2010-05-18 07:38\n", "Сообщение сгенерировано автоматически",
		}},
		"attachment_test_msg.msg": {
			has:   []string{"Subject: test pièce jointe 1", "contenu", "euro : € (20AC)", "copyright : © (00A9)", "école (00E9)"},
			files: "x/test-unicode.doc x/pj1.txt",
		},
		"keywords.msg":              {has: []string{"TODO\n", "Currently Important\n"}},
		"msgClassContact.msg":       {has: []string{"12 Lazy Dog Lane", "quickbrown@gmail.com", "(345) 678-9012", "Saw him jump over a lazy dog once."}},
		"HTMLBodyBinary_CP1251.msg": {has: []string{"HTML автоматически\n"}},
		"ASCII_CP1251_LCID1049.msg": {has: []string{"Subject: Subject автоматически Subject\n", "Body автоматически Body"}},
		"51873.msg":                 {has: []string{"To: bubba@bubbasmith.com", "This is a hacked Outlook 2010 message"}},
	} {
		r := Extract(t.Context(), file("x", "", readOutlook(t, name)), Limits{})
		for _, s := range c.has {
			if !strings.Contains(r.Text, s) {
				t.Errorf("%s lacks %q:\n%s", name, s, r.Text)
			}
		}
		var files []string
		for _, f := range r.Files {
			files = append(files, f.Name)
		}
		if got := strings.Join(files, " "); got != c.files || len(r.Marks) > 0 {
			t.Errorf("%s: files %q, marks %q", name, got, marks(r))
		}
	}
}

// TestCutOffOutlook: what is left of a message is read or not, and what is missing is said.
func TestCutOffOutlook(t *testing.T) {
	whole := readOutlook(t, "attachment_test_msg.msg")
	for n := len(whole) - 513; n > 0; n -= 997 {
		r := Extract(t.Context(), file("x", "", whole[:n]), small)
		if len(r.Marks) == 0 && n < len(whole)/2 {
			t.Errorf("cut at %d: no mark", n)
		}
		for _, m := range r.Marks {
			if strings.Contains(m.Reason, "broke") {
				t.Fatalf("cut at %d: %v", n, m)
			}
		}
	}
}

func FuzzOutlook(f *testing.F) {
	for _, name := range []string{"HTMLBodyBinary_CP1251.msg", "ASCII_CP1251_LCID1049.msg", "keywords.msg"} {
		f.Add(readOutlook(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) { extractHostile(t, &oleFormat, b) })
}
