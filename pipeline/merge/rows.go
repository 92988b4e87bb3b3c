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

// rowRenderer renders the rows of merged buckets. It is not safe for concurrent use.
type rowRenderer struct {
	spec   *spec.Spec
	states bool // rows carry their entries
	order  []placed
	key    []byte
	values []byte
	state  []byte
}

// placed is a row and the bucket of its key.
type placed struct {
	row    uint32
	bucket int
}

// render passes the table's rows to emit, sorted by bucket and key. A row is valid during the call.
func (w *rowRenderer) render(t *agg.Table, emit func(ledger.Content) error) error {
	w.order = w.order[:0]
	for row := range uint32(t.Len()) {
		w.order = append(w.order, placed{row, agg.Bucket(t.Hash(row), w.spec.Lane.Buckets)})
	}
	slices.SortFunc(w.order, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), bytes.Compare(t.Key(a.row), t.Key(b.row)))
	})
	for _, p := range w.order {
		row := p.row
		var err error
		if w.key, err = event.AppendKeyJSON(w.key[:0], w.spec, t.Key(row)); err != nil {
			return fmt.Errorf("key %x: %w", t.Key(row), err)
		}
		w.values = t.AppendValues(w.values[:0], row)
		if w.states {
			w.state = t.AppendMerged(w.state[:0], row)
		}
		if err := emit(ledger.Content{Key: w.key, Values: w.values, Overflow: t.Overflow(row), State: w.state}); err != nil {
			return err
		}
	}
	return nil
}
