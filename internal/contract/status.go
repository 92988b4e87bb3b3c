package contract

import (
	"time"

	"millrace/pipeline/report"
)

// PipelineStatus answers the status query of a Pipeline.
type PipelineStatus struct {
	Pipeline   string              `json:"pipeline"`
	State      string              `json:"state"`
	Note       string              `json:"note,omitempty"`
	Since      time.Time           `json:"since"`
	Generation int64               `json:"generation"`
	Replicas   int                 `json:"replicas"`
	Topics     []TopicInfo         `json:"topics,omitempty"`
	Windows    []string            `json:"windows,omitempty"`
	Children   []ChildState        `json:"children,omitempty"`
	Attached   []ChildState        `json:"attached,omitempty"` // recoveries, degradations and journal replays that wait for somebody
	Standing   *Standing           `json:"standing,omitempty"` // as far as the workflow knows
	Receipts   []ReceiptHead       `json:"receipts,omitempty"` // newest last
	Runs       int                 `json:"runs"`
	Orders     []report.LevelOrder `json:"orders,omitempty"`  // overrides of levels on all workers
	Pending    []Pending           `json:"pending,omitempty"` // what it waits for now, oldest first
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
	Pipeline string                `json:"pipeline"`
	State    string                `json:"state"`
	Note     string                `json:"note,omitempty"`
	Closed   int64                 `json:"closed"`
	Last     *report.ClosedWindow  `json:"last,omitempty"`
	Promoted []report.FailedWindow `json:"promoted,omitempty"`
	Kept     *report.Kept          `json:"kept,omitempty"` // as of the last CloseDue that ended
	Jobs     []string              `json:"jobs,omitempty"` // ids of those that wait or are under way
	Troubles []JobTrouble          `json:"troubles,omitempty"`
}

// JobTrouble says why a job has not succeeded yet. It is tried again when the others have had their turn.
type JobTrouble struct {
	ID  string `json:"id"`
	Why string `json:"why"`
}

// CloseWindowStatus answers the status query of a CloseWindow.
type CloseWindowStatus struct {
	Pipeline string           `json:"pipeline"`
	Window   report.WindowRef `json:"window"`
	Problem  string           `json:"problem,omitempty"`
}

// EngineStatus is what a hot path says of itself; it travels as the details of Run's heartbeats.
type EngineStatus struct {
	Pipeline    string              `json:"pipeline"`
	Replica     int                 `json:"replica"`
	Worker      string              `json:"worker,omitempty"`
	Disk        string              `json:"disk,omitempty"` // of the worker's WAL directory
	State       string              `json:"state"`
	Reason      string              `json:"reason,omitempty"`
	Memory      int64               `json:"memory_bytes"`
	MemoryLimit int64               `json:"memory_limit_bytes"`
	GoLimit     int64               `json:"go_memory_limit_bytes,omitempty"` // of the worker's whole Go memory; 0 without one
	GoLimitWhy  string              `json:"go_memory_limit_why,omitempty"`
	Rate        float64             `json:"events_per_second"`
	Lag         int64               `json:"lag"`
	Unread      string              `json:"unread,omitempty"` // why it could not read what is commanded at the last try
	Owned       int                 `json:"owned"`            // lanes owned here
	Storm       *report.Storm       `json:"storm,omitempty"`  // a rebalance storm that goes on; without its timeline
	Times       *report.LaneTimes   `json:"times,omitempty"`  // of all lanes owned here, also of those that Lanes leaves out
	Lanes       []report.LaneStatus `json:"lanes,omitempty"`  // at most MaxStatusLanes, those in trouble and with the greatest lag first

	Dependencies []report.DependencyStatus `json:"dependencies,omitempty"` // those that are not at normal, or are overridden
}

// Bounds of what a heartbeat says about refused records.
const (
	MaxRefused      = 5
	MaxRefusedLanes = 10
)

// MaxStatusLanes bounds the lanes in a heartbeat.
const MaxStatusLanes = 100
