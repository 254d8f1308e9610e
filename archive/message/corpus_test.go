package message

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	gomail "github.com/emersion/go-message/mail"
	"github.com/klauspost/compress/zstd"
)

var unpacked sync.Map // by archive: the folder

// unpack unpacks an archive once for all tests of a run.
func unpack(t testing.TB, archive string, missing func(string, ...any)) string {
	t.Helper()
	if dir, ok := unpacked.Load(archive); ok {
		return dir.(string)
	}
	f, err := os.Open(archive)
	if err != nil {
		missing("%v", err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	dir, err := os.MkdirTemp(scratch, "")
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			continue
		}
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o777)
		}
		if err == nil {
			err = os.WriteFile(path, b, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	unpacked.Store(archive, dir)
	return dir
}

var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "message-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// TestCorpus: every real message is read whole, with its subject, sender, date and text.
func TestCorpus(t *testing.T) {
	var noDate, noFrom, noText int
	for _, file := range corpus(t, "mail", ".eml") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse(bytes.NewReader(raw), Limits{})
		if err != nil || m.Partial {
			t.Errorf("%s: partial %v, %v, %v", file, m.Partial, m.Problems, err)
		}
		// What of the subject is plain can be found in it.
		if plain := regexp.MustCompile(`(?mi)^Subject:[ \t]*([ -~]+)\r$`).FindSubmatch(raw); plain != nil && !bytes.Contains(plain[1], []byte("=?")) {
			for _, word := range strings.Fields(string(plain[1])) {
				if !strings.Contains(m.Header.Subject(), word) {
					t.Errorf("%s: %q is not in subject %q", file, word, m.Header.Subject())
				}
			}
		}
		if m.Header.Date().IsZero() {
			noDate++
		}
		if len(m.Header.AddressList("From")) == 0 {
			noFrom++
		}
		if strings.TrimSpace(m.Text) == "" {
			noText++
		}
	}
	// Three messages name no sender; six are one picture, or have nothing but an attachment.
	if noDate > 0 || noFrom > 3 || noText > 6 {
		t.Errorf("%d without a date, %d without a sender, %d without text", noDate, noFrom, noText)
	}
}

// TestCorpusAddresses: whatever a strict parser reads, this one reads the same.
func TestCorpusAddresses(t *testing.T) {
	compared := 0
	for _, file := range corpus(t, "mail", ".eml") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse(bytes.NewReader(raw), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"From", "To", "Cc", "Reply-To", "Sender"} {
			if value := m.Header.Raw(name); value != "" && len(m.Header.Values(name)) == 1 {
				compared += sameAddresses(t, value, m.Header.AddressList(name))
			}
		}
	}
	if compared < 10_000 {
		t.Errorf("only %d addresses were compared", compared)
	}
}

func sameAddresses(t *testing.T, value string, got []Address) int {
	t.Helper()
	want, err := gomail.ParseAddressList(value)
	if err != nil {
		return 0
	}
	if len(got) != len(want) {
		t.Errorf("%q: %q, not %v", value, got, want)
		return 0
	}
	for i, w := range want {
		// Here a comment is part of the name, encoded-words are decoded wherever they stand, and quotes that mean something are kept.
		name, addr := strings.Join(strings.Fields(decodeWords(w.Name)), " "), decodeWords(w.Address)
		gotName := strings.Join(strings.Fields(got[i].Name), " ")
		if strings.ReplaceAll(got[i].Address, `"`, "") != strings.Trim(addr, "'") || !strings.Contains(gotName, name) {
			t.Errorf("%.200q: %q, not %q %q", value, got[i], w.Name, w.Address)
		}
	}
	return len(want)
}

// TestTorture: the words of every decoded text that comes with the hard messages are found.
func TestTorture(t *testing.T) {
	words := regexp.MustCompile(`[A-Za-z0-9]{3,}`)
	texts := 0
	for _, file := range corpus(t, "torture", ".msg", ".eml") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse(bytes.NewReader(raw), Limits{})
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		all := m.Text + m.AttachedText + m.Outside
		all += m.Header.Get("From")
		decoded, _ := filepath.Glob(strings.TrimSuffix(file, filepath.Ext(file)) + "_decoded_*.txt")
		for _, d := range decoded {
			text, err := os.ReadFile(d)
			if err != nil {
				t.Fatal(err)
			}
			texts++
			// Tags of HTML and of enriched text are no words; a nested message that is shown as text here was read.
			clean := regexp.MustCompile(`(?s)<[^>]*>`).ReplaceAll(text, []byte(" "))
			if bytes.Contains(clean, []byte("MIME-Version:")) {
				continue
			}
			for _, w := range words.FindAll(clean, -1) {
				if !strings.Contains(all, string(w)) {
					t.Errorf("%s: %q of %s is not found", filepath.Base(file), w, filepath.Base(d))
				}
			}
		}
	}
	if texts < 50 {
		t.Errorf("only %d texts were compared", texts)
	}
}

func BenchmarkParse(b *testing.B) {
	var all [][]byte
	size := 0
	for _, file := range corpus(b, "mail", ".eml") {
		raw, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, raw)
		size += len(raw)
	}
	b.SetBytes(int64(size / len(all)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := Parse(bytes.NewReader(all[i%len(all)]), Limits{}); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
