// Package retention holds the rules by which records are kept: pure functions, no I/O, so that each decision can be shown again.
//
// What it promises: of the policies that match a record the longest counts, and the default where none does; what could not be read far
// enough to say is kept as if it matched; a hold beats them all. The same policies, holds, record and time give the same decision.
//
// A decision at ingest (Expiry) chooses the month of a record's pack, and its lock, from envelope, header and size alone. The full one
// (Decide) is made on the whole record before anything is destroyed, and may only lengthen: before the pack's time nothing in it goes.
package retention

import (
	"errors"
	"fmt"
	"strings"
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
