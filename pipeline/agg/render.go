package agg

import (
	"sync"

	"millrace/pipeline/spec"
)

// Renderer renders the published values of single entries. It is safe for concurrent use.
type Renderer struct {
	tables sync.Pool // of *Table with one row
}

// NewRenderer compiles the aggregates of a validated spec. Its errors wrap ErrLayout.
func NewRenderer(s *spec.Spec) (*Renderer, error) {
	layout, err := NewLayout(s)
	if err != nil {
		return nil, err
	}
	r := &Renderer{}
	r.tables.New = func() any { return layout.NewTable() }
	return r, nil
}

// Render returns the values of an entry as AppendValues does, and whether one overflowed. Errors wrap ErrEntryVersion or
// ErrEntryCorrupt.
func (r *Renderer) Render(entry []byte) (values []byte, overflow bool, err error) {
	t := r.tables.Get().(*Table)
	defer r.tables.Put(t)
	if err := t.LoadEntry(nil, entry); err != nil {
		return nil, false, err
	}
	return t.AppendValues(nil, 0), t.Overflow(0), nil
}
