package message

import (
	"strings"
	"testing"
)

func TestHTMLToText(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"text", "hello", "hello\n"},
		{"inline elements join", "un<b>break</b>able", "unbreakable\n"},
		{"blocks part", "<p>one</p><p>two</p>three<br>four<div>five</div>six", "one\ntwo\nthree\nfour\nfive\nsix\n"},
		{"white space", "  one \n\t two&nbsp;three  ", "one two\u00a0three\n"},
		{"table", "<table><tr><td>a</td><td>b</td></tr><tr><th>c<td>d</table>", "a\tb\nc\td\n"},
		{"list", "<ul><li>one<li>two</ul>", "one\ntwo\n"},
		{"entities", "caf&eacute; &lt;b&gt; &#8364; &#x41; &amp &bogus;", "café <b> € A & &bogus;\n"},
		{"script and style", "a<script>x()</script>b<style>p{}</style>c", "abc\n"},
		{"comment", "a<!-- secret -->b", "ab\n"},
		{"conditional comment", "a<!--[if mso]><p>b</p><![endif]-->c", "ac\n"},
		{"title", "<html><head><title>T</title></head><body>b</body></html>", "T\nb\n"},
		{"hidden text is evidence", `<div style="display:none">x</div><span hidden>y</span><font color=white size=1>z</font>`, "x\nyz\n"},
		{"picture", `see <img src=x alt="our logo" title='t'>!`, "see our logo t !\n"},
		{"link", `<a href="http://x.test/">here</a>`, "here\n"},
		{"preformatted", "<pre>one\n  two</pre>", "one\ntwo\n"},
		{"form", "<textarea>a<b>c</textarea><option>d<option>e", "ac\nd\ne\n"},
		{"noscript and iframe", "<noscript><p>a</p></noscript><iframe>b</iframe>", "a\nb\n"},
		{"xmp and plaintext", "<xmp>a <i>b</xmp><plaintext>c <i>d", "a b\nc d\n"},
		{"tags that do not close", "<p>one <b two", "one\n"},
		{"stray ends", "</p></b>one</div>", "one\n"},
		{"less than", "1 < 2 > 0 <3", "1 < 2 > 0 <3\n"},
		{"script that does not close", "one<script>two <b>three</b>", "onetwo three\n"},
		{"style that does not close", "one<style>p{} <script>two", "onep{} two\n"},
		{"title that does not close", "<title>one <p>two", "one\ntwo\n"},
		{"script within style", "a<style><script></style>b<script>c</script>d", "abd\n"},
		{"self-closing script", "a<script/>b</script>c", "abc\n"},
		{"capitals", "<P>one<SCRIPT>x</SCRIPT><BR>two", "one\ntwo\n"},
		{"wide characters", "<p>東<b>京</b></p><p>한국</p>", "東京\n한국\n"},
		{"CDATA and declarations", "<!DOCTYPE html><?xml version=1?><![CDATA[x]]>a", "a\n"},
	} {
		if got := htmlToText(c.in); got != c.want {
			t.Errorf("%s: %q: got %q, want %q", c.name, c.in, got, c.want)
		}
	}
}

func TestHTMLNesting(t *testing.T) {
	const n = 200_000
	if got := htmlToText(strings.Repeat("<div>", n) + "deep" + strings.Repeat("</div>", n)); got != "deep\n" {
		t.Errorf("got %.100q", got)
	}
}

func TestMetaCharset(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`<meta charset="UTF-8">`, "utf-8"},
		{`<META HTTP-EQUIV=x CONTENT="text/html; charset=KOI8-R">`, "koi8-r"},
		{`<meta name=x><meta charset=big5/>`, "big5"},
		{`<p>charset=utf-8`, ""},
		{`<meta charset=`, ""},
		{``, ""},
	} {
		if got := metaCharset(c.in); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func BenchmarkHTMLToText(b *testing.B) {
	s := strings.Repeat("<tr><td class=\"x\" style=\"color:red\"><p>The quick brown <b>fox</b> &amp; the lazy dog</p></td></tr>\n", 100)
	b.SetBytes(int64(len(s)))
	b.ReportAllocs()
	for b.Loop() {
		htmlToText(s)
	}
}
