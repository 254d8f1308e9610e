package bleve

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// model is an index that is too simple to be wrong: a list of documents, and every query asked of each.
type model map[record.ID]*document.Document

func (m model) apply(b index.Batch) {
	for _, d := range b.Documents {
		m[d.ID] = d
	}
	for _, id := range b.Deletes {
		delete(m, id)
	}
}

// search gives the ids of all hits, in order.
func (m model) search(q query.Query, sort index.Sort) []record.ID {
	var found []*document.Document
	for _, d := range m {
		if matches(q, d) {
			found = append(found, d)
		}
	}
	key := func(d *document.Document) int64 {
		switch sort {
		case index.ReceivedAsc, index.ReceivedDesc:
			return d.Received.UnixNano()
		case index.SizeAsc, index.SizeDesc:
			return d.Size
		}
		if d.Sent.IsZero() {
			return -1 << 63
		}
		return d.Sent.Unix()
	}
	slices.SortFunc(found, func(x, y *document.Document) int {
		c := cmp.Or(cmp.Compare(key(x), key(y)), x.ID.Compare(y.ID))
		if strings.HasPrefix(string(sort), "-") {
			return -c
		}
		return c
	})
	ids := make([]record.ID, len(found))
	for i, d := range found {
		ids[i] = d.ID
	}
	return ids
}

func matches(q query.Query, d *document.Document) bool {
	switch q := q.(type) {
	case query.All:
		return true
	case query.And:
		return !slices.ContainsFunc(q, func(o query.Query) bool { return !matches(o, d) })
	case query.Or:
		return slices.ContainsFunc(q, func(o query.Query) bool { return matches(o, d) })
	case query.Not:
		return !matches(q.Query, d)
	case query.Text:
		return slices.ContainsFunc(textsOf(q.Field, d), func(s string) bool { return hasPhrase(s, q) })
	case query.Address:
		return slices.ContainsFunc(addressesOf(q.Field, d), func(a document.Address) bool { return hasAddress(a, q) })
	case query.Time:
		t := d.Received
		if q.Field == query.Sent {
			t = d.Sent
		}
		return !t.IsZero() && (q.From.IsZero() || !t.Before(q.From)) && (q.Before.IsZero() || t.Before(q.Before))
	case query.Size:
		return d.Size >= q.Min && (q.Max < 0 || d.Size <= q.Max)
	case query.Attached:
		return q.Has == (len(d.Attachments) > 0)
	case query.MessageID:
		return d.MessageID == q.Value
	case query.ID:
		return d.ID == q.ID
	case query.SHA256:
		return d.SHA256 == q.Digest
	}
	panic(fmt.Sprintf("query %T", q))
}

func textsOf(f query.Field, d *document.Document) []string {
	var names []string
	for _, a := range d.Attachments {
		names = append(names, a.Name)
	}
	switch f {
	case query.Subject:
		return []string{d.Subject}
	case query.Body:
		return []string{d.Body}
	case query.Attachment:
		return names
	}
	return append(names, d.Subject, d.Body, d.AttachmentText)
}

var tokenCache = map[string][]document.Token{}

func tokensOf(s string) []document.Token {
	list, ok := tokenCache[s]
	if !ok {
		list = document.Tokens(nil, s)
		tokenCache[s] = list
	}
	return list
}

func hasPhrase(s string, q query.Text) bool {
	tokens := tokensOf(s)
	for i := 0; i+len(q.Tokens) <= len(tokens); i++ {
		ok := true
		for k, want := range q.Tokens {
			ok = ok && (tokens[i+k].Text == want || q.Prefix && strings.HasPrefix(tokens[i+k].Text, want))
		}
		if ok {
			return true
		}
	}
	return false
}

func addressesOf(f query.Field, d *document.Document) []document.Address {
	switch f {
	case query.From:
		return d.From
	case query.To:
		return d.To
	case query.Cc:
		return d.Cc
	case query.Bcc:
		return d.Bcc
	case query.EnvFrom:
		return d.EnvFrom
	case query.Rcpt:
		return d.Rcpt
	case query.Recipients:
		return slices.Concat(d.To, d.Cc, d.Bcc, d.Rcpt)
	}
	return slices.Concat(d.From, d.To, d.Cc, d.Bcc, d.EnvFrom, d.Rcpt)
}

