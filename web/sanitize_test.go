package web

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// hostile are snippets of which nothing may be left that runs, loads, submits or leads away. Where there is a word "seen", its reader
// must still see it.
var hostile = []string{
	`<script>alert(1)</script>seen`,
	`<SCRIPT SRC=http://evil.example/x.js></SCRIPT>seen`,
	`<img src=x onerror=alert(1)>seen`,
	`<img src="http://evil.example/p.gif" width=1 height=1>seen`,
	`<img srcset="http://evil.example/a 1x">seen`,
	`<img src="data:image/svg+xml,<svg onload=alert(1)>">seen`,
	`<img src="cid:part1">seen`,
	`<picture><source srcset="//evil.example/a"><img src=a></picture>seen`,
	`<svg onload=alert(1)><text>seen</text></svg>`,
	`<svg><script>alert(1)</script></svg>seen`,
	`<svg><use href="http://evil.example/#a"/></svg>seen`,
	`<svg><image xlink:href="http://evil.example/a"/></svg>seen`,
	`<svg><foreignObject><iframe src="http://evil.example"></iframe></foreignObject></svg>seen`,
	`<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>seen`,
	`<math href="javascript:alert(1)">seen</math>`,
	`<iframe src="http://evil.example"></iframe>seen`,
	`<iframe srcdoc="<script>alert(1)</script>"></iframe>seen`,
	`<frameset><frame src="http://evil.example"></frameset>seen`,
	`<object data="http://evil.example/x.swf">seen</object>`,
	`<embed src="http://evil.example/x">seen`,
	`<applet code="X.class">seen</applet>`,
	`<base href="http://evil.example/">seen<a href="x">x</a>`,
	`<link rel=stylesheet href="http://evil.example/x.css">seen`,
	`<link rel=prefetch href="http://evil.example/x"><link rel=dns-prefetch href="//evil.example">seen`,
	`<meta http-equiv=refresh content="0;url=http://evil.example">seen`,
	`<meta http-equiv="Content-Security-Policy" content="default-src *">seen`,
	`<style>@import url(http://evil.example/x.css);</style>seen`,
	`<style>body{background:url(http://evil.example/x)}</style>seen`,
	`<div style="background:url(http://evil.example/x)">seen</div>`,
	`<div style="position:fixed;top:0;left:0;width:100%;height:100%">seen</div>`,
	`<style>@font-face{font-family:x;src:url(http://evil.example/x)}</style><p>seen`,
	`<form action="http://evil.example"><input name=password><button formaction="http://evil.example">seen</button></form>`,
	`<input type=image src="http://evil.example/x">seen`,
	`<a href="javascript:alert(1)">seen</a>`,
	`<a href="java&#10;script:alert(1)">seen</a>`,
	`<a href="&#106;avascript:alert(1)">seen</a>`,
	`<a href="data:text/html,<script>alert(1)</script>">seen</a>`,
	`<a href="vbscript:x">seen</a>`,
	`<a href="http://evil.example/" ping="http://evil.example/p" target=_top>seen</a>`,
	`<a href='http://evil.example/"><script>alert(1)</script>'>seen</a>`,
	`<body onload=alert(1) background="http://evil.example/x">seen`,
	`<table background="http://evil.example/x"><td background="http://evil.example/y">seen`,
	`<video poster="http://evil.example/x"><source src="http://evil.example/y"></video>seen`,
	`<audio src="http://evil.example/x" autoplay></audio>seen`,
	`<marquee onstart=alert(1)>seen</marquee>`,
	`<details open ontoggle=alert(1)>seen</details>`,
	`<template><img src=x onerror=alert(1)></template>seen`,
	`<noscript><p title="</noscript><img src=x onerror=alert(1)>">seen</noscript>`,
	`<noscript><p>seen</p></noscript>`,
	`<textarea><img src=x onerror=alert(1)></textarea>seen`,
	`<title><img src=x onerror=alert(1)></title>seen`,
	`<xmp><img src=x onerror=alert(1)></xmp>seen`,
	`<plaintext><script>alert(1)</script>seen`,
	`<!--[if IE]><script>alert(1)</script><![endif]-->seen`,
	`<!--><img src=x onerror=alert(1)>-->seen`,
	`<![CDATA[<script>alert(1)</script>]]>seen`,
	`<?xml-stylesheet href="http://evil.example/x.xsl"?>seen`,
	`<b/onmouseover=alert(1)>seen</b>`,
	`<<script>alert(1)//<</script>seen`,
	`<p id=main name=x class=top title=x accesskey=x contenteditable draggable=true>seen`,
	`<x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>seen`,
	`<img src="http://evil.example/x" alt="</u><script>alert(1)</script>">seen`,
	`</body></html><script>alert(1)</script>seen`,
	`<font color=white size=0 face="x">seen</font>`,
	`<portal src="http://evil.example"></portal>seen`,
	`<bgsound src="http://evil.example/x">seen`,
	`<p style='font-family:"</style><script>alert(1)</script>'>seen`,
	// What is not closed, or closed twice, must not take the rest of the mail with it.
	`<head><meta charset=utf-8><body>seen`,
	`</title></title><title>x</title>seen`,
	`<svg><p>seen`, `<object><p>seen`, `<frame src=x><p>seen`, `<template><p>seen`, `<noscript><p>seen`, `</style></script>seen`, `<style/>x</style>seen`,
}

