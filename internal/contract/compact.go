package contract

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// CompactInput starts a Compact. A user gives the pipeline and, if they like, how far it rolls up.
type CompactInput struct {
	Version  int       `json:"version,omitempty"`
	Pipeline string    `json:"pipeline"`
	Until    time.Time `json:"until,omitzero"` // windows that end at or before it; else when a schedule wanted the run, or its start
	Unknown  []string  `json:"-"`
	Wrong    string    `json:"-"`
}

// UnmarshalJSON collects unknown fields, which are refused by name.
func (in *CompactInput) UnmarshalJSON(data []byte) error {
	type plain CompactInput
	return decodeKnown(data, (*plain)(in), wants{"until": wantInstant}, &in.Unknown, &in.Wrong)
}

// Validate refuses unknown fields by name, and names that no pipeline can have.
func (in CompactInput) Validate() error {
	if err := refuse("compact", in.Wrong, in.Unknown, "pipeline, until"); err != nil {
		return err
	}
	if in.Pipeline == "" {
		return fmt.Errorf(`compact: pipeline is missing; want {"pipeline":"orders"}`)
	}
	if err := spec.CheckName(in.Pipeline); err != nil {
		return fmt.Errorf("compact: pipeline: %w", err)
	}
	return nil
}

// RequireCompactable refuses a spec that gives a Compact nothing to do.
func RequireCompactable(s *spec.Spec) error {
	if len(s.Rollups) > 0 || s.Archive != nil {
		return nil
	}
	return fmt.Errorf("pipeline %s has nothing to compact: add rollups to its spec, such as "+
		"`rollups: [{name: daily, from: %s, calendar: day}]`, or `archive: {dir: /var/lib/millrace/archive}`, and start it with that",
		s.Name, s.Windows[0].Name)
}

// ArchiveJob is the body of a job that archives windows.
type ArchiveJob struct {
	By int64 `json:"by"` // ms: windows whose contents would have expired until then
}

// CompactRef names the pipeline that is compacted.
type CompactRef struct {
	Pipeline string `json:"pipeline"`
}

// PlannedCompact is what a Compact needs to know of its pipeline.
type PlannedCompact struct {
	Spec json.RawMessage `json:"spec"`
}

// TakeStockInput asks what there is of a pipeline's windows.
type TakeStockInput struct {
	Pipeline string          `json:"pipeline"`
	Spec     json.RawMessage `json:"spec"`
	At       time.Time       `json:"at"`
	Since    time.Time       `json:"since,omitzero"` // of the stock before; zero when that is not known
}

// Stock is what there is of a pipeline's windows, by family in the order of the spec.
type Stock struct {
	At       time.Time     `json:"at"`
	Families []StockFamily `json:"families"`
}

// StockFamily counts the windows of one family by what is there of them. Bytes are those of archive files, where the size of what
// goes is known: what Redis and Kafka free is theirs to say.
type StockFamily struct {
	Name          string `json:"name"`
	Windows       int    `json:"windows"`                  // with a row in the ledger
	Kept          int    `json:"kept"`                     // with contents within their retention
	Expired       int    `json:"expired"`                  // with contents past it
	ExpiredSince  int    `json:"expired_since,omitempty"`  // of these, since the stock before
	BytesFreed    int64  `json:"bytes_freed,omitempty"`    // of the files of the windows that have expired since the stock before
	Archived      int    `json:"archived,omitempty"`       // windows in the archive
	ArchivedBytes int64  `json:"archived_bytes,omitempty"` // of their files
}

// Totals sums the families up.
func (s *Stock) Totals() (sum StockFamily) {
	for _, f := range s.Families {
		sum.Windows, sum.Kept, sum.Expired = sum.Windows+f.Windows, sum.Kept+f.Kept, sum.Expired+f.Expired
		sum.ExpiredSince, sum.BytesFreed = sum.ExpiredSince+f.ExpiredSince, sum.BytesFreed+f.BytesFreed
		sum.Archived, sum.ArchivedBytes = sum.Archived+f.Archived, sum.ArchivedBytes+f.ArchivedBytes
	}
	return sum
}

// CompactWork is what a Compact has done so far.
type CompactWork struct {
	Rollup   *report.Rollup   `json:"rollup,omitempty"`
	Archived *report.Archived `json:"archived,omitempty"`
	Stock    *Stock           `json:"stock,omitempty"`
	Problems []string         `json:"problems,omitempty"` // what somebody has to see to
}

