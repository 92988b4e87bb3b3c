package diff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"millrace/pipeline/ledger"
)

// ErrCorrupt means that a page or a header cannot be read.
var ErrCorrupt = errors.New("corrupt difference")

// Kinds of rows.
const (
	Added     = "added"
	Changed   = "changed"
	Removed   = "removed"
	Unchanged = "unchanged" // only the state differs, or the pages hold a whole content
)

// Row is a key whose values or state differ, or any key where the pages hold a whole content. Old is nil for a key that is new, New for
// one that is gone.
type Row struct {
	Key                      []byte // JSON object of the key's fields
	Old, New                 []byte // JSON objects of the values
	OldOverflow, NewOverflow bool
	State                    []byte // mergeable entry of New; empty when the pipeline has no roll-ups
}

// Kind is Added, Changed, Removed or Unchanged.
func (r *Row) Kind() string {
	switch {
	case r.Old == nil:
		return Added
	case r.New == nil:
		return Removed
	case bytes.Equal(r.Old, r.New) && r.OldOverflow == r.NewOverflow:
		return Unchanged
	}
	return Changed
}

// Content is what the new revision says about the key.
func (r *Row) Content() ledger.Content {
	if r.New == nil {
		return ledger.Content{Key: r.Key, Values: r.Old, Overflow: r.OldOverflow, Deleted: true}
	}
	return ledger.Content{Key: r.Key, Values: r.New, Overflow: r.NewOverflow, State: r.State}
}

// Flags of a row in a page.
const (
	hasOld = 1 << iota
	hasNew
	oldOverflow
	newOverflow
	hasState
	isUnchanged // the old values are the new ones, and are not written
)

// pageVersion begins every page.
const pageVersion = 1

// PageBytes is how long a page is at the most, unless a single row is longer.
const PageBytes = 32 << 10

// Pages collects rows into pages.
type Pages struct {
	emit func(page []byte) error
	buf  []byte
	row  []byte
	n    int
}

// NewPages passes every full page to emit, which must not keep it.
func NewPages(emit func(page []byte) error) *Pages { return &Pages{emit: emit} }

// Add adds a row, in the order of keys.
func (p *Pages) Add(r *Row) error {
	p.row = appendRow(p.row[:0], r)
	if len(p.buf) > 0 && len(p.buf)+len(p.row) > PageBytes {
		if err := p.Flush(); err != nil {
			return err
		}
	}
	if len(p.buf) == 0 {
		p.buf = append(p.buf, pageVersion)
	}
	p.buf = append(p.buf, p.row...)
	return nil
}

// Flush passes on what is left. It is the end of the rows.
func (p *Pages) Flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	err := p.emit(p.buf)
	p.buf = p.buf[:0]
	p.n++
	return err
}

// Count is how many pages were passed on.
func (p *Pages) Count() int { return p.n }

func appendRow(b []byte, r *Row) []byte {
	flags, unchanged := byte(0), r.Kind() == Unchanged
	for flag, set := range map[byte]bool{
		hasOld: r.Old != nil && !unchanged, hasNew: r.New != nil, oldOverflow: r.OldOverflow, newOverflow: r.NewOverflow,
		hasState: len(r.State) > 0, isUnchanged: unchanged,
	} {
		if set {
			flags |= flag
		}
	}
	b = append(b, flags)
	b = appendField(b, r.Key)
	if flags&hasOld != 0 {
		b = appendField(b, r.Old)
	}
	if r.New != nil {
		b = appendField(b, r.New)
	}
	if len(r.State) > 0 {
		b = appendField(b, r.State)
	}
	return b
}

func appendField(b, field []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

// ReadPage passes the rows of a page to fn. They alias the page.
func ReadPage(page []byte, fn func(Row) error) error {
	if len(page) == 0 || page[0] != pageVersion {
		return fmt.Errorf("%w: a page of %d bytes does not begin with version %d", ErrCorrupt, len(page), pageVersion)
	}
	for rest := page[1:]; len(rest) > 0; {
		flags := rest[0]
		rest = rest[1:]
		var r Row
		for _, f := range []struct {
			flag byte
			to   *[]byte
		}{{0, &r.Key}, {hasOld, &r.Old}, {hasNew, &r.New}, {hasState, &r.State}} {
			if f.flag != 0 && flags&f.flag == 0 {
				continue
			}
			var ok bool
			if *f.to, rest, ok = cutField(rest); !ok {
				return fmt.Errorf("%w: a page of %d bytes ends within a row", ErrCorrupt, len(page))
			}
		}
		if r.OldOverflow, r.NewOverflow = flags&oldOverflow != 0, flags&newOverflow != 0; flags&isUnchanged != 0 {
			r.Old = r.New
		}
		if r.Old == nil && r.New == nil {
			return fmt.Errorf("%w: a row without values, key %s", ErrCorrupt, r.Key)
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// cutField takes a field off the front. A field that is there is never nil.
func cutField(b []byte) (field, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n) : w+int(n)], b[w+int(n):], true
}
