package result

import (
	"errors"
	"fmt"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// ErrWindow means a window that the spec does not have.
var ErrWindow = errors.New("no such window")

// BehindError says that a lane's state is older than what the window's last revision covers: Redis lost writes and the
// lane is coming back. No revision is published meanwhile.
type BehindError struct {
	Lane          store.LaneID
	Offset, Cover int64
	Revision      int
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("lane %s stands at offset %d, behind %d which revision %d covers: it lost writes and has to come back",
		e.Lane, e.Offset, e.Cover, e.Revision)
}

// LossError says that Redis does not hold all of a lane's state: slices are missing, or a slice's entries do not add up to
// what the lane folded, or cannot be read. A running lane writes them again. When that does not help it is an incident:
// nothing is published before somebody has decided.
type LossError struct {
	Lane    store.LaneID
	Err     error // store.ErrPartialLoss, store.ErrCorrupt or agg.ErrEntryCorrupt
	Lasting bool  // rounds have passed, and it is still missing
}

func (e *LossError) Error() string {
	if !e.Lasting {
		return fmt.Sprintf("%v; a running lane writes it again", e.Err)
	}
	kind := "state-lost"
	if errors.Is(e.Err, agg.ErrEntryCorrupt) || errors.Is(e.Err, store.ErrCorrupt) {
		kind = "corrupt-state"
	}
	return fmt.Sprintf("incident %s: %v; no window is published meanwhile; if the lane is parked decide its incident, "+
		"if it runs move it (scale, or restart its worker): it will park and offer a rebuild", kind, e.Err)
}

func (e *LossError) Unwrap() error { return e.Err }

// GrewError is an incident: a lane folded an event into a window that is final, so it is in no revision. It takes a lost
// seal, or a partition added with events older than what is final.
type GrewError struct {
	Lane   store.LaneID
	Window string
	Start  int64
	Offset int64 // last event folded
	Cover  int64 // what the final revision covers of the lane
}

func (e *GrewError) Error() string {
	return fmt.Sprintf("incident final-grew: lane %s folded offset %d into window %s %s, which is final up to offset %d",
		e.Lane, e.Offset, e.Window, window.FormatTime(e.Start), e.Cover)
}

// ShrunkError is an incident: a lane holds fewer events of a window than a revision that it has not fallen behind of.
type ShrunkError struct {
	Lane        store.LaneID
	Window      string
	Start       int64
	Folded, Was int64
	Revision    int
}

func (e *ShrunkError) Error() string {
	return fmt.Sprintf("incident shrunk: lane %s holds %d events of window %s %s, revision %d had %d; the window is not published",
		e.Lane, e.Folded, e.Window, window.FormatTime(e.Start), e.Revision, e.Was)
}

// Incident reports whether an error will not go away by trying again: somebody has to look.
func Incident(err error) bool {
	var loss *LossError
	var grew *GrewError
	var shrunk *ShrunkError
	return errors.As(err, &loss) && loss.Lasting || errors.As(err, &grew) || errors.As(err, &shrunk) || errors.Is(err, ledger.ErrCorrupt) ||
		errors.Is(err, source.ErrRecordTooLarge)
}

// Waits reports whether an error only means that the lanes are not there yet: looking again later is the answer, and it
// does not count as a failure.
func Waits(err error) bool {
	var ahead *merge.AheadError
	var behind *BehindError
	var notYet *NotYetError
	var loss *LossError
	return errors.As(err, &loss) && !loss.Lasting || errors.As(err, &ahead) || errors.As(err, &behind) || errors.As(err, &notYet) ||
		errors.Is(err, merge.ErrMoved) || errors.Is(err, publish.ErrRowMoved) || errors.Is(err, store.ErrSuperseded)
}

// Refused reports whether Kafka did not take a revision or a slot. A closer that another one has fenced was answered, and so
// was one whose row is larger than its topic takes.
func Refused(err error) bool {
	var slot *publish.SlotError
	var revision *publish.RevisionError
	return (errors.As(err, &slot) || errors.As(err, &revision)) && !errors.Is(err, publish.ErrFenced) && !errors.Is(err, source.ErrRecordTooLarge)
}

// NotYetError says that a window cannot be closed by the watermark yet.
type NotYetError struct {
	Waiting report.Waiting
	End     int64
}

func (e *NotYetError) Error() string {
	return fmt.Sprintf("the window ends at %s, %s", window.FormatTime(e.End), e.Waiting.For)
}
