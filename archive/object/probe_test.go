package object_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
)

func probeLeavesNothing(t *testing.T, s object.Keeper) {
	t.Helper()
	for info, err := range s.List(t.Context(), "", "") {
		t.Errorf("the probe left %s, %v", info.Key, err)
	}
}

func TestProbe(t *testing.T) {
	file, bucket := open(t, "file:"+t.TempDir()), open(t, objecttest.StartS3(t).URL)
	for name, s := range map[string]object.Keeper{"file": file, "s3": bucket} {
		r, err := object.Probe(t.Context(), s, object.Config{})
		if err != nil || len(r.Leftovers) != 0 || len(r.Weak) != 0 || r.WORM {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if name == "s3" && !r.Checksums {
			t.Error("a wrong checksum was not refused")
		}
		probeLeavesNothing(t, s)
		if _, err := object.Probe(t.Context(), s, object.Config{ObjectLock: "governance"}); !errors.Is(err, object.ErrUnsupported) {
			t.Errorf("%s with object_lock: %v, want ErrUnsupported", name, err)
		}
	}
}

// The server of the tests keeps a retention, and forgets a legal hold once the retention is over: it must not pass for WORM. Its
// administrator, who runs the tests, may bypass governance.
func TestProbeLock(t *testing.T) {
	t.Parallel()
	const forgets, bypass = "a version under legal hold was deleted once its retention was over", "these credentials may bypass a governance lock"
	var wg sync.WaitGroup
	for mode, want := range map[string]struct {
		weak        []string
		left, tried int
	}{"governance": {[]string{bypass, forgets}, 2, 9}, "compliance": {[]string{forgets}, 1, 12}} {
		s := open(t, objecttest.StartLockedS3(t).URL)
		wg.Go(func() {
			r, err := object.Probe(t.Context(), s, object.Config{ObjectLock: mode})
			if err != nil || r.WORM || !slices.Equal(r.Weak, want.weak) || len(r.Tried) != want.tried || len(r.Leftovers) != want.left || !strings.Contains(r.Leftovers[0], "locked until") {
				t.Errorf("%s: %+v, %v", mode, r, err)
			}
		})
	}
	s := open(t, objecttest.StartLockedS3(t).URL)
	r, err := object.Probe(t.Context(), s, object.Config{ObjectLock: "compliance", RequireWORM: true})
	if !errors.Is(err, object.ErrUnsupported) || !strings.Contains(err.Error(), "require_worm") || !slices.Contains(r.Weak, forgets) {
		t.Errorf("with require_worm: %+v, %v; want ErrUnsupported because %s", r, err, forgets)
	}
	wg.Wait()
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil || !strings.HasPrefix(info.Key, "probe/") {
			t.Errorf("the probe touched %s, %v", info.Key, err)
		}
	}
}

// A server that keeps what is locked passes: what the one of the tests forgets is refused on its way.
func TestProbeWORM(t *testing.T) {
	t.Parallel()
	b := objecttest.StartLockedS3(t)
	proxy := objecttest.StartProxy(t, b.Endpoint)
	proxy.SetFault(func(r *http.Request) objecttest.ProxyFault {
		if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "-held") && r.URL.Query().Has("versionId") {
			return objecttest.Refuse
		}
		return objecttest.NoFault
	})
	r, err := object.Probe(t.Context(), open(t, b.URLAt(proxy.URL)), object.Config{ObjectLock: "compliance", RequireWORM: true})
	if err != nil || !r.WORM || len(r.Weak) != 0 || len(r.Tried) != 12 {
		t.Errorf("%+v, %v; want WORM", r, err)
	}
}