func hasAddress(a document.Address, q query.Address) bool {
	equal := func(s string) bool { return s == q.Value || q.Prefix && strings.HasPrefix(s, q.Value) }
	_, domain := document.Split(a.Address)
	switch q.Part {
	case query.Whole:
		return a.Address != "" && equal(a.Address)
	case query.Domain:
		return slices.ContainsFunc(document.Domains(domain), equal)
	}
	return slices.ContainsFunc(document.NameTokens(a), equal)
}

// world makes random documents, and queries that have something to do with them.
type world struct {
	*rand.Rand
	start time.Time
	days  int
}

func newWorld(t testing.TB, seed uint64) *world {
	t.Logf("seed %d", seed)
	return &world{rand.New(rand.NewPCG(seed, 1)), time.Date(2024, 11, 20, 0, 0, 0, 0, time.UTC), 75}
}

var vocabulary = strings.Fields("invoice Invoices invite the THE of and a b c report reports quarterly merger Müller mueller café cafe " +
	"報告書 中文字 привет x1 x2 x10 don't e-mail " + strings.Repeat("long", 30))

var people = []document.Address{
	{Name: "Alice Smith", Address: "alice@acme.com"}, {Name: "O'Neil, Bob", Address: "bob.oneil@mail.acme.com"}, {Address: "carol@example.org"},
	{Name: "王小明", Address: "wang@例え.jp"}, {Name: "No Address"}, {Address: "local"}, {Name: "acme", Address: "dave@acme.community"},
	{Name: "", Address: "alicia@acme.co"}, {Address: "x@[192.0.2.1]"},
}

func pick[T any](w *world, list []T) T { return list[w.IntN(len(list))] }

func some[T any](w *world, list []T, most int) (out []T) {
	for range w.IntN(most + 1) {
		out = append(out, pick(w, list))
	}
	return out
}

func (w *world) text(most int) string {
	return strings.Join(some(w, vocabulary, most), pick(w, []string{" ", ", ", "\n"}))
}

func (w *world) time() time.Time {
	return w.start.Add(time.Duration(w.Int64N(int64(w.days) * 24 * int64(time.Hour))))
}

func (w *world) id(t time.Time) (id record.ID) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:], ms[2:])
	binary.BigEndian.PutUint64(id[6:], w.Uint64())
	return id
}

func (w *world) document() *document.Document {
	begun := w.time()
	d := &document.Document{
		ID: w.id(begun), Received: begun.Add(time.Duration(w.Int64N(int64(36 * time.Hour)))), Size: int64(w.IntN(20)) * 1000,
		SHA256: record.Sum([]byte{byte(w.IntN(256))}), MessageID: fmt.Sprintf("%d@Example.ORG", w.IntN(50)),
		Subject: w.text(6), Body: w.text(60),
		From: some(w, people, 1), To: some(w, people, 3), Cc: some(w, people, 2), Bcc: some(w, people, 1), EnvFrom: some(w, people, 1),
		Rcpt: some(w, people, 4), Partial: w.IntN(10) == 0,
	}
	if w.IntN(5) > 0 {
		d.Sent = w.time().Truncate(time.Hour)
	}
	if w.IntN(20) == 0 {
		d.Sent = pick(w, []time.Time{time.Unix(-1e11, 0).UTC(), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)})
	}
	if w.IntN(10) == 0 {
		d.Received = d.Received.Truncate(24 * time.Hour)
	}
	if w.IntN(4) == 0 {
		d.AttachmentText = w.text(20)
	}
	for range w.IntN(3) {
		d.Attachments = append(d.Attachments, document.Attachment{Name: w.text(3) + ".pdf", Type: "application/pdf", Size: 3})
	}
	return d
}

