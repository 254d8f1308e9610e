package archive

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/ledger"
)

// The files of keys_dir. Who has identity.txt can read the archive, who has ledger.key can write its ledger; ledger.pub is no secret.
const (
	fileSigner   = "ledger.key"
	fileVerifier = "ledger.pub"
	fileIdentity = "identity.txt"
)

// What callers tell apart with errors.Is.
var (
	ErrNoKeys   = errors.New("no keys here")
	ErrWrongKey = errors.New("keys are not a pair")
)

// Keys is what keys_dir holds.
type Keys struct {
	Dir         string
	Verifier    string         // verifier key of the ledger, as ledger.pub has it
	Signer      note.Signer    // nil where ledger.key is absent: such a node can verify and read, not write
	Identities  []age.Identity // none where identity.txt is absent: such a node can write packs and not read encrypted ones
	Recipient   string         // of the first X25519 identity: age1…
	verifierKey note.Verifier
}

// LedgerVerifier is the verifier of the ledger's signatures.
func (k *Keys) LedgerVerifier() note.Verifier { return k.verifierKey }

// LoadKeys reads keys_dir. ErrNoKeys where there is none, or no ledger.pub in it.
func LoadKeys(dir string) (*Keys, error) {
	k := &Keys{Dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, fileVerifier))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("keys_dir %s: no %s: %w: run holdfast init, or name the folder with the keys of this archive", dir, fileVerifier, ErrNoKeys)
	} else if err != nil {
		return nil, fmt.Errorf("keys_dir: %w", err)
	}
	k.Verifier = strings.TrimSpace(string(text))
	if k.verifierKey, err = note.NewVerifier(k.Verifier); err != nil {
		return nil, fmt.Errorf("%s: not a verifier key: %w", filepath.Join(dir, fileVerifier), err)
	}
	if err := k.loadSigner(); err != nil {
		return nil, err
	}
	return k, k.loadIdentity()
}

func (k *Keys) loadSigner() error {
	path := filepath.Join(k.Dir, fileSigner)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("keys_dir: %w", err)
	}
	if k.Signer, err = note.NewSigner(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("%s: not a signing key", path) // the error of note quotes no key, but says no more either
	}
	if k.Signer.Name() != k.verifierKey.Name() || k.Signer.KeyHash() != k.verifierKey.KeyHash() {
		return fmt.Errorf("%s and %s are not a pair: %w", path, fileVerifier, ErrWrongKey)
	}
	return nil
}

func (k *Keys) loadIdentity() error {
	path := filepath.Join(k.Dir, fileIdentity)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("keys_dir: %w", err)
	}
	if k.Identities, err = age.ParseIdentities(bytes.NewReader(text)); err != nil {
		return fmt.Errorf("%s: not a file of age identities", path)
	}
	for _, id := range k.Identities {
		if x, ok := id.(*age.X25519Identity); ok {
			k.Recipient = x.Recipient().String()
			break
		}
	}
	return nil
}

// makeKeys makes the keys of a new archive in dir, which is made where absent, and durable. Keys that a former init left there without
// an archive are taken up again, also where it was cut off before all of them were there; no file is ever written over.
func makeKeys(dir, archiveID string) (*Keys, error) {
	k, err := LoadKeys(dir)
	switch {
	case err == nil && (k.Signer == nil || len(k.Identities) == 0): // of a node that only reads, or only writes
		return nil, fmt.Errorf("keys_dir %s: it has a part of the keys of another archive; a new archive needs an empty folder: %w", dir, ErrWrongKey)
	case err == nil || !errors.Is(err, ErrNoKeys):
		return k, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys_dir: %w", err)
	}
	signer, err := keepOrWrite(filepath.Join(dir, fileSigner), func() (string, error) {
		signer, _, err := ledger.GenerateKey(archiveID)
		return signer + "\n", err
	})
	if err != nil {
		return nil, fmt.Errorf("make ledger key: %w", err)
	}
	if _, err := keepOrWrite(filepath.Join(dir, fileIdentity), func() (string, error) {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", time.Now().UTC().Format(time.RFC3339), id.Recipient(), id), nil
	}); err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	verifier, err := verifierOf(strings.TrimSpace(signer))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, fileSigner), err)
	}
	if err := writeNew(filepath.Join(dir, fileVerifier), verifier+"\n"); err != nil { // last: LoadKeys takes it for the sign that the others are whole
		return nil, fmt.Errorf("keys_dir: %w", err)
	}
	if err := errors.Join(syncDir(dir), syncDir(filepath.Dir(dir))); err != nil {
		return nil, fmt.Errorf("keys_dir: %w", err)
	}
	return LoadKeys(dir)
}

// keepOrWrite reads a file, or makes it where it is absent.
func keepOrWrite(path string, text func() (string, error)) (string, error) {
	if have, err := os.ReadFile(path); err == nil || !errors.Is(err, os.ErrNotExist) {
		return string(have), err
	}
	fresh, err := text()
	if err != nil {
		return "", err
	}
	return fresh, writeNew(path, fresh)
}

// verifierOf gives the verifier key of a signing key.
func verifierOf(signer string) (string, error) {
	s, err := note.NewSigner(signer)
	if err != nil {
		return "", errors.New("not a signing key") // nothing of it is quoted
	}
	fields := strings.SplitN(signer, "+", 5) // PRIVATE+KEY+<name>+<hash>+<base64 of algorithm and seed>
	key, err := base64.StdEncoding.DecodeString(fields[4])
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return "", errors.New("not an Ed25519 signing key")
	}
	return note.NewEd25519VerifierKey(s.Name(), ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey))
}

// writeNew writes a secret file durably and never over one that holds something else than a torn start of such a file.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(path+".new", path); err != nil { // unlike rename it fails where there is one
		return err
	}
	return os.Remove(path + ".new")
}

// newArchiveID makes the name that an archive has for ever.
func newArchiveID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
