package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/anchor"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/replica"
	"github.com/holdfast-archive/holdfast/archive/scrub"
	"github.com/holdfast-archive/holdfast/archive/timestamp"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/journal"
	"github.com/holdfast-archive/holdfast/journal/queue"
	"github.com/holdfast-archive/holdfast/journal/spool"
	"github.com/holdfast-archive/holdfast/retention"
	"github.com/holdfast-archive/holdfast/web"
)

// config is the whole configuration. Each section is its package's own type, which also checks it.
type config struct {
	Node      string                `mapstructure:"node"`
	DataDir   string                `mapstructure:"data_dir"`
	KeysDir   string                `mapstructure:"keys_dir"`
	Listeners []journal.Config      `mapstructure:"listeners"`
	Verdicts  journal.VerdictConfig `mapstructure:"verdicts"`
	Spool     spool.Config          `mapstructure:"spool"`
	Queue     queue.Config          `mapstructure:"queue"`
	Archive   archive.Config        `mapstructure:"archive"`
	Index     index.Config          `mapstructure:"index"`
	Web       web.Config            `mapstructure:"web"`
	Retention retention.Config      `mapstructure:"retention"`
	Anchor    anchor.Config         `mapstructure:"anchor"`
	Scrub     scrub.Config          `mapstructure:"scrub"`
	Replica   replica.Config        `mapstructure:"replica"`
	Log       logConfig             `mapstructure:"log"`

	file     string   // where it came from; empty: embedded defaults
	unknown  []string // keys that nobody knows
	embedded bool     // no file was named: defaults under ./holdfast-data, loopback only
}

type logConfig struct {
	Level  string `mapstructure:"level"`
	Format string `mapstructure:"format"`
}

func (c logConfig) Validate() error {
	var errs []error
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		errs = append(errs, fmt.Errorf("log.level: %q is not debug, info, warn or error", c.Level))
	}
	if !slices.Contains([]string{"text", "json"}, c.Format) {
		errs = append(errs, fmt.Errorf("log.format: %q is not text or json", c.Format))
	}
	return errors.Join(errs...)
}

// logger makes the logger that the configuration asks for. It writes to standard error.
func (c logConfig) logger() *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(c.Level)) // was validated
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// errConfig is returned for a configuration that can't be used.
var errConfig = errors.New("configuration")

// defaults are the values of keys that the file does not name.
var defaults = map[string]any{
	"node":              "main",
	"data_dir":          "./holdfast-data",
	"keys_dir":          "",
	"verdicts.enabled":  false,
	"verdicts.resolver": []string{},
	"verdicts.modes":    []string{},
	"verdicts.timeout":  "5s",
	"spool.max_bytes":   "10GiB",

	"queue.first_retry":            queue.DefaultFirstRetry,
	"queue.max_retry":              queue.DefaultMaxRetry,
	"queue.expire":                 queue.DefaultExpire,
	"queue.delay_notice":           queue.DefaultDelayNotice,
	"queue.deliveries":             queue.DefaultDeliveries,
	"queue.destination_deliveries": queue.DefaultDestinationDeliveries,
	"queue.return_size":            "64KiB",

	"archive.store":         "",
	"archive.object_lock":   "none",
	"archive.require_worm":  false,
	"archive.single_writer": false,
	"archive.recipients":    []string{},
	"archive.seal_after":    archive.DefaultSealAfter,
	"archive.seal_size":     "16MiB",
	"index.backend":         "bleve",
	"index.dir":             "",
	"index.own_domains":     []string{},
	"index.quiet_hours":     "01:00-05:00",
	"web.address":           "127.0.0.1:8080",
	"replica.store":         "",
	"replica.object_lock":   "none",
	"replica.every":         replica.DefaultEvery,
	"scrub.share":           scrub.DefaultShare,
	"anchor.every":          anchor.DefaultEvery,
	"anchor.store":          "",
	"anchor.authority":      "",
	"anchor.authority_ca":   "",
	"anchor.timeout":        timestamp.DefaultTimeout,
	"retention.default":     retention.FirstDefault,
	"retention.schedule":    "0 3 * * *",
	"retention.four_eyes":   false,
	"log.level":             "info",
	"log.format":            "text",
}

