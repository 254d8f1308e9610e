package query

import (
	"net/netip"

	"github.com/holdfast-archive/holdfast/index/document"
)

// TLSVersions are the values of tls, in order.
var TLSVersions = []string{"none", "1.0", "1.1", "1.2", "1.3"}

const last = "\xff" // behind all that begins so: values are UTF-8, or of a fixed length

// Bounds gives the least and the greatest value (document.Fact) that match. ok is false for a fact that nobody could have made by parsing.
func (q Fact) Bounds() (low, high string, ok bool) {
	switch q.Field {
	case document.Client:
		return clientBounds(q.Value)
	case document.TLS:
		value := q.Value
		if value == "none" {
			value = document.NoTLS
		}
		switch q.Op {
		case "=":
			return value, value, true
		case "<":
			return "", before(value), true
		case "<=":
			return "", value, true
		case ">":
			return value + "\x00", last, true
		case ">=":
			return value, last, true
		}
		return "", "", false
	case document.Auth:
		switch q.Value {
		case "none":
			return document.NoAuth, document.NoAuth, true
		case "any":
			return "\x01", last, true
		}
	case document.Outcome:
		if len(q.Value) == 3 && q.Value[1:] == "xx" {
			return q.Value[:1], q.Value[:1] + last, true
		}
	}
	return q.Value, q.Value, q.Op == "="
}

// before gives the greatest value less than a version: they have three characters, none of which is 0xff.
func before(version string) string {
	end := len(version) - 1
	return version[:end] + string(version[end]-1) + last
}

// clientBounds are the first and the last address of a network, or an address twice.
func clientBounds(s string) (low, high string, ok bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return document.ClientValue(a), document.ClientValue(a), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return "", "", false
	}
	low = document.ClientValue(p.Masked().Addr())
	end := []byte(low)
	for i := p.Bits(); i < p.Addr().BitLen(); i++ {
		end[1+i/8] |= 0x80 >> (i % 8)
	}
	return low, string(end), true
}

func (q Fact) matches(d *document.Document) bool {
	low, high, ok := q.Bounds()
	if !ok {
		return false
	}
	if q.Field == document.Thread && d.MessageID != "" && d.MessageID == q.Value {
		return true
	}
	for _, f := range d.Facts {
		if f.Field == q.Field && f.Value >= low && f.Value <= high {
			return true
		}
	}
	return false
}

// factGap says whether a fact that is not there may be in what is missing of the record.
func (m *Matcher) factGap(f document.FactField) bool {
	switch f {
	case document.FileType:
		return m.partial
	case document.List, document.Importance, document.Thread, document.Direction:
		return m.header
	case document.Outcome:
		return m.doc.OutcomeOpen || m.doc.Bare
	}
	return m.doc.Bare
}
