package message

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// work parses a message and gives the steps that it took: lines, copies of 64 bytes and comparisons of boundaries.
func work(t *testing.T, mail string, l Limits) (*Message, int64) {
	t.Helper()
	w := newWalker(l.withDefaults())
	lines := newLines(strings.NewReader(mail))
	defer lines.free()
	for {
		line, start, err := lines.next()
		if err != nil {
			return w.finish(), w.work
		}
		w.line(line, start)
	}
}

// hostile are messages made to be slow, of about n bytes.
var hostile = []struct {
	name string
	mail func(n int) string
}{
	{"unclosed nested multiparts", func(n int) string {
		var b strings.Builder
		b.WriteString(header)
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		return b.String() + "\nfindme\n"
	}},
	{"nesting with the boundaries alike", func(n int) string {
		long := strings.Repeat("b", 200)
		var b strings.Builder
		b.WriteString(header)
		for i := range 40 {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%s%d\n\n--%s%d\n", long, i, long, i)
		}
		b.WriteString("\n")
		for b.Len() < n {
			b.WriteString("--" + long + "\n")
		}
		return b.String() + "findme\n"
	}},
	{"many parts", func(n int) string {
		return header + "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", n/7) + "findme\n"
	}},
	{"many ends", func(n int) string {
		return header + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nfindme\n" + strings.Repeat("--b--\nx\n", n/8)
	}},
	{"nested messages", func(n int) string {
		return header + strings.Repeat("Content-Type: message/rfc822\n\n", n/30) + "\nfindme\n"
	}},
	{"nested digests", func(n int) string {
		return header + strings.Repeat("Content-Type: multipart/digest; boundary=b\n\n--b\n\n", n/49) + "findme\n"
	}},
	{"encoded-words that do not end", func(n int) string {
		return "From: a@x.test\nSubject: findme " + strings.Repeat("=?x", n/3) + "?=\n\nfindme\n"
	}},
	{"RFC 2231 segments", func(n int) string {
		var b strings.Builder
		b.WriteString(header + "Content-Type: text/plain")
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, ";\n name*%d=x", i)
		}
		return b.String() + "\n\nfindme\n"
	}},
	{"fields", func(n int) string { return header + strings.Repeat("a:\n", n/3) + "\nfindme\n" }},
	{"lines that are no fields", func(n int) string { return header + strings.Repeat("nothing\na:\n", n/11) + "\nfindme\n" }},
	{"quotes in parameters", func(n int) string {
		return header + "Content-Type: text/plain; x=" + strings.Repeat("\";", n/2) + "\n\nfindme\n"
	}},
	{"comments in addresses", func(n int) string {
		return "From: findme@x.test, " + strings.Repeat("(", n) + "\nTo: " + strings.Repeat("<", n) + "\nCc: " + strings.Repeat("a@ ", n/3) + "\n\nfindme\n"
	}},
	{"addresses with quotes", func(n int) string {
		return "From: findme@x.test, " + strings.Repeat(`"a" <`, n/5) + "\nTo: " + strings.Repeat("\\\"", n/2) + "\n\nfindme\n"
	}},
	{"one line", func(n int) string { return header + "\n" + strings.Repeat("x", n) + "\nfindme\n" }},
	{"candidates for a boundary", func(n int) string {
		return header + "Content-Type: multipart/mixed\n\n" + strings.Repeat("--x\n", n/4) + "findme\n"
	}},
	{"tags that do not close", func(n int) string {
		return header + "Content-Type: text/html\n\nfindme " + strings.Repeat("<a <b", n/5)
	}},
	{"nested tags", func(n int) string {
		return header + "Content-Type: text/html\n\n" + strings.Repeat("<div>", n/5) + "findme"
	}},
	{"scripts that do not close", func(n int) string {
		return header + "Content-Type: text/html\n\nfindme" + strings.Repeat("<script>", n/8)
	}},
	{"alternatives", func(n int) string {
		return header + "Content-Type: multipart/alternative; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 500) + "--b\n\nfindme " + strings.Repeat("y\n", n/2) + "--b--\n"
	}},
	{"nested alternatives", func(n int) string {
		var b strings.Builder
		b.WriteString(header)
		for i := range 31 {
			fmt.Fprintf(&b, "Content-Type: multipart/alternative; boundary=b%d\n\n--b%d\nContent-Type: text/html\n\nx\n--b%d\n", i, i, i)
		}
		return b.String() + "\n" + strings.Repeat("findme\n", n/7)
	}},
	{"one line that is no header", func(n int) string { return "findme " + strings.Repeat("x", n) }},
	{"base64 in base64", func(n int) string {
		return header + "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" +
			strings.Repeat("Q29udGVudC1UeXBlOiBtZXNzYWdlL3JmYzgyMgpDb250ZW50LVRyYW5zZmVyLUVuY29kaW5nOiBiYXNlNjQKCg==\n", n/90) + "ZmluZG1lCg==\n"
	}},
}

