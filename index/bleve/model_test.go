package bleve

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
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
func (m model) search(verdicts map[record.ID]query.Verdict, sort index.Sort) []record.ID {
	var found []*document.Document
	for id, d := range m {
		if verdicts[id] == query.Yes {
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

// decide asks each record.
func (m model) decide(q query.Query) map[record.ID]query.Verdict {
	verdicts := map[record.ID]query.Verdict{}
	for id, d := range m {
		verdicts[id] = verdictOf(q, d)
	}
	return verdicts
}

// modelSets are the sets that come with every request: by name, the records whose id has a byte as the name has.
var modelSets = []string{"a", "b c"}

func inModelSet(name string, id record.ID) bool { return id[15]%3 == name[0]%3 }

func (m model) sets() map[string][]record.ID {
	sets := map[string][]record.ID{}
	for _, name := range modelSets {
		var ids []record.ID
		for id := range m {
			if inModelSet(name, id) {
				ids = append(ids, id)
			}
		}
		slices.SortFunc(ids, record.ID.Compare)
		sets[query.Set{Field: query.Tag, Name: name}.String()] = ids
	}
	return sets
}

// verdictOf is query.Match, as plainly as can be, and it knows the sets.
func verdictOf(q query.Query, d *document.Document) query.Verdict {
	is := func(yes, gap bool) query.Verdict {
		switch {
		case yes:
			return query.Yes
		case gap:
			return query.Unknown
		}
		return query.No
	}
	switch q := q.(type) {
	case query.All:
		return query.Yes
	case query.And:
		v := query.Yes
		for _, o := range q {
			v = min(v, verdictOf(o, d))
		}
		return v
	case query.Or:
		v := query.No
		for _, o := range q {
			v = max(v, verdictOf(o, d))
		}
		return v
	case query.Not:
		return query.Yes - verdictOf(q.Query, d)
	case query.Text:
		return textVerdict(q, q.Field, d, false)
	case query.Near:
		return textVerdict(q, q.Field, d, strings.Contains(q.String(), "NOT W/"))
	case query.Address:
		if q.Part == query.Null {
			return is(d.NullSender, false)
		}
		yes := slices.ContainsFunc(addressesOf(q.Field, d), func(a document.Address) bool { return hasAddress(a, q) })
		return is(yes, d.HeaderPartial && q.Field != query.EnvFrom && q.Field != query.Rcpt)
	case query.Time:
		t := d.Received
		if q.Field == query.Sent {
			t = d.Sent
		}
		yes := !t.IsZero() && (q.From.IsZero() || !t.Before(q.From)) && (q.Before.IsZero() || t.Before(q.Before))
		return is(yes, t.IsZero() && d.HeaderPartial)
	case query.Size:
		return is(d.Size >= q.Min && (q.Max < 0 || d.Size <= q.Max), false)
	case query.Attached:
		has := len(d.Attachments) > 0
		if d.Partial && !has {
			return query.Unknown
		}
		return is(q.Has == has, false)
	case query.MessageID:
		return is(d.MessageID == q.Value || q.Prefix && strings.HasPrefix(d.MessageID, q.Value), d.HeaderPartial)
	case query.Fact:
		gap := map[document.FactField]bool{
			document.FileType: d.Partial, document.List: d.HeaderPartial, document.Importance: d.HeaderPartial, document.Thread: d.HeaderPartial, document.Direction: d.HeaderPartial,
			document.Outcome: d.OutcomeOpen,
		}
		return is(hasFact(q, d), gap[q.Field])
	case query.ID:
		return is(d.ID == q.ID, false)
	case query.SHA256:
		return is(d.SHA256 == q.Digest, false)
	case query.Set:
		return is(inModelSet(q.Name, d.ID), false)
	}
	panic(fmt.Sprintf("query %T", q))
}

func hasFact(q query.Fact, d *document.Document) bool {
	rank := func(version string) int { return slices.Index([]string{"0", "1.0", "1.1", "1.2", "1.3"}, version) }
	for _, f := range d.Facts {
		if f.Field != q.Field {
			continue
		}
		value, is := f.Value, f.Value == q.Value
		switch q.Field {
		case document.Client:
			a, _ := netip.AddrFromSlice([]byte(value[1:]))
			n, err := netip.ParsePrefix(q.Value)
			is = err == nil && n.Contains(a) || a.String() == q.Value
		case document.TLS:
			got, want := rank(value), rank(strings.Replace(q.Value, "none", "0", 1))
			is = map[string]bool{"=": got == want, "<": got < want, "<=": got <= want, ">": got > want, ">=": got >= want}[q.Op]
		case document.Auth:
			is = value != "" && (is || q.Value == "any") || value == "" && q.Value == "none"
		case document.Outcome:
			is = is || strings.HasSuffix(q.Value, "xx") && len(value) == 3 && value[0] == q.Value[0]
			is = is || strings.HasSuffix(q.Value, "xx") && strings.HasPrefix(value, q.Value[:1]+".")
		}
		if is {
			return true
		}
	}
	return q.Field == document.Thread && d.MessageID == q.Value
}

// telemetry gives a document what envelopes and supplements tell.
func (w *world) telemetry(d *document.Document) {
	env := &record.Envelope{Source: record.SourceSMTP, Mode: pick(w, []string{record.ModeRelay, record.ModeJournal}), MailFrom: &record.Path{}}
	env.Client = &record.Client{Address: pick(w, []string{"10.0.0.1", "10.1.2.3", "192.0.2.255", "2001:db8::1", "::1"})}
	if w.IntN(2) == 0 {
		env.TLS = &record.TLS{Version: pick(w, []string{"1.0", "1.1", "1.2", "1.3"})}
	}
	if w.IntN(3) == 0 {
		env.Auth = &record.Auth{Identity: pick(w, []string{"tom", "Tom@acme.com"})}
	}
	fresh := document.FromMessage(env, nil)
	d.Facts, d.OutcomeOpen = append(d.Facts, fresh.Facts...), fresh.OutcomeOpen
	if d.NullSender = w.IntN(5) == 0; d.NullSender {
		d.EnvFrom = nil
	}
	if w.IntN(3) > 0 {
		code := pick(w, []int{250, 450, 550, 554})
		d.Learn([]record.SupplementDoc{{Supplement: record.Supplement{Delivery: &record.Delivery{
			Outcome:    pick(w, []record.Outcome{record.Delivered, record.Refused, record.Unknown}),
			Recipients: []record.RecipientDelivery{{Address: "a", Outcome: record.Delivered, Code: 250}, {Address: "b", Code: code, Outcome: record.Refused, Enhanced: "5.1.1"}},
		}}}})
	}
	for _, f := range []document.Fact{{Field: document.SPF, Value: "fail"}, {Field: document.DMARC, Value: "pass"}, {Field: document.Importance, Value: "high"},
		{Field: document.List, Value: "lists.acme.com"}, {Field: document.Thread, Value: "7@Example.ORG"}, {Field: document.FileType, Value: "pdf"}, {Field: document.Direction, Value: document.Inbound}, {Field: document.Direction, Value: document.Internal}} {
		if w.IntN(4) == 0 && !slices.Contains(d.Facts, f) {
			d.Facts = append(d.Facts, f)
		}
	}
}

func (w *world) factQuery(known *document.Document) query.Query {
	if w.IntN(8) == 0 {
		return query.Address{Field: query.EnvFrom, Part: query.Null}
	}
	q := query.Fact{Op: "=", Field: pick(w, []document.FactField{document.Client, document.TLS, document.Auth, document.Outcome, document.SPF,
		document.DMARC, document.Importance, document.List, document.Thread, document.FileType, document.Direction})}
	q.Value = map[document.FactField]string{
		document.Client: pick(w, []string{"10.0.0.0/8", "10.0.0.0/15", "192.0.2.255", "192.0.2.254/31", "2001:db8::/32", "::/0", "0.0.0.0/0", "10.1.2.3"}),
		document.TLS:    pick(w, query.TLSVersions), document.Auth: pick(w, []string{"any", "none", "tom", "tom@acme.com"}),
		document.Outcome: pick(w, []string{"delivered", "refused", "unknown", "5xx", "4xx", "550", "5.1.1"}), document.SPF: "fail", document.DMARC: "pass",
		document.Importance: "high", document.List: "lists.acme.com", document.Thread: fmt.Sprintf("%d@Example.ORG", w.IntN(9)), document.FileType: "pdf",
		document.Direction: pick(w, []string{document.Inbound, document.Outbound, document.Internal}),
	}[q.Field]
	if q.Field == document.TLS {
		q.Op = pick(w, []string{"=", "<", "<=", ">", ">="})
	}
	if known != nil && q.Field == document.Thread && known.MessageID != "" {
		q.Value = known.MessageID
	}
	return q
}

func textVerdict(q query.Query, f query.Field, d *document.Document, unsure bool) query.Verdict {
	v := query.No
	for _, f := range fieldsOf(f) {
		gap := d.Partial
		if f == query.Subject || strings.HasPrefix(string(f), "header.") {
			gap = d.HeaderPartial
		}
		here := query.No
		for _, s := range textsOf(f, d) {
			if len(spansOf(q, tokensOf(s))) > 0 {
				here = query.Yes
			}
		}
		if gap && (here == query.No || unsure) {
			here = query.Unknown
		}
		v = max(v, here)
	}
	return v
}

func fieldsOf(f query.Field) []query.Field {
	if f == query.Anywhere {
		return []query.Field{query.Subject, query.Body, query.Attachment, query.AttachmentText}
	}
	return []query.Field{f}
}

func textsOf(f query.Field, d *document.Document) []string {
	switch f {
	case query.Subject:
		return []string{d.Subject}
	case query.Body:
		return []string{d.Body}
	case query.AttachmentText:
		return []string{d.AttachmentText}
	}
	for _, h := range d.Headers {
		if strings.EqualFold("header."+h.Name, string(f)) {
			return h.Values
		}
	}
	if strings.HasPrefix(string(f), "header.") {
		return nil
	}
	var names []string
	for _, a := range d.Attachments {
		names = append(names, a.Name)
	}
	return names
}

type modelToken struct{ text, exact string }

var tokenCache = map[string][]modelToken{}

func tokensOf(s string) []modelToken {
	list, ok := tokenCache[s]
	if !ok {
		for _, t := range document.Tokens(nil, s) {
			m := modelToken{t.Text, t.Text}
			if t.Marked {
				m.exact = document.Exact(s[t.Start:t.End])
			}
			list = append(list, m)
		}
		tokenCache[s] = list
	}
	return list
}

// spansOf gives the first and last place of everything that an operand of proximity can be.
func spansOf(q query.Query, tokens []modelToken) (spans [][2]int) {
	switch q := q.(type) {
	case query.Text:
		for i := 0; i+len(q.Tokens) <= len(tokens); i++ {
			ok := true
			for k := range q.Tokens {
				ok = ok && isWord(q, k, tokens[i+k])
			}
			if ok {
				spans = append(spans, [2]int{i, i + len(q.Tokens) - 1})
			}
		}
	case query.Or:
		for _, o := range q {
			spans = append(spans, spansOf(o, tokens)...)
		}
	case query.Near:
		as, bs := spansOf(q.A, tokens), spansOf(q.B, tokens)
		for _, a := range as {
			met := false
			for _, b := range bs {
				after := b[0] > a[1] && b[0]-a[1] <= q.N
				before := a[0] > b[1] && a[0]-b[1] <= q.N && !q.Ordered
				if !after && !before {
					continue
				}
				met = true
				if !q.Without {
					spans = append(spans, [2]int{min(a[0], b[0]), max(a[1], b[1])})
				}
			}
			if q.Without && !met {
				spans = append(spans, a)
			}
		}
	}
	return spans
}

var wordCache = map[string]bool{}

// isWord says whether a token is what a text's word k stands for.
func isWord(q query.Text, k int, t modelToken) bool {
	if q.Form == query.Words {
		return t.text == q.Tokens[k]
	}
	key := fmt.Sprintf("%d %s %s %q %s %s", q.Form, q.Language, q.Tokens[k], q.Exact, t.text, t.exact)
	is, ok := wordCache[key]
	if !ok {
		is = isWordOf(q, k, t)
		wordCache[key] = is
	}
	return is
}

func isWordOf(q query.Text, k int, t modelToken) bool {
	want := q.Tokens[k]
	switch q.Form {
	case query.Prefix:
		return strings.HasPrefix(t.text, want)
	case query.Pattern:
		re := strings.NewReplacer(`\?`, `.`, `\*`, `.*`).Replace(regexp.QuoteMeta(want))
		return regexp.MustCompile(`^(?s:` + re + `)$`).MatchString(t.text)
	case query.Fuzzy:
		return distance([]rune(want), []rune(t.text)) <= 1
	case query.Stem:
		x, _ := q.Expansion() // the library's word is all there is
		return x.Match(t.text)
	case query.Exact:
		if q.Exact[k] != "" {
			want = q.Exact[k]
		}
		return t.text == q.Tokens[k] && t.exact == want
	}
	return t.text == want
}

// distance is the number of single changes between two words, neighbours that change places being one.
func distance(a, b []rune) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			switch {
			case i == 0 || j == 0:
				d[i][j] = i + j
			case a[i-1] == b[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = 1 + min(d[i-1][j], d[i][j-1], d[i-1][j-1])
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					d[i][j] = min(d[i][j], 1+d[i-2][j-2])
				}
			}
		}
	}
	return d[len(a)][len(b)]
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
	return slices.Concat(d.From, d.To, d.Cc, d.Bcc, d.Others, d.EnvFrom, d.Rcpt)
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
	start      time.Time
	days       int
	vocabulary []string
	people     []document.Address
}

