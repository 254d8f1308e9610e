package ledger

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A Prover gives every entry of its tree a proof that holds, at every shape of the tree's edge, though the log has grown since.
func TestProverProvesAnOlderTree(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	for len(collect(t, l.Entries(t.Context(), 0))) < 700 {
		w.append(l, 41)
		w.clock.advance(time.Minute)
	}
	entries := collect(t, l.Entries(t.Context(), 0))
	newest, err := l.Newest(t.Context())
	check(t, err)
	for commit := uint64(0); commit <= newest.Commit; commit++ {
		p, err := l.ProverAt(t.Context(), commit)
		check(t, err)
		size := p.Checkpoint.Size
		for n := uint64(0); n < size; n++ {
			if n%7 != 0 && n+5 < size {
				continue
			}
			text, err := p.Proof(entries[n])
			check(t, err)
			if got := checkProof(t, w, text, n, entries[n].Raw); got != size {
				t.Fatalf("entry %d is proved in a tree of %d, not of %d", n, got, size)
			}
		}
		if size < uint64(len(entries)) {
			if _, err := p.Proof(entries[size]); !errors.Is(err, ErrRange) {
				t.Errorf("an entry after the checkpoint: %v", err)
			}
		}
		other := entries[0]
		other.Raw = append(bytes.Clone(other.Raw), ' ')
		if _, err := p.Proof(other); !errors.Is(err, ErrAltered) {
			t.Errorf("another entry: %v", err)
		}
	}
}

// Each byte of a signed note counts, and the key.
func TestOpenNote(t *testing.T) {
	skey, vkey, err := GenerateKey(testArchive)
	check(t, err)
	signer, err := note.NewSigner(skey)
	check(t, err)
	verifier, err := note.NewVerifier(vkey)
	check(t, err)
	signed, err := note.Sign(&note.Note{Text: "holdfast-bundle/v1\nx\n"}, signer)
	check(t, err)
	if text, err := OpenNote(signed, verifier); err != nil || text != "holdfast-bundle/v1\nx\n" {
		t.Fatal(text, err)
	}
	for i := range signed {
		for bit := range 8 {
			bad := bytes.Clone(signed)
			bad[i] ^= 1 << bit
			if _, err := OpenNote(bad, verifier); !errors.Is(err, ErrAltered) && !errors.Is(err, ErrKey) {
				t.Errorf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
	_, vkey, err = GenerateKey(testArchive)
	check(t, err)
	other, err := note.NewVerifier(vkey)
	check(t, err)
	if _, err := OpenNote(signed, other); !errors.Is(err, ErrKey) {
		t.Errorf("another key: %v", err)
	}
}
