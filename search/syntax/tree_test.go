package syntax

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// random gives a generator and prints its seed. HOLDFAST_SEED repeats a run.
func random(t testing.TB) *rand.Rand {
	seed, err := strconv.ParseUint(os.Getenv("HOLDFAST_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

var textFields = []query.Field{query.Anywhere, query.Subject, query.Body, query.Attachment, query.AttachmentText, query.HeaderField("X-Mailer"), query.HeaderField("X-Spam-Status")}

var addressFields = []query.Field{
	query.From, query.To, query.Cc, query.Bcc, query.EnvFrom, query.Rcpt, query.Recipients, query.Participants,
}

// leaf makes a node as Parse can give it.
func leaf(rng *rand.Rand) query.Query {
	switch rng.IntN(14) {
	case 13:
		q := query.Fact{Field: pick(rng, document.Client, document.TLS, document.Auth, document.Outcome, document.SPF, document.DMARC,
			document.List, document.Importance, document.Thread, document.FileType, document.Direction), Op: "="}
		q.Value = map[document.FactField]string{
			document.Client: pick(rng, "10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"), document.TLS: pick(rng, query.TLSVersions...),
			document.Auth: pick(rng, "none", "any", "tom@acme.com", "tom smith"), document.Outcome: pick(rng, "delivered", "5xx", "450", "5.1.1"),
			document.SPF: "softfail", document.DMARC: "fail", document.List: "a.lists.acme.com", document.Importance: "high",
			document.Thread: pick(rng, "a@b", "x y@z"), document.FileType: "pdf", document.Direction: "inbound",
		}[q.Field]
		if q.Field == document.TLS && q.Value != "none" {
			q.Op = pick(rng, "=", "<", "<=", ">", ">=")
		}
		if rng.IntN(8) == 0 {
			return query.Address{Field: query.EnvFrom, Part: query.Null}
		}
		return q
	case 9, 10:
		return near(rng, pick(rng, textFields...), 2)
	case 11:
		return form(rng, pick(rng, textFields...))
	case 12:
		q := query.Set{Field: pick(rng, query.Hold, query.Matter, query.Tag, query.Policy, query.Expires)}
		if q.Field == query.Expires {
			q.From = query.Zone(time.Date(2031, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600*rng.IntN(3))))
			return q
		}
		q.Name = query.FoldSetName(pick(rng, "acme", "Acme v. Smith", "2024/17", "größe", "a:b"))
		return q
	case 0:
		q := query.Text{Field: pick(rng, textFields...), Typed: pick(rng, "a", "Größe", "foo-bar", "o'neil", "漢字", "and", "w/5", "x_1", "AT&T", "ſtraße")}
		q.Tokens = tokens(q.Typed)
		return q
	case 1:
		q := query.Text{Field: pick(rng, textFields...), Quoted: true, Typed: pick(rng, "a", "a b", " a  b! ", "AND", "x:y", "(a OR b)", "real?", "NEAR(8)", "a\nb", "“a”", "-a")}
		q.Tokens = tokens(q.Typed)
		return q
	case 2:
		q := query.Text{Field: pick(rng, textFields...), Form: query.Prefix, Typed: pick(rng, "a", "Rechn", "ſtr", "漢", "2024")}
		q.Tokens = tokens(q.Typed)
		return q
	case 3:
		q := query.Address{Field: pick(rng, addressFields...), Part: pick(rng, query.Whole, query.Domain, query.Name), Prefix: rng.IntN(3) == 0}
		switch q.Part {
		case query.Whole:
			q.Value = pick(rng, "a@b", "alice@acme.com", "a.b+c=d@x.test", "o'neil@acme.com", "a@b@c.test", "é@münchen.de")
			if !q.Prefix {
				q.Value = pick(rng, q.Value, "john doe@acme.com", "a?b@acme.com", "-x@acme.com", "(a)@acme.com", "x@[127.0.0.1]")
			}
		case query.Domain:
			q.Value = pick(rng, "acme.com", "localhost", "mail.acme.com", "münchen.de", "a-b.test")
			if q.Prefix {
				q.Value = pick(rng, q.Value, "acme.", "ac")
			}
		default:
			q.Value = pick(rng, "alice", "john.doe", "o'neil", "foo-bar", "王小明", "a@b", "x.")
			if !q.Prefix {
				q.Value = pick(rng, q.Value, "what?", "a(b)", "a*b.c", "claire dubois", "o neil bob")
			}
		}
		return q
	case 4:
		q := query.Time{Field: pick(rng, query.Sent, query.Received)}
		from := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rng.Int64N(1<<62)) + time.Duration(rng.Int64N(1<<62)))
		unit := pick(rng, 24*time.Hour, time.Second, time.Millisecond, 1)
		from = query.Zone(from.Truncate(unit).In(time.FixedZone("", pick(rng, 0, 3600, -5*3600, 5*3600+1800))))
		kind := rng.IntN(3)
		if kind < 2 {
			q.From = from
		}
		if kind > 0 {
			q.Before = from.Add(time.Duration(1+rng.IntN(1000)) * unit)
		}
		return q
	case 5:
		low := rng.Int64N(1 << uint(rng.IntN(40)+1))
		return query.Size{Min: low, Max: pick(rng, -1, low, low+1, low+rng.Int64N(1<<30))}
	case 6:
		return query.Attached{Has: rng.IntN(2) == 0}
	case 7:
		if rng.IntN(4) == 0 {
			return query.MessageID{Value: pick(rng, "a", "a@b", "2024.1"), Prefix: true}
		}
		return query.MessageID{Value: pick(rng, "a@b", "a.b=c+d$e@host", "a b@c", "*@x", "-1", "a<b", "{x}@y", "~", "A@B")}
	default:
		if rng.IntN(2) == 0 {
			return query.ID{ID: record.NewID(time.Now())}
		}
		return query.SHA256{Digest: record.Sum([]byte{byte(rng.IntN(256))})}
	}
}

