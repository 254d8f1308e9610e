package index

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-archive/holdfast/index/document"
)

// Config is the section "index" of the configuration.
type Config struct {
	Backend string `mapstructure:"backend"` // bleve
	Dir     string `mapstructure:"dir"`
	// OwnDomains are the domains whose people are our own, for direction:. What lies below one is our own too. The index is built again when
	// they change.
	OwnDomains []string `mapstructure:"own_domains"`
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

// Validate names every fault at once.
func (c Config) Validate() error {
	var errs []error
	if c.Backend != "bleve" {
		errs = append(errs, fmt.Errorf("index.backend: %q is not bleve", c.Backend))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("index.dir: empty"))
	}
	for _, d := range c.OwnDomains {
		if folded := document.FoldDomain(d); folded == "" || strings.HasPrefix(folded, ".") || strings.ContainsAny(folded, "@*/ \t,") {
			errs = append(errs, fmt.Errorf("index.own_domains: %q is no domain such as example.com", d))
		}
	}
	return errors.Join(errs...)
}
