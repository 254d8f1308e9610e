package syntax

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// property is a field in the text, with its operator.
type property struct {
	span
	name string // as in fields
	op   string // ":", "=", "<", ">", "<=", ">="
	read func(p *parser, prop *property, v token) (query.Query, error)
}

type field struct {
	read    func(p *parser, prop *property, v token) (query.Query, error)
	ordered bool // < and > mean something
	joined  bool // of the sets that a request brings
}

// fields has every field that is answered.
var fields = map[string]field{
	"subject":        {read: (*parser).textValue},
	"body":           {read: (*parser).textValue},
	"attachment":     {read: (*parser).textValue},
	"attachmenttext": {read: (*parser).textValue},
	"from":           {read: (*parser).addressValue},
	"to":             {read: (*parser).addressValue},
	"cc":             {read: (*parser).addressValue},
	"bcc":            {read: (*parser).addressValue},
	"envfrom":        {read: (*parser).addressValue},
	"rcpt":           {read: (*parser).addressValue},
	"recipients":     {read: (*parser).addressValue},
	"participants":   {read: (*parser).addressValue},
	"sent":           {read: (*parser).timeValue, ordered: true},
	"received":       {read: (*parser).timeValue, ordered: true},
	"after":          {read: (*parser).afterValue},
	"before":         {read: (*parser).beforeValue},
	"newer_than":     {read: (*parser).newerValue},
	"older_than":     {read: (*parser).olderValue},
	"size":           {read: (*parser).sizeValue, ordered: true},
	"larger":         {read: (*parser).largerValue},
	"smaller":        {read: (*parser).smallerValue},
	"hasattachment":  {read: (*parser).attachedValue},
	"has":            {read: (*parser).hasValue},
	"msgid":          {read: (*parser).messageIDValue},
	"rfc822msgid":    {read: (*parser).messageIDValue},
	"id":             {read: (*parser).idValue},
	"sha256":         {read: (*parser).sha256Value},
	"client":         {read: (*parser).clientValue},
	"tls":            {read: (*parser).tlsValue, ordered: true},
	"auth":           {read: (*parser).authValue},
	"outcome":        {read: (*parser).outcomeValue},
	"spf":            {read: (*parser).resultValue},
	"dkim":           {read: (*parser).resultValue},
	"dmarc":          {read: (*parser).resultValue},
	"importance":     {read: (*parser).resultValue},
	"list":           {read: (*parser).listValue},
	"thread":         {read: (*parser).threadValue},
	"filetype":       {read: (*parser).fileTypeValue},
	"direction":      {read: (*parser).directionValue},
	"hold":           {read: (*parser).setValue, joined: true},
	"matter":         {read: (*parser).setValue, joined: true},
	"tag":            {read: (*parser).setValue, joined: true},
	"policy":         {read: (*parser).setValue, joined: true},
	"expires":        {read: (*parser).expiresValue, ordered: true, joined: true},
}

// otherNames are what other languages call a field of ours.
var otherNames = map[string]string{
	"filename": "attachment", "attachmentnames": "attachment", "date": "sent or received", "older": "before", "newer": "after",
	"deliveredto": "rcpt", "sender": "from or envfrom", "recipient": "recipients", "author": "from", "message-id": "msgid",
}

// known finds a field, or refuses it.
func (p *parser) known(t token) (*property, error) {
	name := strings.ToLower(t.text)
	nameAt := span{t.start, t.start + len(t.text)}
	f, ok := fields[name]
	if header, is := strings.CutPrefix(name, "header."); is {
		if err := p.checkHeader(nameAt, header); err != nil {
			return nil, err
		}
		f, ok = field{read: (*parser).headerValue}, true
	}
	switch {
	case ok && f.joined && p.env.Standing:
		return nil, p.fail(nameAt, name+" can't be asked by a policy, hold, scope or alert", "these decide on what a message is, not on what was decided of it")
	case ok && f.joined && !p.env.Joins:
		return nil, p.fail(nameAt, name+" can't be asked here", "there is nothing that has holds, matters, tags or policies")
	case ok && !f.ordered && t.op != ":" && t.op != "=":
		return nil, p.fail(t.span, fmt.Sprintf("%s has no order: %s", name, t.op), "write "+name+":value")
	case ok:
		return &property{span: t.span, name: name, op: t.op, read: f.read}, nil
	}
	hint := `put the text in quotes if no field is meant`
	if other := otherNames[name]; other != "" {
		hint = "here it is " + other
	}
	return nil, p.fail(nameAt, "unknown field "+t.text, hint)
}