// embeddedListeners is what `serve` listens on without a configuration file.
var embeddedListeners = []map[string]any{{
	"name": "relay", "address": "127.0.0.1:2525", "mode": "relay", "next_hop": "127.0.0.1:2600", "trusted_networks": []string{"127.0.0.0/8"},
}}

// loadConfig reads a file (none: embedded defaults) and the environment, and names every fault at once.
func loadConfig(file string) (*config, error) {
	c, err := readConfig(file, nil)
	if err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%w %s:\n%w", errConfig, c.name(), err)
	}
	return c, nil
}

// readConfig reads without checking values; unknown keys and values of the wrong type are errors here already.
func readConfig(file string, over map[string]any) (*config, error) {
	v := viper.New()
	v.SetConfigType("yaml")
	v.SetEnvPrefix("holdfast")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	for k, d := range defaults {
		v.SetDefault(k, d)
	}
	c := &config{file: file, embedded: file == "", unknown: unknownVariables(os.Environ())}
	base := "."
	if file == "" {
		v.SetDefault("listeners", embeddedListeners)
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errConfig, err)
		}
		defer f.Close()
		if err := v.ReadConfig(f); err != nil {
			return nil, fmt.Errorf("%w %s: %w", errConfig, file, err)
		}
		base = filepath.Dir(file)
	}
	for k, val := range over {
		v.Set(k, val)
	}
	var keys mapstructure.Metadata
	err := v.Unmarshal(c, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		bytesHook, durationHook, mapstructure.TextUnmarshallerHookFunc(), mapstructure.StringToSliceHookFunc(","),
	)), func(d *mapstructure.DecoderConfig) { d.Metadata = &keys })
	c.unknown = append(c.unknown, slices.Sorted(slices.Values(keys.Unused))...)
	if err != nil {
		return nil, fmt.Errorf("%w %s:\n%w", errConfig, c.name(), errors.Join(append(typeFaults(err), c.unknownKeys())...))
	}
	return c, c.resolve(base)
}

// typeFaults takes apart what the decoder says of values of the wrong type, each with its key.
func typeFaults(err error) (faults []error) {
	switch e := err.(type) {
	case *mapstructure.DecodeError:
		if strings.HasSuffix(e.Name(), ".next_hop") {
			return []error{fmt.Errorf("%s: equivalent hosts, each host:port; several destinations need mode queue", e.Name())}
		}
		return []error{fmt.Errorf("%s: %w", e.Name(), e.Unwrap())}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			faults = append(faults, typeFaults(err)...)
		}
		return faults
	case interface{ Unwrap() error }:
		return typeFaults(e.Unwrap())
	}
	return []error{err}
}

