package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/pipeline/report"
)

// Version of the carried state written by this release. Newer state decodes too: unknown fields are ignored there.
const Version = 1

// PipelineInput starts a Pipeline. A user gives the bare spec (what `millrace spec json` prints), or the long form to say where
// the lanes begin; the workflow gives itself the long form when it continues as new.
type PipelineInput struct {
	Version      int             `json:"version,omitempty"`
	Spec         json.RawMessage `json:"spec"`
	From         *From           `json:"from,omitempty"`          // where the lanes of a pipeline without state begin
	DiscardState bool            `json:"discard_state,omitempty"` // a new incarnation: the state that is there goes first
	State        *PipelineState  `json:"state,omitempty"`
	Unknown      []string        `json:"-"` // fields beside these; refused by name on a first start
	Wrong        string          `json:"-"` // the first value of a wrong type; refused
}

// Validate refuses unknown fields by name, values of a wrong type, and a discard that does not say where to begin.
func (in PipelineInput) Validate() error {
	switch {
	case in.Wrong != "":
		return fmt.Errorf("pipeline: %s; start with the output of `millrace spec json FILE`", in.Wrong)
	case in.State != nil:
		return nil
	case len(in.Unknown) > 0:
		return fmt.Errorf("unknown field %q beside the spec; start with the output of `millrace spec json FILE`",
			strings.Join(in.Unknown, ", "))
	case in.DiscardState && in.From == nil:
		return fmt.Errorf("discard_state is true and from is missing: say where the new incarnation begins; want %s", wantFrom)
	}
	return nil
}

// Begin is what the input says about the beginning, nil when it says nothing.
func (in PipelineInput) Begin(id string) *Begin {
	if in.From == nil {
		return nil
	}
	return &Begin{ID: id, From: *in.From, Discard: in.DiscardState}
}

// UnmarshalJSON accepts both forms. An object with neither "spec" nor "state" is a bare spec, which is parsed strictly later.
func (in *PipelineInput) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		in.Wrong = "the input is " + excerpt(data) + "; want a spec, an object with fields"
		return nil
	}
	_, spec := fields["spec"]
	_, state := fields["state"]
	if !spec && !state {
		*in = PipelineInput{Spec: bytes.Clone(data)}
		return nil
	}
	type plain PipelineInput
	return decodeKnown(data, (*plain)(in), wants{"from": wantFrom}, &in.Unknown, &in.Wrong)
}

// PipelineState is what a Pipeline carries into its next run.
type PipelineState struct {
	Since      time.Time           `json:"since"`      // when the pipeline was first started
	Runs       int                 `json:"runs"`       // times it continued as new
	Generation int64               `json:"generation"` // of the desired state last written
	Paused     bool                `json:"paused,omitempty"`
	Reason     string              `json:"reason,omitempty"`     // of the last pause or resume
	PausedAt   time.Time           `json:"paused_at,omitzero"`   // zero unless paused
	CommitNow  string              `json:"commit_now,omitempty"` // the last flush
	Orders     []report.LevelOrder `json:"orders,omitempty"`     // overrides on all workers
	Replicas   int                 `json:"replicas"`
	Topics     []TopicInfo         `json:"topics,omitempty"`
	Children   []ChildState        `json:"children,omitempty"`
	Attached   []ChildState        `json:"attached,omitempty"` // recoveries, degradations and journal replays that wait for somebody
	Receipts   []Receipt           `json:"receipts,omitempty"` // newest last, at most MaxReceipts
	Owed       bool                `json:"owed,omitempty"`     // what was commanded could not be written to Redis yet
	Begun      []LaneStart         `json:"begun,omitempty"`    // where the lanes began, of a start that said so
	Begin      string              `json:"begin,omitempty"`    // id of that start
	Warnings   []string            `json:"warnings,omitempty"` // of the start
}

// PipelineResult is how a pipeline ended.
type PipelineResult struct {
	Pipeline string `json:"pipeline"`
	Outcome  string `json:"outcome"`
	Drained  bool   `json:"drained"`
	By       string `json:"by,omitempty"` // id of the update that stopped it
	Note     string `json:"note,omitempty"`
}

// ReplicaInput starts a Replica.
type ReplicaInput struct {
	Version    int             `json:"version"`
	Pipeline   string          `json:"pipeline"`
	Replica    int             `json:"replica"`
	Spec       json.RawMessage `json:"spec"`
	Moves      int             `json:"moves,omitempty"`      // placements on another worker than before
	Placements []Placement     `json:"placements,omitempty"` // newest last, at most MaxPlacements
}

