package syntax

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// bare reads a value without wildcards.
func (p *parser) bare(prop *property, v token) (text string, err error) {
	if v.kind == tokenPhrase {
		return strings.TrimSpace(v.text), nil
	}
	text, star, err := p.plainWord(v)
	if err == nil && star {
		return "", p.fail(span{v.end - 1, v.end}, "a wildcard in a value of "+prop.name, "")
	}
	return text, err
}

func fact(prop *property, value string) query.Query {
	return query.Fact{Field: document.FactField(prop.name), Op: "=", Value: value}
}

// clientValue reads an address or a network.
func (p *parser) clientValue(prop *property, v token) (query.Query, error) {
	text, err := p.bare(prop, v)
	if err != nil {
		return nil, err
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return fact(prop, a.Unmap().String()), nil
	}
	n, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return nil, p.fail(v.span, fmt.Sprintf("%q is neither an IP address nor a network", text), "client:192.0.2.7, client:10.0.0.0/8 or client:2001:db8::/32")
	case n.Addr().Is4In6():
		return nil, p.fail(v.span, "a network of IPv4 addresses in IPv6 form", "write it as client:10.0.0.0/8")
	case n != n.Masked():
		return nil, p.fail(v.span, text+" has bits behind its mask", "the network is "+n.Masked().String())
	}
	return fact(prop, n.String()), nil
}

// tlsValue reads a version of TLS, or none.
func (p *parser) tlsValue(prop *property, v token) (query.Query, error) {
	value := strings.ToLower(v.text)
	if !slices.Contains(query.TLSVersions, value) {
		return nil, p.fail(v.span, fmt.Sprintf("no version of TLS: %s", v.text), "none, 1.0, 1.1, 1.2 or 1.3; tls<1.2 and tls:none")
	}
	q := query.Fact{Field: document.TLS, Op: prop.op, Value: value}
	switch {
	case q.Op == ":":
		q.Op = "="
	case q.Op == "<" && value == "none":
		return nil, p.fail(v.span, "nothing is less than none", "tls:none")
	case strings.HasPrefix(q.Op, "<") && value != "none":
		p.hint("tls%s%s includes mail that came without TLS: tls:none is that alone", q.Op, value)
	}
	return q, nil
}

// authValue reads who had signed in, none or any.
func (p *parser) authValue(prop *property, v token) (query.Query, error) {
	text, err := p.bare(prop, v)
	if err != nil {
		return nil, err
	}
	if text = document.FoldAddress(text); text == "" {
		return nil, p.fail(v.span, "an empty name", "auth:none is who had not signed in, auth:any who had")
	}
	return fact(prop, text), nil
}

var (
	replyCode = regexp.MustCompile(`^[2-5](\d\d|xx)$`)
	enhanced  = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}$`)
)

// outcomeValue reads an outcome, or a reply of the next hop.
func (p *parser) outcomeValue(prop *property, v token) (query.Query, error) {
	value := strings.ToLower(v.text)
	if !slices.Contains([]string{"delivered", "refused", "unknown"}, value) && !replyCode.MatchString(value) && !enhanced.MatchString(value) {
		return nil, p.fail(v.span, v.text+" is no outcome", "delivered, refused, unknown, a reply code as 550 or 5xx, or 5.1.1")
	}
	return fact(prop, value), nil
}

// results are what the verdicts can be.
var results = map[string][]string{
	"spf":        {"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"},
	"dkim":       {"none", "pass", "fail", "policy", "neutral", "temperror", "permerror"},
	"dmarc":      {"none", "pass", "fail", "temperror", "permerror"},
	"importance": {"high", "low"},
	"direction":  {document.Inbound, document.Outbound, document.Internal},
}

// resultValue reads one of a few words.
func (p *parser) resultValue(prop *property, v token) (query.Query, error) {
	value := strings.ToLower(v.text)
	if !slices.Contains(results[prop.name], value) {
		return nil, p.fail(v.span, fmt.Sprintf("%s is never %s", prop.name, v.text), "it is "+strings.Join(results[prop.name], ", "))
	}
	return fact(prop, value), nil
}

// directionValue reads a direction.
func (p *parser) directionValue(prop *property, v token) (query.Query, error) {
	if !p.env.Directions {
		return nil, p.fail(prop.span, "direction can't be told: our own domains are not known", "the configuration names them: index.own_domains")
	}
	return p.resultValue(prop, v)
}

// listValue reads the identifier of a mailing list, or a domain of such.
func (p *parser) listValue(prop *property, v token) (query.Query, error) {
	if n := len(v.text); n > 2 && v.text[0] == '<' && v.text[n-1] == '>' {
		v.text, v.span = v.text[1:n-1], span{v.start + 1, v.end - 1}
	}
	text, err := p.bare(prop, v)
	if err != nil {
		return nil, err
	}
	id := document.FoldDomain(text)
	if !query.Plain(id) || strings.Contains(id, "@") {
		return nil, p.fail(v.span, text+" is no identifier of a list", "as List-Id has it: list:announce.lists.example.com, or list:lists.example.com")
	}
	return fact(prop, id), nil
}

func (p *parser) threadValue(prop *property, v token) (query.Query, error) {
	q, err := p.messageIDValue(prop, v)
	if err != nil {
		return nil, err
	}
	id := q.(query.MessageID)
	if id.Prefix {
		return nil, p.fail(span{v.end - 1, v.end}, "a wildcard in a value of thread", "put the Message-ID in quotes if it has a *")
	}
	return fact(prop, id.Value), nil
}

func (p *parser) fileTypeValue(prop *property, v token) (query.Query, error) {
	kind := document.FoldFileType(v.text)
	if kind == "" {
		return nil, p.fail(v.span, v.text+" is no file type", "as a name ends: filetype:pdf, filetype:docx")
	}
	return fact(prop, kind), nil
}
