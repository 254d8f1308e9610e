package pack

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// need skips where a tool is missing, and fails in CI.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing", tool)
			}
			t.Skipf("%s is missing: apt-get install tar zstd age", tool)
		}
	}
}

func shell(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v\n%s", script, err, stderr.String())
	}
	return string(out)
}

// What FORMAT.md promises to those who come with nothing but standard tools.
func TestStandardTools(t *testing.T) {
	need(t, "tar", "zstd", "age", "sha256sum")
	key := identity(t)
	items := mixed(t, 3_000_000)
	for name, c := range map[string]struct {
		recipients   []age.Recipient
		file, unpack string
	}{
		"plain":     {nil, "p.tar.zst", "tar --zstd -xf p.tar.zst"},
		"encrypted": {[]age.Recipient{identity(t).Recipient(), key.Recipient()}, "p.tar.zst.age", "age -d -i key p.tar.zst.age | tar --zstd -x"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			data, sum := write(t, items, c.recipients...)
			for file, text := range map[string][]byte{c.file: data, "key": []byte(key.String() + "\n")} {
				if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := shell(t, dir, "sha256sum "+c.file); !strings.HasPrefix(got, sum.SHA256.String()) {
				t.Errorf("sha256sum: %s, want %s", got, sum.SHA256)
			}
			shell(t, dir, c.unpack)
			files := 1
			var sums bytes.Buffer
			for _, it := range items {
				want := map[string][]byte{"envelope.json": it.EnvelopeJSON, "act.json": it.ActJSON}
				for _, s := range it.Supplements {
					want[s.Name+".json"] = s.JSON
				}
				if it.Supplement != nil {
					want[it.Supplement.Name+".json"] = it.Supplement.JSON
				}
				for name, text := range want {
					if text == nil {
						continue
					}
					files++
					got, err := os.ReadFile(filepath.Join(dir, it.ID.String(), name))
					if err != nil || !bytes.Equal(got, text) {
						t.Errorf("%s/%s differs: %v", it.ID, name, err)
					}
				}
				if it.Body == nil {
					continue
				}
				files++
				fmt.Fprintf(&sums, "%s  %s/message.eml\n", it.Envelope.SHA256, it.ID)
			}
			if err := os.WriteFile(filepath.Join(dir, "sums"), sums.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			shell(t, dir, "sha256sum --check --quiet sums")
			if got := strings.Count(shell(t, dir, "find . -type f ! -name key ! -name sums ! -name 'p.*'"), "\n"); got != files {
				t.Errorf("%d files unpacked, want %d", got, files)
			}
			if c.recipients == nil {
				shell(t, dir, "zstd -q -t p.tar.zst")
				at := sum.Records[len(items)/2]
				one := shell(t, dir, fmt.Sprintf("tail -c +%d p.tar.zst | head -c %d | tar --zstd -t", at.Frame+1, at.Length))
				if !strings.Contains(one, at.ID.String()+"/") {
					t.Errorf("one frame by itself has %s", one)
				}
			}
		})
	}
}
