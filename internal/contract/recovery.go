package contract

import (
	"time"

	"millrace/pipeline/report"
)

// RecoverStepInput asks for one step of a batch.
type RecoverStepInput struct {
	Pipeline string `json:"pipeline"`
	Replica  int    `json:"replica"`
	Batch    int64  `json:"batch"`
	Step     string `json:"step"`
}

// DecideIncidentInput carries an operator's choice to the lane.
type DecideIncidentInput struct {
	Pipeline  string `json:"pipeline"`
	Replica   int    `json:"replica"`
	Batch     int64  `json:"batch"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Incident  string `json:"incident"`
	Choice    string `json:"choice"`
	By        string `json:"by"`
}

// DecidedIncident is the lane after the decision as far as it is known.
type DecidedIncident struct {
	Lane *report.RecoveredLane `json:"lane,omitempty"`
}

// LaneOwnersInput asks who owns lanes now.
type LaneOwnersInput struct {
	Pipeline string           `json:"pipeline"`
	Lanes    []report.LaneRef `json:"lanes"`
	Replica  *int             `json:"replica,omitempty"` // whose hot path was given the lanes
}

// LaneOwner is the owner token a lane's meta holds.
type LaneOwner struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Token     string `json:"token,omitempty"` // empty: nobody has acquired it yet
	Epoch     int64  `json:"epoch,omitempty"`
	Gone      bool   `json:"gone,omitempty"`    // Redis does not know the lane and its pipeline is closed: nobody will acquire it
	Stopped   bool   `json:"stopped,omitempty"` // the pipeline is closed and nobody runs the replica: the next start acquires the lane
}

// LaneOwners are the owners of the lanes asked for.
type LaneOwners struct {
	Lanes []LaneOwner `json:"lanes"`
}

// DecisionReceipt answers a decision. One about all lanes has what became of each in Lanes, and is applied if it is for each.
type DecisionReceipt struct {
	RequestID string    `json:"request_id"` // the update's id; asking again with it returns this receipt
	Topic     string    `json:"topic,omitempty"`
	Partition *int32    `json:"partition,omitempty"`
	Incident  string    `json:"incident"` // its kind
	Choice    string    `json:"choice"`
	Cost      string    `json:"cost,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	At        time.Time `json:"at"`
	Applied   bool      `json:"applied"`
	Note      string    `json:"note,omitempty"`
	Input     string    `json:"input,omitempty"`    // Fingerprint of the request
	Repeated  bool      `json:"repeated,omitempty"` // the answer to a request that was answered before

	Lanes []LaneDecision `json:"lanes,omitempty"` // at most MaxDecisionLanes, those that did not get it first
	More  int            `json:"more,omitempty"`  // lanes left out of the list
}

// LaneDecision is what became of a decision for one lane.
type LaneDecision struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Incident  string `json:"incident,omitempty"` // its kind
	Cost      string `json:"cost,omitempty"`
	Applied   bool   `json:"applied"`
	Note      string `json:"note,omitempty"`
}

// Past is what a repetition of the request is compared with.
func (r DecisionReceipt) Past() Past { return Past{r.RequestID, UpdateDecide, r.Input} }

// MarkRepeated says that the receipt answers a repetition.
func (r *DecisionReceipt) MarkRepeated() { r.Repeated = true }

// RecoverInput starts a RecoverLanes: with a batch that begins, or with the report of one that was done without Temporal.
type RecoverInput struct {
	Version int                    `json:"version"`
	Batch   report.RecoveryBatch   `json:"batch"`
	Report  *report.RecoveryReport `json:"report,omitempty"` // its Batch is empty: it is the one above
	State   *RecoverState          `json:"state,omitempty"`  // carried into the next run
}

// RecoverState is what a RecoverLanes carries into its next run.
type RecoverState struct {
	Done     int                    `json:"done"` // steps that are done
	Steps    []report.StepReport    `json:"steps,omitempty"`
	Lanes    []report.RecoveredLane `json:"lanes,omitempty"`
	Receipts []DecisionReceipt      `json:"receipts,omitempty"` // newest last, at most MaxReceipts
	First    []LaneOwner            `json:"first,omitempty"`    // owners of lanes without a token when the host was first missed
	Runs     int                    `json:"runs"`
}

// RecoverResult is what a recovery came to.
type RecoverResult struct {
	Pipeline  string                 `json:"pipeline"`
	Replica   int                    `json:"replica"`
	Worker    string                 `json:"worker"`
	Batch     int64                  `json:"batch"`
	Outcome   string                 `json:"outcome"`
	Note      string                 `json:"note,omitempty"`
	By        string                 `json:"by"` // temporal, inline or mixed
	Began     time.Time              `json:"began"`
	Ended     time.Time              `json:"ended"`
	Steps     []report.StepReport    `json:"steps,omitempty"` // without lanes
	Totals    RecoverTotals          `json:"totals"`
	Lanes     []report.RecoveredLane `json:"lanes,omitempty"`
	Decisions []DecisionReceipt      `json:"decisions,omitempty"`
	Storm     *report.Storm          `json:"storm,omitempty"`
}

// RecoverTotals sums up a batch.
type RecoverTotals struct {
	Lanes      int   `json:"lanes"`
	Running    int   `json:"running"`
	Superseded int   `json:"superseded"`
	Incidents  int   `json:"incidents"`
	Entries    int64 `json:"entries"`
	Bytes      int64 `json:"bytes"`
	Reread     int64 `json:"reread"`
	Drained    int64 `json:"drained_commits"` // from journals
}

// RecoverStatus answers the status query of a RecoverLanes.
type RecoverStatus struct {
	Batch    report.RecoveryBatch   `json:"batch"`
	State    string                 `json:"state"`
	Note     string                 `json:"note,omitempty"`
	Step     string                 `json:"step,omitempty"` // under way or next
	Steps    []report.StepReport    `json:"steps,omitempty"`
	Totals   RecoverTotals          `json:"totals"`
	Lanes    []report.RecoveredLane `json:"lanes,omitempty"`
	Receipts []DecisionReceipt      `json:"receipts,omitempty"`
}
