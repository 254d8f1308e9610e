package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/mail"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/ianaindex"
)

// The hardest messages that are to be had, and many files that are none: by import and through the journal listener. Each is archived byte
// for byte, and found.
func TestTortureByImportAndByJournal(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	paths := files(t, corpus(t, "torture"))
	h := install(t, settings{mode: "journal"})
	h.withoutRaceDetector() // it would take five times as long
	h.start()

	want := map[string][]byte{} // by origin
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".eml") || !bytes.HasPrefix(text, []byte("From ")) {
			want[path] = text
			continue
		}
		for i, m := range splitMbox(text) {
			want[fmt.Sprintf("%s#%d", path, i+1)] = m
		}
	}
	ids := map[string]string{} // by origin
	lines := bufio.NewScanner(strings.NewReader(h.run(append([]string{"import", "--json"}, paths...)...)))
	for lines.Scan() {
		var one struct{ ID, Origin string }
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatal(err)
		}
		ids[one.Origin] = one.ID
	}
	if got, expected := slices.Sorted(maps.Keys(ids)), slices.Sorted(maps.Keys(want)); !slices.Equal(got, expected) {
		t.Fatalf("imported %d messages, expected %d:\n%v\n%v", len(got), len(expected), got, expected)
	}
	c := h.dial()
	ways := map[string]int{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want["SMTP "+path] = text
		c.begin(t, "", "journal@archive.test")
		way, reply := "BDAT", ""
		if bytes.HasSuffix(text, []byte("\r\n")) && rng.IntN(2) == 0 {
			way, reply = "DATA", c.data(t, text)
		} else {
			reply = c.bdat(t, rng, text)
		}
		ways[way]++
		if reply[0] != '2' {
			t.Errorf("%s by %s: %q", path, way, reply)
		}
	}
	if ways["DATA"] < 10 || ways["BDAT"] < 10 {
		t.Errorf("sent by %v", ways)
	}
	h.settle()
	found := h.search("")
	if len(found) != len(want) {
		t.Errorf("%d messages were taken, a search for everything finds %d", len(want), len(found))
	}
	bySum := map[string][]string{}
	for _, hit := range found {
		bySum[hit.SHA256] = append(bySum[hit.SHA256], hit.ID)
	}
	asked := 0
	for origin, text := range want {
		all := bySum[hash(text)]
		if strings.HasPrefix(origin, "SMTP ") {
			if len(all) == 0 {
				t.Errorf("%s is not found", origin)
			}
			continue
		}
		id := ids[origin]
		if !slices.Contains(all, id) {
			t.Errorf("%s is not found, or not with its own SHA-256", origin)
		}
		if word := subjectWord(text); word != "" {
			asked++
			hits, _ := h.api("subject:" + word + " (" + sumQuery(text) + ")")
			for _, id := range all {
				if !slices.Contains(hits, id) {
					t.Errorf("%s: subject:%s does not find %s, it finds %v", origin, word, id, hits)
				}
			}
		}
	}
	if asked < 150 {
		t.Errorf("only %d subjects were asked for", asked)
	}
	for sum, list := range bySum {
		for _, id := range list[:1] { // the others are the same bytes to verify --full, which has read them all
			if got := h.fetch(id); hash(got) != sum {
				t.Errorf("%s: other bytes come back", id)
			}
		}
	}
	t.Logf("%d files, %d messages, %d subjects", len(paths), len(want), asked)
	h.mustVerify()
	h.stop()
}

func sumQuery(text []byte) string { return "sha256:" + hash(text) }

// splitMbox is mboxrd by the book, in memory.
func splitMbox(text []byte) (messages [][]byte) {
	var m []byte
	blank := true
	for i, line := range bytes.SplitAfter(text, []byte("\n")) {
		if blank && bytes.HasPrefix(line, []byte("From ")) {
			if i > 0 {
				messages = append(messages, trimBlank(m))
			}
			m, blank = []byte{}, false
			continue
		}
		blank = len(bytes.TrimRight(line, "\r\n")) == 0 && len(line) > 0
		if quoted.Match(line) {
			line = line[1:]
		}
		m = append(m, line...)
	}
	return append(messages, trimBlank(m))
}

var quoted = regexp.MustCompile(`^>+From `)

// trimBlank takes one empty line off the end.
func trimBlank(m []byte) []byte {
	for _, end := range []string{"\r\n", "\n"} {
		if rest, ok := bytes.CutSuffix(m, []byte(end)); ok && (len(rest) == 0 || rest[len(rest)-1] == '\n') {
			return rest
		}
	}
	return m
}

