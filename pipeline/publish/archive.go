package publish

import (
	"context"
	"time"

	"millrace/pipeline/ledger"
)

// untilArchived is how long Redis keeps a final window whose content is still to be archived: longer than any pipeline lives,
// so that nothing is lost when no closer is there for however long. When the window's row says that it is archived, its
// contents get the time that their retention leaves them.
const untilArchived = 100 * 365 * 24 * time.Hour

// owesArchive reports whether the content of an entry's window is to be archived before anything of it may go. What is left of
// ended editions is not: whoever ended them has decided that.
func (h *Held) owesArchive(e *entry) bool { return h.archives && !e.archived && !h.index.isPast(e) }

// timeLeft is how much longer Redis keeps contents and view of an entry's window, which is final.
func (h *Held) timeLeft(id ledger.WindowID, e *entry) time.Duration {
	if h.owesArchive(e) {
		return untilArchived
	}
	return h.keep.timeLeft(id.Window, e.closedAt)
}

// Unarchived lists the final windows of the slot that are to be archived and whose contents would otherwise have expired by
// then, in the order of their starts. It reads the ledger on and fences nobody.
func (s *Slot) Unarchived(ctx context.Context, by time.Time) ([]ledger.WindowID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.held
	if err := h.readLedger(ctx); err != nil {
		return nil, &SlotError{Slot: h.n, Err: err}
	}
	return h.index.windowsWhere(func(id ledger.WindowID, e *entry) bool {
		return h.owesArchive(e) && h.index.isFinal(id, e) && h.keep.of(id.Window).Left(e.closedAt, by) <= 0
	}), nil
}
