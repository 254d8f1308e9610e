package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// What a running installation stores is read by tar, zstd and age of the system alone, and its proofs by a library of others.
func TestArchiveIsReadWithoutHoldfast(t *testing.T) {
	t.Parallel()
	tar, age := need(t, "tar", "tar"), need(t, "age", "age")
	need(t, "zstd", "zstd")
	for name, test := range map[string]struct {
		init  []string
		shell string // $1: the pack, $2: the identity; in an empty folder
	}{
		"clear":     {nil, tar + ` --zstd -xf "$1"`},
		"encrypted": {[]string{"--encrypt", "--no-escrow"}, age + ` -d -i "$2" "$1" | ` + tar + ` --zstd -x`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := seeded(t)
			h := install(t, settings{mode: "journal", init: test.init})
			h.start()
			sent := map[string]bool{} // by SHA-256; true: found
			for round := range 3 {
				c := h.dial()
				for i := range 10 {
					m := append(letter(rng, fmt.Sprintf("letter %d of round %d", i, round), 200+rng.IntN(20000)), "\x00\xff\rbare\n."...)
					if i == 9 {
						m = append(m, letter(rng, "", 3<<20)...) // over a frame
					}
					c.begin(t, "ada@origin.test", "journal@archive.test")
					if reply := c.bdat(t, rng, m); reply[0] != '2' {
						t.Fatal(reply)
					}
					sent[hash(m)] = false
				}
				h.settle()
			}
			packs := 0
			for key, path := range h.objects() {
				if !strings.HasPrefix(key, "packs/") {
					continue
				}
				packs++
				dir := t.TempDir()
				cmd := exec.Command("bash", "-c", "set -euo pipefail; "+test.shell, "bash", path, filepath.Join(h.dir, "keys", "identity.txt"))
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", key, err, out)
				}
				readUnpacked(t, dir, sent)
			}
			if packs < 3 {
				t.Errorf("only %d packs", packs)
			}
			for sum, found := range sent {
				if !found {
					t.Errorf("in no pack: %s", sum)
				}
			}
			for sum, ids := range h.sums() {
				h.checkProof(ids[0], sum)
			}
			h.stop()
		})
	}
}

// readUnpacked marks the messages in an unpacked pack as found, and holds each against its envelope.
func readUnpacked(t *testing.T, dir string, sent map[string]bool) {
	t.Helper()
	for _, path := range files(t, dir) {
		if filepath.Base(path) != "message.eml" {
			continue
		}
		m, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(path), "envelope.json"))
		if err != nil {
			t.Fatal(err)
		}
		var envelope struct{ ID, SHA256 string }
		if err := json.Unmarshal(text, &envelope); err != nil {
			t.Fatal(err)
		}
		if _, known := sent[hash(m)]; !known || envelope.SHA256 != hash(m) || envelope.ID != filepath.Base(filepath.Dir(path)) {
			t.Errorf("%s: SHA-256 %s, known: %v, envelope %s %s", path, hash(m), known, envelope.ID, envelope.SHA256)
		}
		sent[hash(m)] = true
	}
}

// checkProof checks what holdfast proof prints with golang.org/x/mod/sumdb alone: the checkpoint is signed, and the entry is under it.
func (h *holdfast) checkProof(id, sum string) {
	h.t.Helper()
	proof, status := h.get("/api/v1/records/" + id + "/proof")
	if status != 200 {
		h.t.Fatalf("proof of %s: HTTP %d: %s", id, status, proof)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(h.read("keys/ledger.pub"))))
	if err != nil {
		h.t.Fatal(err)
	}
	head, signed, _ := strings.Cut(string(proof), "\n\n")
	opened, err := note.Open([]byte(signed), note.VerifierList(verifier))
	if err != nil {
		h.t.Fatalf("%s: %v", id, err)
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		h.t.Fatal(err)
	}
	fields := strings.Split(head, "\n") // heading, extra, index, hashes
	entry, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(fields[1], "extra "))
	if err != nil {
		h.t.Fatal(err)
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(fields[2], "index "), 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	var hashes tlog.RecordProof
	for _, text := range fields[3:] {
		one, err := tlog.ParseHash(text)
		if err != nil {
			h.t.Fatal(err)
		}
		hashes = append(hashes, one)
	}
	if err := tlog.CheckRecord(hashes, size, root, index, tlog.RecordHash(entry)); err != nil {
		h.t.Errorf("the proof of %s (%s) does not hold: %v", id, sum, err)
	}
	if !strings.Contains(string(entry), `"id":"`+id+`"`) {
		h.t.Errorf("the proof of %s is of %s", id, entry)
	}
	entry[0] ^= 1
	if tlog.CheckRecord(hashes, size, root, index, tlog.RecordHash(entry)) == nil {
		h.t.Errorf("the proof of %s holds for another entry too", id)
	}
}
