package authres

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// signature is a DKIM-Signature, an ARC-Message-Signature or an ARC-Seal: what the three have in common.
type signature struct {
	field *field
	tags  tags
	fault *unsound // it can't be verified; of the rest, only what could be read holds

	domain, selector, algorithm, identity string

	b             []byte
	bh            []byte
	headerRelaxed bool
	bodyRelaxed   bool
	signed        []string // h=, lower case
	length        int64    // l=; -1: none
	time, expires time.Time
	bits          int  // of the key that it was verified with
	testing       bool // and whether that says so
}

// parseSignature reads what all three have: a list of tags with a=, b=, d= and s=, and maybe t=.
func parseSignature(f *field) *signature {
	s := &signature{field: f, length: -1}
	list, err := parseTags(f.value())
	if err != nil {
		s.fault = permanent("the field is %v", err)
		return s
	}
	s.tags = list
	s.domain, s.selector, s.algorithm = list.get("d"), list.get("s"), list.get("a")
	if _, ok := dnsName(s.domain); !ok {
		s.fault = permanent("d= is not a domain name")
	} else if _, ok := dnsName(s.keyName()); !ok {
		s.fault = permanent("s= is not a selector")
	}
	switch s.algorithm {
	case "rsa-sha256", "ed25519-sha256":
	case "rsa-sha1":
		s.fault = &unsound{"policy", "rsa-sha1 proves nothing (RFC 8301)"}
	default:
		s.fault = permanent("unknown algorithm in a=")
	}
	if s.b, err = s.base64("b"); err != nil {
		s.fault = permanent("b= is not base64")
	}
	if t := list.find("t"); t != nil {
		if s.time, err = parseTime(t.value); err != nil {
			s.fault = permanent("t= is not a time")
		}
	}
	return s
}

// parseBody reads what signs a body: bh=, c=, h=. canon stands for c= where it is missing.
func (s *signature) parseBody(canon string) {
	if s.tags == nil {
		return
	}
	var err error
	s.canon(canon)
	if s.bh, err = s.base64("bh"); err != nil || len(s.bh) != sha256.Size && s.fault == nil {
		s.fault = permanent("bh= is not a hash")
	}
	if t := s.tags.find("c"); t != nil && !s.canon(string(t.value)) {
		s.fault = permanent("unknown canonicalization in c=")
	}
	h := s.tags.find("h")
	if h == nil {
		s.fault = permanent("h= is missing")
		return
	}
	if bytes.Count(h.value, []byte(":")) >= maxSignedFields {
		s.fault = permanent("h= names more than %d fields", maxSignedFields)
		return
	}
	s.signed = words(bytes.ToLower(h.value))
}

// canon reads c=.
func (s *signature) canon(c string) bool {
	head, body, ok := strings.Cut(c, "/")
	if !ok {
		body = "simple"
	}
	s.headerRelaxed, s.bodyRelaxed = head == "relaxed", body == "relaxed"
	return (s.headerRelaxed || head == "simple") && (s.bodyRelaxed || body == "simple")
}

// base64 gives the bytes of a tag that must be there.
func (s *signature) base64(name string) ([]byte, error) {
	t := s.tags.find(name)
	if t == nil || len(t.value) == 0 {
		return nil, errTags
	}
	return base64.StdEncoding.DecodeString(string(compact(t.value)))
}

// parseTime reads seconds since 1970. RFC 6376 has at most 12 digits.
func parseTime(b []byte) (time.Time, error) {
	n, err := strconv.ParseUint(string(b), 10, 40)
	return time.Unix(int64(n), 0), err
}

// keyName is where its key is.
func (s *signature) keyName() string { return s.selector + "._domainkey." + s.domain }

// unsigned is the field without the value of b=, as it was hashed to be signed.
func (s *signature) unsigned() []byte {
	t := s.tags.find("b")
	at := len(s.field.raw) - len(s.field.value())
	raw := append(make([]byte, 0, len(s.field.raw)), s.field.raw[:at+t.start]...)
	return append(raw, s.field.raw[at+t.end:]...)
}

// headerSum hashes the fields that are signed, and the signature itself (RFC 6376, section 3.7).
func (s *signature) headerSum(h *header) []byte {
	sum := sha256.New()
	var buf []byte
	h.pick(s.signed, func(f *field) {
		buf = appendField(buf[:0], f.raw, s.headerRelaxed)
		sum.Write(buf)
	})
	buf = appendField(buf[:0], s.unsigned(), s.headerRelaxed)
	sum.Write(bytes.TrimSuffix(buf, []byte("\r\n")))
	return sum.Sum(nil)
}

// verifySum fetches the key and checks that b= signs sum.
func (m *mail) verifySum(s *signature, sum []byte) *unsound {
	if m.header.over {
		return permanent("the header has more than %d bytes", maxHeader)
	}
	key, err := m.key(s)
	if err != nil {
		return err
	}
	s.bits, s.testing = key.bits, key.testing
	if _, domain, ok := strings.Cut(s.identity, "@"); ok && key.strict && !strings.EqualFold(domain, s.domain) {
		return permanent("the key does not sign for subdomains (t=s)")
	}
	return key.verify(s.algorithm, sum, s.b)
}

// key fetches the key of a signature (RFC 6376, section 6.1.2).
func (m *mail) key(s *signature) (*publicKey, *unsound) {
	texts, err := m.txt(s.keyName())
	switch {
	case notFound(err):
		return nil, permanent("no key: %v", err)
	case err != nil:
		return nil, &unsound{"temperror", "the key could not be asked for: " + err.Error()}
	case len(texts) > 1:
		return nil, permanent("%d keys in one place", len(texts))
	}
	key := m.keys.parse(texts[0])
	return key, key.fault
}

// verifyBody checks that bh= is the hash of the body.
func (m *mail) verifyBody(s *signature) *unsound {
	sum := m.sums.find(s)
	switch {
	case sum == nil:
		return permanent("the body was not read")
	case sum.left > 0 && s.length >= 0:
		return permanent("l= is more than the body has")
	case !bytes.Equal(sum.sum, s.bh):
		return &unsound{"fail", "the body is not the one that was signed"}
	}
	return nil
}
