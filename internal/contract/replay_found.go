package contract

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"millrace/pipeline/report"
)

// ReplaySummary is what a replay has found.
type ReplaySummary struct {
	Windows  int    `json:"windows"` // compared
	Equal    int    `json:"equal"`
	Differ   int    `json:"differ"`
	Refused  int    `json:"refused,omitempty"` // windows that could not be compared after all: they were published anew meanwhile
	Added    int64  `json:"added"`             // keys that were not published
	Changed  int64  `json:"changed"`           // keys with other values
	Removed  int64  `json:"removed"`           // keys that should not have been published
	Checksum string `json:"checksum,omitempty"`
	Scope    string `json:"scope,omitempty"` // of a recount

	Differences []WindowDifference `json:"differences,omitempty"` // at most MaxDifferences, by start
	More        int                `json:"more,omitempty"`        // windows left out of the list
}

// WindowDifference is a window whose content is not what was published.
type WindowDifference struct {
	report.WindowRef
	End       int64    `json:"end"`
	Revision  int      `json:"revision"` // that it was compared with
	OldKeys   int64    `json:"old_keys"`
	NewKeys   int64    `json:"new_keys"`
	OldEvents int64    `json:"old_events"`
	NewEvents int64    `json:"new_events"`
	Added     int64    `json:"added"`
	Changed   int64    `json:"changed"`
	Removed   int64    `json:"removed"`
	Wrong     []string `json:"wrong,omitempty"`   // of a recount: what is not as Kafka has it, of Place...
	Details   []string `json:"details,omitempty"` // of each of these what is wrong with it, and keys; at most MaxWrongDetail bytes each
}

// String says in one line what differs.
func (d WindowDifference) String() string {
	text := fmt.Sprintf("%s revision %d: ", d.WindowRef, d.Revision)
	text += differingKeys(d.Added, d.Changed, d.Removed)
	text += fmt.Sprintf(", events %d -> %d", d.OldEvents, d.NewEvents)
	if len(d.Wrong) > 0 {
		text += "; wrong: " + strings.Join(d.Wrong, ", ")
	}
	return text
}

func differingKeys(added, changed, removed int64) string {
	return fmt.Sprintf("%d keys added, %d changed, %d removed", added, changed, removed)
}

// String says in one line what was found.
func (s ReplaySummary) String() string {
	refused := ""
	if s.Refused > 0 {
		refused = fmt.Sprintf("; %d windows were published anew meanwhile and could not be compared", s.Refused)
	}
	if s.Differ == 0 {
		return fmt.Sprintf("nothing differs in %d windows", s.Equal) + refused
	}
	text := fmt.Sprintf("%d of %d windows differ: %s", s.Differ, s.Windows, differingKeys(s.Added, s.Changed, s.Removed))
	var wrong []string
	for _, d := range s.Differences {
		for _, place := range d.Wrong {
			wrong = appendNew(wrong, place)
		}
	}
	if len(wrong) > 0 {
		text += "; wrong: " + strings.Join(wrong, ", ")
	}
	return text + refused
}

func appendNew(list []string, text string) []string {
	for _, has := range list {
		if has == text {
			return list
		}
	}
	return append(list, text)
}

// ShowDiffRequest asks for a page of what differs in one window.
type ShowDiffRequest struct {
	Window  string    `json:"window"`
	Start   time.Time `json:"start"`
	Page    int       `json:"page,omitempty"` // from 0
	Unknown []string  `json:"-"`
	Wrong   string    `json:"-"`
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *ShowDiffRequest) UnmarshalJSON(data []byte) error {
	type plain ShowDiffRequest
	return decodeKnown(data, (*plain)(r), wants{"start": wantInstant, "page": "a whole number, from 0"}, &r.Unknown, &r.Wrong)
}

