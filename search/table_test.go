package search_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/index/bleve"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

var update = flag.Bool("update", false, "write testdata/queries.txt anew from its queries")

// tableMail reads testdata/mail.txtar. A record's number is in its id.
func tableMail(t *testing.T) (docs []*document.Document) {
	a, err := txtar.ParseFile("testdata/mail.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range a.Files {
		files[f.Name] = f.Data
	}
	for n := 1; files[fmt.Sprint(n, ".json")] != nil; n++ {
		var env record.Envelope
		if err := json.Unmarshal(files[fmt.Sprint(n, ".json")], &env); err != nil {
			t.Fatalf("%d.json: %v", n, err)
		}
		body := strings.ReplaceAll(string(files[fmt.Sprint(n, ".eml")]), "\n", "\r\n")
		env.ID, env.Size, env.SHA256 = tableID(env.Received, n), int64(len(body)), record.Sum([]byte(body))
		m, err := message.Parse(strings.NewReader(body), message.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		d := document.FromMessage(&env, m)
		d.Direct(&env, []string{"acme.example"})
		if text := files[fmt.Sprint(n, ".supplements.json")]; text != nil {
			var learnt []record.SupplementDoc
			if err := json.Unmarshal(text, &learnt); err != nil {
				t.Fatalf("%d.supplements.json: %v", n, err)
			}
			d.Learn(learnt)
		}
		docs = append(docs, d)
	}
	if len(docs) < 15 {
		t.Fatalf("%d messages", len(docs))
	}
	return docs
}

func tableID(received time.Time, n int) (id record.ID) {
	binary.BigEndian.PutUint64(id[:8], uint64(received.UnixMilli())<<16)
	id[15] = byte(n)
	return id
}

// tableSets are the sets that come with each request.
func tableSets(docs []*document.Document) map[string][]record.ID {
	of := func(numbers ...int) (ids []record.ID) {
		for _, n := range numbers {
			ids = append(ids, docs[n-1].ID)
		}
		slices.SortFunc(ids, record.ID.Compare)
		return ids
	}
	return map[string][]record.ID{
		"hold:northwind": of(1, 2, 8, 14), `matter:"acme v. rival"`: of(16), "tag:privileged": of(2, 3), "tag:empty": nil, "policy:default": of(1, 2, 3, 4),
		"expires<2031-01-01T00:00:00+01:00": of(14, 15),
	}
}

// TestTable reads testdata/queries.txt: blocks of a query ("> "), its canonical form ("= "), the numbers of the messages that both
// evaluators find (": "), and of those that neither can say of ("~ "); or where and why it is refused ("! position+length reason"); hints
// are "? ". Today is the first of April 2026, in Paris.
func TestTable(t *testing.T) {
	docs := tableMail(t)
	b, err := bleve.Open(t.TempDir(), bleve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Apply(t.Context(), index.Batch{Documents: docs}); err != nil {
		t.Fatal(err)
	}
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	env := syntax.Env{Now: time.Date(2026, 4, 1, 18, 0, 0, 0, paris), Location: paris, Joins: true, Directions: true}
	sets := tableSets(docs)
	data, err := os.ReadFile("testdata/queries.txt")
	if err != nil {
		t.Fatal(err)
	}
	answer := func(text string) string {
		parsed, err := syntax.Parse(text, env)
		var e *syntax.Error
		if errors.As(err, &e) {
			out := fmt.Sprintf("! %d+%d %s", e.Pos, e.Len, e.Msg)
			if e.Hint != "" {
				out += "\n? " + e.Hint
			}
			return out
		} else if err != nil {
			return err.Error()
		}
		out := "= " + parsed.Query.String()
		for _, blank := range []bool{false, true} {
			res, err := b.Search(t.Context(), index.Request{Query: parsed.Query, Sort: index.ReceivedAsc, Limit: len(docs), Unknown: blank, Sets: sets})
			if err != nil {
				return out + "\n" + err.Error()
			}
			found, want := map[record.ID]bool{}, query.Yes
			for _, h := range res.Hits {
				found[h.ID] = true
			}
			line := ":"
			if blank {
				line, want = "~", query.Unknown
			}
			for i, d := range docs {
				if found[d.ID] {
					line += fmt.Sprint(" ", i+1)
				}
				if v := query.Match(parsed.Query, d); !joined(parsed.Query) && (v == want) != found[d.ID] {
					t.Errorf("%s: of %d the evaluators disagree: %v", text, i+1, v)
				}
			}
			if !blank || len(found) > 0 {
				out += "\n" + line
			}
		}
		for _, h := range parsed.Hints {
			out += "\n? " + h
		}
		return out
	}
	var out strings.Builder
	queries, asked, want := 0, "", []string{}
	check := func() {
		if asked == "" {
			return
		}
		queries++
		got := answer(asked[2:])
		if w := strings.Join(want, "\n"); got != w && !*update {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", asked, got, w)
		}
		out.WriteString(asked + "\n" + got + "\n")
		asked, want = "", nil
	}
	for sc := bufio.NewScanner(strings.NewReader(string(data))); sc.Scan(); {
		switch line := sc.Text(); {
		case strings.HasPrefix(line, "> "):
			check()
			asked = line
		case line == "" || strings.HasPrefix(line, "#"):
			check()
			out.WriteString(line + "\n")
		default:
			want = append(want, line)
		}
	}
	check()
	if queries < 200 {
		t.Errorf("%d queries only", queries)
	}
	if *update {
		if err := os.WriteFile("testdata/queries.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// joined says that a query needs what only a request has.
func joined(q query.Query) (is bool) {
	query.Walk(q, func(q query.Query) bool {
		_, set := q.(query.Set)
		is = is || set
		return true
	})
	return is
}
