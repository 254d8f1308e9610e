package authres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// dkimSignatures reads the signatures that will be verified; more is how many there are beside them.
func dkimSignatures(h *header) (list []*signature, more int) {
	for i := range h.fields {
		f := &h.fields[i]
		switch {
		case !f.is("DKIM-Signature"):
		case len(list) == maxSignatures:
			more++
		default:
			list = append(list, parseDKIM(f))
		}
	}
	return list, more
}

// parseDKIM reads a DKIM-Signature (RFC 6376, section 3.5).
func parseDKIM(f *field) *signature {
	s := parseSignature(f)
	s.parseBody("simple/simple")
	if s.tags == nil {
		return s
	}
	switch s.identity = s.tags.get("i"); {
	case s.tags.get("v") != "1":
		s.fault = permanent("v= is not 1")
	case s.signed != nil && !slices.Contains(s.signed, "from"):
		s.fault = permanent("the From field is not signed")
	case s.tags.has("i") && !within(s.identity, s.domain):
		s.fault = permanent("i= is not of the domain in d=")
	}
	if t := s.tags.find("q"); t != nil && !slices.Contains(words(t.value), "dns/txt") {
		s.fault = permanent("q= names no way to the key that is known")
	}
	if t := s.tags.find("x"); t != nil {
		var err error
		if s.expires, err = parseTime(t.value); err != nil || s.expires.Before(s.time) {
			s.fault = permanent("x= is not a time after t=")
		}
	}
	if t := s.tags.find("l"); t != nil {
		n, err := strconv.ParseInt(string(t.value), 10, 62)
		if err != nil || n < 0 {
			s.fault = permanent("l= is not a length")
		} else {
			s.length = n
		}
	}
	return s
}

// within says that the domain of an identity is another or one below it.
func within(identity, domain string) bool {
	at := strings.LastIndexByte(identity, '@')
	if at < 0 {
		return false
	}
	have, want := strings.ToLower(identity[at+1:]), strings.ToLower(domain)
	return have == want || strings.HasSuffix(have, "."+want)
}

// checkDKIM verifies the signatures.
func (m *mail) checkDKIM() (list []record.DKIMVerdict) {
	for _, s := range m.dkim {
		u := m.verifyDKIM(s)
		v := record.DKIMVerdict{
			Result: "pass", Domain: s.domain, Selector: s.selector, Identity: s.identity, Algorithm: s.algorithm, Bits: s.bits, Testing: s.testing,
		}
		if u != nil {
			v.Result, v.Reason = u.result, u.reason
		}
		list = append(list, v)
	}
	return list
}

func (m *mail) verifyDKIM(s *signature) *unsound {
	if s.fault != nil {
		return s.fault
	}
	if u := m.verifySum(s, s.headerSum(m.header)); u != nil {
		return u
	}
	if u := m.verifyBody(s); u != nil {
		return u
	}
	// It is good. What follows is sound and yet not to be relied on.
	if !s.expires.IsZero() && s.expires.Before(m.now) {
		return &unsound{"policy", "good, but it expired on " + s.expires.UTC().Format("2006-01-02 15:04:05")}
	}
	if size := m.sums.sizeOf(s); s.length >= 0 && s.length < size {
		return &unsound{"policy", fmt.Sprintf("good, but %d bytes at the end of the body are not signed (l=)", size-s.length)}
	}
	return nil
}