func newWorld(t testing.TB, seed uint64) *world {
	t.Logf("seed %d", seed)
	return &world{rand.New(rand.NewPCG(seed, 1)), time.Date(2024, 11, 20, 0, 0, 0, 0, time.UTC), 75, vocabulary, people}
}

var vocabulary = strings.Fields("invoice Invoices invite the THE of and a b c report reports quarterly merger Müller mueller café cafe cáfe CAFÉ straße strasse reporting reported " +
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
	return strings.Join(some(w, w.vocabulary, most), pick(w, []string{" ", ", ", "\n"}))
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
		From: some(w, w.people, 1), To: some(w, w.people, 3), Cc: some(w, w.people, 2), Bcc: some(w, w.people, 1), Others: some(w, w.people, 1), EnvFrom: some(w, w.people, 1),
		Rcpt: some(w, w.people, 4), Partial: w.IntN(10) == 0,
	}
	d.HeaderPartial = d.Partial && w.IntN(2) == 0
	w.telemetry(d)
	if w.IntN(5) > 0 {
		d.Sent = w.time().Truncate(time.Hour)
	}
	if w.IntN(20) == 0 {
		d.Sent = pick(w, []time.Time{time.Unix(-1e11, 0).UTC(), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)})
	}
	if w.IntN(10) == 0 {
		d.Received = d.Received.Truncate(24 * time.Hour)
	}
	d.Report = w.IntN(5) == 0
	for _, name := range []string{"x-mailer", "x-mail", "received"} {
		if w.IntN(2) == 0 {
			d.Headers = append(d.Headers, document.Header{Name: name, Values: []string{w.text(6), w.text(6)}})
		}
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
	switch w.IntN(15) {
	case 13, 14:
		return w.factQuery(known)
	case 0:
		return query.All{}
	case 12:
		return query.Set{Field: query.Tag, Name: pick(w, modelSets)}
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
		if known != nil && w.IntN(2) == 0 {
			return query.MessageID{Value: known.MessageID}
		}
		if w.IntN(3) == 0 {
			return query.MessageID{Value: pick(w, []string{"1", "4", "12@", "7@Example.ORG"}), Prefix: true}
		}
		return query.MessageID{Value: fmt.Sprintf("%d@%s", w.IntN(60), pick(w, []string{"Example.ORG", "example.org"}))}
	}
	if known != nil && w.IntN(2) == 0 {
		return query.ID{ID: known.ID}
	}
	return query.SHA256{Digest: record.Sum([]byte{byte(w.IntN(256))})}
}

