package retention

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

// parseWord is a parser for one word in the body.
func parseWord(text string) (query.Query, error) {
	if text == "later" {
		return nil, errors.New("of a later version")
	}
	return word(text), nil
}

func word(w string) query.Query {
	return query.Text{Field: query.Body, Tokens: []string{w}, Typed: w}
}

// desk does what people wish, as a Book does.
type desk struct {
	t     *testing.T
	state *State
	acts  []*record.Act
}

func newDesk(t *testing.T) *desk {
	base, err := New(Config{Default: "7y"})
	if err != nil {
		t.Fatal(err)
	}
	return &desk{t: t, state: NewState(base, func(s string) (query.Query, error) { return parseWord(s[len("body:"):]) })}
}

func (d *desk) do(by string, decide func(record.Actor) (string, any, error)) error {
	d.t.Helper()
	actor := record.Actor{ID: by}
	kind, detail, err := decide(actor)
	if err != nil {
		return err
	}
	act := &record.Act{V: 1, ID: record.NewID(time.Now()), Kind: kind, Time: time.Now().UTC().Truncate(time.Millisecond), Actor: actor}
	act.Detail = asMap(d.t, detail)
	d.acts = append(d.acts, act)
	if err := d.state.Apply(act); err != nil {
		d.t.Fatal(err)
	}
	return nil
}

func (d *desk) place(by, name, w string) error {
	return d.do(by, func(record.Actor) (string, any, error) {
		return d.state.PlaceHold(HoldOrder{Name: name, Matter: "m", Reason: "a letter from counsel"}, word(w))
	})
}

func (d *desk) release(by, name, reason string, fourEyes bool) error {
	return d.do(by, func(a record.Actor) (string, any, error) { return d.state.ReleaseHold(name, a, reason, fourEyes) })
}

