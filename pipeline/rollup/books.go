package rollup

import (
	"context"
	"math"

	"millrace/pipeline/ledger"
)

// books are what the ledger says: the latest row of every window of the edition that goes on, and the floors.
type books struct {
	slots  int
	rows   map[ledger.WindowID]*ledger.Row
	floors map[slotFamily]int64 // end, ms
	ended  map[int32]int        // the latest edition that has ended, by partition
	rolled map[string]int64     // of a roll-up, the end up to which this run found every window to be final
}

type slotFamily struct {
	slot   int32
	family string
}

// readBooks reads the whole ledger of a pipeline.
func readBooks(ctx context.Context, log ledger.Log, pipeline string, slots int) (*books, error) {
	b := &books{
		slots: slots, rows: make(map[ledger.WindowID]*ledger.Row), floors: make(map[slotFamily]int64), ended: make(map[int32]int),
		rolled: make(map[string]int64),
	}
	editions := make(map[slotFamily]int)
	err := ledger.Read(ctx, log, pipeline, func(rec ledger.Record) error {
		switch {
		case rec.Row != nil:
			rec.Row.Lanes = nil // most of a row, and nothing that a roll-up asks for
			b.rows[rec.Row.ID()] = rec.Row
		case rec.Tombstone != nil:
			delete(b.rows, *rec.Tombstone)
		case rec.Ended != nil:
			b.ended[rec.Partition] = max(b.ended[rec.Partition], rec.Ended.Edition)
		case rec.Floor != nil:
			b.ended[rec.Partition] = max(b.ended[rec.Partition], rec.Floor.Ended)
			if f := (slotFamily{rec.Partition, rec.Floor.Window}); rec.Floor.Edition >= editions[f] {
				editions[f], b.floors[f] = rec.Floor.Edition, rec.Floor.End
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for id, row := range b.rows {
		if row.Edition <= b.ended[b.slotOf(id)] {
			delete(b.rows, id)
		}
	}
	for f := range b.floors {
		if editions[f] <= b.ended[f.slot] {
			delete(b.floors, f)
		}
	}
	return b, nil
}

func (b *books) slotOf(id ledger.WindowID) int32 { return int32(id.Slot(b.slots)) }

// editionOf is the edition of what is published next in a window's slot.
func (b *books) editionOf(id ledger.WindowID) int { return b.ended[b.slotOf(id)] + 1 }

// isBelowFloor reports whether a window that ends at end (ms) lies at or below the floor of its family.
func (b *books) isBelowFloor(id ledger.WindowID, end int64) bool {
	if rolled, ok := b.rolled[id.Window]; ok && end <= rolled {
		return true
	}
	floor, ok := b.floors[slotFamily{b.slotOf(id), id.Window}]
	return ok && end <= floor
}

// isFinal reports whether no lane and no roll-up of this run changes a window any more.
func (b *books) isFinal(id ledger.WindowID, end int64) bool {
	if row := b.rows[id]; row != nil && row.Final {
		return true
	}
	return b.isBelowFloor(id, end)
}

// lowestFloor is the end up to which every window of a family is final in all slots; math.MinInt64 while a slot has no floor
// of it.
func (b *books) lowestFloor(family string) int64 {
	low := int64(math.MaxInt64)
	for slot := range int32(b.slots) {
		floor, ok := b.floors[slotFamily{slot, family}]
		if !ok {
			low = math.MinInt64
			break
		}
		low = min(low, floor)
	}
	if rolled, ok := b.rolled[family]; ok {
		return max(low, rolled)
	}
	return low
}
