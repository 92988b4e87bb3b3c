package contract

import (
	"fmt"
	"time"

	"millrace/pipeline/report"
)

// ListChainsInput asks what a pipeline has in a journal.
type ListChainsInput struct {
	Pipeline string `json:"pipeline"`
	From     int    `json:"from,omitempty"` // chains to pass over
}

// WALListing is the chains of a pipeline in a journal, by the segment in which they begin.
type WALListing struct {
	Disk    string            `json:"disk"`
	Host    string            `json:"host"` // worker that has the disk, for people
	Commits int64             `json:"commits"`
	Bytes   int64             `json:"bytes"`
	Chains  []report.WALChain `json:"chains,omitempty"` // oldest first, at most MaxChains
	More    int               `json:"more,omitempty"`   // chains behind those of the list
}

// ReplaySegmentInput settles the chains that begin in one segment.
type ReplaySegmentInput struct {
	Pipeline       string            `json:"pipeline"`
	Segment        string            `json:"segment"`
	Chains         []report.ChainRef `json:"chains"`
	Quarantine     []report.ChainRef `json:"quarantine,omitempty"` // of these, what cannot be read is set aside and left out
	BytesPerSecond int64             `json:"bytes_per_second,omitempty"`
}

// SegmentProgress is ReplaySegment's heartbeat details; a further attempt goes on from them.
type SegmentProgress struct {
	Segment string                `json:"segment"`
	Settled []report.SettledChain `json:"settled,omitempty"`
	Chain   *report.ChainRef      `json:"chain,omitempty"` // under way
	Place   string                `json:"place,omitempty"` // reached in it
	Records int64                 `json:"records"`         // done in this segment
	Bytes   int64                 `json:"bytes"`
}

// ReplaySegmentResult is what became of a segment's chains. With Corrupt the rest waits for a decision.
type ReplaySegmentResult struct {
	Settled []report.SettledChain `json:"settled,omitempty"`
	Live    []report.ChainRef     `json:"live,omitempty"` // their lanes run here after all
	Corrupt *report.CorruptRange  `json:"corrupt,omitempty"`
}

// ReplayWALInput starts a ReplayWAL. A user gives pipeline and disk and, if they like, a rate.
type ReplayWALInput struct {
	Version        int             `json:"version,omitempty"`
	Pipeline       string          `json:"pipeline"`
	Disk           string          `json:"disk"`
	BytesPerSecond int64           `json:"bytes_per_second,omitempty"` // 0: no limit
	Host           string          `json:"host,omitempty"`             // worker that had the disk last, for people
	State          *ReplayWALState `json:"state,omitempty"`            // carried into the next run
	Unknown        []string        `json:"-"`
	Wrong          string          `json:"-"`
}

// UnmarshalJSON collects unknown fields, which are refused by name on a first start.
func (in *ReplayWALInput) UnmarshalJSON(data []byte) error {
	type plain ReplayWALInput
	limit := fmt.Sprintf("whole bytes, 0 (no limit) to %d", int64(MaxBytesPerSecond))
	return decodeKnown(data, (*plain)(in), wants{"bytes_per_second": limit}, &in.Unknown, &in.Wrong)
}

// ReplayWALState is what a ReplayWAL carries into its next run.
type ReplayWALState struct {
	Began    time.Time         `json:"began"`
	Gone     *time.Time        `json:"gone,omitempty"` // since when nobody polls the disk's queue
	Host     string            `json:"host,omitempty"`
	Commits  int64             `json:"commits"` // on the disk when last looked
	Segments int64             `json:"segments"`
	Totals   ReplayTotals      `json:"totals"`
	Settled  []SettledRef      `json:"settled,omitempty"` // newest last, at most MaxSettled
	Receipts []DecisionReceipt `json:"receipts,omitempty"`
	Runs     int               `json:"runs"`

	Quarantine []report.ChainRef `json:"quarantine,omitempty"` // chains not settled yet of which what cannot be read is to be set aside
}

// SettledRef remembers that a chain needs no further look.
type SettledRef struct {
	report.ChainRef
	Outcome string `json:"outcome"`
}

// ReplayTotals sums up what a ReplayWAL did.
type ReplayTotals struct {
	Drained     ReplayTotal `json:"drained"`
	Superseded  ReplayTotal `json:"superseded"`
	Kept        ReplayTotal `json:"kept"`        // superseded, on the disk until the lanes have passed them
	Quarantined ReplayTotal `json:"quarantined"` // chains of which a part could not be read; bytes are those set aside
}

// ReplayTotal counts chains and what is in them.
type ReplayTotal struct {
	Chains  int64 `json:"chains"`
	Commits int64 `json:"commits"`
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// Add counts a chain.
func (t *ReplayTotal) Add(commits, entries, bytes int64) {
	t.Chains++
	t.Commits += commits
	t.Entries += entries
	t.Bytes += bytes
}

// ReplayWALResult is what a ReplayWAL came to.
type ReplayWALResult struct {
	Pipeline  string            `json:"pipeline"`
	Disk      string            `json:"disk"`
	Host      string            `json:"host,omitempty"`
	Outcome   string            `json:"outcome"`
	Note      string            `json:"note,omitempty"`
	Began     time.Time         `json:"began"`
	Ended     time.Time         `json:"ended"`
	Segments  int64             `json:"segments"`
	Totals    ReplayTotals      `json:"totals"`
	Decisions []DecisionReceipt `json:"decisions,omitempty"`
}

// ReplayWALStatus answers the status query of a ReplayWAL.
type ReplayWALStatus struct {
	Pipeline string               `json:"pipeline"`
	Disk     string               `json:"disk"`
	Host     string               `json:"host,omitempty"`
	State    string               `json:"state"`
	Note     string               `json:"note,omitempty"`
	Done     int64                `json:"segments_done"`
	Segments []SegmentStatus      `json:"segments,omitempty"` // those found last, at most MaxChains
	Live     []report.WALChain    `json:"live,omitempty"`
	Totals   ReplayTotals         `json:"totals"`
	Corrupt  *report.CorruptRange `json:"corrupt,omitempty"` // waits for a decision
	Receipts []DecisionReceipt    `json:"receipts,omitempty"`
}

// SegmentStatus is how far one segment is.
type SegmentStatus struct {
	Segment string `json:"segment"`
	State   string `json:"state"` // one of Segment...
	Chains  int    `json:"chains"`
	Commits int64  `json:"commits"`
	Bytes   int64  `json:"bytes"`
	Settled int    `json:"settled"`
}

// WALDecideRequest answers what a ReplayWAL asks about a corrupt range.
type WALDecideRequest struct {
	Choice  string   `json:"choice"`
	Reason  string   `json:"reason,omitempty"`
	Unknown []string `json:"-"`
	Wrong   string   `json:"-"`
}

// Bounds of what travels about journals.
const (
	MaxChains         = 500
	MaxSettled        = 2000
	SegmentsPerRun    = 500
	MaxBytesPerSecond = 1 << 40
)
