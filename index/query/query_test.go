package query

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func word(s string) Text { return Text{Tokens: []string{s}, Typed: s} }

func TestAndAndOrAreFlat(t *testing.T) {
	a, b, c := word("a"), word("b"), word("c")
	for i, test := range []struct{ got, want Query }{
		{NewAnd(), All{}},
		{NewAnd(a), a},
		{NewAnd(All{}, a, All{}), a},
		{NewAnd(a, NewAnd(b, c)), And{a, b, c}},
		{NewAnd(NewOr(a, b), c), And{Or{a, b}, c}},
		{NewOr(a), a},
		{NewOr(a, All{}), All{}},
		{NewOr(NewOr(a, b), c), Or{a, b, c}},
		{NewOr(a, NewAnd(b, c)), Or{a, And{b, c}}},
		{NewOr(), Not{All{}}},
	} {
		if !reflect.DeepEqual(test.got, test.want) {
			t.Errorf("%d: got %#v, want %#v", i, test.got, test.want)
		}
	}
	// What was joined is not changed by joining it again.
	ab := NewAnd(a, b)
	NewAnd(ab, c)
	NewAnd(ab, a)
	if !reflect.DeepEqual(ab, And{a, b}) {
		t.Errorf("%v", ab)
	}
}

func TestString(t *testing.T) {
	a, b, c := word("a"), word("b"), word("c")
	noon := time.Date(2024, 3, 31, 12, 0, 0, 0, time.FixedZone("", 7200))
	for want, q := range map[string]Query{
		"":                             All{},
		"a AND (b OR c)":               And{a, Or{b, c}},
		"a OR (b AND c)":               Or{a, And{b, c}},
		"NOT a AND b":                  And{Not{a}, b},
		"NOT (a AND b) OR NOT (NOT c)": Or{Not{And{a, b}}, Not{Not{c}}},
		// Trees of other makers than the parser still have a sound form.
		`"AND"`:                              word("AND"),
		`"W/5"`:                              word("W/5"),
		`"x:y"`:                              word("x:y"),
		`subject:x:y`:                        Text{Field: Subject, Typed: "x:y"},
		`body:"a b"`:                         Text{Field: Body, Tokens: []string{"a", "b"}},
		`"a  b"`:                             word(`a" b`),
		`"-a"`:                               word("-a"),
		`"–a"`:                               word("–a"),
		"received<2024-03-31T12:00:00+02:00": Time{Field: Received, Before: noon},
		"sent:2024-03-31T12:00:00+02:00..2024-03-31T12:00:00+02:00":           Time{Field: Sent, From: noon, Before: noon.Add(time.Second)},
		"sent>=2024-03-31T12:00:00.001+02:00":                                 Time{Field: Sent, From: noon.Add(time.Millisecond)},
		"sent:2024-03-31T12:00:00+02:00..2024-03-31T12:00:00.499999999+02:00": Time{Field: Sent, From: noon, Before: noon.Add(time.Second / 2)},
		"size>=0": Size{Max: -1}, "size=0": Size{}, "size<=7": Size{Max: 7}, "size:1..7": Size{Min: 1, Max: 7},
		"from:@localhost":                   Address{Field: From, Part: Domain, Value: "localhost"},
		"from:x.y@":                         Address{Field: From, Part: Name, Value: "x.y"},
		`from:"x? y.z@"`:                    Address{Field: From, Part: Name, Value: "x? y.z"},
		"hasattachment:false":               Attached{},
		`msgid:"<x"`:                        MessageID{Value: "<x"},
		"a W/5 (b OR c)":                    Near{N: 5, A: a, B: Or{b, c}},
		"(a PRE/1 b) NOT W/2 c":             Near{N: 2, Without: true, A: Near{N: 1, Ordered: true, A: a, B: b}, B: c},
		"NOT (a W/1 b) AND c":               And{Not{Near{N: 1, A: a, B: b}}, c},
		`body:("AND" W/1 x)`:                Near{Field: Body, N: 1, A: Text{Field: Body, Typed: "AND"}, B: Text{Field: Body, Typed: "x"}},
		"subject:a~de":                      Text{Field: Subject, Form: Stem, Language: "de", Typed: "a"},
		"+a":                                Text{Form: Exact, Typed: "a"},
		"abc~1":                             Text{Form: Fuzzy, Typed: "abc"},
		`hold:"a b"`:                        Set{Field: Hold, Name: "a b"},
		"expires<2024-03-31T12:00:00+02:00": Set{Field: Expires, Before: noon},
	} {
		if got := q.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestWalk(t *testing.T) {
	q := And{word("a"), Not{Or{word("b"), word("c")}}, word("d")}
	var seen []string
	Walk(q, func(q Query) bool {
		seen = append(seen, q.String())
		return true
	})
	if got, want := strings.Join(seen, "; "), "a AND NOT (b OR c) AND d; a; NOT (b OR c); b OR c; b; c; d"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	n := 0
	Walk(q, func(q Query) bool {
		n++
		_, not := q.(Not)
		return !not
	})
	if n != 4 {
		t.Errorf("%d nodes seen above the NOT", n)
	}
}
