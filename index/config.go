package index

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-archive/holdfast/index/document"
)

// Config is the section "index" of the configuration.
type Config struct {
	Backend string `mapstructure:"backend"` // bleve
	Dir     string `mapstructure:"dir"`
	// OwnDomains are the domains whose people are our own, for direction:. What lies below one is our own too. The index is built again when
	// they change.
	OwnDomains []string `mapstructure:"own_domains"`
	// QuietHours are when large parts of the index are merged, "01:00-05:00" by the node's clock; empty: at any time.
	QuietHours string `mapstructure:"quiet_hours"`
}

// Own gives the own domains, folded and in order.
func (c Config) Own() []string {
	var own []string
	for _, d := range c.OwnDomains {
		own = append(own, document.FoldDomain(d))
	}
	slices.Sort(own)
	return slices.Compact(own)
}

// Quiet says whether a time lies in the quiet hours.
func (c Config) Quiet(t time.Time) bool {
	from, to, ok := c.quietHours()
	if !ok || from == to {
		return true
	}
	now := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	if from < to {
		return now >= from && now < to
	}
	return now >= from || now < to // over midnight
}

// quietHours gives their beginning and their end, from midnight on.
func (c Config) quietHours() (from, to time.Duration, ok bool) {
	first, last, _ := strings.Cut(c.QuietHours, "-")
	a, err := time.Parse("15:04", first)
	b, err2 := time.Parse("15:04", last)
	midnight := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	return a.Sub(midnight), b.Sub(midnight), err == nil && err2 == nil
}

// Validate names every fault at once.
func (c Config) Validate() error {
	var errs []error
	if c.Backend != "bleve" {
		errs = append(errs, fmt.Errorf("index.backend: %q is not bleve", c.Backend))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("index.dir: empty"))
	}
	if _, _, ok := c.quietHours(); !ok && c.QuietHours != "" {
		errs = append(errs, fmt.Errorf("index.quiet_hours: %q is not such as 01:00-05:00", c.QuietHours))
	}
	for _, d := range c.OwnDomains {
		if folded := document.FoldDomain(d); folded == "" || strings.HasPrefix(folded, ".") || strings.ContainsAny(folded, "@*/ \t,") {
			errs = append(errs, fmt.Errorf("index.own_domains: %q is no domain such as example.com", d))
		}
	}
	return errors.Join(errs...)
}
