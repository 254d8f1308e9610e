// Package timestamp has a digest stamped by a time-stamp authority (RFC 3161), and verifies what it has stamped, later and elsewhere.
//
// What it promises: Stamp gives a token only if it is one: for that very digest, in answer to that very request, signed by a certificate
// that is made for stamping time, was valid then, and goes back to one of the roots. What Stamp has taken, Verify takes in thirty years too:
// a certificate need not be valid any more by then, and no network is needed. An authority sees a digest and nothing else.
//
// The tokens are those of the RFC, in DER. `openssl ts -verify` and every other tool for them reads them.
package timestamp

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// What callers tell apart with errors.Is.
var (
	ErrUnavailable = errors.New("the time-stamp authority does not answer") // down, too slow, or an HTTP error: try later
	ErrRefused     = errors.New("the time-stamp authority refuses")
	ErrToken       = errors.New("not a time-stamp token") // malformed, or its signature is bad
	ErrImprint     = errors.New("the token is for another digest")
	ErrNonce       = errors.New("the token answers another request")
	ErrCertificate = errors.New("the certificate of the time-stamp authority is not good")
)

// MaxToken is the most that a token or an answer may have, in bytes. Those of the known authorities have two to eight thousand.
const MaxToken = 64 << 10

// Token is a time-stamp token and what it says.
type Token struct {
	DER       []byte        // the token, to be kept byte for byte
	Digest    record.Digest // what was stamped
	Time      time.Time     // UTC: it existed by then
	Accuracy  time.Duration // of Time; 0: not told
	Serial    string        // decimal
	Policy    string        // object identifier
	Authority string        // subject of the signing certificate

	signer       *x509.Certificate
	certificates []*x509.Certificate
	nonce        *big.Int
}

var (
	oidTSTInfo       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidSigningCert   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12} // RFC 2634
	oidSigningCertV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47} // RFC 5035
	oidExtKeyUsage   = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSHA384        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

// Verify checks all of a token: Read, and Trust with roots. nil roots are those of the system.
func Verify(der []byte, digest record.Digest, roots *x509.CertPool) (*Token, error) {
	t, err := Read(der, digest)
	if err != nil {
		return nil, err
	}
	return t, t.Trust(roots)
}

// Read reads a token and checks all but whose certificate it is: that it is for digest, and is signed by the certificate that it names and
// carries. Errors: ErrToken, ErrImprint, and ErrCertificate for one that is not for stamping time.
func Read(der []byte, digest record.Digest) (t *Token, err error) {
	defer func() {
		if r := recover(); r != nil { // of the parser: what it reads may be anything
			t, err = nil, fmt.Errorf("%w: %v", ErrToken, r)
		}
	}()
	if len(der) > MaxToken {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrToken, len(der))
	}
	if err := isTSTInfo(der); err != nil {
		return nil, err
	}
	parsing.Lock()
	defer parsing.Unlock()
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	signer := p7.GetOnlySigner()
	if signer == nil {
		return nil, fmt.Errorf("%w: it has %d signers, and the certificate of one must be in it", ErrToken, len(p7.Signers))
	}
	if err := isSigned(p7, signer); err != nil {
		return nil, err
	}
	ts, err := timestamp.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if ts.HashAlgorithm != crypto.SHA256 || !bytes.Equal(ts.HashedMessage, digest[:]) {
		return nil, fmt.Errorf("%w: %s %x, not SHA-256 %s", ErrImprint, ts.HashAlgorithm, ts.HashedMessage, digest)
	}
	if ts.SerialNumber == nil {
		return nil, fmt.Errorf("%w: no serial number", ErrToken)
	}
	return &Token{
		DER: bytes.Clone(der), Digest: digest, Time: ts.Time.UTC(), Accuracy: ts.Accuracy, Serial: ts.SerialNumber.String(),
		Policy: ts.Policy.String(), Authority: signer.Subject.String(), signer: signer, certificates: p7.Certificates, nonce: ts.Nonce,
	}, nil
}

// parsing is held while pkcs7 reads: it counts how deep it is in a variable of the package.
var parsing sync.Mutex

// maxDepth is how deep the values of a token may be nested. Certificates take 12.
const maxDepth = 40

// isDER checks that a value and all that are in it are in DER as far as their lengths go: so a parser that takes BER too is not led astray.
func isDER(values []byte, depth int) error {
	for len(values) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(values, &v)
		if err == nil && v.IsCompound {
			if depth == maxDepth {
				return errors.New("nested too deep")
			}
			err = isDER(v.Bytes, depth+1)
		}
		if err != nil {
			return err
		}
		values = rest
	}
	return nil
}

