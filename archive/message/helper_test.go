package message

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// parse reads a message whose lines end in \n, or in \r\n, in the source.
func parse(t testing.TB, s string) *Message {
	t.Helper()
	m, err := Parse(strings.NewReader(s), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// crlf gives lines their canonical ends.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// header is a header that says no more than it must.
const header = "From: a@x.test\nSubject: s\n"

// paths lists the parts as path:type.
func paths(m *Message) string {
	var list []string
	for _, p := range m.Parts {
		s := p.Path + ":" + p.Type
		if p.Attachment {
			s += "*"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

// corpus gives the messages of ../shared/corpus/NAME.tar.zst, unpacked by bench/corpus.sh. Where they are absent the test is skipped, but
// never in CI.
func corpus(t testing.TB, name string, suffixes ...string) []string {
	t.Helper()
	shared := os.Getenv("HOLDFAST_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	missing := t.Skipf
	if os.Getenv("CI") != "" {
		missing = t.Fatalf
	}
	archive := filepath.Join(shared, "corpus", name+".tar.zst")
	if _, err := os.Stat(archive); err != nil {
		missing("the shared corpus is absent (HOLDFAST_SHARED says where it is): %v", err)
	}
	dir := unpack(t, archive, missing)
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		for _, s := range suffixes {
			if err == nil && strings.HasSuffix(path, s) {
				files = append(files, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("%s holds no message", archive)
	}
	return files
}
