package merge

import (
	"container/list"
	"context"
	"sync"

	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

// DefaultCacheBytes is the usual limit of a process's Cache.
const DefaultCacheBytes = 128 << 20

const (
	// protectedFor is for how many windows that are merged after it what a window has used is not
	// given up for anything new. When everything is protected, what is new is not kept: families of
	// windows that do not fit in together would only take each other's place otherwise.
	protectedFor = 16

	// nodeOverhead is about what a node takes beside its pages, in bytes.
	nodeOverhead = 512
)

// Cache keeps merged slices of windows that overlap, as nodes of the trees of package merge. A node
// is found by the digest of all that it was merged from, so one that the lanes do not bear out any
// more is not found. One Cache serves any number of Mergers, of whatever pipelines, and goroutines.
//
// A window uses all nodes that lie inside it, whether it is merged from them or from larger ones.
// When there is no room for a new node, those that were used least recently are given up.
type Cache struct {
	limit int64

	mu     sync.Mutex // guards all below, and of nodes what they say
	nodes  map[digest]*node
	order  list.List // of *node, the last used first
	bytes  int64     // of nodes, and reserved for those that are being merged
	clock  int64     // windows that were merged
	hits   int64
	misses int64
}

// NewCache returns an empty cache that holds at most bytes.
func NewCache(bytes int64) *Cache { return &Cache{limit: bytes, nodes: make(map[digest]*node)} }

// CacheStats is what a cache holds and what it was good for. Hits and misses are of slice
// generations of lanes, each once for every window that it was merged into: those that were in the
// cache, and those that were read from a lane.
type CacheStats struct {
	Bytes, Limit int64
	Hits, Misses int64
}

// Stats returns what the cache holds now, and its hits and misses since it was made.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheStats{Bytes: c.bytes, Limit: c.limit, Hits: c.hits, Misses: c.misses}
}

// Clear gives up everything that no merge is using.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Back(); e != nil; {
		n := e.Value.(*node)
		e = e.Prev()
		if n.users == 0 {
			c.forget(n)
		}
	}
}

// node is the merged content of successive slices: of each key one entry, in pages like those of
// lanes. Pages and events do not change once merged is closed.
type node struct {
	digest digest
	merged chan struct{} // closed when the node is whole, or will never be
	pages  []*page.Page  // none when it will never be
	names  []store.StoredPage
	events int64 // in the entries

	// Guarded by Cache.mu:

	bytes int64 // taken, or reserved before the node is whole
	used  int64 // clock of the cache
	users int
	place *list.Element // nil when the cache does not keep the node any more
}

// size is what the pages of a node that is whole take.
func (n *node) size() (bytes int64) {
	for _, p := range n.pages {
		bytes += int64(p.Bytes())
	}
	return bytes
}

// isMerged reports whether the node is whole, or will never be.
func (n *node) isMerged() bool {
	select {
	case <-n.merged:
		return true
	default:
		return false
	}
}

// beginWindow marks what a window uses: those of its nodes that are in the cache. A node whose
// place another one takes is not used while that one is in the cache.
func (c *Cache) beginWindow(inside []treeNode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	for i := range inside {
		if n := c.nodes[inside[i].digest]; n != nil && c.nodes[inside[i].instead] == nil {
			c.touch(n)
		}
	}
}

// find returns a node that is whole, nil when there is none. It is to be released.
func (c *Cache) find(d digest) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[d]
	if n == nil || !n.isMerged() {
		return nil
	}
	n.users++
	c.touch(n)
	return n
}

// reserve returns a node that is whole, after waiting for it when somebody else merges it, or with
// isNew one that the caller has to merge and then to complete or to abandon. n is nil when there is
// no room for as many bytes. The node is to be released in every case.
func (c *Cache) reserve(ctx context.Context, d digest, bytes int64) (n *node, isNew bool, err error) {
	for {
		if n, isNew = c.enter(d, bytes); n == nil || isNew {
			return n, isNew, nil
		}
		select {
		case <-n.merged:
		case <-ctx.Done():
			c.release(n)
			return nil, false, context.Cause(ctx)
		}
		if len(n.pages) > 0 {
			return n, false, nil
		}
		c.release(n)
	}
}

// enter returns the node with a digest, a new one if there is none and room for it.
func (c *Cache) enter(d digest, bytes int64) (n *node, isNew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n = c.nodes[d]; n != nil {
		n.users++
		c.touch(n)
		return n, false
	}
	if bytes += nodeOverhead; !c.makeRoom(bytes) {
		return nil, false
	}
	n = &node{digest: d, merged: make(chan struct{}), bytes: bytes, used: c.clock, users: 1}
	n.place = c.order.PushFront(n)
	c.nodes[d] = n
	c.bytes += bytes
	return n, true
}

// complete makes a new node whole. It is kept unless it takes more than was reserved for it and
// there is no room for that.
func (c *Cache) complete(n *node, pages []*page.Page, events int64) {
	n.pages, n.names, n.events = pages, make([]store.StoredPage, len(pages)), events
	for i, p := range pages {
		n.names[i].Name = p.Name
	}
	bytes := nodeOverhead + n.size()
	c.mu.Lock()
	defer c.mu.Unlock()
	if more := bytes - n.bytes; more <= 0 || c.makeRoom(more) {
		c.bytes += more
		n.bytes = bytes
	} else {
		c.forget(n)
	}
	close(n.merged)
}

// abandon gives a new node up that could not be merged.
func (c *Cache) abandon(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(n)
	close(n.merged)
}

// drop gives a node up that is not what it should be.
func (c *Cache) drop(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.place != nil {
		c.forget(n)
	}
}

// release ends one use of a node.
func (c *Cache) release(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.users--; n.users == 0 && n.place == nil {
		c.bytes -= n.bytes
	}
}

// count counts the slices of lanes that a window was merged from, and of these those that were read.
func (c *Cache) count(all, read int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hits += int64(all - read)
	c.misses += int64(read)
}

// touch marks a node as used. c.mu is held.
func (c *Cache) touch(n *node) {
	n.used = c.clock
	c.order.MoveToFront(n.place)
}

// makeRoom gives nodes up until bytes more fit in, and reports whether they do. c.mu is held.
func (c *Cache) makeRoom(bytes int64) bool {
	for e := c.order.Back(); e != nil && c.bytes+bytes > c.limit; {
		n := e.Value.(*node)
		e = e.Prev()
		if n.used > c.clock-protectedFor {
			break
		}
		if n.users == 0 {
			c.forget(n)
		}
	}
	return c.bytes+bytes <= c.limit
}

// forget takes a node out of the cache; its memory counts until nobody uses it. c.mu is held.
func (c *Cache) forget(n *node) {
	delete(c.nodes, n.digest)
	c.order.Remove(n.place)
	n.place = nil
	if n.users == 0 {
		c.bytes -= n.bytes
	}
}
