package contract

import "time"

// Refusal is why a worker cannot run a hot path.
type Refusal struct {
	Worker string    `json:"worker"`
	Reason string    `json:"reason"`
	Times  int       `json:"times,omitempty"` // asked and refused, in a row
	At     time.Time `json:"at"`              // the last time
}

// MaxRefusals bounds the workers in a list of refusals; those that were asked last stay.
const MaxRefusals = 10

// HolderGone tells a Replica that the process which runs its hot path is gone: its lease was freed, so the replica can be placed
// anew before the attempt's heartbeats are missed. A process that lives all the same loses the lanes to the next owner's tokens.
type HolderGone struct {
	Queue  string `json:"queue"`  // host queue of the process
	Worker string `json:"worker"` // its name
	By     string `json:"by"`     // the worker that noticed
	Reason string `json:"reason"`
}

// HandOver asks a Replica to move its hot path to another process, which is asked first whether it can run it.
type HandOver struct {
	From   string `json:"from"`   // host queue of the process where it runs
	To     string `json:"to"`     // host queue of the process where it should run
	Worker string `json:"worker"` // name of the latter
	Reason string `json:"reason,omitempty"`
}

// PlaceReceipt answers holder-gone and hand-over.
type PlaceReceipt struct {
	Taken bool   `json:"taken"`
	Note  string `json:"note,omitempty"` // why not
}
