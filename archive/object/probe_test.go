package object_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
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

// The server of the tests keeps a retention, and forgets a legal hold once the retention is over: it must not pass for WORM.
func TestProbeLock(t *testing.T) {
	b := objecttest.StartLockedS3(t)
	s := open(t, b.URL)
	for _, mode := range []string{"governance", "compliance"} {
		r, err := object.Probe(t.Context(), s, object.Config{ObjectLock: mode})
		if err != nil || r.WORM || len(r.Weak) != 0 || len(r.Leftovers) != 1 || !strings.Contains(r.Leftovers[0], "-locked: locked until") {
			t.Errorf("%s: %+v, %v", mode, r, err)
		}
	}
	r, err := object.Probe(t.Context(), s, object.Config{ObjectLock: "compliance", RequireWORM: true})
	const weak = "a version under legal hold was deleted once its retention was over"
	if !errors.Is(err, object.ErrUnsupported) || !strings.Contains(err.Error(), "require_worm") || !slices.Contains(r.Weak, weak) {
		t.Errorf("with require_worm: %+v, %v; want ErrUnsupported because %s", r, err, weak)
	}
}

// A server whose locks are for show is found out, each way to break them by itself.
func TestProbeWeakLocks(t *testing.T) {
	b := objecttest.StartLockedS3(t)
	for what, pretend := range map[string]func(*http.Request) bool{
		"a retention was shortened": func(r *http.Request) bool {
			return r.Method == http.MethodPut && r.URL.Query().Has("retention") && r.Header.Get("X-Amz-Bypass-Governance-Retention") == ""
		},
		"a compliance lock became a governance lock": func(r *http.Request) bool {
			return r.Method == http.MethodPut && r.URL.Query().Has("retention") && r.Header.Get("X-Amz-Bypass-Governance-Retention") == "true"
		},
		"a locked version was deleted": func(r *http.Request) bool {
			return r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "-locked") && r.Header.Get("X-Amz-Bypass-Governance-Retention") == ""
		},
		"a version under a compliance lock was deleted as if under governance": func(r *http.Request) bool {
			return r.Method == http.MethodDelete && r.Header.Get("X-Amz-Bypass-Governance-Retention") == "true"
		},
	} {
		proxy := objecttest.StartProxy(t, b.Endpoint)
		proxy.SetFault(func(r *http.Request) objecttest.ProxyFault {
			if pretend(r) {
				return objecttest.Pretend
			}
			return objecttest.NoFault
		})
		r, err := object.Probe(t.Context(), open(t, b.URLAt(proxy.URL)), object.Config{ObjectLock: "compliance"})
		if err != nil || r.WORM || !slices.Equal(r.Weak, []string{what}) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
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
