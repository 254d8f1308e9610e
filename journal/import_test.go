package journal

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// found reads all messages: "origin: text" or "origin: error".
func found(t *testing.T, dir string, paths ...string) []string {
	t.Helper()
	var got []string
	for m, err := range Messages(paths...) {
		origin := strings.TrimPrefix(m.Origin, dir+"/")
		if err != nil {
			if errors.Is(err, ErrNotMail) {
				err = ErrNotMail
			}
			got = append(got, origin+": error: "+strings.ReplaceAll(err.Error(), dir+"/", ""))
			continue
		}
		r, err := m.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		got = append(got, origin+": "+string(b))
	}
	return got
}

func TestMessages(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a/1.eml", "one\nunix\n")
	write(t, dir+"/a/2.EML", "From here on\r\nit is a message\r\n")
	write(t, dir+"/a/inbox", "From a@b Mon Jan  1 00:00:00 2001\nSubject: x\n\nfirst\n\nFrom c@d Mon Jan  1 00:00:00 2001\nsecond\n>From me\n\n")
	write(t, dir+"/a/notes.txt", "not mail")
	write(t, dir+"/b/cur/1:2,S", "From: seen\n")
	write(t, dir+"/b/new/2", "From new\n")
	write(t, dir+"/b/tmp/3", "half a mess")
	write(t, dir+"/b/dovecot.index", "x")
	write(t, dir+"/b/.Sent/cur/4", "sent\n")
	write(t, dir+"/b/.Sent/new/.keep", "")
	write(t, dir+"/b/.Sent/tmp/5", "half")
	write(t, dir+"/c/cur/6", "no new, no tmp\n")
	write(t, dir+"/named", "Subject: by name\n")
	if err := os.Symlink(dir+"/a", dir+"/c/link"); err != nil {
		t.Fatal(err)
	}
	got := found(t, dir, dir+"/a", dir+"/b", dir+"/c", dir+"/named", dir+"/absent")
	want := []string{
		"a/1.eml: one\nunix\n",
		"a/2.EML: From here on\r\nit is a message\r\n",
		"a/inbox#1: Subject: x\n\nfirst\n",
		"a/inbox#2: second\nFrom me\n",
		"a/notes.txt: error: not a message or mailbox",
		"b/.Sent/cur/4: sent\n",
		"b/cur/1:2,S: From: seen\n",
		"b/dovecot.index: error: not a message or mailbox",
		"b/new/2: From new\n",
		"c/cur/6: no new, no tmp\n",
		"c/link: error: not a message or mailbox",
		"named: Subject: by name\n",
		"absent: error: stat absent: no such file or directory",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for range Messages(dir+"/a", dir+"/b") {
		break // must not go on
	}
}

// mboxOf reads an mbox.
func mboxOf(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mbox")
	write(t, path, text)
	got := found(t, path, path)
	for i := range got {
		origin := fmt.Sprintf("%s#%d: ", path, i+1)
		if !strings.HasPrefix(got[i], origin) {
			t.Errorf("origin of %q", got[i])
		}
		got[i] = strings.TrimPrefix(got[i], origin)
	}
	return got
}

func TestMbox(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	for _, tc := range []struct {
		in   string
		want []string
	}{
		{"From a\n", []string{""}},
		{"From a", []string{""}},
		{"From a\nb", []string{"b"}},
		{"From a\nb\n", []string{"b\n"}},
		{"From a\nb\n\n", []string{"b\n"}},
		{"From a\nb\n\n\n", []string{"b\n\n"}},
		{"From a\nb\n\nc\n\n", []string{"b\n\nc\n"}},
		{"From a\nb\nFrom c\n\n", []string{"b\nFrom c\n"}},
		{"From a\nb\n\nFrom c\nd\n\n", []string{"b\n", "d\n"}},
		{"From a\r\nb\r\n\r\nFrom c\r\nd\r\n\r\n", []string{"b\r\n", "d\r\n"}},
		{"From a\n\nFrom b\n\n", []string{"", ""}},
		{"From a\n>From b\n>>From c\n> From d\n>Fromage\nx>From e\n\n", []string{"From b\n>From c\n> From d\n>Fromage\nx>From e\n"}},
		{"From a\n" + long + ">From \n\nFrom " + long + "\n" + long + "\n\n", []string{long + ">From \n", long + "\n"}},
		{"From a\nb\n \nFrom c\n\n", []string{"b\n \nFrom c\n"}},
	} {
		if got := mboxOf(t, tc.in); !slices.Equal(got, tc.want) {
			t.Errorf("%.80q: got %.80q, want %.80q", tc.in, got, tc.want)
		}
	}
}

// What is written as mboxrd comes back as it was.
func TestMboxrd(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	lines := []string{"", "", "From ", "From me", ">From me", ">>From me", "From: you", "text", "\r", ".", strings.Repeat("y", 70_000)}
	for range 100 {
		var file strings.Builder
		var want []string
		for range 1 + rng.IntN(5) {
			file.WriteString("From x Mon Jan  1 00:00:00 2001\n")
			var m strings.Builder
			for range rng.IntN(8) {
				line := lines[rng.IntN(len(lines))] + "\n"
				m.WriteString(line)
				if strings.HasPrefix(strings.TrimLeft(line, ">"), fromLine) {
					line = ">" + line
				}
				file.WriteString(line)
			}
			file.WriteString("\n")
			want = append(want, m.String())
		}
		if got := mboxOf(t, file.String()); !slices.Equal(got, want) {
			t.Fatalf("got\n%.500q\nwant\n%.500q", got, want)
		}
	}
}

func TestMboxMessageIsReadInItsTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mbox")
	write(t, path, "From a\nb\n\nFrom c\nd\n\n")
	var all []Message
	var first io.Reader
	for m, err := range Messages(path) {
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, m); first == nil {
			first, _ = m.Open()
		}
	}
	if n, err := first.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errPassed) {
		t.Errorf("%d, %v", n, err)
	}
	for _, m := range all {
		if _, err := m.Open(); !errors.Is(err, errPassed) {
			t.Errorf("%s: %v", m.Origin, err)
		}
	}
}

