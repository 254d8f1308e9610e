package retention

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// Start says from when on a policy's period counts.
type Start string

// The starts.
const (
	// Receipt: from the time of receipt.
	Receipt Start = "receipt"
	// Date: from the message's own Date. Anybody can write any date, so where there is none, or one after receipt, receipt counts.
	Date Start = "date"
	// YearEnd: from the end of the calendar year of receipt, in UTC.
	YearEnd Start = "year-end"
)

// ErrStart is returned for text that names no start.
var ErrStart = errors.New("not a start: receipt, date or year-end")

// ParseStart reads a start; empty is Receipt.
func ParseStart(s string) (Start, error) {
	switch Start(s) {
	case "":
		return Receipt, nil
	case Receipt, Date, YearEnd:
		return Start(s), nil
	}
	return "", fmt.Errorf("%q: %w", s, ErrStart)
}

// of gives the moment from which on a record's period counts.
func (s Start) of(doc *document.Document) time.Time {
	received := doc.Received.UTC()
	switch {
	case s == Date && !doc.Sent.IsZero() && doc.Sent.Before(received):
		return doc.Sent.UTC()
	case s == YearEnd:
		return time.Date(received.Year()+1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return received
}

// DefaultName is what the default is called where policies are listed. No other may bear this name.
const DefaultName = "default"

// Policy says how long the records that a query matches are kept.
type Policy struct {
	Name  string
	Query query.Query // nil: of a version that this one can't read, so it says of no record whether it matches, and each is kept
	Keep  Period
	Start Start
}

func (p *Policy) verdict(m *query.Matcher) query.Verdict {
	if p.Query == nil {
		return query.Unknown
	}
	return m.Match(p.Query)
}

// least is how long the shortest decision keeps a record from receipt on: what is expired on arrival can be seen before it is destroyed.
const least = 24 * time.Hour

func (p *Policy) until(doc *document.Document) time.Time {
	until := p.Keep.After(p.Start.of(doc))
	if first := doc.Received.UTC().Add(least); !until.IsZero() && until.Before(first) {
		return first
	}
	return until
}

// Policies is what is in force: the default, and any number of others. It is not changed once it is made.
type Policies struct {
	def  Policy
	list []Policy // sorted by name
}

// New makes the policies of a valid configuration, which is the default alone.
func New(c Config) (*Policies, error) {
	def, err := ParsePeriod(c.Default)
	if err != nil {
		return nil, fmt.Errorf("retention.default: %w", err)
	}
	return &Policies{def: Policy{Name: DefaultName, Query: query.All{}, Keep: def, Start: Receipt}}, nil
}

// With gives the same default with these policies.
func (p *Policies) With(list []Policy) *Policies {
	list = slices.SortedFunc(slices.Values(list), func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	return &Policies{def: p.def, list: list}
}

// withDefault gives the same policies with another default.
func (p *Policies) withDefault(keep Period) *Policies {
	other := *p
	other.def.Keep = keep
	return &other
}

// Default is what counts for records that no policy matches.
func (p *Policies) Default() Policy { return p.def }

// All gives the policies besides the default, by name.
func (p *Policies) All() []Policy { return p.list }

// Reason is one policy or hold that speaks for keeping a record.
type Reason struct {
	Name    string    `json:"name"`
	Matter  string    `json:"matter,omitempty"` // of a hold
	Unsure  bool      `json:"unsure,omitempty"` // some of the record could not be read, and it might match: so it counts
	Until   time.Time `json:"until,omitzero"`   // of a policy; zero: for ever
	Forever bool      `json:"forever,omitempty"`
}

// Decision says what is to become of a record, and why.
type Decision struct {
	Keep     bool      `json:"keep"` // false: it may be destroyed now
	Until    time.Time `json:"until,omitzero"`
	Forever  bool      `json:"forever,omitempty"` // the policies keep it for ever; then Until is zero
	Policies []Reason  `json:"policies"`          // those that count, the one that decides first
	Holds    []Reason  `json:"holds"`             // each keeps it until it is released, whatever Until says
}

// Decide is the full decision on one record, as far as it could be read: keep or destroy, until when, and why. The longest policy that
// matches counts. One of which the record does not say counts too; but then so does the default, unless another matches for sure. Until
// and Policies do not depend on holds.
func (p *Policies) Decide(doc *document.Document, holds []Hold, now time.Time) Decision {
	m := query.NewMatcher(doc)
	d := p.decide(doc, func(pol *Policy) query.Verdict { return pol.verdict(m) })
	for i := range holds {
		if r, ok := holds[i].holds(m, doc.ID); ok {
			d.Holds = append(d.Holds, r)
		}
	}
	d.Keep = d.Forever || len(d.Holds) > 0 || now.Before(d.Until)
	return d
}

// DecideBy is Decide without holds, by what somebody else says of each policy, which is the i-th of All. Of the document it needs the id and
// the times.
func (p *Policies) DecideBy(doc *document.Document, verdict func(i int, pol *Policy) query.Verdict) Decision {
	i := -1
	return p.decide(doc, func(pol *Policy) query.Verdict {
		i++
		return verdict(i, pol)
	})
}

func (p *Policies) decide(doc *document.Document, verdict func(*Policy) query.Verdict) Decision {
	d := Decision{Policies: []Reason{}, Holds: []Reason{}}
	sure := false
	for i := range p.list {
		pol := &p.list[i]
		v := verdict(pol)
		if v == query.No {
			continue
		}
		sure = sure || v == query.Yes
		d.Policies = append(d.Policies, pol.reason(doc, v != query.Yes))
	}
	if !sure {
		d.Policies = append(d.Policies, p.def.reason(doc, false))
	}
	slices.SortStableFunc(d.Policies, func(a, b Reason) int {
		switch {
		case a.Forever != b.Forever && a.Forever:
			return -1
		case a.Forever != b.Forever:
			return 1
		}
		return b.Until.Compare(a.Until)
	})
	d.Until, d.Forever = d.Policies[0].Until, d.Policies[0].Forever
	return d
}

func (p *Policy) reason(doc *document.Document, unsure bool) Reason {
	return Reason{Name: p.Name, Unsure: unsure, Until: p.until(doc), Forever: p.Keep.Forever}
}

// Expiry is the moment at which a record may expire as far as is known at ingest; zero: never. known has what envelope, header and size say
// of a message (nil: nothing is known but what the item has). A policy counts where these say that it matches, or where they could not be
// read: one that waits for the text is decided by Decide, which may only lengthen. The moment is never earlier than a day after now, so that
// a mistake in a rule can be seen before it destroys. A supplement is given the default, from its record's receipt, as its id tells.
func (p *Policies) Expiry(item *record.Item, known *document.Document, now time.Time) time.Time {
	var until time.Time
	switch {
	case item.Kind == record.KindAct:
		until = ActPeriod.After(item.ID.Time())
	case known == nil || item.Envelope == nil:
		from := item.ID.Time()
		if item.Envelope != nil {
			from = item.Envelope.Received
		}
		until = p.def.Keep.After(from)
	default:
		m := query.NewMatcher(known)
		until = p.decide(known, func(pol *Policy) query.Verdict {
			v := pol.verdict(m)
			if v == query.Unknown && pol.Query != nil && !known.HeaderPartial && !known.Bare {
				return query.No
			}
			return v
		}).Until
	}
	if tomorrow := now.Add(least); !until.IsZero() && until.Before(tomorrow) {
		until = tomorrow
	}
	return until
}

// NeedsHeader says whether Expiry gains by knowing more of a message than the item has.
func (p *Policies) NeedsHeader() bool { return len(p.list) > 0 }

// Template is a policy that is common. Whether it is the right one is for counsel to say.
type Template struct {
	Name  string `json:"name"`
	Keep  string `json:"keep"`
	Start Start  `json:"start"`
	Note  string `json:"note"`
}

// Templates are policies to begin with.
func Templates() []Template {
	const confirm = "confirm with counsel: "
	return []Template{
		{"3y", "3y", Receipt, confirm + "three years from receipt, as for much correspondence of broker-dealers (SEC 17a-4(b))"},
		{"5y", "5y", Receipt, confirm + "five years from receipt, as where MiFID II or the CFTC ask for it"},
		{"6y", "6y", YearEnd, confirm + "six years from the end of the year, as for business letters in Germany (HGB 257)"},
		{"7y", "7y", Receipt, confirm + "seven years from receipt, as after the Sarbanes-Oxley Act"},
		{"8y", "8y", YearEnd, confirm + "eight years from the end of the year, as for vouchers in Germany since 2025 (AO 147)"},
		{"10y", "10y", YearEnd, confirm + "ten years from the end of the year, as for books and accounts in Germany (AO 147)"},
	}
}
