package message

import (
	"strings"
)

// assemble makes the texts of the message from the leaves.
func (w *walker) assemble(root *node) {
	w.charset = w.guessCharset(root.header)
	w.msg.Header = root.header
	w.msg.Header.charset = w.charset
	w.msg.Outside = w.clean(string(w.outside), w.charset)
	if w.target == "" {
		var b strings.Builder
		w.write(&b, root)
		w.msg.Text = b.String()
		w.msg.AttachedText = w.attached.String()
	}
	if strings.Contains(w.msg.Text, "-----BEGIN PGP ") {
		if strings.Contains(w.msg.Text, "-----BEGIN PGP MESSAGE-----") {
			w.protect(PGPEncrypted)
		}
		if strings.Contains(w.msg.Text, "-----BEGIN PGP SIGNED MESSAGE-----") {
			w.protect(PGPSigned)
		}
	}
}

// guessCharset gives the charset of raw 8-bit text that declares none: one that the message declares elsewhere.
func (w *walker) guessCharset(h Header) string {
	for _, p := range w.msg.Parts {
		if p.Charset != "" && !shifted(p.Charset) && p.Charset != "us-ascii" {
			return p.Charset
		}
	}
	for _, name := range []string{"Subject", "From", "To"} {
		if raw := h.Raw(name); strings.Contains(raw, "=?") {
			if charset, _, _, ok := cutWord(raw[strings.Index(raw, "=?"):]); ok && !shifted(charset) {
				return strings.ToLower(charset)
			}
		}
	}
	return ""
}

// write writes the text of a node, whole lines. Nodes are nested no deeper than Limits.Depth.
func (w *walker) write(b *strings.Builder, n *node) {
	switch n.kind {
	case plainText, htmlText, rawText:
		if n.attached {
			b = &w.attached
		}
		writeLines(b, w.leaf(n))
	case alternative:
		if w.alternatives++; w.alternatives <= maxAlternatives {
			w.writeAlternatives(b, n)
			w.alternatives--
			return
		}
		w.alternatives--
		w.writeChildren(b, n)
	case wrapped:
		w.writeWrapped(b, n)
	case multipart, nested:
		w.writeChildren(b, n)
	}
}

func (w *walker) writeChildren(b *strings.Builder, n *node) {
	for _, child := range n.children {
		if n.kind == nested {
			child.header.charset = w.charset
			writeHeader(b, child.header)
		}
		w.write(b, child)
	}
}

// writeWrapped writes what TNEF says. Its bodies, the first child, were often said by the parts before it: of them only what is new.
func (w *walker) writeWrapped(b *strings.Builder, n *node) {
	if n.parent != nil && n.parent.kind == wrapped {
		b.WriteString(n.said)
		w.writeChildren(b, n)
		return
	}
	var t strings.Builder
	t.WriteString(n.said)
	if len(n.children) > 0 {
		w.write(&t, n.children[0])
	}
	if w.unwrapped++; b.Len() == 0 || w.unwrapped > maxAlternatives {
		b.WriteString(t.String())
	} else {
		said := newSaid()
		said.add(b.String())
		for line := range strings.Lines(t.String()) {
			if !said.has(line) {
				b.WriteString(line)
				said.add(line)
			}
		}
	}
	for _, child := range n.children[min(1, len(n.children)):] {
		w.write(b, child)
	}
}

// maxAlternatives is how many alternatives, one within the other, are compared: each comparison reads their text again. Deeper ones are
// all kept.
const maxAlternatives = 3

// writeAlternatives writes the plain text, or where there is none the last alternative, and of the others what that does not say.
func (w *walker) writeAlternatives(b *strings.Builder, n *node) {
	texts := make([]string, len(n.children))
	base := -1
	for i, child := range n.children {
		var t strings.Builder
		w.write(&t, child)
		texts[i] = t.String()
		if child.kind == plainText && child.media.typ == "text/plain" && !child.attached && base < 0 {
			base = i
		}
	}
	if base < 0 {
		base = len(texts) - 1
	}
	if base < 0 {
		return
	}
	b.WriteString(texts[base])
	if len(texts) == 1 {
		return
	}
	said := newSaid()
	said.add(texts[base])
	for i, t := range texts {
		if i == base {
			continue
		}
		for line := range strings.Lines(t) {
			if !said.has(line) {
				b.WriteString(line)
				said.add(line)
			}
		}
	}
}

// writeHeader writes what a reader of a nested message sees of its header.
func writeHeader(b *strings.Builder, h Header) {
	for _, name := range []string{"Subject", "From", "To", "Cc", "Date"} {
		for _, v := range h.Values(name) {
			if v != "" {
				b.WriteString(name + ": " + v + "\n")
			}
		}
	}
}

func writeLines(b *strings.Builder, s string) {
	b.WriteString(s)
	if s != "" && s[len(s)-1] != '\n' {
		b.WriteByte('\n')
	}
}

// own says that a leaf is of the message itself, or of the nested message that is all of it.
func (n *node) own() bool {
	for p := n.parent; p != nil; p = p.parent {
		if p.kind == nested && p.parent != nil || p.kind == wrapped && p.parent != nil && p.parent.kind == wrapped {
			return false
		}
	}
	return true
}

// leaf gives the text of a text leaf.
func (w *walker) leaf(n *node) string {
	raw := string(w.text[n.from:n.to])
	label := n.media.charset
	if n.kind == htmlText {
		if label == "" {
			if label = metaCharset(raw); label == "" {
				label = w.charset
			}
		}
		raw = w.clean(raw, label)
		if w.msg.htmlPart == 0 && !n.attached && n.media.typ != "text/enriched" && n.media.typ != "text/richtext" && n.own() {
			w.msg.html, w.msg.htmlPart = raw, n.part+1
		}
		return htmlToText(raw)
	}
	if label == "" {
		label = w.charset
	}
	return w.clean(raw, label)
}

// clean gives text in UTF-8, with \n at the end of lines and without NULs.
func (w *walker) clean(raw, label string) string {
	if strings.IndexByte(raw, 0) >= 0 {
		if label == "" || !shifted(label) {
			if guess := guessUTF16(raw); guess != "" {
				label = guess
				w.problem("UTF-16 that is not declared")
			} else {
				raw = strings.ReplaceAll(raw, "\x00", "")
			}
		}
	}
	s, problem := decodeCharset(raw, label)
	if problem != "" {
		w.problem(problem)
	}
	s = strings.ReplaceAll(s, "\x00", "")
	if strings.IndexByte(s, '\r') >= 0 {
		s = strings.ReplaceAll(s, "\r\n", "\n")
		s = strings.ReplaceAll(s, "\r", "\n")
	}
	return s
}

// guessUTF16 tells UTF-16 of mostly Latin text by where its NULs stand; empty: it is none.
func guessUTF16(s string) string {
	n := min(len(s), 1024) &^ 1
	var even, odd int
	for i := 0; i < n; i += 2 {
		if s[i] == 0 {
			even++
		}
		if s[i+1] == 0 {
			odd++
		}
	}
	switch {
	case odd > n/4 && even < n/16:
		return "utf-16le"
	case even > n/4 && odd < n/16:
		return "utf-16be"
	}
	return ""
}
