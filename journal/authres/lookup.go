package authres

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/idna"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// answer is what the DNS said, as it is recorded and as it is used. It is shared and never changed.
type answer struct {
	record.DNSAnswer
	rrs     []resource
	expires time.Time
}

// asker answers questions: the Resolver, or what was recorded. An answer always comes; that there is none is one too.
type asker interface {
	ask(context.Context, question) *answer
	expect(question) // the question will be asked
}

// found gives the records of the type that was asked for, at the end of the aliases that lead from the name.
func (a *answer) found(q question) (list []resource) {
	name := q.name
	for range len(a.rrs) + 1 {
		alias := ""
		for i := range a.rrs {
			switch rr := &a.rrs[i]; {
			case !strings.EqualFold(rr.name, name):
			case rr.typ == q.typ:
				list = append(list, *rr)
			case rr.typ == typeCNAME:
				alias = rr.host
			}
		}
		if list != nil || alias == "" {
			return list
		}
		name = alias
	}
	return nil
}

// lookups are the questions of one message. Not safe for concurrent use.
type lookups struct {
	ctx   context.Context
	dns   asker
	asked map[question]*answer
	order []*answer
	bytes int
}

func newLookups(ctx context.Context, dns asker) *lookups {
	return &lookups{ctx: ctx, dns: dns, asked: map[question]*answer{}}
}

// recorded are the answers as they are kept.
func (l *lookups) recorded() []record.DNSAnswer {
	list := make([]record.DNSAnswer, len(l.order))
	for i, a := range l.order {
		list[i] = a.DNSAnswer
	}
	return list
}

// expect announces a question.
func (l *lookups) expect(name string, typ dnsmessage.Type) {
	if name, ok := dnsName(name); ok {
		l.dns.expect(question{name, typ})
	}
}

// find asks for the records of a name. The error is nil where there are some; it says whether there are none, or no answer.
func (l *lookups) find(name string, typ dnsmessage.Type) ([]resource, error) {
	ascii, ok := dnsName(name)
	if !ok {
		return nil, &net.DNSError{Err: "not a domain name", Name: name, IsNotFound: true}
	}
	q := question{ascii, typ}
	a := l.asked[q]
	if a == nil {
		if len(l.order) >= maxQuestions || l.bytes >= maxAnswers {
			return nil, &net.DNSError{Err: "too many questions for one message", Name: name, IsTemporary: true}
		}
		a = l.dns.ask(l.ctx, q)
		l.asked[q], l.order = a, append(l.order, a)
		for _, line := range a.Answer {
			l.bytes += len(line)
		}
	}
	switch list := a.found(q); {
	case a.Error != "":
		return nil, &net.DNSError{Err: a.Error, Name: name, IsTemporary: true}
	case a.Rcode == "NXDOMAIN":
		return nil, &net.DNSError{Err: "no such name", Name: name, IsNotFound: true}
	case a.Rcode != "NOERROR":
		return nil, &net.DNSError{Err: a.Rcode, Name: name, IsTemporary: true}
	case len(list) == 0:
		return nil, &net.DNSError{Err: "no " + typeName(typ) + " record", Name: name, IsNotFound: true}
	default:
		return list, nil
	}
}

// txt gives the TXT records of a name, the strings of each joined.
func (l *lookups) txt(name string) ([]string, error) {
	list, err := l.find(name, typeTXT)
	texts := make([]string, len(list))
	for i := range list {
		texts[i] = strings.Join(list[i].text, "")
	}
	return texts, err
}

// notFound says that the answer is: there is no such thing.
func notFound(err error) bool {
	dns, ok := err.(*net.DNSError)
	return ok && dns.IsNotFound
}

// dnsName makes a name what a question takes: ASCII (RFC 5891), lower case, with a last dot. false: it can't be one.
func dnsName(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	for i := range len(name) {
		if name[i] >= 0x80 {
			var err error
			if name, err = idna.Lookup.ToASCII(name); err != nil {
				return "", false
			}
			break
		}
	}
	if len(name) == 0 || len(name) > 253 {
		return "", false
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c < ' ' || c > '~':
			return "", false
		case c != '.':
			if label++; label > 63 {
				return "", false
			}
		case label == 0:
			return "", false
		default:
			label = 0
		}
	}
	return strings.ToLower(name) + ".", label > 0
}

// reverseName is the name that the PTR records of an address have.
func reverseName(ip netip.Addr) string {
	var b strings.Builder
	bytes := ip.AsSlice()
	slices.Reverse(bytes)
	for _, c := range bytes {
		if ip.Is4() {
			fmt.Fprintf(&b, "%d.", c)
		} else {
			fmt.Fprintf(&b, "%x.%x.", c&15, c>>4)
		}
	}
	if ip.Is4() {
		return b.String() + "in-addr.arpa"
	}
	return b.String() + "ip6.arpa"
}

// recordedAnswers answers from what was recorded.
type recordedAnswers map[question]*answer

func newRecorded(list []record.DNSAnswer) recordedAnswers {
	answers := recordedAnswers{}
	for _, d := range list {
		a := &answer{DNSAnswer: d}
		for _, line := range d.Answer {
			rr, err := parseLine(line)
			if err != nil {
				a.Error = "recorded answer: " + err.Error()
				break
			}
			a.rrs = append(a.rrs, rr)
		}
		answers[question{d.Name, typeNamed(d.Type)}] = a
	}
	return answers
}

func (r recordedAnswers) expect(question) {}

func (r recordedAnswers) ask(_ context.Context, q question) *answer {
	if a, ok := r[q]; ok {
		return a
	}
	return unanswered(q, "was not asked at receipt")
}