// A server whose locks are for show is found out, each way to break them by itself.
func TestProbeWeakLocks(t *testing.T) {
	t.Parallel()
	bypass := func(r *http.Request) bool { return r.Header.Get("X-Amz-Bypass-Governance-Retention") == "true" }
	var wg sync.WaitGroup
	for what, pretend := range map[string]func(r *http.Request, body string) bool{
		"a retention was shortened": func(r *http.Request, _ string) bool {
			return r.Method == http.MethodPut && r.URL.Query().Has("retention") && !bypass(r)
		},
		"a compliance lock was shortened as if it were a governance lock": func(r *http.Request, body string) bool {
			return r.Method == http.MethodPut && r.URL.Query().Has("retention") && bypass(r) && strings.Contains(body, "COMPLIANCE")
		},
		"a compliance lock became a governance lock": func(r *http.Request, body string) bool {
			return r.Method == http.MethodPut && r.URL.Query().Has("retention") && bypass(r) && strings.Contains(body, "GOVERNANCE")
		},
		"a locked version was deleted": func(r *http.Request, _ string) bool {
			return r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "-locked") && !bypass(r)
		},
		"a version under a compliance lock was deleted as if under governance": func(r *http.Request, _ string) bool {
			return r.Method == http.MethodDelete && bypass(r)
		},
		"a version under legal hold was deleted": func(r *http.Request, _ string) bool {
			return r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "-flag")
		},
		"the versions of the bucket were suspended": func(r *http.Request, _ string) bool {
			return r.Method == http.MethodPut && r.URL.Query().Has("versioning")
		},
	} {
		b := objecttest.StartLockedS3(t) // the server can't have several probes in one folder at once
		proxy := objecttest.StartProxy(t, b.Endpoint)
		proxy.SetFault(func(r *http.Request) objecttest.ProxyFault {
			body := ""
			if r.Method == http.MethodPut && r.URL.Query().Has("retention") {
				text, _ := io.ReadAll(r.Body)
				body = string(text)
				r.Body = io.NopCloser(bytes.NewReader(text))
			}
			switch {
			case pretend(r, body):
				return objecttest.Pretend
			case r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "-held") && r.URL.Query().Has("versionId"):
				return objecttest.Refuse
			}
			return objecttest.NoFault
		})
		s := open(t, b.URLAt(proxy.URL))
		wg.Go(func() {
			r, err := object.Probe(t.Context(), s, object.Config{ObjectLock: "compliance"})
			if err != nil || r.WORM || !slices.Equal(r.Weak, []string{what}) {
				t.Errorf("%s: %+v, %v", what, r, err)
			}
		})
	}
	wg.Wait()
}

// overwriting is a store that takes every write.
type overwriting struct{ *objecttest.Memory }

func (s overwriting) Create(ctx context.Context, key string, body io.ReadSeeker, _ object.Lock) (object.Info, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return object.Info{}, err
	}
	s.Overwrite(key, b)
	return s.Stat(ctx, key)
}

// unconditional refuses conditional writes as Backblaze B2 does.
type unconditional struct{ *objecttest.Memory }

func (unconditional) Create(context.Context, string, io.ReadSeeker, object.Lock) (object.Info, error) {
	return object.Info{}, object.ErrUnsupported
}

func TestProbeNotConditional(t *testing.T) {
	for name, s := range map[string]object.Keeper{
		"overwrites": overwriting{new(objecttest.Memory)}, "refuses": unconditional{new(objecttest.Memory)},
	} {
		if _, err := object.Probe(t.Context(), s, object.Config{}); !errors.Is(err, object.ErrUnsupported) || !strings.Contains(err.Error(), "single_writer") {
			t.Errorf("%s: %v, want ErrUnsupported that says what to set", name, err)
		}
	}
}

// A store that the probe can't delete from works, and the leftovers are named.
func TestProbeLeftovers(t *testing.T) {
	m := new(objecttest.Memory)
	r, err := object.Probe(t.Context(), m, object.Config{})
	if err != nil || len(r.Leftovers) != 1 || len(m.Keys()) != 1 || !strings.Contains(r.Leftovers[0], m.Keys()[0]) {
		t.Errorf("%+v, %v; store has %q", r, err, m.Keys())
	}
}
