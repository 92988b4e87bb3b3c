package merge

import "millrace/pipeline/page"

// BoundGroups makes groups too wide that have more bytes than given.
func (o *Opened) BoundGroups(bytes int) { o.merger.groupBytes = bytes }

// Spoil changes every node of the cache, and returns how many there are.
func (c *Cache) Spoil(change func(events *int64, pages []*page.Page)) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		change(&n.events, n.pages)
	}
	return len(c.nodes)
}
