package result

import (
	"millrace/pipeline/ledger"
	"millrace/pipeline/survey"
)

// RoundReport is what one Round did and what it waits for.
type RoundReport struct {
	Waiting   survey.Waiting `json:"waiting"`
	Open      int            `json:"open"` // windows that lanes still hold events of, final ones included
	Due       int            `json:"due"`  // of these, windows that had to be looked at
	Closed    []Closed       `json:"closed,omitempty"`
	Pending   []Trouble      `json:"pending,omitempty"`   // windows that wait for a lane; not failures
	Failed    []Trouble      `json:"failed,omitempty"`    // windows that could not be closed, with how often in a row
	Incidents []Trouble      `json:"incidents,omitempty"` // what somebody has to look at; each is reported when it is found
	Kafka     []string       `json:"kafka,omitempty"`     // slots that could not be taken over; their windows were not tried
	Progress  WindowTimes    `json:"progress"`
	Kept      Kept           `json:"kept"`
}

// Kept says what is still there of windows that were published.
type Kept struct {
	Rows    int   `json:"rows"`    // windows with a row in the ledger
	Results int   `json:"results"` // of these, windows whose contents have not expired
	Oldest  int64 `json:"oldest"`  // when the oldest final row was written, ms; math.MinInt64 without one
	Backlog int   `json:"backlog"` // windows that the sweep has still to look at in Redis
	Floor   int64 `json:"floor"`   // every window that ends at or before it is final, ms; math.MinInt64 without one
}

// WindowTimes says how far the pipeline is, in milliseconds; math.MinInt64 where there is nothing yet.
type WindowTimes struct {
	NextEnd    int64 `json:"next_end"`    // end of the next window to close by the watermark
	SealBefore int64 `json:"seal_before"` // greatest deadline the watermark has passed
	DropBefore int64 `json:"drop_before"` // greatest deadline up to which every window is final
}

// Closed is one ledger row written.
type Closed struct {
	Window   string `json:"window"`
	Start    int64  `json:"start"` // ms
	Revision int    `json:"revision"`
	Reason   string `json:"reason"`
	Final    bool   `json:"final"`
	Keys     int64  `json:"keys"`
	Events   int64  `json:"events"`
}

// Trouble is a window that was not closed, and why.
type Trouble struct {
	Window string `json:"window"`
	Start  int64  `json:"start"` // ms
	Times  int    `json:"times"` // in a row
	Error  string `json:"error"`
	Kafka  bool   `json:"kafka,omitempty"` // it could not be published

	// Incident says that trying again does not help: somebody has to look.
	Incident bool `json:"incident,omitempty"`
}

// Receipt is the answer to Flush and Drain.
type Receipt struct {
	Reason    string         `json:"reason"`
	Done      bool           `json:"done"` // everything committed (Flush), everything up to the end offsets (Drain) is published
	Missing   []LaneWait     `json:"missing,omitempty"`
	Lanes     []LanePosition `json:"lanes"`
	Windows   int            `json:"windows"`
	Unchanged int            `json:"unchanged"` // windows whose last revision already says everything
	Closed    []Closed       `json:"closed,omitempty"`
	Failed    []Trouble      `json:"failed,omitempty"`
}

// LanePosition is what a lane had committed at a look.
type LanePosition struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"`      // committed; -1 when the lane has committed nothing
	LastOffset int64  `json:"last_offset"` // of the last event in a slice it holds; -1 without one
	Folded     int64  `json:"folded"`      // in its whole life
}

// LaneWait is a lane that is not where it has to be.
type LaneWait struct {
	Lane   string `json:"lane"`
	Offset int64  `json:"offset"` // committed; -1 when the lane has committed nothing
	End    int64  `json:"end"`    // where it has to be
	Why    string `json:"why"`
}

func closedOf(row *ledger.Row) Closed {
	return Closed{
		Window: row.Window, Start: row.Start, Revision: row.Revision, Reason: row.Reason, Final: row.Final,
		Keys: row.Keys, Events: row.Events,
	}
}
