package message

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

const twoLevels = header + "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n" +
	"caf=E9\n--b\nContent-Type: message/rfc822\n\nSubject: inner\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\ninner text\n--i\n" +
	"Content-Type: image/png; name=a.png\nContent-Transfer-Encoding: base64\n\niVBORw==\n--i--\n--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" +
	"U3ViamVjdDogaW5uZXIKCnR3bw==\n--b--\n"

func TestOpenPart(t *testing.T) {
	m := parse(t, twoLevels)
	want := map[string]string{
		"1":   "caf\xe9",
		"2":   "Subject: inner\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\ninner text\n--i\nContent-Type: image/png; name=a.png\nContent-Transfer-Encoding: base64\n\niVBORw==\n--i--",
		"2.1": "inner text", "2.2": "\x89PNG",
		"3": "Subject: inner\n\ntwo", "3.1": "two",
	}
	if len(m.Parts) != len(want) {
		t.Fatalf("parts %s", paths(m))
	}
	for _, p := range m.Parts {
		r, part, err := OpenPart(iotest.OneByteReader(strings.NewReader(twoLevels)), p.Path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(iotest.HalfReader(r))
		if err != nil || string(got) != want[p.Path] {
			t.Errorf("part %s: %q, %v", p.Path, got, err)
		}
		if part.Size != -1 {
			t.Errorf("part %s has a size before it was read", p.Path)
		}
		if part.Size = p.Size; part != p || int64(len(got)) != p.Size {
			t.Errorf("part %+v, not %+v", part, p)
		}
	}
	for _, path := range []string{"", "0", "4", "1.1", "2.3", "2.1.1", "x", "1 "} {
		if _, _, err := OpenPart(strings.NewReader(twoLevels), path); !errors.Is(err, ErrNoPart) {
			t.Errorf("part %q: %v", path, err)
		}
	}
}

func TestOpenPartErrors(t *testing.T) {
	broken := errors.New("broken")
	cut := strings.Index(twoLevels, "caf") + 2
	src := func(n int) io.Reader { return io.MultiReader(strings.NewReader(twoLevels[:n]), errReader{broken}) }
	if _, _, err := OpenPart(src(20), "1"); !errors.Is(err, broken) {
		t.Errorf("before the part: %v", err)
	}
	r, _, err := OpenPart(src(cut), "1")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); !errors.Is(err, broken) {
		t.Errorf("within the part: %q, %v", b, err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, broken) {
		t.Errorf("again: %v", err)
	}
}

// TestOpenPartStreams: a large part is not held in memory, and what follows it is not read.
func TestOpenPartStreams(t *testing.T) {
	src := &endless{crlf(header + "Content-Type: application/zip\nContent-Transfer-Encoding: base64\n\n"), 64 << 20}
	r, _, err := OpenPart(src, "1")
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 4096))
	runtime.ReadMemStats(&after)
	if err != nil || n < 40<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
		t.Errorf("%d bytes were allocated", allocated)
	}

	rest := strings.NewReader(strings.Repeat("x\n", lineBuffer))
	r, _, err = OpenPart(io.MultiReader(strings.NewReader(twoLevels), rest), "1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	if rest.Len() == 0 {
		t.Error("all was read for the first part")
	}
}

// TestOpenCorpus: every attachment of the hard messages opens with the size that Parse gave.
func TestOpenCorpus(t *testing.T) {
	opened := 0
	for _, file := range corpus(t, "torture", ".msg", ".eml") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		opened += openAll(t, raw)
	}
	if opened < 100 {
		t.Errorf("only %d parts were opened", opened)
	}
}

// openAll opens every part of a message and compares its size.
func openAll(t *testing.T, raw []byte) int {
	t.Helper()
	m, err := Parse(bytes.NewReader(raw), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range m.Parts {
		if seen[p.Path] {
			t.Errorf("two parts %s", p.Path)
		}
		seen[p.Path] = true
		r, _, err := OpenPart(bytes.NewReader(raw), p.Path)
		if err != nil {
			t.Errorf("part %+v of %s: %v", p, paths(m), err)
			continue
		}
		n, err := io.Copy(io.Discard, r)
		if err != nil || n != p.Size {
			t.Errorf("part %s: %d bytes, not %d: %v; %s %q", p.Path, n, p.Size, err, paths(m), m.Problems)
		}
	}
	return len(m.Parts)
}
