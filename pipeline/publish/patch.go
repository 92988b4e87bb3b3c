package publish

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
)

// Change is what a replay says of one key: the row that it has found in its base, and the one that is to replace it.
type Change struct {
	Old         []byte // values; nil when the base does not have the key
	OldOverflow bool
	New         ledger.Content // with the key; deleted when the window does not have it any more
}

// Patch is a content that differs from the latest revision in some keys. Its rows do not say how many events each holds.
type Patch struct {
	events  int64
	changes []hashedRow // as they stand in pages
	old     map[string]Change
	base    *Base
}

// hashedRow is a row with the hash of its key.
type hashedRow struct {
	ledger.Content
	hash uint64
}

func (r hashedRow) compare(other hashedRow) int {
	return cmp.Or(cmp.Compare(r.hash, other.hash), bytes.Compare(r.Key, other.Key))
}

// NewPatch returns the content that changes make of the latest revision. It has the given number of events.
func NewPatch(events int64, changes []Change) *Patch {
	p := &Patch{events: events, changes: make([]hashedRow, len(changes)), old: make(map[string]Change, len(changes))}
	for i, c := range changes {
		p.changes[i], p.old[string(c.New.Key)] = hashedRow{c.New, agg.HashOfJSON(c.New.Key)}, c
	}
	slices.SortFunc(p.changes, hashedRow.compare)
	return p
}

// On returns the patch on a base that was read; nil when it was not.
func (p *Patch) On(base *Base) *Patch {
	patch := *p
	patch.base = base
	return &patch
}

// ByHash implements Content.
func (p *Patch) ByHash() bool { return true }

// Bytes implements Content.
func (p *Patch) Bytes() (n int64) {
	for i := range p.changes {
		n += contentBytes(&p.changes[i].Content)
	}
	if p.base == nil {
		return n
	}
	for i := range p.base.Rows {
		n += contentBytes(&p.base.Rows[i])
	}
	return n
}

// Events implements Content.
func (p *Patch) Events() (n int64, counted bool) { return p.events, false }

// Changed implements Content.
func (p *Patch) Changed(_ context.Context, limit int) (hashes []uint64, all bool, err error) {
	for i := range p.changes {
		hashes = append(hashes, p.changes[i].hash)
	}
	return hashes, len(hashes) > limit, nil
}

// Ranges implements Content.
func (p *Patch) Ranges(_ context.Context, ranges []page.HashRange, base []BasePage, emit func(*ledger.Rows) error) error {
	var rows []hashedRow
	for _, of := range base {
		for key := range of {
			row := of.content(key)
			rows = append(rows, hashedRow{row, agg.HashOfJSON(row.Key)})
		}
	}
	in := func(r hashedRow) bool {
		return slices.ContainsFunc(ranges, func(of page.HashRange) bool { return of.First <= r.hash && r.hash <= of.Last })
	}
	changes := slices.DeleteFunc(slices.Clone(p.changes), func(r hashedRow) bool { return !in(r) })
	return p.merge(rows, changes, func(r hashedRow, one *oneRow) error {
		if r.Deleted {
			return nil // whoever compares finds that it is gone
		}
		return one.pass(r.Content, r.hash, 0)
	}, emit)
}

// Whole implements Content. Keys that leave are passed as deleted rows.
func (p *Patch) Whole(_ context.Context, emit func(*ledger.Rows) error) (events int64, exact bool, err error) {
	var rows []hashedRow
	if p.base != nil {
		rows = make([]hashedRow, len(p.base.Rows))
		for i, row := range p.base.Rows {
			rows[i] = hashedRow{row, agg.HashOfJSON(row.Key)}
		}
	}
	err = p.merge(rows, p.changes, func(r hashedRow, one *oneRow) error { return one.pass(r.Content, r.hash, 0) }, emit)
	return p.events, true, err
}

// merge passes rows of the base on, in the order in which they stand in pages, with changes in their places. A base that is
// not the one that the replay has found is ErrWrongContent.
func (p *Patch) merge(rows, changes []hashedRow, pass func(hashedRow, *oneRow) error, emit func(*ledger.Rows) error) error {
	slices.SortFunc(rows, hashedRow.compare)
	one := newOneRow(emit)
	for len(rows) > 0 || len(changes) > 0 {
		var order int
		switch {
		case len(changes) == 0:
			order = -1
		case len(rows) == 0:
			order = 1
		default:
			order = rows[0].compare(changes[0])
		}
		if order < 0 {
			if err := pass(rows[0], one); err != nil {
				return err
			}
			rows = rows[1:]
			continue
		}
		next := changes[0]
		c := p.old[string(next.Key)]
		isBase := order == 0 && c.Old != nil && bytes.Equal(c.Old, rows[0].Values) && c.OldOverflow == rows[0].Overflow
		if !isBase && (order == 0 || c.Old != nil) {
			return fmt.Errorf("%w: key %s is not what the replay has compared with", ErrWrongContent, next.Key)
		}
		if err := pass(next, one); err != nil {
			return err
		}
		if changes = changes[1:]; order == 0 {
			rows = rows[1:]
		}
	}
	return nil
}
