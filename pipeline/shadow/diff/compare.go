package diff

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"millrace/pipeline/ledger"
)

// Compare finds what differs between a published content and the one that was counted. Rows of the base are added first,
// then those of the new content, each key once; Rows then lists what differs: values or, where both have one, the state. It
// holds the base, but for states, and what differs in memory.
type Compare struct {
	base  map[string]baseRow
	rows  []Row
	whole bool
}

// baseRow is a published row.
type baseRow struct {
	values   []byte
	overflow bool
	stateful bool
	state    uint64 // hash of it
}

// NewCompare begins a comparison with nothing.
func NewCompare() *Compare { return &Compare{base: make(map[string]baseRow)} }

// NewWhole begins a comparison that lists the rows which do not differ, too.
func NewWhole() *Compare { return &Compare{base: make(map[string]baseRow), whole: true} }

// AddBase adds a published row; it is copied. Deleted rows hold nothing. Of two rows of a key the later one counts.
func (c *Compare) AddBase(row ledger.Content) {
	if row.Deleted {
		delete(c.base, string(row.Key))
		return
	}
	c.base[string(row.Key)] = baseRow{bytes.Clone(row.Values), row.Overflow, len(row.State) > 0, xxhash.Sum64(row.State)}
}

// AddNew adds a row that was counted; it is copied as far as it is kept.
func (c *Compare) AddNew(row ledger.Content) {
	old, ok := c.base[string(row.Key)]
	delete(c.base, string(row.Key))
	same := ok && bytes.Equal(old.values, row.Values) && old.overflow == row.Overflow
	sameState := !old.stateful || len(row.State) == 0 || old.state == xxhash.Sum64(row.State)
	if same && sameState && !c.whole {
		return
	}
	r := Row{Key: bytes.Clone(row.Key), New: bytes.Clone(row.Values), NewOverflow: row.Overflow, State: bytes.Clone(row.State)}
	switch {
	case same:
		r.Old, r.OldOverflow = r.New, r.NewOverflow
	case ok:
		r.Old, r.OldOverflow = old.values, old.overflow
	}
	c.rows = append(c.rows, r)
}

// Rows returns what differs, by key. Nothing may be added afterwards.
func (c *Compare) Rows() []Row {
	for key, old := range c.base {
		c.rows = append(c.rows, Row{Key: []byte(key), Old: old.values, OldOverflow: old.overflow})
	}
	clear(c.base)
	slices.SortFunc(c.rows, func(a, b Row) int { return bytes.Compare(a.Key, b.Key) })
	return c.rows
}

// ErrBase means that a difference does not belong to the content that it is applied to.
var ErrBase = fmt.Errorf("%w: it was made of another content", ErrCorrupt)

// EmitWhole passes the rows of whole pages to emit as the new content, and holds them against the header.
func EmitWhole(rows []Row, h *Header, emit func(ledger.Content) error) error {
	var sum ledger.Checksum
	for i := range rows {
		row := rows[i].Content()
		sum.AddContent(row)
		if err := emit(row); err != nil {
			return err
		}
	}
	if sum.Rows() != h.Row.Keys || sum.String() != h.Row.Checksum {
		return fmt.Errorf("%w: %s has %d keys with checksum %s, the header says %d and %s",
			ErrBase, h.ID(), sum.Rows(), &sum, h.Row.Keys, h.Row.Checksum)
	}
	return nil
}