// form makes a single word in one of its forms.
func form(rng *rand.Rand, f query.Field) query.Query {
	q := query.Text{Field: f, Form: pick(rng, query.Pattern, query.Stem, query.Fuzzy, query.Exact)}
	switch q.Form {
	case query.Pattern:
		q.Typed = pick(rng, "wo?d", "w\u00f6rt*buch", "ab??*c", "Ab*")
		if q.Typed == "Ab*" {
			q.Form, q.Typed, q.Tokens = query.Prefix, "Ab", []string{"ab"}
			return q
		}
		q.Tokens = []string{map[string]string{"wo?d": "wo?d", "w\u00f6rt*buch": "wort*buch", "ab??*c": "ab??*c"}[q.Typed]}
		return q
	case query.Exact:
		q.Typed = pick(rng, "caf\u00e9", "cafe", "stra\u00dfe", "o'neil", "AND", "r\u00e9sum\u00e9-2")
		for _, t := range document.Tokens(nil, q.Typed) {
			exact := ""
			if t.Marked {
				exact = document.Exact(q.Typed[t.Start:t.End])
			}
			q.Tokens, q.Exact = append(q.Tokens, t.Text), append(q.Exact, exact)
		}
		return q
	case query.Stem:
		q.Language = pick(rng, query.Languages()...)
	}
	q.Typed = pick(rng, "running", "H\u00e4user", "\u043a\u043d\u0438\u0433\u0430")
	q.Tokens = tokens(q.Typed)
	return q
}

// near makes a proximity.
func near(rng *rand.Rand, f query.Field, depth int) query.Query {
	operand := func() query.Query {
		switch n := rng.IntN(6); {
		case n == 0 && depth > 0:
			return near(rng, f, depth-1)
		case n == 1 && depth > 0:
			return query.NewOr(form(rng, f), form(rng, f), near(rng, f, depth-1))
		case n < 4:
			return form(rng, f)
		}
		q := query.Text{Field: f, Typed: pick(rng, "a", "10/30", "foo-bar", "漢字")}
		if rng.IntN(2) == 0 {
			q.Quoted, q.Typed = true, pick(rng, "a b", "AND", "x:y", "from:x", "W/5", "-a")
		}
		q.Tokens = tokens(q.Typed)
		return q
	}
	q := query.Near{Field: f, N: 1 + rng.IntN(query.MaxNear), Ordered: rng.IntN(3) == 0, A: operand(), B: operand()}
	q.Without = !q.Ordered && rng.IntN(3) == 0
	return q
}

func tree(rng *rand.Rand, depth int) query.Query {
	if depth == 0 || rng.IntN(4) == 0 {
		return leaf(rng)
	}
	list := make([]query.Query, 2+rng.IntN(3))
	for i := range list {
		list[i] = tree(rng, depth-1)
	}
	switch rng.IntN(5) {
	case 0, 1:
		return query.NewAnd(list...)
	case 2, 3:
		return query.NewOr(list...)
	default:
		return query.Not{Query: list[0]}
	}
}

// The canonical form of every tree parses back to that tree.
func TestCanonicalFormIsTheTree(t *testing.T) {
	rng := random(t)
	for range 3000 {
		again(t, tree(rng, rng.IntN(6)))
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`a "b c" OR (d -e*)`, `from:(a@b.test OR acme.com) subject:"x y"`, `received:2024-01..2024-03 size>10MB`, `a W/5 b {c}`,
		`subject:(a* NEAR(8) "b c") NOT (x ONEAR y)`, `(a OR wo?d) NOT W/3 +caf\u00e9 W/2 run~de`, `{from:a word~1} a AROUND (7) b`, `hold:"x y" expires<2031`,
		`msgid:<a@b> id:01M84ZWWG058T63Y93NXKZ1A80`, `older_than:7d has:attachment`, `“a” –b ：`, `from:john.d*@ to:@x. cc:".."`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text, env)
		var e *Error
		switch {
		case errors.As(err, &e):
			n := utf8.RuneCountInString(text)
			if e.Pos < 0 || e.Len < 0 || e.Pos+e.Len > n || e.Byte > len(text) || e.Msg == "" || utf8.RuneCountInString(text[:e.Byte]) != e.Pos {
				t.Fatalf("%+v in %d characters", e, n)
			}
			return
		case err != nil:
			t.Fatal(err)
		}
		query.Walk(p.Query, func(q query.Query) bool {
			if text, ok := q.(query.Text); ok && (len(text.Tokens) == 0 || text.Form != query.Words && text.Form != query.Exact && len(text.Tokens) != 1) {
				t.Fatalf("%#v", text)
			}
			return true
		})
		again(t, p.Query)
	})
}

func BenchmarkParse(b *testing.B) {
	text := `from:acme.com subject:(invoice OR reminder) -has:attachment received:2024-01..2024-03 "annual report"`
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text, env); err != nil {
			b.Fatal(err)
		}
	}
}
