package merge

import (
	"errors"
	"fmt"

	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// ErrMoved means that a lane changed owner or went backwards while a window was read. Look again.
var ErrMoved = errors.New("a lane moved while the window was read")

// AheadError says that a lane is in the middle of a commit: entries of the window are newer than
// its meta. The next meta ends it.
type AheadError struct {
	Lane  store.LaneID
	Slice store.SliceID
	Stamp int64 // of an entry
	Meta  int64 // offset of the meta read before
}

func (e *AheadError) Error() string {
	return fmt.Sprintf("lane %s is in the middle of a commit: slice %s holds events up to offset %d, its meta stands at %d",
		e.Lane, e.Slice, e.Stamp, e.Meta)
}

// MissingError says that the entries of a slice do not add up to what the lane folded into it. It
// is a store.ErrPartialLoss.
type MissingError struct {
	Lane            *survey.Lane // as the view had it
	Slice           store.SliceID
	Entries, Folded int64 // events
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("lane %s: %v: the entries of slice %s hold %d events, the lane folded %d",
		e.Lane.ID, store.ErrPartialLoss, e.Slice, e.Entries, e.Folded)
}

// Is makes the error a store.ErrPartialLoss.
func (e *MissingError) Is(target error) bool { return target == store.ErrPartialLoss }

// CorruptError says that an entry or a page of a slice cannot be read: an agg.ErrEntryCorrupt or
// store.ErrCorrupt. A lane that runs has what it should be.
type CorruptError struct {
	Lane  *survey.Lane // as the view had it
	Slice store.SliceID
	Err   error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("lane %s: slice %s: %v", e.Lane.ID, e.Slice, e.Err)
}

// Unwrap returns what is wrong with the entry.
func (e *CorruptError) Unwrap() error { return e.Err }