// Validate refuses unknown fields by name and a window that is not named.
func (r ShowDiffRequest) Validate() error {
	if err := refuse(UpdateShowDiff, r.Wrong, r.Unknown, "window, start, page"); err != nil {
		return err
	}
	switch {
	case r.Window == "" || r.Start.IsZero():
		return fmt.Errorf("%s: window and start are needed; the status names the windows that differ", UpdateShowDiff)
	case r.Page < 0:
		return fmt.Errorf("%s: page is %d; want a whole number, from 0", UpdateShowDiff, r.Page)
	}
	return nil
}

// ShowDiffInput is a ShowDiffRequest to one replay.
type ShowDiffInput struct {
	ReplayRef
	Window report.WindowRef `json:"window"`
	Page   int              `json:"page"`
	Spec   json.RawMessage  `json:"spec"` // that it counted with
}

// DiffPage is a part of what differs in one window.
type DiffPage struct {
	report.WindowRef
	Page  int       `json:"page"`
	Pages int       `json:"pages"`
	Rows  []DiffRow `json:"rows,omitempty"`
}

// DiffRow is a key whose values are not what was published.
type DiffRow struct {
	Key json.RawMessage `json:"key"`
	Old json.RawMessage `json:"old,omitempty"` // values as published; nil: the key is new
	New json.RawMessage `json:"new,omitempty"` // values as counted; nil: the key goes

	OldOverflow bool `json:"old_overflow,omitempty"`
	NewOverflow bool `json:"new_overflow,omitempty"`
}

// SetReplayRateInput says how fast a replay reads.
type SetReplayRateInput struct {
	ReplayRef
	RecordsPerSecond int64 `json:"records_per_second"` // 0: what a twentieth of a processor folds
}

// SetRateRequest changes how fast a replay reads.
type SetRateRequest struct {
	RecordsPerSecond *int64   `json:"records_per_second,omitempty"` // 0: what a twentieth of a processor folds
	Reason           string   `json:"reason,omitempty"`
	Unknown          []string `json:"-"`
	Wrong            string   `json:"-"`
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *SetRateRequest) UnmarshalJSON(data []byte) error {
	type plain SetRateRequest
	return decodeKnown(data, (*plain)(r), wants{"records_per_second": wantRate}, &r.Unknown, &r.Wrong)
}

// Validate refuses unknown fields by name and a rate that makes no sense.
func (r SetRateRequest) Validate() error {
	if err := refuse(UpdateSetRate, r.Wrong, r.Unknown, "records_per_second, reason"); err != nil {
		return err
	}
	switch {
	case r.RecordsPerSecond == nil:
		return fmt.Errorf("%s: records_per_second is missing; want %s", UpdateSetRate, wantRate)
	case *r.RecordsPerSecond < 0 || *r.RecordsPerSecond > MaxReplayRate:
		return fmt.Errorf("%s: records_per_second is %d; want %s", UpdateSetRate, *r.RecordsPerSecond, wantRate)
	}
	return longReason(UpdateSetRate, r.Reason)
}

// ApproveDiffRequest lets a Replay publish the diff that has this checksum.
type ApproveDiffRequest struct {
	Checksum string   `json:"checksum"`
	Reason   string   `json:"reason,omitempty"`
	Unknown  []string `json:"-"`
	Wrong    string   `json:"-"`
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *ApproveDiffRequest) UnmarshalJSON(data []byte) error {
	type plain ApproveDiffRequest
	return decodeKnown(data, (*plain)(r), nil, &r.Unknown, &r.Wrong)
}

// Validate refuses unknown fields by name and an approval of nothing in particular.
func (r ApproveDiffRequest) Validate() error {
	if err := refuse(UpdateApprove, r.Wrong, r.Unknown, "checksum, reason"); err != nil {
		return err
	}
	if r.Checksum == "" {
		return fmt.Errorf("%s: checksum is missing; want that of the diff, which the status shows", UpdateApprove)
	}
	return longReason(UpdateApprove, r.Reason)
}