// unknownVariables gives the names in the environment that look like a key and are none.
func unknownVariables(environ []string) (unknown []string) {
	known := map[string]bool{"HOLDFAST_CONFIG": true, "HOLDFAST_SHARED": true, "HOLDFAST_SCREENSHOTS": true}
	for key := range defaults {
		known["HOLDFAST_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))] = true
	}
	for _, v := range environ {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "HOLDFAST_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

func (c *config) unknownKeys() error {
	var errs []error
	for _, key := range c.unknown {
		errs = append(errs, fmt.Errorf("%s: there is no such key", key))
	}
	return errors.Join(errs...)
}

func (c *config) name() string {
	if c.embedded {
		return "(embedded defaults)"
	}
	return c.file
}

// resolve fills in what follows from other keys and makes paths absolute; relative ones are from the file's folder.
func (c *config) resolve(base string) error {
	base, err := filepath.Abs(base)
	if err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	abs := func(p string) string {
		if filepath.IsAbs(p) {
			return filepath.Clean(p)
		}
		return filepath.Join(base, p)
	}
	c.DataDir = abs(c.DataDir)
	if c.KeysDir == "" {
		c.KeysDir = filepath.Join(filepath.Dir(c.DataDir), "keys")
	}
	c.KeysDir = abs(c.KeysDir)
	if c.Archive.Store == "" {
		c.Archive.Store = "file:" + filepath.Join(c.DataDir, "archive")
	} else if path, ok := strings.CutPrefix(c.Archive.Store, "file:"); ok {
		c.Archive.Store = "file:" + abs(path)
	}
	c.Anchor.Store = object.AbsURL(c.Anchor.Store, abs)
	c.Replica.Store = object.AbsURL(c.Replica.Store, abs)
	if c.Anchor.AuthorityCA != "" {
		c.Anchor.AuthorityCA = abs(c.Anchor.AuthorityCA)
	}
	if c.Index.Dir == "" {
		c.Index.Dir = filepath.Join(c.DataDir, "index")
	}
	c.Index.Dir = abs(c.Index.Dir)
	c.Spool.Dir = filepath.Join(c.DataDir, "spool")
	c.Queue.Dir = filepath.Join(c.DataDir, "queue")
	c.Archive.Node = c.Node
	for i := range c.Listeners {
		l := &c.Listeners[i]
		for _, path := range []*string{&l.TLS.Cert, &l.TLS.Key, &l.ClientCA, &l.Auth.Users} {
			if *path != "" {
				*path = abs(*path)
			}
		}
		c.Listeners[i].Hop.Resolve(abs)
		for k := range c.Listeners[i].Routes {
			c.Listeners[i].Routes[k].Resolve(abs)
		}
	}
	return nil
}

// Validate names every fault at once, each with its key and value.
func (c *config) Validate() error {
	errs := []error{c.unknownKeys(), c.Verdicts.Validate(), c.Archive.Validate(), c.Spool.Validate(), c.Queue.Validate(), c.Index.Validate(), c.Web.Validate(), c.Retention.Validate(), c.Anchor.Validate(), c.Scrub.Validate(), c.Replica.Validate(), c.Log.Validate()}
	for i, d := range c.Retention.Policies {
		if _, err := parsePolicy(d.Query); err != nil {
			errs = append(errs, fmt.Errorf("retention.policies[%d].query: %w", i, err))
		}
	}
	if c.Replica.Store != "" && c.Replica.Store == c.Archive.Store {
		errs = append(errs, fmt.Errorf("replica.store: %s is archive.store: a second copy is in another place", c.Replica.Store))
	}
	if c.Anchor.Store != "" && c.Anchor.Store == c.Archive.Store {
		errs = append(errs, fmt.Errorf("anchor.store: %s is archive.store: a second place is another one", c.Anchor.Store))
	}
	if within(c.KeysDir, c.DataDir) {
		errs = append(errs, fmt.Errorf("keys_dir: %s lies in data_dir: who takes the data would take the keys", c.KeysDir))
	}
	if path, ok := strings.CutPrefix(c.Archive.Store, "file:"); ok && within(c.KeysDir, path) {
		errs = append(errs, fmt.Errorf("keys_dir: %s lies in archive.store", c.KeysDir))
	}
	names, addresses := map[string]bool{}, map[string]bool{}
	for i, l := range c.Listeners {
		if err := l.Validate(); err != nil {
			errs = append(errs, err)
		}
		if names[l.Name] {
			errs = append(errs, fmt.Errorf("listeners[%d].name: %q is taken", i, l.Name))
		}
		if _, port, err := net.SplitHostPort(l.Address); err == nil && port != "0" && addresses[l.Address] {
			errs = append(errs, fmt.Errorf("listeners[%d].address: %q is taken", i, l.Address))
		}
		names[l.Name], addresses[l.Address] = true, true
	}
	return errors.Join(errs...)
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// bytesHook reads sizes such as "50MiB" into integers.
func bytesHook(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to.Kind() != reflect.Int64 || to.PkgPath() != "" {
		return data, nil
	}
	return parseBytes(data.(string))
}

// durationHook reads durations such as "60s".
func durationHook(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to != reflect.TypeFor[time.Duration]() {
		return data, nil
	}
	d, err := time.ParseDuration(data.(string))
	if err != nil {
		return nil, fmt.Errorf("%q is not a duration such as 60s", data)
	}
	return d, nil
}

// units of bytes, longest names first.
var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1}}

func parseBytes(s string) (int64, error) {
	for _, u := range units {
		if num, ok := strings.CutSuffix(s, u.name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(num), 10, 64)
			if err != nil || n < 0 || n > (1<<62)/u.bytes {
				return 0, fmt.Errorf("%q is not a size such as 50MiB", s)
			}
			return n * u.bytes, nil
		}
	}
	return 0, fmt.Errorf("%q is not a size such as 50MiB", s)
}

// exists says whether a path is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
