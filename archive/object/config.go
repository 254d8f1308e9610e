package object

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Config is what the configuration says of the store, under the key archive.
type Config struct {
	Store        string `mapstructure:"store"`         // URL, as Open takes it
	ObjectLock   string `mapstructure:"object_lock"`   // none, governance or compliance; empty: none
	RequireWORM  bool   `mapstructure:"require_worm"`  // do not start on a store that is not shown to keep what is locked
	SingleWriter bool   `mapstructure:"single_writer"` // a store without conditional writes, of which this node is the only writer
}

// Lock is the mode that new objects are locked with.
func (c Config) Lock() LockMode {
	if c.ObjectLock == "none" {
		return LockNone
	}
	return LockMode(c.ObjectLock)
}

// Validate reports every fault at once, each with its key and value.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	where, err := parseURL(c.Store)
	if err != nil {
		fault("archive.store: %w", err)
	}
	switch c.Lock() {
	case LockNone:
		if c.RequireWORM {
			fault("archive.require_worm: true needs archive.object_lock: governance or compliance")
		}
	case LockGovernance, LockCompliance:
		if err == nil && where.folder != "" {
			fault("archive.object_lock: %s: a folder can't lock; %s needs object_lock: none", c.ObjectLock, where)
		}
	default:
		fault("archive.object_lock: %q is not none, governance or compliance", c.ObjectLock)
	}
	if err == nil && where.folder != "" && c.SingleWriter {
		fault("archive.single_writer: true is for buckets without conditional writes; %s needs false", where)
	}
	return errors.Join(faults...)
}

// location is a parsed store URL: a folder, or a bucket.
type location struct {
	folder string

	bucket, prefix   string // prefix without slashes around it; empty: the whole bucket
	region, endpoint string // empty: as the AWS SDK finds them
	pathStyle        bool
}

// String names the store without parameters, for errors and logs.
func (l location) String() string {
	if l.folder != "" {
		return "file:" + l.folder
	}
	return strings.TrimSuffix("s3://"+l.bucket+"/"+l.prefix, "/")
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// parseURL reads file:<path> and s3://<bucket>[/<prefix>][?region=…&endpoint=…&path_style=…]. Its errors show no user information and no
// values of parameters that it does not know: these may be secrets put in the wrong place.
func parseURL(raw string) (location, error) {
	if raw == "" {
		return location{}, errors.New("the URL of a store is missing (file:<path> or s3://<bucket>/<prefix>)")
	}
	if p, ok := strings.CutPrefix(raw, "file:"); ok {
		return parseFolder(p)
	}
	if !strings.HasPrefix(raw, "s3://") {
		scheme, _, _ := strings.Cut(raw, ":")
		return location{}, fmt.Errorf("store URL of scheme %.20q: it must begin with file: or s3://", scheme)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return location{}, errors.New("store URL s3://…: not a URL")
	}
	l := location{bucket: u.Host, prefix: strings.Trim(u.Path, "/")}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("store URL %s: %w", l, fmt.Errorf(format, args...)))
	}
	if u.User != nil {
		fault("it has user information; credentials come from the environment or the files of the AWS SDK")
	}
	if !bucketName.MatchString(l.bucket) {
		fault("%q is not the name of a bucket", l.bucket)
	}
	if l.prefix != "" {
		if err := CheckKey(l.prefix); err != nil {
			fault("prefix: %w", err)
		}
		if len(l.prefix) > 100 {
			fault("the prefix is longer than 100 bytes")
		}
	}
	if u.Fragment != "" {
		fault("it has a fragment (#)")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		fault("its parameters can't be read")
	}
	l.parameters(query, fault)
	return l, errors.Join(faults...)
}

func (l *location) parameters(query url.Values, fault func(string, ...any)) {
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := query[name][0]
		if len(query[name]) > 1 {
			fault("parameter %s is given twice", name)
		}
		switch name {
		case "region":
			l.region = value
		case "endpoint":
			e, err := url.Parse(value)
			if err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || e.User != nil || e.RawQuery != "" || e.Fragment != "" {
				fault("endpoint must be http://host:port or https://host:port")
				continue
			}
			l.endpoint = strings.TrimSuffix(value, "/")
		case "path_style":
			v, err := strconv.ParseBool(value)
			if err != nil {
				fault("path_style: %q is not true or false", value)
			}
			l.pathStyle = v
		default:
			fault("unknown parameter %q (known: region, endpoint, path_style)", name)
		}
	}
}

func parseFolder(p string) (location, error) {
	if rest, ok := strings.CutPrefix(p, "//"); ok { // file:///abs
		if !strings.HasPrefix(rest, "/") {
			return location{}, fmt.Errorf("store URL file:%s: a folder on another machine; write file:/path or file:./path", p)
		}
		p = rest
	}
	switch {
	case p == "":
		return location{}, errors.New("store URL file: has no path")
	case strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return location{}, fmt.Errorf("store URL file:%q has a control character", p)
	}
	return location{folder: p}, nil
}

// CheckURL says what is wrong with the URL of a store.
func CheckURL(url string) error {
	_, err := parseURL(url)
	return err
}

// AbsURL gives the URL of a store with a relative folder made absolute.
func AbsURL(url string, abs func(string) string) string {
	if path, ok := strings.CutPrefix(url, "file:"); ok && path != "" {
		return "file:" + abs(path)
	}
	return url
}