// subjectWord gives a word of a message's subject, where the standard library reads one out of it.
func subjectWord(text []byte) string {
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil || len(m.Header["Subject"]) != 1 {
		return ""
	}
	words := mime.WordDecoder{CharsetReader: func(charset string, in io.Reader) (io.Reader, error) {
		enc, err := ianaindex.MIME.Encoding(charset)
		if err != nil || enc == nil {
			return nil, fmt.Errorf("charset %q", charset)
		}
		return enc.NewDecoder().Reader(in), nil
	}}
	subject, err := words.DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		return ""
	}
	if m := wholeWord.FindStringSubmatch(subject); m != nil {
		return m[1]
	}
	return ""
}

// wholeWord is a word that stands by itself, so that it is a word to the index too.
var wholeWord = regexp.MustCompile(`(?:^|[^\pL\pN\pM])([A-Za-z]{5,})(?:[^\pL\pN\pM]|$)`)

// Malformed mail of our own making, some of it made to cost a parser minutes: archived byte for byte, and found by its id, by its digest,
// and by what text it has.
func TestMalformedMail(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	head := "From: a@b.test\r\nSubject: malformed\r\n"
	nested := func(depth int, end string) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range depth {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String() + "Content-Type: text/plain\r\n\r\nneedle\r\n" + end
	}
	messages := map[string]string{
		"nothing":                       "",
		"one byte":                      "x",
		"a newline":                     "\r\n",
		"no header":                     "\r\nneedle\r\n",
		"no body":                       head,
		"no newline at the end":         head + "\r\nneedle",
		"a header that never ends":      head + "X: " + strings.Repeat("y", 300<<10),
		"no colon":                      "this is no header at all\r\n" + head + "\r\nneedle\r\n",
		"NUL":                           head + "X: \x00\r\n\r\nneedle \x00\x00\r\n",
		"bare newlines":                 "From: a@b.test\nSubject: malformed\rX: y\n\nneedle\r\r\n\n.\n\r.\r\n..\r\n.",
		"8 bit in the header":           "From: \xff\xfe\r\nSubject: malformed \xe4\xf6\xfc\r\n\r\nneedle\r\n",
		"an unknown charset":            head + "Content-Type: text/plain; charset=x-none\r\n\r\nneedle \xe4\r\n",
		"an unknown encoding":           head + "Content-Transfer-Encoding: x-rot13\r\n\r\nneedle\r\n",
		"broken base64":                 head + "Content-Transfer-Encoding: base64\r\n\r\nbmVlZGxl!!!=\r\n==\r\n",
		"no boundary":                   head + "Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nneedle\r\n",
		"a boundary that never ends":    nested(1, ""),
		"unclosed, 30 deep":             nested(30, ""),
		"unclosed, 10,000 deep":         nested(10000, ""),
		"100,000 parts":                 head + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n", 100000) + "--b\r\n\r\nneedle\r\n--b--\r\n",
		"50,000 segments of RFC 2231":   head + "Content-Type: text/plain; " + segments(50000) + "\r\n\r\nneedle\r\n",
		"100,000 Received lines":        strings.Repeat("Received: x\r\n", 100000) + head + "\r\nneedle\r\n",
		"a line of 5 MB":                head + "\r\nneedle " + strings.Repeat("z", 5<<20) + "\r\n",
		"a message in a message in a …": head + strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 2000) + "\r\nneedle\r\n",
		"HTML that never closes":        head + "Content-Type: text/html\r\n\r\n" + strings.Repeat("<div><table><b>", 20000) + "needle",
	}
	h := install(t, settings{mode: "journal"})
	h.start()
	all := make([][]byte, 0, len(messages))
	for name, m := range messages {
		c := h.dial()
		c.begin(t, "a@b.test", "journal@archive.test")
		if reply := c.bdat(t, rng, []byte(m)); reply[0] != '2' {
			t.Errorf("%s: %q", name, reply)
		}
		c.Close()
		all = append(all, []byte(m))
	}
	h.settle()
	h.holdsExactly(all...)
	sums := h.sums()
	for name, m := range messages {
		id := sums[hash([]byte(m))]
		for _, query := range []string{"sha256:" + hash([]byte(m)), "subject:malformed", "needle"} {
			if strings.HasPrefix(query, "subject:") && !strings.Contains(m, "\nSubject: malformed") || query == "needle" && !strings.Contains(m, query) {
				continue
			}
			if got, _ := h.api(query); len(id) != 1 || !slices.Contains(got, id[0]) {
				t.Errorf("%s: %s does not find %v", name, query, id)
			}
		}
		if got, _ := h.api("id:" + id[0]); len(got) != 1 {
			t.Errorf("%s: not found by its id", name)
		}
		if _, status := h.get("/message/" + id[0]); status != 200 {
			t.Errorf("%s: its page is HTTP %d", name, status)
		}
		if _, status := h.get("/api/v1/records/" + url.PathEscape(id[0]) + "/text"); status != 200 {
			t.Errorf("%s: its text is HTTP %d", name, status)
		}
	}
	h.mustVerify()
	h.stop()
}

func segments(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\r\n name*%d*=x;", i)
	}
	return strings.TrimSuffix(b.String(), ";")
}
