package syntax

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-archive/holdfast/index/query"
)

var update = flag.Bool("update", false, "write testdata/golden.txt anew from its queries")

var env = Env{Now: time.Date(2026, 11, 23, 23, 30, 15, 123456789, time.UTC), Location: time.FixedZone("CET", 3600), Joins: true, Directions: true}

// outcome is what the golden file has below a query: its canonical form and hints, or where and why it is refused.
func outcome(text string) string {
	parsed, err := Parse(text, env)
	var e *Error
	switch {
	case errors.As(err, &e):
		out := fmt.Sprintf("! %d+%d %s", e.Pos, e.Len, e.Msg)
		if e.Hint != "" {
			out += "\n? " + e.Hint
		}
		return out
	case err != nil:
		return err.Error()
	}
	out := "= " + parsed.Query.String()
	for _, h := range parsed.Hints {
		out += "\n? " + h
	}
	return out
}

// TestGolden reads testdata/golden.txt: blocks of a query ("> " and the text, with \n and \t escaped as in Go), what it means ("= ") or why
// it is refused ("! position+length reason"), and hints ("? "). Lines with # are comments.
func TestGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	queries, text, want := 0, "", []string{}
	check := func() {
		if text == "" {
			return
		}
		queries++
		got := outcome(strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(text[2:]))
		if w := strings.Join(want, "\n"); got != w && !*update {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", text, got, w)
		}
		out.WriteString(text + "\n" + got + "\n")
		text, want = "", nil
	}
	for sc := bufio.NewScanner(strings.NewReader(string(data))); sc.Scan(); {
		switch line := sc.Text(); {
		case strings.HasPrefix(line, "> "):
			check()
			text = line
		case line == "" || strings.HasPrefix(line, "#"):
			check()
			out.WriteString(line + "\n")
		default:
			want = append(want, line)
		}
	}
	check()
	if queries < 80 {
		t.Errorf("%d queries only", queries)
	}
	if *update {
		if err := os.WriteFile("testdata/golden.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimits(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("(", n) + "a" + strings.Repeat(")", n) }
	for text, want := range map[string]struct {
		pos int
		msg string
	}{
		deep(MaxDepth):                           {-1, ""},
		deep(MaxDepth + 1):                       {MaxDepth, "too deep"},
		strings.Repeat("subject:(", 2) + "a":     {9, "a field (subject) among"},
		"subject:" + deep(MaxDepth):              {-1, ""},
		"subject:" + deep(MaxDepth+1):            {8 + MaxDepth, "too deep"},
		strings.Repeat("(", 9000):                {MaxDepth, "too deep"},
		strings.Repeat("(a) ", 100):              {-1, ""}, // side by side is not deep
		strings.Repeat("-", 9000) + "a":          {1, "NOT twice"},
		strings.Repeat("é", MaxLength):           {-1, ""},
		strings.Repeat("é", MaxLength) + "x":     {MaxLength, "too long"},
		strings.Repeat("a ", MaxLength/2) + "bc": {MaxLength, "too long"},
		strings.Repeat("\xff", MaxLength+1):      {MaxLength, "too long"},
		"é \xff":                                 {2, "not UTF-8"},
		"\ufffd a":                               {0, "no letter"},
		"a\x00b":                                 {1, "control character, U+0000"},
		"é OR\u200b b":                           {4, "invisible character, U+200B"},
		"a \u202eb":                              {2, "invisible character, U+202E"},
	} {
		_, err := Parse(text, env)
		var e *Error
		switch {
		case want.pos < 0 && err != nil, want.pos >= 0 && err == nil:
			t.Errorf("%.40q: %v", text, err)
		case errors.As(err, &e) && (e.Pos != want.pos || !strings.Contains(e.Msg, want.msg)):
			t.Errorf("%.40q: %v, want %q at %d", text, e, want.msg, want.pos)
		}
	}
	long := strings.Repeat("word ", MaxLength)
	if _, err := Parse(long, Env{Canonical: true}); err != nil {
		t.Error(err)
	}
}

// Byte and rune positions name the same place.
func TestPositions(t *testing.T) {
	text := "größe 雪 (x OR y z)"
	_, err := Parse(text, env)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e.Byte != strings.Index(text, "z") || e.Pos != utf8.RuneCountInString(text[:e.Byte]) || e.Len != 1 {
		t.Errorf("%+v", e)
	}
	if got := e.Error(); !strings.HasPrefix(got, "column 17: AND and OR side by side (write x OR (y z) or (x OR y) z)") {
		t.Error(got)
	}
}

func TestEmptyQueryIsEverything(t *testing.T) {
	for _, text := range []string{"", " \t\n\u00a0"} {
		if p, err := Parse(text, Env{}); err != nil || p.Query != (query.All{}) || p.Query.String() != "" {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
}

// Dates without a zone are of the searcher's zone, also where clocks change; the tree is in UTC.
func TestTimesOfAZone(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	env := Env{Now: time.Date(2024, 3, 31, 12, 0, 0, 0, berlin), Location: berlin}
	for text, want := range map[string]string{
		"received:today":                     "received:2024-03-31T00:00:00+01:00..2024-03-31T23:59:59+02:00", // 23 hours
		"received:yesterday":                 "received:2024-03-30T00:00:00+01:00..2024-03-30T23:59:59+01:00",
		"received:2024-10-27":                "received:2024-10-27T00:00:00+02:00..2024-10-27T23:59:59+01:00", // 25 hours
		"sent>1900":                          "sent>=1901-01-01T00:00:00+01:00",
		"received:2024":                      "received:2024-01-01T00:00:00+01:00..2024-12-31T23:59:59+01:00",
		"received:2024-03-31T12:00":          "received:2024-03-31T12:00:00+02:00..2024-03-31T12:00:59+02:00",
		"received:2024-03-31T12:00Z":         "received:2024-03-31T12:00:00Z..2024-03-31T12:00:59Z",
		"received>=2024-03-31T12:00:00.5":    "received>=2024-03-31T12:00:00.5+02:00",
		"received:2024-03-31T12:00:00.5Z":    "received:2024-03-31T12:00:00.5Z..2024-03-31T12:00:00.599999999Z",
		"received<2024-03-31T12:00:00+05:30": "received<2024-03-31T12:00:00+05:30",
		"newer_than:1d":                      "received>=2024-03-30T12:00:00+01:00", // the same time of day
		"newer_than:24h":                     "received>=2024-03-30T11:00:00+01:00",
		"older_than:1m":                      "received<2024-02-29T12:00:00+01:00",
		"older_than:1y":                      "received<2023-03-31T12:00:00+02:00",
		"older_than:2w":                      "received<2024-03-17T12:00:00+01:00",
	} {
		p, err := Parse(text, env)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := p.Query.String(); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		again(t, p.Query)
	}
}

// Offsets that were not of whole minutes can't be written; the moment is the same.
func TestTimesBeforeTimeZones(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse("sent<1905", Env{Location: paris})
	if err != nil || p.Query.String() != "sent<1904-12-31T23:50:39Z" {
		t.Errorf("%v, %v", p.Query, err)
	}
	again(t, p.Query)
}

// A time of day without a zone that clocks skipped or repeated is refused: nobody can know which was meant.
func TestTimesWhereClocksChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"received>2024-03-31T02:30":                   "there was no 02:30 in Europe/Berlin",
		"received:2024-03-31T01:00..2024-03-31T02:00": "there was no 02:00",
		"sent<2024-10-27T02:30:15":                    "02:30 came twice that day in Europe/Berlin",
		"sent<2024-10-27T02:30:15+01:00":              "",
		"sent<2024-10-27T03:00":                       "",
		"sent<2024-10-27T01:59":                       "",
		"received:2024-03-31T03:00":                   "",
	} {
		_, err := Parse(text, Env{Location: berlin})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// What stands for policies, holds, scopes and alerts says the same whenever it is asked.
func TestStandingQueries(t *testing.T) {
	for text, pos := range map[string]int{
		"received:today": 9, "sent:yesterday..2024-01-01": 5, "a newer_than:7d": 13, "older_than:1y": 11, "received:7d": 9, "before:today": 7,
		"hold:x": 0, "a -tag:x": 3, "matter:x": 0, "policy:x": 0, "expires<2030": 0,
	} {
		for _, env := range []Env{{Standing: true}, {Standing: true, Joins: true}} {
			_, err := Parse(text, env)
			var e *Error
			if !errors.As(err, &e) || e.Pos != pos {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	for _, text := range []string{"received:2024", "from:acme.com a W/5 b", "sent:2024-01-01..2024-02-01"} {
		if _, err := Parse(text, Env{Standing: true}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Without the sets of a request nothing is joined.
func TestJoins(t *testing.T) {
	for _, text := range []string{"hold:x", "matter:x", "tag:x", "policy:x", "expires<2030"} {
		if _, err := Parse(text, Env{}); err == nil || !strings.Contains(err.Error(), "can't be asked here") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// again parses the canonical form, in another zone and at another time.
func again(t *testing.T, q query.Query) {
	t.Helper()
	text := q.String()
	p, err := Parse(text, Env{Now: time.Now(), Location: time.FixedZone("", -5*3600), Canonical: true, Joins: true, Directions: true})
	if err != nil {
		t.Fatalf("canonical form %s: %v", text, err)
	}
	if !reflect.DeepEqual(p.Query, q) {
		t.Fatalf("canonical form %s\nof %#v\nis %#v", text, q, p.Query)
	}
}
