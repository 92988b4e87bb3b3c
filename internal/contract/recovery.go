package contract

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RecoverySteps are the steps of a recovery, in order. Each is carried out for all lanes of a batch at once.
func RecoverySteps() []string {
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
	MidRun bool        `json:"mid_run,omitempty"`
	Lanes  []BatchLane `json:"lanes"`           // at most MaxRecoveryLanes
	More   int         `json:"more,omitempty"`  // lanes left out of the list
	Storm  *Storm      `json:"storm,omitempty"` // set when rebalances come too often
}

// BatchLane names a lane of a batch.
type BatchLane struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

// Storm is an incident: lanes change owners too often, and recoveries are held back until they stop.
type Storm struct {
	Since    time.Time    `json:"since"`
	Changes  int          `json:"changes"`
	Delay    int64        `json:"delay_ms"`           // by which the latest recovery was held back
	Timeline []StormEvent `json:"timeline,omitempty"` // newest last, at most MaxStormEvents
}

// StormEvent is one change of assignment in a storm.
type StormEvent struct {
	At    time.Time `json:"at"`
	Lanes int       `json:"lanes"` // that came with it
	Delay int64     `json:"delay_ms"`
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
	Incident  *LaneIncident `json:"incident,omitempty"`
	Note      string        `json:"note,omitempty"`
}

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

// LaneIncident says why a lane is parked and what can be done.
type LaneIncident struct {
	ID      string           `json:"id"`
	Kind    string           `json:"kind"`
	From    int64            `json:"from"` // first offset concerned, -1 when no range is
	To      int64            `json:"to"`   // first offset no longer concerned
	Detail  string           `json:"detail"`
	Choices []IncidentChoice `json:"choices,omitempty"`
	Decided string           `json:"decided,omitempty"` // the choice made
}

// IncidentChoice is one way out of an incident and what it costs.
type IncidentChoice struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Lost   int64  `json:"lost"`   // records that are given up, -1 when not known
	Reread int64  `json:"reread"` // records that are read again, -1 when not known
}

// ChoiceTexts explains every choice in general, for help texts. What one does and costs for a lane is in the lane's incident.
func ChoiceTexts() []IncidentChoice {
	return []IncidentChoice{
		{Name: "skip", Text: "go on behind records that cannot be read (any more); they are lost, and counted as skipped"},
		{
			Name: "rebuild",
			Text: "drop the lane's open slices and read the log again from where the oldest of them began; final windows stay",
		},
		{Name: "restart", Text: "begin at the log's start with nothing, where no rebuild is possible; final windows stay"},
		{Name: "retry", Text: "try again without giving anything up, once the cause is gone"},
		{Name: "accept", Text: "the times of events beyond max_jump are right: accept the next one, which moves the watermark there"},
		{Name: "refuse", Text: "the times of events beyond max_jump are wrong: go on refusing them, and ask again after as many in a row"},
		{Name: ChoiceWait, Text: "leave the lane parked; another choice can be made later"},
		{Name: ChoiceGiveUp, Text: "wait no longer for a worker that does not answer; the lane itself is not touched"},
	}
}

func (c IncidentChoice) String() string {
	return fmt.Sprintf("%s (%s; loses %s, reads %s again)", c.Name, c.Text, records(c.Lost), records(c.Reread))
}

func records(n int64) string {
	if n < 0 {
		return "an unknown number of records"
	}
	if n == 1 {
		return "1 record"
	}
	return fmt.Sprintf("%d records", n)
}

// Choice returns the incident's choice of that name.
func (i *LaneIncident) Choice(name string) (IncidentChoice, bool) {
	for _, c := range i.Choices {
		if c.Name == name {
			return c, true
		}
	}
	return IncidentChoice{}, false
}

// RecoverStepInput asks for one step of a batch.
type RecoverStepInput struct {
	Pipeline string `json:"pipeline"`
	Replica  int    `json:"replica"`
	Batch    int64  `json:"batch"`
	Step     string `json:"step"`
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
	Lanes   []RecoveredLane `json:"lanes,omitempty"` // at most MaxRecoveryLanes, those with an incident first
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
	Lane *RecoveredLane `json:"lane,omitempty"`
}

