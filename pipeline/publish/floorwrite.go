package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"millrace/pipeline/ledger"
)

// raisedFloors lists the slot's floors as they will be. All of them are written every time, those of other editions as
// they are: together they stand at the end of the log, and the log before the oldest row in force is of no use.
func (h *Held) raisedFloors(final *Finality,
	gone map[ledger.WindowID]bool, moved map[ledger.WindowID]*Record) []*ledger.Floor {
	floors := maps.Clone(h.index.floors)
	for _, family := range h.families {
		id := floorID{family, h.index.edition}
		if f := floors[id]; final != nil && (f == nil || f.End < final.End) {
			floors[id] = &ledger.Floor{
				Pipeline: h.pipeline, Window: family, Edition: h.index.edition, End: final.End, Spec: h.version,
				RaisedAt: h.keep.now().UnixMilli(), Lanes: final.Lanes,
			}
		}
	}
	from := h.firstInForce(gone, moved)
	list := make([]*ledger.Floor, 0, len(floors))
	for _, f := range floors {
		raised := *f
		raised.RowsFrom, raised.Ended = from, h.index.edition-1
		list = append(list, &raised)
	}
	slices.SortFunc(list, func(a, b *ledger.Floor) int {
		return cmp.Or(cmp.Compare(a.Edition, b.Edition), cmp.Compare(a.Window, b.Window))
	})
	return list
}

// writeFloors writes tombstones, rows that move, and floors in one transaction.
func (h *Held) writeFloors(ctx context.Context, floors []*ledger.Floor,
	gone map[ledger.WindowID]bool, moved map[ledger.WindowID]*Record) error {
	records := make([]Record, 0, len(gone)+len(moved)+len(floors))
	for _, id := range slices.SortedFunc(maps.Keys(gone), compareWindows) {
		records = append(records, Record{Key: id.Key()})
	}
	moves := slices.SortedFunc(maps.Keys(moved), compareWindows)
	for _, id := range moves {
		records = append(records, *moved[id])
	}
	for _, f := range floors {
		text, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("encode floor: %w", err)
		}
		records = append(records, Record{Key: f.Key(), Value: text})
	}
	for i := range records {
		records[i].Topic, records[i].Partition = h.topic.Topic, h.topic.Partition
	}
	if err := h.producer.Begin(); err != nil {
		return err
	}
	if err := h.producer.Send(ctx, records); err != nil {
		return err
	}
	if err := h.producer.Commit(); err != nil {
		return err
	}
	for id := range gone {
		h.index.removeRow(id)
	}
	for i, id := range moves {
		h.index.entries[id].offset = records[len(gone)+i].Offset
	}
	for _, f := range floors {
		h.index.setFloor(f)
	}
	h.index.forgetFlooredRows()
	h.next = max(h.next, records[len(records)-1].Offset+1)
	return nil
}
