package authres

import "sync"

// cache remembers values up to a number of bytes. It has two generations: when the young one is full, the old one is forgotten and the
// young one grows old; what is asked for again becomes young. So what is used stays, and nothing is ever searched for something to forget.
// Safe for concurrent use.
type cache[K comparable, V any] struct {
	limit int // bytes of a generation

	mu         sync.Mutex
	young, old map[K]cached[V]
	size       int // bytes of young
}

type cached[V any] struct {
	value V
	cost  int
}

func newCache[K comparable, V any](bytes int) *cache[K, V] {
	return &cache[K, V]{limit: bytes / 2, young: map[K]cached[V]{}}
}

func (c *cache[K, V]) get(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.young[k]; ok {
		return e.value, true
	}
	e, ok := c.old[k]
	if ok {
		c.keep(k, e)
	}
	return e.value, ok
}

func (c *cache[K, V]) put(k K, v V, cost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(k, cached[V]{v, cost})
}

// keep is called with mu held.
func (c *cache[K, V]) keep(k K, e cached[V]) {
	if c.size += e.cost - c.young[k].cost; c.size > c.limit {
		c.old, c.young, c.size = c.young, map[K]cached[V]{}, e.cost
	}
	c.young[k] = e
}
