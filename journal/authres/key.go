package authres

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
)

// What keys may be (RFC 8301, section 3.2). Longer ones than anybody uses cost more to verify with than a message is worth.
const (
	minRSABits  = 1024
	maxRSABits  = 8192
	maxKeyBytes = 4096 // of p=, in base64
)

// publicKey is a key record (RFC 6376, section 3.6.1).
type publicKey struct {
	rsa     *rsa.PublicKey
	ed25519 ed25519.PublicKey
	bits    int
	hashes  []string // none: all
	testing bool     // t=y
	strict  bool     // t=s: no subdomains in i=
	fault   *unsound // nothing else holds
}

// keyring remembers keys by their records, for parsing one takes longer than most of the rest.
type keyring struct{ *cache[string, *publicKey] }

func newKeyring() *keyring { return &keyring{newCache[string, *publicKey](2 << 20)} }

// parse reads a key record.
func (k *keyring) parse(text string) *publicKey {
	if key, ok := k.get(text); ok {
		return key
	}
	key := parseKey(text)
	k.put(text, key, len(text)+2048)
	return key
}

func parseKey(text string) *publicKey {
	broken := func(reason string) *publicKey { return &publicKey{fault: permanent("%s", reason)} }
	list, err := parseTags([]byte(text))
	if err != nil {
		return broken("the key record is " + err.Error())
	}
	if v := list.find("v"); v != nil && (string(v.value) != "DKIM1" || string(list[0].name) != "v") {
		return broken("the key record is of another version")
	}
	key := &publicKey{}
	if t := list.find("h"); t != nil {
		key.hashes = words(t.value)
	}
	if t := list.find("s"); t != nil && !slices.Contains(words(t.value), "*") && !slices.Contains(words(t.value), "email") {
		return broken("the key is not for mail")
	}
	if t := list.find("t"); t != nil {
		key.testing, key.strict = slices.Contains(words(t.value), "y"), slices.Contains(words(t.value), "s")
	}
	p := list.find("p")
	switch {
	case p == nil:
		return broken("the key record has no key")
	case len(p.value) == 0:
		return broken("the key was revoked")
	case len(p.value) > maxKeyBytes:
		return broken("the key is longer than any that is used")
	}
	der, err := base64.StdEncoding.DecodeString(string(compact(p.value)))
	if err != nil {
		return broken("the key is not base64")
	}
	switch list.get("k") {
	case "", "rsa":
		if key.rsa, err = parseRSA(der); err != nil {
			return broken("the key is not an RSA key")
		}
		if key.bits = key.rsa.N.BitLen(); key.bits > maxRSABits {
			return broken("the key is longer than any that is used")
		}
	case "ed25519":
		if len(der) != ed25519.PublicKeySize {
			return broken("the key is not an Ed25519 key")
		}
		key.ed25519, key.bits = der, 8*len(der)
	default:
		return broken("the key is of an unknown kind")
	}
	return key
}

// parseRSA takes both forms that are found in the DNS (RFC 6376, erratum 3017).
func parseRSA(der []byte) (*rsa.PublicKey, error) {
	if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	if key, ok := key.(*rsa.PublicKey); ok {
		return key, nil
	}
	return nil, errors.New("another kind of key")
}

// verify checks a signature over a SHA-256 hash. algorithm is one that signature.algorithm may be.
func (k *publicKey) verify(algorithm string, sum, sig []byte) *unsound {
	kind, hash, _ := strings.Cut(algorithm, "-")
	if k.hashes != nil && !slices.Contains(k.hashes, hash) {
		return permanent("the key is not for %s", hash)
	}
	good := false
	switch {
	case kind == "rsa" && k.rsa != nil:
		if k.bits < minRSABits {
			return &unsound{"policy", "a key of less than 1024 bits proves nothing (RFC 8301)"}
		}
		good = rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, sum, sig) == nil
	case kind == "ed25519" && k.ed25519 != nil:
		good = ed25519.Verify(k.ed25519, sum, sig)
	default:
		return permanent("the key is not for %s", kind)
	}
	if !good {
		return &unsound{"fail", "the signature is not that of the header"}
	}
	return nil
}