var textFieldNames = []query.Field{
	query.Anywhere, query.Anywhere, query.Subject, query.Body, query.Attachment, query.AttachmentText, query.HeaderField("X-Mailer"), query.HeaderField("received"),
}

func (w *world) textQuery(known *document.Document) query.Query {
	if known != nil && w.IntN(4) == 0 {
		if text := pick(w, []string{known.Body, known.Body, known.Subject}); len(document.Tokens(nil, text)) > 1 {
			return w.neighbours(text, pick(w, textFieldNames))
		}
	}
	if w.IntN(3) == 0 {
		return w.nearQuery(known, pick(w, textFieldNames), 2)
	}
	return w.wordQuery(known, pick(w, textFieldNames))
}

// nearQuery makes a proximity, or an operand of one.
func (w *world) nearQuery(known *document.Document, f query.Field, depth int) query.Query {
	q := query.Near{Field: f, N: 1 + w.IntN(1+w.IntN(12)), Ordered: w.IntN(3) == 0, A: w.wordQuery(known, f), B: w.wordQuery(known, f)}
	q.Without = !q.Ordered && w.IntN(4) == 0
	if depth > 0 && w.IntN(3) == 0 {
		q.A = w.nearQuery(known, f, depth-1)
	}
	if depth > 0 && w.IntN(4) == 0 {
		q.B = w.nearQuery(known, f, depth-1)
	}
	if w.IntN(4) == 0 {
		q.A = query.NewOr(q.A, w.wordQuery(known, f))
	}
	return q
}

