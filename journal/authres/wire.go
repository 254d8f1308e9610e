package authres

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// question is what is asked of the DNS.
type question struct {
	name string // in ASCII and lower case, with its last dot
	typ  dnsmessage.Type
}

// udpSize is the size of answers by UDP that we offer to take (RFC 6891): below what is fragmented anywhere.
const udpSize = 1232

// pack makes the query: recursion wanted, and word of whether the answer was checked (the AD bit in a query, RFC 6840, section 5.7).
func (q question) pack(id uint16) ([]byte, error) {
	name, err := dnsmessage.NewName(q.name)
	if err != nil {
		return nil, err
	}
	b := dnsmessage.NewBuilder(make([]byte, 0, 512), dnsmessage.Header{ID: id, RecursionDesired: true, AuthenticData: true})
	var opt dnsmessage.ResourceHeader
	err = errors.Join(b.StartQuestions(),
		b.Question(dnsmessage.Question{Name: name, Type: q.typ, Class: dnsmessage.ClassINET}),
		b.StartAdditionals(), opt.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false), b.OPTResource(opt, dnsmessage.OPTResource{}))
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// reply is what a server answered.
type reply struct {
	rcode     string
	ad        bool
	truncated bool
	rrs       []resource
	negative  time.Duration // how long a negative answer holds (RFC 2308, section 5); 0: it does not say
}

// errNotOurs is returned for a datagram that is not the answer to what was asked.
var errNotOurs = errors.New("answers another question")

var rcodes = []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}

// unpack reads the answer to q. errNotOurs, or an error for what can't be read.
func (q question) unpack(id uint16, msg []byte) (*reply, error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || !h.Response || h.ID != id {
		return nil, errNotOurs
	}
	asked, err := p.Question()
	if err != nil || asked.Type != q.typ || asked.Class != dnsmessage.ClassINET || !strings.EqualFold(asked.Name.String(), q.name) {
		return nil, errNotOurs
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, err
	}
	rep := &reply{rcode: fmt.Sprintf("RCODE%d", h.RCode), ad: h.AuthenticData, truncated: h.Truncated}
	if int(h.RCode) < len(rcodes) {
		rep.rcode = rcodes[h.RCode]
	}
	if h.Truncated {
		return rep, nil
	}
	for {
		head, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return nil, err
		}
		rr, err := unpackResource(&p, head)
		if err != nil {
			return nil, err
		}
		if head.Class == dnsmessage.ClassINET {
			rep.rrs = append(rep.rrs, rr)
		}
	}
	rep.negative = negativeTTL(&p)
	return rep, nil
}

func unpackResource(p *dnsmessage.Parser, head dnsmessage.ResourceHeader) (rr resource, err error) {
	rr = resource{name: head.Name.String(), ttl: head.TTL, typ: head.Type}
	switch head.Type {
	case typeA:
		var d dnsmessage.AResource
		d, err = p.AResource()
		rr.ip = netip.AddrFrom4(d.A)
	case typeAAAA:
		var d dnsmessage.AAAAResource
		d, err = p.AAAAResource()
		rr.ip = netip.AddrFrom16(d.AAAA)
	case typeCNAME:
		var d dnsmessage.CNAMEResource
		d, err = p.CNAMEResource()
		rr.host = d.CNAME.String()
	case typeMX:
		var d dnsmessage.MXResource
		d, err = p.MXResource()
		rr.pref, rr.host = d.Pref, d.MX.String()
	case typePTR:
		var d dnsmessage.PTRResource
		d, err = p.PTRResource()
		rr.host = d.PTR.String()
	case typeTXT:
		var d dnsmessage.TXTResource
		d, err = p.TXTResource()
		rr.text = d.TXT
	default:
		var d dnsmessage.UnknownResource
		d, err = p.UnknownResource()
		rr.raw = d.Data
	}
	return rr, err
}

// negativeTTL finds the SOA of a negative answer; p stands before the authority section.
func negativeTTL(p *dnsmessage.Parser) time.Duration {
	for {
		head, err := p.AuthorityHeader()
		if err != nil {
			return 0
		}
		if head.Type != dnsmessage.TypeSOA {
			if p.SkipAuthority() != nil {
				return 0
			}
			continue
		}
		soa, err := p.SOAResource()
		if err != nil {
			return 0
		}
		return time.Duration(min(head.TTL, soa.MinTTL)) * time.Second
	}
}
