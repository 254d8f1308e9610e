package queue

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-archive/holdfast/journal/queue/bounce"
)

// Config is the section "queue" of the configuration. A zero value stands for the default.
type Config struct {
	Dir string `mapstructure:"-"` // <data_dir>/queue

	FirstRetry  time.Duration `mapstructure:"first_retry"`  // after the first failure; then twice as long each time
	MaxRetry    time.Duration `mapstructure:"max_retry"`    // and never longer
	Expire      time.Duration `mapstructure:"expire"`       // a message is given up at this age
	DelayNotice time.Duration `mapstructure:"delay_notice"` // a sender who asked for it is told of a delay at this age

	Deliveries            int   `mapstructure:"deliveries"`             // under way at once, to all destinations
	DestinationDeliveries int   `mapstructure:"destination_deliveries"` // to one destination
	ReturnSize            int64 `mapstructure:"return_size"`            // bytes: a message up to this size goes back whole with RET=FULL
}

// Defaults, where Config has zero.
const (
	DefaultFirstRetry            = 5 * time.Minute
	DefaultMaxRetry              = 4 * time.Hour
	DefaultExpire                = 5 * 24 * time.Hour // RFC 5321 section 4.5.4.1: at least 4 to 5 days
	DefaultDelayNotice           = 4 * time.Hour
	DefaultDeliveries            = 100
	DefaultDestinationDeliveries = 20
)

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	c.FirstRetry = cmp.Or(c.FirstRetry, DefaultFirstRetry)
	c.MaxRetry = cmp.Or(c.MaxRetry, max(DefaultMaxRetry, c.FirstRetry))
	c.Expire = cmp.Or(c.Expire, DefaultExpire)
	c.DelayNotice = cmp.Or(c.DelayNotice, DefaultDelayNotice)
	c.Deliveries = cmp.Or(c.Deliveries, DefaultDeliveries)
	c.DestinationDeliveries = cmp.Or(c.DestinationDeliveries, min(DefaultDestinationDeliveries, c.Deliveries))
	c.ReturnSize = cmp.Or(c.ReturnSize, bounce.DefaultLimit)
	return c
}

// Validate names every fault at once.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	fault := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("queue.%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if c.FirstRetry < time.Second {
		fault("first_retry", "%v is under a second", c.FirstRetry)
	}
	if c.MaxRetry < c.FirstRetry {
		fault("max_retry", "%v is under first_retry, %v", c.MaxRetry, c.FirstRetry)
	}
	if c.Expire < time.Minute {
		fault("expire", "%v is under a minute", c.Expire)
	}
	if c.DelayNotice < time.Minute {
		fault("delay_notice", "%v is under a minute", c.DelayNotice)
	}
	if c.Deliveries < 1 || c.Deliveries > 10_000 {
		fault("deliveries", "%d is not between 1 and 10000", c.Deliveries)
	}
	if c.DestinationDeliveries < 1 || c.DestinationDeliveries > c.Deliveries {
		fault("destination_deliveries", "%d is not between 1 and deliveries, %d", c.DestinationDeliveries, c.Deliveries)
	}
	if c.ReturnSize < 1<<10 || c.ReturnSize > 10<<20 {
		fault("return_size", "%d bytes is not between 1 KiB and 10 MiB", c.ReturnSize)
	}
	return errors.Join(errs...)
}
