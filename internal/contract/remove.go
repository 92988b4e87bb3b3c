package contract

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"millrace/pipeline/spec"
)

// RemovedPrefix begins the owner that a Remove gives to the lanes it fences, as store.Token.Removed knows it.
const RemovedPrefix = "removed:"

// RemoveInput starts a Remove. A user gives the pipeline and, if they like, the rest.
type RemoveInput struct {
	Version      int             `json:"version,omitempty"`
	Pipeline     string          `json:"pipeline"`
	Topics       bool            `json:"topics,omitempty"`        // delete the topics that the pipeline writes, too
	GraceSeconds int             `json:"grace_seconds,omitempty"` // 0: OrphanGrace
	Approved     bool            `json:"approved,omitempty"`      // do not ask
	DryRun       bool            `json:"dry_run,omitempty"`       // only say what would be deleted
	Spec         json.RawMessage `json:"spec,omitempty"`          // of the pipeline, where Temporal does not know it any more
	Unknown      []string        `json:"-"`
	Wrong        string          `json:"-"`
}

// UnmarshalJSON collects unknown fields, which are refused by name.
func (in *RemoveInput) UnmarshalJSON(data []byte) error {
	type plain RemoveInput
	return decodeKnown(data, (*plain)(in), wants{"grace_seconds": wantRemoveGrace(), "spec": "a spec as JSON"}, &in.Unknown, &in.Wrong)
}

// Validate refuses unknown fields by name, names that no pipeline can have, and a grace that makes no sense.
func (in RemoveInput) Validate() error {
	if err := refuse("remove", in.Wrong, in.Unknown, "pipeline, topics, grace_seconds, approved, dry_run, spec"); err != nil {
		return err
	}
	if in.Pipeline == "" {
		return fmt.Errorf(`remove: pipeline is missing; want {"pipeline":"orders"}`)
	}
	if err := spec.CheckName(in.Pipeline); err != nil {
		return fmt.Errorf("remove: pipeline: %w", err)
	}
	if g := in.GraceSeconds; g != 0 && (g < int(MinRemoveGrace.Seconds()) || g > int(MaxRemoveGrace.Seconds())) {
		return fmt.Errorf("remove: grace_seconds is %d; want %s, or 0 for the default, %s", g, wantRemoveGrace(),
			spec.Duration(OrphanGrace))
	}
	return nil
}

func wantRemoveGrace() string {
	return fmt.Sprintf("whole seconds, %d to %d", int(MinRemoveGrace.Seconds()), int(MaxRemoveGrace.Seconds()))
}

// Command is the command line that starts such a removal, or follows one that runs.
func (in RemoveInput) Command() string {
	words := []string{"millrace rm", in.Pipeline}
	if in.Topics {
		words = append(words, "--topics")
	}
	if in.Grace() != OrphanGrace {
		words = append(words, "--grace", spec.Duration(in.Grace()).String())
	}
	if len(in.Spec) > 0 {
		words = append(words, "--spec FILE")
	}
	return strings.Join(words, " ")
}

// Differs says how a removal that was started with in differs from one that is asked for, "" when it does not. Who approves it, and
// whether it was only looked at, makes no difference.
func (in RemoveInput) Differs(asked RemoveInput) string {
	var parts []string
	switch {
	case in.Topics && !asked.Topics:
		parts = append(parts, "it deletes the topics that the pipeline writes, too")
	case !in.Topics && asked.Topics:
		parts = append(parts, "it deletes no topics")
	}
	if in.Grace() != asked.Grace() {
		parts = append(parts, fmt.Sprintf("its grace is %s, not %s", spec.Duration(in.Grace()), spec.Duration(asked.Grace())))
	}
	switch {
	case len(in.Spec) > 0 && len(asked.Spec) == 0:
		parts = append(parts, "it was given a spec")
	case len(in.Spec) == 0 && len(asked.Spec) > 0:
		parts = append(parts, "it was given no spec")
	case canonical(in.Spec) != canonical(asked.Spec):
		parts = append(parts, "it was given another spec")
	}
	return strings.Join(parts, ", ")
}

// canonical is the one text of a spec, however it was written.
func canonical(text json.RawMessage) string {
	if len(text) == 0 {
		return ""
	}
	if s, err := spec.Parse("spec", text); err == nil {
		if same, err := s.JSON(); err == nil {
			return string(same)
		}
	}
	return string(text)
}

