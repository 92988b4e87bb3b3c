package merge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
)

const (
	// nodePage is from how many bytes on a page of a node ends: most take no more than 64 KiB.
	nodePage = 64<<10 - 512

	// entryIndex is what an entry takes in memory beside its bytes in a page.
	entryIndex = 12
)

// piece is a part of a window's content: a node, or parts as the lanes have them.
type piece struct {
	node     *node // nil: the parts themselves
	from, to int   // parts
	read     int   // how many of them are read from lanes
}

// assembly finds what a window is merged from, and merges the nodes that it lacks.
type assembly struct {
	*Opened
	cache  *Cache
	tree   *tree
	pieces []piece // of the window
}

// viaCache returns the window with nodes of the cache in the place of parts, after merging the nodes
// that were missing; without a cache, or when the window is not for it, that is the window itself.
// done ends the use of the nodes. Errors are those of a merge.
func (o *Opened) viaCache(ctx context.Context) (content *Opened, done func(), err error) {
	cache, pane := o.merger.cfg.Cache, o.merger.panes[o.ref.Window]
	if cache == nil || pane == 0 || o.Bytes() > cache.limit || !o.ByHash() {
		return o, func() {}, nil
	}
	a := &assembly{Opened: o, cache: cache, tree: o.newTree(pane)}
	cache.beginWindow(a.tree.inside())
	release := func() { a.release(a.pieces) }
	defer func() {
		if content == nil { // also when the merge panics
			release()
		}
	}()
	err = a.tree.cover(func(level int, number int64) error { return a.add(ctx, level, number) })
	if err != nil {
		return nil, nil, err
	}
	cache.count(len(o.parts), partsRead(a.pieces))
	content = o.assembled(a.pieces)
	o.kept = nil
	return content, release, nil
}

// add adds a node to the window. What has no room in the cache is added as its halves, and in the
// end as the lanes have it.
func (a *assembly) add(ctx context.Context, level int, number int64) error {
	at := a.tree.at(level, number)
	if at.isEmpty() {
		return nil
	}
	p, err := a.node(ctx, level, number)
	switch {
	case err != nil:
		return err
	case p.node != nil || level == 0:
		a.pieces = append(a.pieces, p)
		return nil
	}
	if err := a.add(ctx, level-1, 2*number); err != nil {
		return err
	}
	return a.add(ctx, level-1, 2*number+1)
}

// node returns a node that is whole, merging it if need be. Without room for it, the piece is its
// parts.
func (a *assembly) node(ctx context.Context, level int, number int64) (piece, error) {
	at := a.tree.at(level, number)
	if n := a.cache.find(at.digest); n != nil {
		return piece{node: n, from: at.from, to: at.to}, nil
	}
	var pieces []piece
	defer func() { a.release(pieces) }()
	if err := a.piecesOf(ctx, &pieces, level, number); err != nil {
		return piece{}, err
	}
	n, isNew, err := a.cache.reserve(ctx, at.digest, a.mostBytes(pieces))
	switch {
	case err != nil:
		return piece{}, err
	case n == nil:
		return asRead(at), nil
	case !isNew:
		return piece{node: n, from: at.from, to: at.to}, nil
	}
	if err := a.merge(ctx, n, pieces); err != nil {
		return piece{}, err
	}
	return piece{node: n, from: at.from, to: at.to, read: partsRead(pieces)}, nil
}

// merge makes a new node whole. When it fails or panics, the node is given up and released: others
// may be waiting for it.
func (a *assembly) merge(ctx context.Context, n *node, pieces []piece) error {
	isWhole := false
	defer func() {
		if !isWhole {
			a.cache.abandon(n)
			a.cache.release(n)
		}
	}()
	pages, events, err := a.assembled(pieces).mergeNode(ctx)
	if err != nil {
		return err
	}
	a.cache.complete(n, pages, events)
	isWhole = true
	return nil
}

// asRead is the parts of a node, to be read from lanes.
func asRead(at *treeNode) piece { return piece{from: at.from, to: at.to, read: at.to - at.from} }

// partsRead is how many parts of pieces are read from lanes.
func partsRead(pieces []piece) (n int) {
	for i := range pieces {
		n += pieces[i].read
	}
	return n
}

