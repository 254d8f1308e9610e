package index

import (
	"errors"
	"fmt"
)

// Config is the section "index" of the configuration.
type Config struct {
	Backend string `mapstructure:"backend"` // bleve
	Dir     string `mapstructure:"dir"`
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
	return errors.Join(errs...)
}
