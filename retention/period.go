package retention

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ErrPeriod is returned for text that is not a period.
var ErrPeriod = errors.New("not a period such as 7y, 18m, 90d or forever")

// Period is a length of time in the calendar, or for ever.
type Period struct {
	Years, Months, Days int
	Forever             bool
}

// ActPeriod is how long acts are kept.
var ActPeriod = Period{Years: 10}

// ParsePeriod reads "7y", "18m", "90d" or "forever"; ErrPeriod for anything else.
func ParsePeriod(s string) (Period, error) {
	if s == "forever" {
		return Period{Forever: true}, nil
	}
	if s == "" {
		return Period{}, fmt.Errorf("%q: %w", s, ErrPeriod)
	}
	n, err := strconv.Atoi(s[:len(s)-1])
	if err != nil || n <= 0 || n > 36500 {
		return Period{}, fmt.Errorf("%q: %w", s, ErrPeriod)
	}
	switch s[len(s)-1] {
	case 'y':
		return Period{Years: n}, nil
	case 'm':
		return Period{Months: n}, nil
	case 'd':
		return Period{Days: n}, nil
	}
	return Period{}, fmt.Errorf("%q: %w", s, ErrPeriod)
}

// String is the text that ParsePeriod reads.
func (p Period) String() string {
	switch {
	case p.Forever:
		return "forever"
	case p.Years > 0:
		return fmt.Sprint(p.Years, "y")
	case p.Months > 0:
		return fmt.Sprint(p.Months, "m")
	}
	return fmt.Sprint(p.Days, "d")
}

// After is the moment at which a period that began at t is over; zero for ever. A day that the month does not have counts as its next
// (29 February and a year: 1 March).
func (p Period) After(t time.Time) time.Time {
	if p.Forever {
		return time.Time{}
	}
	return t.AddDate(p.Years, p.Months, p.Days)
}
