package report

import "time"

// WindowRef names a window: its family and its start in ms.
type WindowRef struct {
	Window string `json:"window"`
	Start  int64  `json:"start"`
}

// String is the family and the start, as people read it.
func (r WindowRef) String() string {
	return r.Window + " " + time.UnixMilli(r.Start).UTC().Format(time.RFC3339)
}

// ClosedWindow is one published revision.
type ClosedWindow struct {
	WindowRef
	End      int64  `json:"end"`
	Revision int    `json:"revision"`
	Reason   string `json:"reason"`
	Final    bool   `json:"final,omitempty"`
	Keys     int64  `json:"keys"`
	Events   int64  `json:"events"`
}

// FailedWindow is a window that could not be closed.
type FailedWindow struct {
	WindowRef
	Problem string    `json:"problem"`
	Since   time.Time `json:"since,omitzero"` // when it was given a workflow of its own

	Times    int  `json:"-"` // in a row
	Kafka    bool `json:"-"` // it could not be published
	Incident bool `json:"-"` // trying again does not help: somebody has to look
}

// Kept says what is still there of windows that were published.
type Kept struct {
	Rows    int   `json:"rows"`              // windows with a row in the ledger
	Results int   `json:"results"`           // of these, windows with contents in Redis
	Oldest  int64 `json:"oldest,omitempty"`  // when the oldest final row was written, ms; 0 without one
	Backlog int   `json:"backlog,omitempty"` // windows that the sweep has still to check in Redis
	Floor   int64 `json:"floor,omitempty"`   // every window that ends at or before it is final, ms; 0 while there is none
}

// Waiting says what the closer waits for.
type Waiting struct {
	Window    *WindowRef `json:"window,omitempty"`    // the next window to close
	Watermark int64      `json:"watermark,omitempty"` // of the pipeline, ms; 0 when there is none yet
	For       string     `json:"for,omitempty"`       // one line for people
	Lane      string     `json:"lane,omitempty"`      // topic/partition that holds the watermark back
	Since     int64      `json:"since_ms,omitempty"`  // since when it has held it there, ms, as far as this closer knows
	Held      bool       `json:"held,omitempty"`      // for long, while other lanes go on
}

// OpenTransaction is one that a window's rows go out in as they come. Until it ends, readers of committed records of the result
// topic see nothing that came after its begin.
type OpenTransaction struct {
	Window   WindowRef `json:"window"`
	Revision int       `json:"revision"`
	Since    int64     `json:"since_ms"`
	Rows     int64     `json:"rows"` // so far
}

// Round is one look of the closer at all windows.
type Round struct {
	Closed  []ClosedWindow `json:"closed,omitempty"`
	Failed  []FailedWindow `json:"failed,omitempty"`
	Waiting Waiting        `json:"waiting"`
	Kept    *Kept          `json:"kept,omitempty"` // nil when the round did not come to it

	Results *DependencyStatus `json:"results,omitempty"` // where results go, when that is not at normal or is overridden
	Times   *ClosingTimes     `json:"times,omitempty"`
}

// ClosingTimes is where the last minute of a closer went: in its rounds, and between them.
type ClosingTimes struct {
	Span   float64 `json:"span"` // seconds
	Closer Times   `json:"closer"`
}

// Emitted is what a flush or a drain published.
type Emitted struct {
	Reason    string         `json:"reason"`
	Windows   int            `json:"windows"`   // open windows looked at
	Published int            `json:"published"` // windows that got a new revision
	Keys      int64          `json:"keys"`      // rows in these revisions
	Events    int64          `json:"events"`    // events counted in these revisions
	Covered   []LaneReceipt  `json:"covered,omitempty"`
	Revisions []ClosedWindow `json:"revisions,omitempty"` // at most contract.MaxEmittedRevisions; all are in the ledger
}
