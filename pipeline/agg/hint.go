package agg

import "unsafe"

// A table larger than the CPU's caches answers Row from two places in memory, one after the other, and waiting for them
// takes several times longer than the work. A caller that has many events at hand avoids the wait: it calls HintIndex for
// all of them, then HintRow, then HintKey, then RowOf and Add. Hints change nothing, may be left out, and may be
// outdated by the time they are used.

// HintIndex brings the index near for a hash that HintRow or RowOf will look up soon.
func (t *Table) HintIndex(hash uint64) {
	if len(t.index.dir) > 0 {
		s := t.index.dir[hash>>(64-t.index.depth)]
		prefetch((*byte)(unsafe.Pointer(&s.slots[hash>>32&uint64(len(s.slots)-1)])))
	}
}

// HintRow brings the row near that RowOf will most likely return for the hash, and returns it; found is false when there is
// none.
func (t *Table) HintRow(hash uint64) (row uint32, found bool) {
	if len(t.index.dir) == 0 {
		return 0, false
	}
	s := t.index.dir[hash>>(64-t.index.depth)]
	mask, tag := uint64(len(s.slots)-1), hash>>32
	for i := tag; ; i++ {
		slot := s.slots[i&mask]
		if slot == 0 {
			return 0, false
		}
		if slot>>32 == tag {
			row = uint32(slot) - 1
			t.HintEntry(row)
			return row, true
		}
	}
}

// HintKey brings a row's key near when it lives outside the row. The row itself should be near by now.
func (t *Table) HintKey(row uint32) {
	if rec := t.rec(row); rec[0] > inlineKey {
		prefetch(&t.key(rec)[0])
	}
}

// HintEntry brings a row near that will be used soon.
func (t *Table) HintEntry(row uint32) {
	rec := t.rec(row)
	for at := 0; at < len(rec); at += cacheLine {
		prefetch(&rec[at])
	}
}

const cacheLine = 64
