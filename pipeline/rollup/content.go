package rollup

import (
	"cmp"
	"context"
	"math"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/publish"
)

var _ publish.Content = (*merged)(nil)

// ByHash implements publish.Content.
func (m *merged) ByHash() bool { return true }

// sampled is how many rows are rendered to find out how much all of them take.
const sampled = 256

// Bytes implements publish.Content.
func (m *merged) Bytes() int64 {
	var c ledger.Content
	bytes, rows := int64(0), int64(0)
	for i := 0; i < len(m.order); i += len(m.order)/sampled + 1 {
		m.render(&c, m.order[i].row)
		bytes, rows = bytes+contentBytes(&c), rows+1
	}
	return bytes * int64(len(m.order)) / max(rows, 1)
}

// Events implements publish.Content.
func (m *merged) Events() (n int64, counted bool) { return m.events, true }

// Changed implements publish.Content. Any key may have changed: nothing says which of a child's were others before.
func (m *merged) Changed(context.Context, int) (hashes []uint64, all bool, err error) {
	m.bytes = 0
	return nil, true, nil
}

// Ranges implements publish.Content.
func (m *merged) Ranges(ctx context.Context, ranges []page.HashRange, _ []publish.BasePage, emit func(*ledger.Rows) error) error {
	for _, r := range ranges {
		at, _ := slices.BinarySearchFunc(m.order, r.First, func(p placed, hash uint64) int { return cmp.Compare(p.hash, hash) })
		if err := m.emitRows(ctx, m.order[at:], r.Last, emit); err != nil {
			return err
		}
	}
	return nil
}

// Whole implements publish.Content.
func (m *merged) Whole(ctx context.Context, emit func(*ledger.Rows) error) (events int64, exact bool, err error) {
	m.bytes = 0
	return m.events, true, m.emitRows(ctx, m.order, math.MaxUint64, emit)
}

// emitRows passes rows to emit up to the last with a hash. They are valid during the call.
func (m *merged) emitRows(ctx context.Context, order []placed, last uint64, emit func(*ledger.Rows) error) error {
	var hasher ledger.Hasher
	one := &ledger.Rows{
		Content: make([]ledger.Content, 1), Hashes: make([]uint64, 1), Digests: make([]ledger.Digest, 1), Events: make([]int64, 1),
	}
	for _, p := range order {
		if p.hash > last {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		c := &one.Content[0]
		m.render(c, p.row)
		one.Hashes[0], one.Digests[0], one.Events[0] = p.hash, hasher.Digest(*c), m.table.Count(p.row)
		if err := emit(one); err != nil {
			return err
		}
		m.bytes += contentBytes(c)
	}
	return nil
}

// render renders a row into c, whose memory it uses.
func (m *merged) render(c *ledger.Content, row uint32) {
	c.Key, c.Values, c.Overflow = m.table.Key(row), m.table.AppendValues(c.Values[:0], row), m.table.Overflow(row)
	if m.states {
		c.State = m.table.AppendMerged(c.State[:0], row)
	}
}

func contentBytes(c *ledger.Content) int64 { return int64(len(c.Key) + len(c.Values) + len(c.State)) }
