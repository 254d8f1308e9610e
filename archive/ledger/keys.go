package ledger

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// GenerateKey makes an Ed25519 key pair for the logs of an archive, in the text forms of golang.org/x/mod/sumdb/note, for note.NewSigner
// and note.NewVerifier. Its name is KeyName(archive).
func GenerateKey(archive string) (signer, verifier string, err error) {
	if !archiveID.MatchString(archive) {
		return "", "", fmt.Errorf("archive %q: not 32 hexadecimal digits", archive)
	}
	return note.GenerateKey(rand.Reader, KeyName(archive))
}

// KeyName is the name of an archive's signing key: holdfast- and the first 8 digits of the archive's id.
func KeyName(archive string) string { return "holdfast-" + archive[:min(8, len(archive))] }

// KeyID is how messages name a key: its name, + and its hash, as in the first two fields of a verifier key.
func KeyID(k interface {
	Name() string
	KeyHash() uint32
}) string {
	return fmt.Sprintf("%s+%08x", k.Name(), k.KeyHash())
}

// Keys of objects.

func prefix(log string) string        { return "ledger/" + log + "/" }
func commitPrefix(log string) string  { return prefix(log) + "commit/" }
func checkpointKey(log string) string { return prefix(log) + "checkpoint" }

// commitDigits pads a commit's number so that keys sort as numbers.
const (
	commitDigits = 12
	maxCommit    = 1e12 - 1
)

// CommitKey is the object key of a commit.
func CommitKey(log string, n uint64) string {
	return fmt.Sprintf("%s%0*d", commitPrefix(log), commitDigits, n)
}

func parseCommitKey(log, key string) (n uint64, ok bool) {
	digits, ok := strings.CutPrefix(key, commitPrefix(log))
	if !ok || len(digits) != commitDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && CommitKey(log, n) == key
}

// tileKey is the tile's path of C2SP tlog-tiles, which leaves out the height that tlog.Tile.Path has.
func tileKey(log string, t tlog.Tile) string {
	return prefix(log) + "tile/" + strings.TrimPrefix(t.Path(), "tile/8/")
}

func parseTileKey(log, key string) (t tlog.Tile, ok bool) {
	path, ok := strings.CutPrefix(key, prefix(log)+"tile/")
	if !ok {
		return tlog.Tile{}, false
	}
	t, err := tlog.ParseTilePath("tile/8/" + path)
	return t, err == nil && t.L >= 0 && t.L < 8 && tileKey(log, t) == key
}
