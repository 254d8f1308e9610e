package objecttest_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/object/objecttest"
)

func TestMemory(t *testing.T) {
	objecttest.Run(t, func(t *testing.T) object.Keeper {
		m := new(objecttest.Memory)
		t.Cleanup(func() {
			if n := m.Unclosed(); n != 0 {
				t.Errorf("%d readers were not closed", n)
			}
		})
		return m
	})
}

func TestMemoryFaults(t *testing.T) {
	ctx := t.Context()
	m := new(objecttest.Memory)
	create := func(key, body string) error {
		_, err := m.Create(ctx, key, strings.NewReader(body), object.Lock{})
		return err
	}
	once := func(want objecttest.Op, f objecttest.Fault) {
		var done atomic.Bool
		m.SetFault(func(op objecttest.Op, key string) objecttest.Fault {
			if op == want && !done.Swap(true) {
				return f
			}
			return objecttest.Fault{}
		})
	}
	once(objecttest.OpCreate, objecttest.Fault{Before: objecttest.ErrFault})
	if err := create("a", "x"); !errors.Is(err, objecttest.ErrFault) || len(m.Keys()) != 0 {
		t.Errorf("before: %v, %q", err, m.Keys())
	}
	once(objecttest.OpCreate, objecttest.Fault{After: objecttest.ErrFault})
	if err := create("a", "body"); !errors.Is(err, objecttest.ErrFault) || string(m.Bytes("a")) != "body" {
		t.Errorf("after: %v, %q", err, m.Bytes("a"))
	}
	if err := create("a", "body"); err != nil {
		t.Errorf("again: %v", err)
	}

	once(objecttest.OpOpen, objecttest.Fault{Cut: objecttest.ErrFault})
	r, err := m.Open(ctx, "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); string(got) != "bo" || !errors.Is(err, objecttest.ErrFault) {
		t.Errorf("cut: %q, %v", got, err)
	}
	if m.Unclosed() != 1 {
		t.Errorf("%d readers open, want 1", m.Unclosed())
	}
	r.Close()

	wait := make(chan struct{})
	m.SetFault(func(objecttest.Op, string) objecttest.Fault { return objecttest.Fault{Wait: wait} })
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.Stat(short, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("slow, and the context ends: %v", err)
	}
	close(wait)
	if _, err := m.Stat(ctx, "a"); err != nil {
		t.Errorf("slow: %v", err)
	}
}

func TestMemoryTamper(t *testing.T) {
	ctx := t.Context()
	m := new(objecttest.Memory)
	if _, err := m.Create(ctx, "a", strings.NewReader("body"), object.Lock{Hold: true}); err != nil {
		t.Fatal(err)
	}
	m.Corrupt("a", -1)
	if got := string(m.Bytes("a")); got != "bodx" {
		t.Errorf("corrupted: %q", got)
	}
	m.Truncate("a", 2)
	m.Overwrite("a", []byte("other"))
	m.Hide("a")
	if _, err := m.Stat(ctx, "a"); !errors.Is(err, object.ErrNotFound) || len(m.Keys()) != 0 {
		t.Errorf("hidden: %v, %q", err, m.Keys())
	}
	vs, err := m.Versions(ctx, "a")
	if err != nil || len(vs) != 3 || !vs[0].Marker || vs[1].Size != 5 || vs[2].Size != 2 {
		t.Errorf("versions: %+v, %v", vs, err)
	}
	d := m.Disposer()
	if err := d.DeleteAll(ctx, "a"); err == nil {
		t.Error("deleted under a legal hold")
	}
	if err := errors.Join(d.Unhold(ctx, "a"), d.DeleteAll(ctx, "a"), d.DeleteAll(ctx, "a")); err != nil {
		t.Error(err)
	}
	if _, err := m.Create(ctx, "a", strings.NewReader("anew"), object.Lock{}); err != nil {
		t.Error(err)
	}
	m.Remove("a")
	if len(m.Keys()) != 0 {
		t.Errorf("removed: %q", m.Keys())
	}
}

// changing gives other bytes each time it is read.
type changing struct {
	*strings.Reader
	n int
}

func (c *changing) Seek(off int64, whence int) (int64, error) {
	c.n++
	c.Reader = strings.NewReader(strings.Repeat("x", c.n))
	return 0, nil
}

func TestMemoryIsStrict(t *testing.T) {
	m := new(objecttest.Memory)
	if _, err := m.Create(t.Context(), "a", &changing{Reader: strings.NewReader("")}, object.Lock{}); err == nil {
		t.Error("a body that changes is taken")
	}
	past := time.Now().Add(-time.Hour)
	for _, lock := range []object.Lock{{Mode: object.LockCompliance}, {Until: time.Now().Add(time.Hour)}, {Mode: object.LockCompliance, Until: past}} {
		if _, err := m.Create(t.Context(), "a", strings.NewReader("x"), lock); err == nil {
			t.Errorf("lock %+v is taken", lock)
		}
	}
}
