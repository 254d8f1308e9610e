package matter

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index/document"
	"github.com/holdfast-archive/holdfast/index/query"
)

type desk struct {
	t     *testing.T
	state *State
	n     int
}

var ada, bob = record.Actor{ID: "uid:1"}, record.Actor{ID: "uid:2"}

// do does what somebody wishes, as a Book does.
func (d *desk) do(by record.Actor, kind string, detail any, err error) error {
	d.t.Helper()
	if err != nil {
		return err
	}
	act := &record.Act{V: 1, ID: record.NewID(time.Now()), Kind: kind, Time: time.Now().UTC().Truncate(time.Millisecond), Actor: by}
	text, err := json.Marshal(detail)
	if err == nil {
		err = json.Unmarshal(text, &act.Detail)
	}
	if err == nil {
		err = d.state.Apply(act)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.n++
	return nil
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, state: NewState()}
	kind, detail, err := d.state.Create("Smith v. Acme", "a case")
	if err := d.do(ada, kind, detail, err); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) must(by record.Actor, want error) func(kind string, detail any, err error) {
	d.t.Helper()
	return func(kind string, detail any, err error) {
		d.t.Helper()
		n := d.n
		if err := d.do(by, kind, detail, err); !errors.Is(err, want) || want != nil && d.n != n {
			d.t.Errorf("%v, want %v", err, want)
		}
	}
}

func ids(n ...byte) record.IDs {
	var list []record.ID
	for _, b := range n {
		list = append(list, record.ID{0: 1, 15: b})
	}
	return record.NewIDs(list)
}

const name = "smith V. acme"

func TestMattersAreForTheirMembers(t *testing.T) {
	d := newDesk(t)
	d.must(ada, ErrTaken)(d.state.Create(name, ""))
	d.must(ada, query.ErrSetName)(d.state.Create("a/b", ""))
	d.must(ada, ErrNoMatter)(d.state.SetMember(ada, "other", "uid:2", false))
	d.must(bob, ErrNotMember)(d.state.SetMember(bob, name, "uid:2", false))
	d.must(bob, ErrNotMember)(d.state.Tag(bob, name, "hot", ids(1), "", false))
	d.must(ada, ErrNothing)(d.state.SetMember(ada, name, "uid:1", false))
	d.must(ada, ErrNothing)(d.state.SetMember(ada, name, "uid:2", true))
	d.must(ada, ErrLastMember)(d.state.SetMember(ada, name, "uid:1", true))
	d.must(ada, nil)(d.state.SetMember(ada, name, "uid:2", false))
	d.must(bob, nil)(d.state.Tag(bob, name, "hot", ids(1), "", false))
	d.must(bob, nil)(d.state.SetMember(bob, name, "uid:1", true))
	d.must(ada, ErrNotMember)(d.state.AddNote(ada, name, ids(1)[0], "x"))
}

func TestCustodians(t *testing.T) {
	d := newDesk(t)
	for _, bad := range []Custodian{{Name: "Ada"}, {Name: "Ada", Addresses: []Address{{Address: "ada"}}}, {Name: "Ada", Addresses: []Address{{Address: "@x.example"}}},
		{Name: "Ada", Addresses: []Address{{Address: "a@x.example", From: time.Now(), Before: time.Now().Add(-time.Hour)}}}} {
		d.must(ada, ErrAddress)(d.state.SetCustodian(ada, name, bad))
	}
	d.must(ada, query.ErrSetName)(d.state.SetCustodian(ada, name, Custodian{Name: "<Ada>", Addresses: []Address{{Address: "a@x.example"}}}))
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	d.must(ada, nil)(d.state.SetCustodian(ada, name, Custodian{Name: "Ada", Addresses: []Address{
		{Address: " Ada@Acme.Example "}, {Address: "boss@acme.example", From: year(2020), Before: year(2022)}}}))
	m, err := d.state.For(name, ada)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Custodian("ADA")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		address        string
		received, sent time.Time
		want           query.Verdict
	}{
		{"ada@acme.example", year(2019), time.Time{}, query.Yes},
		{"eve@acme.example", year(2021), time.Time{}, query.No},
		{"boss@acme.example", year(2021), time.Time{}, query.Yes},
		{"boss@acme.example", year(2022), time.Time{}, query.No},
		{"boss@acme.example", year(2026), year(2021), query.Yes}, // an import
		{"boss@acme.example", year(2021), year(2050), query.Yes}, // a lie
	} {
		doc := &document.Document{Received: x.received, Sent: x.sent, Rcpt: []document.Address{{Address: x.address}}}
		if got := query.Match(c.Query(), doc); got != x.want {
			t.Errorf("%+v: %v", x, got)
		}
	}
	d.must(ada, ErrNoCustodian)(d.state.RemoveCustodian(ada, name, "Eve"))
	d.must(ada, nil)(d.state.RemoveCustodian(ada, name, "ada"))
	if _, err := m.Custodian("ada"); err != nil {
		t.Error("a matter that was read has changed")
	}
}