// neighbours makes a proximity that a text may well meet.
func (w *world) neighbours(text string, f query.Field) query.Query {
	tokens := document.Tokens(nil, text)
	i := w.IntN(len(tokens))
	j := min(i+1+w.IntN(9), len(tokens)-1)
	if w.IntN(3) == 0 {
		i, j = j, i
	}
	word := func(t document.Token) query.Query { return w.formed(text, []document.Token{t}, f) }
	q := query.Near{Field: f, N: max(1, max(i-j, j-i)+w.IntN(3)-1), Ordered: w.IntN(3) == 0, A: word(tokens[i]), B: word(tokens[j])}
	q.Without = !q.Ordered && w.IntN(4) == 0
	if w.IntN(3) == 0 {
		k := min(j+1+w.IntN(5), len(tokens)-1)
		return query.Near{Field: f, N: 1 + w.IntN(8), A: q, B: word(tokens[k])}
	}
	return q
}

func (w *world) wordQuery(known *document.Document, f query.Field) query.Query {
	text := strings.Join([]string{pick(w, w.vocabulary), pick(w, w.vocabulary), pick(w, w.vocabulary)}, " ")
	if known != nil && w.IntN(2) == 0 {
		if known := pick(w, append(textsOf(f, known), known.Body, known.Subject, known.AttachmentText)); len(document.Tokens(nil, known)) > 1 {
			text = known
		}
	}
	tokens := document.Tokens(nil, text)
	from := w.IntN(len(tokens))
	return w.formed(text, tokens[from:min(len(tokens), from+1+w.IntN(1+w.IntN(4)))], f)
}

