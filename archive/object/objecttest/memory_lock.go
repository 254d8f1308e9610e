package objecttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
)

// Extend implements object.Protector; what has no lock gets one of mode governance.
func (m *Memory) Extend(ctx context.Context, key string, until time.Time) error {
	return m.each(ctx, OpExtend, key, func(l *object.Lock) {
		if until.After(l.Until) {
			l.Until = until.UTC()
		}
		if l.Mode == object.LockNone {
			l.Mode = object.LockGovernance
		}
	})
}

// Hold implements object.Protector.
func (m *Memory) Hold(ctx context.Context, key string) error {
	return m.each(ctx, OpHold, key, func(l *object.Lock) { l.Hold = true })
}

// each changes the locks of all versions of a key.
func (m *Memory) each(ctx context.Context, op Op, key string, do func(*object.Lock)) error {
	if err := object.CheckKey(key); err != nil {
		return err
	}
	f, err := m.begin(ctx, op, key)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found := false
	for _, v := range m.versions[key] {
		if !v.info.Marker {
			do(&v.info.Lock)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("%s: %w", key, object.ErrNotFound)
	}
	return f.end(key)
}

// Disposer gives the power to destroy in m.
func (m *Memory) Disposer() object.Disposer { return disposer{m} }

type disposer struct{ m *Memory }

func (d disposer) Unhold(ctx context.Context, key string) error {
	return d.m.each(ctx, OpUnhold, key, func(l *object.Lock) { l.Hold = false })
}

func (d disposer) DeleteAll(ctx context.Context, key string) error {
	if err := object.CheckKey(key); err != nil {
		return err
	}
	f, err := d.m.begin(ctx, OpDelete, key)
	if err != nil {
		return err
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	var kept []*version
	var faults []error
	for _, v := range d.m.versions[key] {
		if l := v.info.Lock; l.Hold || l.Until.After(d.m.now()) {
			kept = append(kept, v)
			faults = append(faults, fmt.Errorf("%s: version %s is locked (%s, until %s, hold %t)", key, v.info.Version, l.Mode, l.Until, l.Hold))
		}
	}
	d.m.set(key, kept)
	return errors.Join(append(faults, f.end(key))...)
}

func (m *Memory) set(key string, versions []*version) {
	if len(versions) > 0 {
		m.versions[key] = versions
		return
	}
	delete(m.versions, key)
	if i, ok := slices.BinarySearch(m.keys, key); ok {
		m.keys = slices.Delete(m.keys, i, i+1)
	}
}