// value reads one value of a field.
func (p *parser) value(prop *property, v token) (query.Query, error) { return prop.read(p, prop, v) }

func (p *parser) textValue(prop *property, v token) (query.Query, error) {
	return p.words(query.Field(prop.name), v)
}

// checkHeader refuses the names of fields that are not searched.
func (p *parser) checkHeader(at span, name string) error {
	switch {
	case name == "":
		return p.fail(at, "header. without a name", "header.x-mailer:word")
	case name == "received":
		return p.fail(at, "the field received is not searched by its words", "client: asks who handed the message over, received: when")
	}
	field, not := document.Unsearched(name)
	switch {
	case not && field == "":
		return p.fail(at, "the field "+name+" is not searched", "it holds nothing that anybody wrote")
	case not:
		return p.fail(at, "the field "+name+" is not searched by its words", field+" asks it")
	}
	return nil
}

// headerValue reads words of a field of the header.
func (p *parser) headerValue(prop *property, v token) (query.Query, error) {
	return p.words(query.HeaderField(strings.TrimPrefix(prop.name, "header.")), v)
}

func (p *parser) attachedValue(_ *property, v token) (query.Query, error) {
	switch strings.ToLower(v.text) {
	case "true", "yes":
		return query.Attached{Has: true}, nil
	case "false", "no":
		return query.Attached{Has: false}, nil
	}
	return nil, p.fail(v.span, fmt.Sprintf("%q is neither true nor false", v.text), "hasattachment:true or hasattachment:false")
}

func (p *parser) hasValue(_ *property, v token) (query.Query, error) {
	if strings.ToLower(v.text) != "attachment" {
		return nil, p.fail(v.span, fmt.Sprintf("has:%s is not known", v.text), "has:attachment")
	}
	return query.Attached{Has: true}, nil
}

func (p *parser) messageIDValue(_ *property, v token) (query.Query, error) {
	id := strings.TrimSpace(v.text)
	for strings.HasPrefix(id, "<") || strings.HasSuffix(id, ">") { // as in the header, and as often as it was wrapped
		id = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(id, "<"), ">"))
	}
	star := strings.IndexByte(id, '*')
	switch {
	case id == "":
		return nil, p.fail(v.span, "an empty Message-ID", "")
	case v.kind == tokenPhrase || star < 0:
		return query.MessageID{Value: id}, nil
	case star == 0 || star < len(id)-1 || !query.Plain(id[:star]):
		i := strings.IndexByte(v.text, '*')
		return nil, p.fail(span{v.start + i, v.start + i + 1}, "a wildcard other than at the end of a Message-ID", "put the Message-ID in quotes if it has a *")
	}
	return query.MessageID{Value: id[:star], Prefix: true}, nil
}

func (p *parser) idValue(_ *property, v token) (query.Query, error) {
	id, err := record.ParseID(strings.ToUpper(v.text))
	if err != nil {
		return nil, p.fail(v.span, fmt.Sprintf("%q is not a record id", v.text), "26 letters and digits, as 01JD5Z3T8K4QW9XH2M7C6B0VNE")
	}
	return query.ID{ID: id}, nil
}

