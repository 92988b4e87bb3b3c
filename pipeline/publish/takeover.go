package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// HasProducer reports whether the slot was taken over and its producer has not failed since.
func (h *Held) HasProducer() bool { return h.producer != nil }

// TakeOver makes sure that the slot has a producer and knows the ledger as of its InitProducerId. What fails is a
// *SlotError.
func (h *Held) TakeOver(ctx context.Context) error {
	if err := h.openProducer(ctx); err != nil {
		return &SlotError{Slot: h.n, Err: err}
	}
	return nil
}

func (h *Held) openProducer(ctx context.Context) error {
	if h.producer != nil {
		return nil
	}
	open := h.kafka.Open
	if h.long {
		open = h.kafka.OpenLong
	}
	producer, err := open(ctx, h.n)
	if err != nil {
		return fmt.Errorf("take over slot %d: %w", h.n, err)
	}
	if err := h.readLedger(ctx); err != nil {
		return errors.Join(err, producer.Close())
	}
	h.producer, h.doubtful = producer, true
	h.takeOvers.Add(1)
	return nil
}

// GiveUpProducer gives the producer up after a failure: TakeOver makes another one and reads the ledger on.
func (h *Held) GiveUpProducer() {
	h.long = false
	if h.producer != nil {
		_ = h.producer.Close() // it failed before, and the next owner fences whatever it left
		h.producer = nil
	}
}

// LedgerTrust is how long a slot writes to Redis after it has last read its ledger or written to it. A process that was
// frozen for longer reads on first: others may have published since, or the pipeline was removed and begun anew, and then
// what the slot still wants to show or to remove is another one's. After a shorter freeze the turn of the closers is still
// leased, which a removal waits for.
const LedgerTrust = 3 * time.Second

// catchUp reads the ledger on, if that was last done long ago. What fails is a *SlotError.
func (h *Held) catchUp(ctx context.Context) error {
	if h.keep.now().Sub(h.asOf) <= LedgerTrust {
		return nil
	}
	if err := h.readLedger(ctx); err != nil {
		return &SlotError{Slot: h.n, Err: err}
	}
	return nil
}

// readLedger reads the ledger partition from where the slot stands to its end. The last row read may belong to a
// transaction that Redis was never told of.
func (h *Held) readLedger(ctx context.Context) error {
	err := h.readLedgerOn(ctx)
	if errors.Is(err, source.ErrOffsetOutOfRange) {
		h.index, h.loaded = newIndex(), false
		err = h.readLedgerOn(ctx)
	}
	if err != nil {
		return fmt.Errorf("read ledger %s: %w", h.topic, err)
	}
	return nil
}

