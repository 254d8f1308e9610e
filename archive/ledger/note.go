package ledger

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// OpenNote reads a note that an archive's key has signed and that is no checkpoint, such as that of a bundle, and gives its text.
// ErrAltered where it is malformed or the signature is bad, ErrKey where another key has signed it. Every byte counts, as in OpenCheckpoint.
func OpenNote(signed []byte, verifier note.Verifier) (string, error) {
	n, err := note.Open(signed, note.VerifierList(verifier))
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		return "", fmt.Errorf("note is signed by %s, not by %s: %w", signers(unverified.Note.UnverifiedSigs), KeyID(verifier), ErrKey)
	case err != nil:
		return "", fmt.Errorf("note: %w: %w", ErrAltered, err)
	case len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 || reencode(n) != string(signed):
		return "", fmt.Errorf("note: %w: it is not as it was signed", ErrAltered)
	}
	return n.Text, nil
}
