package merge

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"millrace/pipeline/spec"
	"millrace/pipeline/survey"
)

// leastOverlap is how many windows of a family have to share a slice for merged slices to be kept.
// With fewer, merging them once more costs what reading the lanes again would.
const leastOverlap = 8

// paneOf is the length in ms of the panes of a family of windows, 0 when its windows overlap too
// little for merged slices to be worth keeping. All windows of the family begin and end with a pane.
func paneOf(w *spec.Window) int64 {
	size, slide := w.Size.Millis(), cmp.Or(w.Slide, w.Size).Millis()
	if size < leastOverlap*slide {
		return 0
	}
	for slide != 0 {
		size, slide = slide, size%slide
	}
	return size
}

// digest says what a node is merged from: which lanes, in whose hands and of which past, and of each
// slice generation how many events they have folded and which pages they hold.
type digest [sha256.Size]byte

// tree is the binary tree over the panes of a window. A node of level j is of 2^j panes, the first
// of which has a number that 2^j divides, whichever window the tree is of: windows that overlap have
// most of their nodes in common, and a window of n panes is made of at most 2 log2(n) of them. The
// leaves are panes. It is the aggregation tree of Tangwongsan, Hirzel, Schneider and Wu, "General
// Incremental Sliding-Window Aggregation", VLDB 2015, for aggregates that have no inverse, but that
// its nodes are found by what they were made of.
type tree struct {
	first, panes int64        // number of the first pane, and how many there are
	levels       [][]treeNode // that lie inside the window
	starts       []int64      // by level, the number of the first node
}

// treeNode is a node as the window's lanes have it, whether it is in the cache or not.
type treeNode struct {
	digest   digest
	from, to int    // its parts
	instead  digest // of a left half: the whole, which later windows use in its place, if it lies inside
}

func (n *treeNode) isEmpty() bool { return n.from == n.to }

// newTree returns the tree of a window whose parts are all in pages.
func (o *Opened) newTree(pane int64) *tree {
	size := o.merger.spec.Windows[o.ref.Window].Size.Millis()
	t := &tree{first: o.ref.Start / pane, panes: size / pane}
	if o.ref.Start%pane < 0 {
		t.first-- // before 1970
	}
	t.starts, t.levels = []int64{t.first}, [][]treeNode{o.leaves(pane, t.panes)}
	for level := 1; ; level++ {
		start := (t.first + 1<<level - 1) >> level
		n := (t.first+t.panes)>>level - start
		if n <= 0 {
			return t
		}
		nodes := make([]treeNode, n)
		t.starts, t.levels = append(t.starts, start), append(t.levels, nodes)
		for i := range nodes {
			left, right := t.at(level-1, 2*(start+int64(i))), t.at(level-1, 2*(start+int64(i))+1)
			nodes[i] = join(left, right)
		}
	}
}

// at returns a node by its number, of those that lie inside the window.
func (t *tree) at(level int, number int64) *treeNode {
	return &t.levels[level][number-t.starts[level]]
}

// join makes a node of its halves. A half without events is nothing: the node is the other half.
func join(left, right *treeNode) treeNode {
	n := treeNode{from: left.from, to: right.to}
	switch {
	case left.isEmpty():
		n.digest = right.digest
	case right.isEmpty():
		n.digest = left.digest
	default:
		n.digest = sha256.Sum256(append(append([]byte{digestOfHalves}, left.digest[:]...), right.digest[:]...))
		left.instead = n.digest
	}
	return n
}

// What a digest is of.
const (
	digestOfLane byte = iota
	digestOfParts
	digestOfHalves
)

// leaves returns the nodes of single panes.
func (o *Opened) leaves(pane, n int64) []treeNode {
	leaves := make([]treeNode, n)
	lanes := make(map[int]digest)
	var text []byte
	at := 0
	for i := range leaves {
		l := &leaves[i]
		l.from = at
		text = append(text[:0], digestOfParts)
		end := o.ref.Start + (int64(i)+1)*pane
		for ; at < len(o.parts) && o.parts[at].slice.Start < end; at++ {
			p := &o.parts[at]
			lane, ok := lanes[p.lane]
			if !ok {
				lane = digestLane(&o.View.Lanes[p.lane], o.merger.stateID)
				lanes[p.lane] = lane
			}
			text = p.appendIdentity(append(text, lane[:]...))
		}
		if l.to = at; !l.isEmpty() {
			l.digest = sha256.Sum256(text)
		}
	}
	return leaves
}

// digestLane says whose a lane's pages are: pages of one name are the same as long as the owner is.
func digestLane(l *survey.Lane, stateID string) digest {
	text := []byte{digestOfLane}
	for _, s := range []string{stateID, l.ID.Pipeline, l.ID.Topic, string(l.Meta.Owner), l.Meta.TopicID} {
		text = append(binary.AppendUvarint(text, uint64(len(s))), s...)
	}
	text = binary.AppendVarint(text, int64(l.ID.Partition))
	text = binary.AppendVarint(text, l.Meta.Era)
	return sha256.Sum256(text)
}

// appendIdentity appends what tells a part from any other of its lane.
func (p *part) appendIdentity(dst []byte) []byte {
	for _, n := range [...]int64{p.slice.Width, p.slice.Start, int64(p.slice.Gen), p.folded, int64(len(p.pages))} {
		dst = binary.AppendVarint(dst, n)
	}
	for i := range p.pages {
		name := &p.pages[i].Name
		dst = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, name.First), name.Last)
		for _, n := range [...]int64{name.Seq, name.Chunk, name.Offset, int64(name.Bytes), int64(p.pages[i].Hash)} {
			dst = binary.AppendVarint(dst, n)
		}
	}
	return dst
}

// inside lists all nodes, smaller ones first.
func (t *tree) inside() (all []treeNode) {
	for _, nodes := range t.levels {
		all = append(all, nodes...)
	}
	return all
}

// cover passes the fewest nodes that together are the window to fn, in their order.
func (t *tree) cover(fn func(level int, number int64) error) error {
	for at, end := t.first, t.first+t.panes; at < end; {
		level := min(bits.TrailingZeros64(uint64(at)), bits.Len64(uint64(end-at))-1)
		if err := fn(level, at>>level); err != nil {
			return err
		}
		at += 1 << level
	}
	return nil
}