// CompactStatus answers the status query of a Compact.
type CompactStatus struct {
	Pipeline string     `json:"pipeline"`
	State    string     `json:"state"`
	Note     string     `json:"note,omitempty"`
	Until    *time.Time `json:"until,omitempty"` // it gives up then
	Bound    time.Time  `json:"upper_bound"`     // windows that end at or before it
	Began    time.Time  `json:"began"`
	CompactWork
	Pending []Pending `json:"pending,omitempty"`
}

// CompactResult is what a Compact came to.
type CompactResult struct {
	Pipeline string    `json:"pipeline"`
	Outcome  string    `json:"outcome"`
	Note     string    `json:"note,omitempty"`
	Bound    time.Time `json:"upper_bound"` // windows that end at or before it
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	CompactWork
}

// RolledUp is what a job has rolled up, over all of its attempts: the last of them finds unchanged what the earlier ones have
// published. nil when the job has not come to its end.
func (r *JobReport) RolledUp() *report.Rollup {
	if r.Rollup == nil {
		return nil
	}
	sum := *r.Rollup
	sum.Families = slices.Clone(sum.Families)
	for i := range sum.Families {
		f := &sum.Families[i]
		at := slices.IndexFunc(r.Families, func(c CarriedFamily) bool { return c.Name == f.Name })
		if at < 0 {
			continue
		}
		first, corrected := max(f.Published, r.Families[at].First), max(f.Corrected, r.Families[at].Corrected)
		f.Unchanged = max(0, f.Unchanged-(first-f.Published)-(corrected-f.Corrected))
		f.Published, f.Corrected = first, corrected
	}
	return &sum
}

// Archived is what a job has archived, over all of its attempts, by the families of the spec.
func (r *JobReport) Archived(s *spec.Spec) *report.Archived {
	out := new(report.Archived)
	for _, family := range s.Families() {
		f := report.ArchivedFamily{Name: family}
		if at := slices.IndexFunc(r.Families, func(c CarriedFamily) bool { return c.Name == family }); at >= 0 {
			c := r.Families[at]
			f.Files, f.Bytes, f.Moved, f.Failed = c.First+c.Corrected, c.Bytes, c.Moved, c.Failed
			f.Gone = c.Gone
		}
		out.Families = append(out.Families, f)
	}
	for _, w := range r.Windows {
		if w.Outcome == CarriedFailed && len(out.Failed) < report.MaxUnfinished {
			out.Failed = append(out.Failed, report.Unfinished{Window: w.Window, Start: w.Start, Why: w.Problem})
		}
	}
	return out
}

// String is what was done in one line.
func (w *CompactWork) String() string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	if r := w.Rollup; r != nil {
		var sum report.RolledFamily
		for _, f := range r.Families {
			sum.Published, sum.Corrected, sum.Unchanged = sum.Published+f.Published, sum.Corrected+f.Corrected, sum.Unchanged+f.Unchanged
			sum.Waiting, sum.Incidents, sum.Failed = sum.Waiting+f.Waiting, sum.Incidents+f.Incidents, sum.Failed+f.Failed
		}
		add(sum.Published, "rolled up")
		add(sum.Corrected, "corrected")
		add(sum.Unchanged, "unchanged")
		add(sum.Waiting, "waiting")
		add(sum.Incidents, "cannot be rolled up")
		add(sum.Failed, "not rolled up this time")
	}
	if a := w.Archived; a != nil {
		var sum report.ArchivedFamily
		for _, f := range a.Families {
			sum.Files, sum.Bytes, sum.Failed, sum.Moved = sum.Files+f.Files, sum.Bytes+f.Bytes, sum.Failed+f.Failed, sum.Moved+f.Moved
			sum.Gone += f.Gone
		}
		if sum.Files > 0 {
			parts = append(parts, fmt.Sprintf("%d archived (%d bytes)", sum.Files, sum.Bytes))
		}
		add(sum.Moved, "to be archived next time")
		add(sum.Failed, "not archived")
		add(sum.Gone, "not archived: contents gone")
	}
	if s := w.Stock; s != nil {
		add(s.Totals().ExpiredSince, "expired")
	}
	if len(parts) == 0 {
		return "nothing to do"
	}
	return strings.Join(parts, ", ")
}
