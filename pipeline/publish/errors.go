package publish

import (
	"errors"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

var (
	// ErrFenced means that another closer took the window's slot over. What was under way is not published.
	ErrFenced = errors.New("another closer took over the window's slot")

	// ErrRowMoved means that a row does not stand any more where the slot has read it: another closer has written a newer
	// one, and compaction removed this one. Take the slot over again.
	ErrRowMoved = errors.New("another closer has written a newer row of the window")

	// ErrWrongContent means that the content made for a correction is not the one that was approved.
	ErrWrongContent = errors.New("the content is not the one that was approved")
)

// BaseUnreadError says that a correction needs to know what the latest revision holds, which Redis does not prove any more:
// whoever asked for the correction reads it, without holding the slot, and asks again with Correction.Base.
type BaseUnreadError struct {
	Row *ledger.Row // of the latest revision
}

func (e *BaseUnreadError) Error() string {
	return fmt.Sprintf("window %s: nothing in Redis proves what revision %d holds; it has to be read", e.Row.ID(), e.Row.Revision)
}

// SlotError says that a window's slot could not be taken over: Kafka is in trouble, not the window.
type SlotError struct {
	Slot int
	Err  error
}

func (e *SlotError) Error() string { return fmt.Sprintf("slot %d: %v", e.Slot, e.Err) }

func (e *SlotError) Unwrap() error { return e.Err }

// IsOfSlot reports whether err is a *SlotError: whatever else is tried in the slot waits as long for
// the same answer.
func IsOfSlot(err error) bool {
	var slot *SlotError
	return errors.As(err, &slot)
}

// RevisionError says that the transaction with a revision failed. Whether it is published shows when the slot is taken
// over anew.
type RevisionError struct {
	Window   string
	Start    int64
	Revision int
	Err      error
}

func revisionError(row *ledger.Row, err error) error {
	return &RevisionError{Window: row.Window, Start: row.Start, Revision: row.Revision, Err: err}
}

func (e *RevisionError) Error() string {
	id := ledger.WindowID{Window: e.Window, Start: e.Start}
	if errors.Is(e.Err, source.ErrRecordTooLarge) {
		return fmt.Sprintf("incident row-too-large: %v; revision %d of window %s is published by itself once the topic takes it",
			e.Err, e.Revision, id)
	}
	return fmt.Sprintf("publish revision %d of window %s: %v", e.Revision, id, e.Err)
}

func (e *RevisionError) Unwrap() error { return e.Err }
