package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
)

// InOrder is a content that nothing is compared with: all of it is published. It mends what was found wrong.
type InOrder struct {
	// Rows passes all rows to emit, in the order of their keys, and as deleted rows the keys that somebody may know although
	// the window does not have them. It returns how many events the rows hold.
	Rows func(ctx context.Context, emit func(ledger.Content) error) (events int64, err error)
}

// ByHash implements Content.
func (InOrder) ByHash() bool { return false }

// Bytes implements Content.
func (InOrder) Bytes() int64 { return 0 }

// Events implements Content.
func (InOrder) Events() (n int64, counted bool) { return 0, false }

// Changed implements Content.
func (InOrder) Changed(context.Context, int) (hashes []uint64, all bool, err error) {
	return nil, true, nil
}

// Ranges implements Content: a content in the order of its keys has no ranges of the hash.
func (InOrder) Ranges(context.Context, []page.HashRange, []BasePage, func(*ledger.Rows) error) error {
	return errors.ErrUnsupported
}

// Whole implements Content. It checks that the rows are sorted, without a key twice.
func (x InOrder) Whole(ctx context.Context, emit func(*ledger.Rows) error) (events int64, exact bool, err error) {
	one := newOneRow(emit)
	var before []byte
	first := true
	events, err = x.Rows(ctx, func(row ledger.Content) error {
		if !first && slices.Compare(before, row.Key) >= 0 {
			return fmt.Errorf("key %s follows %s", row.Key, before)
		}
		first, before = false, append(before[:0], row.Key...)
		return one.pass(row, 0, 0)
	})
	return events, true, err
}

// oneRow passes rows on one by one.
type oneRow struct {
	rows   ledger.Rows
	hasher ledger.Hasher
	emit   func(*ledger.Rows) error
}

func newOneRow(emit func(*ledger.Rows) error) *oneRow {
	return &oneRow{emit: emit, rows: ledger.Rows{
		Content: make([]ledger.Content, 1), Hashes: make([]uint64, 1), Digests: make([]ledger.Digest, 1), Events: make([]int64, 1),
	}}
}

func (o *oneRow) pass(c ledger.Content, hash uint64, events int64) error {
	o.rows.Content[0], o.rows.Hashes[0], o.rows.Events[0] = c, hash, events
	if !c.Deleted {
		o.rows.Digests[0] = o.hasher.Digest(c)
	}
	return o.emit(&o.rows)
}
