package contract

import (
	"encoding/json"
	"time"

	"millrace/pipeline/report"
)

// Receipt answers an update: what was asked, what came of it, and which offsets it covers.
type Receipt struct {
	RequestID  string               `json:"request_id"` // the update's id; asking again with it returns this receipt
	Update     string               `json:"update"`
	Reason     string               `json:"reason,omitempty"`
	At         time.Time            `json:"at"`
	Generation int64                `json:"generation"`        // of the desired state that was written
	Applied    bool                 `json:"applied"`           // every lane has adopted it
	Lanes      []report.LaneReceipt `json:"lanes,omitempty"`   // lanes that have, with the offset committed then
	Missing    []report.LaneMissing `json:"missing,omitempty"` // lanes that have not, and why
	Emitted    *report.Emitted      `json:"emitted,omitempty"`
	Replicas   int                  `json:"replicas,omitempty"`
	Started    []string             `json:"started,omitempty"` // workflow ids of children started
	Stopped    []string             `json:"stopped,omitempty"` // workflow ids of children ended
	Levels     []OrderedLevel       `json:"levels,omitempty"`  // of a degrade: the state machines that have taken it, and those that have not
	Drained    *bool                `json:"drained,omitempty"`
	Note       string               `json:"note,omitempty"`
	Input      string               `json:"input,omitempty"`    // Fingerprint of the request
	Repeated   bool                 `json:"repeated,omitempty"` // the answer to a request that was answered before
}

// Past is what a repetition of the request is compared with.
func (r Receipt) Past() Past { return Past{r.RequestID, r.Update, r.Input} }

// MarkRepeated says that the receipt answers a repetition.
func (r *Receipt) MarkRepeated() { r.Repeated = true }

// MaxEmittedRevisions bounds the list in a receipt.
const MaxEmittedRevisions = 100

// TrimReceipts keeps the newest MaxReceipts and, when their JSON still exceeds MaxReceiptsBytes, takes the lists out of the
// oldest ones. The input is not changed.
func TrimReceipts(receipts []Receipt) []Receipt {
	kept := append([]Receipt(nil), receipts[max(0, len(receipts)-MaxReceipts):]...)
	sizes, total := make([]int, len(kept)), 0
	for i := range kept {
		sizes[i] = jsonSize(kept[i])
		total += sizes[i]
	}
	for i := 0; i < len(kept)-1 && total > MaxReceiptsBytes; i++ {
		kept[i].Lanes, kept[i].Missing = nil, nil
		if kept[i].Emitted != nil {
			short := *kept[i].Emitted
			short.Covered, short.Revisions = nil, nil
			kept[i].Emitted = &short
		}
		kept[i].Note = "lane lists left out to save space; they stand in the history of an earlier run"
		total += jsonSize(kept[i]) - sizes[i]
	}
	return kept
}

func jsonSize(v any) int {
	data, err := json.Marshal(v)
	if err != nil {
		return 0
	}
	return len(data)
}