func (p *parser) sha256Value(_ *property, v token) (query.Query, error) {
	d, err := record.ParseDigest(strings.ToLower(v.text))
	if err != nil {
		return nil, p.fail(v.span, fmt.Sprintf("%q is not a SHA-256", v.text), "64 hexadecimal digits, as sha256sum prints them")
	}
	return query.SHA256{Digest: d}, nil
}

func (p *parser) sizeValue(prop *property, v token) (query.Query, error) {
	if low, high, ok := strings.Cut(v.text, ".."); ok {
		if prop.op != ":" && prop.op != "=" {
			return nil, p.fail(v.span, "a range where one size is asked for", "write size:1MB..2MB")
		}
		a, err := p.bytes(span{v.start, v.start + len(low)}, low, v)
		if err != nil {
			return nil, err
		}
		b, err := p.bytes(span{v.end - len(high), v.end}, high, v)
		if err != nil {
			return nil, err
		}
		if a > b {
			return nil, p.fail(v.span, "a range that ends before it begins", "")
		}
		return query.Size{Min: a, Max: b}, nil
	}
	n, err := p.bytes(v.span, v.text, v)
	if err != nil {
		return nil, err
	}
	switch prop.op {
	case "<":
		if n == 0 {
			return nil, p.fail(v.span, "nothing is smaller than 0 bytes", "")
		}
		return query.Size{Max: n - 1}, nil
	case "<=":
		return query.Size{Max: n}, nil
	case ">":
		return query.Size{Min: n + 1, Max: -1}, nil
	case ">=":
		return query.Size{Min: n, Max: -1}, nil
	}
	return query.Size{Min: n, Max: n}, nil
}

func (p *parser) largerValue(prop *property, v token) (query.Query, error) {
	return p.sizeValue(&property{span: prop.span, op: ">"}, v)
}

func (p *parser) smallerValue(prop *property, v token) (query.Query, error) {
	return p.sizeValue(&property{span: prop.span, op: "<"}, v)
}

// setValue reads the name of a hold, matter, tag or policy.
func (p *parser) setValue(prop *property, v token) (query.Query, error) {
	name := v.text
	if v.kind == tokenWord {
		var star bool
		var err error
		if name, star, err = p.plainWord(v); err != nil {
			return nil, err
		}
		if star {
			return nil, p.fail(span{v.end - 1, v.end}, "a wildcard in a name of "+prop.name, "")
		}
	}
	if name = query.FoldSetName(name); name == "" {
		return nil, p.fail(v.span, "an empty name", "")
	}
	return query.Set{Field: query.SetField(prop.name), Name: name}, nil
}

// expiresValue reads a time as received: does.
func (p *parser) expiresValue(prop *property, v token) (query.Query, error) {
	if _, ok := p.ago(v.text); ok {
		return nil, p.badDate(v.span, v.text)
	}
	q, err := p.timeValue(prop, v)
	t, ok := q.(query.Time)
	if err != nil || !ok {
		return nil, err
	}
	return query.Set{Field: query.Expires, From: t.From, Before: t.Before}, nil
}

// units in bytes: decimal ones as mail programs and the SI have them, binary ones with an i.
var units = map[string]int64{
	"": 1, "B": 1, "K": 1e3, "KB": 1e3, "M": 1e6, "MB": 1e6, "G": 1e9, "GB": 1e9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30,
	"T": 1e12, "TB": 1e12, "TIB": 1 << 40,
}

// bytes reads a whole number with a unit.
func (p *parser) bytes(at span, s string, v token) (int64, error) {
	if v.kind == tokenPhrase {
		at = v.span
	}
	digits := strings.TrimRight(s, "KMGTIBkmgtib")
	unit, ok := units[strings.ToUpper(s[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 62)
	if err != nil || !ok || strings.HasPrefix(digits, "+") || int64(n) > (1<<62)/unit {
		return 0, p.fail(at, fmt.Sprintf("%q is not a size", s), "a whole number with a unit, as 1500, 20KB, 10MB or 10MiB")
	}
	return int64(n) * unit, nil
}
