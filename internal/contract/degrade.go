package contract

import (
	"time"

	"millrace/pipeline/report"
)

// LevelSignal says that a state machine has left normal. It comes with the start of a Degrade and on every further departure.
type LevelSignal struct {
	Replica int          `json:"replica"`
	Process string       `json:"process"`
	Queue   string       `json:"queue"`          // host queue of the process
	Disk    string       `json:"disk,omitempty"` // of the process's WAL directory
	After   int64        `json:"after"`          // the changes above this seq are to be told
	At      time.Time    `json:"at"`
	Level   report.Level `json:"level"`
	Reason  string       `json:"reason,omitempty"`
}

// DegradeInput starts a Degrade. The state machines to follow come with SignalLevel.
type DegradeInput struct {
	Version    int           `json:"version"`
	Pipeline   string        `json:"pipeline"`
	Worker     string        `json:"worker"`
	Dependency string        `json:"dependency"`
	State      *DegradeState `json:"state,omitempty"` // carried into the next run
}

// DegradeState is what a Degrade carries into its next run.
type DegradeState struct {
	Began    time.Time            `json:"began"` // of the first change
	Machines []DegradedMachine    `json:"machines,omitempty"`
	Timeline []report.LevelChange `json:"timeline,omitempty"` // newest last, at most MaxTimeline
	Changes  int64                `json:"changes"`            // in all
	Receipts []LevelReceipt       `json:"receipts,omitempty"` // newest last, at most MaxReceipts
	Proof    *JournalProof        `json:"proof,omitempty"`
	Runs     int                  `json:"runs"`

	Generation int64 `json:"generation,omitempty"` // of the overrides: grows whenever somebody sets or lifts one
}

// DegradedMachine is one replica's state machine as a Degrade follows it.
type DegradedMachine struct {
	Replica  int             `json:"replica"`
	Process  string          `json:"process"`
	Queue    string          `json:"queue"`
	Disk     string          `json:"disk,omitempty"`
	Seq      int64           `json:"seq"` // of the last change told
	Level    report.Level    `json:"level"`
	Since    time.Time       `json:"since"`
	Highest  report.Level    `json:"highest"` // level reached
	Override report.Override `json:"override,omitempty"`
	Missed   int64           `json:"missed,omitempty"` // changes the process no longer had
	Times    []LevelTime     `json:"times,omitempty"`
	Ended    string          `json:"ended,omitempty"` // why it is no longer followed: an outcome
}

// LevelTime is how long a level lasted in all.
type LevelTime struct {
	Level report.Level `json:"level"`
	Took  int64        `json:"took_ms"`
}

// WatchLevelInput asks for changes of one state machine.
type WatchLevelInput struct {
	Pipeline     string `json:"pipeline"`
	Replica      int    `json:"replica"`
	Dependency   string `json:"dependency"`
	After        int64  `json:"after"`
	RenewSeconds int64  `json:"renew_seconds"` // after which it returns without a change
}

// WatchLevelResult is the changes since, oldest first, at most MaxChanges, and where the machine stands.
type WatchLevelResult struct {
	Outcome string               `json:"outcome"`
	Changes []report.LevelChange `json:"changes,omitempty"`
	Status  report.LevelStatus   `json:"status"`
}

// OverrideLevelInput sets or lifts an operator's override of one state machine.
type OverrideLevelInput struct {
	Pipeline   string          `json:"pipeline"`
	Replica    int             `json:"replica"`
	Dependency string          `json:"dependency"`
	Override   report.Override `json:"override"` // hold, open, close; empty lifts it
	By         string          `json:"by"`
	Reason     string          `json:"reason,omitempty"`
}

// LevelReceipt answers hold, open, close and auto.
type LevelReceipt struct {
	RequestID string         `json:"request_id"` // the update's id; asking again with it returns this receipt
	Update    string         `json:"update"`
	Reason    string         `json:"reason,omitempty"`
	At        time.Time      `json:"at"`
	Applied   bool           `json:"applied"` // by every state machine that is followed
	Machines  []MachineLevel `json:"machines,omitempty"`
	Input     string         `json:"input,omitempty"`    // Fingerprint of the request
	Repeated  bool           `json:"repeated,omitempty"` // the answer to a request that was answered before

	Generation int64 `json:"generation,omitempty"` // of the overrides then
}

// Past is what a repetition of the request is compared with.
func (r LevelReceipt) Past() Past { return Past{r.RequestID, r.Update, r.Input} }

// MarkRepeated says that the receipt answers a repetition.
func (r *LevelReceipt) MarkRepeated() { r.Repeated = true }

// MachineLevel is where one replica's state machine stands after an override, or why it has not taken it.
type MachineLevel struct {
	Replica int                `json:"replica"`
	Status  report.LevelStatus `json:"status"`
	Problem string             `json:"problem,omitempty"`
}

// JournalAccountsInput asks for the books of a process's journal.
type JournalAccountsInput struct {
	Pipeline string `json:"pipeline"`
}

// JournalProof is a journal's books and whether they balance: spilled = drained + superseded, nothing pending.
type JournalProof struct {
	report.JournalAccounts
	Balanced bool      `json:"balanced"`
	At       time.Time `json:"at"`
	Text     string    `json:"text"`
}

// DegradeResult tells a degradation from beginning to end.
type DegradeResult struct {
	Pipeline   string               `json:"pipeline"`
	Worker     string               `json:"worker"`
	Dependency string               `json:"dependency"`
	Outcome    string               `json:"outcome"`
	Note       string               `json:"note,omitempty"`
	Began      time.Time            `json:"began"`
	Ended      time.Time            `json:"ended"`
	Changes    int64                `json:"changes"`
	Timeline   []report.LevelChange `json:"timeline,omitempty"` // newest last, at most MaxTimeline
	Machines   []DegradedMachine    `json:"machines,omitempty"`
	Proof      *JournalProof        `json:"proof,omitempty"`
	Overrides  []LevelReceipt       `json:"overrides,omitempty"`
}

// DegradeStatus answers the status query of a Degrade.
type DegradeStatus struct {
	Pipeline   string               `json:"pipeline"`
	Worker     string               `json:"worker"`
	Dependency string               `json:"dependency"`
	State      string               `json:"state"`
	Note       string               `json:"note,omitempty"`
	Began      time.Time            `json:"began"`
	Changes    int64                `json:"changes"`
	Machines   []DegradedMachine    `json:"machines,omitempty"`
	Timeline   []report.LevelChange `json:"timeline,omitempty"`
	Proof      *JournalProof        `json:"proof,omitempty"`
	Receipts   []LevelReceipt       `json:"receipts,omitempty"`
	Generation int64                `json:"generation,omitempty"` // of the overrides, for expect_generation
}

// Bounds of what travels about degradations.
const (
	MaxTimeline     = 200 // changes in carried state, status and result
	MaxChanges      = 100 // changes in one WatchLevelResult
	MaxLevelNumbers = 12
	MaxMachines     = 64
)
