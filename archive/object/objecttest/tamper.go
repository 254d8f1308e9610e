package objecttest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/holdfast-archive/holdfast/archive/object"
)

// What no Store can do, and hostile hands, bad disks and careless administrators can. None of it asks for faults or locks.

// Keys are the keys of all objects, in order.
func (m *Memory) Keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for _, k := range m.keys {
		if m.newest(k) != nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// Bytes is a copy of an object; nil where there is none.
func (m *Memory) Bytes(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.newest(key); v != nil {
		return append([]byte{}, v.body...)
	}
	return nil
}

// Corrupt flips the lowest bit of one byte of the newest version; a negative offset counts from the end. It panics where there is no such
// byte: then the test is wrong.
func (m *Memory) Corrupt(key string, offset int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.newest(key)
	if v == nil {
		panic("objecttest: Corrupt: no object " + key)
	}
	if offset < 0 {
		offset += len(v.body)
	}
	if offset < 0 || offset >= len(v.body) {
		panic(fmt.Sprintf("objecttest: Corrupt: %s has %d bytes, none at %d", key, len(v.body), offset))
	}
	v.body = bytes.Clone(v.body)
	v.body[offset] ^= 1
}

// Truncate cuts the newest version to its first n bytes. It panics where there are fewer.
func (m *Memory) Truncate(key string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.newest(key)
	if v == nil || n > len(v.body) {
		panic("objecttest: Truncate: no object of that size " + key)
	}
	v.body = v.body[:n:n]
	v.info.Size = int64(n)
}

// Remove makes an object vanish with all its versions. It panics where there is none.
func (m *Memory) Remove(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.versions[key] == nil {
		panic("objecttest: Remove: no object " + key)
	}
	m.set(key, nil)
}

// Overwrite puts a version with other bytes on top, as whoever may write to a bucket can. The version below stays.
func (m *Memory) Overwrite(key string, body []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(key, bytes.Clone(body), object.Lock{})
}

// Hide puts a delete marker on top.
func (m *Memory) Hide(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	info := m.add(key, nil, object.Lock{})
	m.versions[key][len(m.versions[key])-1].info = object.Info{Key: key, Version: info.Version, Time: time.Now().UTC(), Marker: true}
}

// Unclosed is the number of readers that Open gave and nobody closed.
func (m *Memory) Unclosed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}
