package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/window"
)

const (
	// floorPause is how long a slot waits between two transactions that raise floors or give rows up.
	floorPause = time.Minute

	// floorRest is how long a floor stays that could be raised without any row to lie below it. In a pipeline with roll-ups it
	// does not stay: a window without a row is known to be empty only when a floor has passed it, and the roll-up waits for that.
	floorRest = time.Hour

	// giveUpBatch is how many rows one of these transactions gives up at most.
	giveUpBatch = 512

	// A slot moves its oldest rows to the end of the log when it is longer than spanPerRow offsets for every row in force,
	// beyond spanAtLeast: a row that is old and still in force would otherwise hold readers back to where it stands.
	spanPerRow  = 16
	spanAtLeast = 4096
	moveBatch   = 64
)

// Finality is how far every window of the pipeline is known to be final.
type Finality struct {
	Edition int                // it says nothing of others
	End     int64              // ms: every window that ends at or before it is final, whether it was published or not; window.NoTime: none
	Lanes   []ledger.FloorLane // what the lanes had committed when this was found

	// Rollups is End of roll-ups, by name: which windows of them are final follows from what was rolled up.
	Rollups map[string]int64
	// Needed reports whether the row of a window is needed yet although its retention is over: what it was rolled up into may
	// still be made anew from it. nil: no row is.
	Needed func(id ledger.WindowID) bool
}

// lanesOf is what the lanes had committed for the windows of a family. No lane folds an event into a roll-up.
func (f *Finality) lanesOf(family string) []ledger.FloorLane {
	if _, rollup := f.Rollups[family]; rollup {
		return nil
	}
	return f.Lanes
}

// MaintainFloors raises the slot's floors to what is final, which may be nil, and gives up the rows that are due, at most
// once in floorPause. What fails is tried again after that pause. prove is asked, once the slot is taken over, whether what
// final says is still so.
func (s *Slot) MaintainFloors(ctx context.Context, final *Finality, prove func(context.Context, *Held) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held.maintainFloors(ctx, final, prove)
}

func (h *Held) maintainFloors(ctx context.Context, final *Finality, prove func(context.Context, *Held) error) error {
	now := h.keep.now()
	if !h.maintained.IsZero() && now.Sub(h.maintained) < floorPause {
		return nil
	}
	h.maintained = now
	if h.producer == nil {
		if err := h.readLedger(ctx); err != nil { // another closer may have done it, and must not be fenced for nothing
			return err
		}
	}
	h.keptAtFloor = h.countKept()
	h.needed = nil
	if final != nil {
		h.needed = final.Needed
	}
	if !h.floorsDue(h.ofThisEdition(final)) {
		return nil
	}
	if err := h.openProducer(ctx); err != nil {
		return fmt.Errorf("take over slot %d: %w", h.n, err)
	}
	if err := prove(ctx, h); err != nil {
		return err
	}
	final = h.ofThisEdition(final) // its edition may have ended since
	gone, err := h.removeViewsDue(ctx)
	if err != nil {
		return err
	}
	moved, err := h.readRowsToMove(ctx, gone)
	if err != nil {
		return err
	}
	if err := h.writeFloors(ctx, h.raisedFloors(final, gone, moved), gone, moved); err != nil {
		h.GiveUpProducer()
		return err
	}
	return nil
}

// ofThisEdition is final as far as it speaks of the edition that is published now.
func (h *Held) ofThisEdition(final *Finality) *Finality {
	if final == nil || final.Edition != h.index.edition {
		return nil
	}
	return final
}

// floorsDue reports whether a transaction of floors would change anything that is worth it.
func (h *Held) floorsDue(final *Finality) bool {
	rests := h.keep.now().Add(-floorRest).UnixMilli()
	if len(h.rollups) > 0 {
		rests = h.keep.now().UnixMilli()
	}
	ends := h.finalEnds(final)
	for family, end := range ends {
		if f := h.index.floors[floorID{family, h.index.edition}]; f == nil || f.End < end && f.RaisedAt <= rests {
			return true
		}
	}
	for id, e := range h.index.entries {
		end, known := ends[id.Window]
		if h.mayGiveUp(id, e) || known && !h.index.isPast(e) && e.end <= end && !h.index.isFloored(id, e) {
			return true
		}
	}
	return len(h.index.floors) > 0 && h.isStretched(h.firstInForce(nil, nil), len(h.index.entries))
}