// LaneOwnersInput asks who owns lanes now.
type LaneOwnersInput struct {
	Pipeline string      `json:"pipeline"`
	Lanes    []BatchLane `json:"lanes"`
	Replica  *int        `json:"replica,omitempty"` // whose hot path was given the lanes
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
	Version int             `json:"version"`
	Batch   RecoveryBatch   `json:"batch"`
	Report  *RecoveryReport `json:"report,omitempty"` // its Batch is empty: it is the one above
	State   *RecoverState   `json:"state,omitempty"`  // carried into the next run
}

// RecoverState is what a RecoverLanes carries into its next run.
type RecoverState struct {
	Done     int               `json:"done"` // steps that are done
	Steps    []StepReport      `json:"steps,omitempty"`
	Lanes    []RecoveredLane   `json:"lanes,omitempty"`
	Receipts []DecisionReceipt `json:"receipts,omitempty"` // newest last, at most MaxReceipts
	First    []LaneOwner       `json:"first,omitempty"`    // owners of lanes without a token when the host was first missed
	Runs     int               `json:"runs"`
}

// RecoverResult is what a recovery came to.
type RecoverResult struct {
	Pipeline  string            `json:"pipeline"`
	Replica   int               `json:"replica"`
	Worker    string            `json:"worker"`
	Batch     int64             `json:"batch"`
	Outcome   string            `json:"outcome"`
	Note      string            `json:"note,omitempty"`
	By        string            `json:"by"` // temporal, inline or mixed
	Began     time.Time         `json:"began"`
	Ended     time.Time         `json:"ended"`
	Steps     []StepReport      `json:"steps,omitempty"` // without lanes
	Totals    RecoverTotals     `json:"totals"`
	Lanes     []RecoveredLane   `json:"lanes,omitempty"`
	Decisions []DecisionReceipt `json:"decisions,omitempty"`
	Storm     *Storm            `json:"storm,omitempty"`
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
	Batch    RecoveryBatch     `json:"batch"`
	State    string            `json:"state"`
	Note     string            `json:"note,omitempty"`
	Step     string            `json:"step,omitempty"` // under way or next
	Steps    []StepReport      `json:"steps,omitempty"`
	Totals   RecoverTotals     `json:"totals"`
	Lanes    []RecoveredLane   `json:"lanes,omitempty"`
	Receipts []DecisionReceipt `json:"receipts,omitempty"`
}

// Bounds of what travels about recoveries.
const (
	MaxRecoveryLanes = 500
	MaxDecisionLanes = 100 // of a decision about all lanes
	MaxStormEvents   = 50
	MaxChoices       = 8
	MaxText          = 2000 // bytes of a detail, a note or a reason
)

// Bound cuts a batch down to what may travel.
func (b RecoveryBatch) Bound() RecoveryBatch {
	if extra := len(b.Lanes) - MaxRecoveryLanes; extra > 0 {
		b.Lanes, b.More = b.Lanes[:MaxRecoveryLanes], b.More+extra
	}
	if b.Storm != nil {
		short := *b.Storm
		short.Timeline = short.Timeline[max(0, len(short.Timeline)-MaxStormEvents):]
		b.Storm = &short
	}
	b.Reason = Cut(b.Reason)
	return b
}

// BoundLanes keeps the lanes that may travel, those with an incident first where not all can. The input is not changed.
func BoundLanes(lanes []RecoveredLane) (kept []RecoveredLane, more int) {
	kept = slices.Clone(lanes)
	if len(kept) > MaxRecoveryLanes {
		slices.SortStableFunc(kept, func(a, b RecoveredLane) int { return quiet(a) - quiet(b) })
		kept, more = kept[:MaxRecoveryLanes], len(kept)-MaxRecoveryLanes
	}
	for i := range kept {
		kept[i].Note = Cut(kept[i].Note)
		if inc := kept[i].Incident; inc != nil {
			short := *inc
			short.Detail = Cut(short.Detail)
			short.Choices = short.Choices[:min(len(short.Choices), MaxChoices)]
			kept[i].Incident = &short
		}
	}
	return kept, more
}

func quiet(l RecoveredLane) int {
	if l.Incident != nil {
		return 0
	}
	return 1
}

// Cut shortens a text to MaxText bytes.
func Cut(text string) string {
	if len(text) <= MaxText {
		return text
	}
	return strings.ToValidUTF8(text[:MaxText-3], "") + "..."
}
