package merge

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"millrace/pipeline/agg"
	"millrace/pipeline/event"
	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
)

// batchRows and batchBytes bound the rows of a batch and the text that they point into. A single
// row may have more text.
const (
	batchRows  = 1024
	batchBytes = 128 << 10
)

// batchesPerUnit is how many batches the rows of a unit usually make.
const batchesPerUnit = unitEntries / batchRows

// batch is rows together with the text that they point into.
type batch struct {
	ledger.Rows
	text []byte
}

func (b *batch) reset() {
	clear(b.Content) // or it would hold the text of a row that was larger than the batch
	b.Content, b.Hashes, b.Digests, b.Events, b.text = b.Content[:0], b.Hashes[:0], b.Digests[:0], b.Events[:0], b.text[:0]
}

// newBatch returns an empty batch.
func (m *Merger) newBatch() *batch { return m.batches.Get().(*batch) }

// freeBatch lets a batch be used again, unless a large row has made it large.
func (m *Merger) freeBatch(b *batch) {
	if cap(b.text) <= 4*batchBytes {
		b.reset()
		m.batches.Put(b)
	}
}

// renderer renders the rows of merged groups of keys. It is not safe for concurrent use.
type renderer struct {
	spec    *spec.Spec
	states  bool // rows carry their entries
	asNode  bool // rows are entries
	buckets int  // by which rows are ordered; 0: by their hash
	hasher  ledger.Hasher
	order   []placed
}

func (o *Opened) newRenderer(buckets int) renderer {
	s := o.merger.spec
	return renderer{
		spec: s, states: s.RolledUp(s.Windows[o.ref.Window].Name), asNode: o.asNode, buckets: buckets,
	}
}

// placed is a row and its place among the others: its bucket, or the hash of its key.
type placed struct {
	row   uint32
	place uint64
}

// render renders the rows of a group in their order. It hands each full batch over to pass, which
// returns an empty one, and returns the batch that it fills last.
func (r *renderer) render(g *group, b *batch, pass func(*batch) (*batch, error)) (*batch, error) {
	t := g.table
	r.order = r.order[:0]
	for row, hash := range g.hashes {
		place := hash
		if r.buckets > 0 {
			place = uint64(agg.Bucket(hash, r.buckets))
		}
		r.order = append(r.order, placed{uint32(row), place})
	}
	slices.SortFunc(r.order, func(a, b placed) int {
		if a.place != b.place {
			return cmp.Compare(a.place, b.place)
		}
		return bytes.Compare(t.Key(a.row), t.Key(b.row))
	})
	for _, p := range r.order {
		var err error
		if r.asNode {
			r.appendEntry(b, t, p.row, g.hashes[p.row])
		} else {
			err = r.append(b, t, p.row, g.hashes[p.row])
		}
		if err == nil && (len(b.Content) >= batchRows || len(b.text) >= batchBytes) {
			b, err = pass(b)
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// append adds one row to a batch. When the batch's text grows it moves, and rows before this one
// point to what it was.
func (r *renderer) append(b *batch, t *agg.Table, row uint32, hash uint64) (err error) {
	begin := len(b.text)
	if b.text, err = event.AppendKeyJSON(b.text, r.spec, t.Key(row)); err != nil {
		return fmt.Errorf("key %x: %w", t.Key(row), err)
	}
	key := len(b.text)
	b.text = t.AppendValues(b.text, row)
	values := len(b.text)
	if r.states {
		b.text = t.AppendMerged(b.text, row)
	}
	c := ledger.Content{Key: b.text[begin:key:key], Values: b.text[key:values:values], Overflow: t.Overflow(row)}
	if r.states {
		c.State = b.text[values:len(b.text):len(b.text)]
	}
	b.Content = append(b.Content, c)
	b.Hashes = append(b.Hashes, hash)
	b.Digests = append(b.Digests, r.hasher.Digest(c))
	b.Events = append(b.Events, t.Count(row))
	return nil
}

// appendEntry adds one entry to a batch: its key as lanes have it, and its state.
func (r *renderer) appendEntry(b *batch, t *agg.Table, row uint32, hash uint64) {
	begin := len(b.text)
	b.text = append(b.text, t.Key(row)...)
	key := len(b.text)
	b.text = t.AppendMerged(b.text, row)
	b.Content = append(b.Content, ledger.Content{
		Key: b.text[begin:key:key], State: b.text[key:len(b.text):len(b.text)],
	})
	b.Hashes = append(b.Hashes, hash)
}
