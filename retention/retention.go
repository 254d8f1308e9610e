// Package retention holds the rules by which records are kept: pure functions, no I/O, so that each decision can be shown again.
//
// Today it knows one rule, the default. It decides at ingest in which month a record may expire, which chooses its pack.
package retention

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Config is the section "retention" of the configuration.
type Config struct {
	Default  string `mapstructure:"default"`   // a Period: how long a record is kept from receipt on
	Schedule string `mapstructure:"schedule"`  // cron line of the purge
	FourEyes bool   `mapstructure:"four_eyes"` // a second person for purges and releases
}

// Validate names every fault at once.
func (c Config) Validate() error {
	var errs []error
	if _, err := ParsePeriod(c.Default); err != nil {
		errs = append(errs, fmt.Errorf("retention.default: %w", err))
	}
	if n := len(strings.Fields(c.Schedule)); c.Schedule != "" && n != 5 {
		errs = append(errs, fmt.Errorf("retention.schedule: %q has %d fields, a cron line has 5", c.Schedule, n))
	}
	return errors.Join(errs...)
}

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

// After is the moment at which a period that began at t is over; zero for ever. A day that the month does not have counts as its next
// (29 February and a year: 1 March).
func (p Period) After(t time.Time) time.Time {
	if p.Forever {
		return time.Time{}
	}
	return t.AddDate(p.Years, p.Months, p.Days)
}

// Policies is what is in force.
type Policies struct{ def Period }

// New makes the policies of a valid configuration.
func New(c Config) (*Policies, error) {
	def, err := ParsePeriod(c.Default)
	if err != nil {
		return nil, fmt.Errorf("retention.default: %w", err)
	}
	return &Policies{def: def}, nil
}

// Expiry is the moment at which a record may expire as far as is known at ingest; zero: never. It is never earlier than a day after now:
// what has expired on arrival is kept for that long, so that a mistake in a rule can be seen before it destroys. A supplement is given
// the expiry of its record, whose id tells the time of receipt.
func (p *Policies) Expiry(item *record.Item, now time.Time) time.Time {
	period, from := p.def, item.ID.Time()
	switch {
	case item.Kind == record.KindAct:
		period = ActPeriod
	case item.Envelope != nil:
		from = item.Envelope.Received
	}
	until := period.After(from)
	if tomorrow := now.AddDate(0, 0, 1); !until.IsZero() && until.Before(tomorrow) {
		until = tomorrow
	}
	return until
}
