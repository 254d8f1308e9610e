package authres

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strconv"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// chain is the ARC sets of a message, the first at 0.
type chain struct {
	sets  []arcSet
	fault *unsound // the chain fails by its structure; sets may have holes
}

// arcSet is one instance: what one server on the way added.
type arcSet struct {
	results   *field     // ARC-Authentication-Results
	msg, seal *signature // ARC-Message-Signature, ARC-Seal
}

// message is the newest ARC-Message-Signature, the only one that must still hold.
func (c *chain) message() *signature { return c.sets[len(c.sets)-1].msg }

// readChain collects the ARC fields (RFC 8617, section 5.2, steps 1 to 3); nil: there are none.
func readChain(h *header) *chain {
	var c *chain
	count := 0
	fail := func(format string, args ...any) {
		if c.fault == nil {
			c.fault = permanent(format, args...)
		}
	}
	for i := range h.fields {
		f := &h.fields[i]
		if len(f.name) < 4 || f.name[0]|0x20 != 'a' {
			continue
		}
		results, msg, seal := f.is("ARC-Authentication-Results"), f.is("ARC-Message-Signature"), f.is("ARC-Seal")
		if !results && !msg && !seal {
			continue
		}
		if c == nil {
			c = &chain{}
		}
		if count++; count > 3*maxInstances {
			fail("more than %d ARC sets", maxInstances)
			return c
		}
		n, s, u := 0, (*signature)(nil), (*unsound)(nil)
		switch {
		case results:
			n, u = resultsInstance(f.value())
		case msg:
			s = parseSignature(f)
			s.parseBody("relaxed/relaxed") // as the suite has it, and those who seal
		case seal:
			s = parseSeal(f)
		}
		if s != nil {
			if n, u = instance(s.tags.get("i")), s.fault; u == nil && n == 0 {
				u = permanent("i= is not a number from 1 to %d", maxInstances)
			}
		}
		if u != nil {
			fail("%s: %s", f.name, u.reason)
		}
		if n == 0 {
			continue
		}
		for len(c.sets) < n {
			c.sets = append(c.sets, arcSet{})
		}
		set := &c.sets[n-1]
		switch {
		case results && set.results == nil:
			set.results = f
		case msg && set.msg == nil:
			set.msg = s
		case seal && set.seal == nil:
			set.seal = s
		default:
			fail("%s: i=%d comes twice", f.name, n)
		}
	}
	if c != nil && c.fault == nil {
		c.fault = c.structure()
	}
	return c
}

// structure checks that each set is whole and says of the chain before it what it must.
func (c *chain) structure() *unsound {
	for i, set := range c.sets {
		if set.results == nil || set.msg == nil || set.seal == nil {
			return permanent("the set i=%d is not whole", i+1)
		}
	}
	for i, set := range c.sets {
		switch cv := set.seal.tags.get("cv"); {
		case i == len(c.sets)-1 && cv == "fail":
			return permanent("the newest seal says that the chain had failed")
		case i == 0 && cv != "none" || i > 0 && cv != "pass":
			return permanent("cv= of the seal i=%d is not what it must be", i+1)
		}
		if slices.Contains(set.msg.signed, "arc-seal") {
			return permanent("the signature i=%d signs a seal", i+1)
		}
	}
	return nil
}

// instance reads i=; 0: it is none.
func instance(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxInstances || s[0] == '+' {
		return 0
	}
	return n
}

// resultsInstance reads the i= that an ARC-Authentication-Results begins with (RFC 8617, section 4.1.1).
func resultsInstance(value []byte) (int, *unsound) {
	first, _, ok := bytes.Cut(value, []byte(";"))
	name, number, eq := bytes.Cut(first, []byte("="))
	if n := instance(string(trimSpace(number))); ok && eq && n > 0 && string(trimSpace(name)) == "i" {
		return n, nil
	}
	return 0, permanent("it does not begin with i= and a number from 1 to %d", maxInstances)
}

// parseSeal reads an ARC-Seal (section 4.1.3).
func parseSeal(f *field) *signature {
	s := parseSignature(f)
	if s.tags.has("h") {
		s.fault = permanent("a seal has no h=")
	}
	return s
}

// checkARC validates the chain (section 5.2, steps 4 to 6).
func (m *mail) checkARC() *record.ARCVerdict {
	if m.arc == nil {
		return nil
	}
	v := &record.ARCVerdict{Result: "pass"}
	u := m.arc.fault
	if u == nil {
		for _, set := range m.arc.sets {
			v.Sealed = append(v.Sealed, set.seal.domain)
		}
		u = m.verifyChain()
	}
	if u != nil {
		v.Result, v.Reason = "fail", u.reason
		if u.result == "temperror" {
			v.Result = u.result
		}
	}
	return v
}

func (m *mail) verifyChain() *unsound {
	last := m.arc.message()
	u := m.verifySum(last, last.headerSum(m.header))
	if u == nil {
		u = m.verifyBody(last)
	}
	if u != nil {
		return &unsound{u.result, "the newest message signature: " + u.reason}
	}
	for n := len(m.arc.sets); n > 0; n-- {
		if u := m.verifySum(m.arc.sets[n-1].seal, m.arc.sealSum(n)); u != nil {
			return &unsound{u.result, "the seal i=" + strconv.Itoa(n) + ": " + u.reason}
		}
	}
	return nil
}

// sealSum hashes what the seal n signs: all sets up to its own, in their order, the seal itself last (section 5.1.1).
func (c *chain) sealSum(n int) []byte {
	sum := sha256.New()
	var buf []byte
	write := func(raw []byte) {
		buf = appendRelaxed(buf[:0], raw)
		sum.Write(buf)
	}
	for _, set := range c.sets[:n-1] {
		write(set.results.raw)
		write(set.msg.field.raw)
		write(set.seal.field.raw)
	}
	write(c.sets[n-1].results.raw)
	write(c.sets[n-1].msg.field.raw)
	buf = appendRelaxed(buf[:0], c.sets[n-1].seal.unsigned())
	sum.Write(bytes.TrimSuffix(buf, []byte("\r\n")))
	return sum.Sum(nil)
}
