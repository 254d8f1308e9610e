package query

import (
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-archive/holdfast/index/document"
)

// Verdict is what a query says of one record. The three are ordered: AND is the least of its operands, OR the greatest.
type Verdict int8

// The verdicts.
const (
	No      Verdict = iota
	Unknown         // some of the record could not be read, and what is missing might decide it
	Yes
)

func (v Verdict) String() string { return [...]string{"no", "unknown", "yes"}[v] }

// Match decides a query on one record. It says of each what an index says of it; of records that were read whole it says yes or no, but for
// Set, which no record can answer: that is unknown.
func Match(q Query, doc *document.Document) Verdict { return NewMatcher(doc).Match(q) }

// Matcher decides queries on one record. What it has analysed for one, it keeps for the next. Not safe for concurrent use.
type Matcher struct {
	doc             *document.Document
	texts           map[Field]*text
	partial, header bool // some text, some field of the header is missing
}

// NewMatcher makes one. The document must not be changed.
func NewMatcher(doc *document.Document) *Matcher {
	m := &Matcher{doc: doc, texts: map[Field]*text{}, header: doc.HeaderPartial || doc.Bare}
	m.partial = doc.Partial || m.header
	for _, f := range textsOf(Anywhere) {
		bytes := 0
		for _, s := range m.values(f) {
			bytes += len(s)
		}
		if bytes > document.MaxWords && m.analysed(f).cut {
			m.partial = true
		}
	}
	return m
}

// Match decides one query.
func (m *Matcher) Match(q Query) Verdict {
	d := m.doc
	switch q := q.(type) {
	case All:
		return Yes
	case And:
		v := Yes
		for _, o := range q {
			if v = min(v, m.Match(o)); v == No {
				break
			}
		}
		return v
	case Or:
		v := No
		for _, o := range q {
			if v = max(v, m.Match(o)); v == Yes {
				break
			}
		}
		return v
	case Not:
		return Yes - m.Match(q.Query)
	case Text:
		return m.text(q.Field, true, func(t *text) (bool, bool) { return len(t.places(q).Spans) > 0, false })
	case Near:
		return m.text(q.Field, q.Certain(), func(t *text) (bool, bool) { return t.near(q) })
	case Address:
		return verdict(m.address(q), headerAddress(q.Field) && m.header || d.Bare)
	case Time:
		t, gap := d.Received, false
		if q.Field == Sent {
			t, gap = d.Sent, m.header
		}
		yes := !t.IsZero() && (q.From.IsZero() || !t.Before(q.From)) && (q.Before.IsZero() || t.Before(q.Before))
		return verdict(yes, gap && t.IsZero())
	case Size:
		return known(d.Size >= q.Min && (q.Max < 0 || d.Size <= q.Max), d.Bare)
	case Attached:
		v := verdict(len(d.Attachments) > 0, m.partial)
		if !q.Has {
			v = Yes - v
		}
		return v
	case MessageID:
		return verdict(q.matches(d.MessageID), m.header)
	case Fact:
		return verdict(q.matches(d), m.factGap(q.Field))
	case ID:
		return verdict(d.ID == q.ID, false)
	case SHA256:
		return known(d.SHA256 == q.Digest, d.Bare)
	}
	return Unknown
}

// verdict is of something that was found, or not found while it may be in what is missing.
func verdict(yes, gap bool) Verdict {
	switch {
	case yes:
		return Yes
	case gap:
		return Unknown
	}
	return No
}

// known is of something that is there whole, or not at all.
func known(yes, missing bool) Verdict {
	if missing {
		return Unknown
	}
	return verdict(yes, false)
}

// headerAddress says whether a field's addresses are, if only in part, of the header.
func headerAddress(f Field) bool { return f != EnvFrom && f != Rcpt }

func (m *Matcher) address(q Address) bool {
	d := m.doc
	if q.Part == Null {
		return q.Field == EnvFrom && d.NullSender
	}
	var lists [][]document.Address
	switch q.Field {
	case From:
		lists = [][]document.Address{d.From}
	case To:
		lists = [][]document.Address{d.To}
	case Cc:
		lists = [][]document.Address{d.Cc}
	case Bcc:
		lists = [][]document.Address{d.Bcc}
	case EnvFrom:
		lists = [][]document.Address{d.EnvFrom}
	case Rcpt:
		lists = [][]document.Address{d.Rcpt}
	case Recipients:
		lists = [][]document.Address{d.To, d.Cc, d.Bcc, d.Rcpt}
	case Participants:
		lists = [][]document.Address{d.From, d.To, d.Cc, d.Bcc, d.Others, d.EnvFrom, d.Rcpt}
	}
	for _, list := range lists {
		if slices.ContainsFunc(list, q.matches) {
			return true
		}
	}
	return false
}

func (q MessageID) matches(id string) bool {
	return id == q.Value || q.Prefix && strings.HasPrefix(id, q.Value)
}