// TestHostileMessages: the work is linear in the size, and the last word is found, or the message says that it is partial. Ten thousand
// levels and a hundred thousand parts end at once: with a parser that is not linear this test does not end.
func TestHostileMessages(t *testing.T) {
	for _, h := range hostile {
		small, large := h.mail(100_000), h.mail(1_600_000)
		m, a := work(t, small, Limits{})
		if all := m.Text + m.Outside; !strings.Contains(all, "findme") && !m.Partial {
			t.Errorf("%s: not found, and not partial", h.name)
		}
		m.Header.Subject()
		for _, name := range []string{"From", "To", "Cc"} {
			m.Header.AddressList(name)
		}
		_, b := work(t, large, Limits{})
		grown, bytes := float64(b)/float64(a), float64(len(large))/float64(len(small))
		if grown > 2*bytes {
			t.Errorf("%s: %.0f times the bytes are %.0f times the work", h.name, bytes, grown)
		}
		if perByte := float64(b) / float64(len(large)); perByte > 34 { // every byte a dash, compared with 32 boundaries
			t.Errorf("%s: %.1f steps a byte", h.name, perByte)
		}
	}
}

func TestLimits(t *testing.T) {
	parts := header + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n--b\n\nthree\n--b--\n"
	for _, c := range []struct {
		name   string
		limits Limits
		mail   string
		text   string
		all    string // what Text and Outside hold together
	}{
		{"parts", Limits{Parts: 2}, parts, "one\ntwo\n", "three"},
		{"depth", Limits{Depth: 1}, header + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n--a\n\ntwo\n--a--\n",
			"--b\n\none\n--b--\ntwo\n", "one"},
		{"text", Limits{TextBytes: 8}, header + "\nfour\nfive\nsix\n", "four\n", "four"},
		{"header", Limits{HeaderBytes: 100}, "X-Pad: " + strings.Repeat("x", 80) + "\nX-Lost: long enough\nFrom: a@x.test\nSubject: kept all the same\n\nbody\n", "body\n", "body"},
		{"one field", Limits{HeaderBytes: 100}, "Subject: " + strings.Repeat("x ", 200) + "\nFrom: a@x.test\n\nbody\n", "body\n", "body"},
	} {
		m, err := Parse(strings.NewReader(c.mail), c.limits)
		if err != nil {
			t.Fatal(err)
		}
		if m.Text != c.text || !m.Partial || len(m.Problems) == 0 || !strings.Contains(m.Text+m.Outside, c.all) {
			t.Errorf("%s: text %q outside %q partial %v %q", c.name, m.Text, m.Outside, m.Partial, m.Problems)
		}
		if m.Header.Raw("From") != "a@x.test" {
			t.Errorf("%s: the sender is lost: %q", c.name, m.Header.Fields())
		}
	}
	m, err := Parse(strings.NewReader(parts), Limits{Parts: 3, Depth: 1})
	if err != nil || m.Partial {
		t.Errorf("within the limits, and partial: %q %v", m.Problems, err)
	}
}

// endless gives n bytes of a base64 attachment without holding them.
type endless struct {
	head string
	n    int64
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.head) > 0 {
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	}
	if e.n <= 0 {
		return 0, io.EOF
	}
	line := strings.Repeat("QUJD", 19) + "\r\n"
	n := 0
	for n+len(line) <= len(p) && e.n > 0 {
		n += copy(p[n:], line)
		e.n -= int64(len(line))
	}
	return n, nil
}

// TestMemory: an attachment of 64 MB is counted, not kept.
func TestMemory(t *testing.T) {
	src := &endless{crlf(header + "Content-Type: application/zip\nContent-Transfer-Encoding: base64\n\n"), 64 << 20}
	lines := (src.n + 77) / 78
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := Parse(src, Limits{})
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if m.Parts[0].Size != lines*57 {
		t.Errorf("%d bytes, not %d", m.Parts[0].Size, lines*57)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
		t.Errorf("%d bytes were allocated", allocated)
	}
}

// TestMemoryOfLongLine: nor is a line without an end, wherever it stands.
func TestMemoryOfLongLine(t *testing.T) {
	for _, head := range []string{"", "Subject: ", "nothing ", header + "\n", header + "Content-Type: multipart/mixed; boundary=b\n\n--b\n x"} {
		src := io.MultiReader(strings.NewReader(head), io.LimitReader(letters{}, 32<<20))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Parse(src, Limits{HeaderBytes: 1 << 16, TextBytes: 1 << 16})
		runtime.ReadMemStats(&after)
		if err != nil || !m.Partial {
			t.Errorf("%q: partial %v, %v", head, m.Partial, err)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 3<<20 {
			t.Errorf("%q: %d bytes were allocated", head, allocated)
		}
	}
}

// letters is a line without an end.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestReaderError: what was read until then is there.
func TestReaderError(t *testing.T) {
	broken := errors.New("broken")
	m, err := Parse(io.MultiReader(strings.NewReader(header+"\none\ntwo"), errReader{broken}), Limits{})
	if !errors.Is(err, broken) || m == nil || m.Text != "one\ntwo\n" || !m.Partial {
		t.Errorf("%+v, %v", m, err)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }
