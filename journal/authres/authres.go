// Package authres says what SPF (RFC 7208), DKIM (RFC 6376, 8301, 8463), DMARC (RFC 7489) and ARC (RFC 8617) make of a message as it came
// in, and keeps the DNS answers that this rests on.
//
// What it promises: Check never judges whether a message is welcome, it only tells. Everything that went into its verdicts is either in
// the message, in its envelope, or in the answers that it gives back, so that Recheck comes to the same verdicts years later, without DNS.
// Whatever a message holds, what is read, hashed, verified and asked for is bounded (see the limits below).
//
// SPF is evaluated by blitiri.com.ar/go/spf, on a resolver of this package. Signatures are verified here: DKIM and ARC share one reading
// of the header, one pass over the body for all signatures, one parser of tags and one memory of keys, which no library gives.
package authres

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// The limits of what is done for one message.
const (
	maxHeader       = 256 << 10 // bytes of a header; of a longer one nothing signed can be verified
	maxSignatures   = 10        // DKIM signatures that are verified, from the top
	maxSignedFields = 1000      // names in h=
	maxInstances    = 50        // ARC sets (RFC 8617, section 5.1.1)
	maxQuestions    = 150       // DNS questions
	maxAnswers      = 256 << 10 // bytes of recorded answers
	maxAnswer       = 16 << 10  // bytes of one answer, on the wire
)

// Checker makes verdicts. Safe for concurrent use.
type Checker struct {
	resolver *Resolver
	keys     *keyring
}

// NewChecker makes a Checker that asks r.
func NewChecker(r *Resolver) *Checker { return &Checker{resolver: r, keys: newKeyring()} }

// Check reads body, which is message.eml, as far as its signatures need. The end of ctx ends the asking: what is not answered by then is
// temperror. An error is one of reading, or of ctx while reading; then there are no verdicts.
func (c *Checker) Check(ctx context.Context, env *record.Envelope, body io.Reader) (*record.Verdicts, error) {
	return check(ctx, c.resolver, c.keys, env, body)
}

// Recheck makes the verdicts of a message again from the answers recorded in v alone. With the software that made them, they are the same;
// Differences tells. A question that was not asked at receipt has no answer now.
func Recheck(ctx context.Context, v *record.Verdicts, env *record.Envelope, body io.Reader) (*record.Verdicts, error) {
	return check(ctx, newRecorded(v.DNS), newKeyring(), env, body)
}

// Differences names each verdict in which two differ, in words; none: they say the same. Answers of the DNS are not compared.
func Differences(recorded, now *record.Verdicts) (list []string) {
	differ := func(what string, a, b any) {
		if x, y := fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b); x != y {
			list = append(list, fmt.Sprintf("%s: recorded %s, now %s", what, x, y))
		}
	}
	differ("spf", recorded.SPF, now.SPF)
	differ("dkim", recorded.DKIM, now.DKIM)
	differ("dkim signatures not looked at", recorded.DKIMMore, now.DKIMMore)
	differ("dmarc", deref(recorded.DMARC), deref(now.DMARC))
	differ("arc", deref(recorded.ARC), deref(now.ARC))
	return list
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// mail is one message that is being checked.
type mail struct {
	*lookups
	env    *record.Envelope
	now    time.Time // of receipt: what signatures that expire are held against
	header *header
	keys   *keyring
	sums   bodySums

	dkim []*signature // those that are verified; with a fault where they can't be
	more int
	arc  *chain // nil: no ARC fields
	from author
}

func check(ctx context.Context, dns asker, keys *keyring, env *record.Envelope, body io.Reader) (*record.Verdicts, error) {
	h, rest, err := readHeader(ctx, body)
	if err != nil {
		return nil, err
	}
	defer h.release()
	m := &mail{lookups: newLookups(ctx, dns), env: env, now: env.Received, header: h, keys: keys}
	m.dkim, m.more = dkimSignatures(h)
	m.arc = readChain(h)
	m.from = authorOf(h)
	m.prefetch()
	if err := m.hashBody(ctx, rest); err != nil {
		return nil, err
	}
	v := &record.Verdicts{SPF: m.checkSPF(), DKIM: m.checkDKIM(), DKIMMore: m.more, ARC: m.checkARC()}
	v.DMARC = m.checkDMARC(v)
	v.DNS = m.recorded()
	return v, nil
}

// prefetch asks the questions that will come for certain, all at once. What is recorded is what is asked again when its turn comes.
func (m *mail) prefetch() {
	for _, id := range m.identities() {
		m.expect(id.domain, typeTXT)
	}
	for _, s := range m.signatures() {
		m.expect(s.keyName(), typeTXT)
	}
	if m.from.domain != "" {
		m.expect(dmarcName(m.from.domain), typeTXT)
	}
}

// signatures are all that may need a key.
func (m *mail) signatures() (list []*signature) {
	list = slices.Clone(m.dkim)
	if m.arc != nil && m.arc.fault == nil {
		list = append(list, m.arc.message())
		for _, set := range m.arc.sets {
			list = append(list, set.seal)
		}
	}
	return slices.DeleteFunc(list, func(s *signature) bool { return s.fault != nil })
}

// hashBody reads the body to its end, if there is a signature over it.
func (m *mail) hashBody(ctx context.Context, body io.Reader) error {
	signed := m.dkim
	if m.arc != nil && m.arc.fault == nil {
		signed = append(slices.Clip(signed), m.arc.message())
	}
	for _, s := range signed {
		if s.fault == nil {
			m.sums.want(s)
		}
	}
	return m.sums.read(ctx, body)
}

// clientOf is the true client's address.
func clientOf(env *record.Envelope) (netip.Addr, bool) {
	if env.Client == nil {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(env.Client.Address)
	return ip.Unmap().WithZone(""), err == nil
}

// domainOf is the part of an address after its last @.
func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// unsound is why something is not a pass: a result of RFC 8601 and the reason, in words.
type unsound struct{ result, reason string }

func (u *unsound) Error() string { return u.result + ": " + u.reason }

func permanent(format string, args ...any) *unsound {
	return &unsound{"permerror", fmt.Sprintf(format, args...)}
}
