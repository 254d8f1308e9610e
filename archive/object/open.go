package object

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options of Open, Make and OpenDisposer. The zero value will do.
type Options struct {
	Dir          string                // relative paths of file: URLs are from here; empty: the working directory
	SingleWriter bool                  // Config.SingleWriter
	Lock         LockMode              // Config.Lock: the mode in which Extend locks what has no lock
	Metrics      prometheus.Registerer // nil: none

	patience time.Duration // of tests; 0: a minute
}

// Open opens the store that a URL names: file:<path>, or s3://<bucket>[/<prefix>] with the parameters region, endpoint and path_style. It
// must exist: otherwise ErrNoStore. Credentials for a bucket come from where the AWS SDK finds them. Errors name the URL, without what may
// be secret in it.
func Open(ctx context.Context, url string, opt Options) (Keeper, error) {
	return open(ctx, url, opt, OpenFile)
}

// Make is Open for a store that may not exist yet: a folder is made; a bucket must have been made by its owner.
func Make(ctx context.Context, url string, opt Options) (Keeper, error) {
	return open(ctx, url, opt, MakeFile)
}

func open(ctx context.Context, url string, opt Options, folder func(string) (*File, error)) (Keeper, error) {
	where, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	var k Keeper
	if where.folder != "" {
		k, err = folder(where.path(opt.Dir))
	} else {
		k, err = openS3(ctx, where, opt)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return Instrument(k, opt.Metrics), nil
}

// OpenDisposer opens the power to destroy in the store that a URL names. For a bucket, give it credentials of its own (Options has none:
// run it with another AWS_PROFILE).
func OpenDisposer(ctx context.Context, url string, opt Options) (Disposer, error) {
	where, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	var d Disposer
	if where.folder != "" {
		d, err = OpenFileDisposer(where.path(opt.Dir))
	} else {
		d, err = openS3Disposer(ctx, where)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return d, nil
}

// path is the folder, from dir where it is relative.
func (l location) path(dir string) string {
	if filepath.IsAbs(l.folder) {
		return l.folder
	}
	return filepath.Join(dir, l.folder)
}