func TestReviewsAreNotOverwritten(t *testing.T) {
	d := newDesk(t)
	d.must(ada, ErrReview)(d.state.SetReview(ada, name, "good", None, ids(1)))
	d.must(ada, ErrNothing)(d.state.SetReview(ada, name, None, None, ids(1)))
	d.must(ada, nil)(d.state.SetReview(ada, name, Relevant, None, ids(1, 2, 5)))
	d.must(ada, ErrStale)(d.state.SetReview(ada, name, Privileged, None, ids(1)))
	d.must(ada, ErrStale)(d.state.SetReview(ada, name, Privileged, Relevant, ids(1, 3)))
	d.must(ada, nil)(d.state.SetReview(ada, name, Privileged, Relevant, ids(2)))
	d.must(ada, nil)(d.state.SetReview(ada, name, None, Relevant, ids(1)))
	d.must(ada, nil)(d.state.SetReview(ada, name, NeedsALook, None, ids(1, 3, 9)))
	m, _ := d.state.Matter(name)
	got := ""
	for _, r := range m.Reviews {
		got += fmt.Sprint(r.Record[15], r.Review, " ")
	}
	if got != "1needs-a-look 2privileged 3needs-a-look 5relevant 9needs-a-look " {
		t.Error(got)
	}
}

// TestTagsAreSets: whatever is added and removed, a tag has what a set has; and the state that was saved is the one that was.
func TestTagsAreSets(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 5))
	d := newDesk(t)
	model := map[record.ID]bool{}
	d.must(ada, ErrNoTag)(d.state.Tag(ada, name, "hot", ids(1), "", true))
	for range 300 {
		some := ids(byte(rnd.IntN(20)), byte(rnd.IntN(20)), byte(rnd.IntN(20)))
		remove := rnd.IntN(2) == 0
		changes := slices.ContainsFunc(some, func(id record.ID) bool { return model[id] == remove })
		kind, detail, err := d.state.Tag(ada, name, []string{"hot", "HOT"}[rnd.IntN(2)], some, "", remove)
		if err == nil != changes && !errors.Is(err, ErrNoTag) {
			t.Fatalf("%v, changes %v (seed %d)", err, changes, seed)
		}
		if d.do(ada, kind, detail, err) == nil {
			for _, id := range some {
				model[id] = !remove
			}
		}
		want := 0
		for id, in := range model {
			if in {
				want++
			}
			if got, _ := d.state.Tagged("hot"); got.Has(id) != in {
				t.Fatalf("%v: %v (seed %d)", id, !in, seed)
			}
		}
		if got, _ := d.state.Tagged("Hot"); len(got) != want {
			t.Fatalf("%d, not %d (seed %d)", len(got), want, seed)
		}
	}
	d.must(ada, ErrText)(d.state.AddNote(ada, name, ids(1)[0], " "))
	d.must(ada, nil)(d.state.AddNote(ada, name, ids(30)[0], "look at this"))
	d.must(ada, nil)(d.state.SetReview(ada, name, Relevant, None, ids(31)))
	d.must(ada, nil)(d.state.SaveSearch(ada, name, SavedSearch{"first", "subject:merger"}))
	d.must(ada, ErrNoSearch)(d.state.RemoveSearch(ada, name, "second"))
	m, _ := d.state.Matter(name)
	if all := m.Records(); !all.Has(ids(30)[0]) || !all.Has(ids(31)[0]) || !slices.IsSortedFunc(all, record.ID.Compare) {
		t.Errorf("%v", all)
	}
	text, err := d.state.Save()
	if err != nil {
		t.Fatal(err)
	}
	loaded := NewState()
	if err := loaded.Load(text); err != nil || !reflect.DeepEqual(loaded.Matters(), d.state.Matters()) {
		t.Errorf("%v: %+v", err, loaded.Matters())
	}
	if _, err := d.state.Tagged("cold"); !errors.Is(err, ErrNoTag) {
		t.Errorf("%v", err)
	}
}
