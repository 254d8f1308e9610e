package index

import (
	"testing"
	"time"
)

func TestQuietHours(t *testing.T) {
	at := func(clock string) time.Time {
		m, err := time.Parse("15:04", clock)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		hours, clock string
		quiet        bool
	}{
		{"01:00-05:00", "00:59", false}, {"01:00-05:00", "01:00", true}, {"01:00-05:00", "04:59", true}, {"01:00-05:00", "05:00", false},
		{"22:30-05:00", "23:00", true}, {"22:30-05:00", "00:00", true}, {"22:30-05:00", "12:00", false}, {"22:30-05:00", "22:29", false},
		{"", "12:00", true}, {"00:00-00:00", "12:00", true},
	} {
		if got := (Config{QuietHours: c.hours}).Quiet(at(c.clock)); got != c.quiet {
			t.Errorf("%s at %s: %v", c.hours, c.clock, got)
		}
	}
	for hours, good := range map[string]bool{"": true, "01:00-05:00": true, "1-5": false, "01:00": false, "01:00-25:00": false, "night": false} {
		if err := (Config{Backend: "bleve", Dir: "x", QuietHours: hours}).Validate(); (err == nil) != good {
			t.Errorf("%q: %v", hours, err)
		}
	}
}