func (q Address) matches(a document.Address) bool {
	equal := func(s string) bool { return s == q.Value || q.Prefix && strings.HasPrefix(s, q.Value) }
	switch q.Part {
	case Whole:
		return a.Address != "" && equal(a.Address)
	case Domain:
		_, domain := document.Split(a.Address)
		return slices.ContainsFunc(document.Domains(domain), equal)
	}
	return slices.ContainsFunc(document.NameTokens(a), equal)
}

// text decides what is asked of texts: of each that a field stands for, by itself. certain says that a yes is one even if text is missing.
func (m *Matcher) text(f Field, certain bool, ask func(*text) (yes, enough bool)) Verdict {
	v := No
	for _, f := range textsOf(f) {
		t := m.analysed(f)
		gap := m.partial
		if _, header := f.Header(); header {
			gap = m.header
		} else if f == Subject {
			gap = m.header || t.cut
		}
		yes, enough := ask(t)
		if yes && (enough || gap && !certain) {
			v = max(v, Unknown)
			continue
		}
		v = max(v, verdict(yes, gap || enough))
	}
	return v
}

func textsOf(f Field) []Field {
	if f == Anywhere {
		return []Field{Subject, Body, Attachment, AttachmentText}
	}
	return []Field{f}
}

// text is one field's words, with the positions of each, ascending from 1.
type text struct {
	words map[string]*occurrences
	cut   bool // it has more than are kept
}

// attachmentGap is the distance in positions between two names of attachments: no phrase and no proximity reaches from one to the next.
const attachmentGap = MaxNear

func (m *Matcher) analysed(f Field) *text {
	if t := m.texts[f]; t != nil {
		return t
	}
	t := &text{words: map[string]*occurrences{}}
	pos := 1
	for _, s := range m.values(f) {
		pos += attachmentGap + document.Each(s, func(token *document.Token) {
			at := uint32(pos + token.Position)
			t.add(token.Text, at)
			if token.Marked {
				t.add(document.Variant(token.Text, document.Exact(s[token.Start:token.End])), at)
			}
		})
	}
	m.texts[f] = t
	return t
}

// values are the texts of a field.
func (m *Matcher) values(f Field) []string {
	d := m.doc
	if name, ok := f.Header(); ok {
		for _, h := range d.Headers {
			if h.Name == name {
				return h.Values
			}
		}
		return nil
	}
	switch f {
	case Subject:
		return []string{d.Subject}
	case Body:
		return []string{d.Body}
	case AttachmentText:
		return []string{d.AttachmentText}
	}
	names := make([]string, len(d.Attachments))
	for i, a := range d.Attachments {
		names[i] = a.Name
	}
	return names
}

// occurrences are where one word stands.
type occurrences struct{ list []uint32 }

// add keeps a word; its text may change after.
func (t *text) add(term string, at uint32) {
	w := t.words[term]
	if w == nil {
		if len(t.words) == document.MaxWords {
			t.cut = true
			return
		}
		w = &occurrences{}
		t.words[strings.Clone(term)] = w
	}
	w.list = append(w.list, at)
}

// at gives where a word stands.
func (t *text) at(term string) []uint32 {
	if w := t.words[term]; w != nil {
		return w.list
	}
	return nil
}

// near says whether a proximity is met; enough that there are too many places to say.
func (t *text) near(q Near) (yes, enough bool) {
	return q.Decide(t.operand(q.A), t.operand(q.B))
}

// operand gives where an operand of proximity stands.
func (t *text) operand(q Query) Places {
	switch q := q.(type) {
	case Text:
		return t.places(q)
	case Or:
		list := make([]Places, len(q))
		for i, o := range q {
			list[i] = t.operand(o)
		}
		return Union(nil, list...)
	case Near:
		return q.Join(nil, t.operand(q.A), t.operand(q.B))
	}
	return Places{}
}

// places gives where a word or a phrase stands.
func (t *text) places(q Text) Places {
	if x, ok := q.Expansion(); ok {
		list := make([]Places, 1)
		for word := range t.words {
			if x.Match(word) {
				list = append(list, Places{Spans: Consecutive(nil, [][]uint32{t.at(word)})})
			}
		}
		return Union(nil, list...)
	}
	lists := make([][]uint32, len(q.Tokens))
	for i, token := range q.Tokens {
		lists[i] = t.at(token)
		if q.Form == Exact {
			lists[i] = t.exact(token, q.Exact[i])
		}
	}
	return Places{Spans: Consecutive(nil, lists)}
}

// exact gives where a word stands in its exact form; "" is the form without any accent.
func (t *text) exact(token, form string) []uint32 {
	if form != "" {
		return t.at(document.Variant(token, form))
	}
	var marked []uint32
	lead := document.VariantsOf(token)
	for _, term := range slices.Sorted(maps.Keys(t.words)) {
		if strings.HasPrefix(term, lead) {
			marked = append(marked, t.at(term)...)
		}
	}
	slices.Sort(marked)
	return Except(nil, t.at(token), marked)
}
