package shadow

import "millrace/pipeline/shadow/plan"

// Report says how far a shadow has come. Offsets are exclusive.
type Report struct {
	Lanes   []LaneReport `json:"lanes"`
	Read    int64        `json:"read"`    // offsets, of all lanes, committed
	Records int64        `json:"records"` // offsets that all lanes have to read
	Rate    float64      `json:"rate"`    // records per second, lately
	Limit   int64        `json:"limit"`   // records per second that are allowed, 0 for any
	Waits   string       `json:"waits,omitempty"`

	Windows  int `json:"windows"`
	Compared int `json:"compared"`
	Equal    int `json:"equal"`
	Differ   int `json:"differ"`
	Refused  int `json:"refused"` // could not be compared, with those that the plan left out
}

// LaneReport is one lane of a Report.
type LaneReport struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Start     int64   `json:"start"`
	Offset    int64   `json:"offset"` // read up to here
	Committed int64   `json:"committed"`
	End       int64   `json:"end"`
	Rate      float64 `json:"rate"`
	Reason    string  `json:"reason,omitempty"` // what it waits for
}

// Remaining is how many offsets the lane has still to commit.
func (l *LaneReport) Remaining() int64 { return max(0, l.End-l.Committed) }

// Result is what a shadow has come to.
type Result struct {
	Plan     *plan.Plan `json:"-"`
	Windows  int        `json:"windows"`
	Equal    int        `json:"equal"`
	Differ   int        `json:"differ"`
	Refused  int        `json:"refused"`
	Added    int64      `json:"added"` // keys
	Changed  int64      `json:"changed"`
	Removed  int64      `json:"removed"`
	Checksum string     `json:"checksum"` // of the whole difference: what is approved
	Scope    plan.Scope `json:"scope"`
}
