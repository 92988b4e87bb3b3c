package contract

import "time"

// PipelineStatus answers the status query of a Pipeline.
type PipelineStatus struct {
	Pipeline   string        `json:"pipeline"`
	State      string        `json:"state"`
	Note       string        `json:"note,omitempty"`
	Since      time.Time     `json:"since"`
	Generation int64         `json:"generation"`
	Replicas   int           `json:"replicas"`
	Topics     []TopicInfo   `json:"topics,omitempty"`
	Windows    []string      `json:"windows,omitempty"`
	Children   []ChildState  `json:"children,omitempty"`
	Attached   []ChildState  `json:"attached,omitempty"` // recoveries, degradations and journal replays that wait for somebody
	Standing   *Standing     `json:"standing,omitempty"` // as far as the workflow knows
	Receipts   []ReceiptHead `json:"receipts,omitempty"` // newest last
	Runs       int           `json:"runs"`
	Orders     []LevelOrder  `json:"orders,omitempty"`  // overrides of levels on all workers
	Pending    []Pending     `json:"pending,omitempty"` // what it waits for now, oldest first
}

// ReceiptHead is a receipt without its lists.
type ReceiptHead struct {
	RequestID  string    `json:"request_id"`
	Update     string    `json:"update"`
	At         time.Time `json:"at"`
	Generation int64     `json:"generation"`
	Applied    bool      `json:"applied"`
	Note       string    `json:"note,omitempty"`
	Input      string    `json:"input,omitempty"`
}

// ReplicaStatus answers the status query of a Replica.
type ReplicaStatus struct {
	Pipeline   string      `json:"pipeline"`
	Replica    int         `json:"replica"`
	State      string      `json:"state"`
	Note       string      `json:"note,omitempty"`
	Moves      int         `json:"moves"`
	Placements []Placement `json:"placements,omitempty"`
}

// CloseWindowsStatus answers the status query of a CloseWindows.
type CloseWindowsStatus struct {
	Pipeline string         `json:"pipeline"`
	State    string         `json:"state"`
	Note     string         `json:"note,omitempty"`
	Closed   int64          `json:"closed"`
	Last     *ClosedWindow  `json:"last,omitempty"`
	Promoted []FailedWindow `json:"promoted,omitempty"`
	Kept     *Kept          `json:"kept,omitempty"` // as of the last CloseDue that ended
}

// CloseWindowStatus answers the status query of a CloseWindow.
type CloseWindowStatus struct {
	Pipeline string    `json:"pipeline"`
	Window   WindowRef `json:"window"`
	Problem  string    `json:"problem,omitempty"`
}

// EngineStatus is what a hot path says of itself; it travels as the details of Run's heartbeats.
type EngineStatus struct {
	Pipeline    string       `json:"pipeline"`
	Replica     int          `json:"replica"`
	Worker      string       `json:"worker,omitempty"`
	Disk        string       `json:"disk,omitempty"` // of the worker's WAL directory
	State       string       `json:"state"`
	Reason      string       `json:"reason,omitempty"`
	Memory      int64        `json:"memory_bytes"`
	MemoryLimit int64        `json:"memory_limit_bytes"`
	Rate        float64      `json:"events_per_second"`
	Lag         int64        `json:"lag"`
	Unread      string       `json:"unread,omitempty"` // why it could not read what is commanded at the last try
	Owned       int          `json:"owned"`            // lanes owned here
	Storm       *Storm       `json:"storm,omitempty"`  // a rebalance storm that goes on; without its timeline
	Lanes       []LaneStatus `json:"lanes,omitempty"`  // at most MaxStatusLanes, those in trouble and with the greatest lag first

	Dependencies []DependencyStatus `json:"dependencies,omitempty"` // those that are not at normal, or are overridden
}

// DependencyStatus is the level that one dependency of a hot path or closer is at.
type DependencyStatus struct {
	Dependency string    `json:"dependency"`
	Level      string    `json:"level"`
	Since      time.Time `json:"since"`
	Reason     string    `json:"reason,omitempty"`
	Override   string    `json:"override,omitempty"`
	Worker     string    `json:"worker,omitempty"`
}

// LaneStatus is one lane of a hot path.
type LaneStatus struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	State     string  `json:"state"`
	Reason    string  `json:"reason,omitempty"`
	Offset    int64   `json:"offset"`
	Lag       int64   `json:"lag"`
	Watermark int64   `json:"watermark"` // ms
	Rate      float64 `json:"events_per_second"`
	Epoch     int64   `json:"epoch"`

	Choices []string `json:"choices,omitempty"` // what can be decided about a parked lane, see RecoverLanes

	// Refused says why records were refused since the lane was acquired: at most MaxRefused reasons, the most frequent
	// first. Only the MaxRefusedLanes lanes of a hot path that refused most have examples.
	Refused []RefusedRecords `json:"refused,omitempty"`
	// RefusesAll says that every record was refused since the lane was acquired; Reason says why.
	RefusesAll bool `json:"refuses_all,omitempty"`
}

// RefusedRecords are the records that a lane has refused for one reason.
type RefusedRecords struct {
	Reason string         `json:"reason"` // as in the mr-reason header of dead letters
	Count  int64          `json:"count"`
	Last   *RefusedRecord `json:"last,omitempty"`
}

// RefusedRecord is an example of them.
type RefusedRecord struct {
	Offset int64  `json:"offset"`
	Detail string `json:"detail,omitempty"` // what stands there and what would be valid
	Value  string `json:"value,omitempty"`  // its beginning
}

// Bounds of what a heartbeat says about refused records.
const (
	MaxRefused      = 5
	MaxRefusedLanes = 10
)

// MaxStatusLanes bounds the lanes in a heartbeat.
const MaxStatusLanes = 100