// isTSTInfo checks what the signature does not cover: that der is one DER value, and that what is signed is said to be a time stamp
// (RFC 5652 sections 3 to 5).
func isTSTInfo(der []byte) error {
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	var signed struct {
		Version    int
		Algorithms asn1.RawValue
		Content    struct {
			Type    asn1.ObjectIdentifier
			Content []byte `asn1:"explicit,tag:0"`
		}
	}
	if err := isDER(der, 0); err != nil {
		return fmt.Errorf("%w: %w", ErrToken, err)
	}
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 || !outer.Type.Equal(pkcs7.OIDSignedData) {
		return fmt.Errorf("%w: it is not signed data in DER", ErrToken)
	}
	if rest, err := asn1.Unmarshal(outer.Content.Bytes, &signed); err != nil || len(rest) > 0 || !signed.Content.Type.Equal(oidTSTInfo) {
		return fmt.Errorf("%w: what is signed is not said to be a time stamp", ErrToken)
	}
	return nil
}

// isSigned checks the signature, that what is signed says that it is a time stamp, and that it names the very certificate that signs
// (RFC 3161 section 2.4.2, RFC 5816).
func isSigned(p7 *pkcs7.PKCS7, signer *x509.Certificate) error {
	var content asn1.ObjectIdentifier
	if err := p7.UnmarshalSignedAttribute(pkcs7.OIDAttributeContentType, &content); err != nil || !content.Equal(oidTSTInfo) {
		return fmt.Errorf("%w: what is signed is not a time stamp", ErrToken)
	}
	var at time.Time // optional: there is the time of the stamp, too
	if p7.UnmarshalSignedAttribute(pkcs7.OIDAttributeSigningTime, &at) == nil && (at.Before(signer.NotBefore) || at.After(signer.NotAfter)) {
		return fmt.Errorf("%w: that of %s has expired or is not valid yet: it signs at %s, and is for %s to %s", ErrCertificate, signer.Subject,
			at.Format(time.RFC3339), signer.NotBefore.Format(time.RFC3339), signer.NotAfter.Format(time.RFC3339))
	}
	if err := p7.Verify(); err != nil {
		return fmt.Errorf("%w: signature: %w", ErrToken, err)
	}
	if !namesSigner(p7, signer) {
		return fmt.Errorf("%w: what is signed does not name the certificate of %s", ErrToken, signer.Subject)
	}
	return forStamping(signer)
}

// namesSigner looks for the signing certificate attribute, in its old form (SHA-1) or the new one.
func namesSigner(p7 *pkcs7.PKCS7, signer *x509.Certificate) bool {
	var old struct {
		Certs []struct {
			Hash []byte
			Rest asn1.RawValue `asn1:"optional"`
		}
		Policies asn1.RawValue `asn1:"optional"`
	}
	if p7.UnmarshalSignedAttribute(oidSigningCert, &old) == nil && len(old.Certs) > 0 {
		sum := sha1.Sum(signer.Raw)
		return bytes.Equal(old.Certs[0].Hash, sum[:])
	}
	var now struct {
		Certs []struct {
			Algorithm pkix.AlgorithmIdentifier `asn1:"optional"`
			Hash      []byte
			Rest      asn1.RawValue `asn1:"optional"`
		}
		Policies asn1.RawValue `asn1:"optional"`
	}
	if p7.UnmarshalSignedAttribute(oidSigningCertV2, &now) != nil || len(now.Certs) == 0 {
		return false
	}
	var sum []byte
	switch oid := now.Certs[0].Algorithm.Algorithm; {
	case oid == nil, oid.Equal(oidSHA256):
		s := sha256.Sum256(signer.Raw)
		sum = s[:]
	case oid.Equal(oidSHA384):
		s := sha512.Sum384(signer.Raw)
		sum = s[:]
	case oid.Equal(oidSHA512):
		s := sha512.Sum512(signer.Raw)
		sum = s[:]
	}
	return sum != nil && bytes.Equal(now.Certs[0].Hash, sum)
}

// forStamping is nil for a certificate whose one purpose is to stamp time, and says so critically (RFC 3161 section 2.3).
func forStamping(c *x509.Certificate) error {
	critical := slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Critical && e.Id.Equal(oidExtKeyUsage) })
	if !critical || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(c.UnknownExtKeyUsage) > 0 {
		return fmt.Errorf("%w: that of %s is not for stamping time alone", ErrCertificate, c.Subject)
	}
	return nil
}

// Trust is nil where the certificate goes back to one of the roots and was valid at the time of the token. nil roots are those of the system.
func (t *Token) Trust(roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range t.certificates {
		between.AddCert(c)
	}
	_, err := t.signer.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: t.Time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCertificate, t.Authority, err)
	}
	return nil
}

// LoadRoots reads a PEM file of root certificates.
func LoadRoots(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in PEM", path)
	}
	return roots, nil
}
