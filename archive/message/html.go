package message

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// htmlToText gives the text of HTML, blocks and table rows on lines of their own. Scripts, styles and comments are left out; what styles
// would hide is not, and the texts that stand for pictures are there. It reads tokens and builds no tree, so that no nesting costs more
// than its length.
func htmlToText(s string) string {
	var t textWriter
	t.b.Grow(len(s) / 2)
	if rest := t.read(s, true); rest != "" {
		t.read(rest, false) // a script or style that is never closed would hide all that follows
	}
	if t.b.Len() > 0 {
		t.b.WriteByte('\n')
	}
	return t.b.String()
}

type textWriter struct {
	b   strings.Builder
	gap byte // what goes before the next text: '\n', '\t', ' ' or 0
	pre int  // open <pre> elements
}

// read adds the text of s. With hide it leaves out scripts and styles, and returns what follows one that is not closed.
func (t *textWriter) read(s string, hide bool) (unclosed string) {
	z := html.NewTokenizer(strings.NewReader(s))
	hidden := -1 // length of the last hidden text, until it is closed
	for {
		switch typ := z.Next(); typ {
		case html.ErrorToken:
			if hidden > 0 {
				return s[len(s)-hidden:]
			}
			return ""
		case html.TextToken:
			if hidden == 0 {
				hidden = len(z.Raw())
				continue
			}
			t.text(z.Text())
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			tag := atom.Lookup(name)
			if hidden = -1; hide && typ == html.StartTagToken && (tag == atom.Script || tag == atom.Style) {
				hidden = 0
				continue
			}
			z.NextIsNotRawText()
			t.tag(tag)
			if tag == atom.Pre {
				t.pre++
			}
			for more {
				var key, value []byte
				if key, value, more = z.TagAttr(); len(value) > 0 && (string(key) == "alt" || string(key) == "title") {
					t.space(' ')
					t.text(value)
					t.space(' ')
				}
			}
		case html.EndTagToken:
			hidden = -1
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			t.tag(tag)
			if tag == atom.Pre && t.pre > 0 {
				t.pre--
			}
		}
	}
}

// tag acts on the beginning or end of an element.
func (t *textWriter) tag(tag atom.Atom) {
	switch tag {
	case atom.Td, atom.Th:
		t.space('\t')
	case atom.Address, atom.Article, atom.Aside, atom.Blockquote, atom.Body, atom.Br, atom.Button, atom.Caption, atom.Center, atom.Dd,
		atom.Details, atom.Dir, atom.Div, atom.Dl, atom.Dt, atom.Fieldset, atom.Figcaption, atom.Figure, atom.Footer, atom.Form, atom.Frame,
		atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Head, atom.Header, atom.Hr, atom.Html, atom.Iframe, atom.Legend, atom.Li,
		atom.Listing, atom.Main, atom.Menu, atom.Nav, atom.Noframes, atom.Noscript, atom.Ol, atom.Optgroup, atom.Option, atom.P,
		atom.Plaintext, atom.Pre, atom.Section, atom.Select, atom.Summary, atom.Table, atom.Tbody, atom.Textarea, atom.Tfoot, atom.Thead,
		atom.Title, atom.Tr, atom.Ul, atom.Xmp:
		t.space('\n')
	case atom.Img, atom.Input, atom.Object, atom.Embed, atom.Video, atom.Audio:
		t.space(' ')
	}
}

// space asks for a gap before the next text; the widest wins.
func (t *textWriter) space(c byte) {
	if t.gap == 0 || t.gap == ' ' || c == '\n' {
		t.gap = c
	}
}

// text adds text, its white space as one blank.
func (t *textWriter) text(s []byte) {
	for len(s) > 0 {
		n := 0
		for n < len(s) && s[n] > ' ' {
			n++
		}
		if n > 0 {
			if t.gap != 0 && t.b.Len() > 0 {
				t.b.WriteByte(t.gap)
			}
			t.gap = 0
			t.b.Write(s[:n])
			s = s[n:]
			continue
		}
		if t.pre > 0 && s[0] == '\n' {
			t.space('\n')
		} else {
			t.space(' ')
		}
		s = s[1:]
	}
}

// metaCharset finds the charset that HTML names for itself, in its first 2,048 bytes.
func metaCharset(s string) string {
	s = strings.ToLower(s[:min(len(s), 2048)])
	_, s, ok := strings.Cut(s, "<meta")
	for ok {
		var tag string
		tag, _, _ = strings.Cut(s, ">")
		if _, value, found := strings.Cut(tag, "charset="); found {
			value = strings.TrimLeft(value, " \"'")
			if i := strings.IndexAny(value, " \"'/;"); i >= 0 {
				value = value[:i]
			}
			return value
		}
		_, s, ok = strings.Cut(s, "<meta")
	}
	return ""
}