// RejectRequest makes a Replay publish nothing.
type RejectRequest struct {
	Reason  string   `json:"reason,omitempty"`
	Unknown []string `json:"-"`
	Wrong   string   `json:"-"`
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *RejectRequest) UnmarshalJSON(data []byte) error {
	type plain RejectRequest
	return decodeKnown(data, (*plain)(r), nil, &r.Unknown, &r.Wrong)
}

// Validate refuses unknown fields by name.
func (r RejectRequest) Validate() error {
	if err := refuse(UpdateReject, r.Wrong, r.Unknown, "reason"); err != nil {
		return err
	}
	return longReason(UpdateReject, r.Reason)
}

// ReplayReceipt answers approve, reject and set-rate.
type ReplayReceipt struct {
	RequestID string    `json:"request_id"`
	Update    string    `json:"update"`
	At        time.Time `json:"at"`
	Checksum  string    `json:"checksum,omitempty"` // of the diff that was approved
	Rate      *int64    `json:"rate,omitempty"`     // records a second; 0: what a twentieth of a processor folds
	Reason    string    `json:"reason,omitempty"`
	Note      string    `json:"note,omitempty"`
	Input     string    `json:"input,omitempty"`    // Fingerprint of the request
	Repeated  bool      `json:"repeated,omitempty"` // the answer to a request that was answered before
}

// Past is what a repetition of the request is compared with.
func (r ReplayReceipt) Past() Past { return Past{r.RequestID, r.Update, r.Input} }

// MarkRepeated says that the receipt answers a repetition.
func (r *ReplayReceipt) MarkRepeated() { r.Repeated = true }

// SweptShadows are the replays whose shadows were deleted because their workflows are closed.
type SweptShadows struct {
	IDs []string `json:"ids,omitempty"`
}

// ReplayStatus answers the status query of a Replay.
type ReplayStatus struct {
	Pipeline  string          `json:"pipeline"`
	ID        string          `json:"id"`
	State     string          `json:"state"`
	Outcome   string          `json:"outcome,omitempty"` // how it has ended, of Outcome...; "" before, and on workers of an older release
	Note      string          `json:"note,omitempty"`
	Until     *time.Time      `json:"until,omitempty"` // the end of the time that it waits at most
	Began     time.Time       `json:"began"`
	Ask       *ReplayAsk      `json:"ask,omitempty"`
	OtherSpec bool            `json:"other_spec,omitempty"` // it counts with a spec of its own
	DryRun    bool            `json:"dry_run,omitempty"`
	Swept     []string        `json:"swept,omitempty"` // ids of dead replays whose shadows were deleted
	Plan      *ReplayPlan     `json:"plan,omitempty"`
	Progress  *ReplayProgress `json:"progress,omitempty"` // as of the last whole percent; heartbeats are newer
	Summary   *ReplaySummary  `json:"summary,omitempty"`
	Certified *JobReport      `json:"certified,omitempty"`
	Published *JobReport      `json:"published,omitempty"`
	Receipts  []ReplayReceipt `json:"receipts,omitempty"`
	Pending   []Pending       `json:"pending,omitempty"`
}

// Standing is what a replay does, or how it has ended.
func (s ReplayStatus) Standing() string {
	if s.State == StateDone && s.Outcome != "" {
		return s.Outcome
	}
	return s.State
}

// ReplayResult is what a Replay came to.
type ReplayResult struct {
	Pipeline  string          `json:"pipeline"`
	ID        string          `json:"id"`
	Outcome   string          `json:"outcome"`
	Note      string          `json:"note,omitempty"`
	Began     time.Time       `json:"began"`
	Ended     time.Time       `json:"ended"`
	Ask       ReplayAsk       `json:"ask"`
	Plan      *ReplayPlan     `json:"plan,omitempty"`
	Summary   *ReplaySummary  `json:"summary,omitempty"`
	Certified *JobReport      `json:"certified,omitempty"`
	Published *JobReport      `json:"published,omitempty"`
	Receipts  []ReplayReceipt `json:"receipts,omitempty"`
}