// Placement is one stay of a hot path on a worker.
type Placement struct {
	Worker string    `json:"worker"`
	Queue  string    `json:"queue"`
	Since  time.Time `json:"since"`
	Ended  string    `json:"ended,omitempty"` // why it ended; empty while it lasts
}

// ReplicaResult is how a replica ended.
type ReplicaResult struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
	Moves   int    `json:"moves"`
}

// CloseWindowsInput starts a pipeline's closer.
type CloseWindowsInput struct {
	Version  int                   `json:"version"`
	Pipeline string                `json:"pipeline"`
	Spec     json.RawMessage       `json:"spec"`
	Closed   int64                 `json:"closed,omitempty"`   // revisions published so far
	Last     *report.ClosedWindow  `json:"last,omitempty"`     // the latest of them
	Promoted []report.FailedWindow `json:"promoted,omitempty"` // windows with a workflow of their own, at most MaxPromoted
	Jobs     []CarryOutJob         `json:"jobs,omitempty"`     // to be carried out, without spec; the first may have begun
	Answers  []CarriedOut          `json:"answers,omitempty"`  // to the latest jobs that were carried out
}

// CloseWindowsResult is how a closer ended.
type CloseWindowsResult struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
	Closed  int64  `json:"closed"`
}

// CloseWindowInput starts the workflow of one window that keeps failing.
type CloseWindowInput struct {
	Version  int              `json:"version"`
	Pipeline string           `json:"pipeline"`
	Spec     json.RawMessage  `json:"spec"`
	Window   report.WindowRef `json:"window"`
	Problem  string           `json:"problem,omitempty"` // the failure it was promoted for
}

// CloseWindowResult is how one window was closed.
type CloseWindowResult struct {
	Outcome string               `json:"outcome"`
	Closed  *report.ClosedWindow `json:"closed,omitempty"`
}

// Bounds of carried state.
const (
	MaxReceipts      = 50
	MaxReceiptsBytes = 512 << 10
	MaxPlacements    = 10
	MaxPromoted      = 100
	MaxReplicas      = 256
	MaxAttached      = 64 // workflows beside the children that a pipeline keeps the state of
	MaxWaits         = 20 // of one report
)

// StopSignal asks a child to end.
type StopSignal struct {
	Reason string `json:"reason"`
}

// ChildReport is a child's word to its parent.
type ChildReport struct {
	ID       string `json:"id"`        // workflow id of the child
	FirstRun string `json:"first_run"` // first run of its chain, so that an old child's end is not taken for a new one's
	State    string `json:"state"`
	Worker   string `json:"worker,omitempty"`
	Note     string `json:"note,omitempty"`
	ChildWaits
}

// Equal reports whether two reports say the same.
func (r ChildReport) Equal(other ChildReport) bool {
	a, b := r.ChildWaits, other.ChildWaits
	return r.ID == other.ID && r.FirstRun == other.FirstRun && r.State == other.State && r.Worker == other.Worker && r.Note == other.Note &&
		slices.Equal(a.Waits, b.Waits) && a.MoreWaits == b.MoreWaits && a.Override == b.Override && a.Queue == b.Queue &&
		a.LevelSince.Equal(b.LevelSince)
}

// ChildWaits is what a child waits for, beyond its state.
type ChildWaits struct {
	Waits      []Wait          `json:"waits,omitempty"`      // at most MaxWaits
	MoreWaits  int             `json:"more_waits,omitempty"` // left out of the list
	Override   report.Override `json:"override,omitempty"`   // the operator's, of a Degrade
	Queue      string          `json:"queue,omitempty"`      // of the process where a replica is placed
	LevelSince time.Time       `json:"level_since,omitzero"` // of a Degrade
}

// Wait is one thing that is waited for.
type Wait struct {
	For   string    `json:"for"` // a lane, a window
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since,omitzero"`        // when it is not as old as the child's state
	ID    string    `json:"workflow_id,omitempty"` // of the workflow that shows it, when that is another one than the child's
}

// ChildState is what a parent knows of a child.
type ChildState struct {
	ID     string    `json:"id"`
	State  string    `json:"state"`
	Worker string    `json:"worker,omitempty"`
	Note   string    `json:"note,omitempty"`
	Since  time.Time `json:"since"`
	Starts int       `json:"starts,omitempty"`
	ChildWaits
}