// elements are those that may be left; html, head and body are the parser's own.
const elements = " html head body p br hr div span center blockquote pre code tt address h1 h2 h3 h4 h5 h6 ul ol li dl dt dd b strong i em u s strike " +
	"del ins sub sup small big mark q cite abbr table caption thead tbody tfoot tr td th colgroup col "

// allowed are the attributes that may be left.
var allowed = map[string]string{"u": "title dir", "td": "colspan rowspan align dir", "th": "colspan rowspan align dir", "table": "border align dir", "div": "align dir", "p": "align dir", "tr": "align dir"}

// harmless walks the tree that a browser makes of HTML, and names what may not be in it.
func harmless(t *testing.T, from, clean string) (text string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader("<!doctype html><html><head></head><body>" + clean))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range doc.Descendants() {
		switch n.Type {
		case html.TextNode:
			b.WriteString(n.Data)
		case html.CommentNode:
			t.Errorf("%.200q: a comment is left: %q", from, clean)
		case html.ElementNode:
			if !strings.Contains(elements, " "+n.Data+" ") {
				t.Errorf("%.200q: <%s> is left: %q", from, n.Data, clean)
			}
			for _, a := range n.Attr {
				if n.Namespace != "" || !strings.Contains(" "+allowed[n.Data]+" dir ", " "+a.Key+" ") {
					t.Errorf("%.200q: <%s %s=%q> is left: %q", from, n.Data, a.Key, a.Val, clean)
				}
			}
		}
	}
	return b.String()
}

func TestHostileHTMLIsMadeHarmless(t *testing.T) {
	for _, raw := range hostile {
		text := harmless(t, raw, safeHTML(raw))
		if strings.Contains(raw, "seen") && !strings.Contains(text, "seen") {
			t.Errorf("%q: its text is gone: %q", raw, safeHTML(raw))
		}
		if again := safeHTML(safeHTML(raw)); harmless(t, raw, again) == "" {
			t.Errorf("%q: nothing is left of it the second time", raw)
		}
	}
}

// Pieces of hostile HTML in any order are harmless too.
func TestMixedHTMLIsMadeHarmless(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range 3000 {
		var b strings.Builder
		for range 1 + r.IntN(5) {
			s := hostile[r.IntN(len(hostile))]
			from := r.IntN(len(s))
			b.WriteString(s[from : from+r.IntN(len(s)-from+1)])
		}
		harmless(t, b.String(), safeHTML(b.String()))
		if t.Failed() {
			return
		}
	}
}

func TestHarmlessHTMLStays(t *testing.T) {
	for raw, want := range map[string]string{
		`<p align="center">a <b>b</b></p>`:                                `<p align="center">a <b>b</b></p>`,
		`<table border="1"><tr><td colspan="2">x</td></tr></table>`:       `<table border="1"><tr><td colspan="2">x</td></tr></table>`,
		`see <a href="https://bank.example/?a=1&amp;b=2">your bank</a>`:   `see <u title="https://bank.example/?a=1&amp;b=2">your bank</u>`,
		`<img src="http://x.example/l.png" alt="Acme & Co">`:              `[Acme &amp; Co]`,
		`<html><head><title>t</title><style>p{}</style></head><body>text`: `text`,
		`a &lt;b&gt; &amp;amp; c`:                                         `a &lt;b&gt; &amp;amp; c`,
		`<div dir="rtl">שלום</div>`:                                       `<div dir="rtl">שלום</div>`,
	} {
		if got := strings.TrimSpace(safeHTML(raw)); got != want {
			t.Errorf("%s\n got %s\nwant %s", raw, got, want)
		}
	}
}

func TestLargeHTMLIsCutAndToldSo(t *testing.T) {
	for _, piece := range []string{"<p>word ", "<", "<a href=", "<noscript>", "</title>", "<!--", "&#", `<img alt="`, "<p a a a a a a a a", "<svg><style>", "é"} {
		raw := strings.Repeat(piece, (maxHTML+100)/len(piece)+1)
		if out := safeHTML(raw); !strings.Contains(out, "too long to be shown") {
			t.Errorf("%q repeated is not cut", piece)
		}
	}
}

func FuzzSafeHTML(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		clean := safeHTML(raw)
		for z := html.NewTokenizer(strings.NewReader(clean)); ; {
			typ := z.Next()
			if typ == html.ErrorToken {
				return
			}
			tok := z.Token()
			for _, a := range tok.Attr {
				if k := a.Key; k == "src" || k == "href" || k == "style" || k == "id" || k == "class" || strings.HasPrefix(k, "on") {
					t.Fatalf("%q: %s is left in %q", raw, k, clean)
				}
			}
			switch tok.Data {
			case "script", "style", "iframe", "img", "a", "form", "input", "link", "meta", "base", "svg", "math", "object", "embed", "title", "textarea", "noscript":
				if typ != html.TextToken {
					t.Fatalf("%q: <%s> is left in %q", raw, tok.Data, clean)
				}
			}
		}
	})
}
