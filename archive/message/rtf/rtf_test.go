package rtf_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/message/rtf"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		`{\rtf1 a{\b b}c\par d}`:               "abc\nd",
		`{\rtf1\ansicpg1251 \'f2\'e5\'ec\'e0}`: "тема",
		`{\rtf1\fromhtml1{\*\htmltag64 <p>}\htmlrtf {\htmlrtf0 caf{\*\htmltag84 &eacute;}\htmlrtf \'e9\htmlrtf0 }`: "café",
		`{\rtf1 {\pict 89504e47}x{\*\unknown y}\bin4 }}}}z`:                                                        "xz",
		`{\rtf1\uc2 \u1080ab\uc0\u1081 c}`:                                                                         "ийc",
		`no rtf at all`:                                                                                            "no rtf at all",
		`{{{{\'4`:                                                                                                  "",
		`\`:                                                                                                        "",
		`{\rtf1 \u55357?x}`:                                                                                        "x",
		`{\rtf1 \u-10179?\u-8704?}`:                                                                                "😀",
		`{\rtf1\uc1{\upr{old}{\*\ud{\u1085?ew}}} after}`:                                                           "нew after",
		`{\rtf1{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset161 Arial Greek;}{\f2\fcharset134 SimSun;}}\f1 \'eb\'fc\'e3\'ef\'f2\f0 :{\f2 \'b0\'b2}\'e9}`: "λόγος:安é",
		`{\rtf1\deff1{\fonttbl{\f1\fcharset177 David;}}\'f9\'ec{\f9 \'e9}\plain\'e5}`:                                                                   "שלéו",
		`{\rtf1{\fonttbl{\f0\cpg1253 x;}}\f0 \'e1}`:                                                                                                     "α",
		`{\rtf1\mac caf\'8e}`:                       "café",
		`{\rtf1\pc caf\'82}`:                        "café",
		`{\rtf1 one{\deleted two}{\revised three}}`: "onethree",
		`{\rtf1{\info{\title The Title}{\version1}}body{\footnote note} on}`: "The Title\nbody\nnote\n on",
		`{\rtf1{\field{\*\fldinst HYPERLINK "x"}{\fldrslt shown}}}`:          "shown",
		"{\\rtf1 a\\\r\nb\\~c\\_d\\-e\\{\\}\\\\}":                            "a\nb c-de{}\\",
	} {
		if got := rtf.Text([]byte(in), "windows-1252", message.DecodeText); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

// events writes down what it is told.
type events struct {
	list []string
	open int
	size int
}

func (e *events) Text(s string, c rtf.Change) {
	e.list = append(e.list, fmt.Sprint(c, s))
	e.size += len(s)
}
func (e *events) Line()  { e.list = append(e.list, "line") }
func (e *events) Enter() { e.open++; e.list = append(e.list, "(") }
func (e *events) Leave() { e.open--; e.list = append(e.list, ")") }
func (e *events) Object(b []byte) {
	e.list = append(e.list, fmt.Sprintf("object %x", b))
	e.size += len(b)
}

func TestEvents(t *testing.T) {
	for in, want := range map[string]string{
		`{\rtf1 a{\*\atnid X}{\*\atnauthor Who}{\*\annotation{\*\atndate 1}says}b\par}`:                           "0a|(|0Who|)|(|0says|)|0b|line",
		`{\rtf1{\shp{\*\shpinst\shpleft1{\sp{\sn name}{\sv value}}{\shptxt in it\par}}{\shprslt fallback}}out}`:   "(|0in it|line|)|0out",
		`{\rtf1{\object\objemb{\*\objclass Package}{\*\objdata 0105` + "\r\n" + `0000zz{\*\x}02}{\result seen}}}`: "object 0105000002|0seen",
		`{\rtf1{\*\objdata 01\bin3 abc}{\*\objdata 4}x}`:                                                          "object 01616263|0x",
		`{\rtf1 a{\deleted\b b}\deleted c\deleted0 d\revised e\plain f}`:                                          "0a|2b|2c|0d|1e|0f",
		`{\rtf1{\*\userprops{\propname Case}\proptype30{\staticval forty}}}`:                                      "(|0Case|)|(|0forty|)",
		`{\rtf1\trowd a\cell b\cell\row{\header h}}`:                                                              "0a|0\t|0b|0\t|line|(|0h|)",
		`{\rtf1{\footnote never closed`:                                                                           "(|0never closed|)",
	} {
		var e events
		rtf.Read([]byte(in), "windows-1252", message.DecodeText, &e)
		if got := strings.Join(e.list, "|"); got != want {
			t.Errorf("%s:\n%q, want\n%q", in, got, want)
		}
	}
}

// TestDeep opens more groups than are remembered.
func TestDeep(t *testing.T) {
	in := strings.Repeat("{", 100000) + "in" + strings.Repeat("}", 100000) + "out"
	if got := rtf.Text([]byte(in), "", message.DecodeText); got != "inout" {
		t.Errorf("%q", got)
	}
}

// FuzzRead: any bytes are read, every Enter has its Leave, and the text is in proportion to the file.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{\rtf1\ansicpg1251{\fonttbl{\f0\fcharset204 x;}}{\info{\title t}}\f0 \'f2\u1080?{\footnote n}{\*\objdata 0102\bin2 ab}\par\deleted d}`))
	f.Add([]byte(`{\rtf1{\upr{a}{\*\ud{\u55357?\u56832?}}}{\shp{\*\shpinst{\shptxt in}}}\mac\trowd\cell\row}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e events
		rtf.Read(b, "windows-1252", message.DecodeText, &e)
		if e.open < 0 || e.open > 1 || e.size > 8*len(b)+8 {
			t.Fatalf("%d open, %d bytes out of %d", e.open, e.size, len(b))
		}
		if s := rtf.Text(b, "windows-1252", message.DecodeText); !utf8.ValidString(s) || slices.Contains([]byte(s), 0) {
			t.Fatalf("%q", s)
		}
	})
}
