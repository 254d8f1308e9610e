package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
	"github.com/holdfast-archive/holdfast/archive/record"
)

var update = flag.Bool("update", false, "write testdata/golden anew")

const golden = "testdata/golden"

// TestGolden reads a log that was written when the format was made. It must verify for ever.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	w := &world{t: t, store: &objecttest.Memory{}}
	check(t, fs.WalkDir(os.DirFS(golden), "ledger", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(golden, path))
		w.store.Overwrite(path, b)
		return err
	}))
	vkey, err := os.ReadFile(filepath.Join(golden, "ledger.pub"))
	check(t, err)
	w.verifier, err = note.NewVerifier(strings.TrimSpace(string(vkey)))
	check(t, err)
	sum := w.clean()
	if sum.Commits != 4 || sum.Entries != 304 {
		t.Errorf("%d commits, %d entries", sum.Commits, sum.Entries)
	}
	init, err := w.reader().Init(t.Context())
	check(t, err)
	if init.Archive != testArchive || init.Key != strings.TrimSpace(string(vkey)) {
		t.Errorf("init is %+v", init)
	}
	e, err := w.reader().Entry(t.Context(), 2)
	check(t, err)
	want := `{"v":1,"kind":"dropped","time":"2026-11-23T12:00:01Z","frame":0,"drop":{"first":3,"last":4,"reason":"never acknowledged: torn tail"}}`
	if string(e.Raw) != want {
		t.Errorf("entry 2 is %s", e.Raw)
	}
}

func writeGolden(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	at := time.Date(2026, 11, 23, 12, 0, 1, 0, time.UTC)
	_, err := l.Append(t.Context(), []record.Entry{
		{V: 1, Kind: record.KindAct, Time: at, ID: record.NewID(at), Name: record.ActSearch, By: "uid:1000", Seq: 1, Seal: record.Sum(nil)},
		{V: 1, Kind: record.KindDropped, Time: at, Drop: &record.Drop{First: 3, Last: 4, Reason: "never acknowledged: torn tail"}},
	}, [][2]uint64{{1, 2}, {5, 9}})
	check(t, err)
	w.append(l, 300)
	w.append(l, 1)
	check(t, l.Close(t.Context()))
	check(t, os.RemoveAll(golden))
	for _, key := range append(w.store.Keys(), "ledger.pub") {
		path := filepath.Join(golden, key)
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		body := w.store.Bytes(key)
		if key == "ledger.pub" {
			body = []byte(w.vkey + "\n")
		}
		check(t, os.WriteFile(path, body, 0o644))
	}
}

// TestStandardTools does what LEDGER.md tells a stranger to do.
func TestStandardTools(t *testing.T) {
	for _, tool := range []string{"sh", "zstd", "head", "sed", "tail", "sha256sum", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not here", tool)
			}
			t.Skipf("apt-get install zstd jq coreutils: %v", err)
		}
	}
	object, err := filepath.Abs(filepath.Join(golden, CommitKey(testLog, 1)))
	check(t, err)
	run := func(script string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-euc", script, "sh", object, filepath.Dir(object))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", script, err, stderr.Bytes())
		}
		return strings.TrimSpace(string(out))
	}
	data, err := os.ReadFile(object)
	check(t, err)
	text, err := decodeObject(data)
	check(t, err)
	if got := run(`zstd -dc < "$1"`); got != strings.TrimSpace(string(text)) {
		t.Errorf("zstd gives %q", got)
	}
	if got := run(`zstd -dc < "$1" | head -n 1 | jq .count`); got != "2" {
		t.Errorf("count is %s", got)
	}
	// The header has the SHA-256 that the checkpoint names.
	sum := run(`zstd -dc < "$1" | head -n 1 | tr -d '\n' | sha256sum | cut -d' ' -f1`)
	if got := run(`zstd -dc < "$1" | sed -n 's/^commit 1 //p'`); got != sum {
		t.Errorf("checkpoint names header %s, it is %s", got, sum)
	}
	// The next commit has the SHA-256 of this object.
	sum = run(`sha256sum < "$1" | cut -d' ' -f1`)
	if got := run(`zstd -dc < "$2/000000000002" | head -n 1 | jq -r .previous`); got != sum {
		t.Errorf("commit 2 names %s, the object is %s", got, sum)
	}
	// The frame has the SHA-256 at the end of the object.
	sum = run(`head -c -40 "$1" | sha256sum | cut -d' ' -f1`)
	if got := hex.EncodeToString(data[len(data)-32:]); got != sum {
		t.Errorf("the object ends in %s, its frame is %s", got, sum)
	}
	// An entry's hash stands in the tile of level 0.
	leaf := run(`{ printf '\000'; zstd -dc < "$1" | sed -n 2p | tr -d '\n'; } | sha256sum | cut -d' ' -f1`)
	if got := run(`tail -c +33 "$2/../tile/0/000" | head -c 32 | od -An -v -tx1 | tr -d ' \n'`); got != leaf {
		t.Errorf("the tile has %s, the entry's hash is %s", got, leaf)
	}
}

// TestSignatureByHand checks a signature with no more than Ed25519 and base64, as LEDGER.md describes it.
func TestSignatureByHand(t *testing.T) {
	vkey, err := os.ReadFile(filepath.Join(golden, "ledger.pub"))
	check(t, err)
	checkpoint, err := os.ReadFile(filepath.Join(golden, checkpointKey(testLog)))
	check(t, err)
	parts := strings.SplitN(strings.TrimSpace(string(vkey)), "+", 3)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	check(t, err)
	text, line, _ := strings.Cut(string(checkpoint), "\n\n")
	fields := strings.Fields(line)
	sig, err := base64.StdEncoding.DecodeString(fields[2])
	check(t, err)
	if parts[0] != "holdfast-01234567" || fields[1] != parts[0] || hex.EncodeToString(sig[:4]) != parts[1] {
		t.Errorf("key %s, signature line %s", vkey, line)
	}
	if key[0] != 1 || !ed25519.Verify(key[1:], []byte(text+"\n"), sig[4:]) {
		t.Error("the signature does not verify")
	}
}