// formed makes some form of words of a text.
func (w *world) formed(text string, tokens []document.Token, f query.Field) query.Query {
	q := query.Text{Field: f}
	for _, t := range tokens {
		q.Tokens = append(q.Tokens, t.Text)
	}
	letters := []rune(q.Tokens[0])
	switch w.IntN(9) {
	case 0:
		q.Form, q.Tokens = query.Prefix, []string{string(letters[:1+w.IntN(min(3, len(letters)))])}
	case 1:
		if len(letters) > 2 {
			letters[2+w.IntN(len(letters)-2)] = pick(w, []rune("?*"))
			q.Form, q.Tokens = query.Pattern, []string{string(letters)}
		}
	case 2:
		if len(letters) > 2 {
			if i := w.IntN(len(letters)); w.IntN(2) == 0 {
				letters[i] = pick(w, []rune("aeño7"))
			}
			q.Form, q.Tokens = query.Fuzzy, []string{string(letters)}
		}
	case 3:
		q.Form, q.Tokens, q.Language = query.Stem, q.Tokens[:1], pick(w, query.Languages())
	case 4, 5:
		q.Form = query.Exact
		for _, t := range tokens {
			exact := ""
			if t.Marked {
				exact = document.Exact(text[t.Start:t.End])
			}
			q.Exact = append(q.Exact, exact)
		}
	}
	return q
}

func (w *world) addressQuery() query.Query {
	q := query.Address{
		Field: pick(w, []query.Field{query.From, query.To, query.Cc, query.Bcc, query.EnvFrom, query.Rcpt, query.Recipients, query.Participants}),
		Part:  pick(w, []query.AddressPart{query.Whole, query.Domain, query.Name}),
	}
	a := pick(w, w.people)
	local, domain := document.Split(a.Address)
	switch q.Part {
	case query.Whole:
		q.Value = a.Address
	case query.Domain:
		q.Value = pick(w, []string{domain, "acme.com", "com", "mail.acme.com"})
	default:
		q.Value = pick(w, append(document.NameTokens(a), document.FoldName(local), "smith", "neil", "o'neil", "小明", "acme"))
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
	d.Report, d.MessageID = h.Report, h.MessageID
	for _, a := range h.Rcpt {
		d.Rcpt = append(d.Rcpt, document.Address{Address: a})
	}
	for _, a := range h.Attachments {
		d.Attachments = append(d.Attachments, document.Attachment{Name: a})
	}
	return d
}
