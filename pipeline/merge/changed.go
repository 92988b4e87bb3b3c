package merge

import (
	"context"
	"errors"
	"slices"
	"sync"

	"millrace/pipeline/page"
	"millrace/pipeline/parallel"
	"millrace/pipeline/store"
)

// keptBytes bounds the memory of pages that ChangedHashes keeps for the merge.
const keptBytes = 8 << 20

// keptPage names a page of a part.
type keptPage struct {
	part int
	name page.Name
}

// errMany is that more keys have changed than were asked for.
var errMany = errors.New("more keys have changed than were asked for")

// ChangedHashes returns the hashes of all keys that may have changed since an earlier revision,
// ascending, each once: those in pages that were written above covered, the offset up to which that
// revision covers a lane. Pages do not say which of their keys have changed: a run that was merged
// has them all. With all set, hashes is nil: more than limit may have changed, or nothing says
// which, as a part is in fields or covered does not know the lane. Some of the pages read are kept
// for the next merge of the window.
func (o *Opened) ChangedHashes(ctx context.Context, covered func(lane store.LaneID) (offset int64, ok bool), limit int,
) (hashes []uint64, all bool, err error) {
	if !o.ByHash() {
		return nil, true, nil
	}
	byLane := make([][]wantedPage, len(o.View.Lanes))
	for i := range o.parts {
		p := &o.parts[i]
		offset, ok := covered(o.View.Lanes[p.lane].ID)
		if !ok {
			return nil, true, nil
		}
		for _, name := range p.pages {
			if name.Offset > offset {
				byLane[p.lane] = append(byLane[p.lane], wantedPage{i, name})
			}
		}
	}
	c := changed{limit: limit, kept: make(map[keptPage]*page.Page)}
	err = parallel.Do(ctx, o.merger.cfg.ReadAhead, len(byLane), func(ctx context.Context, lane int) error {
		wanted := byLane[lane]
		if len(wanted) == 0 {
			return nil
		}
		return o.readWanted(ctx, lane, wanted, func(i int, p *page.Page) error { return c.add(wanted[i].part, p) })
	})
	o.kept = c.kept
	if errors.Is(err, errMany) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	if c.compact(); len(c.hashes) > limit {
		return nil, true, nil
	}
	return c.hashes, false, nil
}

// changed collects hashes of keys. It is safe for concurrent use.
type changed struct {
	limit int

	mu     sync.Mutex // guards all below
	hashes []uint64   // in any order, some more than once
	kept   map[keptPage]*page.Page
	bytes  int // of kept
}

// add adds the keys of a page. It fails with errMany when they are more than the limit.
func (c *changed) add(part int, p *page.Page) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := p.Bytes(); c.bytes+n <= keptBytes {
		c.kept[keptPage{part, p.Name}] = p
		c.bytes += n
	}
	for i := range p.Len() {
		c.hashes = append(c.hashes, p.Hash(i))
	}
	if len(c.hashes) <= 2*c.limit {
		return nil
	}
	if c.compact(); len(c.hashes) > c.limit {
		return errMany
	}
	return nil
}

func (c *changed) compact() {
	slices.Sort(c.hashes)
	c.hashes = slices.Compact(c.hashes)
}
