package authres

import (
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// author is whom the From field names.
type author struct {
	domain string // in ASCII and lower case
	fault  *unsound
}

// authorOf demands one From field, of one domain (RFC 7489, section 6.6.1).
func authorOf(h *header) (a author) {
	fields := h.each("From")
	if len(fields) != 1 {
		return author{fault: permanent("%d From fields", len(fields))}
	}
	value := strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == 0 {
			return -1 // folds
		}
		return r
	}, string(fields[0].value()))
	for _, address := range message.Addresses(value) {
		at := strings.LastIndexByte(address.Address, '@')
		if at < 0 {
			continue
		}
		name, ok := dnsName(address.Address[at+1:])
		name = strings.TrimSuffix(name, ".")
		switch {
		case !ok:
			return author{fault: permanent("an address in the From field has no domain name")}
		case a.domain != "" && a.domain != name:
			return author{fault: permanent("the From field names several domains")}
		}
		a.domain = name
	}
	if a.domain == "" {
		a.fault = permanent("the From field has no address")
	}
	return a
}

func dmarcName(domain string) string { return "_dmarc." + domain }

// organization is the organizational domain (RFC 7489, section 3.2) by the public suffix list that this program was built with.
func organization(domain string) string {
	if org, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil {
		return org
	}
	return domain
}

// policy is a DMARC record (RFC 7489, section 6.3).
type policy struct {
	p, sp                 string
	strictDKIM, strictSPF bool
	domain                string // where it was found
}

// parsePolicy reads a DMARC record. ok: it is one. What is wrong in it but for p= has the default.
func parsePolicy(text string) (p policy, ok bool) {
	reports := false
	for i, part := range strings.Split(text, ";") {
		name, value, _ := strings.Cut(part, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if i == 0 {
			if name != "v" || value != "DMARC1" {
				return p, false
			}
			continue
		}
		switch name = strings.ToLower(name); name {
		case "p", "sp":
			value = strings.ToLower(value)
			if value != "none" && value != "quarantine" && value != "reject" {
				value = ""
			}
			if name == "p" {
				p.p = value
			} else {
				p.sp = value
			}
		case "adkim":
			p.strictDKIM = strings.EqualFold(value, "s")
		case "aspf":
			p.strictSPF = strings.EqualFold(value, "s")
		case "rua":
			reports = value != ""
		}
	}
	if p.p == "" && reports { // section 6.6.3: who asks for reports meant something
		p.p = "none"
	}
	return p, true
}

// findPolicy looks for a policy at the From domain, then at its organization (RFC 7489, section 6.6.3). nil, nil: there is none.
func (m *mail) findPolicy(domain, org string) (*policy, *unsound) {
	for _, d := range []string{domain, org} {
		texts, err := m.txt(dmarcName(d))
		if err != nil && !notFound(err) {
			return nil, &unsound{"temperror", "the policy could not be asked for: " + err.Error()}
		}
		var found []policy
		for _, text := range texts {
			if p, ok := parsePolicy(text); ok {
				p.domain = d
				found = append(found, p)
			}
		}
		switch {
		case len(found) > 1:
			return nil, permanent("%d policies in one place", len(found))
		case len(found) == 1 && found[0].p == "":
			return nil, permanent("the policy has no p= that is known")
		case len(found) == 1:
			return &found[0], nil
		case d == org:
			return nil, nil
		}
	}
	return nil, nil
}

// checkDMARC says whether what SPF or DKIM proved is the domain that the reader sees.
func (m *mail) checkDMARC(v *record.Verdicts) *record.DMARCVerdict {
	if m.from.fault != nil {
		return &record.DMARCVerdict{Result: m.from.fault.result, Reason: m.from.fault.reason}
	}
	from := m.from.domain
	d := &record.DMARCVerdict{Result: "none", From: from, Organization: organization(from)}
	p, u := m.findPolicy(from, d.Organization)
	switch {
	case u != nil:
		d.Result, d.Reason = u.result, u.reason
		return d
	case p == nil:
		d.Reason = "no policy"
		return d
	}
	d.Record, d.Policy = p.domain, p.p
	if p.domain != from && p.sp != "" {
		d.Policy = p.sp
	}
	uncertain := ""
	weigh := func(what, result, domain string, strict bool) bool {
		if !aligned(domain, from, strict) {
			return false
		}
		if result == "temperror" {
			uncertain = what
		}
		return result == "pass"
	}
	for _, s := range v.SPF {
		d.SPFAligned = d.SPFAligned || s.Identity == record.SPFMailFrom && weigh("SPF", s.Result, s.Domain, p.strictSPF)
	}
	for _, s := range v.DKIM {
		d.DKIMAligned = weigh("DKIM", s.Result, s.Domain, p.strictDKIM) || d.DKIMAligned
	}
	switch {
	case d.SPFAligned || d.DKIMAligned:
		d.Result = "pass"
	case uncertain != "":
		d.Result, d.Reason = "temperror", fmt.Sprintf("%s of an aligned domain could not be checked", uncertain)
	default:
		d.Result = "fail"
	}
	return d
}

// aligned compares a domain that was proved with that of the From field (RFC 7489, section 3.1).
func aligned(domain, from string, strict bool) bool {
	name, ok := dnsName(domain)
	name = strings.TrimSuffix(name, ".")
	return ok && (name == from || !strict && organization(name) == organization(from))
}
