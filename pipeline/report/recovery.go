package report

import (
	"strconv"
	"time"
)

// Steps are the steps of a recovery, in order. Each is carried out for all lanes of a batch at once.
func Steps() []string {
	return []string{StepAcquire, StepJournal, StepRestore, StepVerify, StepResume}
}

// RecoveryBatch is lanes that one hot path was given together.
type RecoveryBatch struct {
	Pipeline string    `json:"pipeline"`
	Replica  int       `json:"replica"`
	Process  string    `json:"process"`
	Worker   string    `json:"worker"` // for people
	Queue    string    `json:"queue"`  // host queue of the process
	Batch    int64     `json:"batch"`  // unique within the process
	Began    time.Time `json:"began"`
	Reason   string    `json:"reason,omitempty"` // one line for people: start, rebalance, fenced, parked while running
	// MidRun batches are of lanes that had resumed and have parked since: they come with a report, and no step is left to be run.
	MidRun bool      `json:"mid_run,omitempty"`
	Lanes  []LaneRef `json:"lanes"`           // at most contract.MaxRecoveryLanes
	More   int       `json:"more,omitempty"`  // lanes left out of the list
	Storm  *Storm    `json:"storm,omitempty"` // set when rebalances come too often
	Trace  string    `json:"trace,omitempty"` // W3C trace context of the recovery's span, where recoveries are traced
}

// RecoveredLane is what a recovery has found and done for one lane so far.
type RecoveredLane struct {
	Topic     string        `json:"topic"`
	Partition int32         `json:"partition"`
	State     string        `json:"state"`             // one of Lane...
	Token     string        `json:"token,omitempty"`   // of the acquisition, once it is made
	FromEpoch int64         `json:"from_epoch"`        // of the owner before, 0 when there was none
	ToEpoch   int64         `json:"to_epoch"`          // of the acquisition
	Entries   int64         `json:"entries"`           // restored
	Bytes     int64         `json:"bytes"`             // restored
	Offset    int64         `json:"offset"`            // from which it reads on, -1 when not known
	LogStart  int64         `json:"log_start"`         // of the partition
	LogEnd    int64         `json:"log_end"`           // of the partition
	Reread    int64         `json:"reread"`            // records that had been read before
	Journal   *SettledChain `json:"journal,omitempty"` // what became of its journal, if it had one here
	Steps     []StepTime    `json:"steps,omitempty"`
	Incident  *Incident     `json:"incident,omitempty"`
	Note      string        `json:"note,omitempty"`
}

// Lane is which lane it is.
func (l *RecoveredLane) Lane() LaneRef { return LaneRef{l.Topic, l.Partition} }

// Log is the range of the partition's offsets, with "?" for a bound that is not known.
func (l RecoveredLane) Log() string {
	bound := func(n int64) string {
		if n < 0 {
			return "?"
		}
		return strconv.FormatInt(n, 10)
	}
	return bound(l.LogStart) + "–" + bound(l.LogEnd)
}

// StepTime is one step of one lane.
type StepTime struct {
	Step  string    `json:"step"`
	By    string    `json:"by"` // temporal or inline
	Began time.Time `json:"began"`
	Took  int64     `json:"took_us"`
}

// StepReport is where the lanes of a batch stand after a step, and the step's sums over all of them. A lane's element replaces the
// one of the step before.
type StepReport struct {
	Step    string          `json:"step"`
	By      string          `json:"by"` // who came first: temporal or inline
	Began   time.Time       `json:"began"`
	Took    int64           `json:"took_us"`           // from the first lane's start to the last one's end
	Slowest string          `json:"slowest,omitempty"` // lane
	Most    int64           `json:"most_us"`           // of the slowest lane
	Sums    StepSums        `json:"sums"`
	Lanes   []RecoveredLane `json:"lanes,omitempty"` // at most contract.MaxRecoveryLanes, those with an incident first
	More    int             `json:"more,omitempty"`  // lanes left out of the list
}

// StepSums are a step's sums over all lanes of the batch.
type StepSums struct {
	Lanes   int   `json:"lanes"`
	Done    int   `json:"done"`
	Parked  int   `json:"parked"`
	Gone    int   `json:"gone"` // revoked or fenced
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
	Reread  int64 `json:"reread"`
	Drained int64 `json:"drained_commits"`
}

// RecoveryReport is a batch that is done.
type RecoveryReport struct {
	Batch RecoveryBatch   `json:"batch"`
	Ended time.Time       `json:"ended"`
	Steps []StepReport    `json:"steps,omitempty"` // durations and who; without lanes
	Lanes []RecoveredLane `json:"lanes"`
	More  int             `json:"more,omitempty"`
}

// Storm is an incident: lanes change owners too often, and recoveries are held back until they stop.
type Storm struct {
	Since    time.Time    `json:"since"`
	Changes  int          `json:"changes"`
	Delay    int64        `json:"delay_ms"`           // by which the latest recovery was held back
	Timeline []StormEvent `json:"timeline,omitempty"` // newest last, at most contract.MaxStormEvents
}

// StormEvent is one change of assignment in a storm.
type StormEvent struct {
	At    time.Time `json:"at"`
	Lanes int       `json:"lanes"` // that came with it
	Delay int64     `json:"delay_ms"`
}