// Grace is how long the fenced metas outlive everything else.
func (in RemoveInput) Grace() time.Duration {
	if in.GraceSeconds == 0 {
		return OrphanGrace
	}
	return time.Duration(in.GraceSeconds) * time.Second
}

// RemoveTarget names what an activity of a Remove works on.
type RemoveTarget struct {
	Pipeline string          `json:"pipeline"`
	Topics   bool            `json:"topics,omitempty"`
	Spec     json.RawMessage `json:"spec,omitempty"`
	Own      bool            `json:"own,omitempty"` // the pipeline's own workflow asks
}

// Remains is what a pipeline has left.
type Remains struct {
	Lanes   int            `json:"lanes"`
	Slices  int64          `json:"slices,omitempty"` // open slices of the lanes
	Events  int64          `json:"events,omitempty"` // folded into them
	Fenced  int            `json:"fenced,omitempty"` // of the lanes, those that an earlier removal has fenced and not finished
	Keys    []KeyCount     `json:"keys,omitempty"`
	Group   string         `json:"group"`
	Grouped bool           `json:"grouped,omitempty"` // the coordinator knows the group
	Holders Holders        `json:"holders"`
	Sources []string       `json:"sources,omitempty"` // topics it reads, which are never deleted
	Topics  []TopicRemains `json:"topics,omitempty"`
	Notes   []string       `json:"notes,omitempty"`

	Schedule string `json:"schedule,omitempty"` // id of the one that compacts the pipeline, which goes first
}

// None reports whether nothing of the pipeline is left that a removal could take away. A ledger topic that stays counts: its rows
// would be given up.
func (r Remains) None() bool {
	keys := int64(0)
	for _, k := range r.Keys {
		keys += k.Keys
	}
	for _, t := range r.Topics {
		if t.Delete || t.Role == RoleLedger && !t.Ended {
			return false
		}
	}
	return keys == 0 && r.Lanes == 0 && !r.Grouped
}

// KeyCount is how many keys of a kind Redis holds, and how much memory they take; 0 bytes where the server does not say.
type KeyCount struct {
	Kind  string `json:"kind"`
	Keys  int64  `json:"keys"`
	Bytes int64  `json:"bytes"`
}

// TopicRemains is a topic that the pipeline writes.
type TopicRemains struct {
	Topic  string `json:"topic"`
	Role   string `json:"role"` // ledger, results, late or dead letter
	Delete bool   `json:"delete"`
	Why    string `json:"why,omitempty"`   // it stays
	Ended  bool   `json:"ended,omitempty"` // of a ledger: all of its rows were given up by an earlier removal
}

// Holders are those who may still write for a pipeline.
type Holders struct {
	Workflows []string      `json:"workflows,omitempty"` // open ones that want its hot paths or its closer
	Members   []GroupMember `json:"members,omitempty"`
	Leases    []LeaseHolder `json:"leases,omitempty"`
}

// GroupMember is a member of the pipeline's consumer group.
type GroupMember struct {
	ID       string `json:"id"`
	Instance string `json:"instance,omitempty"`
	ClientID string `json:"client_id"`
	Host     string `json:"host"`
}

// LeaseHolder is a worker that holds a replica, or -1 for the turn of the closers.
type LeaseHolder struct {
	Replica int    `json:"replica"`
	Worker  string `json:"worker"`
	Millis  int64  `json:"millis"` // until it expires, unless it is renewed
}

// Free reports whether nobody holds anything.
func (h Holders) Free() bool { return len(h.Workflows)+len(h.Members)+len(h.Leases) == 0 }

// String names all of them in one line.
func (h Holders) String() string {
	var parts []string
	for _, id := range h.Workflows {
		parts = append(parts, "workflow "+id+" is open")
	}
	for _, m := range h.Members {
		parts = append(parts, fmt.Sprintf("member %s (client %s, host %s) is in the group", m.ID, m.ClientID, m.Host))
	}
	for _, l := range h.Leases {
		what := fmt.Sprintf("replica %d", l.Replica)
		if l.Replica < 0 {
			what = "the closers' turn"
		}
		parts = append(parts, fmt.Sprintf("worker %s holds %s", l.Worker, what))
	}
	return strings.Join(parts, "; ")
}

