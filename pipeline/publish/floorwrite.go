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
	gone map[ledger.WindowID]bool, moved map[ledger.WindowID]*movedRow) []*ledger.Floor {
	floors := maps.Clone(h.index.floors)
	for family, end := range h.finalEnds(final) {
		id := floorID{family, h.index.edition}
		if f := floors[id]; f == nil || f.End < end {
			floors[id] = &ledger.Floor{
				Pipeline: h.pipeline, Window: family, Edition: h.index.edition, End: end, Spec: h.version,
				RaisedAt: h.keep.now().UnixMilli(), Lanes: final.lanesOf(family),
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
	gone map[ledger.WindowID]bool, moved map[ledger.WindowID]*movedRow) error {
	records := make([]Record, 0, len(gone)+len(moved)+len(floors))
	for _, id := range slices.SortedFunc(maps.Keys(gone), compareWindows) {
		records = append(records, Record{Key: id.Key()})
	}
	for _, id := range h.certificatesToGiveUp(gone) {
		records = append(records, Record{Key: id.CertificateKey()})
	}
	moves, firstMove := slices.SortedFunc(maps.Keys(moved), compareWindows), len(records)
	for _, id := range moves {
		records = append(records, *moved[id].row)
		if moved[id].certificate != nil {
			records = append(records, *moved[id].certificate)
		}
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
	if err := Send(ctx, h.producer, records); err != nil {
		return err
	}
	if err := h.producer.Commit(); err != nil {
		return err
	}
	for _, id := range h.certificatesToGiveUp(gone) {
		delete(h.index.certificates, id)
	}
	for id := range gone {
		h.index.removeRow(id)
	}
	at := firstMove
	for _, id := range moves {
		h.index.entries[id].offset = records[at].Offset
		if at++; moved[id].certificate != nil {
			c := h.index.certificates[id]
			c.offset = records[at].Offset
			h.index.certificates[id] = c
			at++
		}
	}
	for _, f := range floors {
		h.index.setFloor(f)
	}
	h.index.forgetFlooredRows()
	h.next = max(h.next, records[len(records)-1].Offset+1)
	return nil
}

// certificatesToGiveUp lists the certificates of rows that go, and of rows that an earlier version of millrace, which passes
// certificates over, gave up alone.
func (h *Held) certificatesToGiveUp(gone map[ledger.WindowID]bool) []ledger.WindowID {
	var ids []ledger.WindowID
	for id := range h.index.certificates {
		if gone[id] || h.index.entries[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareWindows)
	return ids
}
