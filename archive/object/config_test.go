package object

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		config Config
		faults []string // what the error says, each; none: valid
	}{
		{Config{Store: "file:./archive"}, nil},
		{Config{Store: "file:/var/lib/x", ObjectLock: "none"}, nil},
		{Config{Store: "file:///var/lib/x"}, nil},
		{Config{Store: "s3://bucket"}, nil},
		{Config{Store: "s3://bucket/some/prefix/?region=eu-1&endpoint=https://s3.example:9000/&path_style=true", ObjectLock: "compliance", RequireWORM: true}, nil},
		{Config{Store: "s3://bucket", ObjectLock: "governance", SingleWriter: true}, nil},
		{Config{}, []string{"archive.store: the URL of a store is missing"}},
		{Config{Store: "./archive"}, []string{"archive.store: store URL of scheme", "file:"}},
		{Config{Store: "file:"}, []string{"has no path"}},
		{Config{Store: "file://host/share"}, []string{"file://host/share", "another machine"}},
		{Config{Store: "https://bucket.s3.amazonaws.com/"}, []string{`scheme "https"`}},
		{Config{Store: "s3://Bucket_1/../x?path_style=maybe&endpoint=nowhere&retries=3&region=a&region=b"}, []string{
			`"Bucket_1" is not the name of a bucket`, "prefix:", `path_style: "maybe"`, "endpoint must be", `unknown parameter "retries"`, "region is given twice",
		}},
		{Config{Store: "s3://b.cd#x"}, []string{"fragment"}},
		{Config{Store: "file:/x", ObjectLock: "governance", SingleWriter: true}, []string{
			"archive.object_lock: governance: a folder can't lock", "archive.single_writer: true",
		}},
		{Config{Store: "file:/x", ObjectLock: "COMPLIANCE"}, []string{`archive.object_lock: "COMPLIANCE"`}},
		{Config{Store: "s3://bucket", RequireWORM: true}, []string{"archive.require_worm: true needs"}},
		{Config{Store: "nfs:x", ObjectLock: "yes", RequireWORM: true}, []string{"archive.store:", "archive.object_lock:"}},
	} {
		err := c.config.Validate()
		if (err == nil) != (len(c.faults) == 0) {
			t.Errorf("%+v: %v", c.config, err)
			continue
		}
		for _, f := range c.faults {
			if !strings.Contains(err.Error(), f) {
				t.Errorf("%+v: the error does not say %q:\n%v", c.config, f, err)
			}
		}
	}
}

// What people put into URLs by mistake does not come out in errors and logs.
func TestNoSecrets(t *testing.T) {
	for _, url := range []string{
		"s3://AKIAX:hunter2@bucket/prefix", "s3://bucket?secret_access_key=hunter2", "s3://bucket?endpoint=https://user:hunter2@host",
		"s3://bucket:hunter2/%zz?x=hunter2", "s3://AKIA:hunter2%@bucket", "s3://bucket/?a=hunter2;b=%zz", "s3://bucket#hunter2",
	} {
		err := Config{Store: url}.Validate()
		if err == nil {
			t.Errorf("%s is valid", url)
			continue
		}
		_, open := Open(t.Context(), url, Options{})
		if strings.Contains(err.Error()+open.Error(), "hunter2") {
			t.Errorf("the secret is shown: %v; %v", err, open)
		}
	}
}

func TestOpen(t *testing.T) {
	base := t.TempDir()
	opt := Options{Dir: base}
	for url, folder := range map[string]string{
		"file:./a/b": filepath.Join(base, "a/b"), "file:c": filepath.Join(base, "c"), "file:" + base + "/d": base + "/d", "file://" + base + "/e": base + "/e",
	} {
		if _, err := Open(t.Context(), url, opt); !errors.Is(err, ErrNoStore) || !strings.Contains(err.Error(), folder) {
			t.Errorf("Open(%s): %v, want ErrNoStore that names %s", url, err, folder)
		}
		for _, open := range []string{"Make", "Open"} {
			f := Open
			if open == "Make" {
				f = Make
			}
			k, err := f(t.Context(), url, opt)
			if err != nil {
				t.Errorf("%s(%s): %v", open, url, err)
				continue
			}
			if got := k.(*File).root.Name(); got != folder {
				t.Errorf("%s(%s) opens %s, want %s", open, url, got, folder)
			}
			if _, ok := k.(Disposer); ok {
				t.Errorf("%s(%s) gives the power to destroy", open, url)
			}
			k.Close()
		}
		d, err := OpenDisposer(t.Context(), url, opt)
		if err != nil {
			t.Errorf("OpenDisposer(%s): %v", url, err)
			continue
		}
		if _, ok := d.(Store); ok {
			t.Errorf("OpenDisposer(%s) gives a store", url)
		}
		d.(*FileDisposer).Close()
	}
}

func TestInstrument(t *testing.T) {
	reg := prometheus.NewRegistry()
	dir := "file:" + t.TempDir()
	var stores [2]Keeper // both count in the same metrics
	for i := range stores {
		k, err := Open(t.Context(), dir, Options{Metrics: reg})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		stores[i] = k
	}
	ctx := t.Context()
	for i, body := range []string{"x", "y"} {
		stores[i].Create(ctx, "key", strings.NewReader(body), Lock{})
	}
	stores[0].Stat(ctx, "absent")
	stores[0].Open(ctx, "key", 5, 5)
	stores[1].Hold(ctx, "key")
	for range stores[1].List(ctx, "/", "") {
	}
	want := `
# HELP holdfast_object_errors_total Calls to the object store that failed, by operation and kind of error.
# TYPE holdfast_object_errors_total counter
holdfast_object_errors_total{kind="conflict",op="create"} 1
holdfast_object_errors_total{kind="other",op="hold"} 1
holdfast_object_errors_total{kind="other",op="list"} 1
holdfast_object_errors_total{kind="other",op="open"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "holdfast_object_errors_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "holdfast_object_seconds"); err != nil || n != 4 {
		t.Errorf("holdfast_object_seconds has %d series, %v; want create, stat, open, hold", n, err)
	}
	if _, err := Probe(ctx, stores[0], Config{}); err != nil {
		t.Error(err)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "holdfast_object_errors_total"); err != nil {
		t.Errorf("the probe's own conflicts are counted: %v", err)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, u := range []string{
		"file:./x", "file:///x", "s3://bucket/p?region=r&endpoint=http://h:1&path_style=1", "s3://u:p@bucket", "s3://bucket/%2e%2e/x", "s3://[::1]/x", "s3://", "",
	} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		l, err := parseURL(raw)
		if err != nil {
			return
		}
		if (l.folder == "") == (l.bucket == "") {
			t.Fatalf("%q: neither folder nor bucket, or both: %+v", raw, l)
		}
		if l.prefix != "" && CheckKey(l.prefix) != nil {
			t.Fatalf("%q: prefix %q", raw, l.prefix)
		}
	})
}