// No byte of an mbox is lost but From lines, empty lines before them and at the end, and quotes.
func FuzzMbox(f *testing.F) {
	f.Add("From a\nb\n\nFrom c\n>From d\n\n")
	f.Add("From a\r\n\r\n\r\nFrom c\r\n")
	f.Add("From \n\n>>From \nFrom")
	f.Fuzz(func(t *testing.T, rest string) {
		text := fromLine + rest
		messages := mboxOf(t, text)
		if len(messages) == 0 {
			t.Fatalf("%q: none", text)
		}
		var want, got strings.Builder
		blank := true
		lines := strings.SplitAfter(text, "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		for _, line := range lines {
			switch {
			case blank && strings.HasPrefix(line, fromLine):
			case strings.HasPrefix(strings.TrimLeft(line, ">"), fromLine) && line[0] == '>':
				want.WriteString(line[1:])
			default:
				want.WriteString(line)
			}
			blank = line == "\n" || line == "\r\n"
		}
		for _, m := range messages {
			got.WriteString(m)
		}
		squeeze := func(s string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(s) }
		if squeeze(got.String()) != squeeze(want.String()) {
			t.Errorf("%q: got %q, want %q", text, got.String(), want.String())
		}
		if n := want.Len() - got.Len(); n < 0 || n > 2*len(messages) {
			t.Errorf("%q: %d bytes fewer for %d messages", text, n, len(messages))
		}
	})
}

func TestImport(t *testing.T) {
	c := &fakeCustody{t: t}
	id, err := Import(t.Context(), c, "a/inbox#1", nil, strings.NewReader("unix\nnewlines\n"))
	if err != nil {
		t.Fatal(err)
	}
	env := c.envelopes[0]
	if env.ID != id || env.Source != record.SourceImport || env.Completeness != record.HeaderOnly || env.Origin != "a/inbox#1" ||
		env.Mode != "" || env.MailFrom != nil || env.Client != nil || string(c.bodies[0]) != "unix\nnewlines\n" {
		t.Errorf("%+v %q", env, c.bodies[0])
	}
	_, err = Import(t.Context(), c, "x.eml", nil, errReader{io.ErrUnexpectedEOF})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "x.eml") {
		t.Errorf("%v", err)
	}
}

// Reports in an import count where they are asked for, and only there.
func TestImportOfReports(t *testing.T) {
	raw := fixture(t, "exchange-expanded")
	c := &fakeCustody{t: t}
	for _, formats := range [][]string{nil, {"google"}, {"exchange"}} {
		if _, err := Import(t.Context(), c, "x.eml", formats, strings.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
	}
	for _, env := range c.envelopes[:2] {
		if env.Report != nil || env.Rcpt != nil || env.Completeness != record.HeaderOnly {
			t.Errorf("not asked for: %+v", env)
		}
	}
	if env := c.envelopes[2]; env.Report == nil || len(env.Rcpt) != 5 || env.MailFrom.Address != "anna@corp.example" || env.Transport != nil ||
		env.Completeness != record.Full || string(c.bodies[2]) != raw {
		t.Errorf("%+v", env)
	}
}
