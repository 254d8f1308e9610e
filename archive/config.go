package archive

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"filippo.io/age"

	"github.com/holdfast-archive/holdfast/archive/object"
)

// Config is the section "archive" of the configuration, and the node's name.
type Config struct {
	Node          string `mapstructure:"-"`
	object.Config `mapstructure:",squash"`
	Recipients    []string      `mapstructure:"recipients"` // age recipients, added to those of the archive
	SealAfter     time.Duration `mapstructure:"seal_after"` // a pack is sealed at this age
	SealSize      int64         `mapstructure:"seal_size"`  // or at this many bytes, compressed
}

// Defaults of seal_after and seal_size.
const (
	DefaultSealAfter = time.Minute
	DefaultSealSize  = 16 << 20
)

var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Validate names every fault at once.
func (c Config) Validate() error {
	var errs []error
	if !nodeName.MatchString(c.Node) {
		errs = append(errs, fmt.Errorf("node: %q is not a name of a-z, 0-9 and -, at most 63 long", c.Node))
	}
	if c.SealAfter < 10*time.Millisecond || c.SealAfter > time.Hour {
		errs = append(errs, fmt.Errorf("archive.seal_after: %v is not between 10ms and 1h", c.SealAfter))
	}
	if c.SealSize < 1<<16 || c.SealSize > 1<<30 {
		errs = append(errs, fmt.Errorf("archive.seal_size: %d bytes is not between 64 KiB and 1 GiB", c.SealSize))
	}
	if _, err := parseRecipients(c.Recipients); err != nil {
		errs = append(errs, fmt.Errorf("archive.recipients: %w", err))
	}
	return errors.Join(append(errs, c.Config.Validate())...)
}

// parseRecipients joins lists of age recipients, each once.
func parseRecipients(lists ...[]string) (recipients []age.Recipient, err error) {
	seen := map[string]bool{}
	for _, list := range lists {
		for _, s := range list {
			if seen[s] {
				continue
			}
			seen[s] = true
			r, err := age.ParseX25519Recipient(s)
			if err != nil {
				return nil, fmt.Errorf("%q is not an age recipient (age1…)", s)
			}
			recipients = append(recipients, r)
		}
	}
	return recipients, nil
}
