package result

import (
	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
)

// RoundReport is what one Round did and what it waits for, with what the control plane does not hear of.
type RoundReport struct {
	report.Round

	Open      int                   // windows that lanes still hold events of, final ones included
	Due       int                   // of these, windows that had to be looked at
	Pending   []report.FailedWindow // windows that wait for a lane; not failures
	Incidents []report.FailedWindow // what somebody has to look at; each is reported when it is found
	Kafka     []string              // slots that could not be taken over; their windows were not tried
	Progress  WindowTimes
}

// WindowTimes says how far the pipeline is, in milliseconds; window.NoTime where there is nothing yet.
type WindowTimes struct {
	NextEnd    int64 // end of the next window to close by the watermark
	SealBefore int64 // greatest deadline the watermark has passed
	DropBefore int64 // greatest deadline up to which every window is final
}

// Receipt is the answer to Flush and Drain. Covered is what every lane had committed: -1 for one that has committed nothing.
type Receipt struct {
	report.Emitted

	Done      bool // everything committed (Flush), everything up to the end offsets (Drain) is published
	Missing   []report.LaneMissing
	Unchanged int // windows whose last revision already says everything
	Failed    []report.FailedWindow
}

// addRevision counts a revision that was published.
func (r *Receipt) addRevision(row *ledger.Row) {
	r.Published++
	r.Keys += row.Keys
	r.Events += row.Events
	r.Revisions = append(r.Revisions, ClosedBy(row))
}

// ClosedBy is the window that a ledger row closes.
func ClosedBy(row *ledger.Row) report.ClosedWindow {
	return report.ClosedWindow{
		WindowRef: report.WindowRef{Window: row.Window, Start: row.Start}, End: row.End, Revision: row.Revision, Reason: row.Reason,
		Final: row.Final, Keys: row.Keys, Events: row.Events,
	}
}
