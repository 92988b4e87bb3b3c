package contract

import (
	"encoding/json"

	"millrace/pipeline/report"
)

// SpecInput is the input of activities that need nothing but the pipeline.
type SpecInput struct {
	Spec  json.RawMessage `json:"spec"`
	Begin *Begin          `json:"begin,omitempty"` // of a start that says where its lanes begin
}

// Topics is what EnsureTopics found or made.
type Topics struct {
	Sources []TopicInfo `json:"sources"`
	Created []string    `json:"created,omitempty"`
	// Warnings say what may go wrong later with a topic that is read.
	Warnings []string `json:"warnings,omitempty"`
}

// TopicInfo is a topic and its number of partitions.
type TopicInfo struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
}

// Desired is a pipeline's desired state; owners of lanes read it, adopt it at a snapshot and write its generation into meta.
type Desired struct {
	Generation int64  `json:"generation"`
	Paused     bool   `json:"paused,omitempty"`
	Stopping   bool   `json:"stopping,omitempty"`
	CommitNow  string `json:"commit_now,omitempty"` // id of the last flush; a new one asks for a commit at once
	Begun      string `json:"begun,omitempty"`      // id of the start that has begun the lanes

	Orders []report.LevelOrder `json:"orders,omitempty"` // overrides on all workers
}

// PipelineRef names a pipeline.
type PipelineRef struct {
	Pipeline string `json:"pipeline"`
}

// DesiredChange changes desired state; nil fields stay as they are, so that commands under way at the same time do not
// undo one another.
type DesiredChange struct {
	RequestID string  `json:"request_id"` // repeating one changes nothing and answers with the generation it got
	Above     int64   `json:"above"`      // the new generation is greater than this, also after Redis forgot it
	Paused    *bool   `json:"paused,omitempty"`
	Stopping  *bool   `json:"stopping,omitempty"`
	CommitNow *string `json:"commit_now,omitempty"`
	Begun     *string `json:"begun,omitempty"`

	Orders *[]report.LevelOrder `json:"orders,omitempty"` // all that are in force then
}

// WriteDesiredInput changes the desired state of a pipeline.
type WriteDesiredInput struct {
	Pipeline string        `json:"pipeline"`
	Replicas int           `json:"replicas"` // whose holders to look up
	Change   DesiredChange `json:"change"`
}

// WrittenDesired is the generation the change got and where the hot paths are, so that they can be nudged.
type WrittenDesired struct {
	Generation int64    `json:"generation"`
	Queues     []string `json:"queues,omitempty"`
}

// AwaitAppliedInput waits until every lane's meta holds a generation at least this high, or the deadline passes.
type AwaitAppliedInput struct {
	Spec            json.RawMessage `json:"spec"`
	Generation      int64           `json:"generation"`
	DeadlineSeconds int             `json:"deadline_seconds"`
	Replicas        int             `json:"replicas,omitempty"` // whose heartbeats say which lanes are parked
	// UntilOneAsks ends the wait as soon as one lane that is missing waits for a decision; without it, all have to.
	UntilOneAsks bool `json:"until_one_asks,omitempty"`
}

// Applied is where the lanes stood when AwaitApplied or AwaitDrained returned.
type Applied struct {
	Lanes   []report.LaneReceipt `json:"lanes,omitempty"`
	Missing []report.LaneMissing `json:"missing,omitempty"`
}

// EndOffsets are the last stable offsets of all lanes.
type EndOffsets struct {
	Ends []report.LaneEnd `json:"ends"`
}

// AwaitDrainedInput waits until every lane has committed to its end. It gives up at once when a lagging lane waits for a
// decision, when no lagging lane has moved or no lane could be read for StallSeconds, and after DeadlineSeconds.
type AwaitDrainedInput struct {
	Spec            json.RawMessage  `json:"spec"`
	Ends            []report.LaneEnd `json:"ends"`
	StallSeconds    int              `json:"stall_seconds"`
	DeadlineSeconds int              `json:"deadline_seconds"`
	Replicas        int              `json:"replicas,omitempty"` // whose heartbeats say which lanes are parked
}

// LaneState is what is durable about a lane.
type LaneState struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Found      bool   `json:"found"` // the lane has been acquired at least once
	Owner      string `json:"owner,omitempty"`
	Generation int64  `json:"generation"` // of desired state it has adopted
	Offset     int64  `json:"offset"`     // next offset to read, -1 before the first commit
	UpdatedAt  int64  `json:"updated_at"` // ms, of its last commit
	Trouble    string `json:"trouble,omitempty"`
	Asks       bool   `json:"asks,omitempty"`   // it is parked until somebody decides
	Outage     string `json:"outage,omitempty"` // why its commits do not reach Redis
}