func (h *Held) readLedgerOn(ctx context.Context) error {
	from, began := h.next, h.keep.now()
	if !h.loaded {
		var err error
		if from, err = h.findFirstInForce(ctx); err != nil {
			return err
		}
	}
	var last *ledger.Row
	next, err := h.kafka.ReadCommitted(ctx, h.topic, from, func(r source.Record) error {
		rec, err := ledger.ParseRecord(h.topic, r)
		if err != nil {
			return err
		}
		switch {
		case rec.Row != nil:
			last = rec.Row
			h.index.addRow(rec.Row, r.Offset)
			if id := rec.Row.ID(); h.pending[id] != nil {
				h.pending[id] = &unshown{row: rec.Row} // what waited to be shown is not the latest any more
			}
		case rec.Tombstone != nil:
			h.index.removeRow(*rec.Tombstone)
			delete(h.pending, *rec.Tombstone)
		case rec.Certificate != nil:
			h.index.addCertificate(rec.Certificate, r.Offset)
		case rec.Uncertified != nil:
			delete(h.index.certificates, *rec.Uncertified)
		case rec.Floor != nil:
			h.index.setFloor(rec.Floor)
		case rec.Ended != nil:
			last = nil
			h.index.beginEdition(rec.Ended.Edition + 1)
			clear(h.pending)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !h.loaded {
		h.dropForeignRows()
	}
	h.next, h.loaded, h.asOf = next, true, began
	h.index.forgetFlooredRows()
	if last != nil && h.index.entries[last.ID()] != nil {
		h.pending[last.ID()] = &unshown{row: last}
	}
	return nil
}

// dropForeignRows forgets the rows to be shown that a ledger which was read anew does not have: it was made again.
func (h *Held) dropForeignRows() {
	for id, u := range h.pending {
		if e := h.index.entries[id]; e == nil || e.revision != u.row.Revision || e.closedAt != u.row.ClosedAt {
			delete(h.pending, id)
		}
	}
}

// How far back from the end of a partition the latest floor is looked for, in offsets, before all of it is read.
const (
	searchFirst = 1 << 7
	searchMost  = 1 << 16
	searchStep  = 1 << 3
)

// errFound ends a reading that has what it wanted.
var errFound = errors.New("found")

// findFirstInForce finds the offset from which the partition has to be read, without reading what is not in force any
// more. Whoever keeps the floors writes them together at the end of the log, about once a minute, and each says where the
// oldest row in force stands. So it reads back from the end until it meets one. A partition that has none, because an
// earlier version of millrace wrote it, is read from its start.
func (h *Held) findFirstInForce(ctx context.Context) (int64, error) {
	all, err := h.kafka.Ends(ctx, h.topic)
	if err != nil {
		return 0, err
	}
	ends, to := all[h.topic], all[h.topic].End
	for span := int64(searchFirst); span <= searchMost && ends.End-span > ends.Start; span *= searchStep {
		from, found := ends.End-span, int64(-1)
		_, err := h.kafka.ReadCommitted(ctx, h.topic, from, func(r source.Record) error {
			if r.Offset >= to {
				return errFound
			}
			if !ledger.IsFloorKey(r.Key) {
				return nil
			}
			rec, err := ledger.ParseRecord(h.topic, r)
			if err == nil && rec.Floor != nil {
				found = max(found, rec.Floor.RowsFrom)
			}
			return err
		})
		if err != nil && !errors.Is(err, errFound) {
			return 0, err
		}
		if found >= 0 {
			return max(found, ends.Start), nil
		}
		to = from
	}
	return ends.Start, nil
}

// readRow returns the row of an entry, reading it where it stands when the slot forgot it. Another row at its place means
// that the partition was compacted, or that the topic was made again: what the slot remembers is worth nothing then, and
// the next take-over reads the partition anew.
func (h *Held) readRow(ctx context.Context, id ledger.WindowID, e *entry) (*ledger.Row, error) {
	if e.row != nil {
		return e.row, nil
	}
	rec, err := h.readRecord(ctx, e.offset)
	if err != nil {
		return nil, err
	}
	if rec.Row == nil || rec.Row.ID() != id || rec.Row.Revision != e.revision {
		return nil, h.noSuchRecord("row", e.offset)
	}
	return rec.Row, nil
}

// readRecord reads the record at an offset of the partition; what it holds is nil when nothing stands there any more.
func (h *Held) readRecord(ctx context.Context, offset int64) (rec ledger.Record, err error) {
	_, err = h.kafka.ReadCommitted(ctx, h.topic, offset, func(r source.Record) error {
		if r.Offset == offset {
			if rec, err = ledger.ParseRecord(h.topic, r); err != nil {
				return err
			}
		}
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return ledger.Record{}, fmt.Errorf("read ledger %s, offset %d: %w", h.topic, offset, err)
	}
	return rec, nil
}

// noSuchRecord gives up what the slot remembers, because a record does not stand where it should.
func (h *Held) noSuchRecord(what string, offset int64) error {
	h.GiveUpProducer()
	h.index, h.loaded = newIndex(), false
	return fmt.Errorf("ledger %s has no such %s at offset %d any more: %w", h.topic, what, offset, ErrRowMoved)
}
