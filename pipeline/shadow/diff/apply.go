package diff

import (
	"bytes"
	"fmt"
	"slices"

	"millrace/pipeline/ledger"
)

// Compare finds what differs between a published content and the one that was counted. Rows of the base are added first,
// then those of the new content, each key once; Rows then lists what differs. It holds the base, and what differs, in
// memory.
type Compare struct {
	base  map[string]ledger.Content
	rows  []Row
	whole bool
}

// NewCompare begins a comparison with nothing.
func NewCompare() *Compare { return &Compare{base: make(map[string]ledger.Content)} }

// NewWhole begins a comparison that lists the rows which do not differ, too.
func NewWhole() *Compare { return &Compare{base: make(map[string]ledger.Content), whole: true} }

// AddBase adds a published row; it is copied. Deleted rows hold nothing. Of two rows of a key the later one counts.
func (c *Compare) AddBase(row ledger.Content) {
	if row.Deleted {
		delete(c.base, string(row.Key))
		return
	}
	c.base[string(row.Key)] = ledger.Content{Values: bytes.Clone(row.Values), Overflow: row.Overflow}
}

// AddNew adds a row that was counted; it is copied as far as it is kept.
func (c *Compare) AddNew(row ledger.Content) {
	old, ok := c.base[string(row.Key)]
	delete(c.base, string(row.Key))
	same := ok && bytes.Equal(old.Values, row.Values) && old.Overflow == row.Overflow
	if same && !c.whole {
		return
	}
	r := Row{Key: bytes.Clone(row.Key), New: bytes.Clone(row.Values), NewOverflow: row.Overflow, State: bytes.Clone(row.State)}
	switch {
	case same:
		r.Old, r.OldOverflow = r.New, r.NewOverflow
	case ok:
		r.Old, r.OldOverflow = old.Values, old.Overflow
	}
	c.rows = append(c.rows, r)
}

// Rows returns what differs, by key. Nothing may be added afterwards.
func (c *Compare) Rows() []Row {
	for key, old := range c.base {
		c.rows = append(c.rows, Row{Key: []byte(key), Old: old.Values, OldOverflow: old.Overflow})
	}
	clear(c.base)
	slices.SortFunc(c.rows, func(a, b Row) int { return bytes.Compare(a.Key, b.Key) })
	return c.rows
}

// ErrBase means that a difference does not belong to the content that it is applied to.
var ErrBase = fmt.Errorf("%w: it was made of another content", ErrCorrupt)

// Applying makes the new content of a window of its base and the difference, in the order of keys. Both must come in that
// order. Keys that are gone come as deleted rows.
type Applying struct {
	rows []Row
	emit func(ledger.Content) error
	sum  ledger.Checksum
}

// NewApplying passes the rows of the new content to emit; a row is valid during the call.
func NewApplying(rows []Row, emit func(ledger.Content) error) *Applying {
	return &Applying{rows: rows, emit: emit}
}

// AddBase takes the next row of the base.
func (a *Applying) AddBase(row ledger.Content) error {
	if row.Deleted {
		return nil
	}
	for len(a.rows) > 0 {
		r := &a.rows[0]
		order := bytes.Compare(r.Key, row.Key)
		if order > 0 {
			break
		}
		isBase := r.Old != nil && bytes.Equal(r.Old, row.Values) && r.OldOverflow == row.Overflow
		if (order == 0) != (r.Old != nil) || order == 0 && !isBase {
			return fmt.Errorf("%w: key %s", ErrBase, r.Key)
		}
		if err := a.pass(r.Content()); err != nil {
			return err
		}
		if a.rows = a.rows[1:]; order == 0 {
			return nil
		}
	}
	return a.pass(row)
}

// End passes on what comes after the last row of the base, and holds the whole against the header.
func (a *Applying) End(h *Header) error {
	for i := range a.rows {
		r := &a.rows[i]
		if r.Old != nil {
			return fmt.Errorf("%w: key %s", ErrBase, r.Key)
		}
		if err := a.pass(r.Content()); err != nil {
			return err
		}
	}
	return a.check(h)
}

// EmitWhole passes the rows of whole pages to emit as the new content, and holds them against the header.
func EmitWhole(rows []Row, h *Header, emit func(ledger.Content) error) error {
	a := NewApplying(nil, emit)
	for i := range rows {
		if err := a.pass(rows[i].Content()); err != nil {
			return err
		}
	}
	return a.check(h)
}

// check holds what was passed on against the header.
func (a *Applying) check(h *Header) error {
	if keys, sum := a.sum.Rows(), a.sum.String(); keys != h.Row.Keys || sum != h.Row.Checksum {
		return fmt.Errorf("%w: %s has %d keys with checksum %s, the header says %d and %s",
			ErrBase, h.ID(), keys, sum, h.Row.Keys, h.Row.Checksum)
	}
	return nil
}

func (a *Applying) pass(row ledger.Content) error {
	a.sum.AddContent(row)
	return a.emit(row)
}
