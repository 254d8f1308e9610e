package ledger

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// TestNoteMalleability: a note whose signature verifies and whose bytes are others is refused.
func TestNoteMalleability(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	signed := l.Head().Note
	if _, err := OpenCheckpoint(signed, testArchive, testLog, w.verifier); err != nil {
		t.Fatal(err)
	}
	for i := range signed {
		for bit := range 8 {
			other := bytes.Clone(signed)
			other[i] ^= 1 << bit
			if _, err := OpenCheckpoint(other, testArchive, testLog, w.verifier); err == nil {
				t.Errorf("byte %d, bit %d: accepted as %q", i, bit, other)
			}
		}
	}
	// The last character before the padding has two bits that mean nothing.
	accepted := 0
	for _, b := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		other := bytes.Clone(signed)
		last := len(other) - len("x=\n")
		if other[last] == b {
			continue
		}
		other[last] = b
		if _, err := note.Open(other, note.VerifierList(w.verifier)); err == nil {
			accepted++
		}
		_, err := OpenCheckpoint(other, testArchive, testLog, w.verifier)
		wantErr(t, err, ErrAltered)
	}
	if accepted != 3 {
		t.Errorf("note.Open accepts %d of these, not 3: this test shows nothing", accepted)
	}
	line := signed[bytes.Index(signed, []byte("\n\n"))+2:]
	for name, other := range map[string][]byte{
		"signature twice":  append(bytes.Clone(signed), line...),
		"unknown signer":   append(bytes.Clone(signed), []byte("— elsewhere AAAAAAAAAA==\n")...),
		"nothing":          nil,
		"no signature":     signed[:len(signed)-len(line)],
		"text after":       append(bytes.Clone(signed), '\n'),
		"leading zero":     resign(t, w, strings.Replace(string(signed), "\n1\n", "\n01\n", 1)),
		"another line":     resign(t, w, strings.Replace(string(signed), "\n\n", "\nmore\n\n", 1)),
		"no extension":     resign(t, w, dropExtension(string(signed))),
		"origin of C2SP":   resign(t, w, strings.Replace(string(signed), "holdfast/", "example.com/", 1)),
		"negative size":    resign(t, w, strings.Replace(string(signed), "\n1\n", "\n-1\n", 1)),
		"enormous size":    resign(t, w, strings.Replace(string(signed), "\n1\n", "\n9223372036854775807\n", 1)),
		"CRLF in the text": bytes.Replace(signed, []byte("\n"), []byte("\r\n"), 1),
	} {
		if _, err := OpenCheckpoint(other, testArchive, testLog, w.verifier); err == nil {
			t.Errorf("%s: accepted as %q", name, other)
		}
	}
}

func dropExtension(signed string) string {
	at := strings.Index(signed, "\ncommit ")
	return signed[:at] + signed[strings.Index(signed, "\n\n"):]
}

// resign signs the text of a note anew.
func resign(t *testing.T, w *world, signed string) []byte {
	t.Helper()
	text := signed[:strings.Index(signed, "\n\n")+1]
	b, err := note.Sign(&note.Note{Text: text}, w.signer)
	check(t, err)
	return b
}