func (w *world) query(m model, depth int) query.Query {
	if depth > 0 && w.IntN(2) == 0 {
		switch w.IntN(3) {
		case 0:
			return query.And{w.query(m, depth-1), w.query(m, depth-1)}
		case 1:
			return query.Or{w.query(m, depth-1), w.query(m, depth-1), w.query(m, depth-1)}
		}
		return query.Not{Query: w.query(m, depth-1)}
	}
	var known *document.Document
	for _, known = range m { // any
		break
	}
	switch w.IntN(12) {
	case 0:
		return query.All{}
	case 1, 2, 3:
		return w.textQuery(known)
	case 4, 5:
		return w.addressQuery()
	case 6, 7:
		q := query.Time{Field: pick(w, []query.TimeField{query.Sent, query.Received})}
		if w.IntN(3) > 0 {
			q.From = w.time().Truncate(time.Second)
		}
		if w.IntN(3) > 0 {
			q.Before = w.time().Truncate(24 * time.Hour)
		}
		if known != nil && w.IntN(4) == 0 {
			q.From = known.Received
		}
		return q
	case 8:
		return query.Size{Min: int64(w.IntN(15)) * 1000, Max: pick(w, []int64{-1, 5000, 10000, 12345})}
	case 9:
		return query.Attached{Has: w.IntN(2) == 0}
	case 10:
		return query.MessageID{Value: fmt.Sprintf("%d@%s", w.IntN(60), pick(w, []string{"Example.ORG", "example.org"}))}
	}
	if known != nil && w.IntN(2) == 0 {
		return query.ID{ID: known.ID}
	}
	return query.SHA256{Digest: record.Sum([]byte{byte(w.IntN(256))})}
}

func (w *world) textQuery(known *document.Document) query.Query {
	q := query.Text{Field: pick(w, []query.Field{query.Anywhere, query.Anywhere, query.Subject, query.Body, query.Attachment})}
	var tokens []document.Token
	if known != nil && w.IntN(3) == 0 {
		tokens = document.Tokens(nil, pick(w, []string{known.Body, known.Subject}))
	}
	if len(tokens) < 2 {
		tokens = document.Tokens(nil, strings.Join([]string{pick(w, vocabulary), pick(w, vocabulary), pick(w, vocabulary)}, " "))
	}
	from := w.IntN(len(tokens))
	for _, t := range tokens[from:min(len(tokens), from+1+w.IntN(4))] {
		q.Tokens = append(q.Tokens, t.Text)
	}
	if w.IntN(4) == 0 {
		q.Prefix = true
		q.Tokens = []string{string([]rune(q.Tokens[0])[:1])}
	}
	return q
}

func (w *world) addressQuery() query.Query {
	q := query.Address{
		Field: pick(w, []query.Field{query.From, query.To, query.Cc, query.Bcc, query.EnvFrom, query.Rcpt, query.Recipients, query.Participants}),
		Part:  pick(w, []query.AddressPart{query.Whole, query.Domain, query.Name}),
	}
	a := pick(w, people)
	local, domain := document.Split(a.Address)
	switch q.Part {
	case query.Whole:
		q.Value = a.Address
	case query.Domain:
		q.Value = pick(w, []string{domain, "acme.com", "com", "mail.acme.com"})
	default:
		q.Value = pick(w, []string{document.FoldName(local), "smith", "neil", "o'neil", "小明", "acme"})
	}
	if q.Prefix = w.IntN(3) == 0; q.Prefix && q.Value != "" {
		r := []rune(q.Value)
		q.Value = string(r[:1+w.IntN(len(r))])
	}
	return q
}

// documentOfHit is a document that shows as this hit.
func documentOfHit(h *index.Hit) *document.Document {
	d := &document.Document{
		Received: h.Received, Sent: h.Sent, Size: h.Size, SHA256: h.SHA256, Subject: h.Subject, From: h.From, To: h.To, Cc: h.Cc,
	}
	for _, a := range h.Rcpt {
		d.Rcpt = append(d.Rcpt, document.Address{Address: a})
	}
	for _, a := range h.Attachments {
		d.Attachments = append(d.Attachments, document.Attachment{Name: a})
	}
	return d
}
