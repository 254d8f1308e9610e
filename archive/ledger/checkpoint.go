package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// maxEntries bounds the size of a log, so that it is an int64 with room to spare.
const maxEntries = 1 << 62

// Checkpoint is a signed tree head (C2SP tlog-checkpoint) with one extension line, which names the commit and binds its header: the
// signature so covers the whole chain of commits, with their times.
type Checkpoint struct {
	Archive string // the archive's id, of the origin line
	Log     string // the log's name, of the origin line
	Size    uint64 // entries
	Root    tlog.Hash
	Commit  uint64        // number of the commit that it ends
	Header  record.Digest // of that commit's header line, without the newline
	Note    []byte        // the signed note as it stands in the commit, to be kept byte for byte
}

// Tree is the tree that the checkpoint signs.
func (c *Checkpoint) Tree() tlog.Tree { return tlog.Tree{N: int64(c.Size), Hash: c.Root} }

// Origin is the first line of a checkpoint of this log.
func Origin(archive, log string) string { return "holdfast/" + archive + "/" + log }

// text is what is signed.
func (c *Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\ncommit %d %s\n", Origin(c.Archive, c.Log), c.Size, c.Root, c.Commit, c.Header)
}

// sign sets c.Note.
func (c *Checkpoint) sign(signer note.Signer) (err error) {
	c.Note, err = note.Sign(&note.Note{Text: c.text()}, signer)
	if err != nil {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	return nil
}

// OpenCheckpoint reads a checkpoint and verifies its signature and that it is of this log; archive may be empty, which accepts any.
// ErrAltered where it is malformed or the signature is bad, ErrForeign where it is of another archive or log, ErrKey where it is signed by
// another key. Every byte counts: a note that differs from what the signer wrote, if only in unused bits of base64, is ErrAltered.
func OpenCheckpoint(signed []byte, archive, log string, verifier note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(verifier))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		n = unverified.Note
	} else if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w: %w", ErrAltered, err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w: %w", ErrAltered, err)
	}
	if archive != "" && c.Archive != archive {
		return Checkpoint{}, fmt.Errorf("checkpoint of archive %s, not of %s: %w", c.Archive, archive, ErrForeign)
	}
	if c.Log != log {
		return Checkpoint{}, fmt.Errorf("checkpoint of log %s, not of %s: %w", c.Log, log, ErrForeign)
	}
	if unverified != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint is signed by %s, not by %s: %w", signers(n.UnverifiedSigs), KeyID(verifier), ErrKey)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 || reencode(n) != string(signed) {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w: the note is not as it was signed", ErrAltered)
	}
	c.Note = bytes.Clone(signed)
	return c, nil
}

// parseCheckpoint accepts exactly what text writes.
func parseCheckpoint(text string) (c Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 5 || lines[4] != "" {
		return c, errors.New("not four lines")
	}
	origin := strings.Split(lines[0], "/")
	if len(origin) != 3 || !archiveID.MatchString(origin[1]) || !logName.MatchString(origin[2]) {
		return c, fmt.Errorf("origin %q", lines[0])
	}
	c.Archive, c.Log = origin[1], origin[2]
	if c.Size, err = strconv.ParseUint(lines[1], 10, 64); err != nil || c.Size > maxEntries {
		return c, fmt.Errorf("size %q", lines[1])
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, fmt.Errorf("root %q", lines[2])
	}
	commit := strings.Split(lines[3], " ")
	if len(commit) != 3 {
		return c, fmt.Errorf("extension line %q", lines[3])
	}
	if c.Commit, err = strconv.ParseUint(commit[1], 10, 64); err != nil || c.Commit > maxCommit {
		return c, fmt.Errorf("extension line %q", lines[3])
	}
	if c.Header, err = record.ParseDigest(commit[2]); err != nil {
		return c, fmt.Errorf("extension line %q", lines[3])
	}
	if c.text() != text {
		return c, errors.New("not in its canonical form")
	}
	return c, nil
}

// reencode writes a note anew from what was decoded. note.Open accepts base64 whose unused bits are set, and repeated signatures.
func reencode(n *note.Note) string {
	var b strings.Builder
	b.WriteString(n.Text + "\n")
	for _, s := range n.Sigs {
		raw, err := base64.StdEncoding.DecodeString(s.Base64)
		if err != nil || len(raw) < 4 || binary.BigEndian.Uint32(raw) != s.Hash {
			return ""
		}
		fmt.Fprintf(&b, "— %s %s\n", s.Name, base64.StdEncoding.EncodeToString(raw))
	}
	return b.String()
}

func signers(sigs []note.Signature) string {
	var names []string
	for _, s := range sigs {
		names = append(names, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
	}
	return strings.Join(names, ", ")
}
