package web

import (
	"regexp"
	"strings"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"
)

// mailPolicy lets text, its structure and its emphasis through. No styles, no identifiers, nothing that loads, submits or runs.
var mailPolicy = func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "div", "span", "center", "blockquote", "pre", "code", "tt", "address",
		"h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd",
		"b", "strong", "i", "em", "u", "s", "strike", "del", "ins", "sub", "sup", "small", "big", "mark", "q", "cite", "abbr",
		"table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th", "colgroup", "col")
	p.AllowAttrs("colspan", "rowspan").Matching(bluemonday.Integer).OnElements("td", "th")
	p.AllowAttrs("align").Matching(bluemonday.CellAlign).OnElements("td", "th", "tr", "p", "div", "table")
	p.AllowAttrs("border").Matching(bluemonday.Integer).OnElements("table")
	p.AllowAttrs("dir").Matching(bluemonday.Direction).Globally()
	p.AllowAttrs("alt").OnElements("img") // without a source: inert makes words of it
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto", "tel", "ftp")
	// Elements that the policy does not know lose their tags, never their text: one that is not closed would take the rest of the mail
	// with it. What no reader sees is cut by cutUnseen.
	p.AllowElementsContent("frame", "frameset", "iframe", "noembed", "noframes", "noscript", "nostyle", "object", "script", "style", "title")
	return p
}()

// unseen are the elements whose text browsers take as it stands and don't show.
var unseen = map[string]bool{"script": true, "style": true, "title": true, "iframe": true, "noembed": true, "noframes": true}

// maxHTML is up to how many bytes of HTML a message is shown; its text has all of it.
const maxHTML = 1 << 20

// safeHTML is the HTML of a message made harmless. A link becomes text that says where it led: mail is evidence here, not a way out. A
// picture becomes what stood for it.
func safeHTML(raw string) string {
	cut := ""
	if len(raw) > maxHTML {
		raw, cut = strings.ToValidUTF8(raw[:maxHTML], ""), "\n<hr><p>The rest of this message's HTML is too long to be shown; its text has it.</p>"
	}
	return inert(mailPolicy.Sanitize(cutUnseen(raw))) + cut
}

// noscript is markup like others where no script runs, as in mail programs; the tokenizer would take its content for text.
var noscript = regexp.MustCompile(`(?i)(</?)noscript`)

// cutUnseen takes out what stands between the tags of unseen elements.
func cutUnseen(raw string) string {
	raw = noscript.ReplaceAllString(raw, "${1}div")
	var b strings.Builder
	b.Grow(len(raw))
	within := false
	for z := html.NewTokenizer(strings.NewReader(raw)); ; {
		switch typ := z.Next(); typ {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			if !within {
				b.Write(z.Raw())
			}
			within = false
		default:
			b.Write(z.Raw())
			within = false
			if typ == html.StartTagToken || typ == html.SelfClosingTagToken {
				name, _ := z.TagName()
				within = unseen[string(name)]
			}
		}
	}
}

// inert replaces links and pictures in sanitised HTML.
func inert(clean string) string {
	var b strings.Builder
	b.Grow(len(clean))
	for z := html.NewTokenizer(strings.NewReader(clean)); ; {
		typ := z.Next()
		if typ == html.ErrorToken {
			return b.String()
		}
		t := z.Token()
		switch {
		case typ == html.TextToken, t.Data != "a" && t.Data != "img":
			b.WriteString(t.String())
		case t.Data == "img":
			b.WriteString("[" + html.EscapeString(attribute(t, "alt")) + "]")
		case typ == html.StartTagToken:
			b.WriteString(`<u title="` + html.EscapeString(attribute(t, "href")) + `">`)
		case typ == html.EndTagToken:
			b.WriteString("</u>")
		}
	}
}

func attribute(t html.Token, name string) string {
	for _, a := range t.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