func TestPoliciesAreSetAndRemoved(t *testing.T) {
	d := newDesk(t)
	set := func(name, keep, start, reason string) error {
		return d.do("a", func(record.Actor) (string, any, error) {
			return d.state.SetPolicy(name, word("merger"), keep, start, reason)
		})
	}
	for _, c := range []struct {
		name, keep, start, reason string
		want                      error
	}{
		{"", "7y", "", "r", query.ErrSetName}, {"a/b", "7y", "", "r", query.ErrSetName}, {" a", "7y", "", "r", query.ErrSetName}, {"Default", "7y", "", "r", ErrTaken},
		{"a", "seven", "", "r", ErrPeriod}, {"a", "", "", "r", ErrPeriod}, {"a", "7y", "birth", "r", ErrStart}, {"a", "7y", "", " ", ErrReason},
	} {
		if err := set(c.name, c.keep, c.start, c.reason); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if len(d.acts) != 0 || len(d.state.PolicyDocs()) != 0 {
		t.Fatal("something changed")
	}
	if err := set("Contracts", "10y", "year-end", "as counsel says"); err != nil {
		t.Fatal(err)
	}
	if err := set("contracts", "10y", "year-end", "again"); !errors.Is(err, ErrNothing) {
		t.Errorf("%v", err)
	}
	doc := &document.Document{ID: record.NewID(time.Now()), Received: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Body: "a merger"}
	if got := d.state.PoliciesInForce().Decide(doc, nil, time.Now()); got.Until.Year() != 2037 {
		t.Errorf("%+v", got)
	}
	remove := func(name, reason string) error {
		return d.do("a", func(record.Actor) (string, any, error) { return d.state.RemovePolicy(name, reason) })
	}
	if err := remove("other", "r"); !errors.Is(err, ErrNoPolicy) {
		t.Errorf("%v", err)
	}
	if err := remove("contracts", ""); !errors.Is(err, ErrReason) {
		t.Errorf("%v", err)
	}
	if err := remove("CONTRACTS", "no more"); err != nil || len(d.state.PoliciesInForce().All()) != 0 {
		t.Errorf("%v, %v", err, d.state.PoliciesInForce().All())
	}
}

func TestHoldsStandUntilReleased(t *testing.T) {
	d := newDesk(t)
	if err := d.place("a", "h", "merger"); err != nil {
		t.Fatal(err)
	}
	if err := d.place("b", "H", "lunch"); !errors.Is(err, ErrTaken) {
		t.Errorf("%v", err)
	}
	if err := d.do("a", func(record.Actor) (string, any, error) {
		return d.state.PlaceHold(HoldOrder{Name: "n", Matter: "m", Reason: "\t"}, word("x"))
	}); !errors.Is(err, ErrReason) {
		t.Errorf("%v", err)
	}
	old := time.Now().AddDate(-20, 0, 0)
	doc := &document.Document{ID: record.NewID(old), Received: old, Body: "the merger"}
	decide := func() Decision { return d.state.PoliciesInForce().Decide(doc, d.state.Standing(), time.Now()) }
	if got := decide(); !got.Keep || len(got.Holds) != 1 || got.Holds[0].Matter != "m" {
		t.Errorf("mail that matches is not held as it arrives: %+v", got)
	}
	apply := func(name string, ids ...record.ID) error {
		return d.do("a", func(record.Actor) (string, any, error) { return d.state.ApplyHold(name, record.NewIDs(ids)) })
	}
	if err := apply("h", doc.ID); err != nil {
		t.Fatal(err)
	}
	if err := apply("h", doc.ID); !errors.Is(err, ErrNothing) {
		t.Errorf("%v", err)
	}
	if err := apply("none", doc.ID); !errors.Is(err, ErrNoHold) {
		t.Errorf("%v", err)
	}
	doc.Body = "another reading"
	if got := decide(); !got.Keep {
		t.Errorf("a hold that was applied is gone: %+v", got)
	}
	if err := d.place("b", "second", "another"); err != nil {
		t.Fatal(err)
	}
	if got := decide(); len(got.Holds) != 2 {
		t.Errorf("two holds: %+v", got)
	}

	before := len(d.acts)
	for _, c := range []struct {
		by, name, reason string
		four             bool
		want             error
	}{{"b", "h", "r", false, ErrAnothers}, {"a", "h", " ", false, ErrReason}, {"a", "x", "r", false, ErrNoHold}} {
		if err := d.release(c.by, c.name, c.reason, c.four); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if len(d.acts) != before {
		t.Error("something changed")
	}
	if err := d.release("a", "h", "settled", false); err != nil {
		t.Fatal(err)
	}
	if got := decide(); !got.Keep || len(got.Holds) != 1 || got.Holds[0].Name != "second" {
		t.Errorf("%+v", got)
	}
	if err := d.release("a", "h", "settled", false); !errors.Is(err, ErrReleased) {
		t.Errorf("%v", err)
	}
	if err := apply("h", record.NewID(time.Now())); !errors.Is(err, ErrReleased) {
		t.Errorf("%v", err)
	}
	if err := d.place("a", "h", "merger"); !errors.Is(err, ErrTaken) {
		t.Errorf("the name of a released hold was given again: %v", err)
	}
	if err := d.release("b", "second", "settled", true); err != nil {
		t.Fatal(err)
	}
	if got := decide(); !got.Keep {
		t.Error("released by one of two")
	}
	if err := d.release("b", "second", "settled", true); !errors.Is(err, ErrSecond) {
		t.Errorf("%v", err)
	}
	if err := d.release("a", "second", "so it is", true); err != nil {
		t.Fatal(err)
	}
	if got := decide(); got.Keep {
		t.Errorf("%+v", got)
	}
}

// TestStateIsWhatItsActsSay: a state that was saved and loaded is the one that the acts give, and so is what follows.
func TestStateIsWhatItsActsSay(t *testing.T) {
	d := newDesk(t)
	for i := range 3 {
		if err := d.place("a", fmt.Sprint("h", i), "merger"); err != nil {
			t.Fatal(err)
		}
		if err := d.do("a", func(record.Actor) (string, any, error) {
			return d.state.ApplyHold(fmt.Sprint("h", i), record.NewIDs([]record.ID{record.NewID(time.Now()), record.NewID(time.Now())}))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.release("a", "h1", "settled", false); err != nil {
		t.Fatal(err)
	}
	if err := d.do("a", func(record.Actor) (string, any, error) {
		return d.state.SetPolicy("p", word("later"), "90d", "date", "r")
	}); err != nil {
		t.Fatal(err)
	}
	text, err := d.state.Save()
	if err != nil {
		t.Fatal(err)
	}
	loaded := newDesk(t).state
	if err := loaded.Load(text); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(loaded.HoldDocs(), d.state.HoldDocs()) || !reflect.DeepEqual(loaded.PolicyDocs(), d.state.PolicyDocs()) ||
		!reflect.DeepEqual(loaded.PoliciesInForce(), d.state.PoliciesInForce()) || !reflect.DeepEqual(loaded.Standing(), d.state.Standing()) {
		t.Error("not the same")
	}
	if p := loaded.PoliciesInForce().All(); len(p) != 1 || p[0].Query != nil {
		t.Errorf("a query that can't be read: %+v", p)
	}
}

func asMap(t *testing.T, detail any) (m map[string]any) {
	t.Helper()
	text, err := json.Marshal(detail)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What a configuration declares becomes acts once, and what it does not declare any more goes; people's own policies stay.
func TestDeclaredPolicies(t *testing.T) {
	d := newDesk(t)
	declare := func(def string, list ...Declared) (acts int) {
		before := len(d.acts)
		do := func(decide func() (string, any, error)) {
			err := d.do(Author.ID, func(record.Actor) (string, any, error) { return decide() })
			if err != nil && !errors.Is(err, ErrNothing) {
				t.Fatal(err)
			}
		}
		do(func() (string, any, error) { return d.state.SetDefault(def) })
		for _, p := range list {
			do(func() (string, any, error) {
				return d.state.SetPolicy(p.Name, word(p.Query), p.Keep, p.Start, DefaultReason)
			})
		}
		for _, name := range d.state.Undeclared("", list) {
			do(func() (string, any, error) { return d.state.RemovePolicy(name, "gone") })
		}
		return len(d.acts) - before
	}
	a, b := Declared{Name: "a", Query: "merger", Keep: "9y"}, Declared{Name: "B", Query: "trade", Keep: "3y"}
	if err := d.do("ann", func(record.Actor) (string, any, error) { return d.state.SetPolicy("own", word("x"), "1y", "", "r") }); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		def   string
		list  []Declared
		acts  int
		named string
	}{
		{"7y", nil, 0, "own"},
		{"7y", []Declared{a, b}, 2, "B a own"},
		{"7y", []Declared{a, b}, 0, "B a own"},
		{"5y", []Declared{a, b}, 1, "B a own"},
		{"5y", []Declared{b}, 1, "B own"},
		{"7y", nil, 2, "own"},
	} {
		if n := declare(c.def, c.list...); n != c.acts {
			t.Errorf("step %d: %d acts, want %d", i, n, c.acts)
		}
		var names []string
		for _, p := range d.state.PolicyDocs() {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != c.named || d.state.PoliciesInForce().Default().Keep.String() != c.def {
			t.Errorf("step %d: %q, default %s", i, got, d.state.PoliciesInForce().Default().Keep)
		}
		if err := d.state.CheckDeclared("b"); errors.Is(err, ErrDeclared) != strings.Contains(c.named, "B") {
			t.Errorf("step %d: %v", i, err)
		}
		saved, err := d.state.Save()
		if err != nil {
			t.Fatal(err)
		}
		again := newDesk(t)
		if err := again.state.Load(saved); err != nil || again.state.PoliciesInForce().Default().Keep.String() != c.def {
			t.Errorf("step %d: loaded again: %v", i, err)
		}
	}
}