// finalEnds is, by family, how far its windows are final.
func (h *Held) finalEnds(final *Finality) map[string]int64 {
	ends := make(map[string]int64, len(h.families)+len(h.rollups))
	if final == nil {
		return ends
	}
	for _, family := range h.families {
		if final.End != window.NoTime {
			ends[family] = final.End
		}
	}
	for _, family := range h.rollups {
		if end, ok := final.Rollups[family]; ok {
			ends[family] = end
		}
	}
	return ends
}

// mayGiveUp reports whether the row of a window is due to be tombstoned. Only rows at or below the floor of their own
// edition are, because without the row it is the floor that says that the window is final, and rows of ended editions. A
// window that is to be archived keeps its row until it is: the row is what the archived file is proved against.
func (h *Held) mayGiveUp(id ledger.WindowID, e *entry) bool {
	if h.pending[id] != nil || !h.keep.rowDue(id.Window, e.closedAt) || h.owesArchive(e) {
		return false
	}
	return h.index.isPast(e) || h.index.isFloored(id, e) && (h.needed == nil || !h.needed(id))
}

// removeViewsDue removes from Redis what is left of windows whose rows are due, and returns them. It comes before the
// tombstone: without a row nothing would look for what an expiry that was lost has left.
func (h *Held) removeViewsDue(ctx context.Context) (map[ledger.WindowID]bool, error) {
	if err := h.catchUp(ctx); err != nil {
		return nil, err
	}
	due := h.index.windowsWhere(h.mayGiveUp)
	due = due[:min(len(due), giveUpBatch)]
	gone := make(map[ledger.WindowID]bool, len(due))
	for _, id := range due {
		gone[id] = true
		if h.index.isPast(h.index.entries[id]) {
			continue
		}
		if _, err := h.state.ExpireWindow(ctx, h.storeID(id), h.index.entries[id].version(), 0); err != nil {
			return nil, fmt.Errorf("remove window %s: %w", id, err)
		}
	}
	return gone, nil
}

// firstInForce is the lowest offset of a row in force or of its certificate, leaving out those that are gone or moved; h.next
// without one.
func (h *Held) firstInForce(gone map[ledger.WindowID]bool, moved map[ledger.WindowID]*movedRow) int64 {
	low := h.next
	for id, e := range h.index.entries {
		if !gone[id] && moved[id] == nil {
			low = min(low, h.index.oldest(id, e))
		}
	}
	return low
}

// movedRow is a row that is written anew at the end of the log, with the certificate beside it, nil without one.
type movedRow struct {
	row, certificate *Record
}

// isStretched reports whether the log from an offset on is too long for the rows it holds.
func (h *Held) isStretched(from int64, rows int) bool {
	return h.next-from > spanPerRow*int64(rows)+spanAtLeast
}

// readRowsToMove reads the oldest rows in force, when the log has become too long for what it holds, to write them anew.
func (h *Held) readRowsToMove(ctx context.Context, gone map[ledger.WindowID]bool) (map[ledger.WindowID]*movedRow, error) {
	if !h.isStretched(h.firstInForce(gone, nil), len(h.index.entries)-len(gone)) {
		return nil, nil
	}
	oldest := h.index.windowsWhere(func(id ledger.WindowID, _ *entry) bool { return !gone[id] })
	slices.SortFunc(oldest, func(a, b ledger.WindowID) int {
		return cmp.Compare(h.index.oldest(a, h.index.entries[a]), h.index.oldest(b, h.index.entries[b]))
	})
	moved := make(map[ledger.WindowID]*movedRow)
	for _, id := range oldest[:min(len(oldest), moveBatch)] {
		row, err := h.readRow(ctx, id, h.index.entries[id])
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(row)
		if err != nil {
			return nil, fmt.Errorf("encode ledger row: %w", err)
		}
		m := &movedRow{row: &Record{Key: id.Key(), Value: text}}
		if m.certificate, err = h.readCertificate(ctx, id); err != nil {
			return nil, err
		}
		moved[id] = m
	}
	return moved, nil
}

// readCertificate reads the certificate of a window to write it anew, nil without one.
func (h *Held) readCertificate(ctx context.Context, id ledger.WindowID) (*Record, error) {
	c, ok := h.index.certificates[id]
	if !ok {
		return nil, nil
	}
	rec, err := h.readRecord(ctx, c.offset)
	if err != nil {
		return nil, err
	}
	if rec.Certificate == nil || rec.Certificate.ID() != id {
		return nil, h.noSuchRecord("certificate", c.offset)
	}
	text, err := json.Marshal(rec.Certificate)
	if err != nil {
		return nil, fmt.Errorf("encode certificate: %w", err)
	}
	return &Record{Key: id.CertificateKey(), Value: text}, nil
}
