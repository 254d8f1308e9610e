package retention

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func TestParsePeriod(t *testing.T) {
	for text, want := range map[string]Period{"7y": {Years: 7}, "18m": {Months: 18}, "90d": {Days: 90}, "forever": {Forever: true}} {
		if got, err := ParsePeriod(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "y", "7", "-7y", "0d", "7w", "7.5y", "1e3d", "99999999999999999999y", "forever ", "7y "} {
		if _, err := ParsePeriod(bad); !errors.Is(err, ErrPeriod) {
			t.Errorf("%q: %v, not ErrPeriod", bad, err)
		}
	}
}

func TestExpiry(t *testing.T) {
	received := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	message := &record.Item{Kind: record.KindMessage, ID: record.NewID(received), Envelope: &record.Envelope{Received: received}}
	late := &record.Item{Kind: record.KindSupplement, ID: record.NewID(received)}
	act := &record.Item{Kind: record.KindAct, ID: record.NewID(received), Act: &record.Act{}}
	for _, c := range []struct {
		def  string
		item *record.Item
		now  time.Time
		want time.Time
	}{
		{"7y", message, received, time.Date(2031, 3, 1, 12, 0, 0, 0, time.UTC)},
		{"1m", message, received, time.Date(2024, 3, 29, 12, 0, 0, 0, time.UTC)},
		{"forever", message, received, time.Time{}},
		{"7y", late, received, time.Date(2031, 3, 1, 12, 0, 0, 0, time.UTC)},
		{"1d", act, received, time.Date(2034, 3, 1, 12, 0, 0, 0, time.UTC)}, // acts have a time of their own
		{"forever", act, received, time.Date(2034, 3, 1, 12, 0, 0, 0, time.UTC)},
		{"1d", message, received.AddDate(5, 0, 0), received.AddDate(5, 0, 1)}, // expired on arrival: tomorrow
	} {
		p, err := New(Config{Default: c.def})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Expiry(c.item, nil, c.now); !got.Equal(c.want) {
			t.Errorf("%s of a %s: %v, want %v", c.def, c.item.Kind, got, c.want)
		}
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	err := Config{Default: "soon", Schedule: "daily"}.Validate()
	if err == nil || !strings.Contains(err.Error(), `retention.default: "soon"`) || !strings.Contains(err.Error(), `retention.schedule: "daily"`) {
		t.Errorf("%v", err)
	}
	err = Config{Default: "7y", Policies: []Declared{
		{Name: "a/b", Keep: "7y"}, {Name: "ok", Template: "10y"}, {Name: "OK", Keep: "5y"}, {Name: "x", Template: "11y"}, {Name: "y"}, {Name: "z", Keep: "5y", Start: "birth"},
	}}.Validate()
	for _, want := range []string{"policies[0].name", "policies[2].name", "policies[3].template", "policies[4].keep", "policies[5].start"} {
		if err == nil || !strings.Contains(err.Error(), "retention."+want+": ") {
			t.Errorf("%s is not named in %v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n"); n != 4 {
		t.Errorf("%d faults more", n-4)
	}
	if err := (Config{Default: "7y", Schedule: "0 3 * * *"}).Validate(); err != nil {
		t.Error(err)
	}
}