// AwaitReleasedInput waits until nobody holds anything of a pipeline, or the time has come.
type AwaitReleasedInput struct {
	Pipeline string    `json:"pipeline"`
	Until    time.Time `json:"until"`
	Own      bool      `json:"own,omitempty"` // the pipeline's own workflow asks
}

// FenceLanesInput takes all lanes of a pipeline away from their owners.
type FenceLanesInput struct {
	Pipeline string   `json:"pipeline"`
	Token    string   `json:"token"`
	Sources  []string `json:"sources,omitempty"` // topics whose partitions are lanes, found in Redis or not
	Own      bool     `json:"own,omitempty"`     // the pipeline's own workflow asks
}

// EndLedgerInput fences a pipeline's closers and, with Rows, gives up all rows of its ledger.
type EndLedgerInput struct {
	Pipeline string `json:"pipeline"`
	Rows     bool   `json:"rows"`
	Own      bool   `json:"own,omitempty"` // the pipeline's own workflow asks
}

// DeleteKeysInput deletes a pipeline's keys; the metas of its lanes only with Metas.
type DeleteKeysInput struct {
	Pipeline string `json:"pipeline"`
	Metas    bool   `json:"metas,omitempty"`
	Token    string `json:"token,omitempty"`
	Own      bool   `json:"own,omitempty"` // the pipeline's own workflow asks
}

// DeleteTopicsInput deletes topics that a pipeline wrote.
type DeleteTopicsInput struct {
	Pipeline string   `json:"pipeline"`
	Topics   []string `json:"topics"`
}

// Removed counts what a step of a Remove did; it is also its heartbeat's details.
type Removed struct {
	Count int64 `json:"count"`
}

// RemoveStep is a step that was done.
type RemoveStep struct {
	Step  string    `json:"step"`
	Count int64     `json:"count"`
	Ended time.Time `json:"ended"`
}

// RemoveStatus answers the status query of a Remove.
type RemoveStatus struct {
	Pipeline string       `json:"pipeline"`
	State    string       `json:"state"`
	Input    *RemoveInput `json:"input,omitempty"` // what it was started with
	Note     string       `json:"note,omitempty"`  // what it waits for, or does
	Until    *time.Time   `json:"until,omitempty"` // the end of the grace, or of the time that it waits at most
	Remains  *Remains     `json:"remains,omitempty"`
	Steps    []RemoveStep `json:"steps,omitempty"`
}

// AtTheLongest ends a sentence that says until when a removal is in a state: the grace lasts until then, anything else may end before.
func AtTheLongest(state string) string {
	if state == StateGrace {
		return ""
	}
	return " at the longest"
}

// RemoveResult is what a Remove came to.
type RemoveResult struct {
	Pipeline string       `json:"pipeline"`
	Outcome  string       `json:"outcome"`
	Note     string       `json:"note,omitempty"`
	Began    time.Time    `json:"began"`
	Ended    time.Time    `json:"ended"`
	Remains  Remains      `json:"remains"` // as it was shown
	Steps    []RemoveStep `json:"steps,omitempty"`
}

// ApproveRequest lets a Remove go on after it has shown what it will delete.
type ApproveRequest struct {
	Reason  string   `json:"reason,omitempty"`
	Unknown []string `json:"-"`
	Wrong   string   `json:"-"`
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *ApproveRequest) UnmarshalJSON(data []byte) error {
	type plain ApproveRequest
	return decodeKnown(data, (*plain)(r), nil, &r.Unknown, &r.Wrong)
}

// Validate refuses unknown fields by name.
func (r ApproveRequest) Validate() error { return refuse(UpdateApprove, r.Wrong, r.Unknown, "reason") }

// ApproveReceipt answers an approval.
type ApproveReceipt struct {
	RequestID string    `json:"request_id"`
	At        time.Time `json:"at"`
	Reason    string    `json:"reason,omitempty"`
	Input     string    `json:"input,omitempty"`    // Fingerprint of the request
	Repeated  bool      `json:"repeated,omitempty"` // the answer to a request that was answered before
}

// Past is what a repetition of the request is compared with.
func (r ApproveReceipt) Past() Past { return Past{r.RequestID, UpdateApprove, r.Input} }
