package merge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"millrace/pipeline/page"
	"millrace/pipeline/parallel"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// blockBytes is from how many bytes of pages on a block ends.
const blockBytes = 1 << 20

// wantedPage is a page of a part.
type wantedPage struct {
	part int
	store.StoredPage
}

// readPages reads pages of a lane, and passes them to fn in their order. Its errors are those of a
// merge.
func (m *Merger) readPages(ctx context.Context, l *survey.Lane, pages []store.SlicePage,
	fn func(i int, p *page.Page) error) error {
	next := 0 // the page that an error is about: those before it were passed on
	guard, err := m.cfg.Reader.ReadPages(ctx, l.ID, m.stateID, pages, func(i int, p *page.Page) error {
		next = min(i+1, len(pages)-1)
		return fn(i, p)
	})
	if err != nil {
		return readError(l, pages[next].Slice, err)
	}
	if !guard.Follows(l.Meta.Guard()) {
		return fmt.Errorf("lane %s: %w", l.ID, ErrMoved)
	}
	return nil
}

// readWanted is readPages for pages of parts of one lane.
func (o *Opened) readWanted(ctx context.Context, lane int, wanted []wantedPage, fn func(i int, p *page.Page) error) error {
	pages := make([]store.SlicePage, len(wanted))
	for i := range wanted {
		pages[i] = store.SlicePage{Slice: o.parts[wanted[i].part].slice, StoredPage: wanted[i].StoredPage}
	}
	return o.merger.readPages(ctx, &o.View.Lanes[lane], pages, fn)
}

// pageUse is a page and the units that need it.
type pageUse struct {
	wantedPage
	first, last int        // units
	page        *page.Page // nil before it was read, and after the last of these units
}

// block is what is read at a time: the pages that some successive units need and earlier ones do
// not.
type block struct {
	begun atomic.Bool // being read ahead
	once  sync.Once
	err   error
	lanes [][]*pageUse // without empty ones
}

// pageReader reads the pages that units need, each once, a block at a time and with one call for
// each lane, and holds them until the last unit that needs them is done. It is safe for concurrent
// use; units are begun in their order.
type pageReader struct {
	*Opened
	parts   [][]pageUse // by part
	blocks  []block
	blockOf []int          // by unit: the last block that it needs
	reading sync.WaitGroup // of blocks that are read ahead

	mu   sync.Mutex // guards pages of uses, and what follows
	done []bool     // by unit
	low  int        // the first unit that is not done
}

// newPageReader plans the reading of a window.
func (o *Opened) newPageReader(units []unit) *pageReader {
	r := &pageReader{
		Opened: o, parts: make([][]pageUse, len(o.parts)),
		blockOf: make([]int, len(units)), done: make([]bool, len(units)),
	}
	var ranges []page.HashRange
	var unitOf []int // by range
	for u := range units {
		for _, x := range units[u] {
			ranges, unitOf = append(ranges, x), append(unitOf, u)
		}
	}
	var wanted []*pageUse
	for i := range o.parts {
		r.parts[i] = make([]pageUse, 0, len(o.parts[i].pages))
		for _, name := range o.parts[i].pages {
			from := sort.Search(len(ranges), func(k int) bool { return ranges[k].Last >= name.First })
			to := sort.Search(len(ranges), func(k int) bool { return ranges[k].First > name.Last })
			if from >= to {
				continue
			}
			use := pageUse{wantedPage: wantedPage{i, name}, first: unitOf[from], last: unitOf[to-1]}
			use.page = o.kept[keptPage{i, name.Name}]
			r.parts[i] = append(r.parts[i], use)
			if use.page == nil {
				wanted = append(wanted, &r.parts[i][len(r.parts[i])-1])
			}
		}
	}
	o.kept = nil // what this merge does not need is not worth keeping
	slices.SortStableFunc(wanted, func(a, b *pageUse) int { return cmp.Compare(a.first, b.first) })
	r.planBlocks(wanted)
	return r
}

// planBlocks cuts pages, sorted by the first unit that needs them, into blocks.
func (r *pageReader) planBlocks(wanted []*pageUse) {
	for u := 0; u < len(r.blockOf); {
		var pages []*pageUse
		from, size := u, 0
		for u < len(r.blockOf) && size < blockBytes {
			for ; len(wanted) > 0 && wanted[0].first == u; wanted = wanted[1:] {
				pages = append(pages, wanted[0])
				size += wanted[0].Bytes
			}
			u++
		}
		for k := from; k < u; k++ {
			r.blockOf[k] = len(r.blocks)
		}
		r.blocks = append(r.blocks, block{lanes: r.byLane(pages)})
	}
}

// byLane sorts pages by lane, and those of a lane as they stand in Redis.
func (r *pageReader) byLane(pages []*pageUse) (lanes [][]*pageUse) {
	laneOf := func(p *pageUse) int { return r.Opened.parts[p.part].lane }
	slices.SortStableFunc(pages, func(a, b *pageUse) int {
		return cmp.Or(cmp.Compare(laneOf(a), laneOf(b)), cmp.Compare(a.part, b.part), cmp.Compare(a.Hash, b.Hash))
	})
	for len(pages) > 0 {
		n := 1
		for n < len(pages) && laneOf(pages[n]) == laneOf(pages[0]) {
			n++
		}
		lanes, pages = append(lanes, pages[:n]), pages[n:]
	}
	return lanes
}

// load waits until the pages that a unit needs were read, and has those of the next block read
// meanwhile.
func (r *pageReader) load(ctx context.Context, u int) error {
	b := r.blockOf[u]
	next := b + 1
	if r.merger.cfg.ReadAhead > 1 && next < len(r.blocks) && r.blocks[next].begun.CompareAndSwap(false, true) {
		r.reading.Go(func() { _ = r.loadBlock(ctx, next) }) // whoever needs the block finds the error in it
	}
	return r.loadBlock(ctx, b)
}

// loadBlock reads a block, once, and those before it.
func (r *pageReader) loadBlock(ctx context.Context, n int) error {
	b := &r.blocks[n]
	b.once.Do(func() {
		if n > 0 {
			if b.err = r.loadBlock(ctx, n-1); b.err != nil {
				return
			}
		}
		b.err = parallel.Do(ctx, r.merger.cfg.ReadAhead, len(b.lanes), func(ctx context.Context, i int) error {
			return r.readUses(ctx, b.lanes[i])
		})
		b.lanes = nil
	})
	return b.err
}

func (r *pageReader) readUses(ctx context.Context, uses []*pageUse) error {
	wanted := make([]wantedPage, len(uses))
	for i, use := range uses {
		wanted[i] = use.wantedPage
	}
	return r.readWanted(ctx, r.Opened.parts[wanted[0].part].lane, wanted, func(i int, p *page.Page) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		uses[i].page = p
		return nil
	})
}

// pagesOf appends the pages of a part that a unit needs, which are loaded, to pages. Those that no
// unit needs any more are let go.
func (r *pageReader) pagesOf(pages []*page.Page, part, u int) []*page.Page {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.parts[part] {
		switch use := &r.parts[part][i]; {
		case use.first <= u && u <= use.last:
			pages = append(pages, use.page)
		case use.last < r.low:
			use.page = nil
		}
	}
	return pages
}

// release lets the pages of a unit go, as far as no other unit needs them.
func (r *pageReader) release(u int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[u] = true
	for r.low < len(r.done) && r.done[r.low] {
		r.low++
	}
}
