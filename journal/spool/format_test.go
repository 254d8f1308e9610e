package spool

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The program in FORMAT.md, which knows no more than that page, reads what was written.
func TestFormatIsWhatItSays(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3 is missing: install Debian's python3-minimal")
		}
		t.Skip("python3 is missing: install Debian's python3-minimal")
	}
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(page), "```python\n")
	program, _, ok := strings.Cut(program, "```")
	if !ok {
		t.Fatal("FORMAT.md has no program")
	}
	cfg := testConfig(filepath.Join(t.TempDir(), "spool"))
	s := mustOpen(t, cfg, Options{})
	for i := range 30 {
		accept(t, s, relayed(), mail(uint64(i), 100+i*300))
	}
	mustClose(t, s)
	out := t.TempDir()
	report, err := exec.Command(python, "-c", program, cfg.Dir, out).CombinedOutput()
	if err != nil || bytes.Count(report, []byte("good\n")) != 30 {
		t.Fatalf("%v\n%s", err, report)
	}
	s = mustOpen(t, cfg, Options{})
	for _, it := range all(t, s) {
		body, err := os.ReadFile(filepath.Join(out, fmt.Sprint(it.Seq)+".eml"))
		if want, werr := bodyOf(it); err != nil || werr != nil || !bytes.Equal(body, want) {
			t.Error(it.Seq, err, werr)
		}
		if env, err := os.ReadFile(filepath.Join(out, fmt.Sprint(it.Seq)+".json")); err != nil || !bytes.Equal(env, it.EnvelopeJSON) {
			t.Error(it.Seq, err)
		}
	}
	mustClose(t, s)
}
