// Package retention holds the rules by which records are kept: pure functions, no I/O, so that each decision can be shown again.
//
// What it promises: of the policies that match a record the longest counts, and the default where none does; what could not be read far
// enough to say is kept as if it matched; a hold beats them all. The same policies, holds, record and time give the same decision.
//
// A decision at ingest (Expiry) chooses the month of a record's pack, and its lock, from envelope, header and size alone. The full one
// (Decide) is made on the whole record before anything is destroyed, and may only lengthen: before the pack's time nothing in it goes.
package retention

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/robfig/cron/v3"

	"github.com/holdfast-archive/holdfast/index/query"
)

// Config is the section "retention" of the configuration.
type Config struct {
	Default  string     `mapstructure:"default"`   // a Period: how long a record is kept from receipt on
	Policies []Declared `mapstructure:"policies"`  // beside those that people set
	Schedule string     `mapstructure:"schedule"`  // cron line of the purge; empty: by hand alone
	FourEyes bool       `mapstructure:"four_eyes"` // a second person for purges and releases
}

// Declared is a policy as the configuration declares it. Each start makes acts of what has changed (see State.Declare).
type Declared struct {
	Name     string `mapstructure:"name"`
	Query    string `mapstructure:"query"`    // as people type it; empty: every message
	Keep     string `mapstructure:"keep"`     // a Period
	Start    string `mapstructure:"start"`    // a Start; empty: receipt
	Template string `mapstructure:"template"` // of Templates: gives Keep and Start where they are empty
	Reason   string `mapstructure:"reason"`   // empty: that it is declared
}

// FromTemplate gives a policy with what its template says where it says nothing itself. ErrTemplate.
func (d Declared) FromTemplate() (Declared, error) {
	if d.Template == "" {
		return d, nil
	}
	for _, t := range Templates() {
		if t.Name == d.Template {
			d.Keep, d.Start = cmp.Or(d.Keep, t.Keep), cmp.Or(d.Start, string(t.Start))
			return d, nil
		}
	}
	return d, fmt.Errorf("%q: %w", d.Template, ErrTemplate)
}

// ErrTemplate is returned for a name that no template has.
var ErrTemplate = errors.New("not a template: 3y, 5y, 6y, 7y, 8y or 10y")

// Validate names every fault at once. Queries are checked by whoever has their language.
func (c Config) Validate() error {
	var errs []error
	fault := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("retention.%s: %w", key, err))
		}
	}
	_, err := ParsePeriod(c.Default)
	fault("default", err)
	names := map[string]bool{}
	for i, d := range c.Policies {
		at := fmt.Sprintf("policies[%d].", i)
		name := query.FoldSetName(d.Name)
		switch err := query.CheckSetName(d.Name); {
		case err != nil:
			fault(at+"name", err)
		case name == DefaultName:
			fault(at+"name", fmt.Errorf("%q is set by retention.default", d.Name))
		case names[name]:
			fault(at+"name", fmt.Errorf("%q: %w", d.Name, ErrTaken))
		}
		names[name] = true
		full, err := d.FromTemplate()
		fault(at+"template", err)
		if err == nil {
			_, err = ParsePeriod(full.Keep)
			fault(at+"keep", err)
		}
		_, err = ParseStart(d.Start)
		fault(at+"start", err)
	}
	if n := len(strings.Fields(c.Schedule)); c.Schedule != "" && n != 5 {
		errs = append(errs, fmt.Errorf("retention.schedule: %q has %d fields, a cron line has 5", c.Schedule, n))
	} else if c.Schedule != "" {
		_, err := cron.ParseStandard(c.Schedule)
		fault("schedule", err)
	}
	return errors.Join(errs...)
}