// piecesOf appends what a missing node is merged from: the largest nodes below it that the cache
// has, and parts. When windows follow each other, the left half is there: then the right one is made
// a node too, which is what will be left of the node when windows begin behind the left one. Where
// there is nothing, all is read at once.
func (a *assembly) piecesOf(ctx context.Context, pieces *[]piece, level int, number int64) error {
	if level == 0 {
		*pieces = append(*pieces, asRead(a.tree.at(level, number)))
		return nil
	}
	hasLeft := false
	for half := range int64(2) {
		number := 2*number + half
		at := a.tree.at(level-1, number)
		if at.isEmpty() {
			continue
		}
		p := piece{from: at.from, to: at.to}
		var err error
		if hasLeft {
			p, err = a.node(ctx, level-1, number)
		} else {
			p.node = a.cache.find(at.digest)
		}
		if p.node != nil {
			hasLeft = true
			*pieces = append(*pieces, p)
			continue
		}
		if err == nil {
			err = a.piecesOf(ctx, pieces, level-1, number)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *assembly) release(pieces []piece) {
	for _, p := range pieces {
		if p.node != nil {
			a.cache.release(p.node)
		}
	}
}

// mostBytes is about the most memory that pieces take once they are merged.
func (a *assembly) mostBytes(pieces []piece) (bytes int64) {
	for _, p := range pieces {
		if p.node != nil {
			bytes += p.node.size()
			continue
		}
		for i := p.from; i < p.to; i++ {
			for k := range a.parts[i].pages {
				n := int64(a.parts[i].pages[k].Bytes)
				bytes += n + n/leastEntry*entryIndex
			}
		}
	}
	return bytes
}

// assembled is the content of pieces, as a window.
func (o *Opened) assembled(pieces []piece) *Opened {
	whole := &Opened{View: o.View, merger: o.merger, ref: o.ref, kept: make(map[keptPage]*page.Page)}
	for _, p := range pieces {
		if p.node == nil {
			for i := p.from; i < p.to; i++ {
				for _, stored := range o.parts[i].pages {
					if kept := o.kept[keptPage{i, stored.Name}]; kept != nil {
						whole.kept[keptPage{len(whole.parts), stored.Name}] = kept
					}
				}
				whole.parts = append(whole.parts, o.parts[i])
			}
			continue
		}
		for _, held := range p.node.pages {
			whole.kept[keptPage{len(whole.parts), held.Name}] = held
		}
		first := &o.parts[p.from] // its lane says nothing: events of one time are all in the node
		whole.parts = append(whole.parts, part{
			lane: first.lane, slice: first.slice, folded: p.node.events, paged: true, pages: p.node.names, node: p.node,
		})
	}
	return whole
}

// mergeNode merges the whole content into pages of a node, and proves that it is what the lanes have
// folded.
func (o *Opened) mergeNode(ctx context.Context) (pages []*page.Page, events int64, err error) {
	o.asNode = true
	w := nodeWriter{stateID: o.merger.stateID}
	counted, _, err := o.mergePages(ctx, []page.HashRange{{Last: math.MaxUint64}}, true, w.add)
	if err == nil {
		err = w.end()
	}
	if err == nil {
		events, err = o.countEvents(ctx, counted, false)
	}
	return w.pages, events, err
}

// nodeWriter writes the pages of a node.
type nodeWriter struct {
	stateID string
	page.Writer
	buf   []byte // the page being written, empty before its first entry
	name  page.Name
	pages []*page.Page
}

// add appends rows that are entries.
func (w *nodeWriter) add(rows *ledger.Rows) error {
	for i := range rows.Content {
		if len(w.buf) >= nodePage {
			if err := w.end(); err != nil {
				return err
			}
		}
		if len(w.buf) == 0 {
			w.buf = w.Begin(w.buf, w.stateID, 0)
			w.name.First = rows.Hashes[i]
		}
		c := &rows.Content[i]
		w.buf = w.Add(w.buf, c.Key, func(dst []byte) []byte { return append(dst, c.State...) })
		w.name.Last = rows.Hashes[i]
	}
	return nil
}

// end completes the page that is being written.
func (w *nodeWriter) end() error {
	if len(w.buf) == 0 {
		return nil
	}
	w.End(w.buf)
	w.name.Bytes = len(w.buf)
	p, err := page.Parse(w.name, w.stateID, bytes.Clone(w.buf))
	if err != nil {
		return fmt.Errorf("page of merged slices: %w", err)
	}
	w.pages = append(w.pages, p)
	w.buf = w.buf[:0]
	w.name.Chunk++
	return nil
}

// errNode is that a node of the cache is not what was merged.
var errNode = errors.New("merged slices in memory are not what they were")

// nodeError says what an error means that the pages of a node were merged with.
func (o *Opened) nodeError(n *node, err error) error {
	if errors.Is(err, agg.ErrEntryCorrupt) {
		return o.dropNode(n, err)
	}
	return err
}

// dropNode gives up a node that is not what it should be. The error is an ErrMoved: with the next
// look the lanes are read.
func (o *Opened) dropNode(n *node, why error) error {
	o.merger.cfg.Cache.drop(n)
	return fmt.Errorf("%w: %w: %w", ErrMoved, errNode, why)
}