// ReconcileInput asks which workflows are open and, given Desired, puts desired state back if Redis lost it.
type ReconcileInput struct {
	Pipeline  string   `json:"pipeline"`
	Children  []string `json:"children,omitempty"`
	Desired   *Desired `json:"desired,omitempty"`
	RequestID string   `json:"request_id,omitempty"` // of the change that restores
}

// Reconciled lists the children that are not open.
type Reconciled struct {
	Closed     []string `json:"closed,omitempty"`
	Restored   bool     `json:"restored,omitempty"` // desired state was missing and has been written again
	Generation int64    `json:"generation"`         // of the desired state stored now
}

// ReplicaRef names a replica.
type ReplicaRef struct {
	Pipeline string `json:"pipeline"`
	Replica  int    `json:"replica"`
}

// ClaimInput asks where a replica should run.
type ClaimInput struct {
	Pipeline string `json:"pipeline"`
	Replica  int    `json:"replica"`
	Moving   bool   `json:"moving,omitempty"` // it ran before, so lanes wait: the first worker that answers will do

	Spec    json.RawMessage `json:"spec,omitempty"`    // a worker that cannot run it refuses at once
	Refused []Refusal       `json:"refused,omitempty"` // what is known already; an answer tells of others
	Offer   bool            `json:"offer,omitempty"`   // on a host queue: would this process take the hot path from its holder?
}

// Claimed says on which host queue the replica should run.
type Claimed struct {
	Worker string `json:"worker"`
	Queue  string `json:"queue"`
	Held   bool   `json:"held"` // the hot path runs there already

	Refused []Refusal `json:"refused,omitempty"` // nobody was found yet: these workers cannot run it
}

// RunInput places a hot path.
type RunInput struct {
	Pipeline     string          `json:"pipeline"`
	Replica      int             `json:"replica"`
	Spec         json.RawMessage `json:"spec"`
	RenewSeconds int64           `json:"renew_seconds"` // after which the attempt returns so that its workflow can continue as new
}

// RunResult is how a stay ended when it ended well.
type RunResult struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
}

// CloseDueInput waits for closable windows and closes them.
type CloseDueInput struct {
	Pipeline string             `json:"pipeline"`
	Spec     json.RawMessage    `json:"spec"`
	Skip     []report.WindowRef `json:"skip,omitempty"` // windows with a workflow of their own
}

// CloseDueResult is what one CloseDue did. Its JSON stays below 64 KB; the rows are in the ledger.
type CloseDueResult struct {
	Outcome string                `json:"outcome"`
	Count   int                   `json:"count"`
	Closed  []report.ClosedWindow `json:"closed,omitempty"`
	Failed  []report.FailedWindow `json:"failed,omitempty"`
	Waiting report.Waiting        `json:"waiting"`
	Kept    *report.Kept          `json:"kept,omitempty"` // as of the last round that counted it
}

// CloseDueDetails are the details of CloseDue's heartbeats.
type CloseDueDetails struct {
	Closed  int            `json:"closed"`
	Waiting report.Waiting `json:"waiting"`
	Problem string         `json:"problem,omitempty"` // why the last round failed as a whole
	Kept    *report.Kept   `json:"kept,omitempty"`

	Times *report.ClosingTimes `json:"times,omitempty"`

	Open *report.OpenTransaction `json:"open_transaction,omitempty"` // that rows go out in as they come

	Failing []report.FailedWindow    `json:"failing,omitempty"` // windows that the last round could not close, at most MaxFailing
	Results *report.DependencyStatus `json:"results,omitempty"` // where results go, when that is not at normal or is overridden
}

// MaxFailing bounds the windows in CloseDueDetails.
const MaxFailing = 10

// CloseOneInput closes one window, whatever it takes.
type CloseOneInput struct {
	Spec   json.RawMessage  `json:"spec"`
	Window report.WindowRef `json:"window"`
}

// CloseOneResult is the revision that stands after CloseOne.
type CloseOneResult struct {
	Published bool                `json:"published"`
	Closed    report.ClosedWindow `json:"closed"`
	Gone      bool                `json:"gone,omitempty"` // not closed: the pipeline's workflow is closed, and trying failed
}

// EmitInput publishes all open windows as they stand, for a flush or a drain.
type EmitInput struct {
	Spec   json.RawMessage  `json:"spec"`
	Reason string           `json:"reason"`
	Ends   []report.LaneEnd `json:"ends,omitempty"` // a drain's promise: covered offsets reach these
}
