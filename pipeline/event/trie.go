package event

import "strings"

// node is a place in the document that is wanted or has wanted places inside. The tokens of a node and of everything
// below it are neighbours: from leaf up to high.
type node struct {
	name     string
	leaf     int // index of its token
	high     int
	children []*node
	learned  []guess
	lessons  int
}

// guess is how field number i of an object was written last: its name in quotes, the colon and the space around it.
// Producers write their fields in one order, so comparing bytes saves scanning and looking up the name.
type guess struct {
	written string
	child   *node
}

// Bounds on what a node learns: no event may make it grow or allocate for ever.
const (
	maxLearned = 64  // fields of one object
	maxWritten = 64  // bytes of one name
	maxLessons = 512 // in all, for objects whose fields keep changing places
)

// guess returns the child named at i when the field is written as it was the last time, and the place of its value.
// When it is not, the place is returned as -i-1.
func (n *node) guess(data []byte, i, at int) (*node, int) {
	if at < len(n.learned) {
		g := &n.learned[at]
		if end := i + len(g.written); end <= len(data) && string(data[i:end]) == g.written {
			if end < len(data) && data[end] <= ' ' {
				end = space(data, end)
			}
			return g.child, end
		}
	}
	return nil, -i - 1
}

// learn remembers how field number at is written. The bytes were scanned and are a valid name, colon and white space.
func (n *node) learn(at int, written []byte, child *node) {
	if at > len(n.learned) || at >= maxLearned || len(written) > maxWritten || n.lessons >= maxLessons {
		return
	}
	n.lessons++
	if at == len(n.learned) {
		n.learned = append(n.learned, guess{})
	}
	n.learned[at] = guess{string(written), child}
}

// child finds the wanted field of that name.
func (n *node) child(name []byte) *node {
	for _, c := range n.children {
		if string(name) == c.name {
			return c
		}
	}
	return nil
}

// trie collects wanted paths and numbers their tokens.
type trie struct {
	root   *node
	leaves int
}

func newTrie() *trie { return &trie{root: &node{}} }

// add makes the value at the path wanted.
func (t *trie) add(path ...string) *node {
	at := t.root
	for _, name := range path {
		next := at.child([]byte(name))
		if next == nil {
			next = &node{name: name}
			at.children = append(at.children, next)
		}
		at = next
	}
	return at
}

// number gives every node its token, so that a node and all below it have neighbouring ones.
func (t *trie) number() {
	var walk func(n *node)
	walk = func(n *node) {
		n.leaf = t.leaves
		t.leaves++
		for _, c := range n.children {
			walk(c)
		}
		n.high = t.leaves
	}
	walk(t.root)
}

func split(path string) []string { return strings.Split(path, ".") }
