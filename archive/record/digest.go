package record

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ErrDigest is returned for text that is not the lower-case hexadecimal form of a digest or nonce.
var ErrDigest = errors.New("not a digest")

// Digest is a SHA-256 (FIPS 180-4), written as 64 lower-case hexadecimal digits, as sha256sum prints it.
type Digest [sha256.Size]byte

// Sum is the digest of b.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

// SumReader is the digest of all that r gives.
func SumReader(r io.Reader) (Digest, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return Digest(h.Sum(nil)), err
}

// SealOf is what a ledger entry commits to: SHA-256 over the digests, joined as raw bytes, of the record's parts in their fixed order
// (a message: message.eml, envelope.json; refused mail of which only the envelope is kept: envelope.json; a supplement or an act: its
// one document). Each of these documents carries a random nonce, so that a seal whose record is gone gives nothing away.
func SealOf(parts ...Digest) Digest {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p[:])
	}
	return Digest(h.Sum(nil))
}

// ParseDigest reads 64 lower-case hexadecimal digits; any other text is ErrDigest.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	return d, d.UnmarshalText([]byte(s))
}

// String is the hexadecimal form.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero says that there is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler: ErrDigest for all but the canonical form.
func (d *Digest) UnmarshalText(b []byte) error { return decodeHex(d[:], b) }

// Nonce is 128 random bits that make a document's digest unguessable from what it says. It is written as 32 lower-case hexadecimal digits.
type Nonce [16]byte

// NewNonce takes one from the system's random source.
func NewNonce() Nonce {
	var n Nonce
	rand.Read(n[:]) // never fails: crypto/rand
	return n
}

// MarshalText implements encoding.TextMarshaler.
func (n Nonce) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, n[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler: ErrDigest for all but the canonical form.
func (n *Nonce) UnmarshalText(b []byte) error { return decodeHex(n[:], b) }

func decodeHex(dst, src []byte) error {
	if len(src) != 2*len(dst) {
		return fmt.Errorf("%q: %w", src, ErrDigest)
	}
	for _, c := range src {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%q: %w", src, ErrDigest)
		}
	}
	hex.Decode(dst, src) // the digits were checked
	return nil
}
